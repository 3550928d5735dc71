// The CPU's team: one thread on a pack of problems, threads over packs. Loads packs, chooses the path, runs the
// interior-point method, and the backward pass with the factors that it kept.
#include "framework/backend.h"
#include "solvers/batch.h"
#include "solvers/interior_point.h"

#include <algorithm>
#include <cmath>

namespace optnet {
namespace {

/// Packs or LAPACK, by size alone, so that an answer never depends on the batch around it.
///     n + p <= 256    packs: several problems a register, the matrices of one pack still in cache
///     beyond          one problem a thread, factored by LAPACK
bool uses_packs(const Batch& batch) { return batch.n + batch.p <= 256; }

/// put(j m + i, G_ij) for all entries of an element's G.
template <class Put>
void transpose_G(const Batch& batch, std::int64_t element, const Put& put) {
  const double* G = batch.field.G.data + element * batch.field.G.element;
  for (int i = 0; i < batch.m; ++i)
    for (int j = 0; j < batch.n; ++j) put(j * batch.m + i, G[i * batch.n + j]);
}

/// Reads the problems first ... first + lanes - 1 of a batch into a team's memory; past the end the last one is
/// repeated. Matrices shared by the batch are used in place (E = double), or copied into packs.
template <class T, class E>
class Loader {
 public:
  Loader(const Batch& batch, const std::vector<double>& shared_Gt, Workspace<T>& memory)
      : batch_(batch), shared_Gt_(shared_Gt), memory_(memory) {}

  /// The backward pass has Q in its factors already, and leaves it out.
  Problem<T, E> load(std::int64_t first, bool with_Q = true) {
    const auto& f = batch_.field;
    Problem<T, E> problem{.n = batch_.n, .p = batch_.p, .m = batch_.m, .has_lower = bool(f.lower), .has_upper = bool(f.upper)};
    problem.q = vector(f.q, first, batch_.n);
    problem.b = vector(f.b, first, batch_.p);
    if (!batch_.Q_dense)
      problem.Q_diagonal = vector(f.Q ? f.Q : Field{&zero_, 0, 0}, first, batch_.n);
    else if (with_Q)
      problem.Q = matrix(f.Q, first, batch_.n * batch_.n);
    problem.Q_margin = batch_.dtype == float32 ? 1e-6 : 1e-9;
    problem.A = matrix(f.A, first, batch_.p * batch_.n);
    problem.Gt = inequalities(first);
    load_sides(problem, first);
    return problem;
  }

 private:
  std::int64_t element(std::int64_t first, int lane) const { return std::min(first + lane, batch_.count - 1); }

  T* vector(const Field& field, std::int64_t first, int size) {
    T* out = memory_.take(size);
    for (int l = 0; l < lanes_of<T>; ++l)
      for (int i = 0; i < size; ++i) set_lane(out[i], l, field(element(first, l), i));
    return out;
  }

  const E* matrix(const Field& field, std::int64_t first, int size) {
    if (!field) return nullptr;
    if constexpr (std::is_same_v<E, double>)
      return field.data + element(first, 0) * field.element;
    else
      return vector(field, first, size);
  }

  const E* inequalities(std::int64_t first) {
    if (batch_.m == 0) return nullptr;
    if constexpr (std::is_same_v<E, double>)
      if (batch_.field.G.element == 0) return shared_Gt_.data();
    if constexpr (std::is_same_v<E, T>) {
      E* out = memory_.take(batch_.n * batch_.m);
      for (int l = 0; l < lanes_of<T>; ++l) transpose_G(batch_, element(first, l), [&](int at, double x) { set_lane(out[at], l, x); });
      return out;
    }
    return nullptr;
  }

  /// d and mask: -lower, upper, h, and whether they are finite.
  void load_sides(Problem<T, E>& problem, std::int64_t first) {
    T* d = memory_.take(batch_.sides());
    T* mask = memory_.take(batch_.sides());
    int at = 0;
    const auto block = [&](const Field& field, int size, double sign) {
      if (!field) return;
      for (int l = 0; l < lanes_of<T>; ++l)
        for (int i = 0; i < size; ++i) {
          const double x = field(element(first, l), i);
          set_lane(d[at + i], l, std::isfinite(x) ? sign * x : 0);
          set_lane(mask[at + i], l, std::isfinite(x) ? 1 : 0);
        }
      at += size;
    };
    block(batch_.field.lower, batch_.n, -1);
    block(batch_.field.upper, batch_.n, 1);
    block(batch_.field.h, batch_.m, 1);
    problem.d = d;
    problem.mask = mask;
  }

