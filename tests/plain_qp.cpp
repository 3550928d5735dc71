// Plain QPs as batches, their units, and the conditions (K2), (K16) and (K17) of docs/optnet.md.
#include "tests/plain_qp.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace {

using Values = std::vector<double>;
constexpr double inf = std::numeric_limits<double>::infinity();
std::size_t at(int i) { return static_cast<std::size_t>(i); }

/// A sum of products, and of their absolute values: what its rounding, and its error, are measured beside.
struct Sum {
  long double value = 0, size = 0;
  void add(double a, double b = 1) {
    const long double term = static_cast<long double>(a) * b;
    value += term, size += std::abs(term);
  }
};
using Sums = std::vector<Sum>;

void add_product(Sums& to, const Values& M, const Values& x) {
  const std::size_t n = x.size();
  for (std::size_t i = 0; i < to.size(); ++i)
    for (std::size_t j = 0; j < n; ++j) to[i].add(M[i * n + j], x[j]);
}
void add_transposed(Sums& to, const Values& M, const Values& x, double sign = 1) {
  const std::size_t n = to.size();
  for (std::size_t i = 0; i < x.size(); ++i)
    for (std::size_t j = 0; j < n; ++j) to[j].add(M[i * n + j], sign * x[i]);
}

/// A'nu + C'lambda, added to what is there.
void add_duals(Sums& to, const PlainQP& qp, const PlainAnswer& x) {
  add_transposed(to, qp.A, x.nu);
  add_transposed(to, qp.G, x.lambda), add_transposed(to, qp.G, x.dual_lower_g, -1);
  for (int j = 0; j < qp.n; ++j) to[at(j)].add(x.dual_upper[at(j)]), to[at(j)].add(-x.dual_lower[at(j)]);
}

/// Q z + q + A'nu + C'lambda, and A z - b.
Sums gradient_sums(const PlainQP& qp, const PlainAnswer& x) {
  Sums out(at(qp.n));
  add_product(out, qp.Q, x.z);
  for (int j = 0; j < qp.n; ++j) out[at(j)].add(qp.q[at(j)]);
  add_duals(out, qp, x);
  return out;
}
Sums equality_sums(const PlainQP& qp, const PlainAnswer& x) {
  Sums out(at(qp.p));
  add_product(out, qp.A, x.z);
  for (int i = 0; i < qp.p; ++i) out[at(i)].add(-qp.b[at(i)]);
  return out;
}

/// f(sign, C z of the row, limit, dual) of all sides: sign (C z) <= sign limit.
template <class F>
void each_side(const PlainQP& qp, const PlainAnswer& x, const F& f) {
  Sums z(at(qp.n)), Gz(at(qp.m));
  for (int j = 0; j < qp.n; ++j) z[at(j)].add(x.z[at(j)]);
  add_product(Gz, qp.G, x.z);
  const auto block = [&](double sign, const Sums& rows, const Values& limits, const Values& duals) {
    for (std::size_t i = 0; i < rows.size(); ++i) f(sign, rows[i], limits[i], duals[i]);
  };
  block(-1, z, qp.lower, x.dual_lower), block(1, z, qp.upper, x.dual_upper);
  block(-1, Gz, qp.lower_g, x.dual_lower_g), block(1, Gz, qp.h, x.lambda);
}

/// The largest violation of a block, and the largest size of what it is made of.
struct Block {
  double violation = 0, size = 0;
  void see(long double by, long double beside) {
    violation = std::max(violation, std::isfinite(by) ? static_cast<double>(by) : inf);
    size = std::max(size, static_cast<double>(beside));
  }
  void see(const Sum& sum) { see(std::abs(sum.value), sum.size); }
  double relative() const { return violation == inf ? inf : violation / (1 + size); }
};

}  // namespace

