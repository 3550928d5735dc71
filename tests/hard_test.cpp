// Ten thousand small problems made to be hard, whose truth is known by construction: a solution with its duals, a
// combination of sides that contradicts itself, or a ray along which the objective falls for ever. Every status must be
// right, and what is returned must prove it. Numbers are small multiples of powers of two, so that what is built in holds
// exactly, in all units.
#include "tests/plain_qp.h"
#include "tests/test.h"

#include <algorithm>
#include <iostream>
#include <random>

namespace {

using Values = std::vector<double>;
constexpr double inf = std::numeric_limits<double>::infinity();
std::size_t at(int i) { return static_cast<std::size_t>(i); }

enum class Trap { none, sum_of_rows, equalities, crossed };  // how an infeasible problem hides it

struct Family {
  const char* name;
  QPStatus truth = QPStatus::solved;
  Trap trap = Trap::none;
  bool near_parallel = false, pairs = false, fixed = false, sums = false, degenerate = false, duplicates = false, dependent = false, free = false;
  bool many = false;                                        // m > n
  int rank = -1;                                            // of Q; -1: any
  bool objective_units = false, row_units = false, variable_units = false;

  /// Units lie between 2^-x and 2^x: about 1e-8 to 1e8 for what is scaled, taken together.
  int unit_exponent() const { return 26 / std::max(1, objective_units + row_units + variable_units); }
};

constexpr auto infeasible = QPStatus::primal_infeasible, unbounded = QPStatus::dual_infeasible;
const std::vector<Family> families{
    {.name = "plain"},
    {.name = "many rows", .many = true},
    {.name = "near-parallel rows", .near_parallel = true},
    {.name = "hidden equalities, in pairs of rows", .pairs = true},
    {.name = "hidden equalities, in sums of rows", .sums = true},
    {.name = "fixed variables and rows", .fixed = true},
    {.name = "degenerate vertex", .degenerate = true, .many = true},
    {.name = "degenerate vertex of a linear program", .degenerate = true, .many = true, .rank = 0},
    {.name = "duplicated rows", .duplicates = true},
    {.name = "dependent equalities", .dependent = true},
    {.name = "free rows", .free = true},
    {.name = "Q of rank 1", .rank = 1},
    {.name = "linear program", .rank = 0},
    {.name = "objective scaled", .objective_units = true},
    {.name = "rows scaled", .row_units = true},
    {.name = "variables scaled", .variable_units = true},
    {.name = "all scaled", .objective_units = true, .row_units = true, .variable_units = true},
    {.name = "everything at once", .near_parallel = true, .pairs = true, .fixed = true, .sums = true, .degenerate = true, .duplicates = true,
     .dependent = true, .free = true, .many = true, .objective_units = true, .row_units = true},
    {.name = "infeasible by a sum of rows", .truth = infeasible, .trap = Trap::sum_of_rows},
    {.name = "infeasible by a sum of many rows", .truth = infeasible, .trap = Trap::sum_of_rows, .duplicates = true, .many = true, .rank = 0},
    {.name = "infeasible by equalities", .truth = infeasible, .trap = Trap::equalities, .dependent = true},
    {.name = "infeasible by crossed sides", .truth = infeasible, .trap = Trap::crossed},
    {.name = "infeasible, all scaled", .truth = infeasible, .trap = Trap::sum_of_rows, .objective_units = true, .row_units = true, .variable_units = true},
    {.name = "unbounded", .truth = unbounded},
    {.name = "unbounded linear program", .truth = unbounded, .many = true, .rank = 0},
    {.name = "unbounded between hidden equalities", .truth = unbounded, .pairs = true, .dependent = true},
    {.name = "Q with a negative eigenvalue", .truth = QPStatus::numerical},
    {.name = "unbounded, all scaled", .truth = unbounded, .objective_units = true, .row_units = true, .variable_units = true},
};

struct Dice {
  std::mt19937_64 engine;
  int below(int n) { return static_cast<int>(engine() % static_cast<unsigned>(n)); }
  bool chance(double p) { return below(1 << 20) < p * (1 << 20); }
  double number() { return (below(129) - 64) / 32.0; }              // in [-2, 2]
  double positive() { return (1 + below(64)) / 32.0; }              // in (0, 2]
  double power(int most) { return std::ldexp(1, below(2 * most + 1) - most); }
};

enum class Kind { high, low, both, equal, none };

/// Makes the elements of one batch. What the matrices are made of comes from `shape`, which starts again in every element if
/// they share them; the rest from `own`.
class Maker {
 public:
  Maker(const Family& family, unsigned seed) : f(family), seed_(seed) {
    Dice r{std::mt19937_64{seed}};
    n = r.chance(0.9) ? 1 + r.below(12) : 13 + r.below(28);
    m = f.many ? n + 1 + r.below(n + 2) : r.chance(0.2) ? 0 : 1 + r.below(n + 2);
    p = n == 1 || r.chance(0.4) ? 0 : 1 + r.below((n + 1) / 2);
    if (f.dependent) p += 2;
    if (f.trap == Trap::sum_of_rows) ++m;
    if (f.trap == Trap::equalities) ++p;
    if (f.near_parallel || f.pairs || f.sums || f.duplicates) m = std::max(m, 3);
    rank = f.rank >= 0 ? std::min(f.rank, n) : r.chance(0.6) ? n : r.below(n + 1);
    lower = r.chance(0.5), upper = r.chance(0.4) || f.fixed || f.trap == Trap::crossed;
    const bool diagonal = r.chance(0.4);
    shared = r.chance(0.4);
    form = f.rank == 0 && r.chance(0.5) ? Form::absent : !diagonal ? Form::dense : rank < n || f.variable_units || r.chance(0.5) ? Form::diagonal : Form::scalar;
    if (f.truth != QPStatus::solved && form != Form::dense) form = Form::diagonal;  // an indefinite Q must be there
  }

