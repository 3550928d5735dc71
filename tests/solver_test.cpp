// The QP solver without the tape is right: against the KKT conditions, central differences, other forms of the same problem
// and closed forms; each element's independence of its batch; and its loops in any order. (Problems at the edge:
// edge_test.cpp.)
#include "tests/random_qp.h"
#include "tests/test.h"

#include "solvers/dense_one.h"
#include "solvers/interior_point.h"

#include <algorithm>
#include <array>
#include <numeric>
#include <random>

namespace {

using Values = std::vector<double>;

bool same_in_all_bits(const PlainAnswer& a, const PlainAnswer& b) {
  using A = PlainAnswer;
  for (const auto part : {&A::z, &A::nu, &A::lambda, &A::dual_lower, &A::dual_upper, &A::dual_lower_g})
    if (!same_bits(list(a.*part), list(b.*part))) return false;
  return true;
}

/// Element e with shared fields written out, Q dense, and every side that a field speaks of, a row of G z <= h.
QP<Tensor> longest_form(const QP<Tensor>& qp, std::int64_t e) {
  const PlainQP one = element_of(qp, e);
  QP<Tensor> out{.Q = from({one.n, one.n}, one.Q), .q = list(one.q)};
  if (one.p) out.A = from({one.p, one.n}, one.A), out.b = list(one.b);
  Values G, h;
  const auto sides = [&](const Tensor& field, double sign, const Values& rows, const Values& limits) {
    if (!field.defined()) return;
    for (double x : rows) G.push_back(sign * x);
    for (double x : limits) h.push_back(sign * x);
  };
  const Values I = values(eye(one.n, float64));
  sides(qp.lower, -1, I, one.lower), sides(qp.upper, 1, I, one.upper);
  sides(qp.h, 1, one.G, one.h), sides(qp.lower_g, -1, one.G, one.lower_g);
  if (!h.empty()) out.G = from({static_cast<std::int64_t>(h.size()), one.n}, G), out.h = list(h);
  return out;
}

}  // namespace

TEST_CASE("two thousand random problems of every structure satisfy the KKT conditions, and every gradient the central difference", "[qp]") {
  Generator r{std::mt19937_64{2026}};
  int problems = 0, batches = 0, rejected = 0;
  std::array<int, qp_field_names.size()> checked{};
  double worst = 0, worst_gradient = 0;
  while (problems < 2000) {
    const auto [qp, count] = random_qp(r);
    const QPSolution s = solve(qp, {.differentiable = true});
    const double residual = worst_kkt(qp, s);
    worst = std::max(worst, residual);
    if (residual > 1e-8) FAIL_CHECK("KKT residual " << residual << " in batch " << batches + rejected);
    if (!differentiable(qp, s)) {
      ++rejected;
      continue;
    }
    const QPSeed seed = random_seed(r, s, r.chance(0.5));
    const QP<Tensor> gradient = vjp(qp, s, seed);
    for (std::size_t i = 0; i < qp_field_names.size(); ++i) {
      REQUIRE(fields(qp)[i]->defined() == fields(gradient)[i]->defined());
      if (!fields(qp)[i]->defined()) continue;
      REQUIRE(fields(gradient)[i]->shape() == fields(qp)[i]->shape());
      if (!all_finite(*fields(qp)[i])) continue;
      const Tensor direction = i > 0 || definite(qp, count) ? random_direction(r, fields(qp)[i]->shape()) : qp.Q / std::sqrt(std::max(1.0, dot(qp.Q, qp.Q)));
      const double error = gradient_error(qp, i, seed, *fields(gradient)[i], direction);
      worst_gradient = std::max(worst_gradient, error);
      if (error > 1e-6) FAIL_CHECK(qp_field_names[i] << " of batch " << batches + rejected << ": gradient error " << error);
      ++checked[i];
    }
    problems += static_cast<int>(count), ++batches;
  }
  INFO("worst KKT residual " << worst << ", gradient error " << worst_gradient << "; batches " << batches << ", too near a kink " << rejected);
  CHECK(rejected < batches);
  for (int times : checked) CHECK(times > 40);
}

