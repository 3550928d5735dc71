// Mehrotra's predictor-corrector method (1992) on one problem or a pack of them. Every problem has its own step,
// its own stopping and its own status; a lane that is done is frozen, and nothing in it depends on its
// neighbours. Equation numbers are those of docs/optnet.md.
#pragma once

#include "solvers/adjoint.h"
#include "solvers/certificate.h"
#include "solvers/equilibrate.h"

#include <cstdio>

namespace optnet {

template <class T, class E, class Team = OneThread>
class InteriorPoint : public Iterate<T> {
 public:
  /// `problem` has been scaled by `scaling`.
  InteriorPoint(const Problem<T, E>& problem, const Scaling<T>& scaling, const QPOptions& options, Workspace<T>& memory, Team team = {})
      : P(problem), scaling_(scaling), options_(options), team_(team), n_(problem.n), p_(problem.p), k_(problem.sides()),
        factors_(memory.take(Newton<T, E>::size(problem))), newton_(problem, factors_, options.regularization, memory, team),
        certificate_(problem, newton_, memory, team) {
    for (T** x : {&z, &rd_, &dz_, &Qz_, &z_unit_, &rd_size_}) *x = memory.take(n_);
    for (T** x : {&nu, &re_, &dnu_, &nu_unit_, &b_unit_}) *x = memory.take(p_);
    for (T** x : {&s, &lambda, &rp_, &ds_, &dlambda_, &rc_, &w_, &inverse_, &s_unit_, &d_unit_}) *x = memory.take(k_);
  }

  /// With `warm`, from z, nu and lambda as they stand, in the given problem's units. `problems` are the lanes' numbers in the batch.
  void solve(const std::int64_t* problems, bool warm = false) {
    measure_data();
    finish(!newton_.semidefinite(), QPStatus::numerical, 0);
    const MaskOf<T> crossed = bounds_cross();
    finish(crossed, QPStatus::primal_infeasible, 0);
    warm ? start_warm() : start();
    if (any(crossed)) certify_crossed(crossed);
    for (int iteration = 0;; ++iteration) {
      residuals();
      judge(iteration);
      if (!any(running_)) break;
      factor();

      each_side([&](int i) { rc_[i] = s[i] * lambda[i]; });           // predictor: aim at mu = 0
      direction();
      const T longest = longest_step(), share = mu_after(longest) / max(mu_, T(1e-300));
      const MaskOf<T> stalled = (mu_ > 0.5 * past_mu_[1]) | (longest < T(1e-4));  // then the second-order term leads in circles,
      const T sigma = select(stalled, T(0.3), share * share * share);  // (K13)    // or far away: a plain centred step gets out of it
      const T second = select(stalled, T(0.0), T(1.0));
      past_mu_[1] = past_mu_[0], past_mu_[0] = mu_;

      each_side([&](int i) { rc_[i] = P.mask[i] * (s[i] * lambda[i] + second * ds_[i] * dlambda_[i] - sigma * mu_); });  // (K14)
      direction();
      const T length = min(T(1.0), max(T(0.99), min(1.0 - mu_, T(1 - 1e-6))) * longest_step());
      if (options_.verbose) print(problems, iteration, sigma, length);
      step(length, iteration);
    }
  }

  /// Lanes that failed may hold anything; what leaves here is finite, and nothing that overflowed is solved.
  void clear_what_is_not_finite() {
    const T size = sum_of_sizes(n_, z) + sum_of_sizes(p_, nu) + sum_of_sizes(k_, lambda) + sum_of_sizes(k_, s);
    const T figures = abs(objective) + primal_residual + dual_residual + gap;
    const MaskOf<T> fine = (size < T(1e300)) & (figures < T(1e300));
    for (int l = 0; l < lanes_of<T>; ++l)
      if (!lane(fine, l)) status[l] = QPStatus::numerical;
    team_.for_each(n_, [&](int i) { z[i] = select(fine, z[i], T(0.0)); });
    team_.for_each(p_, [&](int i) { nu[i] = select(fine, nu[i], T(0.0)); });
    each_side([&](int i) { s[i] = select(fine, s[i], T(1.0)), lambda[i] = select(fine, lambda[i], T(0.0)); });
    for (T* figure : {&objective, &primal_residual, &dual_residual, &gap}) *figure = select(abs(*figure) < T(1e300), *figure, T(1e300));
  }

