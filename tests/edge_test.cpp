// Problems at the edge of what the QP solver takes: without a solution, without sense, degenerate, huge, or beside a hopeless
// neighbour; linear programs; and whether any of many small ones makes it cycle.
#include "tests/random_qp.h"
#include "tests/test.h"

#include <algorithm>

namespace {

constexpr double inf = std::numeric_limits<double>::infinity();
using Values = std::vector<double>;

void check_refused(const QP<Tensor>& qp, const std::string& why, const QPOptions& options = {}) {
  CHECK_THAT(error_of([&] { solve(qp, options); }), Contains(why));
}

}  // namespace

TEST_CASE("a hopeless neighbour changes nothing", "[qp]") {
  Values h{1, 1, 1, -5, 1, 1};
  const QP<Tensor> qp{.Q = number(1), .q = from({6, 2}, Values{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}),
                      .G = ones({1, 2}, float64), .h = from({6, 1}, h), .lower = number(0)};
  QP<Tensor> fine = qp;
  h[3] = 1;
  fine.h = from({6, 1}, h);
  const QPSolution s = solve(qp, {.on_failure = OnFailure::report, .differentiable = true}), t = solve(fine);
  CHECK(s.status[3] == QPStatus::primal_infeasible);
  for (std::int64_t e : {0, 1, 2, 4, 5}) CHECK(same_bits(slice(s.z, 0, e, e + 1), slice(t.z, 0, e, e + 1)));
  const QP<Tensor> g = vjp(qp, s, {.z = ones({6, 2}, float64)});
  CHECK(g.q(3, 0) == 0);
  CHECK(g.q(3, 1) == 0);
  for (double x : values(s.z)) CHECK(std::isfinite(x));
}

TEST_CASE("problems without a solution are named with the reason", "[qp]") {
  const Tensor q = list({1, 1});
  check_refused({.Q = number(1), .q = from({3, 2}, Values(6, 1)), .G = ones({1, 2}, float64), .h = from({3, 1}, {1., -1., 1.}), .lower = number(0)},
                "1 (primal infeasible: no z satisfies");
  check_refused({.Q = number(1), .q = q, .lower = number(0.5 + 1e-6), .upper = number(0.5)}, "primal infeasible");
  check_refused({.Q = number(1), .q = q, .A = from({2, 2}, {1., 1., 1., 1.}), .b = list({1, 2})}, "primal infeasible");
  check_refused({.q = q, .upper = number(0)}, "dual infeasible: its objective falls without bound");
  check_refused({.q = q}, "dual infeasible");
  check_refused({.Q = from({2, 2}, {1., 0., 0., -1.}), .q = q, .lower = number(0), .upper = number(1)},
                "Q must be positive semidefinite; factorisation failed for problem 0 of 1 at column 1");
  check_refused({.Q = from({2}, {1., -1.}), .q = q}, "Q must be positive semidefinite");
  check_refused({.Q = from({2, 2}, {1., 2., 2., 1.}), .q = q}, "at column 1");
  check_refused({.Q = number(-1), .q = q, .lower = number(0), .upper = number(1)}, "Q must be positive semidefinite");
  check_refused({.Q = number(1), .q = list({1, 1}), .A = ones({1, 2}, float64), .b = number(1), .lower = number(0.7)}, "OnFailure::report");

  const QP<Tensor> crossed{.Q = number(1), .q = ones({3, 2}, float64), .lower = number(1), .upper = from({3, 1}, {2., 0., 2.})};
  check_refused(crossed, "1 of 3 problems not solved: 1 (primal infeasible");
  const QPSolution s = solve(crossed, kept);
  CHECK(s.status == std::vector{QPStatus::solved, QPStatus::primal_infeasible, QPStatus::solved});
  CHECK(all_finite(s.z));
  CHECK(max_difference(slice(vjp(crossed, s, {.z = ones({3, 2}, float64)}).q, 0, 1, 2), zeros({1, 2}, float64)) == 0);
}

