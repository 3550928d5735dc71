// The search for the active rows. Without inequalities a QP is solved at once, and what is left of it is a problem of its rows
// alone: R, c0 and the rows' limits (K23, K24 of docs/optnet.md). The search in two layouts:
//     MaskedRows   a pack holds one row of several problems; R_SS is R with the rows of I where none is active
//     ListedRows   a pack holds several rows of one problem; R_SS is gathered
// Few rows are cheapest without lists. Of many, each problem needs its own and its own number of steps: a pack of problems
// would wait for the slowest, and work as the largest.
#pragma once

#include "solvers/dense_one.h"

#include <cstdio>
#include <limits>

namespace optnet {

/// The rows as both layouts see them, in `packs` packs; what is not a row has c0 = 0, infinite limits, unit 0.
struct RowLimits {
  static constexpr double infinity = std::numeric_limits<double>::infinity();

  int packs = 0;
  const Pack *c0 = nullptr, *low = nullptr, *high = nullptr;
  const Pack* unit = nullptr;  // 1 / sqrt(R_ii), in which violations are measured; 0 for a row of 0
};

/// A guess, and its correction (K26). Whole folds the lanes that belong to one problem: largest(x), sum(x).
template <class Whole>
class Guess : RowLimits {
 public:
  Guess(const RowLimits& limits, int rows, int dimensions, Pack* active, Pack* y, Pack* c)
      : RowLimits(limits), crowded_(rows > dimensions), dimensions_(dimensions), active_(active), y_(y), c_(c) {
    const auto magnitude = [](const Pack& x) { return select(abs(x) < Pack(infinity), abs(x), Pack(0.0)); };
    Pack size = 0.0;
    for (int i = 0; i < packs; ++i) size = max(size, unit[i] * max(abs(c0[i]), max(magnitude(low[i]), magnitude(high[i]))));
    tiny_ = tiny * Whole::largest(size);
    begin();
  }

  Pack limit(int i) const { return select(active_[i] > Pack(0.0), high[i], low[i]); }
  const Pack& worst() const { return worst_; }

  /// Lets go of active rows whose dual has the wrong sign, and takes in inactive ones violated at least theta times as much as
  /// the worst. All at once would overshoot where there are more rows than dimensions. Returns where any changed.
  Mask correct(int step) {
    const double theta = step >= 20 ? 0.9 : step >= 10 ? 0.5 : !crowded_ ? 0.2 : step >= 6 ? 0.5 : 0.35;  // measured: docs/solver.md
    Pack worst = 0.0, y_size = 0.0;
    for (int i = 0; i < packs; ++i) {
      worst = max(violation(i), worst);
      y_size = max(select(unit[i] > Pack(0.0), abs(y_[i]) / unit[i], Pack(0.0)), y_size);
    }
    worst_ = Whole::largest(worst), smallest_dual_ = -tiny * Whole::largest(y_size);
    const Pack least = max(theta * worst_, tiny_), enough = crowded_ ? make_room(least) : least;
    Mask changed = Pack(1.0) < Pack(0.0);
    for (int i = 0; i < packs; ++i) {
      const Pack a = active_[i], taken = select(violation(i) > enough, select(c_[i] > high[i], Pack(1.0), Pack(-1.0)), Pack(0.0));
      active_[i] = select(a == Pack(0.0), taken, select(stays(i), a, Pack(0.0)));
      changed = changed | !(active_[i] == a);
    }
    return changed;
  }

  /// The dual of a fixed row belongs to the side of its sign.
  void settle_fixed_rows() {
    for (int i = 0; i < packs; ++i) active_[i] = select(fixed(i), select(y_[i] < Pack(0.0), Pack(-1.0), Pack(1.0)), active_[i]);
  }

 private:
  static constexpr double tiny = 1e-11;

