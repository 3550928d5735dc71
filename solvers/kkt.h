// The linear system behind both methods, factored once and solved many times:
//     [ H   A'  ] [ dz  ]   [ r1 ]        H = Q + C'WC + rho I                                (K7)
//     [ A  -dI  ] [ dnu ] = [ r2 ]
// H is eliminated first, S = A H^-1 A' + delta I after it (K9). rho and delta are small: they make singular Q
// and dependent rows of A ordinary, and vanish from the answer, because the right-hand sides are the residuals
// of the original problem (docs/optnet.md).
//
//     case        factor, flops                            when
//     diagonal    p^2 n + p^3/3                            Q diagonal or scalar and only bounds
//     dense       n^2 m + n^3/3 + p n^2 + p^2 n + p^3/3    otherwise
//
// With `rows` = k, all rows of C are carried along behind those of A: n^2 k + (n + p) k^2 + p^2 k flops more give
// R = C P C' of (K24), the QP as its rows see it.
#pragma once

#include "solvers/problem.h"

namespace optnet {

/// Vectors of T, the problem's matrices of E, factors of F.
template <class T, class E, class F = T>
class Kkt {
 public:
  /// `factors` [size()] holds the factorisation; it can be kept, and handed to another Kkt to solve again.
  Kkt(const Problem<T, E>& problem, F* factors, int rows = 0)
      : problem_(problem), n_(problem.n), p_(problem.p), rows_(rows), H_(factors), S_(factors + H_size(problem, rows)) {}

  static int size(const Sizes& sizes, int rows = 0) { return H_size(sizes, rows) + (sizes.p + rows) * ld(sizes.p + rows); }
  /// Working memory of factor().
  static int scratch_size(const Sizes& sizes, int rows = 0) { return sizes.n * (sizes.diagonal() ? sizes.p + rows : sizes.m); }

  /// `w` [rows of C] is the diagonal of W, or null for 0.
  template <class Team>
  void factor(const Team& team, const T* w, double regularization, T* scratch) {
    if (problem_.diagonal())
      factor_diagonal(team, w, regularization, scratch);
    else
      factor_dense(team, w, regularization, scratch);
    dense::cholesky(team, p_ + rows_, p_, S_, ldS());
    if (rows_) form_R(team);
  }

  /// R [rows, rows] with leading dimension ldR(), both triangles.
  const F* R() const { return S_ + p_ * ldS() + p_; }
  int ldR() const { return ldS(); }

  /// f(i, entry i) for all entries of the factors.
  template <class Function>
  void each_factor(const Function& f) const {
    for (int i = 0, end = size(problem_, rows_); i < end; ++i) f(i, H_[i]);
  }

  /// The part that solve() needs, as a Kkt without rows would hold it: to be kept.
  void copy_system(F* to) const {
    const auto copy_lower = [](int rows, int columns, const F* from, int ld_from, F* out, int ld_out) {
      for (int i = 0; i < rows; ++i)
        for (int j = 0; j <= i && j < columns; ++j) out[i * ld_out + j] = from[i * ld_from + j];
    };
    if (problem_.diagonal())
      for (int i = 0; i < n_; ++i) to[i] = H_[i];
    else
      copy_lower(n_ + p_, n_, H_, ld(n_), to, ld(n_));
    copy_lower(p_, p_, S_, ldS(), to + H_size(problem_, 0), ld(p_));
  }

  /// Whether H has a condition number, as its pivots show it, of less than `limit`: of use where nothing regularises it.
  template <class Team>
  MaskOf<F> well_conditioned(const Team& team, double limit) const {
    const auto pivot = [&](int i) { return H_[problem_.diagonal() ? i : i * ld(n_) + i]; };  // 1/h or 1/L_ii
    const F least = team.template smallest<F>(n_, F(1e300), pivot), largest = team.template largest<F>(n_, F(0.0), pivot);
    return least * limit > largest;
  }

  /// Whether Q is positive semidefinite up to rounding: one factorisation of Q + margin I, whose factors are lost.
  template <class Team>
  MaskOf<T> semidefinite(const Team& team) const {
    const auto diagonal = [&](int i) { return problem_.Q ? T(problem_.Q[i * n_ + i]) : problem_.Q_diagonal[i]; };
    const T size = team.template largest<T>(n_, T(1e-300), [&](int i) { return abs(diagonal(i)); });
    if (!problem_.Q) return team.template smallest<T>(n_, T(1e300), diagonal) >= -problem_.Q_margin * size;
    team.for_each(n_, [&](int i) {
      for (int j = 0; j <= i; ++j) H_[i * ld(n_) + j] = problem_.Q[i * n_ + j];
      H_[i * ld(n_) + i] += problem_.Q_margin * size;
    });
    return dense::cholesky(team, n_, n_, H_, ld(n_)) >= T(0.0);
  }

  /// In place: (r1, r2) becomes (dz, dnu) of (K7).
  template <class Team>
  void solve(const Team& team, T* r1, T* r2) const {
    solve_half(team, r1);  // u = L^-1 r1, with H = L L'
    if (p_) {
      const auto gap = [&](int i, const T& Yu) { r2[i] = Yu - r2[i]; };  // S dnu = A H^-1 r1 - r2   (K10)
      problem_.diagonal() ? dense::multiply(team, p_, n_, problem_.A, n_, r1, gap)
                          : dense::multiply(team, p_, n_, static_cast<const F*>(Y()), ld(n_), r1, gap);
      dense::solve_lower(team, p_, static_cast<const F*>(S_), ldS(), r2);
      dense::solve_lower_transposed(team, p_, static_cast<const F*>(S_), ldS(), r2);
    }
    finish(team, r1, r2);  // H dz = r1 - A' dnu   (K11)
  }

