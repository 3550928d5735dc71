// Elements of a batch, their answers, and how good those are.
#include "examples/qp_check.h"

#include "framework/ops.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace qp_check {

using namespace optnet;
using Values = std::vector<double>;

std::int64_t row_count(const Tensor& matrix) { return matrix.defined() ? matrix.size(-2) : 0; }

Values values(const Tensor& x, std::int64_t size, double otherwise) {
  return x.defined() ? x.to_vector<double>() : Values(static_cast<std::size_t>(size), otherwise);
}

// Long sums in extended precision: what is reported is the answer's error, not the sum's.
Values product(const Tensor& M, const Values& x, bool transposed) {
  const std::size_t m = static_cast<std::size_t>(row_count(M)), n = m ? static_cast<std::size_t>(M.size(-1)) : 0;
  const double* entries = m ? M.data<double>() : nullptr;
  std::vector<long double> sums(transposed ? n : m);
  for (std::size_t i = 0; i < m; ++i)
    for (std::size_t j = 0; j < n; ++j) sums[transposed ? j : i] += static_cast<long double>(entries[i * n + j]) * x[transposed ? i : j];
  return Values(sums.begin(), sums.end());
}

double larger(double a, double b) { return std::isnan(a) || a >= b ? a : b; }

namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

/// x of element e alone, where a field without a batch axis has `own` axes.
Tensor part(const Tensor& x, int own, std::int64_t e) {
  if (!x.defined() || x.rank() <= own) return x.defined() ? x.to(float64) : x;
  const Tensor one = slice(x, 0, x.size(0) > 1 ? e : 0, x.size(0) > 1 ? e + 1 : 1);
  return one.reshape(Shape(x.shape().begin() + 1, x.shape().end())).to(float64);
}

Tensor vector(const Tensor& x, std::int64_t e, std::int64_t size) {
  return x.defined() ? zeros({size}, float64) + part(x, 1, e) : x;
}

/// What counts of Q is its symmetric part.
Values product_Q(const Tensor& Q, const Values& z) {
  Values out(z.size(), 0);
  if (!Q.defined()) return out;
  const bool dense = row_count(Q) > 1;
  const Values d = dense ? product(Q, z) : Q.to_vector<double>(), e = dense ? product(Q, z, true) : Values{};
  for (std::size_t i = 0; i < z.size(); ++i) out[i] = dense ? 0.5 * (d[i] + e[i]) : d[d.size() > 1 ? i : 0] * z[i];
  return out;
}

}  // namespace

QP<Tensor> element(const QP<Tensor>& qp, std::int64_t e) {
  const std::int64_t n = qp.q.size(-1), m = row_count(qp.G), p = row_count(qp.A);
  QP<Tensor> out;
  out.Q = part(qp.Q, 2, e);
  if (out.Q.defined() && out.Q.rank() < 2) out.Q = out.Q.reshape({1, out.Q.numel()});
  out.q = vector(qp.q, e, n);
  out.G = part(qp.G, 2, e), out.h = vector(qp.h, e, m), out.lower_g = vector(qp.lower_g, e, m);
  out.A = part(qp.A, 2, e), out.b = vector(qp.b, e, p);
  out.lower = vector(qp.lower, e, n), out.upper = vector(qp.upper, e, n);
  return out;
}

Answer answer(const QP<Tensor>& qp, const QPSolution& s, std::int64_t e) {
  const std::int64_t n = qp.q.size(-1), m = row_count(qp.G), p = row_count(qp.A);
  const auto row = [&](const Tensor& x, std::int64_t size) { return values(vector(x, e, size), size, 0); };
  return {row(s.z, n), row(s.nu, p), row(s.lambda, m), row(s.dual_lower, n), row(s.dual_upper, n), row(s.dual_lower_g, m)};
}

Quality measure(const QP<Tensor>& qp, const Answer& at) {
  const Values Qz = product_Q(qp.Q, at.z), q = values(qp.q, 0, 0), Az = product(qp.A, at.z), b = values(qp.b, 0, 0);
  Values y = at.lambda;
  for (std::size_t i = 0; i < y.size(); ++i) y[i] -= at.dual_lower_g[i];
  const Values Anu = product(qp.A, at.nu, true), Gy = product(qp.G, y, true);
  Quality out;
  for (std::size_t i = 0; i < q.size(); ++i) {
    out.objective += (0.5 * Qz[i] + q[i]) * at.z[i];
    const double from_rows = (Anu.empty() ? 0 : Anu[i]) + (Gy.empty() ? 0 : Gy[i]);
    out.dual_residual = larger(out.dual_residual, std::abs(Qz[i] + q[i] + from_rows + at.dual_upper[i] - at.dual_lower[i]));
  }
  for (std::size_t i = 0; i < Az.size(); ++i) out.primal_residual = larger(out.primal_residual, std::abs(Az[i] - b[i]));
  const auto sides = [&](const Values& x, const Tensor& limit, const Values& duals, double sign) {
    const Values limits = values(limit, static_cast<std::int64_t>(x.size()), sign * infinity);
    for (std::size_t i = 0; i < x.size(); ++i) {
      const double slack = sign * (limits[i] - x[i]);
      out.primal_residual = larger(out.primal_residual, -slack);
      out.dual_residual = larger(out.dual_residual, -duals[i]);
      if (duals[i] != 0) out.gap += std::abs(slack * duals[i]);
    }
  };
  const Values Gz = product(qp.G, at.z);
  sides(at.z, qp.lower, at.dual_lower, -1), sides(at.z, qp.upper, at.dual_upper, 1);
  sides(Gz, qp.lower_g, at.dual_lower_g, -1), sides(Gz, qp.h, at.lambda, 1);
  return out;
}

}  // namespace qp_check
