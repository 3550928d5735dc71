// The backward pass of the interior-point method: the adjoint system of one problem or a pack, solved with the factors of
// the forward pass. (The active-set method's is ActiveSet::solve_active.) docs/optnet.md, section 6.
#pragma once

#include "solvers/equilibrate.h"
#include "solvers/newton.h"

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
  Adjoint(const Problem<T, E>& problem, T* factors, double regularization, Workspace<T>& memory, Team team = {})
      : P(problem), newton_(problem, factors, regularization, memory, team), team_(team), n_(problem.n), p_(problem.p), k_(problem.sides()) {
    for (T** x : {&vz, &dz, &r1_}) *x = memory.take(n_);
    for (T** x : {&vnu, &dnu, &r2_}) *x = memory.take(p_);
    for (T** x : {&v, &dlambda, &s, &lambda, &r3_, &w_}) *x = memory.take(k_);
  }

  /// In and out are those of the given problem, which `by` has scaled.
  void solve(const Scaling<T>& by) {
    const T c = *by.c, inverse_c = 1.0 / c;
    team_.for_each(n_, [&](int i) { vz[i] *= c * by.D[i]; });
    team_.for_each(p_, [&](int i) { vnu[i] *= by.E[i]; });
    team_.for_each(k_, [&](int i) {
      const T row = by.row(P, i % P.rows());
      v[i] *= row, s[i] = select(P.mask[i] > T(0.0), s[i] * row, T(1.0)), lambda[i] *= c / row;
    });
    solve_scaled();
    team_.for_each(n_, [&](int i) { dz[i] *= by.D[i]; });
    team_.for_each(p_, [&](int i) { dnu[i] *= by.E[i] * inverse_c; });
    team_.for_each(k_, [&](int i) { dlambda[i] *= by.row(P, i % P.rows()) * inverse_c; });
  }

  T *vz, *vnu, *v, *dz, *dnu, *dlambda, *s, *lambda;

 private:
  void solve_scaled() {
    team_.for_each(k_, [&](int i) { w_[i] = backward_weight(s[i], lambda[i]), dlambda[i] = 0.0; });
    newton_.set_weights(w_);
    team_.for_each(n_, [&](int i) { dz[i] = 0.0; });
    team_.for_each(p_, [&](int i) { dnu[i] = 0.0; });
    for (int round = 0; round < 2; ++round) correct();
  }

  /// Adds the solution for what is left of (K18) and of (K19), the latter in the form dlambda = w (C dz + v + delta dlambda).
  void correct() {
    P.multiply_Q(team_, dz, [&](int i, const T& Qdz) { r1_[i] = -vz[i] - Qdz; });
    P.multiply_sides_transposed(team_, dlambda, [&](int i, const T& Cdl) { r1_[i] -= Cdl; });
    if (p_) {
      dense::multiply_transposed(team_, p_, n_, P.A, n_, dnu, [&](int i, const T& Adnu) { r1_[i] -= Adnu; });
      dense::multiply(team_, p_, n_, P.A, n_, dz, [&](int i, const T& Adz) { r2_[i] = -vnu[i] - Adz; });
    }
    P.multiply_sides(team_, dz, [&](int i, const T& Cdz) { r3_[i] = w_[i] * (Cdz + v[i] + backward_delta * dlambda[i]) - dlambda[i]; });
    newton_.solve(r1_, r2_, r3_);
    team_.for_each(k_, [&](int i) { dlambda[i] += r3_[i]; });
    team_.for_each(n_, [&](int i) { dz[i] += r1_[i]; });
    team_.for_each(p_, [&](int i) { dnu[i] += r2_[i]; });
  }

  const Problem<T, E> P;
  Newton<T, E, Team> newton_;
  const Team team_;
  const int n_, p_, k_;
  T *r1_, *r2_, *r3_, *w_;
};

}  // namespace optnet
