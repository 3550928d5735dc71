// The active rows of a pack of problems, found and kept, in two layouts:
//     MaskedRows   a pack holds one row of several problems; R_SS is R with the rows of I where none is active
//     ListedRows   a pack holds several rows of one problem; R_SS is gathered
// Few rows are cheapest without lists. Of many, each problem needs its own and its own number of steps: a pack of problems
// would wait for the slowest, and work as the largest.
#pragma once

#include "solvers/row_search.h"

namespace optnet {

constexpr int most_steps = 50;  // of a search

class ListedRows {
 public:
  /// Packs that are kept for the backward pass (the sign of each row, the list, the factor), and those that are not.
  static int kept_size(int k, int dimensions) { return 2 * dense::packs_for(k) + most(k, dimensions) * dense::packs_for(most(k, dimensions)); }
  static int scratch_size(int k, int dimensions) {
    return dense::packs_for(most(k, dimensions)) + RowSearch<Pack>::scratch_size(k, dimensions) + 7 * dense::packs_for<FloatPack>(k) +
           RowSearch<FloatPack>::scratch_size(k, dimensions);
  }

  /// `kept` and `scratch` are memory of these sizes. The rows are those of an earlier search, or a guess for the next. What is in
  /// `scratch` matters until the next call alone, so that problems can share it.
  ListedRows(int k, int dimensions, Pack* kept, Pack* scratch)
      : k_(k), packs_(dense::packs_for(k)), dimensions_(dimensions), active_(kept), index_(reinterpret_cast<int*>(kept + packs_)),
        U_(kept + 2 * packs_), t_(scratch), search_(k, dimensions, active_, index_, t_ + dense::packs_for(most(k, dimensions))),
        floats_(reinterpret_cast<FloatPack*>(t_ + dense::packs_for(most(k, dimensions)) + RowSearch<Pack>::scratch_size(k, dimensions))) {
    for (int i = 0; i < k_; ++i) count_ += sign(i) != 0;
  }

  /// -1 if row i is active at its low side, 1 at its high side, else 0; and its dual.
  double sign(int i) const { return dense::entries(active_)[i]; }
  double dual(int i) const { return search_.dual(i); }
  const int* begin() const { return index_; }
  const int* end() const { return index_ + count_; }

  /// In place: x = R_SS^-1 x.  x in the order of the list
  void solve(double* x) {
    double* t = dense::entries(t_);
    const int n = dense::whole_pivots(count_), ld = dense::packs_for(n);
    for (int i = 0; i < ld; ++i) t_[i] = 0.0;
    std::copy_n(x, count_, t);
    dense::solve_upper_transposed(n, U_, ld, t_);
    dense::solve_upper(n, U_, ld, t_);
    std::copy_n(t, count_, x);
  }

  /// As RowSearch::run, from the rows as they are. If there are none, with `R_in_float` (see to_float(); or null) in float first, from
  /// `centre` if there is one: that finds all rows nearly always, and what it finds is no more than a guess. If the search fails, no row
  /// is active. Returns the number of steps, or 0.
  int search(const RowLimits<Pack>& limits, const Pack* R, const FloatPack* R_in_float, const View<FloatPack>* centre, int max_steps, const Told& told) {
    int steps = 0;
    if (count_ == 0 && R_in_float) search_in_float(limits, R_in_float, centre, std::min(max_steps / 2, most_steps), steps, told);
    const bool found = search_.run(limits, R, nullptr, std::min(max_steps - steps, most_steps), steps, told);
    if (!found) std::fill_n(active_, packs_, Pack(0.0));
    count_ = found ? search_.count() : 0;
    if (found) search_.copy_factor(U_);
    return found ? steps : 0;
  }

  /// R in units of its diagonal: no number leaves float's range.  R [k, row_packs(k)], out [k, row_packs<FloatPack>(k)]
  static void to_float(int k, const Pack* R, const Pack* unit, FloatPack* out) {
    const double* u = dense::entries(unit);
    for (int i = 0; i < k; ++i) {
      const double* from = dense::entries(R + i * dense::row_packs(k));
      float* to = dense::entries(out + i * dense::row_packs<FloatPack>(k));
      for (int j = 0; j < k; ++j) to[j] = static_cast<float>(from[j] * u[j] * u[i]);
      std::fill(to + k, to + dense::packs_for<FloatPack>(k) * FloatPack::lanes, 0.0f);
    }
  }

