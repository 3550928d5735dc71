// The QP solver against its optimality conditions, central differences, closed forms and itself.
#include "tests/test.h"

#include "solvers/interior_point.h"

#include <algorithm>
#include <numeric>

namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

struct Size {
  std::int64_t batch, n, m, p;
};

/// A random feasible problem. Bit after bit of `structure`: what is there, and what has a batch axis of its own.
QP<Tensor> random_problem(Random& random, const Size& size, std::uint64_t structure) {
  const std::int64_t B = size.batch, n = size.n, m = size.m, p = size.p;
  const auto bit = [&] {
    const bool set = structure & 1;
    structure >>= 1;
    return set;
  };
  const auto shape = [&](bool own, std::initializer_list<std::int64_t> rest) {
    Shape out;
    if (own) out.push_back(B);
    for (std::int64_t x : rest) out.push_back(x);
    return out;
  };
  QP<Tensor> qp;
  const int kind = static_cast<int>(structure % 3);
  structure /= 3;
  const bool own_Q = bit(), own_G = bit(), own_A = bit();
  if (kind == 0) {
    const Tensor L = normal(random, shape(own_Q, {n, n}), 0, 1, float64);
    qp.Q = matmul(L, L, {.transpose_b = true}) + 0.2 * eye(n, float64);
  } else {
    const std::int64_t columns = kind == 1 ? n : 1;
    qp.Q = uniform(random, own_Q ? Shape{B, 1, columns} : kind == 1 ? Shape{n} : Shape{}, 0.5, 2, float64);
  }
  qp.q = normal(random, shape(bit() || !(own_Q || own_G || own_A), {n}), 0, 2, float64);
  const Tensor z0 = normal(random, {B, n, 1}, 0, 0.5, float64);
  if (m) {
    qp.G = normal(random, shape(own_G, {m, n}), 0, 1, float64);
    qp.h = matmul(qp.G, z0).reshape({B, m}) + uniform(random, {B, m}, 0.1, 1.1, float64);
  }
  if (p) {
    qp.A = normal(random, shape(own_A, {p, n}), 0, 1, float64);
    qp.b = matmul(qp.A, z0).reshape({B, p});
  }
  const Tensor room = uniform(random, {B, n}, 0.1, 1, float64);
  if (bit()) qp.lower = bit() ? z0.reshape({B, n}) - room : full({}, -4, float64);
  if (bit()) qp.upper = bit() ? z0.reshape({B, n}) + room : full({n}, 4, float64);
  return qp;
}

/// Entry i of element e of a field that broadcasts to [B, size], or [B, rows, columns] flattened.
double entry(const Tensor& x, std::int64_t e, std::int64_t i, int own_axes, std::int64_t size) {
  const std::int64_t per = x.rank() > own_axes && x.size(0) > 1 ? x.numel() / x.size(0) : x.numel();
  const std::int64_t offset = x.rank() > own_axes && x.size(0) > 1 ? e * per : 0;
  return x.data<double>()[offset + (per == size ? i : 0)];
}

struct Kkt {
  double residual = 0;  // the largest violation of any optimality condition
  double strictness = infinity;  // the smallest max(slack, dual): 0 at a degenerate solution
};

