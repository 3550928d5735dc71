// Batch: a QP<Tensor> after its shapes and numbers have been checked: the sizes, and where each element's
// parameters lie. What qp.cpp hands to the code that runs on a device (qp_cpu.cpp).
#pragma once

#include "solvers/pack.h"
#include "solvers/qp.h"

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

struct Batch {
  std::int64_t count = 1;
  bool batched = false;  // whether results have a batch axis
  int n = 0, p = 0, m = 0;
  bool Q_dense = false;
  DType dtype = float64;
  QP<Tensor> data;       // in float64; what the fields point into
  QP<Field> field;

  /// Whether the batch shares all of its matrices, which are then read as plain numbers.
  bool shared_matrices() const {
    return !(Q_dense && field.Q.element) && field.G.element == 0 && field.A.element == 0;
  }
  /// Whether H will be diagonal: kkt.h's first case.
  bool diagonal() const { return !Q_dense && m == 0; }
  int sides() const { return n * (bool(field.lower) + bool(field.upper)) + m; }
};

/// Checks and reads; throws Error naming the field, the rule and what was given.
Batch read(const QP<Tensor>& qp);

/// The iterates of a batch, in double: [count, n], [count, p], [count, sides]; sides in the order lower, upper, G.
struct Iterates {
  std::vector<double> z, nu, s, lambda;
};

/// What solve() keeps for vjp(): the solution in double, and the factors there, pack after pack.
struct QPFactors {
  Iterates solution;
  std::vector<Pack> packs;     // one or the other, by size
  std::vector<double> single;
};

// On the CPU (qp_cpu.cpp): fill `iterates` and the vectors of `solution`, and with options.differentiable `factors`.
void solve_cpu(const Batch& batch, const QPOptions& options, Iterates& iterates, QPSolution& solution, QPFactors& factors);

/// From seeds (z, nu, lambda) to (dz, dnu, dlambda) of (K18), in place.
void adjoint_cpu(const Batch& batch, const QPSolution& solution, const QPFactors& factors, Iterates& seeds);

}  // namespace optnet
