// Implicit gradients against central differences.
#include "examples/qp_gradient.h"

#include "examples/qp_check.h"
#include "framework/ops.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace qp_check {

using namespace optnet;
using Values = std::vector<double>;

namespace {

constexpr double infinity = std::numeric_limits<double>::infinity(), nan = std::numeric_limits<double>::quiet_NaN();

double dot(const Tensor& x, const Tensor& y) { return sum(x * y).item(); }
Tensor finite(const Tensor& x) { return less(abs(x), infinity); }

/// For z's entries, then the rows of G: 1 or -1 where the upper or the lower side holds, 2 where both are one, else 0.
std::vector<int> active_rows(const QP<Tensor>& qp, const Answer& at) {
  std::vector<int> out;
  const auto block = [&](const Values& x, const Values& low, const Values& high, const Values& dual_low, const Values& dual_high) {
    for (std::size_t i = 0; i < x.size(); ++i)
      out.push_back(low[i] == high[i] ? 2 : dual_high[i] > high[i] - x[i] ? 1 : dual_low[i] > x[i] - low[i] ? -1 : 0);
  };
  const std::int64_t n = qp.q.size(-1), m = row_count(qp.G);
  block(at.z, values(qp.lower, n, -infinity), values(qp.upper, n, infinity), at.dual_lower, at.dual_upper);
  block(product(qp.G, at.z), values(qp.lower_g, m, -infinity), values(qp.h, m, infinity), at.dual_lower_g, at.lambda);
  return out;
}

/// Whether no direction is free of Q, of A and of the active rows: else z can move at no cost, and has no derivative.
bool unique(const QP<Tensor>& qp, const std::vector<int>& active) {
  const std::int64_t n = qp.q.size(-1), m = row_count(qp.G);
  const Tensor held = abs(from({n + m, 1}, Values(active.begin(), active.end()))), I = eye(n, float64);
  const auto unit_rows = [](const Tensor& x) { return x / sqrt(maximum(sum(x * x, {1}, {.keepdims = true}), 1e-300)); };
  Tensor H = (slice(held, 0, 0, n) - 1e-12) * I;
  if (qp.Q.defined()) H = H + (row_count(qp.Q) > 1 ? qp.Q : qp.Q * I) / std::max(max(abs(qp.Q)).item(), 1e-300);
  const auto add_rows = [&](const Tensor& x) { H = H + matmul(x, x, {.transpose_a = true}); };
  if (row_count(qp.A)) add_rows(unit_rows(qp.A));
  if (m) add_rows(unit_rows(qp.G) * slice(held, 0, n, n + m));
  try {
    return cholesky(H).defined();
  } catch (const Error&) {
    return false;
  }
}

/// A way through problems, one for each t, with the given one at t = 0.
struct Motion {
  QP<Tensor> by;  // for Q: S

  /// Along field i, by as much as its largest entry; sides that are equal move together.
  Motion(const QP<Tensor>& qp, std::size_t i, Random& random) {
    const Tensor& x = *fields(qp)[i];
    const Tensor entries = where(finite(x), x, zeros(x.shape(), float64)), direction = normal(random, x.shape(), 0, 1, float64) * finite(x);
    const double largest = max(abs(entries)).item(), size = i == 0 || largest == 0 ? 1 : largest;
    const Tensor d = *fields(by)[i] = direction * (size / std::max(std::sqrt(dot(direction, direction)), 1e-300));
    const auto together = [&](const Tensor& mine, const Tensor& opposite, Tensor& moves) {
      if (&mine == &x && opposite.defined()) moves = d * equal(mine, opposite);
    };
    together(qp.lower, qp.upper, by.upper), together(qp.upper, qp.lower, by.lower);
    together(qp.lower_g, qp.h, by.h), together(qp.h, qp.lower_g, by.lower_g);
  }

  Tensor Q(const Tensor& at_0, double t) const {
    if (row_count(at_0) == 1) return at_0 * (1 + t * by.Q) * (1 + t * by.Q);
    const Tensor W = eye(at_0.size(-1), float64) + t * by.Q;
    return matmul(matmul(W, at_0), W, {.transpose_b = true});
  }

  /// The batch of the problems at these t.
  QP<Tensor> at(const QP<Tensor>& qp, const Values& ts) const {
    QP<Tensor> out = qp;
    for (std::size_t i = 0; i < fields(qp).size(); ++i) {
      if (!fields(by)[i]->defined()) continue;
      std::vector<Tensor> points;
      for (double t : ts) points.push_back(i == 0 ? Q(qp.Q, t) : *fields(qp)[i] + t * *fields(by)[i]);
      *fields(out)[i] = stack(points);
    }
    return out;
  }