/// The optimality conditions of element e, by loops over the original data.
Kkt kkt_of(const QP<Tensor>& qp, const QPSolution& s, std::int64_t e) {
  const std::int64_t n = qp.q.size(-1), m = qp.G.defined() ? qp.G.size(-2) : 0, p = qp.A.defined() ? qp.A.size(-2) : 0;
  const auto at = [e](const Tensor& x, std::int64_t i, std::int64_t size) { return x.data<double>()[x.rank() == 2 ? e * size + i : i]; };
  Kkt out;
  const auto violate = [&](double x) { out.residual = std::max(out.residual, std::isnan(x) ? infinity : x); };
  const auto pair = [&](double slack, double dual) {
    if (std::isinf(slack)) return violate(std::abs(dual));
    violate(-slack), violate(-dual), violate(std::abs(slack * dual));
    out.strictness = std::min(out.strictness, std::max(slack, dual));
  };
  std::vector<double> gradient(static_cast<std::size_t>(n));
  for (std::int64_t i = 0; i < n; ++i) {
    double g = entry(qp.q, e, i, 1, n);
    const bool dense = qp.Q.rank() >= 2 && qp.Q.size(-2) > 1;
    for (std::int64_t j = 0; qp.Q.defined() && j < n; ++j)
      if (dense || i == j) g += at(s.z, j, n) * (dense ? entry(qp.Q, e, i * n + j, 2, n * n) : entry(qp.Q, e, i, 2, n));
    for (std::int64_t k = 0; k < p; ++k) g += entry(qp.A, e, k * n + i, 2, p * n) * at(s.nu, k, p);
    for (std::int64_t k = 0; k < m; ++k) g += entry(qp.G, e, k * n + i, 2, m * n) * at(s.lambda, k, m);
    if (qp.lower.defined()) g -= at(s.dual_lower, i, n), pair(at(s.z, i, n) - entry(qp.lower, e, i, 1, n), at(s.dual_lower, i, n));
    if (qp.upper.defined()) g += at(s.dual_upper, i, n), pair(entry(qp.upper, e, i, 1, n) - at(s.z, i, n), at(s.dual_upper, i, n));
    violate(std::abs(g));
  }
  const auto row = [&](const Tensor& M, std::int64_t k, std::int64_t rows) {
    double x = 0;
    for (std::int64_t j = 0; j < n; ++j) x += entry(M, e, k * n + j, 2, rows * n) * at(s.z, j, n);
    return x;
  };
  for (std::int64_t k = 0; k < p; ++k) violate(std::abs(row(qp.A, k, p) - entry(qp.b, e, k, 1, p)));
  for (std::int64_t k = 0; k < m; ++k) pair(entry(qp.h, e, k, 1, m) - row(qp.G, k, m), at(s.lambda, k, m));
  return out;
}

Tensor replaced(const Tensor& x, std::size_t i, double value) {
  std::vector<double> numbers = x.to_vector<double>();
  numbers[i] = value;
  return from(x.shape(), numbers);
}

const QPOptions precise{.tolerance = 1e-12, .on_failure = OnFailure::report, .differentiable = true};

/// loss = seed . solution, for central differences.
double loss_of(const QP<Tensor>& qp, const QPSeed& seed) {
  const QPSolution s = solve(qp, {.tolerance = 1e-12, .on_failure = OnFailure::report});
  double loss = 0;
  const auto add = [&](const Tensor& weights, const Tensor& x) { if (weights.defined() && x.defined()) loss += sum(weights * x).item(); };
  add(seed.z, s.z), add(seed.nu, s.nu), add(seed.lambda, s.lambda), add(seed.dual_lower, s.dual_lower), add(seed.dual_upper, s.dual_upper);
  return loss;
}

/// The largest relative error of vjp's gradient over every entry of every parameter. The central difference is of
/// fourth order; where two steps disagree the solution has a kink in between, which is counted.
double gradient_error(const QP<Tensor>& qp, const QPSeed& seed, int& entries, int& kinks) {
  const QPSolution s = solve(qp, precise);
  const QP<Tensor> g = vjp(qp, s, seed);
  double worst = 0;
  for (std::size_t f = 0; f < 8; ++f) {
    const Tensor& field = *fields(qp)[f];
    if (!field.defined()) continue;
    REQUIRE(fields(g)[f]->shape() == field.shape());
    const std::vector<double> x = field.to_vector<double>(), dx = fields(g)[f]->to_vector<double>();
    for (std::size_t i = 0; i < x.size(); ++i) {
      QP<Tensor> moved = qp;
      const auto loss_at = [&](double value) { return *fields(moved)[f] = replaced(field, i, value), loss_of(moved, seed); };
      const auto slope = [&](double h) {
        return (8 * (loss_at(x[i] + h) - loss_at(x[i] - h)) - (loss_at(x[i] + 2 * h) - loss_at(x[i] - 2 * h))) / (12 * h);
      };
      const double fine = slope(5e-4), coarse = slope(1e-3), scale = std::max({1.0, std::abs(dx[i]), std::abs(fine)});
      ++entries;
      if (std::abs(fine - coarse) > 2e-7 * scale) {
        ++kinks;
        continue;
      }
      worst = std::max(worst, std::abs(dx[i] - fine) / scale);
    }
  }
  return worst;
}

