// A primal-dual active-set method on one problem or a pack of them: guess which rows of C hold with equality,
// solve for their duals, let duals of the wrong sign go and take violated rows in, until the guess confirms itself.
// A few small Cholesky factorisations where the interior-point method needs a dozen large ones, and the end is the
// exact vertex. It is not sure to end: what it does not solve, the interior-point method does. Equation numbers are
// those of docs/optnet.md.
#pragma once

#include "solvers/kkt.h"

#include <cstdio>
#include <vector>

namespace optnet {

template <class T, class E, class Team = OneThread>
class ActiveSet : public Iterate<T> {
 public:
  /// Whether it is worth a try, by sizes alone: R, [rows, rows], must not cost more than a few interior-point steps.
  static bool suits(const Sizes& sizes) {
    return sizes.rows() > 0 && sizes.rows() <= 4 * sizes.n && sizes.rows() <= 4096 && sizes.p < sizes.n;
  }

  /// `kkt` has been factored with W = 0 and the rows of C carried. `kept` [kept_size()] is what the backward pass needs.
  ActiveSet(const Problem<T, E>& problem, const Kkt<T, E, E>& kkt, Workspace<T>& memory, T* kept, Team team = {})
      : P(problem), kkt_(kkt), team_(team), n_(problem.n), p_(problem.p), k_(problem.rows()), most_(most(problem)),
        active_(kept), F_(kept + k_), index_(static_cast<std::size_t>((k_ + 1) * lanes_of<T>)) {
    for (T** x : {&z, &r1_, &u_, &dual_size_}) *x = memory.take(n_);
    for (T** x : {&nu, &r2_, &unu_, &A_size_}) *x = memory.take(p_);
    for (T** x : {&y_, &c_, &c0_, &scale_, &r3_, &C_size_}) *x = memory.take(k_);
    for (T** x : {&s, &lambda}) *x = memory.take(problem.sides());
    t_ = memory.take(most_);
  }

  static int kept_size(const Sizes& sizes) { return sizes.rows() + most(sizes) * dense::leading_dimension(most(sizes)); }

  /// From a guess in active_, all 0 for a cold start. Returns which lanes are solved: their guess stands, and the KKT
  /// conditions (K2) hold in the original data.
  MaskOf<T> solve(const QPOptions& options) {
    begin();
    for (int step = 0; any(running_) && step < max_steps && step < options.max_iterations; ++step) {
      collect();
      solve_for_duals();          // (K25)
      const T theta = k_ <= n_ - p_ ? (step < 10 ? 0.2 : 0.5) : step < 6 ? 0.35 : 0.5;  // measured: docs/solver.md
      running_ = running_ & correct_guess(theta);  // (K26)
      for (int l = 0; l < lanes_of<T>; ++l) iterations[l] += lane(running_, l);
      if (options.verbose) print(step);
    }
    for (int l = 0; l < lanes_of<T>; ++l)
      if (lane(running_, l)) give_up(l);  // its last guess was never factored, and must not be kept
    finish();
    for (int round = 0;; ++round) {
      residuals();
      const MaskOf<T> good = judge(options.tolerance);
      if (round == 2 || !any((!good) & confirmed_)) return good & confirmed_;
      refine(good);
    }
  }

  /// Of row i: -1 if its low side is active, 1 if its high side is, else 0.
  const T& active(int i) const { return active_[i]; }

  /// In place: the solution of [Q A' C_S'; A 0 0; C_S 0 0] (dz, dnu, dy) = (r1, r2, r3), S the active rows: dy is 0 on the
  /// others. Needs collect() and factor() before it. (K27)
  void solve_active(T* r1, T* r2, T* r3) {
    kkt_.solve(team_, r1, r2);
    P.multiply_rows(team_, r1, [&](int i, const T& Cz) { r3[i] = Cz - r3[i]; });
    solve_R(r3);
    P.multiply_rows_transposed(team_, r3, [&](int i, const T& x) { u_[i] = x; });
    team_.for_each(p_, [&](int i) { unu_[i] = 0.0; });
    kkt_.solve(team_, u_, unu_);
    team_.for_each(n_, [&](int i) { r1[i] -= u_[i]; });
    team_.for_each(p_, [&](int i) { r2[i] -= unu_[i]; });
  }

