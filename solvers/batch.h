// Batch: a QP<Tensor> after its shapes and numbers have been checked: the sizes, and where each element's
// parameters lie. What qp.cpp hands to the code that runs on a device (qp_cpu.cpp).
#pragma once

#include "framework/backend.h"
#include "solvers/problem.h"

#include <memory>
#include <vector>

namespace optnet {

/// One parameter, in double. Element e begins at data + e * element; a vector's entries are `entry` apart, 0 if one
/// number serves for all.
struct Field {
  const double* data = nullptr;
  std::int64_t element = 0, entry = 1;
  explicit operator bool() const { return data != nullptr; }
  double operator()(std::int64_t e, std::int64_t i) const { return data[e * element + i * entry]; }
};

struct Batch : Sizes {
  std::int64_t count = 1;
  bool batched = false;  // whether results have a batch axis
  DType dtype = float64;
  QP<Tensor> data;       // in float64; what the fields point into
  QP<Field> field;
};

/// Where each field's sides begin, in the order of Problem.
struct SideBlocks {
  std::int64_t lower, lower_g, upper, h;
  explicit SideBlocks(const Batch& batch)
      : lower(0), lower_g(batch.n * batch.bounds), upper(batch.high_side()), h(upper + batch.n * batch.bounds) {}
};

/// Checks and reads; throws Error naming the field, the rule and what was given.
Batch read(const QP<Tensor>& qp);
/// Throws the Error of the first number of a matrix that is not finite, if there is one.
void check_matrices(const Batch& batch);

/// Vectors as long as a batch, in the backend's memory, which keeps what is freed for the next call; the system would give it
/// anew, page by page.
template <class T>
struct BackendMemory {
  using value_type = T;
  BackendMemory() = default;
  template <class U>
  BackendMemory(const BackendMemory<U>&) {}
  T* allocate(std::size_t count) { return static_cast<T*>(backend(Device::cpu).allocate(count * sizeof(T))); }
  void deallocate(T* memory, std::size_t count) { backend(Device::cpu).free(memory, count * sizeof(T)); }
  friend bool operator==(const BackendMemory&, const BackendMemory&) { return true; }
};
using Numbers = std::vector<double, BackendMemory<double>>;

/// The iterates of a batch, in double: [count, n], [count, p], [count, sides], the sides in the order of Problem.
struct Iterates {
  Numbers z, nu, s, lambda;
};

/// What one method keeps for the backward pass, for as many elements at a time as T holds.
struct Kept {
  std::vector<std::int64_t> elements;  // whose problems they are, lane by lane
  std::size_t size = 0;                // for one T, in packs: aligned for either
  std::unique_ptr<Buffer> memory;      // uninitialised: only what is used is touched

  /// Packs that `count` numbers T need.
  template <class T>
  static std::size_t packs(int count) {
    return (static_cast<std::size_t>(count) * sizeof(T) + sizeof(Pack) - 1) / sizeof(Pack);
  }
  template <class T>
  void reserve(const std::vector<std::int64_t>& of, std::size_t packs) {
    elements = of, size = packs;
    memory = std::make_unique<Buffer>(size * ((elements.size() + lanes_of<T> - 1) / lanes_of<T>) * sizeof(Pack), Device::cpu);
  }
  Pack* at(std::int64_t i) const { return static_cast<Pack*>(memory->data()) + static_cast<std::size_t>(i) * size; }
};

/// The matrices that a batch shares, equilibrated, and how: D, E and F of Scaling. Empty where there are none.
struct SharedMatrices {
  std::vector<double> Q, A, G, scaling;
};

/// What solve() keeps for vjp(): the solution in double, and the factors there.
struct QPFactors {
  Iterates solution;
  Sizes sizes;                 // of the problem solved
  int threads = 0;
  std::vector<double> shared;  // Kkt's, with the rows of C, where the batch shares its matrices
  SharedMatrices scaled;
  double regularization = 0;   // what the interior point's factors were made with
  Kept active;                 // the active rows, and Kkt's factors where each element has its own
  Kept interior;               // Newton's factors, and the scaling
};

/// On the CPU (qp_cpu.cpp): fills `iterates` and the vectors of `solution`, and with options.differentiable `factors`. `start`
/// is where to begin, or empty. False where a matrix that was copied holds a number that is not finite.
bool solve_cpu(const Batch& batch, const QPOptions& options, const Iterates& start, Iterates& iterates, QPSolution& solution, QPFactors& factors);

/// From seeds (z, nu, lambda) to (dz, dnu, dlambda) of (K18), in place.
void adjoint_cpu(const Batch& batch, const QPFactors& factors, Iterates& seeds);

}  // namespace optnet
