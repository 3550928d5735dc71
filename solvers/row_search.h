// The search for the active rows of one problem. Without inequalities a QP is solved at once, and what is left of it is a problem of
// its rows alone: R, c0 and the rows' limits (K23, K24 of docs/optnet.md). Guess the rows that are active, solve for their duals,
// correct the guess, until it confirms itself.
#pragma once

#include "solvers/dense_one.h"

#include <bit>
#include <cstdio>
#include <limits>

namespace optnet {

/// The rows as a search sees them, in `packs` packs; what is not a row has c0 = 0, infinite limits, unit 0.
template <class P>
struct RowLimits {
  static constexpr double infinity = std::numeric_limits<double>::infinity();

  int packs = 0;
  const P *c0 = nullptr, *low = nullptr, *high = nullptr;
  const P *root = nullptr, *unit = nullptr;  // sqrt(R_ii), by which duals are measured, and 1/root, by which violations are; 0 for a row of 0

  /// The limit of row i on the side of `sign`.
  P limit(int i, const P& sign) const { return select(sign > P(0.0), high[i], low[i]); }

  /// Of the numbers at work in row i. A limit that holds by itself is none of them: it may lie far beyond, in the place of none.
  P size(int i) const {
    const P violated = select(c0[i] < low[i], low[i], select(c0[i] > high[i], high[i], P(0.0)));
    return unit[i] * max(abs(c0[i]), abs(violated));
  }
};

/// sqrt(R_ii), or 0 where that is nothing beside the largest.
template <class T>
T root(const T& R_ii, const T& largest) {
  return select(R_ii > 1e-14 * largest, sqrt(max(R_ii, T(1e-300))), T(0.0));
}
template <class T>
T unit(const T& root) {
  return select(root > T(0.0), 1.0 / max(root, T(1e-300)), T(0.0));
}

/// A guess, and its correction (K26). Whole folds the lanes that belong to one problem: largest(x), sum(x).
template <class P, class Whole>
class Guess : RowLimits<P> {
 public:
  using Truth = decltype(P{} < P{});

  Guess(const RowLimits<P>& limits, int rows, int dimensions, P* active, P* y, P* c)
      : RowLimits<P>(limits), crowded_(rows > dimensions), dimensions_(dimensions), active_(active), y_(y), c_(c) {
    P size = 0.0;
    for (int i = 0; i < packs; ++i) size = max(size, limits.size(i));
    tiny_ = tiny * Whole::largest(size);
    begin();
  }

  P limit(int i) const { return RowLimits<P>::limit(i, active_[i]); }
  const P& worst() const { return worst_; }

  /// Lets go of active rows whose dual has the wrong sign, if it is not far less wrong than the worst, and takes in inactive ones
  /// violated at least theta times as much as the worst. All at once would overshoot where there are more rows than dimensions.
  /// Returns where any changed.
  Truth correct(int step) {
    const double theta = step >= 20 ? 0.9 : step >= 10 ? 0.5 : !crowded_ ? 0.2 : step >= 6 ? 0.5 : 0.35;  // measured: docs/solver.md
    const double let_go = step >= 10 ? 0 : 0.1;
    P worst = 0.0, y_size = 0.0, wrong = 0.0;
    for (int i = 0; i < packs; ++i) {
      const P dual = y_[i] * root[i];
      worst = max(violation(i), worst);
      y_size = max(abs(dual), y_size);
      wrong = max(select(fixed(i), P(0.0), -active_[i] * dual), wrong);
    }
    worst_ = Whole::largest(worst), smallest_dual_ = -max(tiny * Whole::largest(y_size), let_go * Whole::largest(wrong));
    const P least = max(theta * worst_, tiny_), enough = crowded_ ? make_room(least) : least;
    Truth changed = P(1.0) < P(0.0);
    for (int i = 0; i < packs; ++i) {
      const P a = active_[i], taken = select(violation(i) > enough, select(c_[i] > high[i], P(1.0), P(-1.0)), P(0.0));
      active_[i] = select(a == P(0.0), taken, select(stays(i), a, P(0.0)));
      changed = changed | !(active_[i] == a);
    }
    return changed;
  }