  void make(std::vector<PlainQP>& problems, std::vector<Units>& all_units) {
    const auto e = static_cast<unsigned>(problems.size());
    shape.engine.seed(seed_ + 1000003u * (shared ? 1 : e + 1)), own.engine.seed(seed_ + 7919u * (e + 1));
    PlainQP qp{n, m, p, Values(at(n * n)), Values(at(n)), {}, Values(at(m), inf), Values(at(m), -inf), {}, {}, Values(at(n), -inf), Values(at(n), inf)};
    truth = {{}, Values(at(p)), Values(at(m)), Values(at(n)), Values(at(n)), Values(at(m))};
    ray.assign(at(n), 0), pull.assign(at(n), 0);
    for (int j = 0; j < n; ++j) truth.z.push_back(own.number());
    for (int j = 0; f.truth == unbounded && j < n; ++j) ray[at(j)] = at(j) == seed_ % at(n) || shape.chance(0.3) ? (shape.chance(0.5) ? 1 : -1) : 0;
    make_Q(qp), make_bounds(qp), make_rows(qp), make_equalities(qp);
    for (int j = 0; j < n; ++j) {
      qp.q[at(j)] = -pull[at(j)];
      for (int i = 0; i < n; ++i) qp.q[at(j)] -= qp.Q[at(j * n + i)] * truth.z[at(i)];
    }
    if (f.truth == unbounded) {
      const double excess = (dot(qp.q, ray) + own.positive() + 0.25) / dot(ray, ray);
      for (int j = 0; j < n; ++j) qp.q[at(j)] -= excess * ray[at(j)];
      const double value = -dot(qp.q, ray);
      for (int j = 0; j < n; ++j) truth.z[at(j)] = ray[at(j)] / value;
    }
    if (f.trap != Trap::none) spoil(qp);
    if (f.truth == QPStatus::numerical) qp.Q[0] = -shape.positive();
    all_units.push_back(make_units(qp)), problems.push_back(std::move(qp));
  }

  PlainAnswer truth;  // of the element made last: what proves its status
  int n, m, p, rank;
  bool lower, upper, shared;
  Form form;

