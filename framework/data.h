// Data sets and their batches: shuffled, altered at random, and made ahead by a thread of their own, all at will.
#pragma once

#include "framework/ops.h"

#include <functional>
#include <memory>

namespace optnet {

/// Inputs and targets, example by example along the first axis.
struct Dataset {
  Tensor x, y;
  std::int64_t size() const { return x.size(0); }
};

struct BatchOptions {
  bool shuffle = true;
  bool drop_last = false;  // leave out a last batch that is not full
  /// Applied to each batch, with a generator of its own: flips, shifts, noise.
  std::function<Dataset(Dataset batch, Random& random)> augment = {};
  /// Batches that a thread makes ahead while the loop works on one; 0: no thread. `augment` then runs in that thread, and
  /// may touch nothing that others change meanwhile, such as default_random().
  int prefetch = 0;
};

/// The batches of one pass over the data, in an order drawn from `random`; each is made when it is reached. What they
/// hold depends on the generator alone: never on threads or time, nor on which other batches were asked for.
///     for (const auto& [x, y] : Batches(train, 128, random)) ...
/// An Error of making a batch reaches the loop in that batch's turn, and the loop may be left at any time.
class Batches {
 public:
  Batches(Dataset data, std::int64_t batch, Random& random, BatchOptions options = {});

  std::int64_t count() const { return count_; }
  /// Batch i, made now.
  Dataset operator[](std::int64_t i) const;

  class Ahead;  // the thread and its queue: data.cpp
  /// Goes through the batches once, from the first; copies share their place.
  class Iterator {
   public:
    Iterator(const Batches& batches, std::int64_t i);
    Dataset operator*() const;
    Iterator& operator++();
    bool operator!=(const Iterator& other) const { return i_ != other.i_; }

   private:
    const Batches* batches_;
    std::int64_t i_;
    std::shared_ptr<Ahead> ahead_;  // absent without prefetch
  };
  Iterator begin() const;
  Iterator end() const;

 private:
  Dataset data_;
  std::int64_t batch_, count_ = 0;
  BatchOptions options_;
  Tensor order_;
  std::uint64_t augment_seed_ = 0;
};

}  // namespace optnet
