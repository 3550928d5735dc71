// Each layer as its quadratic program.
#include "layers/projections.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace optnet {
namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

/// Names, in the op's own terms instead of argmin's, the first of the numbers for which `holds` is not 1.
void check_all(const Tensor& holds, const char* op, const char* rule, const Tensor& numbers) {
  if (holds.numel() == 0 || min(holds).item() == 1) return;
  const std::vector<double> good = holds.to(float64).to_vector<double>();
  const auto first = static_cast<std::size_t>(std::find(good.begin(), good.end(), 0) - good.begin());
  check(false, op, ": ", rule, "; got ", (numbers.to(float64) + 0.0 * holds.to(float64)).to_vector<double>()[first]);
}

/// f of x as a matrix [rows, n], in x's shape again.
template <class F>
Var by_rows(const char* op, const Var& x, const F& f) {
  check(x.defined() && x.rank() >= 1 && x.size(-1) > 0, op, ": input must be [..., n]; got ", x.shape());
  check_all(less(abs(x.value()), infinity), op, "input must be finite", x.value());
  if (x.value().numel() == 0) return x;
  if (x.rank() <= 2) return f(x);
  const std::int64_t n = x.size(-1);
  return reshape(f(reshape(x, {x.value().numel() / n, n})), x.shape());
}

/// (D z)_i = z_{i+1} - z_i.  [n-1, n]
Tensor first_differences(std::int64_t n, DType dtype, Device device) {
  const Tensor I = eye(n, dtype);
  return (slice(I, 0, 1, n) - slice(I, 0, 0, n - 1)).to(device);
}

Tensor first_differences_of(const Var& x) { return first_differences(x.size(-1), x.dtype(), x.value().device()); }

}  // namespace

Var project_simplex(const Var& x, const Var& total) {
  return by_rows("project_simplex", x, [&](const Var& rows) {
    check_all(greater_equal(total.value(), 0.0), "project_simplex", "total must not be negative", total.value());
    const Tensor sum = ones({1, x.size(-1)}, x.dtype(), x.value().device());
    const Optimum at = optimum({.Q = 1.0, .q = -rows, .A = sum, .b = total, .lower = 0.0});
    // Of z and its dual one is 0 but for rounding, the smaller one: a z of that kind becomes an exact 0. Its gradient is 0 already.
    return relu(at.z) * less_equal(at.dual_lower.value(), at.z.value());
  });
}

Var project_box(const Var& x, const Var& low, const Var& high) {
  return by_rows("project_box", x, [&](const Var& rows) {
    check_all(less_equal(low.value().to(float64), high.value().to(float64)), "project_box", "low must be at most high", low.value());
    return argmin({.Q = 1.0, .q = -rows, .lower = low, .upper = high});
  });
}

Var project_polyhedron(const Var& x, const Var& G, const Var& h) { return argmin({.Q = 1.0, .q = -x, .G = G, .h = h}); }

Var sparsemax(const Var& x) { return project_simplex(x); }

// Not by its dual, whose matrix D D' has a condition number near n^2 / 2: with n = 1000 and x falling not all of those are solved.
Var isotonic(const Var& x) {
  return by_rows("isotonic", x, [&](const Var& rows) {
    if (rows.size(-1) == 1) return rows;
    return argmin({.Q = 1.0, .q = -rows, .G = first_differences_of(rows), .lower_g = 0.0});
  });
}

Var total_variation(const Var& y, const Var& lambda) {
  check(y.defined() && y.rank() >= 1 && y.size(-1) > 0, "total_variation: input must be [..., n]; got ", y.shape());
  return total_variation(y, lambda, first_differences_of(y));
}

// The dual: argmin_u 1/2 |D'u|^2 - (D y)'u with |u| <= lambda, and z = y - D'u.
Var total_variation(const Var& y, const Var& lambda, const Var& D) {
  check(D.defined() && D.rank() == 2 && y.defined() && y.rank() >= 1 && D.size(1) == y.size(-1),
        "total_variation: needs y [..., n] and D [k, n]; got ", y.shape(), " and ", D.shape());
  if (D.size(0) == 0) return y;
  return by_rows("total_variation", y, [&](const Var& rows) {
    check_all(greater_equal(lambda.value(), 0.0), "total_variation", "lambda must not be negative", lambda.value());
    const Var Dy = matmul(rows.rank() == 1 ? reshape(rows, {1, -1}) : rows, D, {.transpose_b = true});
    const Var u = argmin({.Q = matmul(D, D, {.transpose_b = true}), .q = -Dy, .lower = -lambda, .upper = lambda});
    return rows - reshape(matmul(u, D), rows.shape());
  });
}

TotalVariation::TotalVariation(const TotalVariationOptions& options) : size_(options.size), learn_D_(options.learn_D) {
  check(size_ > 0, "TotalVariation: size must be positive; got ", size_);
  check(options.lambda > 0 && std::isfinite(options.lambda), "TotalVariation: lambda must be positive and finite; got ", options.lambda);
  log_lambda = param("log_lambda", full({}, std::log(options.lambda), options.dtype));
  const Tensor differences = first_differences(size_, options.dtype, Device::cpu);
  D = learn_D_ ? param("D", differences) : constant(differences);
}

Var TotalVariation::operator()(const Var& y) const {
  check(y.rank() >= 1 && y.size(-1) == size_, "TotalVariation: input must be [..., ", size_, "]; got ", y.shape());
  return total_variation(y, exp(Var(log_lambda)), learn_D_ ? Var(D) : Var(D.value()));
}

}  // namespace optnet