  /// The gradient's part along the motion at t = 0.
  double along(const QP<Tensor>& qp, const QP<Tensor>& gradient) const {
    if (by.Q.defined()) {
      const Tensor SQ = row_count(qp.Q) == 1 ? by.Q * qp.Q : matmul(by.Q, qp.Q);
      return dot(gradient.Q, row_count(qp.Q) == 1 ? 2.0 * SQ : SQ + matmul(qp.Q, by.Q, {.transpose_b = true}));
    }
    double out = 0;
    for (std::size_t i = 0; i < fields(qp).size(); ++i)
      if (fields(by)[i]->defined()) out += dot(*fields(gradient)[i], *fields(by)[i]);
    return out;
  }
};

struct Difference {
  double value = nan, spread = infinity;  // spread: by how much neighbouring orders differ
};

/// The derivative at 0 from f(t) and f(-t) at t, t/4, t/16, ...: Ridders' extrapolation. NaN: no such value.
Difference extrapolate(double t, const Values& plus, const Values& minus) {
  Difference best;
  Values row;
  for (std::size_t k = 0; k < plus.size(); ++k, t /= 4) {
    Values next{(plus[k] - minus[k]) / (2 * t)};
    if (!std::isfinite(next[0])) next.clear();
    double factor = 1;
    for (std::size_t j = 0; j < row.size() && !next.empty(); ++j) {
      next.push_back(next[j] + (next[j] - row[j]) / ((factor *= 16) - 1));
      const double spread = std::max(std::abs(next[j + 1] - next[j]), std::abs(next[j + 1] - row[j]));
      if (spread < best.spread) best = {next[j + 1], spread};
    }
    row = next;
  }
  return best;
}

/// The derivative of c'z along the motion, from problems whose active set is the one given.
Difference central_difference(const QP<Tensor>& qp, const Motion& motion, const Tensor& c, const std::vector<int>& active, const QPOptions& options) {
  constexpr int steps = 8;
  constexpr double first = 1e-2;
  Values ts;
  for (int k = 0; k < steps; ++k) ts.push_back(first * std::pow(0.25, k)), ts.push_back(-ts.back());
  const QP<Tensor> points = motion.at(qp, ts);
  QPOptions precise = options;
  precise.tolerance = std::min(options.tolerance, 1e-12);
  const auto solved = [](QPStatus status) { return status == QPStatus::solved; };
  const QPSolution best = solve(points, precise);
  const QPSolution usual = std::all_of(best.status.begin(), best.status.end(), solved) ? best : solve(points, options);
  Values side[2];
  for (std::size_t k = 0; k < ts.size(); ++k) {
    const bool reached = solved(best.status[k]);
    const auto e = static_cast<std::int64_t>(k);
    const QP<Tensor> moved = element(points, e);
    const Answer at = answer(moved, reached ? best : usual, e);
    const bool same = (reached || solved(usual.status[k])) && active_rows(moved, at) == active;
    side[k % 2].push_back(same ? dot(c, from({c.numel()}, at.z)) : nan);
  }
  return extrapolate(first, side[0], side[1]);
}

}  // namespace

GradientCheck check_gradient(const QP<Tensor>& qp, const QPOptions& given, std::uint64_t seed) {
  QPOptions options = given;
  options.on_failure = OnFailure::report, options.differentiable = true;
  const QPSolution solution = solve(qp, options);
  options.differentiable = false;
  if (solution.status[0] != QPStatus::solved) return {nan, std::string("not solved in float64: ") + name(solution.status[0])};
  const Answer at = answer(qp, solution, 0);
  const std::vector<int> active = active_rows(qp, at);
  if (!unique(qp, active)) return {nan, "degenerate: z is not unique"};
  Random random{seed};
  const Tensor c = normal(random, {qp.q.numel()}, 0, 1, float64), cz = c * from(c.shape(), at.z);
  const QP<Tensor> gradient = vjp(qp, solution, {.z = c});
  GradientCheck out;
  for (std::size_t i = 0; i < fields(qp).size(); ++i) {
    const Tensor& x = *fields(qp)[i];
    if (x.numel() == 0 || max(finite(x)).item() == 0) continue;
    const Motion motion(qp, i, random);
    const double implicit = motion.along(qp, gradient);
    const Difference difference = central_difference(qp, motion, c, active, options);
    const double size = std::max({1.0, std::sqrt(dot(cz, cz)), std::abs(implicit), std::abs(difference.value)});
    if (!(difference.spread <= 1e-3 * size))
      return {nan, std::string("degenerate: however little ") + qp_field_names[i] + " moves, the active set changes or there is no solution"};
    out.error = larger(out.error, std::abs(implicit - difference.value) / size);
  }
  return out;
}

}  // namespace qp_check
