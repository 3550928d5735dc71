// The search for the active rows of one problem. Without inequalities the QP is solved at once, and what is left of it is a
// problem of its rows alone: R, c0 and the rows' limits (K23, K24 of docs/optnet.md). Each problem searches for itself, as
// each needs other rows and another number of steps; packs here hold neighbouring rows of one problem.
#pragma once

#include "solvers/dense.h"

#include <cstdio>

namespace optnet {

/// A problem as its rows see it: k rows, and arrays of dense::packs_for(k) packs.
struct RowProblem {
  int k = 0, dimensions = 0;               // rows; n - p, how many of them can be active
  const Pack* R = nullptr;                 // [k, dense::row_packs(k)]
  const Pack *c0 = nullptr, *low = nullptr, *high = nullptr;  // limits that are infinite are +-1e300, as those beyond k are
  const Pack* unit = nullptr;              // 1 / sqrt(R_ii), in which violations are measured; 0 for a row of 0
};

class ActiveRows {
 public:
  /// Packs that are kept for the backward pass (the sign of each row, the list, the factor), and those that are not.
  static int kept_size(int k, int dimensions) { return 2 * dense::packs_for(k) + most(k, dimensions) * dense::row_packs(most(k, dimensions) + 1); }
  static int scratch_size(int k, int dimensions) { return 3 * dense::packs_for(k) + dense::row_packs(most(k, dimensions) + 1); }

  /// `kept` and `scratch` are memory of these sizes. The rows are those of an earlier search.
  ActiveRows(int k, int dimensions, Pack* kept, Pack* scratch)
      : k_(k), packs_(dense::packs_for(k)), dimensions_(dimensions), ld_(dense::row_packs(most(k, dimensions) + 1)), active_(kept),
        index_(reinterpret_cast<int*>(kept + packs_)), U_(kept + 2 * packs_), y_(scratch), c_(scratch + packs_), fresh_(reinterpret_cast<Mask*>(scratch + 2 * packs_)),
        t_(scratch + 3 * packs_) {
    for (int i = 0; i < k_; ++i) count_ += sign(i) != 0;
    pad();
  }

  /// -1 if row i is active at its low side, 1 at its high side, else 0; and its dual.
  double sign(int i) const { return dense::entries(static_cast<const Pack*>(active_))[i]; }
  double dual(int i) const { return dense::entries(static_cast<const Pack*>(y_))[i]; }
  int count() const { return count_; }
  const int* begin() const { return index_; }
  const int* end() const { return index_ + count_; }

  /// In place: x = R_SS^-1 x.  x [count()], in the order of the list
  void solve(double* x) {
    double* t = dense::entries(t_);
    for (int i = 0; i < ld_; ++i) t_[i] = 0.0;
    std::copy_n(x, count_, t);
    dense::solve_upper_transposed(size_, U_, ld_, t_);
    dense::solve_upper(size_, U_, ld_, t_);
    std::copy_n(t, count_, x);
  }

  /// From the rows as they are, until the guess confirms itself. Returns the number of steps, or 0 if it never does; then no
  /// row is active.
  int search(const RowProblem& problem, int max_steps, bool verbose) {
    drop_impossible_guess(problem);
    measure(problem);
    for (int step = 0; step < max_steps; ++step) {
      list();
      if (count_ > dimensions_) break;
      solve_for_duals(problem);  // (K25)
      const double theta = k_ <= dimensions_ ? (step < 10 ? 0.2 : 0.5) : step < 6 ? 0.35 : 0.5;  // measured: docs/solver.md
      const bool changed = correct_guess(problem, theta);  // (K26)
      if (verbose) std::fprintf(stderr, "active set, step %d: %d rows, worst violation %.2e\n", step + 1, count_, worst_);
      if (!changed) return settle_fixed_rows(problem), step + 1;
    }
    for (int i = 0; i < packs_; ++i) active_[i] = 0.0;
    count_ = 0, pad();
    return 0;
  }

 private:
  static constexpr double tiny = 1e-11;

  /// A vertex has as many active rows as dimensions are left.
  static int most(int k, int dimensions) { return ((k < dimensions ? k : dimensions) + dense::pivots - 1) / dense::pivots * dense::pivots; }

  /// The list of active rows: those that stay in the order in which they were, fresh ones behind them. The factor is still
  /// good for the rows before the first that left. (Counting without branches, which would be guessed wrong.)
  void list() {
    const double* active = dense::entries(static_cast<const Pack*>(active_));
    const auto* fresh = reinterpret_cast<const std::int64_t*>(fresh_);  // 0, or all bits set: -1
    std::int64_t count = 0;
    int same = 0;
    for (int a = 0; a < count_; ++a) {
      const int i = index_[a];
      same += (active[i] != 0) & (same == a);
      index_[count] = i, count += active[i] != 0;
    }
    for (int i = 0; i < k_; ++i) index_[count] = i, count -= fresh[i];
    count_ = static_cast<int>(count), factored_ = same / Pack::lanes * Pack::lanes;
    pad();
  }
  void pad() { size_ = (count_ + dense::pivots - 1) / dense::pivots * dense::pivots; }

