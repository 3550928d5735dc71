// The QP solver without the tape: against the KKT conditions, central differences, other forms of the same problem and
// closed forms; each element's independence of its batch; what happens to problems that have no solution, or make no
// sense; and its loops in any order.
#include "tests/test.h"

#include "solvers/interior_point.h"

#include <array>
#include <numeric>
#include <random>

namespace {

constexpr double inf = std::numeric_limits<double>::infinity();
using Values = std::vector<double>;

/// Numbers that owe nothing to the library under test.
struct Generator {
  std::mt19937_64 engine;
  double uniform(double a = 0, double b = 1) { return std::uniform_real_distribution<double>(a, b)(engine); }
  double normal() { return std::normal_distribution<double>()(engine); }
  bool chance(double p) { return uniform() < p; }
  int below(int n) { return static_cast<int>(engine() % static_cast<unsigned>(n)); }
  Tensor normals(const Shape& shape, double scale = 1) {
    Values x(static_cast<std::size_t>(shape.numel()));
    for (double& v : x) v = scale * normal();
    return from(shape, x);
  }
};

Values values(const Tensor& x) { return x.defined() ? x.to_vector<double>() : Values{}; }
Tensor number(double x) { return full({}, x, float64); }
Tensor list(const Values& x) { return from({static_cast<std::int64_t>(x.size())}, x); }
void check_refused(const QP<Tensor>& qp, const std::string& why, const QPOptions& options = {}) {
  CHECK_THAT(error_of([&] { solve(qp, options); }), Contains(why));
}

/// One element of a batch, in plain numbers and the longest form: dense Q, every side a row of C z <= d.
struct Plain {
  int n = 0, p = 0, sides = 0;
  Values Q{}, q{}, A{}, b{}, C{}, d{};
};

/// Entry i of element e of a vector field that broadcasts to [B, size].
double entry(const Tensor& x, std::int64_t e, std::int64_t i) {
  const Values v = values(x);
  const std::int64_t size = x.rank() ? x.size(-1) : 1, rows = x.numel() / size;
  return v[static_cast<std::size_t>((rows > 1 ? e : 0) * size + (size > 1 ? i : 0))];
}

Values matrix_of(const Tensor& x, std::int64_t e) {
  if (!x.defined()) return {};
  const std::int64_t size = x.size(-1) * x.size(-2), at = x.numel() > size ? e * size : 0;
  const Values v = values(x);
  return Values(v.begin() + at, v.begin() + at + size);
}

Plain plain(const QP<Tensor>& qp, std::int64_t e) {
  Plain out;
  const int n = out.n = static_cast<int>(qp.q.size(-1)), m = qp.G.defined() ? static_cast<int>(qp.G.size(-2)) : 0;
  out.p = qp.A.defined() ? static_cast<int>(qp.A.size(-2)) : 0;
  out.Q.assign(static_cast<std::size_t>(n * n), 0);
  const bool dense = qp.Q.defined() && qp.Q.rank() >= 2 && qp.Q.size(-2) > 1;
  const Values Q = dense ? matrix_of(qp.Q, e) : Values{};
  const std::int64_t wide = qp.Q.defined() && qp.Q.rank() ? qp.Q.size(-1) : 1;
  const Tensor diagonal = dense || !qp.Q.defined() ? Tensor{} : qp.Q.rank() == 3 ? qp.Q.reshape({qp.Q.size(0), wide}) : qp.Q;
  for (int i = 0; i < n; ++i) {
    out.q.push_back(entry(qp.q, e, i));
    for (int j = 0; dense && j < n; ++j) out.Q[static_cast<std::size_t>(i * n + j)] = Q[static_cast<std::size_t>(i * n + j)];
    if (diagonal.defined()) out.Q[static_cast<std::size_t>(i * n + i)] = entry(diagonal, e, i);
  }
  out.A = matrix_of(qp.A, e);
  for (int i = 0; i < out.p; ++i) out.b.push_back(entry(qp.b, e, i));
  const auto side = [&](int i, double sign, double limit) {
    for (int j = 0; j < n; ++j) out.C.push_back(i == j ? sign : 0);
    out.d.push_back(sign * limit), ++out.sides;
  };
  for (int i = 0; qp.lower.defined() && i < n; ++i) side(i, -1, entry(qp.lower, e, i));
  for (int i = 0; qp.upper.defined() && i < n; ++i) side(i, 1, entry(qp.upper, e, i));
  const Values G = matrix_of(qp.G, e);
  const auto rows = [&](const Tensor& limits, double sign) {
    for (int i = 0; limits.defined() && i < m; ++i) {
      for (int j = 0; j < n; ++j) out.C.push_back(sign * G[static_cast<std::size_t>(i * n + j)]);
      out.d.push_back(sign * entry(limits, e, i)), ++out.sides;
    }
  };
  rows(qp.h, 1), rows(qp.lower_g, -1);
  return out;
}

/// The duals of element e's sides in Plain's order, its z and nu.
struct Point {
  Values z, nu, lambda;
};
Point point(const QPSolution& s, std::int64_t e) {
  const auto row = [&](const Tensor& x, Values& out) {
    if (!x.defined()) return;
    const Values v = values(x);
    const std::int64_t size = x.size(-1);
    out.insert(out.end(), v.begin() + e * size, v.begin() + (e + 1) * size);
  };
  Point out;
  row(s.z, out.z), row(s.nu, out.nu), row(s.dual_lower, out.lambda), row(s.dual_upper, out.lambda), row(s.lambda, out.lambda), row(s.dual_lower_g, out.lambda);
  return out;
}

struct Kkt_check {
  double residual = 0;        // the largest violation of (K2)
  double separation = inf;    // the smallest max(s, lambda): 0 where strict complementarity fails
  int active = 0;
};
Kkt_check kkt(const Plain& qp, const Point& x) {
  Kkt_check out;
  const auto at = [](const Values& M, int i, int j, int n) { return M[static_cast<std::size_t>(i * n + j)]; };
  const auto violated = [&](double by) { out.residual = std::max(out.residual, std::isfinite(by) ? by : inf); };
  for (int j = 0; j < qp.n; ++j) {
    double r = qp.q[j];
    for (int i = 0; i < qp.n; ++i) r += at(qp.Q, j, i, qp.n) * x.z[i];
    for (int i = 0; i < qp.p; ++i) r += at(qp.A, i, j, qp.n) * x.nu[i];
    for (int i = 0; i < qp.sides; ++i) r += at(qp.C, i, j, qp.n) * x.lambda[i];
    violated(std::abs(r));
  }
  for (int i = 0; i < qp.p; ++i) {
    double r = -qp.b[i];
    for (int j = 0; j < qp.n; ++j) r += at(qp.A, i, j, qp.n) * x.z[j];
    violated(std::abs(r));
  }
  for (int i = 0; i < qp.sides; ++i) {
    if (std::isinf(qp.d[i])) {
      violated(std::abs(x.lambda[i]));
      continue;
    }
    double s = qp.d[i];
    for (int j = 0; j < qp.n; ++j) s -= at(qp.C, i, j, qp.n) * x.z[j];
    violated(-s), violated(-x.lambda[i]), violated(std::abs(s * x.lambda[i]));
    out.separation = std::min(out.separation, std::max(s, x.lambda[i]));
    out.active += x.lambda[i] > s;
  }
  return out;
}
double worst_kkt(const QP<Tensor>& qp, const QPSolution& s) {
  double worst = 0;
  for (std::size_t e = 0; e < s.status.size(); ++e) worst = std::max(worst, kkt(plain(qp, static_cast<std::int64_t>(e)), point(s, static_cast<std::int64_t>(e))).residual);
  return worst;
}

/// A random batch of a random structure, always feasible: everything is built around a point z0 within all sides.
QP<Tensor> random_qp(Generator& r, std::int64_t& count) {
  const std::int64_t B = count = r.chance(0.2) ? 1 : 2 + r.below(6), n = r.chance(0.1) ? 1 : 2 + r.below(9);
  const std::int64_t m = r.chance(0.35) ? 0 : 1 + r.below(2 * static_cast<int>(n)), p = r.chance(0.4) || n == 1 ? 0 : 1 + r.below(static_cast<int>(n + 1) / 2);
  const auto own = [&] { return r.chance(0.5); };
  const auto shape = [&](bool each, std::initializer_list<std::int64_t> tail) {
    std::vector<std::int64_t> s(tail);
    if (each) s.insert(s.begin(), B);
    return Shape(s);
  };
  QP<Tensor> qp;
  qp.q = r.normals(shape(own(), {n}), 2);
  const bool own_A = own(), own_b = own(), own_G = own();
  const bool z0_own = p == 0 || own_b, z0_zero = p > 0 && own_A && !own_b;
  Values z0(static_cast<std::size_t>(B * n));
  for (std::size_t i = 0; i < z0.size(); ++i) z0[i] = z0_zero ? 0 : z0_own || i < static_cast<std::size_t>(n) ? r.normal() : z0[i % static_cast<std::size_t>(n)];
  const auto product = [&](const Tensor& M, std::int64_t e, std::int64_t i) {
    const Values v = matrix_of(M, e);
    double sum = 0;
    for (std::int64_t j = 0; j < n; ++j) sum += v[static_cast<std::size_t>(i * n + j)] * z0[static_cast<std::size_t>(e * n + j)];
    return sum;
  };
  // limits of `size` sides; a shared limit leaves room for every element: sign = 1 an upper one, -1 a lower one
  const auto limits = [&](std::int64_t size, double sign, double missing, const auto& value) {
    const bool each = own();
    Values out(static_cast<std::size_t>((each ? B : 1) * size), -inf);
    for (std::int64_t e = 0; e < B; ++e)
      for (std::int64_t i = 0; i < size; ++i) {
        double& x = out[static_cast<std::size_t>((each ? e : 0) * size + i)];
        x = std::max(x, sign * value(e, i) + r.uniform(0.1, 1.1));
      }
    for (double& x : out) x = r.chance(missing) ? sign * inf : sign * x;
    return from(shape(each, {size}), out);
  };
  const int kind = r.below(4);  // of Q: dense, diagonal, multiple of I; dense and singular, but bounded below
  if (kind == 0 || kind == 3) {
    const bool each = own();
    Values Q(static_cast<std::size_t>((each ? B : 1) * n * n));
    for (std::size_t at = 0; at < Q.size(); at += static_cast<std::size_t>(n * n)) {
      const Values L = values(r.normals({n, n}));
      for (std::int64_t i = 0; i < n; ++i)
        for (std::int64_t j = 0; j < n; ++j) {
          double sum = i == j && kind == 0 ? 0.1 : 0;
          for (std::int64_t k = 0; k < (kind == 0 ? n : (n + 1) / 2); ++k) sum += L[static_cast<std::size_t>(i * n + k)] * L[static_cast<std::size_t>(j * n + k)] / static_cast<double>(n);
          Q[at + static_cast<std::size_t>(i * n + j)] = sum;
        }
    }
    qp.Q = from(shape(each, {n, n}), Q);
  } else {
    const bool each = own();
    Values Q(static_cast<std::size_t>((each ? B : 1) * (kind == 1 ? n : 1)));
    for (double& x : Q) x = r.uniform(0.5, 2);
    qp.Q = each ? from({B, 1, kind == 1 ? n : 1}, Q) : kind == 1 ? from({n}, Q) : number(Q[0]);
  }
  if (m) {
    qp.G = r.normals(shape(own_G, {m, n}));
    const auto Gz = [&](std::int64_t e, std::int64_t i) { return product(qp.G, e, i); };
    const int sides = r.below(4);  // lower, both, or upper
    if (sides > 0) qp.h = limits(m, 1, r.chance(0.2) ? 0.3 : 0, Gz);
    if (sides < 2) qp.lower_g = limits(m, -1, r.chance(0.2) ? 0.3 : 0, Gz);
  }
  if (p) {
    qp.A = r.normals(shape(own_A, {p, n}));
    Values b;
    for (std::int64_t e = 0; e < (own_b ? B : 1); ++e)
      for (std::int64_t i = 0; i < p; ++i) b.push_back(product(qp.A, e, i));
    qp.b = from(shape(own_b, {p}), b);
  }
  const auto z = [&](std::int64_t e, std::int64_t i) { return z0[static_cast<std::size_t>(e * n + i)]; };
  if (kind == 3 || r.chance(0.5)) qp.lower = limits(n, -1, kind != 3 && r.chance(0.5) ? 0.3 : 0, z);
  if (kind == 3 || r.chance(0.5)) qp.upper = limits(n, 1, kind != 3 && r.chance(0.5) ? 0.3 : 0, z);
  return qp;
}

double dot(const Tensor& a, const Tensor& b) {
  const Values x = values(a), y = values(b);
  return std::inner_product(x.begin(), x.end(), y.begin(), 0.0);
}
double loss(const QPSeed& seed, const QPSolution& s) {
  return dot(seed.z, s.z) + dot(seed.nu, s.nu) + dot(seed.lambda, s.lambda) + dot(seed.dual_lower, s.dual_lower) + dot(seed.dual_upper, s.dual_upper) +
         dot(seed.dual_lower_g, s.dual_lower_g);
}
QPSeed random_seed(Generator& r, const QPSolution& s, bool duals) {
  const auto like = [&](const Tensor& x) { return x.defined() ? r.normals(x.shape()) : Tensor{}; };
  QPSeed seed{.z = like(s.z)};
  if (duals) seed = {seed.z, like(s.nu), like(s.lambda), like(s.dual_lower), like(s.dual_upper), like(s.dual_lower_g)};
  return seed;
}

/// Whether the equations of (K2) with the active sides as equalities determine z and all duals, with room to spare: the
/// smallest pivot of their elimination.
bool determined(const Plain& qp, const Point& x) {
  std::vector<Values> rows;  // [A; active C]
  const auto add = [&](const Values& M, int i) { rows.emplace_back(M.begin() + i * qp.n, M.begin() + (i + 1) * qp.n); };
  for (int i = 0; i < qp.p; ++i) add(qp.A, i);
  for (int i = 0; i < qp.sides; ++i)
    if (x.lambda[i] > 1e-4) add(qp.C, i);
  const std::size_t n = static_cast<std::size_t>(qp.n), size = n + rows.size();
  std::vector<Values> K(size, Values(size));
  for (std::size_t i = 0; i < n; ++i)
    for (std::size_t j = 0; j < n; ++j) K[i][j] = qp.Q[i * n + j];
  for (std::size_t i = n; i < size; ++i)
    for (std::size_t j = 0; j < n; ++j) K[i][j] = K[j][i] = rows[i - n][j];
  for (std::size_t k = 0; k < size; ++k) {
    std::size_t pivot = k;
    for (std::size_t i = k; i < size; ++i) pivot = std::abs(K[i][k]) > std::abs(K[pivot][k]) ? i : pivot;
    std::swap(K[k], K[pivot]);
    if (std::abs(K[k][k]) < 0.03) return false;
    for (std::size_t i = k + 1; i < size; ++i)
      for (std::size_t j = size; j-- > k;) K[i][j] -= K[i][k] / K[k][k] * K[k][j];
  }
  return true;
}

/// Nowhere within reach of a central difference: strictly complementary, and determined.
bool differentiable(const QP<Tensor>& qp, const QPSolution& s) {
  for (std::size_t e = 0; e < s.status.size(); ++e) {
    const Plain one = plain(qp, static_cast<std::int64_t>(e));
    const Point x = point(s, static_cast<std::int64_t>(e));
    const Kkt_check k = kkt(one, x);
    if (k.separation < 0.03 || k.active + one.p > one.n || !determined(one, x)) return false;
  }
  return true;
}

/// |gradient - central difference| over 1 + |difference|, along a unit direction of field i; fourth order.
double gradient_error(const QP<Tensor>& qp, std::size_t i, const QPSeed& seed, const Tensor& gradient, const Tensor& direction) {
  const auto f = [&](double step) {
    QP<Tensor> moved = qp;
    *fields(moved)[i] = *fields(qp)[i] + step * direction;
    return loss(seed, solve(moved, {.tolerance = 1e-11, .on_failure = OnFailure::report}));
  };
  constexpr double t = 1e-3;
  const double difference = (8 * (f(t) - f(-t)) - (f(2 * t) - f(-2 * t))) / (12 * t);
  return std::abs(difference - dot(gradient, direction)) / (1 + std::abs(difference));
}
Tensor random_direction(Generator& r, const Shape& shape) {
  const Tensor x = r.normals(shape);
  return x / std::sqrt(dot(x, x));
}
/// Whether the Q of every element has room on all sides: a singular one moves along itself only, to stay semidefinite.
bool definite(const QP<Tensor>& qp, std::int64_t count) {
  for (std::int64_t e = 0; e < count; ++e) {
    const Plain one = plain(qp, e);
    if (!determined({.n = one.n, .p = 0, .Q = one.Q}, {})) return false;
  }
  return true;
}
Tensor entry_direction(const Shape& shape, std::int64_t i) {
  return equal(arange(0, static_cast<double>(shape.numel()), 1, float64), number(static_cast<double>(i))).reshape(shape);
}
bool all_finite(const Tensor& x) {
  const Values v = values(x);
  return std::all_of(v.begin(), v.end(), [](double value) { return std::isfinite(value); });
}

bool same_bits(const Values& a, const Values& b) { return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(double)) == 0); }