QP<Tensor> element(const QP<Tensor>& qp, std::int64_t e) {
  QP<Tensor> one;
  const int own[] = {2, 1, 2, 1, 2, 1, 1, 1};
  for (std::size_t f = 0; f < 8; ++f) {
    const Tensor& x = *fields(qp)[f];
    if (x.defined()) *fields(one)[f] = x.rank() > own[f] && x.size(0) > 1 ? slice(x, 0, e, e + 1) : x;
  }
  return one;
}

}  // namespace

TEST_CASE("1,000 random problems of every structure satisfy the optimality conditions", "[qp]") {
  Random random{7};
  int problems = 0;
  for (std::uint64_t trial = 0; problems < 1000; ++trial) {
    const Size size{4, 1 + random.below(12), trial % 4 == 3 ? 0 : random.below(10), 0};
    Size with_p = size;
    with_p.p = size.n > 1 && trial % 2 ? random.below(size.n) : 0;
    const QP<Tensor> qp = random_problem(random, with_p, random.bits() >> 8);
    const QPSolution s = solve(qp);
    const std::int64_t count = static_cast<std::int64_t>(s.status.size());
    for (std::int64_t e = 0; e < count; ++e) {
      INFO("trial " << trial << ", element " << e);
      REQUIRE(s.status[static_cast<std::size_t>(e)] == QPStatus::solved);
      REQUIRE(kkt_of(qp, s, e).residual < 1e-8);
    }
    problems += static_cast<int>(count);
  }
}

TEST_CASE("gradients of every parameter of 1,000 random problems agree with central differences", "[qp]") {
  Random random{11};
  int problems = 0, entries = 0, kinks = 0, passed_over = 0;
  double worst = 0;
  for (std::uint64_t trial = 0; problems < 1000; ++trial) {
    const std::int64_t n = 1 + random.below(4);
    const Size size{4, n, trial % 4 == 3 ? 0 : random.below(4), n > 1 && trial % 2 ? random.below(n) : 0};
    const QP<Tensor> qp = random_problem(random, size, random.bits() >> 8);
    const QPSolution s = solve(qp, precise);
    double strictness = infinity;
    for (std::int64_t e = 0; e < 4; ++e) strictness = std::min(strictness, kkt_of(qp, s, e).strictness);
    if (strictness < 0.02) {  // close to a kink, where no derivative exists
      ++passed_over;
      continue;
    }
    const double error = gradient_error(qp, {.z = normal(random, s.z.shape(), 0, 1, float64)}, entries, kinks);
    INFO("trial " << trial);
    REQUIRE(error < 1e-6);
    worst = std::max(worst, error);
    problems += 4;
  }
  INFO("worst " << worst << ", " << kinks << " kinks in " << entries << " entries, " << passed_over << " batches passed over");
  CHECK(kinks < entries / 50);
  CHECK(passed_over < 250);
}

