// The workloads that the solver is measured on, W1 to W7: their sizes, the generator of their problems, and what every
// measurement needs: the least time of several runs, the peak of memory, and residuals of an answer in the problem's own data.
#pragma once

#include "framework/ops.h"
#include "solvers/qp.h"

#include <sys/resource.h>
#include <time.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <string>
#include <vector>

namespace optnet::benchmarks {

struct Workload {
  std::string name = "custom";
  std::int64_t n = 100, m = 100, p = 0, batch = 128;
  bool shared = false;    // one Q, G, h, A and b for the batch, q an element's own
  bool diagonal = false;  // the Sudoku layer's form: Q = 0.1 I, one A for the batch, z >= 0 in place of G (m = n)
};

inline std::vector<Workload> standard_workloads() {
  return {{"W1", 100, 100, 0, 128}, {"W2", 100, 50, 50, 128}, {"W3", 10, 10, 0, 1024}, {"W4", 500, 500, 0, 8},
          {"W5", 64, 64, 40, 150, false, true}, {"W6", 50, 100, 0, 256}, {"W7", 100, 100, 0, 128, true}};
}

/// Q = LL' + 1e-3 I with L normal / sqrt(n); G, A, q normal; h = G z0 + s0, s0 uniform in 0.1 to 1.1; b = A z0.
inline QP<Tensor> dense_problem(const Workload& w, Random& random) {
  const std::int64_t sets = w.shared ? 1 : w.batch;
  const auto sized = [&](std::int64_t rows, std::int64_t columns) { return w.shared ? Shape{rows, columns} : Shape{sets, rows, columns}; };
  const auto vector = [&](const Tensor& x, std::int64_t size) { return w.shared ? x.reshape({size}) : x.reshape({sets, size}); };
  const Tensor L = normal(random, sized(w.n, w.n), 0, 1 / std::sqrt(static_cast<double>(w.n)), float64);
  const Tensor z0 = normal(random, sized(w.n, 1), 0, 1, float64);
  QP<Tensor> qp{.Q = matmul(L, L, {.transpose_b = true}) + 1e-3 * eye(w.n, float64), .q = normal(random, {w.batch, w.n}, 0, 1, float64)};
  if (w.m) {
    qp.G = normal(random, sized(w.m, w.n), 0, 1, float64);
    qp.h = vector(matmul(qp.G, z0) + uniform(random, sized(w.m, 1), 0.1, 1.1, float64), w.m);
  }
  if (w.p) {
    qp.A = normal(random, sized(w.p, w.n), 0, 1, float64);
    qp.b = vector(matmul(qp.A, z0), w.p);
  }
  return qp;
}

/// Q = 0.1 I, A uniform and shared, b = A 1, z >= 0; q is minus a puzzle: each cell of four numbers is given with
/// probability 0.4, and then holds a single 1.
inline QP<Tensor> sudoku_problem(const Workload& w, Random& random) {
  const Tensor A = uniform(random, {w.p, w.n}, 0, 1, float64);
  std::vector<double> q(static_cast<std::size_t>(w.batch * w.n));
  for (std::size_t cell = 0; cell + 4 <= q.size(); cell += 4)
    if (random.uniform() < 0.4) q[cell + static_cast<std::size_t>(random.below(4))] = -1;
  QP<Tensor> qp{.Q = full({}, 0.1, float64), .q = from({w.batch, w.n}, q), .lower = full({}, 0, float64)};
  if (w.p) qp.A = A, qp.b = matmul(A, ones({w.n, 1}, float64)).reshape({w.p});
  return qp;
}

inline QP<Tensor> problem(const Workload& w, std::uint64_t seed) {
  Random random{seed};
  return w.diagonal ? sudoku_problem(w, random) : dense_problem(w, random);
}

/// Entry i of element e's part of a parameter, which may be one number, shared by the batch, or an element's own.
inline double entry(const Tensor& x, std::int64_t e, std::int64_t i, std::int64_t size) {
  const double* data = x.data<double>();
  return x.numel() == 1 ? data[0] : x.numel() == size ? data[i] : data[e * size + i];
}

/// The largest violation of the KKT conditions over the batch: stationarity, both sides of feasibility, signs of the
/// duals and complementarity, absolute, in the original data.
inline double largest_residual(const Workload& w, const QP<Tensor>& qp, const QPSolution& s) {
  double worst = 0;
  const auto see = [&](double r) { worst = std::isnan(r) ? INFINITY : std::max(worst, std::abs(r)); };
  const auto side = [&](double slack, double dual) { see(std::min(slack, 0.0)), see(std::min(dual, 0.0)), see(slack * dual); };
  std::vector<double> r(static_cast<std::size_t>(w.n));
  for (std::int64_t e = 0; e < w.batch; ++e) {
    const double* z = s.z.data<double>() + e * w.n;
    for (std::int64_t i = 0; i < w.n; ++i) {
      double& sum = r[static_cast<std::size_t>(i)] = entry(qp.q, e, i, w.n);
      if (w.diagonal) sum += qp.Q.item() * z[i];
      for (std::int64_t j = 0; j < w.n && !w.diagonal; ++j) sum += entry(qp.Q, e, i * w.n + j, w.n * w.n) * z[j];
      if (!qp.lower.defined()) continue;
      const double mu = entry(s.dual_lower, e, i, w.n);
      sum -= mu, side(z[i] - qp.lower.item(), mu);
    }
    const auto rows = [&](const Tensor& matrix, const Tensor& duals, std::int64_t count, const auto& check_row) {
      for (std::int64_t k = 0; matrix.defined() && k < count; ++k) {
        const double dual = entry(duals, e, k, count);
        double value = 0;
        for (std::int64_t j = 0; j < w.n; ++j) {
          const double a = entry(matrix, e, k * w.n + j, count * w.n);
          value += a * z[j], r[static_cast<std::size_t>(j)] += a * dual;
        }
        check_row(k, value, dual);
      }
    };
    rows(qp.A, s.nu, w.p, [&](std::int64_t k, double value, double) { see(value - entry(qp.b, e, k, w.p)); });
    rows(qp.G, s.lambda, w.m, [&](std::int64_t k, double value, double dual) { side(entry(qp.h, e, k, w.m) - value, dual); });
    std::for_each(r.begin(), r.end(), see);
  }
  return worst;
}

/// Time since it was made, in milliseconds: by the clock, or of this thread on its core, which on an idle machine is the
/// same, and on a shared one leaves out what others took.
class Stopwatch {
 public:
  explicit Stopwatch(clockid_t clock = CLOCK_MONOTONIC) : clock_(clock), begin_(now()) {}
  double ms() const { return now() - begin_; }

 private:
  double now() const {
    timespec t;
    clock_gettime(clock_, &t);
    return 1e3 * static_cast<double>(t.tv_sec) + 1e-6 * static_cast<double>(t.tv_nsec);
  }
  clockid_t clock_;
  double begin_;
};

/// The least time of a run of f in milliseconds, of at least five runs and 0.3 s.
template <class F>
double milliseconds(clockid_t clock, const F& f) {
  double best = INFINITY;
  const Stopwatch all{clock};
  for (int run = 0; run < 5 || all.ms() < 300; ++run) {
    const Stopwatch watch{clock};
    f();
    best = std::min(best, watch.ms());
  }
  return best;
}

/// Peak of resident memory so far, in MB. Linux forgets the old peak when told to, so that the next one is that of what follows.
inline double peak_memory() {
  rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_maxrss) / 1024;
}
inline void forget_peak_memory() { std::ofstream("/proc/self/clear_refs") << 5; }

}  // namespace optnet::benchmarks