  static constexpr double zero_ = 0;
  const Batch& batch_;
  const std::vector<double>& shared_Gt_;
  Workspace<T>& memory_;
};

/// G' [n, m] of a batch that shares G; empty otherwise.
std::vector<double> shared_Gt(const Batch& batch) {
  if (batch.m == 0 || batch.field.G.element) return {};
  std::vector<double> out(static_cast<std::size_t>(batch.n) * static_cast<std::size_t>(batch.m));
  transpose_G(batch, 0, [&](int at, double x) { out[static_cast<std::size_t>(at)] = x; });
  return out;
}

/// Lane l of x[0 ... count-1] to out.
template <class T>
void store(const T* x, int count, int l, double* out) {
  for (int i = 0; i < count; ++i) out[i] = lane(x[i], l);
}
template <class T>
void fetch(const double* in, int count, int l, T* x) {
  for (int i = 0; i < count; ++i) set_lane(x[i], l, in[i]);
}

/// run(first element, workspace) for all packs, shared out among threads; each thread keeps its workspace.
template <class T, class Run>
void for_packs(std::int64_t count, const Run& run) {
  const std::int64_t packs = (count + lanes_of<T> - 1) / lanes_of<T>;
#pragma omp parallel for schedule(dynamic) num_threads(static_cast<int>(std::min<std::int64_t>(threads(), packs))) if (packs > 1 && threads() > 1)
  for (std::int64_t pack = 0; pack < packs; ++pack) {
    static thread_local Workspace<T> memory;
    memory.reset();
    run(pack, memory);
  }
}

template <class T, class E>
void solve_as(const Batch& batch, const QPOptions& options, Iterates& out, QPSolution& solution, std::vector<T>& kept) {
  const int n = batch.n, p = batch.p, k = batch.sides();
  const std::size_t size = static_cast<std::size_t>(Kkt<T, E>::size(n, p, batch.diagonal()));
  const std::vector<double> Gt = shared_Gt(batch);
  if (options.differentiable) kept.resize(size * static_cast<std::size_t>((batch.count + lanes_of<T> - 1) / lanes_of<T>));
  for_packs<T>(batch.count, [&](std::int64_t pack, Workspace<T>& memory) {
    const std::int64_t first = pack * lanes_of<T>;
    Loader<T, E> loader(batch, Gt, memory);
    InteriorPoint<T, E> method(loader.load(first), options, memory);
    method.solve();
    if (options.differentiable) std::copy_n(method.factors_at_solution(), size, kept.data() + static_cast<std::size_t>(pack) * size);
    for (int l = 0; l < lanes_of<T> && first + l < batch.count; ++l) {
      const std::int64_t e = first + l;
      const auto i = static_cast<std::size_t>(e);
      store(method.z, n, l, out.z.data() + e * n);
      store(method.nu, p, l, out.nu.data() + e * p);
      store(method.s, k, l, out.s.data() + e * k);
      store(method.lambda, k, l, out.lambda.data() + e * k);
      solution.status[i] = method.status[l];
      solution.iterations[i] = method.iterations[l];
      solution.primal_residual[i] = lane(method.primal_residual, l);
      solution.dual_residual[i] = lane(method.dual_residual, l);
      solution.gap[i] = lane(method.gap, l);
    }
  });
}

/// (K18), (K19) for all packs, with the factors kept by solve_as.
template <class T, class E>
void adjoint_as(const Batch& batch, const QPSolution& solution, const QPFactors& factors, const std::vector<T>& kept, Iterates& seeds) {
  const int n = batch.n, p = batch.p, k = batch.sides();
  const double delta = factors.regularization;
  const Iterates& at = factors.solution;
  const std::size_t size = static_cast<std::size_t>(Kkt<T, E>::size(n, p, batch.diagonal()));
  const std::vector<double> Gt = shared_Gt(batch);
  for_packs<T>(batch.count, [&](std::int64_t pack, Workspace<T>& memory) {
    const std::int64_t first = pack * lanes_of<T>;
    Loader<T, E> loader(batch, Gt, memory);
    const Problem<T, E> problem = loader.load(first, false);
    T *dz = memory.take(n), *dnu = memory.take(p), *v = memory.take(k), *w = memory.take(k), *s = memory.take(k);
    for (int l = 0; l < lanes_of<T>; ++l) {
      const std::int64_t e = std::min(first + l, batch.count - 1);
      fetch(seeds.z.data() + e * n, n, l, dz), fetch(seeds.nu.data() + e * p, p, l, dnu);
      fetch(seeds.lambda.data() + e * k, k, l, v), fetch(at.lambda.data() + e * k, k, l, w), fetch(at.s.data() + e * k, k, l, s);
    }
    const OneThread team;
    for (int i = 0; i < k; ++i) w[i] = w[i] / (s[i] + delta * w[i]), s[i] = w[i] * v[i];  // s holds W v from here on
    problem.multiply_C_transposed(team, s, [&](int i, const T& Cwv) { dz[i] = -dz[i] - Cwv; });      // (K18)
    for (int i = 0; i < p; ++i) dnu[i] = -dnu[i];
    Kkt<T, E>(problem, const_cast<T*>(kept.data()) + static_cast<std::size_t>(pack) * size).solve(team, dz, dnu);
    problem.multiply_C(team, dz, [&](int i, const T& Cdz) { v[i] = w[i] * (Cdz + v[i]); });           // (K19)
    for (int l = 0; l < lanes_of<T> && first + l < batch.count; ++l) {
      const std::int64_t e = first + l;
      store(dz, n, l, seeds.z.data() + e * n), store(dnu, p, l, seeds.nu.data() + e * p), store(v, k, l, seeds.lambda.data() + e * k);
      if (solution.status[static_cast<std::size_t>(e)] == QPStatus::solved) continue;
      std::fill_n(seeds.z.data() + e * n, n, 0), std::fill_n(seeds.nu.data() + e * p, p, 0), std::fill_n(seeds.lambda.data() + e * k, k, 0);
    }
  });
}

}  // namespace

void solve_cpu(const Batch& batch, const QPOptions& options, Iterates& iterates, QPSolution& solution, QPFactors& factors) {
  if (!uses_packs(batch))
    solve_as<double, double>(batch, options, iterates, solution, factors.single);
  else if (batch.shared_matrices())
    solve_as<Pack, double>(batch, options, iterates, solution, factors.packs);
  else
    solve_as<Pack, Pack>(batch, options, iterates, solution, factors.packs);
}

void adjoint_cpu(const Batch& batch, const QPSolution& solution, const QPFactors& factors, Iterates& seeds) {
  if (!uses_packs(batch))
    adjoint_as<double, double>(batch, solution, factors, factors.single, seeds);
  else if (batch.shared_matrices())
    adjoint_as<Pack, double>(batch, solution, factors, factors.packs, seeds);
  else
    adjoint_as<Pack, Pack>(batch, solution, factors, factors.packs, seeds);
}

}  // namespace optnet