TEST_CASE("input that makes no sense is refused by name", "[qp]") {
  const double nan = std::nan("");
  const Tensor q = zeros({2}, float64);
  check_refused({.Q = from({3, 1, 1}, {1., 1., nan}), .q = zeros({3, 2}, float64)}, "argmin: Q must be finite; got nan in problem 2 of 3");
  check_refused({.Q = number(1), .q = list({nan, 0})}, "q must be finite");
  check_refused({.Q = number(1), .q = q, .lower = number(inf)}, "lower must be finite or -inf");
  check_refused({.Q = number(1), .q = q, .upper = number(-inf)}, "upper must be finite or inf");
  check_refused({.Q = number(1), .q = q, .G = ones({1, 2}, float64), .h = number(nan)}, "h must be finite or inf");
  check_refused({.Q = number(1), .q = q, .A = ones({1, 2}, float64)}, "A and b go together");
  check_refused({.Q = number(1), .q = q, .G = ones({4, 10, 7}, float64), .h = number(1)},
                "argmin: G must be [m, n] or [batch, m, n] with n = 2 from q; got [4, 10, 7]");
  check_refused({.Q = number(1), .q = q.to(float32)}, "float32");
  check_refused({.Q = number(1), .q = zeros({3, 2}, float64), .lower = zeros({4, 2}, float64)}, "batch sizes must agree");
  check_refused({.Q = number(1)}, "q must be [n] or [batch, n]");
  check_refused({.q = zeros({0, 2}, float64)}, "batch must not be empty");
  check_refused({.q = zeros({0}, float64)}, "n > 0");
  check_refused({.q = from({2, 2}, {1., 2., nan, 0.})}, "q must be finite; got nan in problem 1 of 2");
  check_refused({.Q = ones({3, 3}, float64), .q = q}, "with n = 2 from q; got [3, 3]");
  check_refused({.Q = number(1), .q = q, .b = number(1)}, "A and b go together");
  check_refused({.Q = number(1), .q = q, .G = ones({1, 2}, float64)}, "G goes with h, lower_g or both; got only G");
  check_refused({.Q = ones({}), .q = q}, "all parameters must be float32, or all float64");
  check_refused({.Q = number(1), .q = q}, "tolerance must lie in (0, 1); got 0", {.tolerance = 0});
  check_refused({.Q = number(1), .q = q}, "max_iterations must be positive", {.max_iterations = 0});
  check_refused({.Q = number(1), .q = q}, "regularization must lie in [0, 1); got -1", {.regularization = -1});
  check_refused({.Q = number(1), .q = q}, "threads must lie in [0, 1024], 0 for as many as threads() says; got -2", {.threads = -2});
  const QP<Tensor> qp{.Q = number(1), .q = q};
  CHECK_THROWS_WITH(vjp(qp, solve(qp), {.z = q}), Contains(".differentiable = true"));
}