  /// Fixed rows are held from the start to the end. What is guessed of others, from elsewhere, may be a side that is not there,
  /// or too much.
  void begin() {
    Pack count = 0.0;
    for (int i = 0; i < packs; ++i) {
      active_[i] = select(fixed(i), Pack(1.0), select(abs(limit(i)) < Pack(infinity), active_[i], Pack(0.0)));
      count += select(active_[i] == Pack(0.0), Pack(0.0), Pack(1.0));
    }
    const Mask too_many = Whole::sum(count) > dimensions_;
    for (int i = 0; i < packs && any(too_many); ++i) active_[i] = select(too_many & !fixed(i), Pack(0.0), active_[i]);
  }
  /// A row of 0, or one that depends on A, is never held: the KKT check looks at its limits anyway.
  Mask fixed(int i) const { return (low[i] == high[i]) & (unit[i] > Pack(0.0)); }

  /// A threshold nearer the worst violation, where rows of at least `least` would be more than there are dimensions.
  Pack make_room(Pack least) const {
    for (int halving = 0; halving < 5; ++halving) {
      Pack count = 0.0;
      for (int i = 0; i < packs; ++i) count += select((violation(i) > least) | (stays(i) & !(active_[i] == Pack(0.0))), Pack(1.0), Pack(0.0));
      const Mask crowded = Whole::sum(count) > Pack(dimensions_);
      if (!any(crowded)) break;
      least = select(crowded, 0.5 * (least + worst_), least);
    }
    return least;
  }
  /// Whether an active row has a dual of the right sign.
  Mask stays(int i) const { return (active_[i] * y_[i] >= smallest_dual_ * unit[i]) | fixed(i); }
  Pack violation(int i) const { return select(active_[i] == Pack(0.0), unit[i] * max(low[i] - c_[i], c_[i] - high[i]), Pack(0.0)); }

  const bool crowded_;      // whether rows outnumber dimensions
  const Pack dimensions_;
  Pack *active_, *y_, *c_;  // -1 (low side), 0 or 1 (high side); the duals; C z
  Pack tiny_, worst_ = 0.0, smallest_dual_ = 0.0;
};

inline void tell(std::int64_t problem, int step, double worst) {
  std::fprintf(stderr, "problem %lld, active set, step %d: worst violation %.2e\n", static_cast<long long>(problem), step + 1, worst);
}

class ListedRows {
 public:
  /// Packs that are kept for the backward pass (the sign of each row, the list, the factor), and those that are not.
  static int kept_size(int k, int dimensions) { return 2 * dense::packs_for(k) + most(k, dimensions) * dense::packs_for(most(k, dimensions)); }
  static int scratch_size(int k, int dimensions) { return 3 * dense::packs_for(k) + (most(k, dimensions) + 1) * dense::row_packs(most(k, dimensions) + 1); }

  /// `kept` and `scratch` are memory of these sizes. The rows are those of an earlier search, or a guess for the next. What is in
  /// `scratch` matters until the next call alone, so that problems can share it.
  ListedRows(int k, int dimensions, Pack* kept, Pack* scratch)
      : k_(k), packs_(dense::packs_for(k)), dimensions_(dimensions), ld_(dense::row_packs(most(k, dimensions) + 1)), active_(kept),
        index_(reinterpret_cast<int*>(kept + packs_)), kept_U_(kept + 2 * packs_), y_(scratch), c_(scratch + packs_), listed_(scratch + 2 * packs_),
        t_(scratch + 3 * packs_), U_(t_ + ld_) {
    for (int i = 0; i < k_; ++i) count_ += sign(i) != 0;
    pad();
  }

  /// -1 if row i is active at its low side, 1 at its high side, else 0; and its dual.
  double sign(int i) const { return dense::entries(active_)[i]; }
  double dual(int i) const { return dense::entries(y_)[i]; }
  const int* begin() const { return index_; }
  const int* end() const { return index_ + count_; }

  /// In place: x = R_SS^-1 x.  x in the order of the list
  void solve(double* x) {
    double* t = dense::entries(t_);
    const int ld = dense::packs_for(size_);
    for (int i = 0; i < ld; ++i) t_[i] = 0.0;
    std::copy_n(x, count_, t);
    dense::solve_upper_transposed(size_, kept_U_, ld, t_);
    dense::solve_upper(size_, kept_U_, ld, t_);
    std::copy_n(t, count_, x);
  }