TEST_CASE("gradients flow from the duals too", "[qp]") {
  Random random{13};
  int entries = 0, kinks = 0, checked = 0;
  for (int trial = 0; trial < 40; ++trial) {
    QP<Tensor> qp = random_problem(random, {2, 4, 3, 1}, random.bits() >> 8);
    qp.lower = full({4}, -0.8, float64);
    qp.upper = full({}, 5, float64);
    const QPSolution s = solve(qp, precise);
    if (std::any_of(s.status.begin(), s.status.end(), [](QPStatus x) { return x != QPStatus::solved; })) continue;
    if (std::min(kkt_of(qp, s, 0).strictness, kkt_of(qp, s, 1).strictness) < 0.02) continue;
    const auto weights = [&](const Tensor& x) { return normal(random, x.shape(), 0, 1, float64); };
    CHECK(gradient_error(qp, {weights(s.z), weights(s.nu), weights(s.lambda), weights(s.dual_lower), weights(s.dual_upper)}, entries, kinks) < 1e-6);
    ++checked;
  }
  CHECK(checked > 10);
  CHECK(kinks < entries / 20);
}

TEST_CASE("the same problem written another way has the same solution and gradients", "[qp]") {
  Random random{17};
  const std::int64_t B = 3, n = 5;
  const Tensor q = normal(random, {B, n}, 0, 2, float64), A = normal(random, {2, n}, 0, 1, float64);
  const Tensor b = 0.1 * normal(random, {B, 2}, 0, 1, float64), diagonal = uniform(random, {n}, 0.5, 2, float64);
  const QP<Tensor> plain{.Q = diagonal, .q = q, .A = A, .b = b, .lower = full({n}, -1, float64), .upper = full({n}, 1.5, float64)};
  const QPSolution s = solve(plain, precise);
  const QPSeed seed{.z = normal(random, {B, n}, 0, 1, float64)};
  const QP<Tensor> g = vjp(plain, s, seed);

  SECTION("bounds as rows of G") {
    QP<Tensor> other = plain;
    other.lower = other.upper = Tensor{};
    other.G = concat({-eye(n, float64), eye(n, float64)}, 0);
    other.h = concat({-plain.lower, plain.upper}, 0);
    const QPSolution t = solve(other, precise);
    const QP<Tensor> d = vjp(other, t, seed);
    CHECK(max_difference(s.z, t.z) < 1e-9);
    CHECK(max_difference(g.q, d.q) < 1e-8);
    CHECK(max_difference(g.A, d.A) < 1e-8);
    CHECK(max_difference(g.lower, -slice(d.h, 0, 0, n)) < 1e-8);
    CHECK(max_difference(g.upper, slice(d.h, 0, n, 2 * n)) < 1e-8);
  }
  SECTION("a diagonal Q as a dense one") {
    QP<Tensor> other = plain;
    other.Q = diagonal.reshape({n, 1}) * eye(n, float64);
    const QPSolution t = solve(other, precise);
    const QP<Tensor> d = vjp(other, t, seed);
    CHECK(max_difference(s.z, t.z) < 1e-9);
    CHECK(max_difference(g.b, d.b) < 1e-8);
    for (std::int64_t i = 0; i < n; ++i) CHECK(d.Q(i, i) == Approx(g.Q(i)).margin(1e-8));
  }
  SECTION("shared parameters as repeated ones, whose gradients add up") {
    QP<Tensor> other = plain;
    other.Q = diagonal.reshape({1, 1, n}) * ones({B, 1, n}, float64);
    other.A = A.reshape({1, 2, n}) * ones({B, 1, 1}, float64);
    other.lower = full({B, n}, -1, float64);
    const QPSolution t = solve(other, precise);
    const QP<Tensor> d = vjp(other, t, seed);
    CHECK(max_difference(s.z, t.z) < 1e-9);
    CHECK(max_difference(g.Q, sum(d.Q, {0, 1})) < 1e-8);
    CHECK(max_difference(g.A, sum(d.A, {0})) < 1e-8);
    CHECK(max_difference(g.lower, sum(d.lower, {0})) < 1e-8);
  }
  SECTION("a scalar Q as a diagonal one") {
    QP<Tensor> scalar = plain, vector = plain;
    scalar.Q = full({}, 0.7, float64), vector.Q = full({n}, 0.7, float64);
    const QPSolution u = solve(scalar, precise), v = solve(vector, precise);
    CHECK(max_difference(u.z, v.z) < 1e-12);
    CHECK(vjp(scalar, u, seed).Q.item() == Approx(sum(vjp(vector, v, seed).Q).item()).margin(1e-9));
  }
}

