// The random numbers: the published generator, their moments, and that nothing but seed and position matters.
#include "tests/test.h"

#include <algorithm>
#include <iostream>

TEST_CASE("the generator is Philox 4x32-10, by its authors' known answers", "[random]") {
  // Random123's kat_vectors: counter 0, key 0 gives 6627e8d5 e169c58d bc57ac4c 9b00dbd8; bits() takes the first two words.
  Random zero;
  CHECK(zero.bits() == 0xe169c58d6627e8d5);
  CHECK(zero.next == 1);
  // The others have counters with all four words set, of which ours sets two: computed here by the paper's own steps.
  const auto philox = [](std::uint64_t seed, std::uint64_t counter) {
    std::array<std::uint32_t, 4> c{std::uint32_t(counter), std::uint32_t(counter >> 32), 0, 0};
    std::array<std::uint32_t, 2> k{std::uint32_t(seed), std::uint32_t(seed >> 32)};
    for (int round = 0; round < 10; ++round, k[0] += 0x9E3779B9, k[1] += 0xBB67AE85) {
      const std::uint64_t p0 = 0xD2511F53ull * c[0], p1 = 0xCD9E8D57ull * c[2];
      c = {std::uint32_t(p1 >> 32) ^ c[1] ^ k[0], std::uint32_t(p1), std::uint32_t(p0 >> 32) ^ c[3] ^ k[1], std::uint32_t(p0)};
    }
    return std::uint64_t{c[1]} << 32 | c[0];
  };
  for (std::uint64_t seed : {0ull, 1ull, 0xa4093822299f31d0ull, ~0ull})
    for (std::uint64_t at : {0ull, 1ull, 77ull, 1ull << 32, ~0ull - 1}) CHECK(Random{seed, at}.bits() == philox(seed, at));
}

TEST_CASE("tensors take the numbers that bits() gives, one a place", "[random]") {
  Random one{3}, other{3};
  const Tensor x = uniform(one, {2, 3}, 0, 1, float64);
  for (double v : x.to_vector<double>()) CHECK(v == other.uniform());
  CHECK(one.next == 6);
  CHECK(one.bits() == other.bits());
}

TEST_CASE("a copy of a generator repeats its numbers, another seed or place does not", "[random]") {
  Random random{42};
  random.bits();
  Random copy = random, resumed{random.seed, random.next}, other{43, 1};
  const Tensor x = normal(random, {100});
  CHECK(same_bits(x, normal(copy, {100})));
  CHECK(same_bits(x, normal(resumed, {100})));
  CHECK_FALSE(same_bits(x, normal(other, {100})));
  CHECK_FALSE(same_bits(x, normal(random, {100})));
  seed(7);
  const Tensor first = uniform(default_random(), {5});
  seed(7);
  CHECK(same_bits(first, uniform(default_random(), {5})));
}

TEST_CASE("says the number of threads, for the next test", "[.threads]") { std::cout << "threads: " << threads() << std::endl; }

TEST_CASE("at first there are as many threads as OMP_NUM_THREADS says", "[random]") {
  const Scratch folder;
  const std::string program = std::filesystem::read_symlink("/proc/self/exe").string();
  for (const char* count : {"1", "3"})
    CHECK_THAT(run(folder, std::string("OMP_NUM_THREADS=") + count + " " + program + " '[.threads]'").out, Contains(std::string("threads: ") + count + "\n"));
}

TEST_CASE("threads do not change random tensors", "[random]") {
  std::vector<Tensor> results[2];
  for (int count : {1, 4}) {
    Threads set(count);
    Random random{1};
    results[count > 1] = {uniform(random, {70'000}), normal(random, {70'000}), uniform(random, {70'000}, -1, 1, float64), permutation(random, 1000)};
  }
  for (std::size_t i = 0; i < results[0].size(); ++i) CHECK(same_bits(results[0][i], results[1][i]));
}

TEST_CASE("uniform and normal numbers have their moments and their range", "[random]") {
  Random random{5};
  const double n = 200'000;
  for (DType dtype : {float32, float64}) {
    const Tensor u = uniform(random, {200'000}, -1, 3, dtype), z = normal(random, {200'000}, 2, 0.5, dtype).to(float64);
    CHECK(u.dtype() == dtype);
    CHECK(min(u).item() >= -1);
    CHECK(max(u).item() < 3);
    CHECK(min(u).item() < -0.999);
    CHECK(max(u).item() > 2.999);
    const Tensor v = u.to(float64);
    CHECK(std::abs(mean(v).item() - 1) < 5 * std::sqrt(16 / 12. / n));
    CHECK(mean(pow(v - 1.0, 2)).item() == Approx(16 / 12.).epsilon(0.01));
    CHECK(std::abs(mean(z).item() - 2) < 5 * 0.5 / std::sqrt(n));
    const Tensor s = (z - 2.0) / 0.5;
    CHECK(mean(s * s).item() == Approx(1).epsilon(0.02));
    CHECK(std::abs(mean(s * s * s).item()) < 0.03);
    CHECK(mean(pow(s, 4)).item() == Approx(3).epsilon(0.03));
    CHECK(max(abs(s)).item() < 7);
    // Neighbours are independent.
    CHECK(std::abs(mean(slice(s, 0, 1, 200'000) * slice(s, 0, 0, 199'999)).item()) < 5 / std::sqrt(n));
  }
}

TEST_CASE("float32 numbers stay below the upper end, though rounding would reach it", "[random]") {
  Random random{6};
  CHECK(max(uniform(random, {300'000}, 1, 1 + 1e-6)).item() < 1 + 1e-6);
  CHECK(max(uniform(random, {1'000'000})).item() < 1);
}

TEST_CASE("a permutation holds each number once, and every order is as likely", "[random]") {
  Random random{8};
  for (std::int64_t n : {0, 1, 2, 10, 1000}) {
    auto order = permutation(random, n).to_vector<std::int64_t>();
    std::sort(order.begin(), order.end());
    CHECK(order == arange(0, double(n), 1, int64).to_vector<std::int64_t>());
  }
  std::map<std::vector<std::int64_t>, int> counts;
  for (int i = 0; i < 6000; ++i) ++counts[permutation(random, 3).to_vector<std::int64_t>()];
  CHECK(counts.size() == 6);
  for (const auto& [order, count] : counts) CHECK(std::abs(count - 1000) < 150);
}

TEST_CASE("below(n) is uniform and never n", "[random]") {
  Random random{9};
  std::array<int, 7> counts{};
  for (int i = 0; i < 7000; ++i) ++counts.at(static_cast<std::size_t>(random.below(7)));
  for (int count : counts) CHECK(std::abs(count - 1000) < 150);
  CHECK(random.below(1) == 0);
  CHECK(random.below(INT64_MAX) >= 0);
  CHECK(error_of([&] { random.below(0); }) == "random: below(n) needs n > 0; got 0");
}

TEST_CASE("impossible ranges are refused", "[random]") {
  Random random;
  CHECK(error_of([&] { uniform(random, {2}, 1, 1); }) == "uniform: low must be less than high; got 1 and 1");
  CHECK(error_of([&] { normal(random, {2}, 0, -1); }) == "normal: the deviation must not be negative; got -1");
  CHECK(error_of([&] { permutation(random, -1); }) == "permutation: the length must not be negative; got -1");
  CHECK(error_of([&] { uniform(random, {2}, 0, 1, int64); }) == "uniform: needs float32 or float64 (convert with to(float32)); got int64");
  CHECK(error_of([&] { normal(random, {2}, 0, 1, int64); }) == "normal: needs float32 or float64 (convert with to(float32)); got int64");
}