  /// The lists of active rows, each lane's own. A lane with more of them than dimensions gives up.
  void collect() {
    size_ = 0;
    for (int l = 0; l < lanes_of<T>; ++l) {
      int* index = index_.data() + l * (k_ + 1);
      int count = 0;
      for (int i = 0; i < k_; ++i) index[count] = i, count += lane(active_[i], l) != 0;  // without a branch
      if (count > n_ - p_) give_up(l), count = 0;
      count_[l] = count;
      size_ = count > size_ ? count : size_;
    }
    size_ = (size_ + tile - 1) / tile * tile;  // whole column blocks: the same arithmetic whatever the neighbours' sizes
  }

  using Iterate<T>::z, Iterate<T>::nu, Iterate<T>::s, Iterate<T>::lambda, Iterate<T>::status, Iterate<T>::iterations;
  using Iterate<T>::objective, Iterate<T>::primal_residual, Iterate<T>::dual_residual, Iterate<T>::gap;

 private:
  static constexpr int max_steps = 30, tile = 3;  // tile: the width of a column block of dense::cholesky
  static constexpr double tiny = 1e-11;

  /// At a vertex as many rows are active as dimensions are left.
  static int most(const Sizes& sizes) {
    const int dimensions = sizes.n - sizes.p;
    return ((sizes.rows() < dimensions ? sizes.rows() : dimensions) + tile - 1) / tile * tile;
  }
  const int* indices(int l) const { return index_.data() + l * (k_ + 1); }
  int ldF() const { return dense::leading_dimension(most_); }

  T norm(int count, const T* x) const {
    return team_.template largest<T>(count, T(0.0), [&](int i) { return abs(x[i]); });
  }
  T low(int i) const { return P.low ? select(P.mask[i] > T(0.0), -P.d[i], T(-1e300)) : T(-1e300); }
  T high(int i) const { return P.high ? select(P.mask[P.high_side() + i] > T(0.0), P.d[P.high_side() + i], T(1e300)) : T(1e300); }

  void give_up(int l) {
    for (int i = 0; i < k_; ++i) set_lane(active_[i], l, 0);
    MaskOf<T> others = T(0.0) < T(1.0);
    set_lane(others, l, false);
    running_ = running_ & others, confirmed_ = confirmed_ & others;
  }

  /// z without inequalities, and c = C z there. (K23)
  void begin() {
    team_.for_each(n_, [&](int i) { z[i] = -P.q[i]; });
    team_.for_each(p_, [&](int i) { nu[i] = P.b[i]; });
    kkt_.solve(team_, z, nu);
    P.multiply_rows(team_, z, [&](int i, const T& Cz) { c0_[i] = Cz; });
    const E* R = kkt_.R();
    const T largest = team_.template largest<T>(k_, T(0.0), [&](int i) { return T(R[i * kkt_.ldR() + i]); });
    team_.for_each(k_, [&](int i) {
      const T r = R[i * kkt_.ldR() + i];
      scale_[i] = select(r > 1e-14 * largest, 1.0 / sqrt(max(r, T(1e-300))), T(0.0));
      active_[i] = select(low(i) == high(i), T(1.0), active_[i]);
    });
    measure();
    running_ = confirmed_ = T(0.0) < T(1.0);
    drop_impossible_guesses();
    for (int l = 0; l < lanes_of<T>; ++l) status[l] = QPStatus::solved, iterations[l] = 1;
  }

  /// The largest entry of each row of A and C, and how large C z is in units of scale_.
  void measure() {
    const auto largest = [&](const E* row) {
      E size = 0.0;
      for (int j = 0; j < n_; ++j) size = max(size, abs(row[j]));
      return size;
    };
    team_.for_each(p_, [&](int i) { A_size_[i] = largest(P.A + i * n_); });
    team_.for_each(k_, [&](int i) {
      const int g = i - n_ * P.bounds;
      C_size_[i] = g < 0 ? T(1.0) : T(largest(P.G + g * n_));
    });
    c_size_ = team_.template largest<T>(k_, T(0.0), [&](int i) { return scale_[i] * max(abs(c0_[i]), limit_size(i)); });
  }
  T limit_size(int i) const {
    return max(P.low ? abs(P.d[i]) : T(0.0), P.high ? abs(P.d[P.high_side() + i]) : T(0.0));
  }

  /// A guess of more rows than dimensions, from elsewhere, is none.
  void drop_impossible_guesses() {
    for (int l = 0; l < lanes_of<T>; ++l) {
      int count = 0;
      for (int i = 0; i < k_; ++i) count += lane(active_[i], l) != 0;
      for (int i = 0; i < k_ && count > n_ - p_; ++i)
        if (lane(low(i), l) != lane(high(i), l)) set_lane(active_[i], l, 0);
    }
  }