 private:
  static double dot(const Values& a, const Values& b) {
    double sum = 0;
    for (std::size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
    return sum;
  }

  /// A random row with row'ray = -slope.
  Values row(double slope = 0) {
    Values g;
    const bool sparse = shape.chance(0.3);
    for (int j = 0; j < n; ++j) g.push_back(sparse && shape.chance(0.6) ? 0 : shape.number());
    const auto k = static_cast<std::size_t>(seed_) % at(n);
    if (ray[k] != 0) g[k] -= ray[k] * (dot(g, ray) + slope);
    return g;
  }

  void make_Q(PlainQP& qp) {
    for (int k = 0; k < rank; ++k) {
      if (form == Form::dense) {
        const Values v = row();
        const double ridge = rank == n && f.truth != unbounded ? 0.25 : 0;
        for (int i = 0; i < n; ++i)
          for (int j = 0; j < n; ++j) qp.Q[at(i * n + j)] += v[at(i)] * v[at(j)] + (i == j && i == k ? ridge : 0);
      } else if (form != Form::absent && ray[at(k)] == 0) {
        qp.Q[at(k * (n + 1))] = form == Form::scalar && k > 0 ? qp.Q[0] : shape.positive();
      }
    }
  }

  /// The sides of a row whose value at the solution is `value`, and their duals. Returns the dual of high less that of low.
  double sides(Kind kind, bool tight, double value, double& low, double& high, double& dual_low, double& dual_high) {
    const bool active = tight || own.chance(0.4);
    const double slack = active ? 0 : own.positive(), room = own.positive(), dual = active && own.chance(f.degenerate ? 0.4 : 0.8) ? own.positive() : 0;
    const bool at_low = kind == Kind::low || (kind == Kind::both && own.chance(0.5));
    if (kind == Kind::none) return 0;
    if (kind == Kind::equal) return low = high = value, dual_high = dual, dual;
    if (kind != Kind::high) low = value - (at_low ? slack : room);
    if (kind != Kind::low) high = value + (at_low ? room : slack);
    (at_low ? dual_low : dual_high) = dual;
    return dual_high - dual_low;
  }

  void make_bounds(PlainQP& qp) {
    for (int j = 0; j < n; ++j) {
      const bool low = lower && ray[at(j)] >= 0 && shape.chance(0.7), high = upper && ray[at(j)] <= 0 && shape.chance(0.7);
      const bool fix = f.fixed && shape.chance(0.3);
      const Kind kind = fix ? Kind::equal : low && high ? Kind::both : low ? Kind::low : high ? Kind::high : Kind::none;
      pull[at(j)] += sides(kind, false, truth.z[at(j)], qp.lower[at(j)], qp.upper[at(j)], truth.dual_lower[at(j)], truth.dual_upper[at(j)]);
    }
  }

  void make_rows(PlainQP& qp) {
    Kind before = Kind::high;
    for (int i = 0; i < m; ++i) {
      const bool flat = f.truth != unbounded || f.pairs || shape.chance(0.5);
      Kind kind = !flat || shape.chance(0.6) ? Kind::high : f.free && shape.chance(0.5) ? Kind::none : f.fixed && shape.chance(0.4) ? Kind::equal
                  : shape.chance(0.5) ? Kind::low : Kind::both;
      bool tight = f.degenerate;
      Values g = row(flat ? 0 : shape.positive());
      const auto earlier = [&](int k, int j) { return qp.G[at((i - k) * n + j)]; };
      if (i >= 1 && f.pairs && i % 2) {
        for (int j = 0; j < n; ++j) g[at(j)] = -earlier(1, j);
        kind = before, tight = true;
      } else if (i >= 2 && f.sums && i % 3 == 2) {
        for (int j = 0; j < n; ++j) g[at(j)] = -earlier(1, j) - earlier(2, j);
        kind = Kind::high, tight = true;
      } else if (i >= 1 && f.duplicates && shape.chance(0.5)) {
        const double factor = shape.power(2);
        for (int j = 0; j < n; ++j) g[at(j)] = factor * earlier(1, j);
        kind = before;
      } else if (i >= 1 && f.near_parallel && shape.chance(0.6)) {
        const double step = std::ldexp(1, -10 - shape.below(20)), sign = shape.chance(0.5) ? 1 : -1;
        for (int j = 0; j < n; ++j) g[at(j)] = sign * earlier(1, j) + step * g[at(j)];
      }
      if (f.pairs) kind = i % 2 ? before : shape.chance(0.5) ? Kind::high : Kind::low, tight = true;
      if (f.sums && i + i % 3 <= m && !f.pairs) kind = Kind::high, tight = true;
      if (f.trap == Trap::sum_of_rows && i == m - 1) kind = Kind::none;  // spoil()'s
      const double dual = sides(kind, tight, dot(g, truth.z), qp.lower_g[at(i)], qp.h[at(i)], truth.dual_lower_g[at(i)], truth.lambda[at(i)]);
      for (int j = 0; j < n; ++j) pull[at(j)] += dual * g[at(j)];
      qp.G.insert(qp.G.end(), g.begin(), g.end());
      before = kind;
    }
  }

  void make_equalities(PlainQP& qp) {
    for (int i = 0; i < p; ++i) {
      Values a = row();
      const int twice = shape.below(2);
      if (i >= 2 && f.dependent && i >= p - 2)
        for (int j = 0; j < n; ++j) a[at(j)] = qp.A[at((i - 1) * n + j)] + twice * qp.A[at((i - 2) * n + j)];
      const double nu = truth.nu[at(i)] = f.trap == Trap::equalities && i == p - 1 ? 0 : own.number();
      for (int j = 0; j < n; ++j) pull[at(j)] += nu * a[at(j)];
      qp.b.push_back(dot(a, truth.z));
      qp.A.insert(qp.A.end(), a.begin(), a.end());
    }
  }

  /// Takes the last row of G or A for one that contradicts a combination of others, or crosses two sides.
  void spoil(PlainQP& qp) {
    const double margin = own.positive() + 0.25;
    truth = {truth.z, Values(at(p)), Values(at(m)), Values(at(n)), Values(at(n)), Values(at(m))};
    if (f.trap == Trap::crossed) {
      const auto j = at(static_cast<int>(seed_ % at(n)));
      qp.lower[j] = truth.z[j] + margin, qp.upper[j] = truth.z[j];
      truth.dual_lower[j] = truth.dual_upper[j] = 1 / margin;
      return;
    }
    Values sum(at(n));
    double limit = 0;
    const auto take = [&](const Values& rows, int i, double side, double& dual, double weight, double sign) {
      for (int j = 0; j < n; ++j) sum[at(j)] += sign * weight * rows[at(i * n + j)];
      limit += sign * weight * side, dual += weight / margin;
    };
    const bool last_equality = f.trap == Trap::equalities;
    const int rows = last_equality ? 0 : m - 1, equalities = last_equality ? p - 1 : p;
    for (int count = 1 + shape.below(4); count > 0; --count) {
      const double weight = shape.power(1);
      if (equalities && (rows == 0 || shape.chance(0.3))) {
        const int i = shape.below(equalities);
        take(qp.A, i, qp.b[at(i)], truth.nu[at(i)], shape.chance(0.5) ? weight : -weight, 1);
      } else if (rows) {
        const int i = shape.below(rows);
        if (std::isfinite(qp.h[at(i)])) take(qp.G, i, qp.h[at(i)], truth.lambda[at(i)], weight, 1);
        else if (std::isfinite(qp.lower_g[at(i)])) take(qp.G, i, qp.lower_g[at(i)], truth.dual_lower_g[at(i)], weight, -1);
      }
    }
    std::transform(sum.begin(), sum.end(), (last_equality ? qp.A : qp.G).end() - n, std::negate<>());
    if (last_equality) qp.b.back() = -limit - margin, truth.nu.back() = 1 / margin;
    else qp.h.back() = -limit - margin, qp.lower_g.back() = -inf, truth.lambda.back() = 1 / margin;
  }

  /// What is zero throughout, an objective, a row or a column, says nothing of its unit, and keeps it.
  Units make_units(const PlainQP& qp) {
    const auto zero = [](const Values& x, std::size_t first, std::size_t count, std::size_t step = 1) {
      for (std::size_t i = 0; i < count; ++i)
        if (x[first + i * step] != 0) return false;
      return true;
    };
    const std::size_t n_ = at(n);
    const auto units = [&](int size, bool scaled, const auto& says_nothing) {
      Values out(at(size), 1);
      for (std::size_t i = 0; i < out.size(); ++i) {
        const double unit = scaled ? shape.power(f.unit_exponent()) : 1;
        if (!says_nothing(i)) out[i] = unit;
      }
      return out;
    };
    const bool constant = zero(qp.q, 0, n_) && zero(qp.Q, 0, n_ * n_);
    return {units(n, f.variable_units, [&](std::size_t j) { return zero(qp.Q, j, n_, n_) && zero(qp.G, j, at(m), n_) && zero(qp.A, j, at(p), n_); }),
            units(m, f.row_units, [&](std::size_t i) { return zero(qp.G, i * n_, n_); }),
            units(p, f.row_units, [&](std::size_t i) { return zero(qp.A, i * n_, n_); }), f.objective_units && !constant ? shape.power(f.unit_exponent()) : 1};
  }

  const Family& f;
  const unsigned seed_;
  Dice shape, own;
  Values ray, pull;  // of an unbounded problem; A'nu + C'lambda at the solution
};

/// What became of a family's problems.
struct Count {
  int problems = 0, wrong = 0, loose = 0, gave_up = 0;
  double worst = 0;
  int failures() const { return wrong + loose + gave_up; }
};

constexpr int batch_size = 8;

/// Solves and judges one batch; what is wrong is said with the seed that makes it again.
void judge(const Family& family, unsigned seed, Count& count) {
  Maker maker(family, seed);
  std::vector<PlainQP> problems, given;
  std::vector<Units> units;
  for (int e = 0; e < batch_size; ++e) {
    maker.make(problems, units);
    if (family.truth != QPStatus::numerical) REQUIRE(error_of_claim(problems.back(), maker.truth, family.truth) < 1e-12);
    given.push_back(in_units(problems.back(), units.back()));
  }
  const QP<Tensor> qp = batch_of(given, maker.form, maker.shared);
  const QPSolution s = solve(qp, {.on_failure = OnFailure::report, .differentiable = true});
  const auto say = [&](int e, int& counter, double error) {
    ++counter;
    if (count.failures() > 5) return;
    std::cout << family.name << ", seed " << seed << ", element " << e << " (n " << maker.n << ", m " << maker.m << ", p " << maker.p << ", rank "
              << maker.rank << "): " << name(s.status[at(e)]) << ", error " << error << '\n';
  };
  for (int e = 0; e < batch_size; ++e, ++count.problems) {
    const QPStatus status = s.status[at(e)];
    const double error = error_of_claim(problems[at(e)], from_units(answer_of(s, e, given[at(e)]), units[at(e)], status), status);
    if (status == QPStatus::numerical && status == family.truth) continue;
    if (status == QPStatus::max_iterations || status == QPStatus::numerical) say(e, count.gave_up, error);
    else if (status != family.truth) say(e, count.wrong, error);
    else if (!(error <= 1e-6)) say(e, count.loose, error);
    else count.worst = std::max(count.worst, error);
  }
  if (all_finite(s) && all_finite(gradient_of_sums(qp, s))) return;
  say(0, count.wrong, inf), std::cout << "  numbers that are not finite\n";
}

}  // namespace

TEST_CASE("ten thousand hard problems have the right status each, and an answer that proves it", "[qp][hard]") {
  std::vector<Count> counts(families.size());
  for (unsigned batch = 0; batch * batch_size < 10000; ++batch) judge(families[batch % families.size()], batch, counts[batch % families.size()]);
  Count all;
  for (std::size_t i = 0; i < counts.size(); ++i) {
    const Count& c = counts[i];
    all.problems += c.problems, all.wrong += c.wrong, all.loose += c.loose, all.gave_up += c.gave_up;
    if (c.failures())
      std::cout << families[i].name << ": of " << c.problems << ", wrong " << c.wrong << ", unproved " << c.loose << ", given up " << c.gave_up << '\n';
  }
  CHECK(all.problems == 10000);
  CHECK(all.wrong == 0);    // a status that is not the truth, or a number that is not finite
  CHECK(all.loose == 0);    // the right status, but z, duals or certificate do not show it to 1e-6
  CHECK(all.gave_up < 10);  // max_iterations and numerical
}