  /// Rows whose two limits are one are always active; a guess of more rows than dimensions, from elsewhere, is none.
  void drop_impossible_guess(const RowProblem& problem) {
    const bool impossible = count_ > dimensions_;
    count_ = 0;
    for (int i = 0; i < packs_; ++i) {
      const Pack kept = impossible ? Pack(0.0) : active_[i];
      active_[i] = select(problem.low[i] == problem.high[i], Pack(1.0), kept);
      fresh_[i] = !(active_[i] == Pack(0.0));
    }
  }

  /// How large C z is, in units of violation.
  void measure(const RowProblem& problem) {
    Pack size = 0.0;
    const auto finite = [](const Pack& x) { return select(abs(x) < Pack(1e299), abs(x), Pack(0.0)); };
    for (int i = 0; i < packs_; ++i)
      size = max(size, problem.unit[i] * max(abs(problem.c0[i]), max(finite(problem.low[i]), finite(problem.high[i]))));
    c_size_ = largest_lane(size);
  }

  /// The dual of a fixed row belongs to the side of its sign.
  void settle_fixed_rows(const RowProblem& problem) {
    for (int i = 0; i < packs_; ++i)
      active_[i] = select(problem.low[i] == problem.high[i], select(y_[i] < Pack(0.0), Pack(-1.0), Pack(1.0)), active_[i]);
  }

  Pack limit(const RowProblem& problem, int i) const { return select(active_[i] > Pack(0.0), problem.high[i], problem.low[i]); }

  /// y_S from R_SS y_S = c0_S - (low or high)_S, which stands as one more column beside R_SS, and c = c0 - R y.
  void solve_for_duals(const RowProblem& problem) {
    const int ldR = dense::row_packs(k_), columns = dense::packs_for(size_ + 1) * Pack::lanes;
    double *t = dense::entries(t_), *y = dense::entries(y_);
    for (int i = 0; i < packs_; ++i) c_[i] = problem.c0[i] - limit(problem, i);
    for (int a = 0; a < size_; ++a) {
      double* out = dense::entries(U_ + a * ld_);
      int b = a < factored_ ? factored_ : a;
      if (a < count_) {
        const double* row = dense::entries(problem.R + index_[a] * ldR);
        for (; b < count_; ++b) out[b] = row[index_[b]];
      } else {
        out[b++] = 1;  // rows of I
      }
      for (; b < columns; ++b) out[b] = 0;
      if (a < count_) out[size_] = dense::entries(c_)[index_[a]];
    }
    dense::cholesky_upper(size_, size_ + 1, U_, ld_, factored_);
    for (int i = 0; i < ld_; ++i) t_[i] = 0.0;
    for (int a = 0; a < size_; ++a) t[a] = std::exchange(dense::entries(U_ + a * ld_)[size_], 0);  // solves take whole packs
    dense::solve_upper(size_, U_, ld_, t_);
    dense::combine_rows(count_, index_, t, packs_, problem.R, ldR, c_);
    for (int i = 0; i < packs_; ++i) c_[i] = problem.c0[i] - c_[i], y_[i] = 0.0;
    for (int a = 0; a < count_; ++a) y[index_[a]] = t[a];
  }

  /// Lets go of active rows whose dual has the wrong sign, and takes in inactive ones violated at least theta times as
  /// much as the worst. All at once would overshoot where there are more rows than dimensions. Returns whether any changed.
  bool correct_guess(const RowProblem& problem, double theta) {
    const auto violation = [&](int i) {
      return select(active_[i] == Pack(0.0), problem.unit[i] * max(problem.low[i] - c_[i], c_[i] - problem.high[i]), Pack(0.0));
    };
    Pack worst = 0.0, y_size = 0.0;
    for (int i = 0; i < packs_; ++i) {
      worst = max(violation(i), worst);
      y_size = max(abs(y_[i]) / max(problem.unit[i], Pack(1e-300)), y_size);
    }
    worst_ = largest_lane(worst);
    const Pack least = std::max(theta * worst_, tiny * c_size_), smallest_dual = -tiny * largest_lane(y_size);
    Mask changed = Pack(1.0) < Pack(0.0);
    for (int i = 0; i < packs_; ++i) {
      const Pack a = active_[i];
      const Mask keep = (a * y_[i] >= smallest_dual * problem.unit[i]) | (problem.low[i] == problem.high[i]);
      const Pack taken = select(violation(i) > least, select(c_[i] > problem.high[i], Pack(1.0), Pack(-1.0)), Pack(0.0));
      active_[i] = select(a == Pack(0.0), taken, select(keep, a, Pack(0.0)));
      changed = changed | !(active_[i] == a);
      fresh_[i] = (a == Pack(0.0)) & !(taken == Pack(0.0));
    }
    return any(changed);
  }

  const int k_, packs_, dimensions_, ld_;
  Pack* active_;               // kept: the sign of each row,
  int* index_;                 // the list S,
  Pack* U_;                    // and the factor R_SS = U'U
  Pack *y_, *c_;               // duals, and C z
  Mask* fresh_;                // rows that are active and not yet in the list
  Pack* t_;                    // something as long as S
  int count_ = 0, size_ = 0;   // rows in S, and with rows of I to whole pivots
  int factored_ = 0;           // leading rows and columns of U that are good already
  double c_size_ = 0, worst_ = 0;
};

}  // namespace optnet