  /// From the scaled problem back to the given one (K29), and certificates to the value -1.
  void unscale() {
    T primal = *scaling_.r, dual = dual_unit_;
    const T farkas = dense::dot(team_, p_, P.b, nu) + dense::dot(team_, k_, P.d, lambda), slope = dense::dot(team_, n_, P.q, z);
    for (int l = 0; l < lanes_of<T>; ++l) {
      const double r = lane(*scaling_.r, l);
      if (status[l] == QPStatus::primal_infeasible) set_lane(dual, l, -1 / (r * lane(farkas, l)));
      if (status[l] == QPStatus::dual_infeasible) set_lane(primal, l, -lane(*scaling_.c, l) / (r * lane(slope, l)));
    }
    team_.for_each(n_, [&](int i) { z[i] *= scaling_.D[i] * primal; });
    team_.for_each(p_, [&](int i) { nu[i] *= scaling_.E[i] * dual; });
    each_side([&](int i) {
      const T row = scaling_.row(P, i % P.rows());
      s[i] = select(P.mask[i] > T(0.0), s_unit_[i] * s[i], T(1.0)), lambda[i] *= row * dual;
    });
    clear_what_is_not_finite();
  }

  /// Factors once more, at the solution, with W of (K18), and returns the factors: what the backward pass solves with.
  const T* factors_at_solution() {
    each_side([&](int i) { w_[i] = backward_weight(s[i], lambda[i]); });
    newton_.factor(w_);
    return factors_;
  }

  using Iterate<T>::z, Iterate<T>::nu, Iterate<T>::s, Iterate<T>::lambda, Iterate<T>::status, Iterate<T>::iterations;
  using Iterate<T>::objective, Iterate<T>::primal_residual, Iterate<T>::dual_residual, Iterate<T>::gap;

 private:
  template <class F>
  void each_side(const F& f) { team_.for_each(k_, f); }

  /// max |unit_i x_i|
  T norm(int count, const T* x, const T* unit) const {
    return team_.template largest<T>(count, T(0.0), [&](int i) { return abs(unit[i] * x[i]); });
  }
  T sum_of_sizes(int count, const T* x) const {
    return team_.template sum<T>(count, [&](int i) { return abs(x[i]); });
  }

  void measure_data() {
    const T r = *scaling_.r;
    dual_unit_ = r / *scaling_.c, objective_unit_ = r * dual_unit_;
    team_.for_each(n_, [&](int i) { z_unit_[i] = dual_unit_ / scaling_.D[i]; });
    team_.for_each(p_, [&](int i) { nu_unit_[i] = r / scaling_.E[i]; });
    each_side([&](int i) { s_unit_[i] = r / scaling_.row(P, i % P.rows()); });
    team_.for_each(p_, [&](int i) { b_unit_[i] = 1.0 / (1.0 + abs(P.b[i])); });
    each_side([&](int i) { d_unit_[i] = 1.0 / (1.0 + abs(P.d[i])); });
    q_size_given_ = 1.0 + norm(n_, P.q, z_unit_);
    bd_size_given_ = 1.0 + max(norm(p_, P.b, nu_unit_), norm(k_, P.d, s_unit_));
    within_ = nearly_within_ = 0.0;
    sides_ = team_.template sum<T>(k_, [&](int i) { return P.mask[i]; });
    past_mu_[0] = past_mu_[1] = 1e300;
    running_ = T(0.0) < T(1.0);
    objective = primal_residual = dual_residual = gap = 0.0;
    for (int i = 0; i < lanes_of<T>; ++i) status[i] = QPStatus::max_iterations, iterations[i] = 0;
  }

  /// Whether low > high somewhere: infeasible, and no certificate need be waited for.
  MaskOf<T> bounds_cross() const {
    if (!P.low || !P.high) return T(1.0) < T(0.0);
    return team_.template smallest<T>(P.rows(), T(0.0), [&](int i) { return width(i); }) < T(0.0);
  }
  T width(int i) const {
    const int high = P.high_side() + i;
    return select((P.mask[i] * P.mask[high]) > T(0.0), P.d[i] + P.d[high], T(0.0));
  }
  /// The certificate of lanes whose limits cross: both sides of the rows that do, alone.
  void certify_crossed(const MaskOf<T>& crossed) {
    team_.for_each(p_, [&](int i) { nu[i] = select(crossed, T(0.0), nu[i]); });
    team_.for_each(P.rows(), [&](int i) {
      for (T* side : {&lambda[i], &lambda[P.high_side() + i]}) *side = select(crossed, max(-width(i), T(0.0)), *side);
    });
  }

