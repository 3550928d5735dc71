// The generator of random.h and the kernels that fill tensors with it.
#include "framework/random.h"

#include "framework/kernel.h"

#include <cmath>
#include <numeric>

namespace optnet {
namespace {

/// Philox 4x32-10: ten rounds of multiply and exchange turn (seed, counter) into 128 random bits, of which we
/// use two words of 64.
struct Philox {
  std::uint64_t first, second;

  OPTNET_HD Philox(std::uint64_t seed, std::uint64_t counter) {
    std::uint32_t c0 = static_cast<std::uint32_t>(counter), c1 = static_cast<std::uint32_t>(counter >> 32), c2 = 0, c3 = 0;
    std::uint32_t k0 = static_cast<std::uint32_t>(seed), k1 = static_cast<std::uint32_t>(seed >> 32);
    for (int round = 0; round < 10; ++round) {
      const std::uint64_t a = std::uint64_t{0xD2511F53} * c0, b = std::uint64_t{0xCD9E8D57} * c2;
      c0 = static_cast<std::uint32_t>(b >> 32) ^ c1 ^ k0;
      c1 = static_cast<std::uint32_t>(b);
      c2 = static_cast<std::uint32_t>(a >> 32) ^ c3 ^ k1;
      c3 = static_cast<std::uint32_t>(a);
      k0 += 0x9E3779B9;  // the golden ratio
      k1 += 0xBB67AE85;  // sqrt(3) - 1
    }
    first = std::uint64_t{c1} << 32 | c0;
    second = std::uint64_t{c3} << 32 | c2;
  }
};

/// The upper 53 bits as a number in [0, 1).
OPTNET_HD double unit(std::uint64_t bits) { return static_cast<double>(bits >> 11) * 0x1p-53; }

template <class T>
struct Uniform {
  std::uint64_t seed, next;
  double low, width, high;
  T* out;
  OPTNET_HD void operator()(std::int64_t i) const {
    const T x = static_cast<T>(low + width * unit(Philox(seed, next + static_cast<std::uint64_t>(i)).first));
    out[i] = x < static_cast<T>(high) ? x : static_cast<T>(low);  // rounding to float can reach the upper end
  }
};

template <class T>
struct Normal {
  std::uint64_t seed, next;
  double mean, deviation;
  T* out;
  OPTNET_HD void operator()(std::int64_t i) const {
    const Philox bits(seed, next + static_cast<std::uint64_t>(i));
    const double radius = std::sqrt(-2 * std::log(1 - unit(bits.first)));
    out[i] = static_cast<T>(mean + deviation * radius * std::cos(6.283185307179586 * unit(bits.second)));
  }
};

// Ten rounds of Philox cost about as much as 16 ordinary elements.
constexpr std::int64_t work_per_number = 16;

}  // namespace

std::uint64_t Random::bits() { return Philox(seed, next++).first; }

double Random::uniform() { return unit(bits()); }

std::int64_t Random::below(std::int64_t n) {
  check(n > 0, "random: below(n) needs n > 0; got ", n);
  const std::uint64_t range = static_cast<std::uint64_t>(n), limit = UINT64_MAX - UINT64_MAX % range;
  std::uint64_t x;
  do x = bits();
  while (x >= limit);  // the last, incomplete run of values would favour small ones
  return static_cast<std::int64_t>(x % range);
}

Tensor uniform(Random& random, const Shape& shape, double low, double high, DType dtype, Device device) {
  check(low < high, "uniform: low must be less than high; got ", low, " and ", high);
  return dispatch_floating("uniform", dtype, [&](auto t) {
    using T = decltype(t);
    const std::int64_t n = shape.numel();
    Buffer out(static_cast<std::size_t>(n) * sizeof(T), device);
    parallel_for(device, n, n * work_per_number,
                 Uniform<T>{random.seed, random.next, low, high - low, high, static_cast<T*>(out.data())});
    random.next += static_cast<std::uint64_t>(n);
    return Tensor(shape, dtype, std::move(out));
  });
}

Tensor normal(Random& random, const Shape& shape, double mean, double deviation, DType dtype, Device device) {
  check(deviation >= 0, "normal: the deviation must not be negative; got ", deviation);
  return dispatch_floating("normal", dtype, [&](auto t) {
    using T = decltype(t);
    const std::int64_t n = shape.numel();
    Buffer out(static_cast<std::size_t>(n) * sizeof(T), device);
    parallel_for(device, n, n * work_per_number,
                 Normal<T>{random.seed, random.next, mean, deviation, static_cast<T*>(out.data())});
    random.next += static_cast<std::uint64_t>(n);
    return Tensor(shape, dtype, std::move(out));
  });
}

Tensor permutation(Random& random, std::int64_t n) {
  check(n >= 0, "permutation: the length must not be negative; got ", n);
  std::vector<std::int64_t> order(static_cast<std::size_t>(n));
  std::iota(order.begin(), order.end(), 0);
  for (std::int64_t i = n - 1; i > 0; --i)
    std::swap(order[static_cast<std::size_t>(i)], order[static_cast<std::size_t>(random.below(i + 1))]);
  return from({n}, order);
}

Random& default_random() {
  static Random random;
  return random;
}

void seed(std::uint64_t value) { default_random() = {value, 0}; }

}  // namespace optnet