  /// A line on standard error, of the first problem that is not settled.
  void print(int step) const {
    for (int l = 0; l < lanes_of<T>; ++l) {
      if (!lane(running_, l)) continue;
      std::fprintf(stderr, "active set, step %d: %d rows, worst violation %.2e\n", step + 1, count_[l], lane(worst_, l));
      return;
    }
  }

  /// y_S from R_SS y_S = c0_S - (low or high)_S, and c = c0 - R y.
  void solve_for_duals() {
    factor();
    team_.for_each(k_, [&](int i) { y_[i] = c0_[i] - limit(i); });
    solve_R(y_);
    dense::multiply(team_, k_, k_, kkt_.R(), kkt_.ldR(), static_cast<const T*>(y_), [&](int i, const T& Ry) { c_[i] = c0_[i] - Ry; });
  }
  T limit(int i) const { return select(active_[i] > T(0.0), high(i), low(i)); }

  /// F = R_SS = L L'. A lane with fewer active rows than its neighbours is filled up with rows of I.
  void factor() {
    team_.for_each(size_, [&](int a) {
      T* out = F_ + a * ldF();
      for (int l = 0; l < lanes_of<T>; ++l) {
        const int* index = indices(l);
        if (a < count_[l]) {
          const E* row = kkt_.R() + index[a] * kkt_.ldR();
          for (int b = 0; b <= a; ++b) set_lane(out[b], l, lane(row[index[b]], l));
        } else {
          for (int b = 0; b <= a; ++b) set_lane(out[b], l, a == b);
        }
      }
    });
    dense::cholesky(team_, size_, size_, F_, ldF());
  }

  /// In place: x_S = R_SS^-1 x_S, and 0 elsewhere.
  void solve_R(T* x) {
    team_.for_each(size_, [&](int a) {
      for (int l = 0; l < lanes_of<T>; ++l) set_lane(t_[a], l, a < count_[l] ? lane(x[indices(l)[a]], l) : 0);
    });
    dense::solve_lower(team_, size_, static_cast<const T*>(F_), ldF(), t_);
    dense::solve_lower_transposed(team_, size_, static_cast<const T*>(F_), ldF(), t_);
    team_.for_each(k_, [&](int i) { x[i] = 0.0; });
    team_.for_each(size_, [&](int a) {
      for (int l = 0; l < lanes_of<T>; ++l)
        if (a < count_[l]) set_lane(x[indices(l)[a]], l, lane(t_[a], l));
    });
  }

  /// Lets go of active rows whose dual has the wrong sign, and takes in inactive ones violated at least theta times as
  /// much as the worst. All at once would overshoot where there are more rows than dimensions. Returns who changed.
  MaskOf<T> correct_guess(const T& theta) {
    const auto violation = [&](int i) { return select(active_[i] == T(0.0), scale_[i] * max(low(i) - c_[i], c_[i] - high(i)), T(0.0)); };
    worst_ = team_.template largest<T>(k_, T(0.0), violation);
    const T least = max(theta * worst_, tiny * c_size_);
    const T y_size = team_.template largest<T>(k_, T(0.0), [&](int i) { return abs(y_[i]) / max(scale_[i], T(1e-300)); });
    MaskOf<T> changed = T(1.0) < T(0.0);
    for (int i = 0; i < k_; ++i) {
      const T a = active_[i];
      const MaskOf<T> keep = (a * y_[i] >= -tiny * y_size * scale_[i]) | (low(i) == high(i));
      const T taken = select(violation(i) > least, select(c_[i] > high(i), T(1.0), T(-1.0)), T(0.0));
      const T next = select(running_, select(a == T(0.0), taken, select(keep, a, T(0.0))), a);
      changed = changed | !(next == a);
      active_[i] = next;
    }
    return changed;
  }

  /// z = z0 - P C'y
  void finish() {
    team_.for_each(k_, [&](int i) {  // the dual of a fixed row belongs to the side of its sign
      active_[i] = select(low(i) == high(i), select(y_[i] < T(0.0), T(-1.0), T(1.0)), active_[i]);
    });
    P.multiply_rows_transposed(team_, y_, [&](int i, const T& x) { u_[i] = x; });
    team_.for_each(p_, [&](int i) { unu_[i] = 0.0; });
    kkt_.solve(team_, u_, unu_);
    team_.for_each(n_, [&](int i) { z[i] -= u_[i]; });
    team_.for_each(p_, [&](int i) { nu[i] -= unu_[i]; });
  }

