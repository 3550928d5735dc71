// What all tests share: Catch2, the message of an error, comparisons, random tensors and skipping. optnet's names
// are at hand in every test.
#pragma once

#if __has_include(<catch2/catch_all.hpp>)  // Catch2 3
#include <catch2/catch_approx.hpp>
#include <catch2/catch_session.hpp>
#include <catch2/catch_test_macros.hpp>
#include <catch2/interfaces/catch_interfaces_reporter.hpp>
#include <catch2/matchers/catch_matchers.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <catch2/reporters/catch_reporter_event_listener.hpp>
#include <catch2/reporters/catch_reporter_registrars.hpp>
using Catch::Approx;
namespace Catch::Matchers {
inline auto Contains(const std::string& text) { return ContainsSubstring(text); }
}
using Listener = Catch::EventListenerBase;
#else  // Catch2 2, Debian's
#include <catch2/catch.hpp>
#ifdef CATCH_CONFIG_RUNNER
using Listener = Catch::TestEventListenerBase;
#endif
#endif

#include "optnet.h"

#include <cmath>
#include <cstring>
#include <filesystem>
#include <limits>
#include <set>
#include <string>
#include <vector>

using namespace optnet;
using Catch::Matchers::Contains;

/// Marks the running test as skipped, to be counted as such; a reason is printed once. The test returns after it.
void skip(const std::string& reason);

/// The ops that have a row in the table of ops_test.cpp.
const std::set<std::string>& ops_of_the_table();

/// The message of the Error that f throws; "" if it throws none.
template <class F>
std::string error_of(const F& f) {
  try {
    f();
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

inline std::string text_of(const Tensor& x) {
  std::ostringstream out;
  out << x;
  return out.str();
}

/// The largest |a - b|; infinite if shapes or dtypes differ, or one is NaN or infinite where the other is not the same.
inline double max_difference(const Tensor& a, const Tensor& b) {
  constexpr double infinity = std::numeric_limits<double>::infinity();
  if (a.defined() != b.defined() || !(a.shape() == b.shape()) || a.dtype() != b.dtype()) return infinity;
  const std::vector<double> x = a.to_vector<double>(), y = b.to_vector<double>();
  double largest = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    if (x[i] == y[i] || (std::isnan(x[i]) && std::isnan(y[i]))) continue;
    const double difference = std::abs(x[i] - y[i]);
    if (!(difference <= largest)) largest = std::isnan(difference) ? infinity : difference;
  }
  return largest;
}

/// The same bits, so that even 0 and -0 differ.
inline bool same_bits(const Tensor& a, const Tensor& b) {
  if (!(a.shape() == b.shape()) || a.dtype() != b.dtype()) return false;
  const Tensor x = a.to(Device::cpu), y = b.to(Device::cpu);
  return x.numel() == 0 || std::memcmp(x.raw(), y.raw(), static_cast<std::size_t>(x.numel()) * size_of(x.dtype())) == 0;
}

/// Uniform in [low, high); whole numbers for int64.
inline Tensor random_tensor(Random& random, const Shape& shape, DType dtype = float64, double low = -2, double high = 2) {
  if (is_floating(dtype)) return uniform(random, shape, low, high, dtype);
  std::vector<std::int64_t> numbers(static_cast<std::size_t>(shape.numel()));
  for (auto& x : numbers) x = static_cast<std::int64_t>(low) + random.below(static_cast<std::int64_t>(high - low));
  return from(shape, numbers);
}

/// The number of threads, put back at the end of the scope.
struct Threads {
  int before = threads();
  explicit Threads(int count) { set_threads(count); }
  ~Threads() { set_threads(before); }
};

inline Tensor vec(const std::vector<double>& numbers) { return from({static_cast<std::int64_t>(numbers.size())}, numbers); }
/// Gradients of which `param`'s is dx.
inline Gradients gradients_with(const Param& param, const Tensor& dx) {
  Tape tape;
  return tape.gradients(sum(Var(param) * Var(dx)));
}

/// A new, empty folder, gone at the end of the scope.
struct Folder {
  std::filesystem::path path;
  Folder();
  Folder(const Folder&) = delete;
  ~Folder() { std::filesystem::remove_all(path); }
  std::filesystem::path operator/(const std::string& name) const { return path / name; }
};

/// A test's folder whose paths are text, for command lines.
struct Scratch : Folder {
  std::string operator/(const std::string& name) const { return (path / name).string(); }
};

/// What a program left behind.
struct Outcome {
  int code;
  std::string out, err;
};
Outcome run(const Scratch& folder, const std::string& command);
/// A Python that can import these modules, "numpy, safetensors": build/venv's or the system's; "" if there is none.
std::string python_with(const std::string& modules);
