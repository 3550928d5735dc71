// A primal-dual active-set method on one problem or a pack of them: guess which rows of C hold with equality,
// solve for their duals, let duals of the wrong sign go and take violated rows in, until the guess confirms itself.
// A few small factorisations where the interior-point method needs a dozen large ones, and the end is the
// exact vertex. It is not sure to end: what it does not solve, the interior-point method does. What all problems of a pack
// do alike is done here; the search itself is in active_rows.h. Equation numbers are those of docs/optnet.md.
#pragma once

#include "solvers/kkt.h"
#include "solvers/shared_rows.h"

#include <algorithm>
#include <array>
#include <optional>

namespace optnet {

template <class T, class E>
class ActiveSet : public Iterate<T> {
 public:
  /// Packs of memory that the active rows of one T need, to be kept for the backward pass.
  static int kept_size(const Sizes& sizes) {
    const int k = sizes.rows();
    return path(sizes).masked ? MaskedRows::kept_size(k) : lanes_of<T> * ListedRows::kept_size(k, sizes.n - sizes.p);
  }

  /// `kkt` has been factored with W = 0 and the rows of C carried. The first `count` lanes hold problems. `kept` [kept_size()]
  /// holds the rows of an earlier search, or where the next begins: clear(), guess(). For take_signs() and solve_active() alone,
  /// as in the backward pass, `problem` needs no more than A and G, and `kkt` no more than Carry::A.
  ActiveSet(const Problem<T, E>& problem, const Kkt<T, E, E>& kkt, int count, Pack* kept, Workspace<T>& memory, Workspace<Pack>& row_memory,
            const SharedRows* shared = nullptr)
      : P(problem), kkt_(kkt), count_(count), n_(problem.n), p_(problem.p), k_(problem.rows()), row_memory_(row_memory), shared_(shared) {
    for (T** x : {&z, &r1_, &u_, &dual_size_, &Cty_}) *x = memory.take(n_);
    for (T** x : {&nu, &r2_, &unu_}) *x = memory.take(p_);
    for (T** x : {&y_, &active_, &c_, &r3_, &c0_, &low_, &high_, &root_, &unit_}) *x = memory.take(k_);
    for (T** x : {&s, &lambda}) *x = memory.take(problem.sides());
    dy_ = row_memory.take(dense::packs_for(k_));
    plain_ = row_memory.take(lanes_of<T> * plain_size());
    if (path(problem).masked) {
      masked_.emplace(k_, n_ - p_, kept, row_memory.take(MaskedRows::scratch_size(k_)));
    } else {
      Pack* scratch = row_memory.take(ListedRows::scratch_size(k_, n_ - p_));
      for (int l = 0; l < count_; ++l) listed_[l].emplace(k_, n_ - p_, kept + l * ListedRows::kept_size(k_, n_ - p_), scratch);
    }
  }

  /// No row is active.
  static void clear(const Sizes& sizes, Pack* kept) {
    const int k = sizes.rows(), size = ListedRows::kept_size(k, sizes.n - sizes.p);
    if (path(sizes).masked) std::fill_n(kept, k, Pack(0.0));
    for (int l = 0; l < lanes_of<T> && !path(sizes).masked; ++l) std::fill_n(kept + l * size, dense::packs_for(k), Pack(0.0));
  }
  /// Where an earlier solution begins: row i of a lane at its low side (-1) or its high one (1).
  static void guess(const Sizes& sizes, Pack* kept, int l, int i, double sign) {
    if (path(sizes).masked)
      kept[i].set(l, sign);
    else
      dense::entries(kept + l * ListedRows::kept_size(sizes.rows(), sizes.n - sizes.p))[i] = sign;
  }

  /// From the rows that are kept, all 0 for a cold start. `problems` are the lanes' numbers in the batch. Returns which lanes are
  /// solved: their guess stands, and the KKT conditions (K2) hold in the original data.
  MaskOf<T> solve(const QPOptions& options, const std::int64_t* problems) {
    begin();
    const MaskOf<T> confirmed = search(options, options.verbose ? problems : nullptr);
    finish();
    for (int round = 0;; ++round) {
      residuals();
      const MaskOf<T> good = judge(options.tolerance);
      if (round == 2 || !any((!good) & confirmed)) return good & confirmed;
      refine(good);
    }
  }