TEST_CASE("solutions have their closed forms", "[qp]") {
  Random random{19};
  const Tensor x = normal(random, {64, 6}, 0, 2, float64), I = full({}, 1, float64);
  CHECK(max_difference(solve({.Q = I, .q = -x, .lower = full({}, 0, float64)}, precise).z, relu(x)) < 1e-8);
  const Tensor box = maximum(minimum(x, full({}, 0.7, float64)), full({}, -0.4, float64));
  CHECK(max_difference(solve({.Q = I, .q = -x, .lower = full({}, -0.4, float64), .upper = full({}, 0.7, float64)}, precise).z, box) < 1e-8);

  // Soft threshold: z = u - v, u, v >= 0, minimise 1/2 |u - v - x|^2 + t sum(u + v).
  const double t = 0.6;
  const Tensor E = concat({eye(6, float64), -eye(6, float64)}, 1);
  const Tensor uv = solve({.Q = matmul(E, E, {.transpose_a = true}), .q = t - matmul(x, E), .lower = full({}, 0, float64)}, precise).z;
  const Tensor soft = relu(x - t) - relu(-x - t);
  CHECK(max_difference(slice(uv, 1, 0, 6) - slice(uv, 1, 6, 12), soft) < 1e-7);

  // The simplex, by sorting (Held, Wolfe and Crowder 1974).
  const Tensor z = solve({.Q = I, .q = -x, .A = ones({1, 6}, float64), .b = ones({1}, float64), .lower = full({}, 0, float64)}, precise).z;
  for (std::int64_t e = 0; e < 64; ++e) {
    std::vector<double> sorted = slice(x, 0, e, e + 1).to_vector<double>();
    std::sort(sorted.rbegin(), sorted.rend());
    double total = 0, tau = 0;
    for (std::size_t k = 0; k < 6; ++k) {
      total += sorted[k];
      if (const double candidate = (total - 1) / static_cast<double>(k + 1); sorted[k] > candidate) tau = candidate;
    }
    for (std::int64_t i = 0; i < 6; ++i) CHECK(z(e, i) == Approx(std::max(x(e, i) - tau, 0.0)).margin(1e-8));
  }

  // Equalities alone: z = x - A'(A A')^-1 (A x - b).
  const Tensor A = normal(random, {2, 6}, 0, 1, float64), L = cholesky(matmul(A, A, {.transpose_b = true}));
  const Tensor r = matmul(A, x, {.transpose_b = true}) - 1.0;
  const Tensor nu = solve_lower(L, solve_lower(L, r), {.transpose = true});
  CHECK(max_difference(solve({.Q = I, .q = -x, .A = A, .b = ones({2}, float64)}, precise).z, x - matmul(nu, A, {.transpose_a = true})) < 1e-8);
}

TEST_CASE("the gradient of ReLU as a QP is 1 where x is positive and 0 where it is negative", "[qp]") {
  const Tensor x = from({1, 4}, {-2.0, -0.1, 0.1, 3.0});
  const QP<Tensor> qp{.Q = full({}, 1, float64), .q = -x, .lower = full({}, 0, float64)};
  const Tensor dq = vjp(qp, solve(qp, {.differentiable = true}), {.z = ones({1, 4}, float64)}).q;
  CHECK(max_difference(-dq, from({1, 4}, {0.0, 0.0, 1.0, 1.0})) < 1e-6);
}