  /// Mehrotra's starting point: least squares, then slacks and duals are shifted until they are positive. (K15)
  void start() {
    each_side([&](int i) { w_[i] = P.mask[i], dlambda_[i] = -P.d[i]; });
    newton_.factor(w_);
    team_.for_each(n_, [&](int i) { z[i] = -P.q[i]; });
    team_.for_each(p_, [&](int i) { nu[i] = P.b[i]; });
    newton_.solve(z, nu, dlambda_);
    P.multiply_sides(team_, z, [&](int i, const T& Cz) { s[i] = P.d[i] - Cz; });
    each_side([&](int i) { lambda[i] = -s[i]; });
    shift(s);
    shift(lambda);
    each_side([&](int i) { s[i] = select(P.mask[i] > T(0.0), s[i], T(1.0)), lambda[i] *= P.mask[i]; });
  }

  /// Near an earlier solution: slacks and duals are kept away from 0, or the first step would be short. One beyond all
  /// sense, in a problem of size 1, is none.
  void start_warm() {
    const T r = *scaling_.r;
    team_.for_each(n_, [&](int i) { rd_[i] = z[i] / (r * scaling_.D[i]); });
    team_.for_each(p_, [&](int i) { re_[i] = nu[i] / (dual_unit_ * scaling_.E[i]); });
    each_side([&](int i) { rc_[i] = lambda[i] * P.mask[i] / (dual_unit_ * scaling_.row(P, i % P.rows())); });
    const MaskOf<T> sane = (sum_of_sizes(n_, rd_) + sum_of_sizes(p_, re_) + sum_of_sizes(k_, rc_)) < T(warm_limit);
    if (any(!sane)) start();
    team_.for_each(n_, [&](int i) { z[i] = select(sane, rd_[i], z[i]); });
    team_.for_each(p_, [&](int i) { nu[i] = select(sane, re_[i], nu[i]); });
    P.multiply_sides(team_, z, [&](int i, const T& Cz) { s[i] = select(sane, max(P.d[i] - Cz, T(warm_distance)), s[i]); });
    each_side([&](int i) {
      s[i] = select(P.mask[i] > T(0.0), s[i], T(1.0));
      lambda[i] = select(sane, P.mask[i] * max(rc_[i], T(warm_distance)), lambda[i]);
    });
  }

  void shift(T* x) {
    const T lowest = team_.template smallest<T>(k_, T(1e300), [&](int i) { return select(P.mask[i] > T(0.0), x[i], T(1e300)); });
    const T amount = select(lowest > T(1e-8), T(0.0), 1.0 - lowest);
    each_side([&](int i) { x[i] += amount; });
  }

  /// Residuals and mu at the iterate. (K3)
  void residuals() {
    P.multiply_Q(team_, z, [&](int i, const T& Qz) { Qz_[i] = Qz; });
    P.multiply_sides_transposed(team_, lambda, [&](int i, const T& Cl) {
      rd_[i] = Qz_[i] + P.q[i] + Cl, rd_size_[i] = abs(Qz_[i]) + abs(P.q[i]) + abs(Cl);
    });
    if (p_) {
      dense::multiply_transposed(team_, p_, n_, P.A, n_, nu, [&](int i, const T& Anu) { rd_[i] += Anu, rd_size_[i] += abs(Anu); });
      dense::multiply(team_, p_, n_, P.A, n_, z, [&](int i, const T& Az) { re_[i] = Az - P.b[i]; });
    }
    P.multiply_sides(team_, z, [&](int i, const T& Cz) { rp_[i] = P.mask[i] * (Cz + s[i] - P.d[i]); });
    gap_now_ = dense::dot(team_, k_, s, lambda);
    mu_ = gap_now_ / max(sides_, T(1.0));
  }