  /// The active rows alone, in active(). Whether they were found.
  bool find(const QPOptions& options) { return begin(), any(search(options, nullptr)); }

  /// active(), as a search left it.
  void take_signs() {
    for (int i = 0; i < k_; ++i)
      if constexpr (several) active_[i] = masked_ ? masked_->sign(i) : T(0.0);
      else active_[i] = 0.0;
    for (int l = 0; l < count_ && !masked_; ++l)
      for (int i : *listed_[l]) set_lane(active_[i], l, listed_[l]->sign(i));
  }
  /// Of row i: -1 if it is active at its low side, 1 at its high side, else 0.
  const T& active(int i) const { return active_[i]; }

  /// In place: the solution of [Q A' C_S'; A 0 0; C_S 0 0] (dz, dnu, dy) = (r1, r2, r3), S the active rows: dy is 0 on the
  /// others. (K27)
  void solve_active(T* r1, T* r2, T* r3) {
    for (int l = 0; l < count_ && !masked_ && std::is_same_v<T, E>; ++l) prefetch(l);
    kkt_.solve(team_, r1, r2);
    if (masked_)
      rows_masked(r1, r3);
    else
      rows_listed(r1, r3);
    for (int i = 0; i < p_; ++i) unu_[i] = 0.0;
    kkt_.solve(team_, u_, unu_);
    for (int i = 0; i < n_; ++i) r1[i] -= u_[i];
    for (int i = 0; i < p_; ++i) r2[i] -= unu_[i];
  }

  using Iterate<T>::z, Iterate<T>::nu, Iterate<T>::s, Iterate<T>::lambda, Iterate<T>::status, Iterate<T>::iterations;
  using Iterate<T>::objective, Iterate<T>::primal_residual, Iterate<T>::dual_residual, Iterate<T>::gap;

 private:
  static constexpr double infinity = RowLimits<Pack>::infinity;
  static constexpr bool several = lanes_of<T> > 1;

  /// z without inequalities, and c0 = C z there. (K23)
  void begin() {
    for (int i = 0; i < n_; ++i) z[i] = -P.q[i];
    for (int i = 0; i < p_; ++i) nu[i] = P.b[i];
    kkt_.solve(team_, z, nu);
    P.multiply_rows(team_, z, [&](int i, const T& Cz) { c0_[i] = Cz; });
    const E* R = kkt_.R();
    const T largest = team_.template largest<T>(k_, T(0.0), [&](int i) { return T(R[i * kkt_.ldR() + i]); });
    for (int i = 0; i < k_; ++i) {
      const T r = R[i * kkt_.ldR() + i];
      root_[i] = root(r, largest), unit_[i] = unit(root_[i]);
      low_[i] = P.low ? select(P.mask[i] > T(0.0), -P.d[i], T(-infinity)) : T(-infinity);
      high_[i] = P.high ? select(P.mask[P.high_side() + i] > T(0.0), P.d[P.high_side() + i], T(infinity)) : T(infinity);
    }
  }

