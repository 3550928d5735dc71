// Problems that people bring to a QP solver: a chain of masses under control, a portfolio, a support vector machine, lasso and
// isotonic regression. Each must satisfy (K2), and agree with an algorithm of its own where there is one.
#include "tests/naive.h"
#include "tests/random_qp.h"

#include <algorithm>
#include <numeric>

namespace {

using Values = std::vector<double>;
constexpr double inf = std::numeric_limits<double>::infinity();

/// A problem of n variables, p equalities and m rows, all zero and without sides: to be filled in.
PlainQP blank(std::size_t n, std::size_t m, std::size_t p) {
  return {static_cast<int>(n), static_cast<int>(m), static_cast<int>(p), Values(n * n), Values(n), Values(m * n), Values(m, inf), Values(m, -inf),
          Values(p * n), Values(p), Values(n, -inf), Values(n, inf)};
}

/// z, after the conditions have been checked.
Values solution(const PlainQP& qp, double within = 1e-8) {
  const QPSolution s = solve(batch_of({qp}, Form::dense, true), {.differentiable = true});
  const PlainAnswer x = answer_of(s, 0, qp);
  CHECK(kkt_error(qp, x) < within);
  CHECK(all_finite(gradient_of_sums(batch_of({qp}, Form::dense, true), s)));
  return x.z;
}

double largest_difference(const Values& a, const Values& b) {
  double largest = 0;
  for (std::size_t i = 0; i < a.size(); ++i) largest = std::max(largest, std::abs(a[i] - b[i]));
  return largest;
}

/// Coordinate descent: argmin 1/2 |X w - y|^2 + penalty |w|_1. X [rows, n].
Values lasso(const Values& X, const Values& y, std::size_t n, double penalty) {
  Values w(n), residual = y;
  for (double moved = 1; moved > 1e-14;) {
    moved = 0;
    for (std::size_t j = 0; j < n; ++j) {
      double square = 0, along = 0;
      for (std::size_t i = 0; i < y.size(); ++i) square += X[i * n + j] * X[i * n + j], along += X[i * n + j] * residual[i];
      along += square * w[j];
      const double next = std::copysign(std::max(std::abs(along) - penalty, 0.0), along) / square, step = next - w[j];
      for (std::size_t i = 0; i < y.size(); ++i) residual[i] -= step * X[i * n + j];
      w[j] = next, moved = std::max(moved, std::abs(step));
    }
  }
  return w;
}

}  // namespace

TEST_CASE("a chain of masses between springs is controlled within its limits", "[qp][control]") {
  // States: positions and speeds of `masses`; a force on each as controls; Euler steps of 0.3 s.
  // Variables: x_1 u_0 x_2 u_1 ... of a horizon, as (x, u) blocks.
  for (auto [masses, horizon] : {std::pair<std::size_t, std::size_t>{1, 10}, {2, 12}, {4, 15}}) {
    const std::size_t states = 2 * masses, block = states + masses, n = horizon * block;
    Generator r{std::mt19937_64{masses}};
    PlainQP qp = blank(n, 0, horizon * states);
    Values start;
    for (std::size_t i = 0; i < states; ++i) start.push_back(i < masses ? r.uniform(-3, 3) : 0);
    for (std::size_t t = 0; t < horizon; ++t) {
      for (std::size_t i = 0; i < block; ++i) {
        const std::size_t j = t * block + i;
        qp.Q[j * n + j] = i < states ? 1 : 0.1;
        qp.upper[j] = i < states ? 4 : 0.5, qp.lower[j] = -qp.upper[j];
      }
      // x_{t+1} = x_t + 0.3 (speeds; springs + forces - friction)
      for (std::size_t i = 0; i < states; ++i) {
        const std::size_t row = t * states + i;
        double* A = &qp.A[row * n];
        A[t * block + i] = 1;
        const auto take = [&](std::size_t state, double weight) {
          if (t == 0) qp.b[row] += weight * start[state];
          else A[(t - 1) * block + state] -= weight;
        };
        take(i, i < masses ? 1 : 0.8);
        if (i < masses) {
          take(i + masses, 0.3);
        } else {
          const std::size_t k = i - masses;
          take(k, -0.6);
          if (k > 0) take(k - 1, 0.3);
          if (k + 1 < masses) take(k + 1, 0.3);
          A[t * block + states + k] -= 0.3;
        }
      }
    }
    INFO(masses << " masses, horizon " << horizon << ", n " << n);
    const Values z = solution(qp);
    CHECK(std::count_if(z.begin(), z.end(), [](double x) { return std::abs(std::abs(x) - 0.5) < 1e-9; }) > 0);  // some force is at its limit
  }
}

