// What ./qp_solve says about an answer, from the problem and the answer alone: nothing here relies on what the solver says
// of itself.
#pragma once

#include "solvers/qp.h"

#include <vector>

namespace qp_check {

/// One element of a batch in float64 without a batch axis: Q [n, n], [1, n] or [1, 1], vectors in full length.
optnet::QP<optnet::Tensor> element(const optnet::QP<optnet::Tensor>& qp, std::int64_t e);

/// Its answer in full length: 0 for duals of sides that are absent.
struct Answer {
  std::vector<double> z, nu, lambda, dual_lower, dual_upper, dual_lower_g;
};
Answer answer(const optnet::QP<optnet::Tensor>& element, const optnet::QPSolution& solution, std::int64_t e);

/// In the data as given, infinity norms:
///     primal_residual   |A z - b|, and how far z lies outside a side
///     dual_residual     |Q z + q + A'nu + G'(lambda - dual_lower_g) + dual_upper - dual_lower|, and how far a dual lies below 0
///     gap               the sum of |slack times dual| over all sides
/// NaN anywhere stays NaN; a dual of a side that does not exist makes the gap infinite.
struct Quality {
  double objective = 0, primal_residual = 0, dual_residual = 0, gap = 0;
};
Quality measure(const optnet::QP<optnet::Tensor>& element, const Answer& at);

/// What the above is made of: rows of a matrix, 0 if absent; x, or `otherwise` in its place; M x or M'x; the larger, NaN if any is.
std::int64_t row_count(const optnet::Tensor& matrix);
std::vector<double> values(const optnet::Tensor& x, std::int64_t size, double otherwise);
std::vector<double> product(const optnet::Tensor& M, const std::vector<double>& x, bool transposed = false);
double larger(double a, double b);

}  // namespace qp_check
