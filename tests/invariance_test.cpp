// What must not change an answer: the unit of the objective, the units of rows, and how a batch is written down.
#include "tests/random_qp.h"
#include "tests/test.h"

#include <algorithm>
#include <numeric>

namespace {

using Values = std::vector<double>;
constexpr double inf = std::numeric_limits<double>::infinity();
std::size_t at(int i) { return static_cast<std::size_t>(i); }

/// A problem with a known solution at which every side is clearly active or clearly not, so that it has derivatives. Q is
/// positive definite, dense or diagonal; `Q` and `G` may be given.
PlainQP random_plain(Generator& r, int n, int m, int p, bool dense) {
  PlainQP qp{n, m, p, Values(at(n * n)), Values(at(n)), {}, Values(at(m), inf), Values(at(m), -inf), {}, {}, Values(at(n), -inf), Values(at(n), inf)};
  Values z;
  for (int j = 0; j < n; ++j) z.push_back(r.normal());
  for (int k = 0; k < n; ++k) {
    Values v(at(n));
    for (int j = 0; j < n; ++j) v[at(j)] = dense ? r.normal() / std::sqrt(n) : j == k;
    for (int i = 0; i < n; ++i)
      for (int j = 0; j < n; ++j) qp.Q[at(i * n + j)] += v[at(i)] * v[at(j)] + (i == k && j == k ? 0.2 : 0);
  }
  for (int i = 0; i < n; ++i)
    for (int j = 0; j < n; ++j) qp.q[at(i)] -= qp.Q[at(i * n + j)] * z[at(j)];
  int may_be_active = n - p;
  // Draws the sides of a row around its value; returns the dual of high less that of low.
  const auto sides = [&](double value, double& low, double& high) {
    const bool at_low = r.chance(0.5), both = r.chance(0.3), active = may_be_active > 0 && r.chance(0.5);
    may_be_active -= active;
    const double slack = active ? 0 : r.uniform(0.5, 1.5), dual = active ? r.uniform(0.5, 1.5) : 0;
    if (at_low || both) low = value - (at_low ? slack : r.uniform(0.5, 1.5));
    if (!at_low || both) high = value + (at_low ? r.uniform(0.5, 1.5) : slack);
    return at_low ? -dual : dual;
  };
  const auto row = [&](Values& rows, const auto& dual_at) {
    double value = 0;
    const std::size_t first = rows.size();
    for (int j = 0; j < n; ++j) rows.push_back(r.normal()), value += rows.back() * z[at(j)];
    const double dual = dual_at(value);
    for (int j = 0; j < n; ++j) qp.q[at(j)] -= dual * rows[first + at(j)];
  };
  for (int j = 0; j < n; ++j)
    if (r.chance(0.4)) qp.q[at(j)] -= sides(z[at(j)], qp.lower[at(j)], qp.upper[at(j)]);
  for (int i = 0; i < p; ++i) row(qp.A, [&](double value) { return qp.b.push_back(value), r.normal(); });
  for (int i = 0; i < m; ++i) row(qp.G, [&](double value) { return sides(value, qp.lower_g[at(i)], qp.h[at(i)]); });
  return qp;
}

struct Solved {
  QPSolution solution;
  QP<Tensor> gradient;  // of a fixed linear function of z
};
Solved solved(const QP<Tensor>& qp, const QPOptions& options = {.differentiable = true}) {
  QPSolution s = solve(qp, options);
  Random random{5};
  QP<Tensor> gradient = vjp(qp, s, {.z = uniform(random, s.z.shape(), -1, 1, float64)});
  return {std::move(s), std::move(gradient)};
}

/// The largest difference beside the largest number, or 1: at a vertex, z has no gradient to be compared with.
double relative(const Tensor& a, const Tensor& b) {
  if (a.numel() == 0) return 0;
  return max_difference(a, b) / std::max(max_difference(a, zeros(a.shape(), float64)), 1.0);
}

/// qp in other units and back, field by field: the answer and the gradients of z must be those of qp.
void check_units(const PlainQP& qp, const Units& units, Form form) {
  const Solved a = solved(batch_of({qp}, form, true)), b = solved(batch_of({in_units(qp, units)}, form, true));
  CHECK(relative(a.solution.z, b.solution.z) < 1e-7);
  const auto column = [](const Values& x) { return from({static_cast<std::int64_t>(x.size()), 1}, x); };
  const auto row = [](const Values& x) { return from({static_cast<std::int64_t>(x.size())}, x); };
  QP<Tensor> g = b.gradient;  // dl/dx = dl/dy dy/dx, where y is x in units
  g.Q = units.objective * g.Q, g.q = units.objective * g.q;
  if (qp.m) g.G = g.G * column(units.rows);
  for (Tensor* x : {&g.h, &g.lower_g})
    if (x->defined()) *x = *x * row(units.rows);
  if (qp.p) g.A = g.A * column(units.equalities), g.b = g.b * row(units.equalities);
  for (std::size_t i = 0; i < qp_field_names.size(); ++i) {
    INFO(qp_field_names[i]);
    if (fields(g)[i]->defined()) CHECK(relative(*fields(a.gradient)[i], *fields(g)[i]) < 1e-7);
  }
}

}  // namespace