  /// The active rows and their duals y. Returns which lanes found them; the others have none.
  MaskOf<T> search(const QPOptions& options, const std::int64_t* problems) {
    MaskOf<T> confirmed = T(1.0) < T(0.0);
    int steps[lanes_of<T>] = {};
    Told told[lanes_of<T>];
    for (int l = 0; l < count_ && problems; ++l) told[l].problem = problems[l];
    if (masked_) {
      if constexpr (several) {
        const RowLimits<Pack> limits{k_, c0_, low_, high_, root_, unit_};
        confirmed = masked_->search(limits, kkt_.R(), kkt_.ldR(), options.max_iterations, told, steps);
        for (int i = 0; i < k_; ++i) y_[i] = select(confirmed, masked_->dual(i), T(0.0));
      }
    } else {
      const Unpacked rows = unpack();
      const FloatPack* R_in_float = shared_ ? shared_->R_in_float() : nullptr;
      const View<FloatPack> centre = shared_ ? shared_->centre() : View<FloatPack>{};
      FloatPack* own = shared_ || !path(P).in_float ? nullptr : reinterpret_cast<FloatPack*>(row_memory_.take(k_ * dense::row_packs<FloatPack>(k_)));
      for (int i = 0; i < k_; ++i) y_[i] = 0.0;
      for (int l = 0; l < count_; ++l) {
        if (own) ListedRows::to_float(k_, rows.R[l], rows.limits[l].unit, own), R_in_float = own;
        steps[l] = listed_[l]->search(rows.limits[l], rows.R[l], R_in_float, centre.M ? &centre : nullptr, options.max_iterations, told[l]);
        set_lane(confirmed, l, steps[l] > 0);
        for (int i : *listed_[l]) set_lane(y_[i], l, listed_[l]->dual(i));
      }
    }
    for (int l = 0; l < count_; ++l) status[l] = QPStatus::solved, iterations[l] = steps[l];
    take_signs();
    return confirmed;
  }

  /// Each lane's R and limits, where they were packed.
  struct Unpacked {
    const Pack* R[lanes_of<T>];
    RowLimits<Pack> limits[lanes_of<T>];
  };
  Unpacked unpack() const {
    Unpacked out;
    const int count = dense::packs_for(k_), ld = dense::row_packs(k_);
    double* to[lanes_of<T>];
    const auto vector = [&](const T* from, double beyond) {
      Pack* first = row_memory_.take(count * lanes_of<T>);
      for (int l = 0; l < lanes_of<T>; ++l) {
        to[l] = dense::entries(first + l * count);
        std::fill(to[l] + k_, to[l] + count * Pack::lanes, beyond);
      }
      deinterleave(from, k_, to);
      return first;
    };
    const Pack *c0 = vector(c0_, 0), *low = vector(low_, -infinity), *high = vector(high_, infinity), *root = vector(root_, 0), *unit = vector(unit_, 0);
    Pack* R = shared_ ? nullptr : row_memory_.take(lanes_of<T> * k_ * ld);
    if constexpr (std::is_same_v<E, T>)
      for (int i = 0; i < k_ && R; ++i) {
        for (int l = 0; l < lanes_of<T>; ++l) {
          to[l] = dense::entries(R + (l * k_ + i) * ld);
          std::fill(to[l] + k_, to[l] + count * Pack::lanes, 0.0);
        }
        deinterleave(kkt_.R() + i * kkt_.ldR(), k_, to);
      }
    for (int l = 0; l < lanes_of<T>; ++l) {
      out.R[l] = shared_ ? shared_->R() : R + l * k_ * ld;
      out.limits[l] = {count, c0 + l * count, low + l * count, high + l * count, root + l * count, unit + l * count};
    }
    return out;
  }

  /// z = z0 - P C'y
  void finish() {
    P.multiply_rows_transposed(team_, y_, [&](int i, const T& x) { u_[i] = Cty_[i] = x; });
    for (int i = 0; i < p_; ++i) unu_[i] = 0.0;
    kkt_.solve(team_, u_, unu_);
    for (int i = 0; i < n_; ++i) z[i] -= u_[i];
    for (int i = 0; i < p_; ++i) nu[i] -= unu_[i];
  }

