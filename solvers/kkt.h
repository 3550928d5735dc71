// The linear system behind both methods, factored once and solved many times:
//     [ H   B'   ] [ dz ]   [ r1 ]        H = Q + diagonal of the bounds' weights + rho I
//     [ B  -D    ] [ dy ] = [ r2 ]        B = A and, if carried, rows of C                    (K7)
// H is eliminated first, S = B H^-1 B' + D after it (K9). rho and delta are small: they make singular Q and dependent
// rows ordinary, and vanish from the answer, because the right-hand sides are residuals (docs/optnet.md).
//
//     carried    H also has         D behind delta      factor, flops (k rows in B)          for
//     none       G'WG: n^2 m        -                   n^3/3 + n^2 k + n k^2 + k^3/3        the interior point, m > 2n
//     G          -                  1/w + delta         the same                             the interior point
//     all of C   -                  not factored: R     less k^3/3                           the active set
//     (A: what is kept of `all` for solves)                                                  its backward pass
// Where Q is diagonal and G is not in H, so is H, and the first two terms fall away. Rows in B cost more than in H where
// they are many, and keep apart what is of size 1/delta from what is of size rho, whose product would leave no digits.
#pragma once

#include "solvers/dense_shared.h"
#include "solvers/problem.h"

namespace optnet {

/// Vectors of T, the problem's matrices of E, factors of F.
template <class T, class E, class F = T>
class Kkt {
 public:
  /// `factors` [size()] holds the factorisation; it can be kept, and handed to another Kkt to solve again.
  Kkt(const Problem<T, E>& problem, F* factors, Carry carry)
      : problem_(problem), carry_(carry), n_(problem.n), p_(problem.p), rows_(p_ + carried(problem, carry)),
        solved_(carry == Carry::all ? p_ : rows_), diagonal_(diagonal(problem, carry)), H_(factors), S_(factors + H_size(problem, carry)) {}

  static int carried(const Sizes& sizes, Carry carry) { return carry == Carry::all ? sizes.rows() : carry == Carry::G ? sizes.m : 0; }
  static int size(const Sizes& sizes, Carry carry) {
    const int rows = sizes.p + carried(sizes, carry);
    return H_size(sizes, carry) + rows * ld(rows);
  }
  /// Working memory of factor().
  static int scratch_size(const Sizes& sizes, Carry carry) {
    return sizes.n * (diagonal(sizes, carry) ? sizes.p + carried(sizes, carry) : carry == Carry::none ? sizes.m : 0);
  }

  /// `w` [rows of C] is the diagonal of W, or null for 0.
  template <class Team>
  void factor(const Team& team, const T* w, double regularization, T* scratch) {
    if (diagonal_)
      factor_diagonal(team, w, regularization, scratch);
    else
      factor_dense(team, w, regularization, scratch);
    add_D(team, w, regularization);
    if (carry_ != Carry::all) team.for_each(rows_, [&](int i) { S_[i * ldS() + i] *= 1 + dependent; });
    dense::cholesky(team, rows_, solved_, S_, ldS());
    if (carry_ == Carry::all) form_R(team);
  }

  /// D of carried row i of C.
  static T D(const T& w, double delta) { return delta + 1.0 / max(w, T(1e-200)); }

  /// R [rows of C, rows of C] with leading dimension ldR(), both triangles: the QP as its rows see it. (K24)
  const F* R() const { return S_ + p_ * ldS() + p_; }
  int ldR() const { return ldS(); }

  /// The part that solve() needs, as Carry::A would hold it: to be kept.
  void copy_system(F* to) const {
    const auto copy_lower = [](int rows, int columns, const F* from, int ld_from, F* out, int ld_out) {
      for (int i = 0; i < rows; ++i)
        for (int j = 0; j <= i && j < columns; ++j) out[i * ld_out + j] = from[i * ld_from + j];
    };
    if (diagonal_)
      for (int i = 0; i < n_; ++i) to[i] = H_[i];
    else
      copy_lower(n_ + p_, n_, H_, ld(n_), to, ld(n_));
    copy_lower(p_, p_, S_, ldS(), to + (diagonal_ ? n_ : (n_ + p_) * ld(n_)), ld(p_));
  }

  /// Whether H has a condition number, as its pivots show it, of less than `limit`: of use where nothing regularises it.
  template <class Team>
  MaskOf<F> well_conditioned(const Team& team, double limit) const {
    const auto pivot = [&](int i) { return H_[diagonal_ ? i : i * ld(n_) + i]; };  // 1/h or 1/L_ii
    const F least = team.template smallest<F>(n_, F(1e300), pivot), largest = team.template largest<F>(n_, F(0.0), pivot);
    return least * limit > largest;
  }