TEST_CASE("the unit of the objective changes neither z nor its gradients", "[qp]") {
  Generator r{std::mt19937_64{1}};
  for (int k = -20; k <= 20; ++k)
    for (int trial = 0; trial < 10; ++trial) {
      const int n = 1 + r.below(12), m = r.below(2 * n + 1), p = r.below((n + 1) / 2);
      const bool dense = r.chance(0.5);
      const PlainQP qp = random_plain(r, n, m, p, dense);
      INFO("2^" << k << ", n " << n << ", m " << m << ", p " << p << ", trial " << trial);
      check_units(qp, {Values(at(n), 1), Values(at(m), 1), Values(at(p), 1), std::ldexp(1, k)}, dense ? Form::dense : Form::diagonal);
    }
}

TEST_CASE("the units of rows change neither z nor its gradients", "[qp]") {
  Generator r{std::mt19937_64{2}};
  for (int trial = 0; trial < 400; ++trial) {
    const int n = 1 + r.below(12), m = r.below(2 * n + 1), p = r.below((n + 1) / 2);
    const bool dense = r.chance(0.5);
    const PlainQP qp = random_plain(r, n, m, p, dense);
    const auto powers = [&](int size) {
      Values out(at(size));
      for (double& x : out) x = std::ldexp(1, r.below(41) - 20);
      return out;
    };
    INFO("n " << n << ", m " << m << ", p " << p << ", trial " << trial);
    check_units(qp, {Values(at(n), 1), powers(m), powers(p), 1}, dense ? Form::dense : Form::diagonal);
  }
}

TEST_CASE("an element's answer is the same, bit for bit, whether its matrices are shared, a batch of one, or its own", "[qp]") {
  Generator r{std::mt19937_64{3}};
  for (int trial = 0; trial < 60; ++trial) {
    const int n = 1 + r.below(12), m = r.below(2 * n + 1), p = r.below((n + 1) / 2);
    const PlainQP qp = random_plain(r, n, m, p, true);
    const QP<Tensor> alone = batch_of({qp}, Form::dense, true), own = batch_of({qp, qp, qp, qp, qp}), shared = batch_of({qp, qp, qp, qp, qp}, Form::dense, true);
    QP<Tensor> one = batch_of({qp}), mixed = own;  // all with a batch axis of one; Q shared, G and A each element's own
    mixed.Q = slice(own.Q, 0, 0, 1);
    const auto answer = [&](const QP<Tensor>& given, std::int64_t e) {
      const PlainAnswer x = answer_of(solve(given), e, qp);
      Values all;
      for (const Values* part : {&x.z, &x.nu, &x.lambda, &x.dual_lower, &x.dual_upper, &x.dual_lower_g}) all.insert(all.end(), part->begin(), part->end());
      return all;
    };
    const Values expected = answer(alone, 0);
    INFO("n " << n << ", m " << m << ", p " << p << ", trial " << trial);
    CHECK(answer(one, 0) == expected);
    CHECK(answer(own, 3) == expected);
    CHECK(answer(shared, 3) == expected);
    CHECK(answer(mixed, 3) == expected);
  }
}