TEST_CASE("every single entry of every gradient agrees with its central difference", "[qp]") {
  Generator r{std::mt19937_64{11}};
  for (int entries = 0; entries < 3000;) {
    const auto [qp, count] = random_qp(r);
    if (count * qp.q.size(-1) > 12) continue;
    const QPSolution s = solve(qp, {.differentiable = true});
    if (!differentiable(qp, s)) continue;
    const QPSeed seed = random_seed(r, s, true);
    const QP<Tensor> gradient = vjp(qp, s, seed);
    for (std::size_t i = 0; i < qp_field_names.size(); ++i) {
      const Tensor& field = *fields(qp)[i];
      if (!field.defined() || !all_finite(field) || (i == 0 && !definite(qp, count))) continue;
      for (std::int64_t k = 0; k < field.numel(); ++k, ++entries) {
        INFO(qp_field_names[i] << ", entry " << k);
        REQUIRE(gradient_error(qp, i, seed, *fields(gradient)[i], entry_direction(field.shape(), k)) < 1e-6);
      }
    }
  }
}

TEST_CASE("float32 problems are solved in double and rounded once", "[qp]") {
  Generator r{std::mt19937_64{5}};
  for (int trial = 0; trial < 40; ++trial) {
    auto [qp, count] = random_qp(r);
    QP<Tensor> wide;
    if (!definite(qp, count)) continue;  // rounding to float32 may leave the semidefinite
    for (std::size_t i = 0; i < qp_field_names.size(); ++i)
      if (fields(qp)[i]->defined()) *fields(qp)[i] = fields(qp)[i]->to(float32), *fields(wide)[i] = fields(qp)[i]->to(float64);
    const QPSolution s = solve(qp, {.differentiable = true}), t = solve(wide, {.differentiable = true});
    REQUIRE(s.z.dtype() == float32);
    CHECK(same_bits(s.z, t.z.to(float32)));
    const QP<Tensor> g = vjp(qp, s, {.z = s.z}), w = vjp(wide, t, {.z = s.z.to(float64)});
    for (std::size_t i = 0; i < qp_field_names.size(); ++i)
      if (fields(g)[i]->defined()) CHECK(same_bits(*fields(g)[i], fields(w)[i]->to(float32)));
  }
}

TEST_CASE("one problem in two forms has one solution and one gradient", "[qp]") {
  Generator r{std::mt19937_64{11}};
  int compared = 0;
  while (compared < 60) {
    const auto [qp, count] = random_qp(r);
    const QPSolution s = solve(qp, {.differentiable = true});
    if (s.z.rank() < 2 || !differentiable(qp, s)) continue;
    ++compared;
    const QPSeed seed{.z = r.normals(s.z.shape())};
    const QP<Tensor> g = vjp(qp, s, seed);
    // Each element alone, in its longest form.
    std::array<Values, qp_field_names.size()> total;
    for (std::int64_t e = 0; e < count; ++e) {
      const PlainQP one = element_of(qp, e);
      const QP<Tensor> other = longest_form(qp, e);
      const QPSolution t = solve(other, {.differentiable = true});
      CHECK(max_difference(t.z, list(answer_of(s, e, one).z)) < 1e-7);
      const Values v = values(seed.z), all(v.begin() + e * one.n, v.begin() + (e + 1) * one.n);
      const QP<Tensor> h = vjp(other, t, {.z = list(all)});
      for (std::size_t i : {1u, 4u, 5u}) {
        const Values part = values(*fields(h)[i]);
        const bool each = fields(qp)[i]->defined() && fields(qp)[i]->rank() > (i == 4 ? 2 : 1);
        if (each || total[i].empty()) total[i].insert(total[i].end(), part.begin(), part.end());
        else for (std::size_t k = 0; k < part.size(); ++k) total[i][k] += part[k];
      }
    }
    for (std::size_t i : {1u, 4u, 5u})
      if (fields(qp)[i]->defined()) CHECK(max_difference(from(fields(qp)[i]->shape(), total[i]), *fields(g)[i]) < 1e-5);
  }
}

