// Random QPs of every structure, and what a test of their solutions and gradients needs: seeds, where there is a derivative
// at all, and central differences.
#pragma once

#include "tests/plain_qp.h"

#include <random>

/// Numbers that owe nothing to the library under test.
struct Generator {
  std::mt19937_64 engine;
  double uniform(double a = 0, double b = 1) { return std::uniform_real_distribution<double>(a, b)(engine); }
  double normal() { return std::normal_distribution<double>()(engine); }
  bool chance(double p) { return uniform() < p; }
  int below(int n) { return static_cast<int>(engine() % static_cast<unsigned>(n)); }
  Tensor normals(const Shape&, double scale = 1);
};

/// Numbers as tensors, and back: none of an absent tensor.
Tensor number(double);
Tensor list(const std::vector<double>&);
std::vector<double> values(const Tensor&);
double dot(const Tensor&, const Tensor&);

/// Options that ask for as much as there is: tight, every status, derivatives.
inline const QPOptions kept{.tolerance = 1e-12, .on_failure = OnFailure::report, .differentiable = true};

/// A batch of a random structure, always feasible and bounded; `count` elements, also where all of them share everything.
struct RandomQP {
  QP<Tensor> qp;
  std::int64_t count;
};
RandomQP random_qp(Generator&);
/// Every field of element e alone, without a batch axis.
QP<Tensor> alone(const QP<Tensor>&, std::int64_t e);

/// The largest violation of (K2) by any element, in absolute numbers.
double worst_kkt(const QP<Tensor>&, const QPSolution&);

/// Whether the solution has derivatives, with room for a central difference: strictly complementary, and determined.
bool differentiable(const QP<Tensor>&, const QPSolution&);
/// Whether the Q of every element has room on all sides: a singular one moves along itself only, to stay semidefinite.
bool definite(const QP<Tensor>&, std::int64_t count);

/// A loss is the product of a seed with z, and if asked with the duals.
QPSeed random_seed(Generator&, const QPSolution&, bool duals);
/// Directions of length 1: a random one, and that of entry i.
Tensor random_direction(Generator&, const Shape&);
Tensor entry_direction(const Shape&, std::int64_t i);
/// |gradient - central difference| of the loss over 1 + |difference|, along a direction of field i; fourth order.
double gradient_error(const QP<Tensor>&, std::size_t i, const QPSeed&, const Tensor& gradient, const Tensor& direction);