TEST_CASE("a portfolio on a factor model is the same with factors as variables", "[qp][control]") {
  Generator r{std::mt19937_64{5}};
  const std::size_t n = 60, factors = 8;
  PlainQP small = blank(n, 0, 1), large = blank(n + factors, 0, 1 + factors);
  Values F;
  for (std::size_t i = 0; i < factors * n; ++i) F.push_back(r.normal());
  for (std::size_t i = 0; i < n; ++i) {
    const double own = r.uniform(0, 0.5);
    small.q[i] = large.q[i] = -r.uniform(0, 2), small.A[i] = large.A[i] = 1;
    small.lower[i] = large.lower[i] = 0, small.upper[i] = large.upper[i] = 0.2;
    small.Q[i * n + i] = large.Q[i * (n + factors) + i] = own;
    for (std::size_t j = 0; j < n; ++j)
      for (std::size_t k = 0; k < factors; ++k) small.Q[i * n + j] += F[k * n + i] * F[k * n + j];
  }
  small.b[0] = large.b[0] = 1;
  for (std::size_t k = 0; k < factors; ++k) {
    const std::size_t width = n + factors;
    large.Q[(n + k) * width + n + k] = 1;
    std::copy_n(F.begin() + static_cast<std::ptrdiff_t>(k * n), n, large.A.begin() + static_cast<std::ptrdiff_t>((1 + k) * width));
    large.A[(1 + k) * width + n + k] = -1;
  }
  Values a = solution(small), b = solution(large);
  CHECK(std::accumulate(a.begin(), a.end(), 0.0) == Approx(1));
  b.resize(n);
  CHECK(largest_difference(a, b) < 1e-6);
}

TEST_CASE("a support vector machine's dual finds the margin", "[qp][control]") {
  for (unsigned seed : {1u, 2u, 3u, 4u, 5u}) {
    Generator r{std::mt19937_64{seed}};
    const std::size_t points = 80, d = 3;  // Q = (y_i y_j x_i'x_j) has rank 3
    const double C = seed % 2 ? 1 : 100;
    PlainQP qp = blank(points, 0, 1);
    Values X, y;
    for (std::size_t i = 0; i < points; ++i) {
      y.push_back(i % 2 ? 1 : -1);
      for (std::size_t k = 0; k < d; ++k) X.push_back(r.normal() + (k == 0 ? 1.2 * y[i] : 0));
    }
    for (std::size_t i = 0; i < points; ++i) {
      qp.q[i] = -1, qp.A[i] = y[i], qp.lower[i] = 0, qp.upper[i] = C;
      for (std::size_t j = 0; j < points; ++j)
        for (std::size_t k = 0; k < d; ++k) qp.Q[i * points + j] += y[i] * y[j] * X[i * d + k] * X[j * d + k];
    }
    INFO("seed " << seed);
    const QPSolution s = solve(batch_of({qp}, Form::dense, true));
    const PlainAnswer x = answer_of(s, 0, qp);
    CHECK(kkt_error(qp, x) < 1e-8);
    // The primal problem, 1/2 |w|^2 + C sum max(0, 1 - y (w'x + bias)), has the same value; bias is nu.
    Values w(d);
    for (std::size_t i = 0; i < points; ++i)
      for (std::size_t k = 0; k < d; ++k) w[k] += x.z[i] * y[i] * X[i * d + k];
    double primal = 0;
    for (double v : w) primal += 0.5 * v * v;
    for (std::size_t i = 0; i < points; ++i) {
      double score = x.nu[0];
      for (std::size_t k = 0; k < d; ++k) score += w[k] * X[i * d + k];
      primal += C * std::max(0.0, 1 - y[i] * score);
    }
    CHECK(primal == Approx(-s.objective[0]).epsilon(1e-6));
  }
}

TEST_CASE("lasso as a QP agrees with coordinate descent", "[qp][control]") {
  for (double penalty : {0.1, 3.0, 30.0}) {
    Generator r{std::mt19937_64{9}};
    const std::size_t rows = 40, d = 15, n = 2 * d;  // w = z_+ - z_-, both >= 0: Q is singular
    Values X, y;
    for (std::size_t i = 0; i < rows * d; ++i) X.push_back(r.normal());
    for (std::size_t i = 0; i < rows; ++i) y.push_back(3 * X[i * d] - 2 * X[i * d + 1] + r.normal());
    PlainQP qp = blank(n, 0, 0);
    for (std::size_t i = 0; i < n; ++i) {
      const double sign = i < d ? 1 : -1;
      qp.lower[i] = 0, qp.q[i] = penalty;
      for (std::size_t k = 0; k < rows; ++k) {
        qp.q[i] -= sign * X[k * d + i % d] * y[k];
        for (std::size_t j = 0; j < n; ++j) qp.Q[i * n + j] += (j < d ? sign : -sign) * X[k * d + i % d] * X[k * d + j % d];
      }
    }
    const Values z = solution(qp);
    Values w(d);
    for (std::size_t i = 0; i < d; ++i) w[i] = z[i] - z[i + d];
    INFO("penalty " << penalty);
    CHECK(largest_difference(w, lasso(X, y, d, penalty)) < 1e-5);  // near a kink, (K2) at 1e-8 leaves w that much room
  }
}

TEST_CASE("isotonic regression agrees with pooling adjacent violators", "[qp][control]") {
  for (std::size_t n : {2u, 7u, 50u, 200u}) {
    Generator r{std::mt19937_64{n}};
    Values y;
    for (std::size_t i = 0; i < n; ++i) y.push_back(3.0 * static_cast<double>(i) / static_cast<double>(n) + r.normal());
    y[n / 2] = y[n / 2 - 1];  // a tie
    PlainQP qp = blank(n, n - 1, 0);
    for (std::size_t i = 0; i < n; ++i) qp.Q[i * n + i] = 1, qp.q[i] = -y[i];
    for (std::size_t i = 0; i + 1 < n; ++i) qp.G[i * n + i] = 1, qp.G[i * n + i + 1] = -1, qp.h[i] = 0;
    INFO("n " << n);
    CHECK(largest_difference(solution(qp), pooled(y)) < 1e-7);
  }
}