PlainQP in_units(PlainQP qp, const Units& units) {
  const auto n = at(qp.n);
  for (std::size_t j = 0; j < n; ++j) {
    const double D = units.variables[j];
    qp.q[j] *= units.objective / D, qp.lower[j] *= D, qp.upper[j] *= D;
    for (std::size_t i = 0; i < n; ++i) qp.Q[i * n + j] *= units.objective / (units.variables[i] * D);
    for (std::size_t i = 0; i < at(qp.m); ++i) qp.G[i * n + j] *= units.rows[i] / D;
    for (std::size_t i = 0; i < at(qp.p); ++i) qp.A[i * n + j] *= units.equalities[i] / D;
  }
  for (std::size_t i = 0; i < at(qp.m); ++i) qp.h[i] *= units.rows[i], qp.lower_g[i] *= units.rows[i];
  for (std::size_t i = 0; i < at(qp.p); ++i) qp.b[i] *= units.equalities[i];
  return qp;
}

PlainAnswer from_units(PlainAnswer x, const Units& units, QPStatus status) {
  // A certificate's value stays -1: that of (K16) is free of the objective, that of (K17) is counted in it.
  const double objective = status == QPStatus::primal_infeasible ? 1 : units.objective;
  const double z = status == QPStatus::dual_infeasible ? units.objective : 1;
  for (std::size_t j = 0; j < x.z.size(); ++j) {
    x.z[j] *= z / units.variables[j];
    x.dual_lower[j] *= units.variables[j] / objective, x.dual_upper[j] *= units.variables[j] / objective;
  }
  for (std::size_t i = 0; i < x.lambda.size(); ++i) x.lambda[i] *= units.rows[i] / objective, x.dual_lower_g[i] *= units.rows[i] / objective;
  for (std::size_t i = 0; i < x.nu.size(); ++i) x.nu[i] *= units.equalities[i] / objective;
  return x;
}

QP<Tensor> batch_of(const std::vector<PlainQP>& elements, Form form, bool shared) {
  const std::int64_t B = static_cast<std::int64_t>(elements.size()), n = elements[0].n, m = elements[0].m, p = elements[0].p;
  const auto stack = [&](bool once, const Shape& tail, const auto& values_of) {
    Values all;
    for (const PlainQP& qp : elements) {
      const Values one = values_of(qp);
      all.insert(all.end(), one.begin(), one.end());
      if (once) break;
    }
    std::vector<std::int64_t> shape(tail.begin(), tail.end());
    if (!once) shape.insert(shape.begin(), B);
    return from(Shape(shape), all);
  };
  const auto member = [&](Values PlainQP::*field, std::int64_t size, double absent = 0) {
    Tensor x = stack(false, {size}, [&](const PlainQP& qp) { return qp.*field; });
    const Values v = x.to_vector<double>();
    return absent != 0 && std::count(v.begin(), v.end(), absent) == x.numel() ? Tensor{} : x;
  };
  QP<Tensor> out{.q = member(&PlainQP::q, n)};
  const auto diagonal = [&](const PlainQP& qp) {
    Values d;
    for (int i = 0; i < (form == Form::scalar ? 1 : qp.n); ++i) d.push_back(qp.Q[at(i * (qp.n + 1))]);
    return d;
  };
  if (form == Form::dense) out.Q = stack(shared, {n, n}, [](const PlainQP& qp) { return qp.Q; });
  if (form == Form::diagonal) out.Q = stack(shared, shared ? Shape{n} : Shape{1, n}, diagonal);
  if (form == Form::scalar) out.Q = stack(shared, shared ? Shape{} : Shape{1, 1}, diagonal);
  out.lower = member(&PlainQP::lower, n, -inf), out.upper = member(&PlainQP::upper, n, inf);
  if (m) {
    out.G = stack(shared, {m, n}, [](const PlainQP& qp) { return qp.G; });
    out.lower_g = member(&PlainQP::lower_g, m, -inf);
    out.h = member(&PlainQP::h, m, out.lower_g.defined() ? inf : 0);
  }
  if (p) out.A = stack(shared, {p, n}, [](const PlainQP& qp) { return qp.A; }), out.b = member(&PlainQP::b, p);
  return out;
}

