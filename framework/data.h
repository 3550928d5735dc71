// Data sets and their batches.
#pragma once

#include "framework/ops.h"

namespace optnet {

/// Inputs and targets, example by example along the first axis.
struct Dataset {
  Tensor x, y;
  std::int64_t size() const { return x.size(0); }
};

struct BatchOptions {
  bool shuffle = true;
  bool drop_last = false;  // leave out a last batch that is not full
};

/// The batches of one pass over the data, in an order drawn from `random`; each is made when it is reached.
///     for (const auto& [x, y] : Batches(train, 128, random)) ...
class Batches {
 public:
  Batches(Dataset data, std::int64_t batch, Random& random, BatchOptions options = {})
      : data_(std::move(data)), batch_(batch) {
    check(batch > 0, "batches: the batch size must be positive; got ", batch);
    check(data_.x.size(0) == data_.y.size(0), "batches: inputs and targets must be as many; got ", data_.x.shape(), " and ", data_.y.shape());
    order_ = options.shuffle ? permutation(random, data_.size()) : arange(0, static_cast<double>(data_.size()), 1, int64);
    count_ = options.drop_last ? data_.size() / batch : (data_.size() + batch - 1) / batch;
  }

  std::int64_t count() const { return count_; }

  Dataset operator[](std::int64_t i) const {
    check(i >= 0 && i < count_, "batches: there are ", count_, " batches; asked for number ", i);
    const Tensor rows = slice(order_, 0, i * batch_, std::min((i + 1) * batch_, data_.size()));
    return {gather(data_.x, 0, rows.to(data_.x.device())), gather(data_.y, 0, rows.to(data_.y.device()))};
  }

  struct Iterator {
    const Batches* batches;
    std::int64_t i;
    Dataset operator*() const { return (*batches)[i]; }
    Iterator& operator++() { return ++i, *this; }
    bool operator!=(const Iterator& other) const { return i != other.i; }
  };
  Iterator begin() const { return {this, 0}; }
  Iterator end() const { return {this, count_}; }

 private:
  Dataset data_;
  std::int64_t batch_, count_ = 0;
  Tensor order_;
};

}  // namespace optnet