TEST_CASE("edge cases are ordinary inputs", "[qp]") {
  Generator r{std::mt19937_64{9}};
  const auto solved = [](const QP<Tensor>& qp) {
    const QPSolution s = solve(qp, {.differentiable = true});
    CHECK(worst_kkt(qp, s) < 1e-8);
    for (const QP<Tensor> gradient = vjp(qp, s, {.z = ones(s.z.shape(), float64)}); const Tensor* field : fields(gradient))
      for (double x : values(*field)) CHECK(std::isfinite(x));
    return s;
  };
  const Tensor zero = zeros({5}, float64), q = r.normals({5}), one = ones({1, 5}, float64);
  SECTION("q = 0") { CHECK(max_difference(solved({.Q = number(1), .q = zero, .lower = number(0)}).z, zero) < 1e-4); }
  SECTION("no constraints") { CHECK(max_difference(solved({.Q = number(2), .q = q}).z, -0.5 * q) < 1e-9); }
  SECTION("only bounds, and a linear objective") { solved({.q = q, .lower = number(0), .upper = number(1)}); }
  SECTION("nothing at all to minimise") { solved({.q = zero, .lower = number(0), .upper = number(1)}); }
  SECTION("fixed variables") {
    CHECK(max_difference(solved({.Q = number(1), .q = q, .lower = number(0.3), .upper = number(0.3)}).z, full({5}, 0.3, float64)) < 1e-8);
  }
  SECTION("sides that are all infinite") {
    CHECK(max_difference(solved({.Q = number(2), .q = q, .lower = number(-inf), .upper = number(inf)}).z, -0.5 * q) < 1e-9);
  }
  SECTION("redundant equalities") {
    solved({.Q = number(1), .q = q, .A = ones({3, 5}, float64), .b = number(2), .lower = number(0)});
    solved({.Q = from({5, 5}, values(eye(5, float64))), .q = q, .A = ones({3, 5}, float64), .b = number(2)});
  }
  SECTION("duplicate inequalities") { solved({.Q = number(1), .q = q, .G = ones({4, 5}, float64), .h = number(-1)}); }
  SECTION("a row of zeros") { solved({.Q = number(1), .q = q, .A = zeros({1, 5}, float64), .b = number(0)}); }
  SECTION("a degenerate vertex") { solved({.q = list({1, 1, 1, 1, 1}), .G = full({3, 5}, -1, float64), .h = number(0), .lower = number(0)}); }
  SECTION("a linear program") {
    CHECK(max_difference(solved({.q = list({3, 1, 2, 5, 4}), .A = one, .b = number(1), .lower = number(0)}).z, list({0, 1, 0, 0, 0})) < 1e-8);
  }
  SECTION("another linear program") {
    CHECK(max_difference(solved({.q = list({-1, -2}), .G = ones({1, 2}, float64), .h = number(1), .lower = number(0)}).z, list({0, 1})) < 1e-7);
  }
  SECTION("some sides infinite") {
    const Tensor z = solved({.Q = number(1), .q = list({1, 1, -9}), .lower = list({-inf, 0, -inf}), .upper = list({inf, inf, 2})}).z;
    CHECK(max_difference(z, list({-1, 0, 2})) < 1e-8);
  }
  SECTION("q = 0 within bounds") { CHECK(max_difference(solved({.Q = number(1), .q = zero, .lower = number(-1)}).z, zero) < 1e-8); }
  SECTION("equalities that repeat each other") {
    const Tensor A = from({3, 2}, {1., 1., 1., 1., 2., 2.});
    CHECK(max_difference(solved({.Q = number(1), .q = list({0, 0}), .A = A, .b = list({1, 1, 2})}).z, list({0.5, 0.5})) < 1e-8);
  }
  SECTION("a Q that is not symmetric counts by its symmetric part") {
    const Tensor p = list({1, -2});
    const QP<Tensor> lopsided{.Q = from({2, 2}, {2., 1., 0., 2.}), .q = p}, even{.Q = from({2, 2}, {2., 0.5, 0.5, 2.}), .q = p};
    CHECK(max_difference(solve(lopsided).z, solve(even).z) < 1e-12);
  }
  SECTION("numbers so large that their squares overflow") {
    const double huge = 1e160;
    const QP<Tensor> qp{.Q = number(1), .q = list({huge, -huge}), .lower = number(0), .upper = number(1)};
    const QPSolution s = solve(qp, kept);
    CHECK(s.status[0] == QPStatus::solved);
    CHECK(same_bits(s.z, list({0, 1})));
    CHECK(all_finite(vjp(qp, s, {.z = ones({2}, float64)}).q));
  }
  SECTION("singular Q") { solved({.Q = ones({5, 5}, float64), .q = ones({5}, float64), .lower = number(-1), .upper = number(1)}); }
}

TEST_CASE("what overflows is not called solved", "[qp]") {
  // Q z = 1.9e308 is beyond all numbers, though z and its dual are not.
  const QPSolution s = solve({.Q = number(1e160), .q = list({-1e308}), .lower = number(1.9e148)}, {.on_failure = OnFailure::report});
  CHECK((s.status[0] != QPStatus::solved || (std::isfinite(s.objective[0]) && std::isfinite(s.dual_residual[0]))));
}