TEST_CASE("the dual of a fixed row, and its gradient, belong to the side of its sign", "[qp]") {
  for (const double q : {1.0, -1.0})
    for (const bool row : {false, true}) {
      const Tensor limit = full({1}, 0.3, float64), one = ones({1}, float64);
      QP<Tensor> qp{.Q = full({}, 1, float64), .q = full({1}, q, float64)};
      if (row) qp.G = ones({1, 1}, float64), qp.h = limit, qp.lower_g = limit;
      else qp.lower = limit, qp.upper = limit;
      const QPSolution s = solve(qp, {.differentiable = true});
      const QPSeed low = row ? QPSeed{.dual_lower_g = one} : QPSeed{.dual_lower = one}, high = row ? QPSeed{.lambda = one} : QPSeed{.dual_upper = one};
      // z = 0.3, and the dual of the side that holds is |0.3 + q|
      CHECK(vjp(qp, s, low).q.to_vector<double>()[0] == Approx(q > 0 ? 1 : 0));
      CHECK(vjp(qp, s, high).q.to_vector<double>()[0] == Approx(q > 0 ? 0 : -1));
    }
}

TEST_CASE("a neighbour whose active set never settles changes no gradient", "[qp]") {
  Generator r{std::mt19937_64{11}};
  const int n = 4, m = 16, count = 24;
  for (int trial = 0; trial < 20; ++trial) {
    std::vector<double> G, h, q;
    for (int e = 0; e < count; ++e) {
      for (int i = 0; i < m * n; ++i) G.push_back(r.normal());
      for (int i = 0; i < m; ++i) h.push_back(e % 3 ? r.uniform(0.1, 1.1) : 0);  // every third element: all rows meet at 0
      for (int i = 0; i < n; ++i) q.push_back(3 * r.normal());
    }
    const QP<Tensor> qp{.Q = full({}, 1, float64), .q = from({count, n}, q), .G = from({count, m, n}, G), .h = from({count, m}, h)};
    const Tensor seed = ones({count, n}, float64);
    const QP<Tensor> all = vjp(qp, solve(qp, {.differentiable = true}), {.z = seed});
    for (int e = 0; e < count; ++e) {
      const QP<Tensor> one{.Q = qp.Q, .q = slice(qp.q, 0, e, e + 1), .G = slice(qp.G, 0, e, e + 1), .h = slice(qp.h, 0, e, e + 1)};
      const QP<Tensor> alone = vjp(one, solve(one, {.differentiable = true}), {.z = slice(seed, 0, e, e + 1)});
      INFO("trial " << trial << ", element " << e);
      CHECK(alone.q.to_vector<double>() == slice(all.q, 0, e, e + 1).to_vector<double>());
      CHECK(alone.h.to_vector<double>() == slice(all.h, 0, e, e + 1).to_vector<double>());
    }
  }
}

namespace {

/// Many elements that share all but q: some far from the solution for q = 0, some at it.
QP<Tensor> around_a_centre(Generator& r, int count, std::int64_t n, std::int64_t m, bool two_sided, std::int64_t p) {
  const Tensor L = r.normals({n, n}, 0.2), z0 = r.normals({n, 1}), G = r.normals({m, n}), Gz = matmul(G, z0).reshape({m});
  std::vector<double> room;
  for (int i = 0; i < m; ++i) room.push_back(r.uniform(0.1, 1.1));
  QP<Tensor> qp{.Q = matmul(L, L, {.transpose_b = true}) + 0.01 * eye(n, float64), .q = r.normals({count, n}), .G = G, .h = Gz + list(room)};
  if (two_sided) qp.lower_g = qp.h - 1.2;
  if (p) qp.A = r.normals({p, n}), qp.b = matmul(qp.A, z0).reshape({p});
  return qp;
}

/// The same with matrices and sides of each element's own.
QP<Tensor> each_its_own(QP<Tensor> qp) {
  const std::int64_t count = qp.q.size(0);
  for (Tensor* x : {&qp.Q, &qp.G, &qp.A}) if (x->defined()) *x = *x + zeros({count, 1, 1}, float64);
  for (Tensor* x : {&qp.h, &qp.lower_g, &qp.b, &qp.lower}) if (x->defined()) *x = *x + zeros({count, 1}, float64);
  return qp;
}

std::vector<double> everything(const QPSolution& s) {
  std::vector<double> all;
  for (const Tensor* x : {&s.z, &s.nu, &s.lambda, &s.dual_lower, &s.dual_upper, &s.dual_lower_g}) {
    const std::vector<double> part = values(*x);
    all.insert(all.end(), part.begin(), part.end());
  }
  return all;
}

double steps(const QPSolution& s) { return std::accumulate(s.iterations.begin(), s.iterations.end(), 0.0); }
QP<Tensor> with_q(QP<Tensor> qp, const Tensor& q) { return qp.q = q, qp; }

}  // namespace