/// Every field of element e alone, without a batch axis.
QP<Tensor> element(const QP<Tensor>& qp, std::int64_t e, std::int64_t count) {
  QP<Tensor> out = qp;
  const std::array own{2, 1, 2, 1, 2, 1, 1, 1, 1};
  for (std::size_t i = 0; i < own.size(); ++i) {
    const Tensor& x = *fields(qp)[i];
    if (!x.defined() || x.rank() <= own[i]) continue;
    const Values v = values(x);
    const auto size = x.numel() / count;
    std::vector<std::int64_t> shape(x.shape().begin() + 1, x.shape().end());
    *fields(out)[i] = from(Shape(shape), Values(v.begin() + e * size, v.begin() + (e + 1) * size));
  }
  return out;
}

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

const QPOptions kept{.tolerance = 1e-12, .on_failure = OnFailure::report, .differentiable = true};

}  // namespace

TEST_CASE("two thousand random problems of every structure satisfy the KKT conditions, and every gradient the central difference", "[qp]") {
  Generator r{std::mt19937_64{2026}};
  int problems = 0, batches = 0, rejected = 0;
  std::array<int, qp_field_names.size()> checked{};
  double worst = 0, worst_gradient = 0;
  while (problems < 2000) {
    std::int64_t count;
    const QP<Tensor> qp = random_qp(r, count);
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
    std::int64_t count;
    const QP<Tensor> qp = random_qp(r, count);
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
    std::int64_t count;
    QP<Tensor> qp = random_qp(r, count), wide;
    if (!definite(qp, count)) continue;  // rounding to float32 may leave the semidefinite
    for (std::size_t i = 0; i < qp_field_names.size(); ++i)
      if (fields(qp)[i]->defined()) *fields(qp)[i] = fields(qp)[i]->to(float32), *fields(wide)[i] = fields(qp)[i]->to(float64);
    const QPSolution s = solve(qp, {.differentiable = true}), t = solve(wide, {.differentiable = true});
    REQUIRE(s.z.dtype() == float32);
    CHECK(same_bits(values(s.z), values(t.z.to(float32))));
    const QP<Tensor> g = vjp(qp, s, {.z = s.z}), w = vjp(wide, t, {.z = s.z.to(float64)});
    for (std::size_t i = 0; i < qp_field_names.size(); ++i)
      if (fields(g)[i]->defined()) CHECK(same_bits(values(*fields(g)[i]), values(fields(w)[i]->to(float32))));
  }
}

