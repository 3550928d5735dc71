// Random batches built around a point within all sides, and central differences of losses of their solutions.
#include "tests/random_qp.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>

namespace {

using Values = std::vector<double>;
constexpr double inf = std::numeric_limits<double>::infinity();
std::size_t at(std::int64_t i) { return static_cast<std::size_t>(i); }

/// Draws the fields of one batch. Each is shared or every element's own; z0 [B, n] satisfies all of them.
class Maker {
 public:
  explicit Maker(Generator& generator)
      : r(generator), B(r.chance(0.2) ? 1 : 2 + r.below(6)), n(r.chance(0.1) ? 1 : 2 + r.below(9)),
        m(r.chance(0.35) ? 0 : 1 + r.below(2 * static_cast<int>(n))), p(r.chance(0.4) || n == 1 ? 0 : 1 + r.below(static_cast<int>(n + 1) / 2)) {}

  RandomQP make() {
    qp.q = r.normals(shape(own(), {n}), 2);
    const bool own_A = own(), own_b = own(), own_G = own();
    draw_z0(p > 0 && own_A && !own_b, p == 0 || own_b);
    const int kind = r.below(4);  // of Q: dense, diagonal, multiple of I; dense and singular, but bounded below
    qp.Q = kind == 0 || kind == 3 ? dense_Q(kind == 3) : diagonal_Q(kind == 2);
    if (m) rows(own_G);
    if (p) equalities(own_A, own_b);
    bounds(kind == 3);
    return {qp, B};
  }

 private:
  bool own() { return r.chance(0.5); }
  Shape shape(bool each, std::vector<std::int64_t> axes) const {
    if (each) axes.insert(axes.begin(), B);
    return Shape(axes);
  }

  /// Where b is shared, A z0 must be: z0 is, or is 0 if A is not.
  void draw_z0(bool zero, bool each) {
    z0.resize(at(B * n));
    for (std::size_t i = 0; i < z0.size(); ++i) z0[i] = zero ? 0 : each || i < at(n) ? r.normal() : z0[i % at(n)];
  }

  Tensor dense_Q(bool singular) {
    const bool each = own();
    Values Q(at((each ? B : 1) * n * n));
    for (std::size_t first = 0; first < Q.size(); first += at(n * n)) {
      const Values L = values(r.normals({n, n}));
      for (std::int64_t i = 0; i < n; ++i)
        for (std::int64_t j = 0; j < n; ++j) {
          double sum = i == j && !singular ? 0.1 : 0;
          for (std::int64_t k = 0; k < (singular ? (n + 1) / 2 : n); ++k) sum += L[at(i * n + k)] * L[at(j * n + k)] / static_cast<double>(n);
          Q[first + at(i * n + j)] = sum;
        }
    }
    return from(shape(each, {n, n}), Q);
  }
  Tensor diagonal_Q(bool scalar) {
    const bool each = own();
    const std::int64_t size = scalar ? 1 : n;
    Values Q(at((each ? B : 1) * size));
    for (double& x : Q) x = r.uniform(0.5, 2);
    return each ? from({B, 1, size}, Q) : scalar ? number(Q[0]) : from({n}, Q);
  }

  void rows(bool each) {
    qp.G = r.normals(shape(each, {m, n}));
    const auto Gz = [&](std::int64_t e, std::int64_t i) { return product(qp.G, e, i); };
    const int sides = r.below(4);  // lower, both, or upper
    if (sides > 0) qp.h = limits(m, 1, r.chance(0.2) ? 0.3 : 0, Gz);
    if (sides < 2) qp.lower_g = limits(m, -1, r.chance(0.2) ? 0.3 : 0, Gz);
  }
  void equalities(bool own_A, bool own_b) {
    qp.A = r.normals(shape(own_A, {p, n}));
    Values b;
    for (std::int64_t e = 0; e < (own_b ? B : 1); ++e)
      for (std::int64_t i = 0; i < p; ++i) b.push_back(product(qp.A, e, i));
    qp.b = from(shape(own_b, {p}), b);
  }
  void bounds(bool all) {
    const auto z = [&](std::int64_t e, std::int64_t i) { return z0[at(e * n + i)]; };
    if (all || r.chance(0.5)) qp.lower = limits(n, -1, !all && r.chance(0.5) ? 0.3 : 0, z);
    if (all || r.chance(0.5)) qp.upper = limits(n, 1, !all && r.chance(0.5) ? 0.3 : 0, z);
  }

  /// Row i of element e's M, times z0.
  double product(const Tensor& M, std::int64_t e, std::int64_t i) const {
    const Values v = values(M);
    const auto row = v.begin() + ((M.rank() > 2 ? e * M.size(-2) : 0) + i) * n;
    return std::inner_product(row, row + n, z0.begin() + e * n, 0.0);
  }
  /// Limits of `size` sides, upper ones (sign = 1) or lower ones (-1), of which a share is missing; a shared limit leaves
  /// room for every element.
  template <class F>
  Tensor limits(std::int64_t size, double sign, double missing, const F& value) {
    const bool each = own();
    Values out(at((each ? B : 1) * size), -inf);
    for (std::int64_t e = 0; e < B; ++e)
      for (std::int64_t i = 0; i < size; ++i) {
        double& x = out[at((each ? e : 0) * size + i)];
        x = std::max(x, sign * value(e, i) + r.uniform(0.1, 1.1));
      }
    for (double& x : out) x = r.chance(missing) ? sign * inf : sign * x;
    return from(shape(each, {size}), out);
  }