 private:
  static int most(int k, int dimensions) { return RowSearch<Pack>::most(k, dimensions); }

  /// Leaves the rows that it found, or none.
  void search_in_float(const RowLimits<Pack>& limits, const FloatPack* R, const View<FloatPack>* centre, int max_steps, int& steps, Told told) {
    const int packs = dense::packs_for<FloatPack>(k_);
    FloatPack *c0 = floats_, *low = c0 + packs, *high = low + packs, *unit = high + packs, *active = unit + packs;
    RowSearch<FloatPack> search(k_, dimensions_, active, reinterpret_cast<int*>(active + packs), active + 3 * packs);
    told.unit = convert(limits, c0, low, high, unit);
    for (int i = 0; i < packs; ++i) active[i] = centre ? centre->held[i] : FloatPack(0.0f);
    if (search.run({packs, c0, low, high, unit, unit}, R, centre, max_steps, steps, told))
      for (int i = 0; i < k_; ++i) dense::entries(active_)[i] = dense::entries(active)[i];
  }

  /// c0 and limits in units of R's diagonal, and of the largest of them, which is returned.
  double convert(const RowLimits<Pack>& from, FloatPack* c0, FloatPack* low, FloatPack* high, FloatPack* unit) const {
    const Pack infinity = RowLimits<Pack>::infinity;
    Pack largest = 1e-300;
    for (int i = 0; i < packs_; ++i) largest = max(largest, from.size(i));
    const double size = largest_lane(largest);
    const Pack scale = 1.0 / size;
    const int last = dense::packs_for<FloatPack>(k_) - 1;
    c0[last] = unit[last] = 0.0f, low[last] = -RowLimits<FloatPack>::infinity, high[last] = RowLimits<FloatPack>::infinity;
    const auto put = [](const Pack& x, int i, FloatPack* to) {
      for (int l = 0; l < Pack::lanes; ++l) dense::entries(to)[i * Pack::lanes + l] = static_cast<float>(x[l]);
    };
    for (int i = 0; i < packs_; ++i) {
      const Pack u = from.unit[i] * scale;
      const Mask row = from.unit[i] > Pack(0.0);
      put(from.c0[i] * u, i, c0), put(select(row, Pack(1.0), Pack(0.0)), i, unit);
      put(select(row, from.low[i] * u, -infinity), i, low), put(select(row, from.high[i] * u, infinity), i, high);
    }
    return size;
  }

  const int k_, packs_, dimensions_;
  Pack* active_;  // kept: the sign of each row,
  int* index_;    // the list S, in room for more than k,
  Pack* U_;       // and the factor of R_SS
  Pack* t_;       // something as long as S
  RowSearch<Pack> search_;
  FloatPack* floats_;
  int count_ = 0;  // rows in S
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
  Mask search(const RowLimits<Pack>& limits, const E* R, int ldR, int max_steps, const Told (&told)[Pack::lanes], int (&steps)[Pack::lanes]) {
    const Mask all = Pack(0.0) < Pack(1.0);
    Guess<Pack, EachLane> guess(limits, k_, dimensions_, active_, y_, c_);
    Mask running = all, lost = !all;
    std::fill_n(steps, Pack::lanes, 0);
    for (int step = 0; step < std::min(max_steps, most_steps) && any(running); ++step) {
      lost = lost | too_many();
      drop(lost), running = running & !lost;
      solve_for_duals(limits, guess, R, ldR);  // (K25)
      for (int l = 0; l < Pack::lanes; ++l) steps[l] += lane(running, l);
      const Mask asked = running;
      running = running & guess.correct(step);  // (K26): a guess that stands stays as it is
      for (int l = 0; l < Pack::lanes; ++l)
        if (lane(asked, l)) told[l](steps[l], guess.worst()[l]);
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
  void solve_for_duals(const RowLimits<Pack>& limits, const Guess<Pack, EachLane>& guess, const E* R, int ldR) {
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
