// Whether implicit gradients are those of central differences, for ./qp_solve --check-gradient.
#pragma once

#include "solvers/qp.h"

#include <string>

namespace qp_check {

/// The gradient of c'z, c random, by vjp() and by central differences, along one random direction in each field: A, G and
/// vectors move along a straight line, Q along (I + tS) Q (I + tS)', which is semidefinite for any t. Infinite sides stay; a side
/// that equals its opposite moves together with it. Differences are extrapolated over falling steps at which every problem is
/// solved with the active set of the original.
///     error = max over fields of  |vjp - difference| / max(1, |c z| (elementwise, 2-norm), |vjp|, |difference|)
/// NaN, with a reason, where derivatives do not exist or differences cannot tell.
struct GradientCheck {
  double error = 0;
  std::string reason;
};
GradientCheck check_gradient(const optnet::QP<optnet::Tensor>& element, const optnet::QPOptions& options, std::uint64_t seed);

}  // namespace qp_check