TEST_CASE("one problem in two forms has one solution and one gradient", "[qp]") {
  Generator r{std::mt19937_64{11}};
  int compared = 0;
  while (compared < 60) {
    std::int64_t count;
    const QP<Tensor> qp = random_qp(r, count);
    const QPSolution s = solve(qp, {.differentiable = true});
    if (s.z.rank() < 2 || !differentiable(qp, s)) continue;
    ++compared;
    const QPSeed seed{.z = r.normals(s.z.shape())};
    const QP<Tensor> g = vjp(qp, s, seed);
    // Each element alone, in its longest form: shared fields written out, Q dense, bounds as rows.
    std::array<Values, qp_field_names.size()> total;
    for (std::int64_t e = 0; e < count; ++e) {
      Plain one = plain(qp, e);
      for (double& d : one.d) d = std::isinf(d) ? inf : d;
      QP<Tensor> other{.Q = from({one.n, one.n}, one.Q), .q = list(one.q)};
      if (one.sides) other.G = from({one.sides, one.n}, one.C), other.h = list(one.d);
      if (one.p) other.A = from({one.p, one.n}, one.A), other.b = list(one.b);
      const QPSolution t = solve(other, {.differentiable = true});
      CHECK(max_difference(t.z, list(point(s, e).z)) < 1e-7);
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
    std::int64_t count;
    const QP<Tensor> qp = random_qp(r, count);
    const int before = threads();
    set_threads(1);
    const QPSolution one = solve(qp, {.differentiable = true});
    const QPSeed seed = random_seed(r, one, true);
    const QP<Tensor> g = vjp(qp, one, seed);
    set_threads(2);
    const QPSolution two = solve(qp, {.differentiable = true});
    const QP<Tensor> h = vjp(qp, two, seed);
    set_threads(before);
    CHECK(same_bits(values(one.z), values(two.z)));
    for (std::size_t i = 0; i < qp_field_names.size(); ++i)
      if (fields(g)[i]->defined()) CHECK(same_bits(values(*fields(g)[i]), values(*fields(h)[i])));
    if (one.z.rank() < 2) continue;
    for (std::int64_t e = 0; e < count; ++e) {
      const Point alone = point(solve(element(qp, e, count)), 0), among = point(one, e);
      CHECK(same_bits(alone.z, among.z));
      CHECK(same_bits(alone.nu, among.nu));
      CHECK(same_bits(alone.lambda, among.lambda));
    }
  }
}

TEST_CASE("a hopeless neighbour changes nothing", "[qp]") {
  Values h{1, 1, 1, -5, 1, 1};
  const QP<Tensor> qp{.Q = number(1), .q = from({6, 2}, Values{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}), .G = ones({1, 2}, float64), .h = from({6, 1}, h), .lower = number(0)};
  QP<Tensor> fine = qp;
  h[3] = 1;
  fine.h = from({6, 1}, h);
  const QPSolution s = solve(qp, {.on_failure = OnFailure::report, .differentiable = true}), t = solve(fine);
  CHECK(s.status[3] == QPStatus::primal_infeasible);
  for (std::int64_t e : {0, 1, 2, 4, 5}) CHECK(same_bits(point(s, e).z, point(t, e).z));
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
  check_refused({.Q = number(1), .q = q, .G = ones({4, 10, 7}, float64), .h = number(1)}, "argmin: G must be [m, n] or [batch, m, n] with n = 2 from q; got [4, 10, 7]");
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
  SECTION("fixed variables") { CHECK(max_difference(solved({.Q = number(1), .q = q, .lower = number(0.3), .upper = number(0.3)}).z, full({5}, 0.3, float64)) < 1e-8); }
  SECTION("sides that are all infinite") { CHECK(max_difference(solved({.Q = number(2), .q = q, .lower = number(-inf), .upper = number(inf)}).z, -0.5 * q) < 1e-9); }
  SECTION("redundant equalities") {
    solved({.Q = number(1), .q = q, .A = ones({3, 5}, float64), .b = number(2), .lower = number(0)});
    solved({.Q = from({5, 5}, values(eye(5, float64))), .q = q, .A = ones({3, 5}, float64), .b = number(2)});
  }
  SECTION("duplicate inequalities") { solved({.Q = number(1), .q = q, .G = ones({4, 5}, float64), .h = number(-1)}); }
  SECTION("a row of zeros") { solved({.Q = number(1), .q = q, .A = zeros({1, 5}, float64), .b = number(0)}); }
  SECTION("a degenerate vertex") { solved({.q = list({1, 1, 1, 1, 1}), .G = full({3, 5}, -1, float64), .h = number(0), .lower = number(0)}); }
  SECTION("a linear program") { CHECK(max_difference(solved({.q = list({3, 1, 2, 5, 4}), .A = one, .b = number(1), .lower = number(0)}).z, list({0, 1, 0, 0, 0})) < 1e-8); }
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
    CHECK(same_bits(values(s.z), {0, 1}));
    CHECK(all_finite(vjp(qp, s, {.z = ones({2}, float64)}).q));
  }
  SECTION("singular Q") { solved({.Q = ones({5, 5}, float64), .q = ones({5}, float64), .lower = number(-1), .upper = number(1)}); }
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
  problem.A = A.data(), problem.G = G.data(), problem.q = q.data(), problem.b = b.data(), problem.d = d.data(), problem.mask = mask.data(), problem.row_memory = row_memory.data();
  Workspace<T> memory, other;
  std::vector<T> ones(static_cast<std::size_t>(Scaling<T>::size(problem)), T(1.0));
  const Scaling<T> unit(ones.data(), problem);
  InteriorPoint<T, T, OneThread> ordered(problem, unit, {}, memory);
  InteriorPoint<T, T, ShuffledTeam> shuffled(problem, unit, {}, other);
  ordered.solve(), shuffled.solve();
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
    CHECK(same_bits(point(solve(element(qp, 1, 2)), 0).z, point(s, 1).z));
  }
}
