// The CPU's team: one thread on a pack of problems, threads over packs. Runs the two methods as path() says, and the backward
// pass with the factors that they kept.
#include "framework/backend.h"
#include "solvers/active_set.h"
#include "solvers/interior_point.h"
#include "solvers/loader.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <exception>
#include <numeric>

namespace optnet {
namespace {

/// Lane l of x[0 ... count-1] to out, and back.
template <class T>
void store(const T* x, int count, int l, double* out) {
  for (int i = 0; i < count; ++i) out[i] = lane(x[i], l);
}
template <class T>
void fetch(const double* in, int count, int l, T* x) {
  for (int i = 0; i < count; ++i) set_lane(x[i], l, in[i]);
}

/// A thread's memory, kept from call to call.
template <class T>
Workspace<T>& own_workspace() {
  static thread_local Workspace<T> memory;
  return memory;
}

/// run(pack, its elements, how many they are, workspace) for all packs of a list of elements, shared out among threads;
/// each thread keeps its workspace. A last pack that is not full repeats its last element.
template <class T, class Run>
void for_packs(const std::vector<std::int64_t>& elements, int thread_count, const Run& run) {
  const auto count = static_cast<std::int64_t>(elements.size()), packs = (count + lanes_of<T> - 1) / lanes_of<T>;
  const int team = static_cast<int>(std::min<std::int64_t>(thread_count ? thread_count : threads(), packs));
  std::exception_ptr failure;  // none may leave a parallel region: out of memory, say
#pragma omp parallel for schedule(dynamic) num_threads(team) if (team > 1)
  for (std::int64_t pack = 0; pack < packs; ++pack) {
    try {
      Workspace<T>& memory = own_workspace<T>();
      memory.reset(), own_workspace<Pack>().reset();
      std::int64_t lanes[lanes_of<T>];
      const auto own = static_cast<int>(std::min<std::int64_t>(lanes_of<T>, count - pack * lanes_of<T>));
      for (int l = 0; l < lanes_of<T>; ++l) lanes[l] = elements[static_cast<std::size_t>(pack * lanes_of<T> + std::min(l, own - 1))];
      run(pack, lanes, own, memory);
    } catch (...) {
#pragma omp critical
      failure = std::current_exception();
    }
  }
  if (failure) std::rethrow_exception(failure);
}

/// The forward pass: the active-set method where it suits, the interior-point method for all that it left.
template <class T, class E>
class Forward {
 public:
  Forward(const Batch& batch, const QPOptions& options, const Iterates& start, Iterates& iterates, QPSolution& solution, QPFactors& factors)
      : batch_(batch), options_(options), start_(start), out_(iterates), solution_(solution), factors_(factors),
        done_(static_cast<std::size_t>(batch.count)) {}

  /// False where a matrix holds a number that is not finite.
  bool run() {
    std::vector<std::int64_t> elements(static_cast<std::size_t>(batch_.count));
    std::iota(elements.begin(), elements.end(), 0);
    if (options_.active_set && path(batch_).active_set) {
      if (!batch_.shared || factor_shared()) active_set(elements);
      std::erase_if(elements, [&](std::int64_t e) { return done_[static_cast<std::size_t>(e)]; });
    }
    factors_.regularization = options_.regularization;
    interior_point(elements);
    return finite_;
  }

 private:
  /// With W = 0 and all rows, once for a batch that shares its matrices. False where they are too badly conditioned.
  bool factor_shared() {
    Workspace<double>& memory = own_workspace<double>();
    memory.reset(), own_workspace<Pack>().reset();
    const std::int64_t first = 0;
    const Problem<double, double> problem = Loader<double, double>(batch_, &first, memory).load();
    factors_.shared.resize(static_cast<std::size_t>(Kkt<double, double>::size(batch_, Carry::all)));
    Kkt<double, double> kkt(problem, factors_.shared.data(), Carry::all);
    double* scratch = memory.take(Kkt<double, double>::scratch_size(batch_, Carry::all));
    if (path(batch_).packs)
      kkt.factor(RowsInPacks{}, nullptr, 0, scratch);
    else
      kkt.factor(OneThread{}, nullptr, 0, scratch);
    if (!kkt.well_conditioned(OneThread{}, largest_condition)) return false;
    if (!path(batch_).masked) {
      shared_rows_.emplace(batch_, kkt.R(), kkt.ldR());
      if (path(batch_).centre && start_.z.empty()) find_centre(problem, kkt, memory);
    }
    return true;
  }

