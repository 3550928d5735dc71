// The QP solver without the tape: against the KKT conditions, central differences, other forms of the same problem,
// closed forms; each element's independence of its batch; and what happens to problems that have no solution.
#include "tests/test.h"

#include "solvers/interior_point.h"

#include <array>
#include <numeric>
#include <random>

namespace {

constexpr double inf = std::numeric_limits<double>::infinity();
using Values = std::vector<double>;

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
Tensor plus(const Tensor& x, double step, const Tensor& direction) {
  Values y = values(x), d = values(direction);
  for (std::size_t i = 0; i < y.size(); ++i) y[i] += step * d[i];
  return from(x.shape(), y);
}

std::string error_of(const QP<Tensor>& qp, const QPOptions& options = {}) {
  try {
    solve(qp, options);
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}
void check_says(const std::string& text, const std::string& part) {
  INFO(text);
  CHECK(text.find(part) != std::string::npos);
}

/// One element of a batch, in plain numbers and the longest form: dense Q, every side a row of C z <= d.
struct Plain {
  int n, p, sides = 0;
  Values Q, q, A, b, C, d;
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
  out.C.insert(out.C.end(), G.begin(), G.end());
  for (int i = 0; i < m; ++i) out.d.push_back(entry(qp.h, e, i)), ++out.sides;
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
  row(s.z, out.z), row(s.nu, out.nu), row(s.dual_lower, out.lambda), row(s.dual_upper, out.lambda), row(s.lambda, out.lambda);
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
  const int kind = r.below(3);
  if (kind == 0) {
    const bool each = own();
    Values Q(static_cast<std::size_t>((each ? B : 1) * n * n));
    for (std::size_t at = 0; at < Q.size(); at += static_cast<std::size_t>(n * n)) {
      const Values L = values(r.normals({n, n}));
      for (std::int64_t i = 0; i < n; ++i)
        for (std::int64_t j = 0; j < n; ++j) {
          double sum = i == j ? 0.1 : 0;
          for (std::int64_t k = 0; k < n; ++k) sum += L[static_cast<std::size_t>(i * n + k)] * L[static_cast<std::size_t>(j * n + k)] / static_cast<double>(n);
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
    qp.h = limits(m, 1, r.chance(0.2) ? 0.3 : 0, [&](std::int64_t e, std::int64_t i) { return product(qp.G, e, i); });
  }
  if (p) {
    qp.A = r.normals(shape(own_A, {p, n}));
    Values b;
    for (std::int64_t e = 0; e < (own_b ? B : 1); ++e)
      for (std::int64_t i = 0; i < p; ++i) b.push_back(product(qp.A, e, i));
    qp.b = from(shape(own_b, {p}), b);
  }
  const auto z = [&](std::int64_t e, std::int64_t i) { return z0[static_cast<std::size_t>(e * n + i)]; };
  if (r.chance(0.5)) qp.lower = limits(n, -1, r.chance(0.5) ? 0.3 : 0, z);
  if (r.chance(0.5)) qp.upper = limits(n, 1, r.chance(0.5) ? 0.3 : 0, z);
  return qp;
}

double dot(const Tensor& a, const Tensor& b) {
  const Values x = values(a), y = values(b);
  return std::inner_product(x.begin(), x.end(), y.begin(), 0.0);
}
double loss(const QPSeed& seed, const QPSolution& s) {
  return dot(seed.z, s.z) + dot(seed.nu, s.nu) + dot(seed.lambda, s.lambda) + dot(seed.dual_lower, s.dual_lower) + dot(seed.dual_upper, s.dual_upper);
}
QPSeed random_seed(Generator& r, const QPSolution& s, bool duals) {
  const auto like = [&](const Tensor& x) { return x.defined() ? r.normals(x.shape()) : Tensor{}; };
  QPSeed seed{.z = like(s.z)};
  if (duals) seed.nu = like(s.nu), seed.lambda = like(s.lambda), seed.dual_lower = like(s.dual_lower), seed.dual_upper = like(s.dual_upper);
  return seed;
}

/// Nowhere within reach of a central difference: strictly complementary, and at most n active sides.
bool differentiable(const QP<Tensor>& qp, const QPSolution& s) {
  for (std::size_t e = 0; e < s.status.size(); ++e) {
    const Plain one = plain(qp, static_cast<std::int64_t>(e));
    const Kkt_check k = kkt(one, point(s, static_cast<std::int64_t>(e)));
    if (k.separation < 0.03 || k.active + one.p > one.n) return false;
  }
  return true;
}

/// |gradient - central difference| over 1 + |difference|, along a random direction of field i; fourth order.
double gradient_error(Generator& r, const QP<Tensor>& qp, std::size_t i, const QPSeed& seed, const Tensor& gradient) {
  const Tensor x = *fields(qp)[i];
  Values direction = values(r.normals(x.shape()));
  if (i == 0 && x.rank() >= 2 && x.size(-2) > 1)  // dense Q stays symmetric
    for (std::int64_t n = x.size(-1), e = 0; e < x.numel(); e += n * n)
      for (std::int64_t j = 0; j < n; ++j)
        for (std::int64_t k = 0; k < j; ++k) direction[static_cast<std::size_t>(e + j * n + k)] = direction[static_cast<std::size_t>(e + k * n + j)];
  const double length = std::sqrt(std::inner_product(direction.begin(), direction.end(), direction.begin(), 1e-300));
  for (double& v : direction) v /= length;
  const Tensor unit = from(x.shape(), direction);
  const auto f = [&](double step) {
    QP<Tensor> moved = qp;
    *fields(moved)[i] = plus(x, step, unit);
    return loss(seed, solve(moved, {.tolerance = 1e-11, .on_failure = OnFailure::report}));
  };
  constexpr double t = 1e-3;
  const double difference = (8 * (f(t) - f(-t)) - (f(2 * t) - f(-2 * t))) / (12 * t);
  return std::abs(difference - dot(gradient, unit)) / (1 + std::abs(difference));
}

double worst_difference(const Tensor& a, const Tensor& b) {
  const Values x = values(a), y = values(b);
  REQUIRE(x.size() == y.size());
  double worst = 0;
  for (std::size_t i = 0; i < x.size(); ++i) worst = std::max(worst, std::isfinite(x[i] - y[i]) ? std::abs(x[i] - y[i]) : inf);
  return worst;
}
bool same_bits(const Values& a, const Values& b) { return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(double)) == 0); }

/// Every field of element e alone, without a batch axis.
QP<Tensor> element(const QP<Tensor>& qp, std::int64_t e, std::int64_t count) {
  QP<Tensor> out = qp;
  const std::array own{2, 1, 2, 1, 2, 1, 1, 1};
  for (std::size_t i = 0; i < 8; ++i) {
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

}  // namespace

TEST_CASE("a thousand random problems of every structure satisfy the KKT conditions, and every gradient the central difference", "[qp]") {
  Generator r{std::mt19937_64{2026}};
  int problems = 0, batches = 0, rejected = 0;
  std::array<int, 8> checked{};
  double worst = 0, worst_gradient = 0;
  while (problems < 1000) {
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
    for (std::size_t i = 0; i < 8; ++i) {
      REQUIRE(fields(qp)[i]->defined() == fields(gradient)[i]->defined());
      if (!fields(qp)[i]->defined()) continue;
      REQUIRE(fields(gradient)[i]->shape() == fields(qp)[i]->shape());
      bool infinite = false;
      for (double x : values(*fields(qp)[i])) infinite |= std::isinf(x);
      if (infinite) continue;
      const double error = gradient_error(r, qp, i, seed, *fields(gradient)[i]);
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

TEST_CASE("float32 problems are solved in double and rounded once", "[qp]") {
  Generator r{std::mt19937_64{5}};
  for (int trial = 0; trial < 40; ++trial) {
    std::int64_t count;
    QP<Tensor> qp = random_qp(r, count), wide;
    for (std::size_t i = 0; i < 8; ++i)
      if (fields(qp)[i]->defined()) *fields(qp)[i] = fields(qp)[i]->to(float32), *fields(wide)[i] = fields(qp)[i]->to(float64);
    const QPSolution s = solve(qp, {.differentiable = true}), t = solve(wide, {.differentiable = true});
    REQUIRE(s.z.dtype() == float32);
    CHECK(same_bits(values(s.z), values(t.z.to(float32))));
    const QP<Tensor> g = vjp(qp, s, {.z = s.z}), w = vjp(wide, t, {.z = s.z.to(float64)});
    for (std::size_t i = 0; i < 8; ++i)
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
    std::array<Values, 8> total;
    for (std::int64_t e = 0; e < count; ++e) {
      Plain one = plain(qp, e);
      for (double& d : one.d) d = std::isinf(d) ? inf : d;
      QP<Tensor> other{.Q = from({one.n, one.n}, one.Q), .q = list(one.q)};
      if (one.sides) other.G = from({one.sides, one.n}, one.C), other.h = list(one.d);
      if (one.p) other.A = from({one.p, one.n}, one.A), other.b = list(one.b);
      const QPSolution t = solve(other, {.differentiable = true});
      CHECK(worst_difference(t.z, list(point(s, e).z)) < 1e-7);
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
      if (fields(qp)[i]->defined()) CHECK(worst_difference(from(fields(qp)[i]->shape(), total[i]), *fields(g)[i]) < 1e-5);
  }
}

TEST_CASE("closed forms: ReLU, box, simplex, soft threshold, equalities alone", "[qp]") {
  const Values x{-2, -0.5, 0.3, 1.5, 3, 0.8};
  const Tensor minus_x = plus(zeros({6}, float64), -1, list(x));
  const auto of = [&](const QP<Tensor>& qp) { return solve(qp, {.differentiable = true}); };
  const QP<Tensor> relu{.Q = number(1), .q = minus_x, .lower = number(0)};
  const QPSolution s = of(relu);
  CHECK(worst_difference(s.z, list({0, 0, 0.3, 1.5, 3, 0.8})) < 1e-8);
  const QP<Tensor> g = vjp(relu, s, {.z = ones({6}, float64)});
  CHECK(worst_difference(g.q, list({0, 0, -1, -1, -1, -1})) < 1e-6);
  CHECK(g.lower.item() == Approx(2).margin(1e-6));
  CHECK(worst_difference(of({.Q = number(1), .q = minus_x, .lower = number(-1), .upper = number(1)}).z, list({-1, -0.5, 0.3, 1, 1, 0.8})) < 1e-8);
  const QPSolution sparsemax = of({.Q = number(1), .q = minus_x, .A = ones({1, 6}, float64), .b = number(1), .lower = number(0)});
  CHECK(worst_difference(sparsemax.z, list({0, 0, 0, 0, 1, 0})) < 1e-8);
  const QPSolution wide = of({.Q = number(1), .q = minus_x, .A = ones({1, 6}, float64), .b = number(3), .lower = number(0)});
  CHECK(worst_difference(wide.z, list({0, 0, 0, 0.7 + 0.05, 2.2 + 0.05, 0.05})) < 0.06);  // tau = 2.3/3
  CHECK(worst_difference(wide.z, list({0, 0, 0, 1.5 - 2.3 / 3, 3 - 2.3 / 3, 0.8 - 2.3 / 3})) < 1e-8);
  // z = u - v, cost 1/2 |u - v - x|^2 + t sum(u + v)
  const double t = 0.6;
  QP<Tensor> soft{.Q = from({2, 2}, {1., -1., -1., 1.}), .lower = number(0)};
  Values q;
  for (double v : x) q.push_back(t - v), q.push_back(t + v);
  soft.q = from({6, 2}, q);
  const Tensor uv = of(soft).z;
  for (int i = 0; i < 6; ++i) CHECK(uv(i, 0) - uv(i, 1) == Approx(std::copysign(std::max(std::abs(x[static_cast<std::size_t>(i)]) - t, 0.0), x[static_cast<std::size_t>(i)])).margin(1e-8));
  const QPSolution line = of({.Q = from({2}, {1., 2.}), .q = list({0, 0}), .A = ones({1, 2}, float64), .b = number(3)});
  CHECK(worst_difference(line.z, list({2, 1})) < 1e-9);
  CHECK(line.nu.item() == Approx(-2));
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
    for (std::size_t i = 0; i < 8; ++i)
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
  check_says(error_of({.Q = number(1), .q = from({3, 2}, Values(6, 1)), .G = ones({1, 2}, float64), .h = from({3, 1}, {1., -1., 1.}), .lower = number(0)}),
             "1 (primal infeasible: no z satisfies");
  check_says(error_of({.Q = number(1), .q = q, .lower = number(0.5 + 1e-6), .upper = number(0.5)}), "primal infeasible");
  check_says(error_of({.Q = number(1), .q = q, .A = from({2, 2}, {1., 1., 1., 1.}), .b = list({1, 2})}), "primal infeasible");
  check_says(error_of({.q = q, .upper = number(0)}), "dual infeasible: its objective falls without bound");
  check_says(error_of({.q = q}), "dual infeasible");
  check_says(error_of({.Q = from({2, 2}, {1., 0., 0., -1.}), .q = q, .lower = number(0), .upper = number(1)}),
             "Q must be positive semidefinite; factorisation failed for problem 0 of 1 at column 1");
  check_says(error_of({.Q = from({2}, {1., -1.}), .q = q}), "Q must be positive semidefinite");
  check_says(error_of({.Q = number(1), .q = list({1, 1}), .A = ones({1, 2}, float64), .b = number(1), .lower = number(0.7)}), "OnFailure::report");
}

TEST_CASE("input that makes no sense is refused by name", "[qp]") {
  const double nan = std::nan("");
  const Tensor q = zeros({2}, float64);
  check_says(error_of({.Q = from({3, 1, 1}, {1., 1., nan}), .q = zeros({3, 2}, float64)}), "argmin: Q must be finite; got nan in problem 2 of 3");
  check_says(error_of({.Q = number(1), .q = list({nan, 0})}), "q must be finite");
  check_says(error_of({.Q = number(1), .q = q, .lower = number(inf)}), "lower must be finite or -inf");
  check_says(error_of({.Q = number(1), .q = q, .upper = number(-inf)}), "upper must be finite or inf");
  check_says(error_of({.Q = number(1), .q = q, .G = ones({1, 2}, float64), .h = number(nan)}), "h must be finite or inf");
  check_says(error_of({.Q = number(1), .q = q, .A = ones({1, 2}, float64)}), "A and b go together");
  check_says(error_of({.Q = number(1), .q = q, .G = ones({4, 10, 7}, float64), .h = number(1)}), "argmin: G must be [m, n] or [batch, m, n] with n = 2 from q; got [4, 10, 7]");
  check_says(error_of({.Q = number(1), .q = q.to(float32)}), "float32");
  check_says(error_of({.Q = number(1), .q = zeros({3, 2}, float64), .lower = zeros({4, 2}, float64)}), "batch sizes must agree");
  check_says(error_of({.Q = number(1)}), "q must be [n] or [batch, n]");
  check_says(error_of({.q = zeros({0, 2}, float64)}), "batch must not be empty");
  check_says(error_of({.q = zeros({0}, float64)}), "n > 0");
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
  SECTION("q = 0") { CHECK(worst_difference(solved({.Q = number(1), .q = zero, .lower = number(0)}).z, zero) < 1e-4); }
  SECTION("no constraints") { CHECK(worst_difference(solved({.Q = number(2), .q = q}).z, plus(zero, -0.5, q)) < 1e-9); }
  SECTION("only bounds, and a linear objective") { solved({.q = q, .lower = number(0), .upper = number(1)}); }
  SECTION("nothing at all to minimise") { solved({.q = zero, .lower = number(0), .upper = number(1)}); }
  SECTION("fixed variables") { CHECK(worst_difference(solved({.Q = number(1), .q = q, .lower = number(0.3), .upper = number(0.3)}).z, full({5}, 0.3, float64)) < 1e-8); }
  SECTION("sides that are all infinite") { CHECK(worst_difference(solved({.Q = number(2), .q = q, .lower = number(-inf), .upper = number(inf)}).z, plus(zero, -0.5, q)) < 1e-9); }
  SECTION("redundant equalities") {
    solved({.Q = number(1), .q = q, .A = ones({3, 5}, float64), .b = number(2), .lower = number(0)});
    solved({.Q = from({5, 5}, values(eye(5, float64))), .q = q, .A = ones({3, 5}, float64), .b = number(2)});
  }
  SECTION("duplicate inequalities") { solved({.Q = number(1), .q = q, .G = ones({4, 5}, float64), .h = number(-1)}); }
  SECTION("a row of zeros") { solved({.Q = number(1), .q = q, .A = zeros({1, 5}, float64), .b = number(0)}); }
  SECTION("a degenerate vertex") { solved({.q = list({1, 1, 1, 1, 1}), .G = full({3, 5}, -1, float64), .h = number(0), .lower = number(0)}); }
  SECTION("a linear program") { CHECK(worst_difference(solved({.q = list({3, 1, 2, 5, 4}), .A = one, .b = number(1), .lower = number(0)}).z, list({0, 1, 0, 0, 0})) < 1e-8); }
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

TEST_CASE("a team may run every loop in any order", "[qp]") {
  Generator r{std::mt19937_64{13}};
  const int n = 13, p = 4, m = 9;
  for (bool diagonal : {false, true}) {
    const int rows = diagonal ? 0 : m, k = 2 * n + rows;
    Values Q(n * n), A = values(r.normals({p, n})), Gt = values(r.normals({n, m})), q = values(r.normals({n})), b(p, 0), d(static_cast<std::size_t>(k), 1), mask(static_cast<std::size_t>(k), 1), weights(n, 0.7);
    for (int i = 0; i < n; ++i) Q[static_cast<std::size_t>(i * n + i)] = 1 + 0.1 * i;
    Problem<double, double> problem{.n = n, .p = p, .m = rows, .has_lower = true, .has_upper = true};
    (diagonal ? problem.Q_diagonal : problem.Q) = diagonal ? weights.data() : Q.data();
    problem.A = A.data(), problem.Gt = Gt.data(), problem.q = q.data(), problem.b = b.data(), problem.d = d.data(), problem.mask = mask.data();
    Workspace<double> memory, other;
    InteriorPoint<double, double, OneThread> ordered(problem, {}, memory);
    InteriorPoint<double, double, ShuffledTeam> shuffled(problem, {}, other);
    ordered.solve(), shuffled.solve();
    CHECK(shuffled.status[0] == QPStatus::solved);
    for (int i = 0; i < n; ++i) CHECK(shuffled.z[i] == Approx(ordered.z[i]).margin(1e-8));
  }
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
  const Tensor G = r.normals({m, n}, 0.1), A = r.normals({p, n}, 0.1);
  const QP<Tensor> qp{.Q = full({n}, 1, float64), .q = r.normals({2, n}), .G = G, .h = number(0.5), .A = A, .b = number(0.1), .lower = number(-1)};
  const QPSolution s = solve(qp, {.differentiable = true});
  CHECK(worst_kkt(qp, s) < 1e-8);
  const QPSeed seed = random_seed(r, s, false);
  const QP<Tensor> g = vjp(qp, s, seed);
  CHECK(gradient_error(r, qp, 1, seed, g.q) < 1e-5);
  CHECK(same_bits(point(solve(element(qp, 1, 2)), 0).z, point(s, 1).z));
}