  /// r1, r2, r3: what (K2) lacks, as right-hand sides of (K27); C z; and the size of the terms of which r1 is the sum.
  void residuals() {
    const auto add = [&](int i, const T& term) { r1_[i] -= term, dual_size_[i] += abs(term); };
    P.multiply_Q(team_, z, [&](int i, const T& Qz) { r1_[i] = -Qz - P.q[i], dual_size_[i] = abs(Qz) + abs(P.q[i]); });
    objective = team_.template sum<T>(n_, [&](int i) { return 0.5 * z[i] * (P.q[i] - r1_[i]); });
    for (int i = 0; i < n_; ++i) add(i, Cty_[i]);
    if (p_) {
      dense::multiply_transposed(team_, p_, n_, P.A, n_, nu, add);
      dense::multiply(team_, p_, n_, P.A, n_, z, [&](int i, const T& Az) { r2_[i] = P.b[i] - Az; });
    }
    P.multiply_rows(team_, z, [&](int i, const T& Cz) {
      c_[i] = Cz;
      r3_[i] = select(active_[i] == T(0.0), T(0.0), select(active_[i] > T(0.0), high_[i], low_[i]) - Cz);
    });
  }

  /// The solution's slacks and duals, its residuals, and whether each of these is small beside the numbers it is made of.
  MaskOf<T> judge(double tolerance) {
    const T z_size = dense::norm(team_, n_, z), y_size = dense::norm(team_, k_, y_), rounding = 1e-14 * dense::norm(team_, n_, dual_size_);
    MaskOf<T> good = T(0.0) < T(1.0);
    gap = 0.0, primal_residual = 0.0, dual_residual = dense::norm(team_, n_, r1_);
    const int bounds = n_ * P.bounds;
    const auto violated = [&](const T& by, const T& limit, const E* row) {
      primal_residual = max(primal_residual, by);
      MaskOf<T> small = by <= tolerance * limit;
      if (any(!small)) small = small | (by <= tolerance * (limit + (row ? T(largest_entry(row)) : T(1.0)) * z_size));  // rarely asked for
      good = good & small;
    };
    for (int i = 0; i < n_; ++i) good = good & (abs(r1_[i]) <= tolerance * dual_size_[i] + rounding);
    for (int i = 0; i < p_; ++i) violated(abs(r2_[i]), abs(P.b[i]), P.A + i * n_);
    const auto side = [&](int at, int i, double sign, const T& slack) {
      const T mask = P.mask[at], dual = sign * y_[i], free = select(low_[i] == high_[i], T(1.0), T(0.0));
      const T own = select(active_[i] * sign > T(0.0), T(1.0), free);  // a fixed row's dual belongs to the side of its sign
      s[at] = select(mask > T(0.0), max(slack, T(0.0)), T(1.0));
      s[at] = select((own > T(0.0)) & (dual > T(0.0)), T(0.0), s[at]);
      lambda[at] = mask * own * max(dual, T(0.0));
      good = good & (own * (1.0 - free) * max(-dual, T(0.0)) <= T(1e-10) * y_size);
      violated(mask * max(-slack, own * (1.0 - free) * slack), abs(P.d[at]), i < bounds ? nullptr : P.G + (i - bounds) * n_);
      gap += lambda[at] * abs(slack) * mask;
    };
    for (int i = 0; i < k_; ++i) {
      if (P.low) side(i, i, -1, c_[i] + P.d[i]);
      if (P.high) side(P.high_side() + i, i, 1, P.d[P.high_side() + i] - c_[i]);
    }
    return good & (dual_residual < T(infinity)) & (abs(objective) < T(infinity));  // what overflowed is small beside itself
  }

  /// One step of iterative refinement for the lanes that are not good yet.
  void refine(const MaskOf<T>& good) {
    solve_active(r1_, r2_, r3_);
    for (int i = 0; i < n_; ++i) z[i] = select(good, z[i], z[i] + r1_[i]);
    for (int i = 0; i < p_; ++i) nu[i] = select(good, nu[i], nu[i] + r2_[i]);
    for (int i = 0; i < k_; ++i) y_[i] = select(good, y_[i], y_[i] + r3_[i]);
    P.multiply_rows_transposed(team_, y_, [&](int i, const T& x) { Cty_[i] = x; });
  }

  E largest_entry(const E* row) const {
    E size = 0.0;
    for (int j = 0; j < n_; ++j) size = max(size, abs(row[j]));
    return size;
  }

