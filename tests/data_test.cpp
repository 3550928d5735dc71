// Batches: each example once, in an order and with changes that only the generator decides, whichever thread makes them.
#include "tests/test.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <thread>

namespace {

Dataset numbered(std::int64_t n) {
  return {arange(0, double(2 * n)).reshape({n, 2}), arange(0, double(n), 1, int64)};
}

std::vector<std::int64_t> order_of(const Batches& batches) {
  std::vector<std::int64_t> out;
  for (const auto& [x, y] : batches) {
    const auto labels = y.to_vector<std::int64_t>();
    for (std::size_t i = 0; i < labels.size(); ++i) CHECK(x(static_cast<int>(i), 1) == double(2 * labels[i] + 1));  // x and y belong together
    out.insert(out.end(), labels.begin(), labels.end());
  }
  return out;
}

}  // namespace

TEST_CASE("the batches of a pass hold each example once, x with its y", "[data]") {
  Random random{1};
  for (std::int64_t n : {0, 1, 7, 8, 9, 100})
    for (std::int64_t size : {1, 4, 8, 200}) {
      const Batches batches(numbered(n), size, random);
      CHECK(batches.count() == (n + size - 1) / size);
      auto order = order_of(batches);
      CHECK(order == order_of(batches));  // a second walk is the same pass
      std::sort(order.begin(), order.end());
      CHECK(order == arange(0, double(n), 1, int64).to_vector<std::int64_t>());
    }
}

TEST_CASE("batches are shuffled by their generator, anew for each pass", "[data]") {
  Random one{1}, same{1}, other{2};
  const Dataset data = numbered(50);
  const auto first = order_of(Batches(data, 8, one)), repeated = order_of(Batches(data, 8, same)), different = order_of(Batches(data, 8, other));
  CHECK(first == repeated);
  CHECK(first != different);
  CHECK(first != order_of(Batches(data, 8, one)));
}

TEST_CASE("without shuffling, batches keep the order and draw nothing", "[data]") {
  Random random{1};
  CHECK(order_of(Batches(numbered(10), 3, random, {.shuffle = false})) == arange(0, 10, 1, int64).to_vector<std::int64_t>());
  CHECK(random.next == 0);
}

TEST_CASE("drop_last leaves out a batch that is not full", "[data]") {
  Random random{1};
  const Batches batches(numbered(10), 4, random, {.drop_last = true});
  CHECK(batches.count() == 2);
  CHECK(order_of(batches).size() == 8);
  CHECK(batches[1].size() == 4);
  CHECK(Batches(numbered(8), 4, random, {.drop_last = true}).count() == 2);
  CHECK(Batches(numbered(3), 4, random, {.drop_last = true}).count() == 0);
  CHECK(Batches(numbered(10), 4, random)[2].size() == 2);
}

/// Adds noise to x, after a pause that differs from batch to batch.
Dataset noisy(Dataset batch, Random& random) {
  const Tensor noise = uniform(random, batch.x.shape(), 0, 0.5);
  std::this_thread::sleep_for(std::chrono::microseconds(random.below(300)));
  return {batch.x + noise, batch.y};
}

/// All inputs of a pass, one below the other; `pause` is what the loop takes for a batch.
Tensor inputs_of(const Batches& batches, std::chrono::microseconds pause = {}) {
  std::vector<Tensor> out;
  for (const auto& [x, y] : batches) {
    std::this_thread::sleep_for(pause);
    out.push_back(x);
  }
  return concat(out, 0);
}

TEST_CASE("batches made ahead are those made when reached, whatever the timing", "[data]") {
  const Dataset data = numbered(103);
  for (const bool augment : {false, true}) {
    BatchOptions options;
    if (augment) options.augment = noisy;
    Random random{1};
    const Tensor expected = inputs_of(Batches(data, 8, random, options));
    for (const int prefetch : {1, 3, 100})
      for (const int pause : {0, 200}) {
        options.prefetch = prefetch;
        Random same{1};
        const Batches batches(data, 8, same, options);
        CHECK(same_bits(inputs_of(batches, std::chrono::microseconds(pause)), expected));
        CHECK(same_bits(inputs_of(batches), expected));  // a second walk is the same pass
        CHECK(same.next == random.next);
        CHECK(same_bits(batches[5].x, slice(expected, 0, 40, 48)));
      }
  }
}