TEST_CASE("a search that begins at the centre of a batch ends at the same answer, bit for bit", "[qp]") {
  Generator r{std::mt19937_64{41}};
  struct Form {
    int n, m, p;
    bool two_sided;
  };
  for (const Form& f : std::vector<Form>{{30, 24, 0, false}, {30, 24, 0, true}, {30, 24, 4, false}, {30, 24, 4, true}, {90, 80, 0, false}, {90, 80, 5, true}}) {
    const QP<Tensor> qp = around_a_centre(r, 40, f.n, f.m, f.two_sided, f.p), own = each_its_own(qp);
    INFO("n " << f.n << ", m " << f.m << ", p " << f.p << (f.two_sided ? ", two sides" : ""));
    const Solved a = solved(qp), b = solved(own);
    CHECK(worst_kkt(qp, a.solution) < 1e-8);
    CHECK(everything(a.solution) == everything(b.solution));
    CHECK(steps(a.solution) < 1.1 * steps(b.solution));  // a wrong guess would be mended, in four times as many
    CHECK(steps(solve(alone(with_q(qp, zeros({f.n}, float64)), 0))) == 2);
    CHECK(a.gradient.q.to_vector<double>() == b.gradient.q.to_vector<double>());
    CHECK(max_difference(sum(b.gradient.G, {0}), a.gradient.G) < 1e-9);
    for (std::int64_t e = 0; e < 40; e += 13) {
      const Tensor z = slice(a.solution.z, 0, e, e + 1);
      CHECK(z.to_vector<double>() == solve(alone(qp, e)).z.to_vector<double>());                        // from the same centre
      CHECK(z.to_vector<double>() == solve(alone(own, e)).z.to_vector<double>());
    }
  }
}

TEST_CASE("rows that touch their limit with no dual are not active, wherever the search began", "[qp]") {
  const int n = 24, count = 20;
  Generator r{std::mt19937_64{43}};
  std::vector<double> q;
  for (int i = 0; i < n * count; ++i) q.push_back(r.below(5) - 3);  // z = max(-q, 1): at the bound with no dual where q = -1
  const QP<Tensor> qp{.Q = full({}, 1, float64), .q = from({count, n}, q), .lower = ones({n}, float64)};  // all are active for q = 0
  const Solved a = solved(qp), b = solved(each_its_own(qp));
  CHECK(everything(a.solution) == everything(b.solution));
  CHECK(a.gradient.q.to_vector<double>() == b.gradient.q.to_vector<double>());
  const std::vector<double> gradient = a.gradient.q.to_vector<double>();
  for (std::size_t i = 0; i < q.size(); ++i) CHECK((gradient[i] != 0) == (q[i] <= -1));
}

TEST_CASE("many rows are searched in float, in any units: in double one step confirms what was found", "[qp]") {
  Generator r{std::mt19937_64{47}};
  const QP<Tensor> qp = each_its_own(around_a_centre(r, 30, 90, 80, false, 0));
  QP<Tensor> large = qp, few = qp;
  for (Tensor* x : {&large.q, &large.h}) *x = *x * std::ldexp(1, 140);  // beyond float's range
  const QPSolution a = solve(qp), b = solve(large);
  CHECK(a.iterations == b.iterations);
  CHECK(max_difference(a.z, b.z * std::ldexp(1, -140)) < 1e-9);
  // With rows that no one needs taken away, 64 are left, and the search is in double: it takes a step less.
  std::vector<double> room(80, 1e9);
  few.G = slice(qp.G, 1, 0, 64), few.h = slice(qp.h, 1, 0, 64);
  QP<Tensor> padded = qp;
  std::fill(room.begin(), room.begin() + 64, 0.0), padded.h = qp.h + list(room);
  const double in_double = steps(solve(few)), in_float = steps(solve(padded));
  CHECK(in_float > in_double + 25);
  CHECK(in_float < in_double + 45);
}