  /// r3 = dy of R_SS dy = C_S dz - r3, and u = C_S'dy.
  void rows_masked(const T* dz, T* r3) {
    P.multiply_rows(team_, dz, [&](int i, const T& Cz) { r3[i] = select(active_[i] == T(0.0), T(0.0), Cz - r3[i]); });
    if constexpr (several) masked_->solve(r3);
    P.multiply_rows_transposed(team_, r3, [&](int i, const T& x) { u_[i] = x; });
  }
  /// The same by each problem's active rows alone, from its own G: less memory to read than all of it.
  void rows_listed(const T* dz, T* r3) {
    double *x[lanes_of<T>], *y[lanes_of<T>], *dy = dense::entries(dy_);
    for (int l = 0; l < lanes_of<T>; ++l) x[l] = dense::entries(plain_ + l * plain_size()), y[l] = x[l] + dense::packs_for(n_) * Pack::lanes;
    deinterleave(dz, n_, x), deinterleave(r3, k_, y);
    for (int l = 0; l < count_; ++l) {
      const int *row = listed_[l]->begin(), count = static_cast<int>(listed_[l]->end() - row);
      each_listed(l, [&](int a, const auto& rows) { dense::multiply_rows(rows, n_, x[l], dy + a); }, [&](int a, int i) { dy[a] = x[l][i]; });
      for (int a = 0; a < count; ++a) dy[a] -= y[l][row[a]];
      listed_[l]->solve(dy);
      std::fill_n(y[l], k_, 0.0), std::fill_n(x[l], n_, 0.0);
      for (int a = 0; a < count; ++a) y[l][row[a]] = dy[a];
      each_listed(l, [&](int a, const auto& rows) { dense::add_rows(rows, n_, dy + a, x[l]); }, [&](int a, int i) { x[l][i] += dy[a]; });
    }
    interleave(x, n_, u_), interleave(y, k_, r3);
  }
  int plain_size() const { return dense::packs_for(n_) + dense::packs_for(k_); }
  /// of_G(a, rows): rows of G of a lane, listed from a on, several at a time; bound(a, i): row i of I.
  template <class G, class I>
  void each_listed(int l, const G& of_G, const I& bound) const {
    constexpr int R = 4;
    const int *row = listed_[l]->begin(), count = static_cast<int>(listed_[l]->end() - row), bounds = n_ * P.bounds;
    const auto pointer = [&](int a) { return P.given_G[l] + (row[a] - bounds) * n_; };
    for (int a = 0; a < count;) {
      if (row[a] < bounds)
        bound(a, row[a]), ++a;
      else if (a + R <= count && *std::min_element(row + a, row + a + R) >= bounds)
        of_G(a, std::array{pointer(a), pointer(a + 1), pointer(a + 2), pointer(a + 3)}), a += R;
      else
        of_G(a, std::array{pointer(a)}), ++a;
    }
  }
  /// Active rows lie here and there in memory; asked for at once, they come while the first solve is at work.
  void prefetch(int l) const {
    for (int i : *listed_[l])
      for (int k = 0; i >= n_ * P.bounds && k < n_; k += 8) __builtin_prefetch(P.given_G[l] + (i - n_ * P.bounds) * n_ + k, 0, 2);
  }

  const Problem<T, E> P;
  const Kkt<T, E, E> kkt_;
  static constexpr OneThread team_{};
  const int count_, n_, p_, k_;
  std::optional<MaskedRows> masked_;                 // one of the two
  std::optional<ListedRows> listed_[lanes_of<T>];
  T *y_, *active_, *c_, *c0_, *low_, *high_;  // duals; -1, 0 or 1 (low side, inactive, high side); C z; C z0; limits
  T *root_, *unit_;                           // sqrt(R_ii), and its inverse
  T *r1_, *r2_, *r3_, *u_, *unu_, *dual_size_, *Cty_;
  Pack *dy_, *plain_;  // dy of a lane; dz, C'dy and r3, lane by lane
  Workspace<Pack>& row_memory_;
  const SharedRows* shared_;
};

}  // namespace optnet