TEST_CASE("an element's answer is the same bit for bit alone, in any company, and with any number of threads", "[qp]") {
  Random random{23};
  for (int trial = 0; trial < 20; ++trial) {
    QP<Tensor> qp = random_problem(random, {11, 6, 5, 2}, (random.bits() >> 8) * 24 + 21);
    if (trial % 2) {  // an infeasible neighbour, which runs on for long
      const std::vector<double> bad(2, 1e6);
      std::vector<double> b = qp.b.to_vector<double>();
      qp.lower = full({6}, -3, float64), qp.upper = full({6}, 3, float64);
      std::copy(bad.begin(), bad.end(), b.begin() + 8);
      qp.b = from(qp.b.shape(), b);
    }
    const QPOptions options{.on_failure = OnFailure::report};
    const QPSolution all = solve(qp, options);
    const std::int64_t count = all.z.size(0);
    for (std::int64_t e = 0; e < count; ++e) {
      const QPSolution one = solve(element(qp, e), options);
      CHECK(same_bits(one.z.reshape({-1}), slice(all.z, 0, e, e + 1).reshape({-1})));
      CHECK(one.status[0] == all.status[static_cast<std::size_t>(e)]);
    }
    const Threads single(1);
    CHECK(same_bits(solve(qp, options).z, all.z));
  }
}

TEST_CASE("problems without a solution are named, with the reason", "[qp]") {
  const Tensor q = from({3, 2}, {1.0, 1.0, 1.0, -1.0, 0.0, 2.0}), zero = full({}, 0, float64), one = full({}, 1, float64);
  const auto message = [](const QP<Tensor>& qp) { return error_of([&] { solve(qp); }); };
  CHECK_THAT(message({.Q = one, .q = q, .lower = one, .upper = from({3, 1}, {2.0, 0.0, 2.0})}), Contains("1 of 3 problems not solved: 1 (primal infeasible"));
  CHECK_THAT(message({.q = q, .lower = zero}), Contains("1 of 3 problems not solved: 1 (dual infeasible"));
  CHECK_THAT(message({.q = q, .lower = zero}), Contains("on_failure"));
  CHECK_THAT(message({.Q = -one, .q = q, .lower = zero, .upper = one}), Contains("Q must be positive semidefinite"));
  CHECK_THAT(message({.Q = from({2, 2}, {1.0, 2.0, 2.0, 1.0}), .q = q}), Contains("at column 1"));
  CHECK_THAT(message({.Q = one, .q = q, .A = from({2, 2}, {1.0, 1.0, 1.0, 1.0}), .b = from({2}, {0.0, 1.0})}), Contains("primal infeasible"));

  const QP<Tensor> qp{.Q = one, .q = q, .lower = one, .upper = from({3, 1}, {2.0, 0.0, 2.0})};
  const QPSolution s = solve(qp, {.on_failure = OnFailure::report, .differentiable = true});
  CHECK(s.status == std::vector{QPStatus::solved, QPStatus::primal_infeasible, QPStatus::solved});
  const Tensor dq = vjp(qp, s, {.z = ones({3, 2}, float64)}).q;
  CHECK((dq(1, 0) == 0 && dq(1, 1) == 0));
  for (const double x : s.z.to_vector<double>()) CHECK(std::isfinite(x));
}