TEST_CASE("the same problem written another way has the same solution and gradients", "[qp]") {
  Random random{17};
  const std::int64_t B = 3, n = 5;
  const Tensor q = normal(random, {B, n}, 0, 2, float64), A = normal(random, {2, n}, 0, 1, float64);
  const Tensor b = 0.1 * normal(random, {B, 2}, 0, 1, float64), diagonal = uniform(random, {n}, 0.5, 2, float64);
  const QP<Tensor> plain{.Q = diagonal, .q = q, .A = A, .b = b, .lower = full({n}, -1, float64), .upper = full({n}, 1.5, float64)};
  const QPSolution s = solve(plain, kept);
  const QPSeed seed{.z = normal(random, {B, n}, 0, 1, float64)};
  const QP<Tensor> g = vjp(plain, s, seed);

  SECTION("bounds as rows of G") {
    QP<Tensor> other = plain;
    other.lower = other.upper = Tensor{};
    other.G = concat({-eye(n, float64), eye(n, float64)}, 0);
    other.h = concat({-plain.lower, plain.upper}, 0);
    const QPSolution t = solve(other, kept);
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
    const QPSolution t = solve(other, kept);
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
    const QPSolution t = solve(other, kept);
    const QP<Tensor> d = vjp(other, t, seed);
    CHECK(max_difference(s.z, t.z) < 1e-9);
    CHECK(max_difference(g.Q, sum(d.Q, {0, 1})) < 1e-8);
    CHECK(max_difference(g.A, sum(d.A, {0})) < 1e-8);
    CHECK(max_difference(g.lower, sum(d.lower, {0})) < 1e-8);
  }
  SECTION("a scalar Q as a diagonal one") {
    QP<Tensor> scalar = plain, vector = plain;
    scalar.Q = full({}, 0.7, float64), vector.Q = full({n}, 0.7, float64);
    const QPSolution u = solve(scalar, kept), v = solve(vector, kept);
    CHECK(max_difference(u.z, v.z) < 1e-12);
    CHECK(vjp(scalar, u, seed).Q.item() == Approx(sum(vjp(vector, v, seed).Q).item()).margin(1e-9));
  }
}

TEST_CASE("solutions have their closed forms", "[qp]") {
  Random random{19};
  const Tensor x = normal(random, {64, 6}, 0, 2, float64), I = full({}, 1, float64);
  CHECK(max_difference(solve({.Q = I, .q = -x, .lower = full({}, 0, float64)}, kept).z, relu(x)) < 1e-8);
  const Tensor box = maximum(minimum(x, full({}, 0.7, float64)), full({}, -0.4, float64));
  CHECK(max_difference(solve({.Q = I, .q = -x, .lower = full({}, -0.4, float64), .upper = full({}, 0.7, float64)}, kept).z, box) < 1e-8);

  // Soft threshold: z = u - v, u, v >= 0, minimise 1/2 |u - v - x|^2 + t sum(u + v).
  const double t = 0.6;
  const Tensor E = concat({eye(6, float64), -eye(6, float64)}, 1);
  const Tensor uv = solve({.Q = matmul(E, E, {.transpose_a = true}), .q = t - matmul(x, E), .lower = full({}, 0, float64)}, kept).z;
  const Tensor soft = relu(x - t) - relu(-x - t);
  CHECK(max_difference(slice(uv, 1, 0, 6) - slice(uv, 1, 6, 12), soft) < 1e-7);

  // The simplex, by sorting (Held, Wolfe and Crowder 1974).
  const Tensor z = solve({.Q = I, .q = -x, .A = ones({1, 6}, float64), .b = ones({1}, float64), .lower = full({}, 0, float64)}, kept).z;
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
  CHECK(max_difference(solve({.Q = I, .q = -x, .A = A, .b = ones({2}, float64)}, kept).z, x - matmul(nu, A, {.transpose_a = true})) < 1e-8);

  const QPSolution line = solve({.Q = list({1, 2}), .q = list({0, 0}), .A = ones({1, 2}, float64), .b = number(3)});
  CHECK(max_difference(line.z, list({2, 1})) < 1e-9);
  CHECK(line.nu.item() == Approx(-2));

  // The derivative of ReLU is 1 where x > 0 and 0 where x < 0; that of its bound the other way about.
  const QP<Tensor> qp{.Q = I, .q = list({2, 0.1, -0.1, -3}), .lower = number(0)};
  const QP<Tensor> g = vjp(qp, solve(qp, kept), {.z = ones({4}, float64)});
  CHECK(max_difference(g.q, list({0, 0, -1, -1})) < 1e-6);
  CHECK(g.lower.item() == Approx(2).margin(1e-6));
}

TEST_CASE("an element's answer is the same, bit for bit, alone, anywhere in any batch, and with any threads", "[qp]") {
  Generator r{std::mt19937_64{3}};
  for (int trial = 0; trial < 30; ++trial) {
    const auto [qp, count] = random_qp(r);
    const int before = threads();
    set_threads(1);
    const QPSolution one = solve(qp, {.differentiable = true});
    const QPSeed seed = random_seed(r, one, true);
    const QP<Tensor> g = vjp(qp, one, seed);
    set_threads(2);
    const QPSolution two = solve(qp, {.differentiable = true});
    const QP<Tensor> h = vjp(qp, two, seed);
    set_threads(before);
    CHECK(same_bits(one.z, two.z));
    for (std::size_t i = 0; i < qp_field_names.size(); ++i)
      if (fields(g)[i]->defined()) CHECK(same_bits(*fields(g)[i], *fields(h)[i]));
    if (one.z.rank() < 2) continue;
    for (std::int64_t e = 0; e < count; ++e) {
      const PlainQP sizes = element_of(qp, e);
      CHECK(same_in_all_bits(answer_of(solve(alone(qp, e)), 0, sizes), answer_of(one, e, sizes)));
    }
  }
}

