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

  Problem<T, E> load(std::int64_t first) {
    const auto& f = batch_.field;
    Problem<T, E> problem{.n = batch_.n, .p = batch_.p, .m = batch_.m, .has_lower = bool(f.lower), .has_upper = bool(f.upper)};
    problem.q = vector(f.q, first, batch_.n);
    problem.b = vector(f.b, first, batch_.p);
    if (!batch_.Q_dense)
      problem.Q_diagonal = vector(f.Q ? f.Q : Field{&zero_, 0, 0}, first, batch_.n);
    else
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

/// The adjoint system of one pack. In: seeds v; out: the derivatives d. The factors are those of the regularised
/// system; one step of refinement takes regularisation and rounding back out.
template <class T, class E>
class Adjoint {
 public:
  Adjoint(const Problem<T, E>& problem, T* factors, Workspace<T>& memory)
      : P(problem), kkt_(problem, factors), n_(problem.n), p_(problem.p), k_(problem.sides()) {
    for (T** x : {&vz, &dz, &r1_}) *x = memory.take(n_);
    for (T** x : {&vnu, &dnu, &r2_}) *x = memory.take(p_);
    for (T** x : {&v, &dlambda, &s, &lambda, &r3_, &w_}) *x = memory.take(k_);
  }

  void solve() {
    for (int i = 0; i < k_; ++i) w_[i] = backward_weight(s[i], lambda[i]);
    std::fill_n(dz, n_, T(0.0)), std::fill_n(dnu, p_, T(0.0)), std::fill_n(dlambda, k_, T(0.0));
    for (int round = 0; round < 2; ++round) correct();
  }

  T *vz, *vnu, *v, *dz, *dnu, *dlambda, *s, *lambda;

 private:
  /// Adds the solution for what is left of (K18) and of (K19), the latter in the form dlambda = w (C dz + v + delta dlambda).
  void correct() {
    P.multiply_Q(team_, dz, [&](int i, const T& Qdz) { r1_[i] = -vz[i] - Qdz; });
    P.multiply_C_transposed(team_, dlambda, [&](int i, const T& Cdl) { r1_[i] -= Cdl; });
    if (p_) {
      dense::multiply_transposed(team_, p_, n_, P.A, n_, dnu, [&](int i, const T& Adnu) { r1_[i] -= Adnu; });
      dense::multiply(team_, p_, n_, P.A, n_, dz, [&](int i, const T& Adz) { r2_[i] = -vnu[i] - Adz; });
    }
    P.multiply_C(team_, dz, [&](int i, const T& Cdz) { r3_[i] = w_[i] * (Cdz + v[i] + backward_delta * dlambda[i]) - dlambda[i]; });
    P.multiply_C_transposed(team_, r3_, [&](int i, const T& Cr) { r1_[i] -= Cr; });
    kkt_.solve(team_, r1_, r2_);
    P.multiply_C(team_, r1_, [&](int i, const T& Cr) { dlambda[i] += w_[i] * Cr + r3_[i]; });
    for (int i = 0; i < n_; ++i) dz[i] += r1_[i];
    for (int i = 0; i < p_; ++i) dnu[i] += r2_[i];
  }

  const Problem<T, E> P;
  const Kkt<T, E> kkt_;
  const OneThread team_{};
  const int n_, p_, k_;
  T *r1_, *r2_, *r3_, *w_;
};

/// (K18), (K19) for all packs, with the factors kept by solve_as.
template <class T, class E>
void adjoint_as(const Batch& batch, const QPSolution& solution, const Iterates& at, const std::vector<T>& kept, Iterates& seeds) {
  const int n = batch.n, p = batch.p, k = batch.sides();
  const std::size_t size = static_cast<std::size_t>(Kkt<T, E>::size(n, p, batch.diagonal()));
  const std::vector<double> Gt = shared_Gt(batch);
  for_packs<T>(batch.count, [&](std::int64_t pack, Workspace<T>& memory) {
    const std::int64_t first = pack * lanes_of<T>;
    Loader<T, E> loader(batch, Gt, memory);
    Adjoint<T, E> adjoint(loader.load(first), const_cast<T*>(kept.data()) + static_cast<std::size_t>(pack) * size, memory);
    for (int l = 0; l < lanes_of<T>; ++l) {
      const std::int64_t e = std::min(first + l, batch.count - 1);
      fetch(seeds.z.data() + e * n, n, l, adjoint.vz), fetch(seeds.nu.data() + e * p, p, l, adjoint.vnu);
      fetch(seeds.lambda.data() + e * k, k, l, adjoint.v);
      fetch(at.lambda.data() + e * k, k, l, adjoint.lambda), fetch(at.s.data() + e * k, k, l, adjoint.s);
    }
    adjoint.solve();
    for (int l = 0; l < lanes_of<T> && first + l < batch.count; ++l) {
      const std::int64_t e = first + l;
      double *dz = seeds.z.data() + e * n, *dnu = seeds.nu.data() + e * p, *dlambda = seeds.lambda.data() + e * k;
      store(adjoint.dz, n, l, dz), store(adjoint.dnu, p, l, dnu), store(adjoint.dlambda, k, l, dlambda);
      if (solution.status[static_cast<std::size_t>(e)] == QPStatus::solved) continue;
      std::fill_n(dz, n, 0), std::fill_n(dnu, p, 0), std::fill_n(dlambda, k, 0);
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
    adjoint_as<double, double>(batch, solution, factors.solution, factors.single, seeds);
  else if (batch.shared_matrices())
    adjoint_as<Pack, double>(batch, solution, factors.solution, factors.packs, seeds);
  else
    adjoint_as<Pack, Pack>(batch, solution, factors.solution, factors.packs, seeds);
}

}  // namespace optnet
