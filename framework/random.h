// Random numbers by counter: Philox 4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3").
// Number i of a stream is a function of (seed, i) alone, so a tensor of them can be filled by any number of
// threads, or on a GPU, and is always the same.
#pragma once

#include "framework/tensor.h"

namespace optnet {

/// A position in the stream of a seed. Copy it to repeat numbers; save both fields to resume.
struct Random {
  std::uint64_t seed = 0;
  std::uint64_t next = 0;

  /// 64 random bits.
  std::uint64_t bits();
  /// Uniform in 0 ... n-1, without bias.
  std::int64_t below(std::int64_t n);
  /// Uniform in [0, 1).
  double uniform();
};

/// Uniform in [low, high).
Tensor uniform(Random&, const Shape&, double low = 0, double high = 1, DType = float32, Device = Device::cpu);
/// Normal by Box and Muller.
Tensor normal(Random&, const Shape&, double mean = 0, double deviation = 1, DType = float32, Device = Device::cpu);
/// The numbers 0 ... n-1 in random order, by Fisher and Yates. [n] int64
Tensor permutation(Random&, std::int64_t n);

/// What layers draw their initial weights and dropout masks from, unless given another.
Random& default_random();
/// Begins the default stream anew.
void seed(std::uint64_t);

}  // namespace optnet