  /// The active rows for q = 0.
  void find_centre(Problem<double, double> problem, const Kkt<double, double>& kkt, Workspace<double>& memory) {
    Workspace<Pack>& row_memory = own_workspace<Pack>();
    double* q = memory.take(batch_.n);
    std::fill_n(q, batch_.n, 0.0), problem.q = q;
    Pack* kept = row_memory.take(ActiveSet<double, double>::kept_size(batch_));
    ActiveSet<double, double>::clear(batch_, kept);
    ActiveSet<double, double> method(problem, kkt, 1, kept, memory, row_memory, &*shared_rows_);
    if (method.find(options_)) shared_rows_->set_centre([&](int i) { return method.active(i); });
  }

  void active_set(const std::vector<std::int64_t>& elements) {
    const bool shared = batch_.shared, keep = options_.differentiable;
    const int size = Kkt<T, E, E>::size(batch_, Carry::all), rows_size = ActiveSet<T, E>::kept_size(batch_);
    if (keep) factors_.active.reserve<T>(elements, static_cast<std::size_t>(rows_size) + (shared ? 0 : Kept::packs<T>(Kkt<T, T>::size(batch_, Carry::A))));
    for_packs<T>(elements, options_.verbose ? 1 : options_.threads, [&](std::int64_t pack, const std::int64_t* lanes, int count, Workspace<T>& memory) {
      Loader<T, E> loader(batch_, lanes, memory);
      const Problem<T, E> problem = loader.load();
      if (!loader.finite()) finite_ = false;
      if (!finite_) return;
      MaskOf<T> suited = T(0.0) < T(1.0);
      E* own = shared ? reinterpret_cast<E*>(factors_.shared.data()) : nullptr;
      if constexpr (std::is_same_v<T, E>) {
        if (!shared) own = memory.take(size);
      }
      Kkt<T, E, E> kkt(problem, own, Carry::all);
      if constexpr (std::is_same_v<T, E>)
        if (!shared) {
          kkt.factor(OneThread{}, nullptr, 0, memory.take(Kkt<T, E>::scratch_size(batch_, Carry::all)));
          suited = kkt.well_conditioned(OneThread{}, largest_condition);
          if (keep) kkt.copy_system(reinterpret_cast<T*>(factors_.active.at(pack) + rows_size));
        }
      Workspace<Pack>& row_memory = own_workspace<Pack>();
      Pack* rows = keep ? factors_.active.at(pack) : row_memory.take(rows_size);
      ActiveSet<T, E>::clear(batch_, rows);
      for (int l = 0; l < count && !start_.z.empty(); ++l) guess<ActiveSet<T, E>>(lanes[l], l, rows);
      ActiveSet<T, E> method(problem, kkt, count, rows, memory, row_memory, shared_rows_ ? &*shared_rows_ : nullptr);
      const MaskOf<T> solved = method.solve(options_, lanes) & suited;
      for (int l = 0; l < count; ++l)
        if (lane(solved, l)) store_lane(method, l, lanes[l]), done_[static_cast<std::size_t>(lanes[l])] = true;
    });
  }

  void interior_point(const std::vector<std::int64_t>& elements) {
    const int size = Newton<T, E>::size(batch_);
    const int scaling_size = Scaling<T>::size(batch_);
    if (elements.empty()) return;
    if (batch_.shared) equilibrate_shared();
    if (options_.differentiable) factors_.interior.reserve<T>(elements, Kept::packs<T>(size + scaling_size));
    for_packs<T>(elements, options_.verbose ? 1 : options_.threads, [&](std::int64_t pack, const std::int64_t* lanes, int count, Workspace<T>& memory) {
      Loader<T, E> loader(batch_, lanes, memory);
      T* scaling = memory.take(scaling_size);
      const Problem<T, E> problem = loader.load_scaled(factors_.scaled, scaling, false);
      InteriorPoint<T, E> method(problem, Scaling<T>(scaling, batch_), options_, memory);
      if (!loader.finite()) finite_ = false;
      if (!finite_) return;
      if (!start_.z.empty()) begin_at(method, lanes);
      method.solve(lanes, !start_.z.empty());
      if (options_.differentiable) {
        T* kept = reinterpret_cast<T*>(factors_.interior.at(pack));
        std::copy_n(method.factors_at_solution(), size, kept), std::copy_n(scaling, scaling_size, kept + size);
      }
      method.unscale();
      for (int l = 0; l < count; ++l) store_lane(method, l, lanes[l]);
    });
  }

