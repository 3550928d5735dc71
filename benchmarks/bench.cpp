// ./build/.../bench: the QP solver on random problems of several sizes, forward and backward, on one core.
// W1 to W4: Q = LL' + 1e-3 I, G and A normal, h = G z0 + s0, all an element's own. W5 is the Sudoku layer's form: Q = 0.1 I,
// A 40 x 64 shared, z >= 0.
#include "framework/ops.h"
#include "solvers/qp.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <functional>

namespace {

using namespace optnet;

struct Workload {
  const char* name;
  std::int64_t n, m, p, batch;
};

QP<Tensor> dense_problem(Random& random, const Workload& w) {
  const Tensor L = normal(random, {w.batch, w.n, w.n}, 0, 1 / std::sqrt(static_cast<double>(w.n)), float64);
  const Tensor z0 = normal(random, {w.batch, w.n, 1}, 0, 1, float64);
  QP<Tensor> qp{.Q = matmul(L, L, {.transpose_b = true}) + 1e-3 * eye(w.n, float64), .q = normal(random, {w.batch, w.n}, 0, 1, float64)};
  qp.G = normal(random, {w.batch, w.m, w.n}, 0, 1, float64);
  qp.h = matmul(qp.G, z0).reshape({w.batch, w.m}) + uniform(random, {w.batch, w.m}, 0.1, 1.1, float64);
  if (w.p == 0) return qp;
  qp.A = normal(random, {w.batch, w.p, w.n}, 0, 1, float64);
  qp.b = matmul(qp.A, z0).reshape({w.batch, w.p});
  return qp;
}

QP<Tensor> sudoku_problem(Random& random, const Workload& w) {
  const Tensor A = uniform(random, {w.p, w.n}, 0, 1, float64);
  std::vector<double> q(static_cast<std::size_t>(w.batch * w.n));
  for (std::size_t cell = 0; cell < q.size(); cell += 4)
    if (random.uniform() < 0.4) q[cell + static_cast<std::size_t>(random.below(4))] = -1;
  return {.Q = full({}, 0.1, float64), .q = from({w.batch, w.n}, q), .A = A, .b = matmul(A, ones({w.n, 1}, float64)).reshape({w.p}),
          .lower = full({}, 0, float64)};
}

/// The least of several runs, in milliseconds.
double milliseconds(const std::function<void()>& f) {
  double best = 1e300;
  for (int run = 0; run < 5; ++run) {
    const auto begin = std::chrono::steady_clock::now();
    f();
    best = std::min(best, std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin).count());
  }
  return best;
}

}  // namespace

int main() {
  optnet::set_threads(1);
  std::printf("      n    m    p  batch   forward ms  backward ms  iterations  largest residual\n");
  for (const Workload& w : {Workload{"W1", 100, 100, 0, 128}, {"W2", 100, 50, 50, 128}, {"W3", 10, 10, 0, 1024}, {"W4", 500, 500, 0, 8}, {"W5", 64, 0, 40, 150}}) {
    Random random{1};
    const QP<Tensor> qp = w.m ? dense_problem(random, w) : sudoku_problem(random, w);
    const Tensor seed = normal(random, qp.q.shape(), 0, 1, float64);
    QPSolution s;
    const double forward = milliseconds([&] { s = solve(qp); });
    s = solve(qp, {.differentiable = true});
    const double backward = milliseconds([&] { vjp(qp, s, {.z = seed}); });
    double iterations = 0, residual = 0;
    for (std::size_t i = 0; i < s.status.size(); ++i) {
      iterations += s.iterations[i] / static_cast<double>(w.batch);
      residual = std::max({residual, s.primal_residual[i], s.dual_residual[i]});
    }
    std::printf("%s %4lld %4lld %4lld  %5lld  %11.2f  %11.2f  %10.1f  %16.1e\n", w.name, static_cast<long long>(w.n), static_cast<long long>(w.m),
                static_cast<long long>(w.p), static_cast<long long>(w.batch), forward, backward, iterations, residual);
  }
}
