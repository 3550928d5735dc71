// Batches: each example once, in an order that only the generator decides.
#include "tests/test.h"

#include <algorithm>

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
  CHECK(error_of([&] { Batches({ones({3, 2}), ones({4})}, 2, random); }) == "batches: inputs and targets must be as many; got [3, 2] and [4]");
  const Batches batches(numbered(3), 2, random);
  CHECK(error_of([&] { batches[2]; }) == "batches: there are 2 batches; asked for number 2");
  CHECK(error_of([&] { batches[-1]; }) == "batches: there are 2 batches; asked for number -1");
  CHECK(error_of([&] { Batches({Tensor{}, Tensor{}}, 2, random); }) != "");
}