PlainQP element_of(const QP<Tensor>& qp, std::int64_t e) {
  const std::int64_t n = qp.q.size(-1), m = qp.G.defined() ? qp.G.size(-2) : 0, p = qp.A.defined() ? qp.A.size(-2) : 0;
  // Entries of x broadcast to size, where x has `own` axes without the batch's.
  const auto part = [&](const Tensor& x, int own, std::int64_t size, double absent = 0) {
    if (!x.defined()) return Values(static_cast<std::size_t>(size), absent);
    const Values v = x.to_vector<double>();
    const std::int64_t batch = x.rank() > own ? x.size(0) : 1, each = x.numel() / std::max<std::int64_t>(batch, 1), first = batch > 1 ? e * each : 0;
    Values out;
    for (std::int64_t i = 0; i < size; ++i) out.push_back(v[static_cast<std::size_t>(first + (each == 1 ? 0 : i))]);
    return out;
  };
  PlainQP out{static_cast<int>(n), static_cast<int>(m), static_cast<int>(p), Values(static_cast<std::size_t>(n * n)), part(qp.q, 1, n)};
  const bool dense = qp.Q.defined() && qp.Q.rank() >= 2 && qp.Q.size(-2) > 1;
  const Values Q = part(qp.Q, 2, dense ? n * n : n);
  for (std::size_t i = 0; i < at(out.n); ++i)
    for (std::size_t j = 0; j < at(out.n); ++j)
      out.Q[i * at(out.n) + j] = dense ? 0.5 * Q[i * at(out.n) + j] + 0.5 * Q[j * at(out.n) + i] : i == j ? Q[i] : 0;
  out.G = part(qp.G, 2, m * n), out.A = part(qp.A, 2, p * n), out.b = part(qp.b, 1, p);
  out.h = part(qp.h, 1, m, inf), out.lower_g = part(qp.lower_g, 1, m, -inf);
  out.lower = part(qp.lower, 1, n, -inf), out.upper = part(qp.upper, 1, n, inf);
  return out;
}

PlainAnswer answer_of(const QPSolution& s, std::int64_t e, const PlainQP& qp) {
  const auto row = [&](const Tensor& x, std::int64_t size) {
    if (!x.defined()) return Values(static_cast<std::size_t>(size));
    const Values v = x.to_vector<double>();
    return Values(v.begin() + e * size, v.begin() + (e + 1) * size);
  };
  return {row(s.z, qp.n), row(s.nu, qp.p), row(s.lambda, qp.m), row(s.dual_lower, qp.n), row(s.dual_upper, qp.n), row(s.dual_lower_g, qp.m)};
}

bool all_finite(const Tensor& x) {
  const Values v = x.defined() ? x.to_vector<double>() : Values{};
  return std::all_of(v.begin(), v.end(), [](double value) { return std::isfinite(value); });
}

bool all_finite(const QPSolution& s) {
  for (const Tensor* x : {&s.z, &s.nu, &s.lambda, &s.dual_lower, &s.dual_upper, &s.dual_lower_g})
    if (!all_finite(*x)) return false;
  for (const Values* x : {&s.objective, &s.primal_residual, &s.dual_residual, &s.gap})
    for (double value : *x)
      if (!std::isfinite(value)) return false;
  return true;
}

bool all_finite(const QP<Tensor>& qp) {
  const auto all = fields(qp);
  return std::all_of(all.begin(), all.end(), [](const Tensor* x) { return all_finite(*x); });
}

QP<Tensor> gradient_of_sums(const QP<Tensor>& qp, const QPSolution& s) {
  const auto one = [](const Tensor& x) { return x.defined() ? ones(x.shape(), x.dtype()) : Tensor{}; };
  return vjp(qp, s, {one(s.z), one(s.nu), one(s.lambda), one(s.dual_lower), one(s.dual_upper), one(s.dual_lower_g)});
}