TEST_CASE("augmentation draws from a generator of each batch's own, and leaves the order as it was", "[data]") {
  Random plain{2}, augmented{2};
  const Batches before(numbered(20), 5, plain), after(numbered(20), 5, augmented, {.augment = noisy});
  for (int i = 0; i < 4; ++i) {
    CHECK(same_bits(before[i].y, after[i].y));
    CHECK_FALSE(same_bits(before[i].x, after[i].x));
  }
  CHECK(augmented.next == plain.next + 1);
  CHECK_FALSE(same_bits(after[0].x - before[0].x, after[1].x - before[1].x));  // the noise differs
  const Batches next(numbered(20), 5, augmented, {.shuffle = false, .augment = noisy}), again(numbered(20), 5, augmented, {.shuffle = false, .augment = noisy});
  CHECK_FALSE(same_bits(next[0].x, again[0].x));  // and from pass to pass
}

TEST_CASE("the thread makes no more batches than asked for", "[data]") {
  std::atomic<int> made{0};
  Random random{3};
  const Batches batches(numbered(100), 1, random, {.augment = [&](Dataset batch, Random&) { return ++made, batch; }, .prefetch = 3});
  auto at = batches.begin();
  const auto settles_at = [&](int count) {
    for (int wait = 0; wait < 2000 && made < count; ++wait) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    return made == count;
  };
  CHECK(settles_at(4));  // the one in use and three
  *at;
  *at;  // the same one
  CHECK(settles_at(4));
  ++at;
  CHECK(settles_at(5));
  CHECK(same_bits((*at).y, batches[1].y));
}

TEST_CASE("an error of making a batch reaches the loop in that batch's turn", "[data]") {
  for (const int prefetch : {0, 1, 10}) {
    std::atomic<int> made{0};
    Random random{4};
    const auto third_fails = [&](Dataset batch, Random&) { return check(++made != 3, "flip: cannot"), batch; };
    int reached = 0;
    CHECK(error_of([&] {
            for ([[maybe_unused]] const auto& batch : Batches(numbered(10), 1, random, {.augment = third_fails, .prefetch = prefetch})) ++reached;
          }) == "flip: cannot");
    CHECK(reached == 2);
    CHECK(made == 3);
  }
}

TEST_CASE("a loop over batches made ahead may be left at any time", "[data]") {
  Random random{5};
  for (int stop = 0; stop < 12; ++stop)
    for (const int prefetch : {1, 5}) {
      int reached = 0;
      for ([[maybe_unused]] const auto& batch : Batches(numbered(10), 1, random, {.augment = noisy, .prefetch = prefetch}))
        if (++reached > stop) break;
      CHECK(reached == std::min(stop + 1, 10));
    }
  for (int trial = 0; trial < 50; ++trial) Batches(numbered(10), 1, random, {.prefetch = 2}).begin();
  auto outlives = Batches(numbered(10), 3, random, {.shuffle = false, .prefetch = 1}).begin();
  ++outlives;
  CHECK((*outlives).y(0) == 3);
  const Batches batches(numbered(10), 3, random, {.shuffle = false, .prefetch = 2});
  CHECK((*Batches::Iterator(batches, 2)).y(0) == 6);  // and begun at any batch
  CHECK(order_of(Batches(numbered(0), 3, random, {.prefetch = 2})).empty());
  CHECK(order_of(Batches(numbered(10), 4, random, {.drop_last = true, .prefetch = 2})).size() == 8);
}

TEST_CASE("batches of data on a GPU are there too, as the index of a gather must be", "[data][cuda]") {
  if (!available(Device::cuda)) return skip("no CUDA device");
  Random random{1};
  const Dataset host = numbered(10), data{host.x.to(Device::cuda), host.y};
  const Batches batches(data, 3, random);
  CHECK(batches[0].x.device() == Device::cuda);
  CHECK(batches[0].y.device() == Device::cpu);
  order_of(batches);
  CHECK(error_of([&] { gather(data.x, 0, arange(0, 3, 1, int64)); }) == "gather: the index must be on the tensor's device (move it with to(device)); got cpu and cuda");
  CHECK(error_of([&] { cross_entropy(data.x, zeros({10}, int64)); }) == "cross_entropy: labels must be on the logits' device (move them with to(device)); got cpu and cuda");
}

TEST_CASE("data that make no batches are refused", "[data]") {
  Random random;
  CHECK(error_of([&] { Batches(numbered(3), 0, random); }) == "batches: the batch size must be positive; got 0");
  CHECK(error_of([&] { Batches(numbered(3), 2, random, {.prefetch = -1}); }) == "batches: prefetch must not be negative; got -1");
  CHECK(error_of([&] { Batches({ones({3, 2}), ones({4})}, 2, random); }) == "batches: inputs and targets must be as many; got [3, 2] and [4]");
  const Batches batches(numbered(3), 2, random);
  CHECK(error_of([&] { batches[2]; }) == "batches: there are 2 batches; asked for number 2");
  CHECK(error_of([&] { batches[-1]; }) == "batches: there are 2 batches; asked for number -1");
  CHECK(error_of([&] { Batches({Tensor{}, Tensor{}}, 2, random); }) != "");
}
