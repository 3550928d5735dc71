// The Newton system of the interior-point method, factored once and solved for the predictor, the corrector and
// the backward pass:
//     [ H   A'  ] [ dz  ]   [ r1 ]        H = Q + C'WC + rho I,   W = diag(lambda / s)              (K7)
//     [ A  -dI  ] [ dnu ] = [ r2 ]
// H is eliminated first, S = A H^-1 A' + delta I after it (K9). rho and delta are small: they make singular Q
// and dependent rows of A ordinary, and vanish from the answer, because the right-hand sides are the residuals
// of the original problem (docs/optnet.md).
//
//     case        factor, flops                            when
//     diagonal    p^2 n + p^3/3                            Q diagonal or scalar and only bounds
//     dense       n^2 m + n^3/3 + p n^2 + p^2 n + p^3/3    otherwise
#pragma once

#include "solvers/problem.h"

namespace optnet {

template <class T, class E>
class Kkt {
 public:
  /// `factors` [size()] holds the factorisation; it can be kept, and handed to another Kkt to solve again.
  Kkt(const Problem<T, E>& problem, T* factors) : problem_(problem), H_(factors), S_(factors + H_size(problem.n, problem.p, problem.diagonal())) {}

  static int size(int n, int p, bool diagonal) { return H_size(n, p, diagonal) + p * ld(p); }
  /// Working memory of factor().
  static int scratch_size(const Problem<T, E>& problem) { return problem.n * (problem.diagonal() ? problem.p : problem.m); }

  /// `w` [sides] holds lambda / s.
  template <class Team>
  void factor(const Team& team, const T* w, double regularization, T* scratch) {
    const int p = problem_.p;
    if (problem_.diagonal())
      factor_diagonal(team, w, regularization, scratch);
    else
      factor_dense(team, w, regularization, scratch);
    dense::cholesky(team, p, p, S_, ld(p));
  }

  /// Whether Q is positive semidefinite up to rounding: one factorisation of Q + margin I, whose factors are lost.
  template <class Team>
  MaskOf<T> semidefinite(const Team& team) const {
    const int n = problem_.n, l = ld(n);
    const auto diagonal = [&](int i) { return problem_.Q ? T(problem_.Q[i * n + i]) : problem_.Q_diagonal[i]; };
    const T size = team.template largest<T>(n, T(1e-300), [&](int i) { return abs(diagonal(i)); });
    if (!problem_.Q) return team.template smallest<T>(n, T(1e300), diagonal) >= -problem_.Q_margin * size;
    team.for_each(n, [&](int i) {
      for (int j = 0; j <= i; ++j) H_[i * l + j] = problem_.Q[i * n + j];
      H_[i * l + i] += problem_.Q_margin * size;
    });
    return dense::cholesky(team, n, n, H_, l) >= T(0.0);
  }

  /// In place: (r1, r2) becomes (dz, dnu) of (K7).
  template <class Team>
  void solve(const Team& team, T* r1, T* r2) const {
    const int n = problem_.n, p = problem_.p;
    solve_half(team, r1);  // u = L^-1 r1, with H = L L'
    if (p) {
      const auto gap = [&](int i, const T& Yu) { r2[i] = Yu - r2[i]; };  // S dnu = A H^-1 r1 - r2   (K10)
      problem_.diagonal() ? dense::multiply(team, p, n, problem_.A, n, r1, gap)
                          : dense::multiply(team, p, n, static_cast<const T*>(Y()), ld(n), r1, gap);
      dense::solve_lower(team, p, S_, ld(p), r2);
      dense::solve_lower_transposed(team, p, S_, ld(p), r2);
    }
    finish(team, r1, r2);  // H dz = r1 - A' dnu   (K11)
  }

 private:
  static int ld(int columns) { return dense::leading_dimension(columns); }
  static int H_size(int n, int p, bool diagonal) { return diagonal ? n : (n + p) * ld(n); }
  T* Y() const { return H_ + problem_.n * ld(problem_.n); }  // A L'^-1 [p, n], the rows below L

  /// The bounds' part of (C'WC)_ii.
  T bound_weight(const T* w, int i) const {
    const int n = problem_.n;
    return (problem_.has_lower ? w[i] : T(0.0)) + (problem_.has_upper ? w[n * problem_.has_lower + i] : T(0.0));
  }

  /// H_ holds 1/h; S = A diag(1/h) A' + delta I.
  template <class Team>
  void factor_diagonal(const Team& team, const T* w, double regularization, T* scratch) {
    const int n = problem_.n, p = problem_.p;
    team.for_each(n, [&](int i) { H_[i] = 1.0 / (problem_.Q_diagonal[i] + bound_weight(w, i) + regularization); });
    clear_S(team, regularization);
    dense::scale_columns(team, p, n, problem_.A, H_, scratch);
    dense::gram(team, p, n, scratch, problem_.A, n, S_, ld(p));
  }

  /// H_ holds L [n, n] and below it Y = A L'^-1 [p, n]; S = Y Y' + delta I.
  template <class Team>
  void factor_dense(const Team& team, const T* w, double regularization, T* scratch) {
    const int n = problem_.n, m = problem_.m, p = problem_.p, l = ld(n);
    team.for_each(n, [&](int i) {
      for (int j = 0; j <= i; ++j) H_[i * l + j] = problem_.Q ? T(problem_.Q[i * n + j]) : T(0.0);
      H_[i * l + i] += (problem_.Q_diagonal ? problem_.Q_diagonal[i] : T(0.0)) + bound_weight(w, i) + regularization;
    });
    team.for_each(p, [&](int i) {
      for (int j = 0; j < n; ++j) Y()[i * l + j] = problem_.A[i * n + j];
    });
    if (m) {
      dense::scale_columns(team, n, m, problem_.Gt, w + problem_.sides() - m, scratch);
      dense::gram(team, n, m, scratch, problem_.Gt, m, H_, l);
    }
    dense::cholesky(team, n + p, n, H_, l);
    clear_S(team, regularization);
    dense::gram(team, p, n, static_cast<const T*>(Y()), static_cast<const T*>(Y()), l, S_, ld(p));
  }

  template <class Team>
  void clear_S(const Team& team, double delta) {
    team.for_each(problem_.p, [&](int i) {
      for (int j = 0; j <= i; ++j) S_[i * ld(problem_.p) + j] = j == i ? delta : 0.0;
    });
  }

  /// x = L^-1 x; for a diagonal H the whole solve, x = x / h, since its Y is A itself.
  template <class Team>
  void solve_half(const Team& team, T* x) const {
    const int n = problem_.n;
    if (problem_.diagonal())
      team.for_each(n, [&](int i) { x[i] *= H_[i]; });
    else
      dense::solve_lower(team, n, H_, ld(n), x);
  }

  /// From u of solve_half: dz = L'^-1 (u - Y' dnu).
  template <class Team>
  void finish(const Team& team, T* u, const T* dnu) const {
    const int n = problem_.n, p = problem_.p;
    if (problem_.diagonal()) {
      if (p) dense::multiply_transposed(team, p, n, problem_.A, n, dnu, [&](int i, const T& x) { u[i] -= H_[i] * x; });
      return;
    }
    if (p) dense::multiply_transposed(team, p, n, static_cast<const T*>(Y()), ld(n), dnu, [&](int i, const T& x) { u[i] -= x; });
    dense::solve_lower_transposed(team, n, H_, ld(n), u);
  }

  Problem<T, E> problem_;
  T *H_, *S_;
};

}  // namespace optnet