  /// Lets go of active rows that have no dual to speak of: with or without them a guess stands. Whether there were any.
  bool drop_weak() {
    Truth weak = P(1.0) < P(0.0);
    for (int i = 0; i < packs; ++i) {
      const Truth here = (!(active_[i] == P(0.0))) & (!fixed(i)) & (abs(y_[i]) <= -smallest_dual_ * unit[i]);
      active_[i] = select(here, P(0.0), active_[i]), weak = weak | here;
    }
    return any(weak);
  }

  /// The dual of a fixed row belongs to the side of its sign.
  void settle_fixed_rows() {
    for (int i = 0; i < packs; ++i) active_[i] = select(fixed(i), select(y_[i] < P(0.0), P(-1.0), P(1.0)), active_[i]);
  }

 private:
  using RowLimits<P>::packs, RowLimits<P>::c0, RowLimits<P>::low, RowLimits<P>::high, RowLimits<P>::root, RowLimits<P>::unit, RowLimits<P>::infinity;
  static constexpr double tiny = std::is_same_v<P, FloatPack> ? 1e-5 : 1e-11;

  /// Fixed rows are held from the start to the end. What is guessed of others, from elsewhere, may be a side that is not there,
  /// or too much.
  void begin() {
    P count = 0.0;
    for (int i = 0; i < packs; ++i) {
      const P side = select(active_[i] < P(0.0), P(-1.0), P(1.0));  // of a fixed row, whichever was guessed
      active_[i] = select(fixed(i), side, select(abs(limit(i)) < P(infinity), active_[i], P(0.0)));
      count += select(active_[i] == P(0.0), P(0.0), P(1.0));
    }
    const Truth too_many = Whole::sum(count) > dimensions_;
    for (int i = 0; i < packs && any(too_many); ++i) active_[i] = select(too_many & !fixed(i), P(0.0), active_[i]);
  }
  /// A row of 0, or one that depends on A, is never held: the KKT check looks at its limits anyway.
  Truth fixed(int i) const { return (low[i] == high[i]) & (unit[i] > P(0.0)); }

  /// A threshold nearer the worst violation, where rows of at least `least` would be more than there are dimensions.
  P make_room(P least) const {
    for (int halving = 0; halving < 5; ++halving) {
      P count = 0.0;
      for (int i = 0; i < packs; ++i) count += select((violation(i) > least) | (stays(i) & !(active_[i] == P(0.0))), P(1.0), P(0.0));
      const Truth crowded = Whole::sum(count) > P(dimensions_);
      if (!any(crowded)) break;
      least = select(crowded, 0.5 * (least + worst_), least);
    }
    return least;
  }
  /// Whether an active row has a dual of the right sign.
  Truth stays(int i) const { return (active_[i] * y_[i] >= smallest_dual_ * unit[i]) | fixed(i); }
  P violation(int i) const { return select(active_[i] == P(0.0), unit[i] * max(low[i] - c_[i], c_[i] - high[i]), P(0.0)); }

  const bool crowded_;   // whether rows outnumber dimensions
  const P dimensions_;
  P *active_, *y_, *c_;  // -1 (low side), 0 or 1 (high side); the duals; C z
  P tiny_, worst_ = 0.0, smallest_dual_ = 0.0;
};

/// Tells of the steps of a problem's search, or of no problem.
struct Told {
  std::int64_t problem = -1;
  double unit = 1;  // what one is worth in the search's units
  void operator()(int steps, double worst) const {
    if (problem < 0) return;
    std::fprintf(stderr, "problem %lld, active set, step %d: worst violation %.2e\n", static_cast<long long>(problem), steps, worst * unit);
  }
};

/// The rows as they are seen where those of B are held. With s = limit - C z, I all other rows,
///     [ y_B  ]   [ M_BB  M_BI ] [ s_B  ]        M_BB = R_BB^-1,   M_BI = R_BB^-1 R_BI = M_IB',
///     [-C z_I] = [ M_IB  M_II ] [ -y_I ] + t,   M_II = R_IB R_BB^-1 R_BI - R_II        (K28)
/// M is quasi-definite. A guess S that differs from B in few rows D takes a factorisation of M_DD, a smaller one than of R_SS.
template <class P>
struct View {
  const P* M = nullptr;       // [k, row_packs(k)]; without B, R
  const P* held = nullptr;    // [packs]: of B, at which side; null without B
  const int* rows = nullptr;  // B, as a list
  int count = 0;
};

/// The search on one problem, in the precision of P.
template <class P>
class RowSearch {
 public:
  using S = typename P::Scalar;