  /// The active rows of an earlier solution: those with a dual worth the name.
  template <class Method>
  void guess(std::int64_t e, int l, Pack* rows) const {
    const int k = batch_.sides(), high = batch_.high_side();
    const double* lambda = start_.lambda.data() + e * k;
    const double least = k ? 1e-6 * *std::max_element(lambda, lambda + k) : 0;
    for (int i = 0; i < batch_.rows(); ++i) {
      if (batch_.low && lambda[i] > least) Method::guess(batch_, rows, l, i, -1);
      if (batch_.high && lambda[high + i] > least) Method::guess(batch_, rows, l, i, 1);
    }
  }
  void begin_at(Iterate<T>& at, const std::int64_t* lanes) const {
    for (int l = 0; l < lanes_of<T>; ++l) {
      const std::int64_t e = lanes[l];
      fetch(start_.z.data() + e * batch_.n, batch_.n, l, at.z), fetch(start_.nu.data() + e * batch_.p, batch_.p, l, at.nu);
      fetch(start_.lambda.data() + e * batch_.sides(), batch_.sides(), l, at.lambda);
    }
  }

  /// The matrices that all elements share, scaled once. (An element's own c is left to it.)
  void equilibrate_shared() {
    Workspace<double> memory;
    const std::int64_t first = 0;
    Matrices<double> own = Loader<double, double>(batch_, &first, memory).copies();
    std::vector<double> diagonal(static_cast<std::size_t>(batch_.n));
    for (int i = 0; i < batch_.n && batch_.field.Q && !batch_.Q_dense; ++i) diagonal[static_cast<std::size_t>(i)] = batch_.field.Q(0, i);
    if (!batch_.Q_dense) own.Q_diagonal = diagonal.data();
    const int size = Scaling<double>::size(batch_);
    SharedMatrices& shared = factors_.scaled;
    shared.scaling.resize(static_cast<std::size_t>(size));
    equilibrate(batch_, own, Scaling<double>(shared.scaling.data(), batch_), Scaling<double>(memory.take(size), batch_));
    if (own.Q) shared.Q.assign(own.Q, own.Q + batch_.n * batch_.n);
    if (own.A) shared.A.assign(own.A, own.A + batch_.p * batch_.n);
    if (own.G) shared.G.assign(own.G, own.G + batch_.m * batch_.n);
  }

  void store_lane(const Iterate<T>& at, int l, std::int64_t e) {
    const int n = batch_.n, p = batch_.p, k = batch_.sides();
    const auto i = static_cast<std::size_t>(e);
    store(at.z, n, l, out_.z.data() + e * n), store(at.nu, p, l, out_.nu.data() + e * p);
    store(at.s, k, l, out_.s.data() + e * k), store(at.lambda, k, l, out_.lambda.data() + e * k);
    solution_.status[i] = at.status[l];
    solution_.iterations[i] = at.iterations[l];
    solution_.objective[i] = lane(at.objective, l);
    solution_.primal_residual[i] = lane(at.primal_residual, l);
    solution_.dual_residual[i] = lane(at.dual_residual, l);
    solution_.gap[i] = lane(at.gap, l);
  }

  static constexpr double largest_condition = 1e5;  // of H's Cholesky factor, whose square is that of H
  const Batch& batch_;
  const QPOptions& options_;
  const Iterates& start_;  // empty for a cold start
  Iterates& out_;
  QPSolution& solution_;
  QPFactors& factors_;
  std::vector<char> done_;
  std::optional<SharedRows> shared_rows_;
  std::atomic<bool> finite_ = true;
};

/// (K18), (K19) for all packs, with the factors that Forward kept.
template <class T, class E>
class Backward {
 public:
  Backward(const Batch& batch, const QPFactors& factors, Iterates& seeds)
      : batch_(batch), factors_(factors), seeds_(seeds), n_(batch.n), p_(batch.p), k_(batch.sides()) {}

  void run() {
    std::vector<char> solved(static_cast<std::size_t>(batch_.count), true);
    for (std::int64_t e : factors_.interior.elements) solved[static_cast<std::size_t>(e)] = false;
    if (factors_.active.memory) active_set(solved);
    interior_point();
  }