  /// The largest 1/h, h a pivot of H.
  template <class Team>
  F largest_inverse_pivot(const Team& team) const {
    return team.template largest<F>(n_, F(0.0), [&](int i) { return diagonal_ ? H_[i] : H_[i * ld(n_) + i] * H_[i * ld(n_) + i]; });
  }

  /// Whether Q is positive semidefinite up to rounding: one factorisation of Q + margin I, whose factors are lost.
  template <class Team>
  MaskOf<T> semidefinite(const Team& team) const {
    const auto diagonal = [&](int i) { return problem_.Q ? problem_.Q_weight * problem_.Q[i * n_ + i] : problem_.Q_diagonal[i]; };
    const T size = team.template largest<T>(n_, T(1e-300), [&](int i) { return abs(diagonal(i)); });
    if (!problem_.Q) return team.template smallest<T>(n_, T(1e300), diagonal) >= -problem_.Q_margin * size;
    team.for_each(n_, [&](int i) {
      for (int j = 0; j <= i; ++j) H_[i * ld(n_) + j] = problem_.Q_weight * problem_.Q[i * n_ + j];
      H_[i * ld(n_) + i] += problem_.Q_margin * size;
    });
    return dense::cholesky(team, n_, n_, H_, ld(n_)) >= T(0.0);
  }

  /// In place: (r1, r2) becomes (dz, dy) of (K7); r2 [p], and behind it the rows of a carried G.
  template <class Team>
  void solve(const Team& team, T* r1, T* r2) const {
    solve_half(team, r1);  // u = L^-1 r1, with H = L L'
    if (solved_) {
      const auto gap = [&](int i, const T& Yu) { r2[i] = Yu - r2[i]; };  // S dy = B H^-1 r1 - r2   (K10)
      if (!diagonal_) {
        dense::multiply(team, solved_, n_, static_cast<const F*>(Y()), ld(n_), r1, gap);
      } else {
        if (p_) dense::multiply(team, p_, n_, problem_.A, n_, r1, gap);
        if (solved_ > p_) dense::multiply(team, problem_.m, n_, problem_.G, n_, r1, [&](int i, const T& Gu) { gap(p_ + i, Gu); });
      }
      dense::solve_lower(team, solved_, static_cast<const F*>(S_), ldS(), r2);
      dense::solve_lower_transposed(team, solved_, static_cast<const F*>(S_), ldS(), r2);
    }
    finish(team, r1, r2);  // H dz = r1 - B'dy   (K11)
  }

 private:
  /// What a dependent row of B keeps as its pivot, beside its diagonal entry, where delta is nothing beside it: were the row
  /// left out of the solve, no step would tell that its limit contradicts the others'.
  static constexpr double dependent = 3e-15;

  static int ld(int columns) { return dense::leading_dimension(columns); }
  static bool diagonal(const Sizes& sizes, Carry carry) { return !sizes.Q_dense && (sizes.m == 0 || carry != Carry::none); }
  static int H_size(const Sizes& sizes, Carry carry) {
    return diagonal(sizes, carry) ? sizes.n : (sizes.n + sizes.p + carried(sizes, carry)) * ld(sizes.n);
  }
  int ldS() const { return ld(rows_); }
  F* Y() const { return H_ + n_ * ld(n_); }  // B L'^-1 [rows_, n], the rows below L

  /// Row r of B, entry by entry.
  template <class Put>
  void each_entry(int r, const Put& put) const {
    const int bounds = carry_ == Carry::all && problem_.bounds ? n_ : 0, g = r - p_ - bounds;
    for (int j = 0; j < n_; ++j) put(j, r < p_ ? T(problem_.A[r * n_ + j]) : g < 0 ? T(r - p_ == j ? 1.0 : 0.0) : T(problem_.G[g * n_ + j]));
  }

  T diagonal_entry(const T* w, int i) const {
    return (problem_.Q_diagonal ? problem_.Q_diagonal[i] : T(0.0)) + (w && problem_.bounds ? w[i] : T(0.0));
  }

  /// S += D; for Carry::all only A's.
  template <class Team>
  void add_D(const Team& team, const T* w, double delta) {
    team.for_each(carry_ == Carry::G ? rows_ : p_, [&](int i) { S_[i * ldS() + i] += i < p_ ? T(delta) : D(w[n_ * problem_.bounds + i - p_], delta); });
  }

