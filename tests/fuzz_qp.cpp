// A libFuzzer target, built by `make fuzz`: bytes become a small batch of problems, in any shapes and numbers, and options.
// Either an Error comes out, or a solution without NaN in which what is called solved is solved, what is called infeasible or
// unbounded is so, and whose gradients are finite.
#include "tests/plain_qp.h"

#include <fuzzer/FuzzedDataProvider.h>

#include <cmath>
#include <cstdlib>
#include <iostream>
#include <limits>

namespace {

constexpr double inf = std::numeric_limits<double>::infinity();

/// Numbers and shapes from bytes.
struct Source {
  FuzzedDataProvider bytes;
  bool wild;  // also numbers that are huge, tiny or none at all; otherwise multiples of 1/16 below 8

  int below(int n) { return bytes.ConsumeIntegralInRange(0, n - 1); }
  bool one_in(int n) { return below(n) == n - 1; }
  double number() {
    if (!wild || !one_in(8)) return bytes.ConsumeIntegral<std::int8_t>() / 16.0;
    constexpr double special[] = {inf, -inf, std::numeric_limits<double>::quiet_NaN(), 1e308, -1e308, 5e-324, -0.0, 1e160, 1e16, -1e16, 1e8, 1e-8, 1e-16, 1e-160};
    return one_in(4) ? bytes.ConsumeFloatingPoint<double>() : special[below(std::size(special))];
  }
  Tensor tensor(const Shape& shape) {
    std::vector<double> x(static_cast<std::size_t>(shape.numel()));
    for (double& value : x) value = number();
    return from(shape, x);
  }
  /// A field of these axes: shared or each element's own, and now and then of another shape.
  Tensor field(std::vector<std::int64_t> axes, std::int64_t batch) {
    if (one_in(3)) axes.insert(axes.begin(), one_in(5) ? 1 : batch);
    if (wild && one_in(30)) axes.assign(static_cast<std::size_t>(below(4)), below(4));
    return tensor(Shape(axes));
  }
};

/// V'V for the dense Q's entries that were drawn: positive semidefinite.
Tensor squared(const Tensor& Q) { return matmul(Q, Q, {.transpose_a = true}); }

QP<Tensor> problem(Source& r) {
  const std::int64_t n = r.below(7) + 1, m = r.below(8) + (r.one_in(4) ? 20 : 0), p = r.below(4), B = 1 + r.below(3);  // few rows and many
  QP<Tensor> qp{.q = r.field({n}, B)};
  switch (r.below(5)) {
    case 0: qp.Q = r.field({n, n}, B); break;
    case 1: qp.Q = r.field({n}, B); break;
    case 2: qp.Q = r.field({}, B); break;
    case 3: qp.Q = squared(r.tensor({1 + r.below(7), n})); break;
  }
  if (m || r.one_in(20)) qp.G = r.field({m, n}, B);
  if (qp.G.defined() && !r.one_in(4)) qp.h = r.one_in(6) ? r.field({}, B) : r.field({m}, B);
  if (qp.G.defined() && r.one_in(3)) qp.lower_g = qp.h.defined() && r.one_in(3) ? qp.h : r.field({m}, B);
  if (p) qp.A = r.field({p, n}, B), qp.b = r.field({p}, B);
  if (r.one_in(3)) qp.lower = r.one_in(3) ? r.field({}, B) : r.field({n}, B);
  if (r.one_in(3)) qp.upper = qp.lower.defined() && r.one_in(5) ? qp.lower : r.field({n}, B);
  if (r.one_in(10))
    for (Tensor* x : fields(qp))
      if (x->defined()) *x = x->to(float32);
  return qp;
}

QPOptions options(Source& r) {
  QPOptions out{.threads = 1, .active_set = !r.one_in(3), .on_failure = r.one_in(10) ? OnFailure::raise : OnFailure::report, .differentiable = true};
  if (r.one_in(5)) out.tolerance = std::pow(10, -r.below(16));
  if (r.one_in(5)) out.max_iterations = r.below(50);
  if (r.one_in(5)) out.regularization = std::pow(10, -r.below(16));
  return out;
}

void demand(bool holds, const char* what, double figure = 0) {
  if (holds) return;
  std::cerr << "broken: " << what << "; got " << figure << '\n';
  std::abort();
}

double largest(std::initializer_list<std::vector<double>> all) {
  double out = 0;
  for (const auto& x : all)
    for (double value : x) out = std::max(out, std::abs(value));
  return out;
}

bool no_nan(const Tensor& x) {
  if (!x.defined()) return true;
  for (double value : x.to_vector<double>())
    if (std::isnan(value)) return false;
  return true;
}

void check(const QP<Tensor>& qp, const QPSolution& s, const QPOptions& given, bool wild) {
  for (const Tensor* x : {&s.z, &s.nu, &s.lambda, &s.dual_lower, &s.dual_upper, &s.dual_lower_g}) demand(no_nan(*x), "z and duals without NaN");
  const QP<Tensor> gradient = gradient_of_sums(qp, s);
  for (const Tensor* x : fields(gradient)) demand(no_nan(*x), "gradients without NaN");
  if (wild) return;
  demand(all_finite(s), "finite figures");
  demand(all_finite(gradient), "finite gradients");
  const double allowed = std::max(qp.q.dtype() == float32 ? 1e-3 : 1e-4, 1e3 * given.tolerance);
  for (std::size_t e = 0; e < s.status.size(); ++e) {
    if (s.status[e] == QPStatus::max_iterations || s.status[e] == QPStatus::numerical || given.regularization > 1e-6) continue;
    const PlainQP one = element_of(qp, static_cast<std::int64_t>(e));
    const PlainAnswer answer = answer_of(s, static_cast<std::int64_t>(e), one);
    const double error = error_of_claim(one, answer, s.status[e]);
    // An answer in float is rounded once, and then multiplied by the data.
    const double rounding = qp.q.dtype() == float32 ? 1e-6 * largest({one.Q, one.G, one.A}) * largest({answer.z, answer.nu, answer.lambda, answer.dual_lower_g}) : 0;
    demand(error <= allowed + rounding, name(s.status[e]), error);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Source source{FuzzedDataProvider(data, size), false};
  source.wild = source.bytes.ConsumeBool();
  try {
    const QPOptions given = options(source);
    const QP<Tensor> qp = problem(source);
    const QPSolution s = solve(qp, given);
    check(qp, s, given, source.wild);
    QPOptions warm = given;
    warm.warm_start = std::make_shared<const QPSolution>(s);
    check(qp, solve(qp, warm), warm, source.wild);
  } catch (const Error&) {
  }
  return 0;
}
