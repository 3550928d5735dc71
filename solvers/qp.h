// Batches of convex quadratic programs and their derivatives, usable without the tape. For each element
//     minimise 1/2 z'Qz + q'z   subject to   A z = b,   lower_g <= G z <= h,   lower <= z <= upper
// by an active-set method where the problem suits it, else by a primal-dual interior-point method; gradients by
// implicit differentiation (Amos and Kolter 2017). docs/optnet.md derives all three with the names used here, and
// docs/solver.md says what was chosen and why.
#pragma once

#include "framework/tensor.h"

#include <array>
#include <memory>
#include <vector>

namespace optnet {

/// The parameters of a QP: as data (Tensor), as differentiable data (Var), or as the gradient with respect to
/// them (Tensor again). q is needed and gives n; all others may be absent; b goes with A, and h or lower_g with G.
///
/// A parameter is shared by the batch, or has a leading batch axis:
///     Q              [n, n], [n] (diagonal), [] (multiple of I); or [B, n, n], [B, 1, n], [B, 1, 1]; what
///                    counts is its symmetric part
///     G, A           [m, n], [p, n]; or [B, m, n], [B, p, n]
///     q h b lower upper lower_g   [n], [m], [p], [n], [n], [m]; or [B, ...]; all but q broadcast, so [] is a number
///                    for all. Entries of h, lower, upper and lower_g may be infinite: there is no such side.
template <class T>
struct QP {
  T Q{}, q{}, G{}, h{}, A{}, b{}, lower{}, upper{}, lower_g{};
};

inline constexpr std::array qp_field_names{"Q", "q", "G", "h", "A", "b", "lower", "upper", "lower_g"};
using QPFlags = std::array<bool, qp_field_names.size()>;

/// The members in the order of qp_field_names: the one place that lists them.
template <class Problem>
auto fields(Problem& qp) {
  return std::array{&qp.Q, &qp.q, &qp.G, &qp.h, &qp.A, &qp.b, &qp.lower, &qp.upper, &qp.lower_g};
}

enum class QPStatus : std::uint8_t { solved, primal_infeasible, dual_infeasible, max_iterations, numerical };
const char* name(QPStatus);

enum class OnFailure : std::uint8_t { raise, report };

struct QPOptions {
  double tolerance = 1e-9;        // on residuals and gap, beside the size of the data; 100 times that where rounding allows no better
  int max_iterations = 200;
  double regularization = 1e-9;   // rho = delta of (K4)
  int threads = 0;                // 0: as many as threads() says; the answer does not depend on it
  bool active_set = true;         // guess the active set first, where the problem suits it
  bool verbose = false;           // a line an iteration of each problem on standard error; one thread
  OnFailure on_failure = OnFailure::raise;  // or report: statuses instead of an error
  bool differentiable = false;    // keep what vjp() needs
  std::shared_ptr<const struct QPSolution> warm_start = nullptr;  // of a problem of the same shape, to begin at; absent duals are 0
};

/// Per element of the batch; without a batch axis in any parameter, tensors have none and vectors one entry.
/// Where an element is primal_infeasible, nu and the duals are its certificate, scaled to value -1 (K16); where it is
/// dual_infeasible, z is its certificate, scaled to q'z = -1 (K17).
struct QPSolution {
  Tensor z;                             // [B, n]
  Tensor nu, lambda;                    // [B, p], [B, m]: duals of A z = b and G z <= h
  Tensor dual_lower, dual_upper;        // [B, n]: duals of the bounds
  Tensor dual_lower_g;                  // [B, m]: duals of lower_g <= G z
  std::vector<QPStatus> status;
  std::vector<int> iterations;
  std::vector<double> objective;        // 1/2 z'Qz + q'z
  std::vector<double> primal_residual, dual_residual;  // infinity norms, in the original data
  std::vector<double> gap;              // s'lambda
  std::shared_ptr<const struct QPFactors> factors;     // with .differentiable: see vjp()
};

/// Solves a batch. Errors: shapes, dtypes or numbers (NaN) that make no sense; and, unless on_failure is report,
/// any element that has no solution, named with the reason. Each element's answer is the same, bit for bit, alone,
/// in any batch and with any number of threads. float32 is solved in double and rounded at the end; an answer beyond
/// float32 is none: numerical.
QPSolution solve(const QP<Tensor>& qp, const QPOptions& options = {});

/// The gradient of a loss with respect to the solution: the seed of the backward pass. Absent means zero.
struct QPSeed {
  Tensor z{}, nu{}, lambda{}, dual_lower{}, dual_upper{}, dual_lower_g{};
};

/// The gradient of that loss with respect to every parameter, each in its parameter's own shape; parameters shared
/// by the batch receive the sum. Reuses the factorisations that solve() kept (.differentiable = true). Elements
/// that were not solved contribute 0. `wanted` leaves out fields, in the order of qp_field_names.
QP<Tensor> vjp(const QP<Tensor>& qp, const QPSolution& solution, const QPSeed& seed,
               const QPFlags& wanted = {true, true, true, true, true, true, true, true, true});

}  // namespace optnet