namespace {

/// A team that runs every loop in another order, as a thread block might.
struct ShuffledTeam {
  static std::vector<int> order(int n) {
    static std::mt19937 engine{7};
    std::vector<int> out(static_cast<std::size_t>(std::max(n, 0)));
    std::iota(out.begin(), out.end(), 0);
    std::shuffle(out.begin(), out.end(), engine);
    return out;
  }
  template <class F>
  void for_each(int n, const F& f) const {
    for (int i : order(n)) f(i);
  }
  template <class T, class F>
  T sum(int n, const F& f) const {
    T total = 0.0;
    for (int i : order(n)) total += f(i);
    return total;
  }
  template <class T, class F>
  T largest(int n, T start, const F& f) const {
    for (int i : order(n)) start = max(f(i), start);
    return start;
  }
  template <class T, class F>
  T smallest(int n, T start, const F& f) const {
    for (int i : order(n)) start = min(f(i), start);
    return start;
  }
};

/// Solves one problem, the same in every lane, in order and shuffled.
template <class T>
void check_any_order(bool diagonal) {
  Generator r{std::mt19937_64{13}};
  const int n = 13, p = 4, m = diagonal ? 0 : 9, k = 2 * (n + m);
  const auto wide = [](const Values& x) { return std::vector<T>(x.begin(), x.end()); };
  const Tensor L = r.normals({n, n});
  const std::vector<T> Q = wide(values(matmul(L, L, {.transpose_b = true}) + 0.1 * eye(n, float64))), A = wide(values(r.normals({p, n})));
  const std::vector<T> G = wide(values(r.normals({m, n}))), q = wide(values(r.normals({n}, 2))), weights(n, T(0.7)), b(p, T(0.1));
  std::vector<T> row_memory(static_cast<std::size_t>(n + m));
  const std::vector<T> d(static_cast<std::size_t>(k), T(0.8)), mask(static_cast<std::size_t>(k), T(1.0));
  Problem<T, T> problem{{.n = n, .p = p, .m = m, .bounds = true, .low = true, .high = true, .Q_dense = !diagonal}};
  (diagonal ? problem.Q_diagonal : problem.Q) = diagonal ? weights.data() : Q.data();
  problem.A = A.data(), problem.G = G.data(), problem.q = q.data(), problem.b = b.data(), problem.d = d.data();
  problem.mask = mask.data(), problem.row_memory = row_memory.data();
  Workspace<T> memory, other;
  std::vector<T> ones(static_cast<std::size_t>(Scaling<T>::size(problem)), T(1.0));
  const Scaling<T> unit(ones.data(), problem);
  InteriorPoint<T, T, OneThread> ordered(problem, unit, {}, memory);
  InteriorPoint<T, T, ShuffledTeam> shuffled(problem, unit, {}, other);
  ordered.solve(nullptr), shuffled.solve(nullptr);
  for (int l = 0; l < lanes_of<T>; ++l) {
    CHECK(ordered.status[l] == QPStatus::solved);
    CHECK(shuffled.status[l] == QPStatus::solved);
    for (int i = 0; i < n; ++i) CHECK(lane(shuffled.z[i], l) == Approx(lane(ordered.z[i], l)).margin(1e-10));
  }
}

}  // namespace

TEST_CASE("the loops of the solver can run in any order, as on a CUDA block", "[qp]") {
  for (bool diagonal : {false, true}) check_any_order<double>(diagonal), check_any_order<Pack>(diagonal);
}

TEST_CASE("a team may run the packs' own Cholesky in any order", "[qp]") {
  Generator r{std::mt19937_64{17}};
  const int n = 23, ld = dense::leading_dimension(n);
  std::vector<Pack> a(static_cast<std::size_t>(n * ld), Pack(0.0));
  for (int i = 0; i < n; ++i)
    for (int j = 0; j <= i; ++j) a[static_cast<std::size_t>(i * ld + j)] = i == j ? Pack(n) : Pack(r.uniform());
  std::vector<Pack> b = a;
  dense::cholesky(OneThread{}, n, n, a.data(), ld), dense::cholesky(ShuffledTeam{}, n, n, b.data(), ld);
  for (int i = 0; i < n; ++i)
    for (int j = 0; j <= i; ++j) CHECK(b[static_cast<std::size_t>(i * ld + j)][0] == Approx(a[static_cast<std::size_t>(i * ld + j)][0]));
}