 private:
  static int ld(int columns) { return dense::leading_dimension(columns); }
  static int H_size(const Sizes& sizes, int rows) { return sizes.diagonal() ? sizes.n : (sizes.n + sizes.p + rows) * ld(sizes.n); }
  int ldS() const { return ld(p_ + rows_); }
  F* Y() const { return H_ + n_ * ld(n_); }  // [A; C] L'^-1 [p + rows, n], the rows below L

  /// Row r of [A; C], entry by entry.
  template <class Put>
  void each_entry(int r, const Put& put) const {
    const int g = r - p_ - n_ * problem_.bounds;
    for (int j = 0; j < n_; ++j) put(j, r < p_ ? T(problem_.A[r * n_ + j]) : g < 0 ? T(r - p_ == j ? 1.0 : 0.0) : T(problem_.G[g * n_ + j]));
  }

  T diagonal(const T* w, int i) const {
    return (problem_.Q_diagonal ? problem_.Q_diagonal[i] : T(0.0)) + (w && problem_.bounds ? w[i] : T(0.0));
  }

  /// H_ holds 1/h; S = A diag(1/h) A' + delta I.
  template <class Team>
  void factor_diagonal(const Team& team, const T* w, double regularization, T* scratch) {
    team.for_each(n_, [&](int i) { H_[i] = 1.0 / (diagonal(w, i) + regularization); });
    clear_S(team, regularization);
    if (rows_) {
      team.for_each(p_ + rows_, [&](int r) { each_entry(r, [&](int j, const T& x) { scratch[r * n_ + j] = x * sqrt(H_[j]); }); });
      dense::gram<dense::Inner::along_rows>(team, p_ + rows_, n_, scratch, n_, static_cast<const T*>(scratch), n_, S_, ldS());
    } else {
      dense::scale_columns(team, p_, n_, problem_.A, H_, scratch);
      dense::gram<dense::Inner::along_rows>(team, p_, n_, scratch, n_, problem_.A, n_, S_, ldS());
    }
  }

  /// H_ holds L [n, n] and below it Y = A L'^-1 [p, n]; S = Y Y' + delta I.
  template <class Team>
  void factor_dense(const Team& team, const T* w, double regularization, T* scratch) {
    const int m = problem_.m, l = ld(n_);
    team.for_each(n_, [&](int i) {
      for (int j = 0; j <= i; ++j) H_[i * l + j] = problem_.Q ? T(problem_.Q[i * n_ + j]) : T(0.0);
      H_[i * l + i] += diagonal(w, i) + regularization;
    });
    team.for_each(p_ + rows_, [&](int r) { each_entry(r, [&](int j, const T& x) { Y()[r * l + j] = x; }); });
    if (m && w) {
      dense::scale_rows(team, m, n_, problem_.G, w + n_ * problem_.bounds, scratch);
      dense::gram<dense::Inner::down_columns>(team, n_, m, scratch, n_, problem_.G, n_, H_, l);
    }
    dense::cholesky(team, n_ + p_ + rows_, n_, H_, l);
    clear_S(team, regularization);
    dense::gram<dense::Inner::along_rows>(team, p_ + rows_, n_, static_cast<const T*>(Y()), l, static_cast<const T*>(Y()), l, S_, ldS());
  }

  template <class Team>
  void clear_S(const Team& team, double delta) {
    team.for_each(p_ + rows_, [&](int i) {
      for (int j = 0; j <= i; ++j) S_[i * ldS() + j] = j == i && i < p_ ? delta : 0.0;
    });
  }

  /// S_ holds [A; C] H^-1 [A; C]', its first p columns replaced by L_S and below it V; R = C H^-1 C' - V V'. (K24)
  template <class Team>
  void form_R(const Team& team) {
    F *V = S_ + p_ * ldS(), *R = V + p_;
    dense::gram<dense::Inner::along_rows>(team, rows_, p_, static_cast<const F*>(V), ldS(), static_cast<const F*>(V), ldS(), R, ldS(), -1);
    team.for_each(rows_, [&](int i) {
      for (int j = 0; j < i; ++j) R[j * ldS() + i] = R[i * ldS() + j];
    });
  }

  /// x = L^-1 x; for a diagonal H the whole solve, x = x / h, since its Y is A itself.
  template <class Team>
  void solve_half(const Team& team, T* x) const {
    if (problem_.diagonal())
      team.for_each(n_, [&](int i) { x[i] *= H_[i]; });
    else
      dense::solve_lower(team, n_, static_cast<const F*>(H_), ld(n_), x);
  }

  /// From u of solve_half: dz = L'^-1 (u - Y' dnu).
  template <class Team>
  void finish(const Team& team, T* u, const T* dnu) const {
    if (problem_.diagonal()) {
      if (p_) dense::multiply_transposed(team, p_, n_, problem_.A, n_, dnu, [&](int i, const T& x) { u[i] -= H_[i] * x; });
      return;
    }
    if (p_) dense::multiply_transposed(team, p_, n_, static_cast<const F*>(Y()), ld(n_), dnu, [&](int i, const T& x) { u[i] -= x; });
    dense::solve_lower_transposed(team, n_, static_cast<const F*>(H_), ld(n_), u);
  }

  Problem<T, E> problem_;
  const int n_, p_, rows_;
  F *H_, *S_;
};

}  // namespace optnet