TEST_CASE("an answer that float32 cannot hold is not called solved, and neither it nor its gradient is infinite", "[qp]") {
  const QPOptions report{.on_failure = OnFailure::report, .differentiable = true};
  const Tensor q = from({2, 1}, Values{1, 1e20}), Q = full({2, 1, 1}, 1e-20, float64), lower = number(-1e-20);
  for (const QP<Tensor>& qp : {QP<Tensor>{.Q = Q, .q = q}, QP<Tensor>{.Q = Q, .q = -1.0 * q, .upper = lower}, QP<Tensor>{.Q = 1e-10 * Q, .q = 1e-15 * q}}) {
    QP<Tensor> single = qp;
    for (Tensor* x : fields(single))
      if (x->defined()) *x = x->to(float32);
    const QPSolution s = solve(single, report), exact = solve(qp, report);
    for (std::size_t e : {0, 1}) {
      const double largest = max(abs(slice(exact.z, 0, static_cast<std::int64_t>(e), static_cast<std::int64_t>(e) + 1))).item();
      CHECK(s.status[e] == (largest < 3.4e38 ? exact.status[e] : QPStatus::numerical));
    }
    CHECK(all_finite(s));
    CHECK(all_finite(gradient_of_sums(single, s)));
  }
}

TEST_CASE("no step throws an iterate far out, warm or cold, whatever the regularization", "[qp]") {
  // The objective falls along z[2]; such steps are short ones here, and soon mu is far below what the first rows still lack.
  const QP<Tensor> qp{.q = list({-7.875, -7.5, 0.75}), .upper = number(7.9375)};
  QPSolution at_zero;
  at_zero.z = zeros({3}, float64), at_zero.status = {QPStatus::solved};
  for (double regularization : {1e-9, 1e-6, 1e-4, 1e-3, 1e-2, 0.03, 0.1, 0.3, 0.9})
    for (bool warm : {false, true}) {
      INFO("regularization " << regularization << (warm ? ", warm" : ""));
      const QPSolution s = solve(qp, {.regularization = regularization, .on_failure = OnFailure::report,
                                      .warm_start = warm ? std::make_shared<const QPSolution>(at_zero) : nullptr});
      CHECK((s.status[0] == QPStatus::dual_infeasible || s.status[0] == QPStatus::max_iterations));
      CHECK(max(abs(s.z)).item() < 1e6);
    }
}

TEST_CASE("the duals of nearly parallel rows are large and cancel; rounding in them keeps no problem from its end, nor ends it early", "[qp]") {
  // x is the largest with x + w'v <= 1 and (1 - e) x + w'v >= 1 - e: 1, with duals of 1 / e. A row's residual costs 1 / e times itself.
  Generator r{std::mt19937_64(3)};
  for (double e : {1e-3, 1e-4, 1e-5})
    for (int draw = 0; draw < 8; ++draw) {
      INFO("e " << e << ", draw " << draw);
      const Tensor w = r.normals({1, 6});
      const Tensor G = concat({concat({number(1).reshape({1, 1}), w}, 1), concat({number(e - 1).reshape({1, 1}), -w}, 1)}, 0);
      const QPSolution s = solve({.q = list({-1, 0, 0, 0, 0, 0, 0}), .G = G, .h = list({1, e - 1}), .lower = number(-10), .upper = number(10)});
      CHECK(s.objective[0] == Approx(-1).epsilon(1e-7));
      CHECK(s.iterations[0] < 30);
    }
}

TEST_CASE("random linear programs, and Sudoku-like degenerate vertices, are all solved", "[qp]") {
  Generator r{std::mt19937_64{21}};
  const int n = 16, p = 10, B = 60;
  Values A, b(10), q, h;
  for (int i = 0; i < p * n; ++i) A.push_back(r.uniform()), b[static_cast<std::size_t>(i / n)] += A.back();
  for (int i = 0; i < B * n; ++i) q.push_back(r.chance(0.3) ? -1 : 0);
  const QP<Tensor> degenerate{.Q = number(0.1), .q = from({B, n}, q), .A = from({p, n}, A), .b = list(b), .lower = number(0)};
  CHECK(worst_kkt(degenerate, solve(degenerate)) < 1e-8);
  const Tensor G = r.normals({B, 40, n});
  Values cost(static_cast<std::size_t>(B * n));
  const Values g = values(G);
  for (int e = 0; e < B; ++e)
    for (int i = 0; i < 40; ++i)
      for (double y = r.uniform(); int j : {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15})
        cost[static_cast<std::size_t>(e * n + j)] -= y * g[static_cast<std::size_t>((e * 40 + i) * n + j)];
  const QP<Tensor> lp{.q = from({B, n}, cost), .G = G, .h = number(1)};
  CHECK(worst_kkt(lp, solve(lp)) < 1e-7);
}