  /// Stops the lanes that are solved, proved infeasible, or out of time. Residuals must be small in the scaled problem and,
  /// for three iterations at least, in the given one too, where rounding alone may be larger than what is asked. Where mu has
  /// long vanished and rounding allows no better, 100 times the tolerance must do.
  void judge(int iteration) {
    const T product = team_.template largest<T>(k_, T(0.0), [&](int i) { return s[i] * lambda[i]; });
    const T primal_given = max(norm(p_, re_, nu_unit_), norm(k_, rp_, s_unit_)), dual_given = norm(n_, rd_, z_unit_);
    primal_residual = select(running_, primal_given, primal_residual);
    dual_residual = select(running_, dual_given, dual_residual);
    gap = select(running_, gap_now_ * objective_unit_, gap);
    const T objective_now = dense::dot(team_, n_, P.q, z) + 0.5 * dense::dot(team_, n_, Qz_, z);
    objective = select(running_, objective_now * objective_unit_, objective);
    const T z_rounding = min(1e-15 * dense::norm(team_, n_, z), T(10 * options_.tolerance));
    const T rounding = min(1e-15 * max(max(dense::norm(team_, n_, z), dense::norm(team_, p_, nu)), dense::norm(team_, k_, lambda)), T(10 * options_.tolerance));
    const T primal = max(norm(p_, re_, b_unit_), norm(k_, rp_, d_unit_));
    const T dual = team_.template largest<T>(n_, T(0.0), [&](int i) { return (abs(rd_[i]) - rounding) / (1e-6 + min(rd_size_[i], 1e3 * (1.0 + abs(P.q[i])))); });
    const auto cost = [&](const T& multiplier, const T& residual) { return abs(multiplier) * max(abs(residual) - z_rounding, T(0.0)); };  // in the objective
    const T lost = team_.template sum<T>(p_, [&](int i) { return cost(nu[i], re_[i]); }) + team_.template sum<T>(k_, [&](int i) { return cost(lambda[i], rp_[i]); });
    const auto scaled = [&](double tolerance) -> MaskOf<T> {  // (K2)
      return (primal <= tolerance + z_rounding) & (dual <= tolerance + rounding) & (product <= T(2 * tolerance)) &
             (gap_now_ + lost <= tolerance * (1e-3 + 100.0 * abs(objective_now)));
    };
    const double tolerance = options_.tolerance;
    const MaskOf<T> now = scaled(tolerance), nearly = scaled(100 * tolerance);
    const MaskOf<T> given = (primal_given <= tolerance * bd_size_given_) & (dual_given <= tolerance * q_size_given_) &
                            (product * objective_unit_ <= tolerance * q_size_given_);
    within_ = select(now, within_ + 1.0, T(0.0));
    nearly_within_ = select(nearly & (mu_ <= T(1e-3 * tolerance)), nearly_within_ + 1.0, T(0.0));
    finish(now & (given | (within_ > T(3.0))), QPStatus::solved, iteration);
    finish(nearly_within_ > T(5.0), QPStatus::solved, iteration);
    if (iteration > 0) look_for_certificates(running_ & (primal > T(tolerance)), running_ & (dual > T(tolerance)), iteration);
    if (iteration >= options_.max_iterations) finish(now, QPStatus::solved, iteration), finish(T(0.0) < T(1.0), QPStatus::max_iterations, iteration);
  }

  /// A line on standard error of each problem that is not done.
  void print(const std::int64_t* problems, int iteration, const T& sigma, const T& length) const {
    if (iteration == 0) std::fprintf(stderr, "problem  iter       objective    primal      dual       gap     sigma      step\n");
    for (int l = 0; l < lanes_of<T>; ++l)
      if (lane(running_, l) && !repeats(problems, l))
        std::fprintf(stderr, "%7lld  %4d  %14.7e  %8.2e  %8.2e  %8.2e  %8.2e  %8.2e\n", static_cast<long long>(problems[l]), iteration, lane(objective, l),
                     lane(primal_residual, l), lane(dual_residual, l), lane(gap, l), lane(sigma, l), lane(length, l));
  }

  void finish(const MaskOf<T>& now, QPStatus why, int iteration) {
    for (int i = 0; i < lanes_of<T>; ++i)
      if (lane(running_, i) && lane(now, i)) status[i] = why, iterations[i] = iteration;
    running_ = running_ & !now;
  }