  /// From the rows as they are, until the guess confirms itself. R [k, dense::row_packs(k)]. Returns the number of steps, or 0
  /// if it never does; then no row is active. `told`: the problem's number, to be told of each step, or null.
  int search(const RowLimits& limits, const Pack* R, int max_steps, const std::int64_t* told) {
    count_ = 0;
    std::fill_n(listed_, packs_, Pack(0.0));
    Guess<OneProblem> guess(limits, k_, dimensions_, active_, y_, c_);
    for (int step = 0; step < max_steps; ++step) {
      list();
      if (count_ > dimensions_) break;
      solve_for_duals(limits, guess, R);  // (K25)
      const Mask changed = guess.correct(step);  // (K26)
      if (told) tell(*told, step, guess.worst()[0]);
      if (!any(changed)) return guess.settle_fixed_rows(), keep(), step + 1;
    }
    std::fill_n(active_, packs_, Pack(0.0));
    count_ = 0, pad();
    return 0;
  }

 private:
  struct OneProblem {
    static Pack largest(const Pack& x) { return largest_lane(x); }
    static Pack sum(const Pack& x) { return sum_of_lanes(x); }
  };

  /// A vertex has as many active rows as dimensions are left.
  static int most(int k, int dimensions) { return dense::whole_pivots(k < dimensions ? k : dimensions); }

  /// The list of active rows: those that stay in the order in which they were, fresh ones behind them. The factor is still
  /// good for the rows before the first that left. (Counting without branches, which would be guessed wrong.)
  void list() {
    const double *active = dense::entries(active_), *listed = dense::entries(listed_);
    int count = 0, same = 0;
    for (int a = 0; a < count_; ++a) {
      const int i = index_[a];
      same += (active[i] != 0) & (same == a);
      index_[count] = i, count += active[i] != 0;
    }
    for (int i = 0; i < packs_; ++i) listed_[i] = select((listed_[i] == Pack(0.0)) & !(active_[i] == Pack(0.0)), Pack(1.0), Pack(0.0));
    for (int i = 0; i < k_; ++i) index_[count] = i, count += static_cast<int>(listed[i]);
    std::copy_n(active_, packs_, listed_);
    count_ = count, factored_ = same / Pack::lanes * Pack::lanes;
    pad();
  }
  void pad() { size_ = dense::whole_pivots(count_); }
  /// The factor without gaps: in a later pass it comes from far.
  void keep() {
    const int ld = dense::packs_for(size_);
    for (int a = 0; a < size_; ++a) std::copy_n(U_ + a * ld_ + a / Pack::lanes, ld - a / Pack::lanes, kept_U_ + a * ld + a / Pack::lanes);
  }