  /// H_ holds 1/h; S = B diag(1/h) B'.
  template <class Team>
  void factor_diagonal(const Team& team, const T* w, double regularization, T* scratch) {
    team.for_each(n_, [&](int i) { H_[i] = 1.0 / (diagonal_entry(w, i) + regularization); });
    if (rows_ > p_) {
      team.for_each(rows_, [&](int r) { each_entry(r, [&](int j, const T& x) { scratch[r * n_ + j] = x * sqrt(H_[j]); }); });
      dense::gram<dense::Inner::along_rows>(team, rows_, n_, scratch, n_, static_cast<const T*>(scratch), n_, S_, ldS(), dense::Onto::replace);
    } else {
      dense::scale_columns(team, p_, n_, problem_.A, H_, scratch);
      dense::gram<dense::Inner::along_rows>(team, p_, n_, scratch, n_, problem_.A, n_, S_, ldS(), dense::Onto::replace);
    }
  }

  /// H_ holds L [n, n] and below it Y = B L'^-1 [rows_, n]; S = Y Y'.
  template <class Team>
  void factor_dense(const Team& team, const T* w, double regularization, T* scratch) {
    const int m = problem_.m, l = ld(n_);
    team.for_each(n_, [&](int i) {
      for (int j = 0; j <= i; ++j) H_[i * l + j] = problem_.Q ? problem_.Q_weight * problem_.Q[i * n_ + j] : T(0.0);
      H_[i * l + i] += diagonal_entry(w, i) + regularization;
    });
    team.for_each(rows_, [&](int r) { each_entry(r, [&](int j, const T& x) { Y()[r * l + j] = x; }); });
    if (m && carry_ == Carry::none) {
      dense::scale_rows(team, m, n_, problem_.G, w + n_ * problem_.bounds, scratch);
      dense::gram<dense::Inner::down_columns>(team, n_, m, scratch, n_, problem_.G, n_, H_, l, dense::Onto::add);
    }
    dense::cholesky(team, n_ + rows_, n_, H_, l);
    dense::gram<dense::Inner::along_rows>(team, rows_, n_, static_cast<const T*>(Y()), l, static_cast<const T*>(Y()), l, S_, ldS(), dense::Onto::replace);
  }

  /// S_ holds [A; C] H^-1 [A; C]', its first p columns replaced by L_S and below it V; R = C H^-1 C' - V V'. (K24)
  template <class Team>
  void form_R(const Team& team) {
    const int rows = rows_ - p_;
    F *V = S_ + p_ * ldS(), *R = V + p_;
    dense::gram<dense::Inner::along_rows>(team, rows, p_, static_cast<const F*>(V), ldS(), static_cast<const F*>(V), ldS(), R, ldS(), dense::Onto::subtract);
    team.for_each(rows, [&](int i) {
      for (int j = 0; j < i; ++j) R[j * ldS() + i] = R[i * ldS() + j];
    });
  }

  /// x = L^-1 x; for a diagonal H the whole solve, x = x / h, since its Y is B itself.
  template <class Team>
  void solve_half(const Team& team, T* x) const {
    if (diagonal_)
      team.for_each(n_, [&](int i) { x[i] *= H_[i]; });
    else
      dense::solve_lower(team, n_, static_cast<const F*>(H_), ld(n_), x);
  }

  /// From u of solve_half: dz = L'^-1 (u - Y'dy).
  template <class Team>
  void finish(const Team& team, T* u, const T* dy) const {
    const auto take = [&](int i, const T& x) { u[i] -= H_[i] * x; };
    if (diagonal_) {
      if (p_) dense::multiply_transposed(team, p_, n_, problem_.A, n_, dy, take);
      if (solved_ > p_) dense::multiply_transposed(team, problem_.m, n_, problem_.G, n_, dy + p_, take);
      return;
    }
    if (solved_) dense::multiply_transposed(team, solved_, n_, static_cast<const F*>(Y()), ld(n_), dy, [&](int i, const T& x) { u[i] -= x; });
    dense::solve_lower_transposed(team, n_, static_cast<const F*>(H_), ld(n_), u);
  }

  Problem<T, E> problem_;
  const Carry carry_;
  const int n_, p_, rows_, solved_;  // rows of B, and how many of them solve() knows
  const bool diagonal_;
  F *H_, *S_;
};

}  // namespace optnet