  /// Whether the last step, which on such problems tends to one, or the iterate is a certificate; it then becomes the iterate.
  void look_for_certificates(const MaskOf<T>& primal_open, const MaskOf<T>& dual_open, int iteration) {
    for (bool step : {true, false}) {
      const T *equalities = step ? dnu_ : nu, *sides = step ? dlambda_ : lambda;
      if (!any(primal_open & running_)) break;
      team_.for_each(p_, [&](int i) { certificate_.nu[i] = equalities[i]; });
      each_side([&](int i) { certificate_.lambda[i] = max(sides[i], T(0.0)); });
      const MaskOf<T> proved = certificate_.primal(primal_open & running_);
      team_.for_each(p_, [&](int i) { nu[i] = select(proved, certificate_.nu[i], nu[i]); });
      each_side([&](int i) { lambda[i] = select(proved, certificate_.lambda[i], lambda[i]); });
      finish(proved, QPStatus::primal_infeasible, iteration);
    }
    for (const T* direction : {z, dz_}) {
      if (!any(dual_open & running_)) break;
      team_.for_each(n_, [&](int i) { certificate_.z[i] = direction[i]; });
      const MaskOf<T> proved = certificate_.dual(dual_open & running_);
      team_.for_each(n_, [&](int i) { z[i] = select(proved, certificate_.z[i], z[i]); });
      finish(proved, QPStatus::dual_infeasible, iteration);
    }
  }

  void factor() {
    each_side([&](int i) {
      inverse_[i] = 1.0 / (s[i] + newton_.regularization() * lambda[i]);
      w_[i] = lambda[i] * inverse_[i];
    });
    newton_.factor(w_);
  }

  /// The Newton direction for the complementarity residual rc. (K4)
  void direction() {
    each_side([&](int i) { dlambda_[i] = w_[i] * rp_[i] - rc_[i] * inverse_[i]; });  // v of (K6)
    team_.for_each(n_, [&](int i) { dz_[i] = -rd_[i]; });
    team_.for_each(p_, [&](int i) { dnu_[i] = -re_[i]; });
    newton_.solve(dz_, dnu_, dlambda_);
    const int high = P.high_side();
    team_.for_each(P.rows(), [&](int i) {  // (K5)
      const auto slack = [&](int side, const T& Cdz) { ds_[side] = P.mask[side] * (newton_.regularization() * dlambda_[side] - rp_[side] - Cdz); };
      if (P.low) slack(i, -newton_.row(i));
      if (P.high) slack(high + i, newton_.row(i));
    });
  }

  /// The largest alpha in [0, 1e300] with s + alpha ds >= 0 and lambda + alpha dlambda >= 0. (K12)
  T longest_step() const {
    return team_.template smallest<T>(k_, T(1e300), [&](int i) {
      return min(select(ds_[i] < T(0.0), -s[i] / ds_[i], T(1e300)), select(dlambda_[i] < T(0.0), -lambda[i] / dlambda_[i], T(1e300)));
    });
  }

  T mu_after(const T& longest) const {
    const T alpha = min(longest, T(1.0));
    return team_.template sum<T>(k_, [&](int i) {
      return P.mask[i] * ((s[i] + alpha * ds_[i]) * (lambda[i] + alpha * dlambda_[i]));
    }) / max(sides_, T(1.0));
  }

  /// Moves the running lanes; one whose direction is not finite stops where it is.
  void step(const T& length, int iteration) {
    const T size = sum_of_sizes(n_, dz_) + sum_of_sizes(p_, dnu_) + sum_of_sizes(k_, dlambda_) + sum_of_sizes(k_, ds_);
    finish(!(size < T(1e100)), QPStatus::numerical, iteration);
    const auto move = [&](T* x, const T* dx, int count) {
      team_.for_each(count, [&](int i) { x[i] = select(running_, x[i] + length * dx[i], x[i]); });
    };
    move(z, dz_, n_), move(nu, dnu_, p_), move(s, ds_, k_), move(lambda, dlambda_, k_);
  }

  static constexpr double warm_distance = 1e-2, warm_limit = 1e6;

  const Problem<T, E> P;
  const Scaling<T> scaling_;
  const QPOptions options_;
  const Team team_;
  const int n_, p_, k_;
  T* factors_;
  Newton<T, E, Team> newton_;
  Certificate<T, E, Team> certificate_;
  T *rd_, *dz_, *Qz_, *rd_size_, *z_unit_, *re_, *dnu_, *b_unit_, *nu_unit_;
  T *rp_, *ds_, *dlambda_, *rc_, *w_, *inverse_, *d_unit_, *s_unit_;
  T dual_unit_, objective_unit_, q_size_given_, bd_size_given_, within_, nearly_within_, sides_, mu_, past_mu_[2], gap_now_;
  MaskOf<T> running_;
};

}  // namespace optnet
