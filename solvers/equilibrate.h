// Equilibration: an equivalent problem whose matrices have rows and columns of size about 1, for the interior-point
// method, whose regularisation and tolerances are absolute. With z = r D z~,
//     Q~ = c D Q D,  q~ = c D q / r,  A~ = E A D,  b~ = E b / r,  G~ = F G D,  h~ = F h / r                  (K29)
// so that nu = r E nu~ / c, lambda = r F lambda~ / c, s = r s~ / F. Bounds keep the rows of I: their F is 1 / D.
// All factors are powers of 2 and round nothing. After Ruiz, "A scaling algorithm to equilibrate both rows and
// columns norms in matrices" (2001).
#pragma once

#include "solvers/problem.h"

namespace optnet {

/// The factors of one problem or a pack, in `memory` [size()]; D, E and F as in (K29).
template <class T>
struct Scaling {
  T *D, *E, *F, *c, *r;

  Scaling(T* memory, const Sizes& sizes) : D(memory), E(D + sizes.n), F(E + sizes.p), c(F + sizes.m), r(c + 1) {}
  static int size(const Sizes& sizes) { return sizes.n + sizes.p + sizes.m + 2; }

  /// F of a row of C, the bounds' included.
  T row(const Sizes& sizes, int i) const { return !sizes.bounds ? F[i] : i < sizes.n ? 1.0 / D[i] : F[i - sizes.n]; }
};

/// A problem's matrices, to be scaled in place. Q or Q_diagonal is null.
template <class E>
struct Matrices {
  E *Q, *Q_diagonal, *A, *G;
};

namespace detail {

/// 2^-k with 4^k about x; 1 for 0.
inline double inverse_root_power(double x) { return x > 0 ? std::ldexp(1.0, -std::ilogb(x) / 2) : 1; }
inline double power(double x) { return x > 0 ? std::ldexp(1.0, std::ilogb(x)) : 1; }

template <class T, class F>
T each_lane(const T& x, const F& f) {
  T out = x;
  for (int l = 0; l < lanes_of<T>; ++l) set_lane(out, l, f(lane(x, l)));
  return out;
}

/// x = x / its geometric mean over what is not 0.
template <class E>
void divide_by_mean(int count, E* x) {
  for (int l = 0; l < lanes_of<E>; ++l) {
    int sum = 0, terms = 0;
    for (int j = 0; j < count; ++j)
      if (lane(x[j], l) > 0 && std::isfinite(lane(x[j], l))) sum += std::ilogb(lane(x[j], l)), ++terms;
    const double factor = std::ldexp(1.0, terms ? -sum / terms : 0);
    for (int j = 0; j < count; ++j) set_lane(x[j], l, factor * lane(x[j], l));
  }
}

/// rows[r] = max over j of |M_rj|, and columns[j] at least max over r. M [count, n]
template <class E>
void measure(int count, int n, const E* M, E* rows, E* columns) {
  for (int r = 0; r < count; ++r) {
    rows[r] = 0.0;
    for (int j = 0; j < n; ++j) {
      const E x = abs(M[r * n + j]);
      rows[r] = max(rows[r], x), columns[j] = max(columns[j], x);
    }
  }
}

/// M = diag(left) M diag(right)
template <class E>
void scale(int count, int n, E* M, const E* left, const E* right) {
  for (int r = 0; r < count; ++r)
    for (int j = 0; j < n; ++j) M[r * n + j] *= left[r] * right[j];
}

}  // namespace detail

/// Scales the matrices by D, E and F as they stand. (c is left to those who multiply by Q.)
template <class E>
void scale(const Sizes& sizes, const Matrices<E>& matrices, const Scaling<E>& by) {
  const int n = sizes.n, p = sizes.p, m = sizes.m;
  if (matrices.Q) detail::scale(n, n, matrices.Q, by.D, by.D);
  for (int i = 0; matrices.Q_diagonal && i < n; ++i) matrices.Q_diagonal[i] *= by.D[i] * by.D[i];
  if (matrices.A) detail::scale(p, n, matrices.A, by.E, by.D);
  if (matrices.G) detail::scale(m, n, matrices.G, by.F, by.D);
}

/// Finds D, E and F and scales the matrices by them. `step` [Scaling::size()] is working memory.
template <class E>
void equilibrate(const Sizes& sizes, const Matrices<E>& matrices, const Scaling<E>& total, const Scaling<E>& step) {
  const int n = sizes.n, p = sizes.p, m = sizes.m;
  const int all = n + p + m;  // D, E and F lie behind each other
  for (int i = 0; i < all; ++i) total.D[i] = 1.0;
  for (int sweep = 0; sweep < 8; ++sweep) {
    for (int j = 0; j < n; ++j) step.D[j] = matrices.Q_diagonal ? abs(matrices.Q_diagonal[j]) : E(0.0);
    for (int i = 0; matrices.Q && i < n * n; ++i) step.D[i / n] = max(step.D[i / n], abs(matrices.Q[i]));
    detail::divide_by_mean(n, step.D);  // the objective's unit says nothing about the variables'
    if (matrices.A) detail::measure(p, n, matrices.A, step.E, step.D);
    if (matrices.G) detail::measure(m, n, matrices.G, step.F, step.D);
    for (int i = 0; i < all; ++i) step.D[i] = detail::each_lane(step.D[i], detail::inverse_root_power), total.D[i] *= step.D[i];
    scale(sizes, matrices, step);
  }
}

}  // namespace optnet