TEST_CASE("bad input is refused by name", "[qp]") {
  const Tensor q = ones({2, 3}, float64), one = full({}, 1, float64), nan = full({}, NAN, float64);
  const auto message = [](const QP<Tensor>& qp, const QPOptions& options = {}) { return error_of([&] { solve(qp, options); }); };
  CHECK_THAT(message({.q = from({2, 2}, {1.0, 2.0, double(NAN), 0.0})}), Contains("q must be finite; got nan in problem 1 of 2"));
  CHECK_THAT(message({.Q = one, .q = q, .lower = nan}), Contains("lower must be finite"));
  CHECK_THAT(message({.Q = one, .q = q, .upper = full({}, -infinity, float64)}), Contains("upper must be finite or inf"));
  CHECK_THAT(message({.Q = ones({2, 2}, float64), .q = q}), Contains("with n = 3 from q; got [2, 2]"));
  CHECK_THAT(message({.Q = one, .q = q, .G = ones({1, 2}, float64), .h = one}), Contains("G must be [m, n]"));
  CHECK_THAT(message({.Q = one, .q = q, .G = ones({1, 3}, float64)}), Contains("G and h go together"));
  CHECK_THAT(message({.Q = one, .q = q, .b = one}), Contains("A and b go together"));
  CHECK_THAT(message({.Q = one, .q = q, .lower = ones({5, 3}, float64)}), Contains("batch sizes must agree"));
  CHECK_THAT(message({.Q = ones({}), .q = q}), Contains("all parameters must be float32, or all float64"));
  CHECK_THAT(message({.q = Tensor{}}), Contains("q must be [n] or [batch, n]"));
  CHECK_THAT(message({.q = zeros({0, 3}, float64)}), Contains("batch must not be empty"));
  CHECK_THAT(message({.Q = one, .q = q}, {.tolerance = 0}), Contains("tolerance must lie in (0, 1); got 0"));
  CHECK_THAT(message({.Q = one, .q = q}, {.max_iterations = 0}), Contains("max_iterations must be positive"));
  const QP<Tensor> qp{.Q = one, .q = q};
  CHECK_THAT(error_of([&] { vjp(qp, solve(qp), {.z = q}); }), Contains(".differentiable = true"));
}

TEST_CASE("edge cases are ordinary problems", "[qp]") {
  const Tensor one = full({}, 1, float64), zero = full({}, 0, float64);
  SECTION("no constraints") { CHECK(max_difference(solve({.Q = full({}, 2, float64), .q = ones({3}, float64)}).z, full({3}, -0.5, float64)) < 1e-8); }
  SECTION("q = 0") { CHECK(max_difference(solve({.Q = one, .q = zeros({2, 3}, float64), .lower = full({}, -1, float64)}).z, zeros({2, 3}, float64)) < 1e-8); }
  SECTION("fixed variables") {
    const Tensor value = full({}, 0.7, float64);
    CHECK(max_difference(solve({.Q = one, .q = from({1, 2}, {3.0, -3.0}), .lower = value, .upper = value}).z, full({1, 2}, 0.7, float64)) < 1e-7);
  }
  SECTION("infinite sides are no sides") {
    const Tensor z = solve({.Q = one, .q = from({1, 3}, {1.0, 1.0, -9.0}), .lower = from({3}, {-infinity, 0.0, -infinity}), .upper = from({3}, {infinity, infinity, 2.0})}).z;
    CHECK(max_difference(z, from({1, 3}, {-1.0, 0.0, 2.0})) < 1e-8);
  }
  SECTION("repeated equality rows") {
    const Tensor z = solve({.Q = one, .q = zeros({2}, float64), .A = from({3, 2}, {1.0, 1.0, 1.0, 1.0, 2.0, 2.0}), .b = from({3}, {1.0, 1.0, 2.0})}).z;
    CHECK(max_difference(z, full({2}, 0.5, float64)) < 1e-8);
  }
  SECTION("a linear program") {
    const Tensor z = solve({.q = from({2}, {-1.0, -2.0}), .G = from({1, 2}, {1.0, 1.0}), .h = one, .lower = zero}).z;
    CHECK(max_difference(z, from({2}, {0.0, 1.0})) < 1e-7);
  }
  SECTION("a Q that is not symmetric counts by its symmetric part") {
    const Tensor q = from({2}, {1.0, -2.0});
    CHECK(max_difference(solve({.Q = from({2, 2}, {2.0, 1.0, 0.0, 2.0}), .q = q}).z, solve({.Q = from({2, 2}, {2.0, 0.5, 0.5, 2.0}), .q = q}).z) < 1e-12);
  }
  SECTION("float32 is good to float's accuracy") {
    Random random{29};
    const Tensor x = normal(random, {50, 8}, 0, 2, float32);
    CHECK(max_difference(solve({.Q = ones({}), .q = -x, .lower = zeros({})}).z, relu(x)) < 1e-6);
  }
  SECTION("many variables take the path through LAPACK") {
    Random random{31};
    const QP<Tensor> qp = random_problem(random, {2, 300, 40, 20}, 3 * 0);
    const QPSolution s = solve(qp);
    for (std::int64_t e = 0; e < static_cast<std::int64_t>(s.status.size()); ++e) CHECK(kkt_of(qp, s, e).residual < 1e-7);
  }
  SECTION("a degenerate vertex has a finite gradient") {
    const QP<Tensor> qp{.Q = one, .q = from({1, 2}, {0.0, 0.0}), .A = from({1, 2}, {1.0, 1.0}), .b = zeros({1}, float64), .lower = zero};
    const QP<Tensor> g = vjp(qp, solve(qp, {.differentiable = true}), {.z = ones({1, 2}, float64)});
    for (const Tensor* x : {&g.q, &g.A, &g.b, &g.lower})
      for (const double value : x->to_vector<double>()) CHECK((std::isfinite(value) && std::abs(value) < 1e3));
  }
}