  static int scratch_size(int k, int dimensions) {
    const int columns = dense::row_packs<P>(most(k, dimensions) + 1);
    return 5 * dense::packs_for<P>(k) + columns + 2 * most(k, dimensions) * columns + 1;
  }
  /// A vertex has as many active rows as dimensions are left.
  static int most(int k, int dimensions) { return dense::whole_pivots(k < dimensions ? k : dimensions); }

  /// `active` [packs] holds the sign of each row: where the search begins, and where it ended. `index` [2 lanes packs] is memory for a list.
  RowSearch(int k, int dimensions, P* active, int* index, P* scratch)
      : k_(k), packs_(dense::packs_for<P>(k)), dimensions_(dimensions), ld_(dense::row_packs<P>(most(k, dimensions) + 1)), active_(active), index_(index),
        y_(scratch), c_(y_ + packs_), f_(c_ + packs_), bits_(reinterpret_cast<unsigned*>(f_ + packs_)), before_(reinterpret_cast<int*>(f_ + 2 * packs_)),
        t_(f_ + 3 * packs_), V_(t_ + ld_), U_(V_ + most(k, dimensions) * ld_) {}

  /// Until the guess confirms itself, seen from R [k, row_packs(k)], or from `centre` where that is nearer. False if it never does.
  /// Adds to `steps`.
  bool run(const RowLimits<P>& limits, const P* R, const View<P>* centre, int max_steps, int& steps, const Told& told) {
    const View<P> plain{.M = R};
    Guess<P, OneProblem> guess(limits, k_, dimensions_, active_, y_, c_);
    bool may_drop = std::is_same_v<S, double>;  // once; in float a guess is no more than that
    if (centre) hold(limits, *centre);
    for (int step = 0; step < max_steps; ++step) {
      const bool near = centre && list(centre->held) && count_ < active_count_;
      if (!near) list(nullptr);
      if (active_count_ > dimensions_) return false;
      solve_for_duals(limits, guess, near ? *centre : plain, near ? f_ : limits.c0);  // (K25)
      const bool changed = any(guess.correct(step));                                  // (K26)
      told(++steps, guess.worst()[0]);
      if (changed) continue;
      if (!may_drop || step + 1 == max_steps || !guess.drop_weak()) return guess.settle_fixed_rows(), true;
      may_drop = false;
    }
    return false;
  }

  S dual(int i) const { return dense::entries(y_)[i]; }
  /// After a search without `centre`: how many rows are active, their factor without gaps (in a later pass it comes from far).
  int count() const { return count_; }
  void copy_factor(P* to) const {
    const int ld = dense::packs_for<P>(size());
    for (int a = 0; a < size(); ++a)
      for (int i = a / P::lanes; i < ld; ++i) to[a * ld + i] = U_[a * ld_ + i];
  }

 private:
  struct OneProblem {
    static P largest(const P& x) { return largest_lane(x); }
    static P sum(const P& x) { return sum_of_lanes(x); }
  };
  int size() const { return dense::whole_pivots(count_); }  // of the factor, with rows of I at its end

  /// f = -t of (K28).
  void hold(const RowLimits<P>& limits, const View<P>& B) {
    S* r = dense::entries(t_);
    for (int i = 0; i < packs_; ++i) f_[i] = limits.c0[i] - limits.limit(i, B.held[i]);
    for (int a = 0; a < B.count; ++a) r[a] = dense::entries(f_)[B.rows[a]];
    dense::combine_rows(B.count, B.rows, r, packs_, B.M, dense::row_packs<P>(k_), f_);
    for (int i = 0; i < packs_; ++i) f_[i] = select(B.held[i] == P(0.0), limits.c0[i], P(0.0)) - f_[i];
  }