  /// y_S from R_SS y_S = c0_S - (low or high)_S, which stands as one more column beside R_SS, and c = c0 - R y.
  void solve_for_duals(const RowLimits& limits, const Guess<OneProblem>& guess, const Pack* R) {
    const int ldR = dense::row_packs(k_), columns = dense::packs_for(size_ + 1) * Pack::lanes;
    double *t = dense::entries(t_), *y = dense::entries(y_);
    for (int i = 0; i < packs_; ++i) c_[i] = limits.c0[i] - guess.limit(i);
    for (int a = 0; a < size_; ++a) {
      double* out = dense::entries(U_ + a * ld_);
      int b = a < factored_ ? factored_ : a;
      if (a < count_) {
        const double* row = dense::entries(R + index_[a] * ldR);
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
    dense::combine_rows(count_, index_, t, packs_, R, ldR, c_);
    for (int i = 0; i < packs_; ++i) c_[i] = limits.c0[i] - c_[i], y_[i] = 0.0;
    for (int a = 0; a < count_; ++a) y[index_[a]] = t[a];
  }

  const int k_, packs_, dimensions_, ld_;
  Pack* active_;              // kept: the sign of each row,
  int* index_;                // the list S, in room for more than k,
  Pack* kept_U_;              // and the factor R_SS = U'U
  Pack *y_, *c_, *listed_;    // duals; C z; the signs of which index_ is the list
  Pack *t_, *U_;              // something as long as S; the factor while the search goes on
  int count_ = 0, size_ = 0;  // rows in S, and with rows of I to whole pivots
  int factored_ = 0;          // leading rows and columns of U that are good already
};

class MaskedRows {
 public:
  /// Packs that are kept for the backward pass (signs and factor), and those that are not.
  static int kept_size(int k) { return k + k * dense::leading_dimension(k); }
  static int scratch_size(int k) { return 2 * k; }

  MaskedRows(int k, int dimensions, Pack* kept, Pack* scratch)
      : k_(k), ld_(dense::leading_dimension(k)), dimensions_(dimensions), active_(kept), L_(kept + k), y_(scratch), c_(scratch + k) {}

  const Pack& sign(int i) const { return active_[i]; }
  const Pack& dual(int i) const { return y_[i]; }

  /// In place: x_S = R_SS^-1 x_S, and 0 elsewhere.  x [k]
  void solve(Pack* x) const {
    for (int i = 0; i < k_; ++i) x[i] = select(active_[i] == Pack(0.0), Pack(0.0), x[i]);
    dense::solve_lower(OneThread{}, k_, static_cast<const Pack*>(L_), ld_, x);
    dense::solve_lower_transposed(OneThread{}, k_, static_cast<const Pack*>(L_), ld_, x);
  }

  /// As ListedRows::search, for all lanes. R [k, ldR]. Returns which lanes' guesses confirmed themselves; `steps` counts a lane's.
  template <class E>
  Mask search(const RowLimits& limits, const E* R, int ldR, int max_steps, const std::int64_t* told, int (&steps)[Pack::lanes]) {
    const Mask all = Pack(0.0) < Pack(1.0);
    Guess<EachLane> guess(limits, k_, dimensions_, active_, y_, c_);
    Mask running = all, lost = !all;
    std::fill_n(steps, Pack::lanes, 0);
    for (int step = 0; step < max_steps && any(running); ++step) {
      lost = lost | too_many();
      drop(lost), running = running & !lost;
      solve_for_duals(limits, guess, R, ldR);  // (K25)
      for (int l = 0; l < Pack::lanes; ++l) steps[l] += lane(running, l);
      const Mask asked = running;
      running = running & guess.correct(step);  // (K26): a guess that stands stays as it is
      for (int l = 0; l < Pack::lanes && told; ++l)
        if (lane(asked, l) && !repeats(told, l)) tell(told[l], step, guess.worst()[l]);
    }
    lost = lost | running;
    guess.settle_fixed_rows();
    drop(lost);
    return !lost;
  }

 private:
  struct EachLane {
    static const Pack& largest(const Pack& x) { return x; }
    static const Pack& sum(const Pack& x) { return x; }
  };

  Mask too_many() const {
    Pack count = 0.0;
    for (int i = 0; i < k_; ++i) count += select(active_[i] == Pack(0.0), Pack(0.0), Pack(1.0));
    return count > Pack(dimensions_);
  }
  void drop(const Mask& lanes) {
    for (int i = 0; i < k_; ++i) active_[i] = select(lanes, Pack(0.0), active_[i]);
  }

  /// y = R_SS^-1 (c0 - limits)_S, 0 elsewhere, and c = c0 - R y.
  template <class E>
  void solve_for_duals(const RowLimits& limits, const Guess<EachLane>& guess, const E* R, int ldR) {
    for (int i = 0; i < k_; ++i) {
      const Mask out = active_[i] == Pack(0.0);
      for (int j = 0; j < i; ++j) L_[i * ld_ + j] = select(out | (active_[j] == Pack(0.0)), Pack(0.0), Pack(R[i * ldR + j]));
      L_[i * ld_ + i] = select(out, Pack(1.0), Pack(R[i * ldR + i]));
      y_[i] = limits.c0[i] - guess.limit(i);
    }
    dense::cholesky(OneThread{}, k_, k_, L_, ld_);
    solve(y_);
    dense::multiply(OneThread{}, k_, k_, R, ldR, static_cast<const Pack*>(y_), [&](int i, const Pack& Ry) { c_[i] = limits.c0[i] - Ry; });
  }

  const int k_, ld_, dimensions_;
  Pack *active_, *L_;  // kept: the sign of each row, and the factor R_SS = L L'
  Pack *y_, *c_;       // duals; C z
};

}  // namespace optnet
