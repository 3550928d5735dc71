// The QP as an op, with or without its duals, and as a layer: OptNet (Amos and Kolter 2017). The solver and its derivatives are in solvers/,
// their derivation in docs/optnet.md.
#pragma once

#include "layers/module.h"
#include "solvers/qp.h"

namespace optnet {

/// The solution z [B, n] (or [n]) of each quadratic program of a batch; gradients flow to every parameter. Shapes
/// and errors: QP and solve() in solvers/qp.h. Plain numbers take q's dtype:
///     Var z = argmin({.Q = 0.1, .q = -cost, .A = ones({1, n}), .b = ones({1}), .lower = 0.0});   // on the simplex
/// With on_failure = report, elements that were not solved return their last iterate and gradient 0.
Var argmin(const QP<Var>& qp, const QPOptions& options = {});

/// The solution with its duals, all differentiable: shapes as in QPSolution. An absent part has no dual.
struct Optimum {
  Var z, nu, lambda, dual_lower, dual_upper, dual_lower_g;
};
/// As argmin, where duals are of use too: nu and lambda are the prices of the constraints.
Optimum optimum(const QP<Var>& qp, const QPOptions& options = {});

struct OptNetOptions {
  std::int64_t variables = 0;     // n, the size of the input and of the output
  std::int64_t inequalities = 0;  // rows of G
  std::int64_t equalities = 0;    // rows of A
  double eps = 1e-4;              // Q = L L' + eps I
  DType dtype = float32;
  QPOptions solver = {};
};

/// y = argmin_z 1/2 z'Qz + x'z  subject to  A z = b, G z <= h,  x [B, n] -> y [B, n].
/// Q = L L' + eps I, and h = G z0 + exp(log_s0), b = A z0, so that z0 is always feasible. L, G, A, z0 and log_s0 are
/// learned: L lower triangular from uniform +-1/sqrt(n), G and A uniform +-1, z0 = 0, s0 = 1 at first.
class OptNet : public Module {
 public:
  explicit OptNet(const OptNetOptions& options);
  Var operator()(const Var& x) const;

  Param L, G, z0, log_s0, A;

 private:
  OptNetOptions options_;
  Param lower_triangle_, eps_I_;
};

}  // namespace optnet
