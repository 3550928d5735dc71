// Batches, and the thread that makes them ahead.
#include "framework/data.h"

#include <condition_variable>
#include <deque>
#include <exception>
#include <mutex>
#include <thread>

namespace optnet {

/// Makes the batches in turn, at most `prefetch` beside the one in use. The queue's front is the one in use; a batch
/// that could not be made is there as its exception, and is the last.
class Batches::Ahead {
 public:
  Ahead(const Batches& batches, std::int64_t first) : batches_(batches), first_(first), thread_([this](std::stop_token stop) { run(stop); }) {}

  Dataset front() {
    std::unique_lock lock(mutex_);
    return wait(lock).batch;
  }
  void pop() {
    std::unique_lock lock(mutex_);
    wait(lock);
    queue_.pop_front();
    changed_.notify_all();
  }

 private:
  struct Made {
    Dataset batch;
    std::exception_ptr error;
  };

  const Made& wait(std::unique_lock<std::mutex>& lock) {
    changed_.wait(lock, [&] { return !queue_.empty(); });
    if (queue_.front().error) std::rethrow_exception(queue_.front().error);
    return queue_.front();
  }
  /// Waits until there is room; false if the loop was left.
  bool wait_for_room(const std::stop_token& stop) {
    std::unique_lock lock(mutex_);
    return changed_.wait(lock, stop, [&] { return queue_.size() <= static_cast<std::size_t>(batches_.options_.prefetch); });
  }
  void run(const std::stop_token& stop) {
    bool failed = false;
    for (std::int64_t i = first_; i < batches_.count() && !failed && wait_for_room(stop); ++i) {
      Made made;
      try {
        made.batch = batches_[i];
      } catch (...) {
        made.error = std::current_exception();
        failed = true;
      }
      const std::lock_guard lock(mutex_);
      queue_.push_back(std::move(made));
      changed_.notify_all();
    }
  }

  const Batches batches_;  // a copy, which shares the tensors: those in use outlive a Batches that ends
  const std::int64_t first_;
  std::mutex mutex_;
  std::condition_variable_any changed_;
  std::deque<Made> queue_;
  std::jthread thread_;  // the last member, so that it has ended before the others go
};

Batches::Batches(Dataset data, std::int64_t batch, Random& random, BatchOptions options) : data_(std::move(data)), batch_(batch), options_(std::move(options)) {
  check(batch > 0, "batches: the batch size must be positive; got ", batch);
  check(options_.prefetch >= 0, "batches: prefetch must not be negative; got ", options_.prefetch);
  check(data_.x.size(0) == data_.y.size(0), "batches: inputs and targets must be as many; got ", data_.x.shape(), " and ", data_.y.shape());
  order_ = options_.shuffle ? permutation(random, data_.size()) : arange(0, static_cast<double>(data_.size()), 1, int64);
  if (options_.augment) augment_seed_ = random.bits();
  count_ = options_.drop_last ? data_.size() / batch : (data_.size() + batch - 1) / batch;
}

Dataset Batches::operator[](std::int64_t i) const {
  check(i >= 0 && i < count_, "batches: there are ", count_, " batches; asked for number ", i);
  const Tensor rows = slice(order_, 0, i * batch_, std::min((i + 1) * batch_, data_.size()));
  const Dataset batch{gather(data_.x, 0, rows.to(data_.x.device())), gather(data_.y, 0, rows.to(data_.y.device()))};
  if (!options_.augment) return batch;
  Random own{.seed = augment_seed_ + static_cast<std::uint64_t>(i)};
  return options_.augment(batch, own);
}

Batches::Iterator Batches::begin() const { return Iterator(*this, 0); }
Batches::Iterator Batches::end() const { return Iterator(*this, count_); }

Batches::Iterator::Iterator(const Batches& batches, std::int64_t i) : batches_(&batches), i_(i) {
  if (batches.options_.prefetch > 0 && i < batches.count_) ahead_ = std::make_shared<Ahead>(batches, i);
}

Dataset Batches::Iterator::operator*() const { return ahead_ ? ahead_->front() : (*batches_)[i_]; }

Batches::Iterator& Batches::Iterator::operator++() {
  if (ahead_) ahead_->pop();
  ++i_;
  return *this;
}

}  // namespace optnet
