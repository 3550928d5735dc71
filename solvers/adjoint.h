// The backward pass of the interior-point method: the adjoint system of one problem or a pack, solved with the factors of
// the forward pass. (The active-set method's is ActiveSet::solve_active.) docs/optnet.md, section 6.
#pragma once

#include "solvers/kkt.h"

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

/// In: seeds v; out: the derivatives d. The factors are those of the regularised system; one step of refinement takes
/// regularisation and rounding back out.
template <class T, class E, class Team = OneThread>
class Adjoint {
 public:
  Adjoint(const Problem<T, E>& problem, T* factors, Workspace<T>& memory, Team team = {})
      : P(problem), kkt_(problem, factors), team_(team), n_(problem.n), p_(problem.p), k_(problem.sides()) {
    for (T** x : {&vz, &dz, &r1_}) *x = memory.take(n_);
    for (T** x : {&vnu, &dnu, &r2_}) *x = memory.take(p_);
    for (T** x : {&v, &dlambda, &s, &lambda, &r3_, &w_}) *x = memory.take(k_);
  }

  void solve() {
    team_.for_each(k_, [&](int i) { w_[i] = backward_weight(s[i], lambda[i]), dlambda[i] = 0.0; });
    team_.for_each(n_, [&](int i) { dz[i] = 0.0; });
    team_.for_each(p_, [&](int i) { dnu[i] = 0.0; });
    for (int round = 0; round < 2; ++round) correct();
  }

  T *vz, *vnu, *v, *dz, *dnu, *dlambda, *s, *lambda;

 private:
  /// Adds the solution for what is left of (K18) and of (K19), the latter in the form dlambda = w (C dz + v + delta dlambda).
  void correct() {
    P.multiply_Q(team_, dz, [&](int i, const T& Qdz) { r1_[i] = -vz[i] - Qdz; });
    P.multiply_sides_transposed(team_, dlambda, [&](int i, const T& Cdl) { r1_[i] -= Cdl; });
    if (p_) {
      dense::multiply_transposed(team_, p_, n_, P.A, n_, dnu, [&](int i, const T& Adnu) { r1_[i] -= Adnu; });
      dense::multiply(team_, p_, n_, P.A, n_, dz, [&](int i, const T& Adz) { r2_[i] = -vnu[i] - Adz; });
    }
    P.multiply_sides(team_, dz, [&](int i, const T& Cdz) { r3_[i] = w_[i] * (Cdz + v[i] + backward_delta * dlambda[i]) - dlambda[i]; });
    P.multiply_sides_transposed(team_, r3_, [&](int i, const T& Cr) { r1_[i] -= Cr; });
    kkt_.solve(team_, r1_, r2_);
    P.multiply_sides(team_, r1_, [&](int i, const T& Cr) { dlambda[i] += w_[i] * Cr + r3_[i]; });
    team_.for_each(n_, [&](int i) { dz[i] += r1_[i]; });
    team_.for_each(p_, [&](int i) { dnu[i] += r2_[i]; });
  }

  const Problem<T, E> P;
  const Kkt<T, E> kkt_;
  const Team team_;
  const int n_, p_, k_;
  T *r1_, *r2_, *r3_, *w_;
};

}  // namespace optnet