namespace {

/// Runs the items of each loop in a shuffled order: if they depended on each other, as the threads of a CUDA block
/// must not, the answer would change.
struct ShuffledTeam {
  template <class F>
  void for_each(int n, const F& f) const {
    static Random random{37};
    for (const std::int64_t i : permutation(random, n).to_vector<std::int64_t>()) f(static_cast<int>(i));
  }
  template <class T, class F>
  T sum(int n, const F& f) const { return OneThread{}.sum<T>(n, f); }
  template <class T, class F>
  T largest(int n, T start, const F& f) const { return OneThread{}.largest<T>(n, start, f); }
  template <class T, class F>
  T smallest(int n, T start, const F& f) const { return OneThread{}.smallest<T>(n, start, f); }
};

/// A problem of one lane in every entry, with a dense Q, rows of G and A, and both bounds.
template <class Team>
std::vector<double> solve_on() {
  constexpr int n = 13, m = 9, p = 4;
  Random random{41};
  const Tensor L = normal(random, {n, n}, 0, 1, float64);
  const auto packs = [](const std::vector<double>& x) { return std::vector<Pack>(x.begin(), x.end()); };
  const std::vector<Pack> Q = packs((matmul(L, L, {.transpose_b = true}) + 0.1 * eye(n, float64)).to_vector<double>());
  const std::vector<Pack> A = packs(normal(random, {p, n}, 0, 1, float64).to_vector<double>()), Gt = packs(normal(random, {n, m}, 0, 1, float64).to_vector<double>());
  const std::vector<Pack> q = packs(normal(random, {n}, 0, 2, float64).to_vector<double>()), b(p, 0.1);
  const std::vector<Pack> d(2 * n + m, 0.8), mask(2 * n + m, 1.0);
  const Problem<Pack, Pack> problem{.n = n, .p = p, .m = m, .has_lower = true, .has_upper = true, .Q = Q.data(), .A = A.data(), .Gt = Gt.data(),
                                    .q = q.data(), .b = b.data(), .d = d.data(), .mask = mask.data()};
  Workspace<Pack> memory;
  InteriorPoint<Pack, Pack, Team> method(problem, {}, memory);
  method.solve();
  CHECK(method.status[0] == QPStatus::solved);
  std::vector<double> z;
  for (int i = 0; i < n; ++i) z.push_back(method.z[i][0]);
  return z;
}

}  // namespace

TEST_CASE("the loops of the solver can run in any order, as on a CUDA block", "[qp]") {
  const std::vector<double> in_order = solve_on<OneThread>(), shuffled = solve_on<ShuffledTeam>();
  for (std::size_t i = 0; i < in_order.size(); ++i) CHECK(in_order[i] == Approx(shuffled[i]).margin(1e-12));
}
