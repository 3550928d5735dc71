// Certificates that a problem has no solution: when an iterate diverges, it or its step tends to one. Here it is judged whether a
// candidate proves it, and a candidate that nearly does is made a better one. Equation numbers are those of docs/optnet.md.
#pragma once

#include "solvers/newton.h"

namespace optnet {

template <class T, class E, class Team>
class Certificate {
 public:
  Certificate(const Problem<T, E>& problem, Newton<T, E, Team>& newton, Workspace<T>& memory, Team team)
      : P(problem), newton_(newton), team_(team), n_(problem.n), p_(problem.p), k_(problem.sides()) {
    for (T** x : {&z, &rest_}) *x = memory.take(n_);
    for (T** x : {&nu, &nu_rest_}) *x = memory.take(p_);
    for (T** x : {&lambda, &lambda_rest_}) *x = memory.take(k_);
  }

  T *z, *nu, *lambda;  // the candidate [n]; or another [p], [sides]: to be filled in, and after a proof the certificate

  /// Of the lanes `asked` for, those where (nu, lambda) proves that no z satisfies the constraints.
  MaskOf<T> primal(const MaskOf<T>& asked) {
    MaskOf<T> proved = T(1.0) < T(0.0);
    drop_common_part();
    const MaskOf<T> large = max(dense::norm(team_, p_, nu), dense::norm(team_, k_, lambda)) > T(least);
    if (!any(asked & large)) return proved;
    const MaskOf<T> near = no_point(roughly) & asked & large;
    for (int round = 0; round < 2 && any(near & !proved); ++round) {  // a Newton step on A'nu + C'lambda = 0 alone
      team_.for_each(n_, [&](int i) { rest_[i] = -rest_[i]; });
      team_.for_each(p_, [&](int i) { nu_rest_[i] = 0.0; });
      team_.for_each(k_, [&](int i) { lambda_rest_[i] = 0.0; });
      newton_.solve(rest_, nu_rest_, lambda_rest_);
      team_.for_each(p_, [&](int i) { nu[i] = select(proved, nu[i], nu[i] + nu_rest_[i]); });
      team_.for_each(k_, [&](int i) { lambda[i] = select(proved, lambda[i], P.mask[i] * max(lambda[i] + lambda_rest_[i], T(0.0))); });
      proved = proved | (no_point(exactly) & near);
    }
    return proved;
  }

  /// Of the lanes `asked` for, those where z proves that the objective has no lowest value, if there is any point at all.
  MaskOf<T> dual(const MaskOf<T>& asked) {
    MaskOf<T> proved = T(1.0) < T(0.0);
    const MaskOf<T> large = dense::norm(team_, n_, z) > T(least);
    if (!any(asked & large)) return proved;
    const MaskOf<T> near = no_end(roughly) & asked & large;
    for (int round = 0; round < 3 && any(near & !proved); ++round) {
      proved = proved | (no_end(exactly) & near);
      P.multiply_Q(team_, z, [&](int i, const T& Qz) { rest_[i] = -Qz; });
      if (p_) dense::multiply(team_, p_, n_, P.A, n_, z, [&](int i, const T& Az) { nu_rest_[i] = -Az; });
      team_.for_each(k_, [&](int i) { lambda_rest_[i] = 0.0; });
      newton_.solve(rest_, nu_rest_, lambda_rest_);
      team_.for_each(n_, [&](int i) { z[i] = select(proved, z[i], z[i] + rest_[i]); });
    }
    return proved;
  }

 private:
  static constexpr double least = 100;  // what diverges is soon larger than this
  static constexpr double roughly = 1e-2, exactly = 1e-8;

  /// What the two sides of a row have in common proves nothing, as it adds high - low >= 0 to the value; and digits drown in it.
  void drop_common_part() {
    if (!P.low || !P.high) return;
    const int high = P.high_side();
    team_.for_each(P.rows(), [&](int i) {
      const T common = min(lambda[i], lambda[high + i]);
      lambda[i] -= common, lambda[high + i] -= common;
    });
  }

  /// A'nu + C'lambda = 0 with b'nu + d'lambda < 0: no z of moderate size can satisfy the constraints (K16). Leaves A'nu + C'lambda
  /// in rest_.
  MaskOf<T> no_point(double tolerance) {
    const T value = dense::dot(team_, p_, P.b, nu) + dense::dot(team_, k_, P.d, lambda), size = max(dense::norm(team_, p_, nu), dense::norm(team_, k_, lambda));
    P.multiply_sides_transposed(team_, lambda, [&](int i, const T& Cl) { rest_[i] = Cl; });
    if (p_) dense::multiply_transposed(team_, p_, n_, P.A, n_, nu, [&](int i, const T& Anu) { rest_[i] += Anu; });
    return proves(value, dense::norm(team_, n_, rest_), size, tolerance);
  }

  /// Q z = 0, A z = 0, C z <= 0 with q'z < 0: along z the objective falls for ever. (K17)
  MaskOf<T> no_end(double tolerance) const {
    T rest = 0.0;
    const auto add = [&](int, const T& x) { rest = max(rest, abs(x)); };  // one lane's largest: loops here run in order
    P.multiply_Q(OneThread{}, z, add);
    if (p_) dense::multiply(OneThread{}, p_, n_, P.A, n_, z, add);
    P.multiply_sides(OneThread{}, z, [&](int i, const T& Cz) { rest = max(rest, P.mask[i] * Cz); });
    return proves(dense::dot(team_, n_, P.q, z), rest, dense::norm(team_, n_, z), tolerance);
  }

  /// The rest must vanish beside the value, and beside the certificate itself: large data alone prove nothing.
  static MaskOf<T> proves(const T& value, const T& rest, const T& size, double tolerance) {
    return (value < -1e-8 * size) & (rest <= -tolerance * value) & (rest <= tolerance * size);
  }

  const Problem<T, E> P;
  Newton<T, E, Team>& newton_;
  const Team team_;
  const int n_, p_, k_;
  T *rest_, *nu_rest_, *lambda_rest_;
};

}  // namespace optnet