  /// r1, r2, r3: what (K2) lacks, as right-hand sides of (K27); C z; and the size of the terms of which r1 is the sum.
  void residuals() {
    const auto add = [&](int i, const T& term) { r1_[i] -= term, dual_size_[i] += abs(term); };
    P.multiply_Q(team_, z, [&](int i, const T& Qz) { r1_[i] = -Qz - P.q[i], dual_size_[i] = abs(Qz) + abs(P.q[i]); });
    objective = team_.template sum<T>(n_, [&](int i) { return 0.5 * z[i] * (P.q[i] - r1_[i]); });
    P.multiply_rows_transposed(team_, y_, add);
    if (p_) {
      dense::multiply_transposed(team_, p_, n_, P.A, n_, nu, add);
      dense::multiply(team_, p_, n_, P.A, n_, z, [&](int i, const T& Az) { r2_[i] = P.b[i] - Az; });
    }
    P.multiply_rows(team_, z, [&](int i, const T& Cz) {
      c_[i] = Cz;
      r3_[i] = select(active_[i] == T(0.0), T(0.0), limit(i) - Cz);
    });
  }

  /// The solution's slacks and duals, its residuals, and whether each of these is small beside the numbers it is made of.
  MaskOf<T> judge(double tolerance) {
    const T z_size = norm(n_, z), y_size = norm(k_, y_), rounding = 1e-14 * norm(n_, dual_size_);
    MaskOf<T> good = T(0.0) < T(1.0);
    gap = 0.0, primal_residual = 0.0, dual_residual = norm(n_, r1_);
    const auto violated = [&](const T& by, const T& size) { primal_residual = max(primal_residual, by), good = good & (by <= tolerance * size); };
    for (int i = 0; i < n_; ++i) good = good & (abs(r1_[i]) <= tolerance * dual_size_[i] + rounding);
    for (int i = 0; i < p_; ++i) violated(abs(r2_[i]), abs(P.b[i]) + A_size_[i] * z_size);
    const auto side = [&](int at, int i, double sign, const T& slack) {
      const T mask = P.mask[at], dual = sign * y_[i], free = select(low(i) == high(i), T(1.0), T(0.0));
      const T own = select(active_[i] * sign > T(0.0), T(1.0), free);  // a fixed row's dual belongs to the side of its sign
      s[at] = select(mask > T(0.0), max(slack, T(0.0)), T(1.0));
      s[at] = select((own > T(0.0)) & (dual > T(0.0)), T(0.0), s[at]);
      lambda[at] = mask * own * max(dual, T(0.0));
      good = good & (own * (1.0 - free) * max(-dual, T(0.0)) <= T(1e-10) * y_size);
      violated(mask * max(-slack, own * (1.0 - free) * slack), abs(P.d[at]) + C_size_[i] * z_size);
      gap += lambda[at] * abs(slack) * mask;
    };
    for (int i = 0; i < k_; ++i) {
      if (P.low) side(i, i, -1, c_[i] + P.d[i]);
      if (P.high) side(P.high_side() + i, i, 1, P.d[P.high_side() + i] - c_[i]);
    }
    return good;
  }

  /// One step of iterative refinement for the lanes that are not good yet.
  void refine(const MaskOf<T>& good) {
    solve_active(r1_, r2_, r3_);
    team_.for_each(n_, [&](int i) { z[i] = select(good, z[i], z[i] + r1_[i]); });
    team_.for_each(p_, [&](int i) { nu[i] = select(good, nu[i], nu[i] + r2_[i]); });
    team_.for_each(k_, [&](int i) { y_[i] = select(good, y_[i], y_[i] + r3_[i]); });
  }

  const Problem<T, E> P;
  const Kkt<T, E, E> kkt_;
  const Team team_;
  const int n_, p_, k_, most_;
  T *active_, *F_;          // per row -1 (low side), 0 (inactive) or 1 (high side); the factor of R_SS
  std::vector<int> index_;  // [lanes, rows + 1]
  int count_[lanes_of<T>], size_ = 0;
  T *y_, *c_, *c0_, *scale_, *r1_, *r2_, *r3_, *u_, *unu_, *t_, *dual_size_, *A_size_, *C_size_;
  T c_size_, worst_;
  MaskOf<T> running_ = T(1.0) < T(0.0), confirmed_ = T(1.0) < T(0.0);
};

}  // namespace optnet
