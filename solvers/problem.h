// Problem: what one team solves, a QP (or a pack of QPs) in standard form,
//     minimise 1/2 z'Qz + q'z   subject to   A z = b,   C z <= d,        (K1) of docs/optnet.md
// where C stacks all inequality sides: lower bounds (-I), upper bounds (I), rows of G. A side that is infinite
// in some element is masked: its slack stays 1, its dual 0, and it counts nowhere.
#pragma once

#include "solvers/dense.h"

namespace optnet {

/// delta of the sides in the backward pass. There w = 1/delta for an active side, and dlambda = w (C dz) loses as many
/// digits as w has; at 1e-8, a step of refinement restores them all.
inline constexpr double backward_delta = 1e-8;

/// W of (K18), lambda^2 / (s^2 + delta lambda^2), in a form in which no square overflows.
template <class T>
T backward_weight(const T& s, const T& lambda) {
  const T ratio = s / lambda;
  return 1.0 / (ratio * ratio + backward_delta);
}

/// E is the type of the matrices' entries: double where the batch shares Q, G and A, else T.
template <class T, class E>
struct Problem {
  int n = 0, p = 0, m = 0;             // variables, equalities, rows of G
  bool has_lower = false, has_upper = false;
  const E* Q = nullptr;                // [n, n], or null if Q is diagonal
  const T* Q_diagonal = nullptr;       // [n], or null
  double Q_margin = 1e-9;              // how far below 0, relative to Q, rounding may take its eigenvalues
  const E* A = nullptr;                // [p, n]
  const E* Gt = nullptr;               // [n, m]: G', so that gram() runs along rows
  const T *q = nullptr, *b = nullptr;  // [n], [p]
  const T *d = nullptr, *mask = nullptr;  // [sides]: right-hand sides, and 1 where they are finite, else 0

  int sides() const { return n * (has_lower + has_upper) + m; }
  bool diagonal() const { return Q_diagonal && m == 0; }  // whether H will be

  /// f(i, (Q x)_i)
  template <class Team, class F>
  void multiply_Q(const Team& team, const T* x, const F& f) const {
    if (Q_diagonal)
      team.for_each(n, [&](int i) { f(i, Q_diagonal[i] * x[i]); });
    else
      dense::multiply(team, n, n, Q, n, x, f);
  }

  /// f(i, (C x)_i) over all sides
  template <class Team, class F>
  void multiply_C(const Team& team, const T* x, const F& f) const {
    int at = 0;
    if (has_lower) team.for_each(n, [&](int i) { f(i, -x[i]); }), at += n;
    if (has_upper) team.for_each(n, [&](int i) { f(at + i, x[i]); }), at += n;
    if (m) dense::multiply_transposed(team, n, m, Gt, m, x, [&](int i, const T& y) { f(at + i, y); });
  }

  /// f(i, (C' y)_i) over all variables
  template <class Team, class F>
  void multiply_C_transposed(const Team& team, const T* y, const F& f) const {
    const T* lower = has_lower ? y : nullptr;
    const T* upper = has_upper ? y + n * has_lower : nullptr;
    const auto bounds = [=](int i) { return (upper ? upper[i] : T(0.0)) - (lower ? lower[i] : T(0.0)); };
    if (m)
      dense::multiply(team, n, m, Gt, m, y + n * (has_lower + has_upper), [&](int i, const T& x) { f(i, bounds(i) + x); });
    else
      team.for_each(n, [&](int i) { f(i, bounds(i)); });
  }
};

}  // namespace optnet