namespace {

/// A symmetric matrix with a right-hand side in column n, factored and solved: A x = b. `negative` of its diagonal entries are.
template <class P>
void check_one_problem(int n, int negative, double tolerance) {
  using S = typename P::Scalar;
  Generator r{std::mt19937_64{29}};
  const int ld = dense::row_packs<P>(n + 1);
  const auto at = [&](std::vector<P>& M, int i, int j) -> S& { return dense::entries(M.data() + i * ld)[j]; };
  std::vector<P> A(static_cast<std::size_t>(n * ld), P(0)), V = A, U, x(static_cast<std::size_t>(ld), P(0));
  std::vector<int> sign(static_cast<std::size_t>(n), 1);
  for (int k = 0; k < negative; ++k) sign[static_cast<std::size_t>(k * 7 % n)] = -1;  // here and there
  for (int i = 0; i < n; ++i)
    for (int j = i; j <= n; ++j) at(A, i, j) = i == j ? sign[static_cast<std::size_t>(i)] * S(n) : S(r.uniform(-1, 1));
  U = A;
  dense::ldl_upper(n, n + 1, U.data(), V.data(), ld);
  double worst = 0;
  for (int i = 0; i < n; ++i) {
    CHECK((at(U, i, i) > 0) == (sign[static_cast<std::size_t>(i)] > 0));
    for (int j = i; j <= n; ++j) {  // (V'U)_ij, where U_ii is 1 and holds 1/D_ii
      double product = 0;
      for (int k = 0; k <= i; ++k) product += double(at(V, k, i)) * (k == j ? 1 : at(U, k, j));
      worst = std::max(worst, std::abs(product - at(A, i, j)));
    }
  }
  CHECK(worst < tolerance * n);
  for (int i = 0; i < n; ++i) at(x, 0, i) = at(U, i, n), at(U, i, n) = 0;
  dense::solve_upper(n, U.data(), ld, x.data());
  const auto residual = [&] {
    double largest = 0;
    for (int i = 0; i < n; ++i) {
      double rest = -at(A, i, n);
      for (int j = 0; j < n; ++j) rest += double(at(A, std::min(i, j), std::max(i, j))) * at(x, 0, j);
      largest = std::max(largest, std::abs(rest));
    }
    return largest;
  };
  CHECK(residual() < tolerance * n);
  if constexpr (std::is_same_v<P, Pack>) {  // the factor again, on a right-hand side that was not beside it
    std::fill(x.begin(), x.end(), P(0));
    for (int i = 0; i < n; ++i) at(x, 0, i) = at(A, i, n);
    dense::solve_upper_transposed(n, U.data(), ld, x.data());
    dense::solve_upper(n, U.data(), ld, x.data());
    CHECK(residual() < tolerance * n);
  }
}

}  // namespace

TEST_CASE("one problem's own factorisation, of definite and of quasi-definite matrices, solves with a column beside it and later", "[qp]") {
  for (int n = dense::pivots; n < 60; n += dense::pivots)
    for (int negative : {0, n / 2, n}) check_one_problem<Pack>(n, negative, 1e-12), check_one_problem<FloatPack>(n, negative, 1e-4);
}

TEST_CASE("large problems take the LAPACK path to the same conditions", "[qp]") {
  Generator r{std::mt19937_64{19}};
  const std::int64_t n = 300, m = 40, p = 20;
  const Tensor G = r.normals({m, n}, 0.1), A = r.normals({p, n}, 0.1), L = r.normals({n, n}, 0.1);
  for (const Tensor& Q : {full({n}, 1, float64), matmul(L, L, {.transpose_b = true}) + eye(n, float64)}) {
    const QP<Tensor> qp{.Q = Q, .q = r.normals({2, n}), .G = G, .h = number(0.5), .A = A, .b = number(0.1), .lower = number(-1)};
    const QPSolution s = solve(qp, {.differentiable = true});
    CHECK(worst_kkt(qp, s) < 1e-8);
    const QPSeed seed = random_seed(r, s, false);
    const QP<Tensor> g = vjp(qp, s, seed);
    CHECK(gradient_error(qp, 1, seed, g.q, random_direction(r, qp.q.shape())) < 1e-5);
    CHECK(same_bits(solve(alone(qp, 1)).z.reshape({1, n}), slice(s.z, 0, 1, 2)));
  }
}
