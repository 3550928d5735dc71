// The Newton system of the interior-point method in all of its unknowns, condensed to (K7) and back: what the
// predictor, the corrector and the backward pass solve. Equation numbers are those of docs/optnet.md.
#pragma once

#include "solvers/kkt.h"

namespace optnet {

template <class T, class E, class Team = OneThread>
class Newton {
 public:
  /// `factors` [size()] can be kept, and handed to another Newton to solve again after set_weights().
  Newton(const Problem<T, E>& problem, T* factors, double regularization, Workspace<T>& memory, Team team = {})
      : P(problem), kkt_(problem, factors, path(problem).carry), regularization_(least(problem, regularization)), team_(team), n_(problem.n), p_(problem.p),
        rows_(problem.rows()), first_(path(problem).carry == Carry::G ? rows_ - problem.m : rows_), carried_(rows_ - first_) {
    for (T** x : {&b1_, &e1_}) *x = memory.take(n_);
    for (T** x : {&dy_, &b2_, &e2_}) *x = memory.take(p_ + carried_);
    for (T** x : {&W_, &t_, &Cdz_, &row_}) *x = memory.take(rows_);
    scratch_ = memory.take(Kkt<T, E>::scratch_size(problem, path(problem).carry));
  }

  static int size(const Sizes& sizes) { return Kkt<T, E>::size(sizes, path(sizes).carry); }

  /// rho and delta. Where G is in H, 1/delta and rho stand in one matrix, and digits enough must lie between.
  double regularization() const { return regularization_; }

  /// Whether Q is positive semidefinite up to rounding. Destroys the factors.
  MaskOf<T> semidefinite() const { return kkt_.semidefinite(team_); }

  /// w [sides]: how much of C dz each side answers with, dlambda = w C dz + t. A row's weight is the sum of its sides'.
  void set_weights(const T* w) {
    w_ = w;
    const int high = P.high_side();
    team_.for_each(rows_, [&](int i) { W_[i] = P.low && P.high ? w[i] + w[high + i] : w[i]; });
  }
  void factor(const T* w) {
    set_weights(w);
    kkt_.factor(team_, W_, regularization_, scratch_);
    loses_digits_ = kkt_.largest_inverse_pivot(team_) > T(1e4);
  }

  /// In place: (r1, r2, t) becomes (dz, dnu, dlambda) of
  ///     (Q + rho I) dz + A'dnu + C'dlambda = r1,   A dz - delta dnu = r2,   dlambda = w C dz + t                  (K6)
  void solve(T* r1, T* r2, T* t) {
    const int high = P.high_side();
    team_.for_each(rows_, [&](int i) { t_[i] = P.low ? (P.high ? t[high + i] - t[i] : -t[i]) : t[i]; });
    right_hand_side(r1, r2);
    team_.for_each(n_, [&](int i) { r1[i] = b1_[i]; });
    team_.for_each(p_ + carried_, [&](int i) { dy_[i] = b2_[i]; });
    kkt_.solve(team_, r1, dy_);
    if (any(loses_digits_)) refine(r1);
    team_.for_each(p_, [&](int i) { r2[i] = dy_[i]; });
    rows_of_step(r1);
    team_.for_each(rows_, [&](int i) {
      if (P.low) t[i] -= w_[i] * Cdz_[i];
      if (P.high) t[high + i] += w_[high + i] * Cdz_[i];
    });
  }

  /// (C dz)_i of the solution, as the condensed system sees it.
  const T& row(int i) const { return Cdz_[i]; }

 private:
  static double least(const Sizes& sizes, double given) { return sizes.m > 0 && path(sizes).carry == Carry::none && given < 1e-7 ? 1e-7 : given; }

  /// b1 = r1 - C't without the carried rows, b2 = (r2, -t / w of the carried rows). (K8)
  void right_hand_side(const T* r1, const T* r2) {
    team_.for_each(rows_, [&](int i) { row_[i] = i < first_ ? t_[i] : T(0.0); });
    if (carried_ == 0)
      P.multiply_rows_transposed(team_, row_, [&](int i, const T& Ct) { b1_[i] = r1[i] - Ct; });
    else
      team_.for_each(n_, [&](int i) { b1_[i] = P.bounds ? r1[i] - t_[i] : r1[i]; });
    team_.for_each(p_, [&](int i) { b2_[i] = r2[i]; });
    team_.for_each(carried_, [&](int i) { b2_[p_ + i] = -t_[first_ + i] * inverse_weight(first_ + i); });
  }
  T inverse_weight(int i) const { return 1.0 / max(W_[i], T(1e-200)); }

  /// One step of iterative refinement: where rows meet directions in which H is no more than rho, a solve by way of S
  /// loses the digits that H^-1 has gained.
  void refine(T* dz) {
    P.multiply_Q(team_, dz, [&](int i, const T& Qdz) { e1_[i] = b1_[i] - Qdz - regularization_ * dz[i]; });
    if (rows_) {
      P.multiply_rows(team_, dz, [&](int i, const T& Cdz) {
        row_[i] = i < first_ ? W_[i] * Cdz : dy_[p_ + i - first_];
        if (i >= first_) e2_[p_ + i - first_] = b2_[p_ + i - first_] + Kkt<T, E>::D(W_[i], regularization_) * row_[i] - Cdz;
      });
      P.multiply_rows_transposed(team_, row_, [&](int i, const T& x) { e1_[i] -= x; });
    }
    if (p_) {
      dense::multiply_transposed(team_, p_, n_, P.A, n_, dy_, [&](int i, const T& Adnu) { e1_[i] -= Adnu; });
      dense::multiply(team_, p_, n_, P.A, n_, dz, [&](int i, const T& Adz) { e2_[i] = b2_[i] + regularization_ * dy_[i] - Adz; });
    }
    kkt_.solve(team_, e1_, e2_);
    team_.for_each(n_, [&](int i) { dz[i] = select(loses_digits_, dz[i] + e1_[i], dz[i]); });
    team_.for_each(p_ + carried_, [&](int i) { dy_[i] = select(loses_digits_, dy_[i] + e2_[i], dy_[i]); });
  }

  /// C dz; of carried rows from their duals, dy = w C dz + t, as w times the rounding of C dz would drown dlambda.
  void rows_of_step(const T* dz) {
    if (carried_ == 0)
      P.multiply_rows(team_, dz, [&](int i, const T& Cdz) { Cdz_[i] = Cdz; });
    else
      team_.for_each(first_, [&](int i) { Cdz_[i] = dz[i]; });
    team_.for_each(carried_, [&](int i) { Cdz_[first_ + i] = (dy_[p_ + i] - t_[first_ + i]) * inverse_weight(first_ + i); });
  }

  const Problem<T, E> P;
  Kkt<T, E> kkt_;
  const double regularization_;
  const Team team_;
  const int n_, p_, rows_, first_, carried_;  // rows of C; the first one carried, and how many are
  const T* w_ = nullptr;
  MaskOf<T> loses_digits_ = T(0.0) < T(1.0);  // whether H^-1 is so large that solves need refinement
  T *b1_, *e1_, *dy_, *b2_, *e2_, *W_, *t_, *Cdz_, *row_, *scratch_;
};

}  // namespace optnet