  /// The list D of rows in which the guess differs from B (without B, the active ones), and how many come before each pack of rows.
  /// In the order of their numbers, so that an answer depends on which rows are active, not on how they were found. False if a row
  /// of B is held at its other side.
  bool list(const P* B) {
    bool same_side = true;
    count_ = active_count_ = 0;
    for (int i = 0; i < packs_; ++i) {
      const auto active = !(active_[i] == P(0.0));
      auto listed = active;
      if (B) {
        const auto of_B = !(B[i] == P(0.0));
        listed = (active & !of_B) | (of_B & !active);
        same_side = same_side & !any(active_[i] * B[i] < P(0.0));
      }
      bits_[i] = bits_of(listed), before_[i] = count_;
      compress_numbers(i * P::lanes, bits_[i], index_ + count_);
      count_ += std::popcount(bits_[i]), active_count_ += std::popcount(bits_of(active));
    }
    return same_side;
  }

  /// The upper triangle of M_DD, beside it the column c_D, at its end rows of I.
  void gather(const P* M) {
    const int n = size(), end = dense::packs_for<P>(n + 1), packs = packs_, count = count_;
    const int *before = before_, *index = index_;
    const unsigned* bits = bits_;
    for (int a = 0; a < n; ++a) {
      P* out = U_ + a * ld_;
      out[count / P::lanes] = out[end - 1] = P(0.0);
      if (a >= count) {
        dense::entries(out)[a] = 1;
        continue;
      }
      const P* row = M + index[a] * dense::row_packs<P>(k_);
      if constexpr (can_compress)
        for (int i = index[a] / P::lanes; i < packs; ++i) compress(row[i], bits[i], dense::entries(out) + before[i]);
      else
        for (int b = a; b < count; ++b) dense::entries(out)[b] = dense::entries(row)[index[b]];
      dense::entries(out)[n] = dense::entries(c_)[index[a]];
    }
  }

  /// y and c = C z, from M_DD (s_B, -y_I)_D = f_D, less the limits of rows not in B. Without B that is R_SS y_S = (c0 - limit)_S.
  void solve_for_duals(const RowLimits<P>& limits, const Guess<P, OneProblem>& guess, const View<P>& from, const P* f) {
    const int n = size();
    S *t = dense::entries(t_), *x = dense::entries(y_);
    for (int i = 0; i < packs_; ++i) c_[i] = f[i] - (from.held ? select(from.held[i] == P(0.0), guess.limit(i), P(0.0)) : guess.limit(i));
    gather(from.M);
    dense::ldl_upper(n, n + 1, U_, V_, ld_);
    for (int i = 0; i < ld_; ++i) t_[i] = 0.0;
    for (int a = 0; a < n; ++a) t[a] = std::exchange(dense::entries(U_ + a * ld_)[n], 0);  // solves take whole packs
    dense::solve_upper(n, U_, ld_, t_);
    dense::combine_rows(count_, index_, t, packs_, from.M, dense::row_packs<P>(k_), c_);
    for (int i = 0; i < packs_; ++i) c_[i] = f[i] - c_[i], y_[i] = 0.0;
    for (int a = 0; a < count_; ++a) x[index_[a]] = t[a];
    for (int i = 0; i < packs_ && from.held; ++i) {
      const auto of_B = !(from.held[i] == P(0.0)), active = !(active_[i] == P(0.0));
      const P o = c_[i];
      c_[i] = select(of_B & !active, limits.limit(i, from.held[i]) - y_[i], o);
      y_[i] = select(of_B, select(active, -o, P(0.0)), -y_[i]);
    }
  }

  const int k_, packs_, dimensions_, ld_;
  P* active_;       // the sign of each row
  int* index_;      // the list D, in room for more than k
  P *y_, *c_, *f_;  // duals; C z; see hold()
  unsigned* bits_;  // which rows of each pack are listed,
  int* before_;     // and how many of the packs before
  P* t_;            // as long as the list
  P *V_, *U_;       // M_DD = V'U; a row of U may be overrun by a pack
  int count_ = 0, active_count_ = 0;  // rows in D, and in S
};

}  // namespace optnet