  Generator& r;
  const std::int64_t B, n, m, p;
  QP<Tensor> qp;
  Values z0;
};

/// Whether K has an inverse of moderate size: its elimination meets no pivot near 0.
bool regular(std::vector<Values> K) {
  for (std::size_t k = 0; k < K.size(); ++k) {
    std::size_t pivot = k;
    for (std::size_t i = k; i < K.size(); ++i) pivot = std::abs(K[i][k]) > std::abs(K[pivot][k]) ? i : pivot;
    std::swap(K[k], K[pivot]);
    if (std::abs(K[k][k]) < 0.03) return false;
    for (std::size_t i = k + 1; i < K.size(); ++i)
      for (std::size_t j = K.size(); j-- > k;) K[i][j] -= K[i][k] / K[k][k] * K[k][j];
  }
  return true;
}

/// [Q rows'; rows 0]
std::vector<Values> kkt_matrix(const PlainQP& qp, const std::vector<Values>& rows) {
  const std::size_t n = at(qp.n), size = n + rows.size();
  std::vector<Values> K(size, Values(size));
  for (std::size_t i = 0; i < n; ++i)
    for (std::size_t j = 0; j < n; ++j) K[i][j] = qp.Q[i * n + j];
  for (std::size_t i = n; i < size; ++i)
    for (std::size_t j = 0; j < n; ++j) K[i][j] = K[j][i] = rows[i - n][j];
  return K;
}

/// Whether the equations of (K2) with the active sides as equalities determine z and all duals, with room to spare.
bool determined(const PlainQP& qp, const PlainAnswer& x) {
  std::vector<Values> rows;  // [A; active sides]
  const std::size_t n = at(qp.n);
  const auto row = [&](const Values& M, std::size_t i) { rows.emplace_back(M.data() + i * n, M.data() + (i + 1) * n); };
  const auto active = [](const Values& duals, const auto& add) {
    for (std::size_t i = 0; i < duals.size(); ++i)
      if (duals[i] > 1e-4) add(i);
  };
  for (std::size_t i = 0; i < at(qp.p); ++i) row(qp.A, i);
  for (const Values* duals : {&x.dual_lower, &x.dual_upper}) active(*duals, [&](std::size_t i) { rows.emplace_back(n)[i] = 1; });
  for (const Values* duals : {&x.lambda, &x.dual_lower_g}) active(*duals, [&](std::size_t i) { row(qp.G, i); });
  return regular(kkt_matrix(qp, rows));
}

double loss(const QPSeed& seed, const QPSolution& s) {
  return dot(seed.z, s.z) + dot(seed.nu, s.nu) + dot(seed.lambda, s.lambda) + dot(seed.dual_lower, s.dual_lower) + dot(seed.dual_upper, s.dual_upper) +
         dot(seed.dual_lower_g, s.dual_lower_g);
}

}  // namespace

Tensor Generator::normals(const Shape& shape, double scale) {
  Values x(at(shape.numel()));
  for (double& v : x) v = scale * normal();
  return from(shape, x);
}

Tensor number(double x) { return full({}, x, float64); }
Tensor list(const Values& x) { return from({static_cast<std::int64_t>(x.size())}, x); }
Values values(const Tensor& x) { return x.defined() ? x.to_vector<double>() : Values{}; }
double dot(const Tensor& a, const Tensor& b) {
  const Values x = values(a), y = values(b);
  return std::inner_product(x.begin(), x.end(), y.begin(), 0.0);
}

RandomQP random_qp(Generator& r) { return Maker(r).make(); }

QP<Tensor> alone(const QP<Tensor>& qp, std::int64_t e) {
  constexpr std::array own_axes{2, 1, 2, 1, 2, 1, 1, 1, 1};
  QP<Tensor> out = qp;
  for (std::size_t i = 0; i < own_axes.size(); ++i) {
    Tensor& x = *fields(out)[i];
    if (!x.defined() || x.rank() <= own_axes[i]) continue;
    x = slice(x, 0, e, e + 1).reshape(Shape(std::vector<std::int64_t>(x.shape().begin() + 1, x.shape().end())));
  }
  return out;
}

double worst_kkt(const QP<Tensor>& qp, const QPSolution& s) {
  double worst = 0;
  for (std::int64_t e = 0; e < std::ssize(s.status); ++e) {
    const PlainQP one = element_of(qp, e);
    worst = std::max(worst, kkt(one, answer_of(s, e, one)).residual);
  }
  return worst;
}

bool differentiable(const QP<Tensor>& qp, const QPSolution& s) {
  for (std::int64_t e = 0; e < std::ssize(s.status); ++e) {
    const PlainQP one = element_of(qp, e);
    const PlainAnswer x = answer_of(s, e, one);
    const KktCheck check = kkt(one, x);
    if (check.separation < 0.03 || check.active + one.p > one.n || !determined(one, x)) return false;
  }
  return true;
}

bool definite(const QP<Tensor>& qp, std::int64_t count) {
  for (std::int64_t e = 0; e < count; ++e)
    if (!regular(kkt_matrix(element_of(qp, e), {}))) return false;
  return true;
}

QPSeed random_seed(Generator& r, const QPSolution& s, bool duals) {
  const auto like = [&](const Tensor& x) { return x.defined() ? r.normals(x.shape()) : Tensor{}; };
  QPSeed seed{.z = like(s.z)};
  if (duals) seed = {seed.z, like(s.nu), like(s.lambda), like(s.dual_lower), like(s.dual_upper), like(s.dual_lower_g)};
  return seed;
}

Tensor random_direction(Generator& r, const Shape& shape) {
  const Tensor x = r.normals(shape);
  return x / std::sqrt(dot(x, x));
}
Tensor entry_direction(const Shape& shape, std::int64_t i) {
  return equal(arange(0, static_cast<double>(shape.numel()), 1, float64), number(static_cast<double>(i))).reshape(shape);
}

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