 private:
  void active_set(const std::vector<char>& solved) {
    const bool shared = batch_.shared;
    const int rows = batch_.rows();
    for_packs<T>(factors_.active.elements, factors_.threads, [&](std::int64_t pack, const std::int64_t* lanes, int count, Workspace<T>& memory) {
      const Problem<T, E> problem = Loader<T, E>(batch_, lanes, memory).load_rows();
      E* own = nullptr;
      if constexpr (std::is_same_v<T, E>) own = reinterpret_cast<T*>(factors_.active.at(pack) + ActiveSet<T, E>::kept_size(batch_));
      if (shared) own = reinterpret_cast<E*>(const_cast<double*>(factors_.shared.data()));
      const Kkt<T, E, E> kkt(problem, own, shared ? Carry::all : Carry::A);
      ActiveSet<T, E> method(problem, kkt, count, factors_.active.at(pack), memory, own_workspace<Pack>());
      method.take_signs();
      T *dz = memory.take(n_), *dnu = memory.take(p_), *dy = memory.take(rows), *v = memory.take(k_), *unused = memory.take(std::max({n_, p_, k_}));
      const auto read = [&](const Numbers& from, int size, T* x) {
        const double* rows[lanes_of<T>];
        for (int l = 0; l < lanes_of<T>; ++l) rows[l] = from.data() + lanes[l] * size;
        interleave(rows, size, x);
      };
      const auto write = [&](const T* x, int size, Numbers& to) {
        double* rows[lanes_of<T>];
        for (int l = 0; l < lanes_of<T>; ++l)
          rows[l] = l < count && solved[static_cast<std::size_t>(lanes[l])] ? to.data() + lanes[l] * size : reinterpret_cast<double*>(unused);
        deinterleave(x, size, rows);
      };
      read(seeds_.z, n_, dz), read(seeds_.nu, p_, dnu), read(seeds_.lambda, k_, v);  // whatever an unsolved lane holds, no other lane sees it
      T *low = batch_.low ? v : nullptr, *high = batch_.high ? v + batch_.high_side() : nullptr;
      for (int i = 0; i < n_; ++i) dz[i] = -dz[i];
      for (int i = 0; i < p_; ++i) dnu[i] = -dnu[i];
      for (int i = 0; i < rows; ++i) dy[i] = select(method.active(i) > T(0.0), high ? -high[i] : T(0.0), low ? low[i] : T(0.0));
      method.solve_active(dz, dnu, dy);
      for (int i = 0; i < rows; ++i) {
        if (high) high[i] = select(method.active(i) > T(0.0), dy[i], T(0.0));
        if (low) low[i] = select(method.active(i) < T(0.0), -dy[i], T(0.0));
      }
      write(dz, n_, seeds_.z), write(dnu, p_, seeds_.nu), write(v, k_, seeds_.lambda);
    });
  }

  void interior_point() {
    const int size = Newton<T, E>::size(batch_);
    for_packs<T>(factors_.interior.elements, factors_.threads, [&](std::int64_t pack, const std::int64_t* lanes, int count, Workspace<T>& memory) {
      T* kept = reinterpret_cast<T*>(factors_.interior.at(pack));
      T* scaling = memory.take(Scaling<T>::size(batch_));
      std::copy_n(kept + size, Scaling<T>::size(batch_), scaling);
      const Scaling<T> by(scaling, batch_);
      Adjoint<T, E> adjoint(Loader<T, E>(batch_, lanes, memory).load_scaled(factors_.scaled, scaling, true), kept, factors_.regularization, memory);
      const Iterates& at = factors_.solution;
      for (int l = 0; l < lanes_of<T>; ++l) {
        const std::int64_t e = lanes[l];
        fetch(seeds_.z.data() + e * n_, n_, l, adjoint.vz), fetch(seeds_.nu.data() + e * p_, p_, l, adjoint.vnu);
        fetch(seeds_.lambda.data() + e * k_, k_, l, adjoint.v);
        fetch(at.lambda.data() + e * k_, k_, l, adjoint.lambda), fetch(at.s.data() + e * k_, k_, l, adjoint.s);
      }
      adjoint.solve(by);
      for (int l = 0; l < count; ++l) {
        const std::int64_t e = lanes[l];
        store(adjoint.dz, n_, l, seeds_.z.data() + e * n_), store(adjoint.dnu, p_, l, seeds_.nu.data() + e * p_);
        store(adjoint.dlambda, k_, l, seeds_.lambda.data() + e * k_);
      }
    });
  }

  const Batch& batch_;
  const QPFactors& factors_;
  Iterates& seeds_;
  const int n_, p_, k_;
};

}  // namespace

bool solve_cpu(const Batch& batch, const QPOptions& options, const Iterates& start, Iterates& iterates, QPSolution& solution, QPFactors& factors) {
  if (!path(batch).packs)
    return Forward<double, double>(batch, options, start, iterates, solution, factors).run();
  if (batch.shared)
    return Forward<Pack, double>(batch, options, start, iterates, solution, factors).run();
  return Forward<Pack, Pack>(batch, options, start, iterates, solution, factors).run();
}

void adjoint_cpu(const Batch& batch, const QPFactors& factors, Iterates& seeds) {
  if (!path(batch).packs)
    Backward<double, double>(batch, factors, seeds).run();
  else if (batch.shared)
    Backward<Pack, double>(batch, factors, seeds).run();
  else
    Backward<Pack, Pack>(batch, factors, seeds).run();
}

}  // namespace optnet