double kkt_error(const PlainQP& qp, const PlainAnswer& x) {
  const Sums gradient = gradient_sums(qp, x), equalities = equality_sums(qp, x);
  Block stationary, feasible, signs, complementary;
  for (const Sum& sum : gradient) stationary.see(sum);
  for (const Sum& sum : equalities) feasible.see(sum);
  double objective = 0;
  for (int j = 0; j < qp.n; ++j) objective += std::abs(x.z[at(j)]) * static_cast<double>(gradient[at(j)].size);
  each_side(qp, x, [&](double sign, const Sum& row, double limit, double dual) {
    if (std::isinf(limit)) return signs.see(dual == 0 ? 0 : inf, 0);
    const long double slack = sign * (limit - row.value);
    feasible.see(slack < 0 ? -slack : slack - slack, row.size + std::abs(limit));
    signs.see(dual < 0 ? -dual : dual - dual, std::abs(dual));
    complementary.see(std::abs(slack * dual), objective);
  });
  return std::max({stationary.relative(), feasible.relative(), signs.relative(), complementary.relative()});
}

KktCheck kkt(const PlainQP& qp, const PlainAnswer& x) {
  Block all;
  for (const Sums& block : {gradient_sums(qp, x), equality_sums(qp, x)})
    for (const Sum& sum : block) all.see(sum);
  KktCheck out;
  each_side(qp, x, [&](double sign, const Sum& row, double limit, double dual) {
    if (std::isinf(limit)) return all.see(std::abs(dual), 0);
    const double slack = static_cast<double>(sign * (limit - row.value));
    all.see(-slack, 0), all.see(-dual, 0), all.see(std::abs(slack * dual), 0);
    out.separation = std::min(out.separation, std::max(slack, dual));
    out.active += dual > slack;
  });
  out.residual = all.violation;
  return out;
}

double infeasibility_error(const PlainQP& qp, const PlainAnswer& x) {
  Sums rest(at(qp.n));
  add_duals(rest, qp, x);
  Block all;
  for (const Sum& sum : rest) all.see(std::abs(sum.value), 0);
  Sum value;
  for (int i = 0; i < qp.p; ++i) value.add(qp.b[at(i)], x.nu[at(i)]);
  each_side(qp, x, [&](double sign, const Sum&, double limit, double dual) {
    if (std::isinf(limit)) return all.see(dual == 0 ? 0 : inf, 0);
    value.add(sign * limit, dual), all.see(-dual, 0);
  });
  all.see(std::abs(value.value + 1), 0);
  return all.violation;
}

double unboundedness_error(const PlainQP& qp, const PlainAnswer& x) {
  Sums Qz(at(qp.n)), Az(at(qp.p));
  add_product(Qz, qp.Q, x.z), add_product(Az, qp.A, x.z);
  Block all;
  for (const Sum& sum : Qz) all.see(std::abs(sum.value), 0);
  for (const Sum& sum : Az) all.see(std::abs(sum.value), 0);
  each_side(qp, x, [&](double sign, const Sum& row, double limit, double) {
    if (!std::isinf(limit)) all.see(sign * row.value, 0);
  });
  Sum value;
  for (int j = 0; j < qp.n; ++j) value.add(qp.q[at(j)], x.z[at(j)]);
  all.see(std::abs(value.value + 1), 0);
  return all.violation;
}

double error_of_claim(const PlainQP& qp, const PlainAnswer& x, QPStatus status) {
  if (status == QPStatus::solved) return kkt_error(qp, x);
  if (status == QPStatus::primal_infeasible) return infeasibility_error(qp, x);
  return status == QPStatus::dual_infeasible ? unboundedness_error(qp, x) : inf;
}