TEST_CASE("ten thousand small problems do not cycle", "[qp]") {
  Generator r{std::mt19937_64{31}};
  const std::int64_t B = 10000, n = 5, m = 20;
  const Tensor G = r.normals({B, m, n});
  Values h(static_cast<std::size_t>(B * m)), Q(static_cast<std::size_t>(B * n));
  for (double& x : h) x = r.uniform(0.1, 1.1);
  for (double& x : Q) x = std::pow(10, r.uniform(-3, 0));
  const QPSolution s = solve({.Q = from({B, 1, n}, Q), .q = r.normals({B, n}), .G = G, .h = from({B, m}, h)});
  CHECK(*std::max_element(s.iterations.begin(), s.iterations.end()) < 50);
}

namespace {

/// A row of G and its side, of problems of many rows.
enum class Rows { random, repeated, near_parallel, scaled, integer, touching };

/// Problems that share all but q, feasible at a z0.
QP<Tensor> many_rows(Generator& r, Rows kind, std::int64_t count, std::int64_t n, std::int64_t m) {
  const auto at = [](std::int64_t i) { return static_cast<std::size_t>(i); };
  const Tensor L = r.normals({n, n}, 1 / std::sqrt(static_cast<double>(n)));
  Values G(at(m * n)), h(at(m)), z0(at(n));
  for (double& x : z0) x = r.normal();
  for (std::int64_t i = 0; i < m; ++i) {
    const std::int64_t other = i ? r.below(static_cast<int>(i)) : 0;
    const bool like_other = i && (kind == Rows::repeated || kind == Rows::near_parallel) && r.chance(0.3);
    const double scale = kind == Rows::scaled ? std::pow(10, r.uniform(-4, 4)) : 1;
    double value = 0;
    for (std::int64_t j = 0; j < n; ++j) {
      const double fresh = kind == Rows::integer ? r.below(3) - 1 : r.normal();
      const double x = scale * (like_other ? G[at(other * n + j)] + (kind == Rows::near_parallel ? 1e-5 * fresh : 0) : fresh);
      G[at(i * n + j)] = x, value += x * z0[at(j)];
    }
    h[at(i)] = kind == Rows::repeated && like_other ? h[at(other)] : value + scale * (kind == Rows::touching || r.chance(0.1) ? 0 : r.uniform(0.1, 1.1));
  }
  return {.Q = matmul(L, L, {.transpose_b = true}) + std::pow(10, r.uniform(-6, -1)) * eye(n, float64),
          .q = r.normals({count, n}, std::pow(10, r.uniform(-2, 2))), .G = from({m, n}, G), .h = list(h)};
}

}  // namespace

TEST_CASE("many rows, searched in float and from a centre, end where the interior point does", "[qp]") {
  Generator r{std::mt19937_64{51}};
  for (Rows kind : {Rows::random, Rows::repeated, Rows::near_parallel, Rows::scaled, Rows::integer, Rows::touching})
    for (int trial = 0; trial < 6; ++trial) {
      const std::int64_t n = 20 + r.below(70), m = trial % 2 ? 17 + r.below(static_cast<int>(n) - 16) : n + r.below(static_cast<int>(n)), count = 17;
      const QP<Tensor> qp = many_rows(r, kind, count, n, m);
      INFO("kind " << static_cast<int>(kind) << ", trial " << trial << ", n " << n << ", m " << m);
      const QPSolution s = solve(qp), t = solve(qp, {.active_set = false});
      for (std::int64_t e = 0; e < count; ++e) {
        const PlainQP one = element_of(qp, e);
        CHECK(kkt_error(one, answer_of(s, e, one)) < 1e-8);
        const double a = s.objective[static_cast<std::size_t>(e)], b = t.objective[static_cast<std::size_t>(e)];
        CHECK(std::abs(a - b) < 1e-6 * (1 + std::abs(b)));
      }
    }
}
