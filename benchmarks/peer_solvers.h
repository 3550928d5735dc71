// Other people's QP solvers in C and C++ on the problems of one batch, each behind the same three functions, as its authors
// would have it used on many small problems.
#pragma once

#include "benchmarks/workloads.h"

#include <Eigen/Dense>

#include <optional>
#include <vector>

// A peer whose headers are not there is left out.
#if __has_include(<daqp.h>)
#include <api.h>
#include <utils.h>
#define HAVE_DAQP
#endif
#if __has_include(<eiquadprog/eiquadprog-fast.hpp>)
#include <eiquadprog/eiquadprog-fast.hpp>
#include <eiquadprog/eiquadprog.hpp>
#define HAVE_EIQUADPROG
#endif
#if __has_include(<piqp/piqp.hpp>)
#include <piqp/piqp.hpp>
#define HAVE_PIQP
#endif
#if __has_include(<proxsuite/proxqp/dense/dense.hpp>)
#include <proxsuite/proxqp/dense/compute_ECJ.hpp>
#include <proxsuite/proxqp/dense/dense.hpp>
#define HAVE_PROXQP
#endif

namespace optnet::benchmarks {

using Eigen::MatrixXd;
using Eigen::VectorXd;
using RowMajor = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
constexpr double tolerance = 1e-9;

/// An element's problem as the peers like it; Q, A and G are those of element 0 where the batch shares them.
struct Element {
  RowMajor Q, A, G;
  VectorXd q, b, h;
};

struct Problems {
  std::int64_t n, m, p, count;  // m rows of G, or n bounds z >= 0 in their place
  bool bounds, shared;
  std::vector<Element> element;
};

inline Problems convert(const QP<Tensor>& qp) {
  Problems out{.n = qp.q.size(1), .m = qp.G.defined() ? qp.G.size(-2) : 0, .p = qp.A.defined() ? qp.A.size(-2) : 0, .count = qp.q.size(0),
               .bounds = qp.lower.defined(), .shared = qp.Q.rank() < 3};
  const auto matrix = [](const Tensor& x, std::int64_t e, std::int64_t rows, std::int64_t columns) {
    RowMajor out(rows, columns);
    for (std::int64_t i = 0; i < out.size(); ++i) out.data()[i] = entry(x, e, i, rows * columns);
    return out;
  };
  for (std::int64_t e = 0; e < out.count; ++e) {
    Element& x = out.element.emplace_back();
    x.Q = qp.Q.numel() == 1 ? RowMajor(qp.Q.item() * RowMajor::Identity(out.n, out.n)) : matrix(qp.Q, e, out.n, out.n);
    x.A = matrix(qp.A, e, out.p, out.n), x.G = matrix(qp.G, e, out.m, out.n);
    x.q = matrix(qp.q, e, out.n, 1), x.b = matrix(qp.b, e, out.p, 1), x.h = matrix(qp.h, e, out.m, 1);
  }
  return out;
}

/// A solver on one batch. What its constructor does is not timed; begin() is, once a batch, and solve() an element.
struct Peer {
  virtual ~Peer() = default;
  virtual void begin() {}
  virtual const double* solve(std::size_t e) = 0;
};

#ifdef HAVE_EIQUADPROG
/// Goldfarb and Idnani's dual active-set method. Where Q is shared, its inverse factor is found once a batch.
class Eiquadprog : public Peer {
 public:
  explicit Eiquadprog(const Problems& all) : shared_(all.shared), x_(all.n) {
    for (const Element& e : all.element) {
      Q_.push_back(e.Q), q_.push_back(all.shared ? -e.q : e.q);  // release 1.3.2 starts at +Q^-1 q when given the factor
      CE_.push_back(e.A), ce_.push_back(-e.b), CI_.push_back(all.bounds ? MatrixXd::Identity(all.n, all.n) : MatrixXd(-e.G));
      ci_.push_back(all.bounds ? VectorXd::Zero(all.n) : e.h);
    }
    solver_.reset(static_cast<std::size_t>(all.n), static_cast<std::size_t>(all.p), static_cast<std::size_t>(CI_[0].rows()));
  }
  void begin() override {
    if (!shared_) return;
    inverse_.setIdentity(x_.size(), x_.size());
    Q_[0].llt().matrixU().solveInPlace(inverse_);
    solver_.is_inverse_provided_ = true;
  }
  const double* solve(std::size_t e) override {
    if (shared_) solver_.m_J = inverse_;
    solver_.solve_quadprog(Q_[e], q_[e], CE_[e], ce_[e], CI_[e], ci_[e], x_);
    return x_.data();
  }

 private:
  bool shared_;
  std::vector<MatrixXd> Q_, CE_, CI_;
  std::vector<VectorXd> q_, ce_, ci_;
  MatrixXd inverse_;
  VectorXd x_;
  eiquadprog::solvers::EiquadprogFast solver_;
};

/// The same package's first function, whose matrices are columns of constraints.
class EiquadprogPlain : public Peer {
 public:
  explicit EiquadprogPlain(const Problems& all) : shared_(all.shared), x_(all.n), active_(all.p + (all.bounds ? all.n : all.m)) {
    for (const Element& e : all.element) {
      Q_.push_back(e.Q), q_.push_back(e.q), CE_.push_back(e.A.transpose()), ce_.push_back(-e.b);
      CI_.push_back(all.bounds ? MatrixXd::Identity(all.n, all.n) : MatrixXd(-e.G.transpose()));
      ci_.push_back(all.bounds ? VectorXd::Zero(all.n) : e.h);
    }
  }
  void begin() override {
    if (shared_) factor_.compute(Q_[0]), trace_ = Q_[0].trace();
  }
  const double* solve(std::size_t e) override {
    std::size_t count = 0;
    if (!shared_) factor_.compute(Q_[e]), trace_ = Q_[e].trace();
    eiquadprog::solvers::solve_quadprog(factor_, trace_, q_[e], CE_[e], ce_[e], CI_[e], ci_[e], x_, active_, count);
    return x_.data();
  }

 private:
  bool shared_;
  std::vector<MatrixXd> Q_, CE_, CI_;
  std::vector<VectorXd> q_, ce_, ci_;
  Eigen::LLT<MatrixXd, Eigen::Lower> factor_;
  double trace_ = 0;
  VectorXd x_;
  Eigen::VectorXi active_;
};
#endif

#ifdef HAVE_DAQP
/// DAQP, another dual active-set method.
class Daqp : public Peer {
 public:
  enum class Way { one_call, kept, warm };  // its own allocation; its work space kept; and the last active set with it
  Daqp(const Problems& all, Way way) : way_(way), shared_(all.shared), x_(all.n), dual_(all.p + all.m + all.n) {
    daqp_default_settings(&settings_);
    settings_.primal_tol = tolerance;
    const auto bounds = all.bounds ? all.n : 0, rows = bounds + all.p + all.m;
    for (const Element& e : all.element) {
      RowMajor& A = rows_.emplace_back(all.p + all.m, all.n);
      A << e.A, e.G;
      high_.emplace_back(rows) << VectorXd::Constant(bounds, DAQP_INF), e.b, e.h;
      low_.emplace_back(rows) << VectorXd::Zero(bounds), e.b, VectorXd::Constant(all.m, -DAQP_INF);
      Q_.push_back(e.Q), q_.push_back(e.q);
    }
    sense_.assign(static_cast<std::size_t>(rows), 0);
    std::fill_n(sense_.begin() + bounds, all.p, 5);  // equality
    for (std::size_t e = 0; e < Q_.size(); ++e)
      qp_.push_back({.n = static_cast<int>(all.n), .m = static_cast<int>(rows), .ms = static_cast<int>(bounds), .H = Q_[e].data(), .f = q_[e].data(),
                     .A = rows_[e].data(), .bupper = high_[e].data(), .blower = low_[e].data(), .sense = sense_.data()});
    result_.x = x_.data(), result_.lam = dual_.data();
    if (way_ != Way::one_call && !shared_) set_up();
  }
  ~Daqp() override { release(); }
  void begin() override {
    if (shared_ && way_ != Way::one_call) release(), set_up();
  }
  const double* solve(std::size_t e) override {
    if (way_ == Way::one_call) {
      daqp_quadprog(&result_, &qp_[e], &settings_);
    } else {
      constexpr int vectors = DAQP_UPDATE_v | DAQP_UPDATE_d, matrices = DAQP_UPDATE_Rinv | DAQP_UPDATE_M | DAQP_UPDATE_unconstrained | DAQP_UPDATE_eliminate;
      if (shared_ && way_ == Way::kept) daqp_deactivate_constraints(&work_);
      daqp_update_ldp(vectors | (shared_ ? 0 : matrices) | (way_ == Way::kept ? DAQP_UPDATE_sense : 0), &work_, &qp_[e]);
      daqp_solve(&result_, &work_);
    }
    return x_.data();
  }

 private:
  void set_up() {
    work_ = {};
    work_.settings = &settings_;
    setup_daqp_main(&qp_[0], &work_, nullptr, DAQP_UPDATE_eliminate);
    ready_ = true;
  }
  void release() {
    if (!ready_) return;
    work_.settings = nullptr;
    free_daqp_workspace(&work_), free_daqp_ldp(&work_);
    ready_ = false;
  }

  Way way_;
  bool shared_, ready_ = false;
  std::vector<RowMajor> Q_, rows_;
  std::vector<VectorXd> q_, high_, low_;
  std::vector<int> sense_;
  std::vector<DAQPProblem> qp_;
  DAQPSettings settings_;
  DAQPWorkspace work_{};
  DAQPResult result_{};
  VectorXd x_, dual_;
};
#endif

#ifdef HAVE_PIQP
/// A proximal interior-point method. Its memory is kept; where matrices are shared, so is their scaling.
class Piqp : public Peer {
 public:
  explicit Piqp(const Problems& all) : all_(all), lower_(VectorXd::Zero(all.n)), h_low_(VectorXd::Constant(all.m, -PIQP_INF)) {
    for (const Element& e : all.element) Q_.push_back(e.Q), A_.push_back(e.A), G_.push_back(e.G);
    auto& s = solver_.settings();
    s.eps_abs = s.eps_rel = s.eps_duality_gap_abs = s.eps_duality_gap_rel = tolerance;
    s.preconditioner_reuse_on_update = all.shared;
    if (!all_.shared) change(0, true);
  }
  void begin() override {
    if (all_.shared) change(0, true);
  }
  const double* solve(std::size_t e) override {
    if (all_.shared)
      solver_.update(piqp::nullopt, all_.element[e].q);
    else
      change(e, false);
    solver_.solve();
    return solver_.result().x.data();
  }

 private:
  void change(std::size_t e, bool first) {
    const Element& x = all_.element[e];
    const auto give = [&](auto&&... data) { first ? solver_.setup(data...) : solver_.update(data...); };
    piqp::optional<piqp::CVecRef<double>> low, none;
    if (all_.bounds) low.emplace(lower_);
    give(Q_[e], x.q, A_[e], x.b, G_[e], h_low_, x.h, low, none);
  }

  const Problems& all_;
  VectorXd lower_, h_low_;
  std::vector<MatrixXd> Q_, A_, G_;
  piqp::DenseSolver<double> solver_;
};
#endif

#ifdef HAVE_PROXQP
/// A proximal augmented Lagrangian method; the only one of these with a backward pass.
class ProxQP : public Peer {
 public:
  using Solver = proxsuite::proxqp::dense::QP<double>;
  ProxQP(const Problems& all, bool guess)
      : all_(all), low_(VectorXd::Constant(all.m, -1e20)), zero_(VectorXd::Zero(all.n)), infinite_(VectorXd::Constant(all.n, 1e20)),
        guess_(guess ? proxsuite::proxqp::InitialGuessStatus::EQUALITY_CONSTRAINED_INITIAL_GUESS : proxsuite::proxqp::InitialGuessStatus::NO_INITIAL_GUESS) {
    for (const Element& e : all.element) Q_.push_back(e.Q), A_.push_back(e.A), G_.push_back(e.G), q_.push_back(e.q), b_.push_back(e.b), h_.push_back(e.h);
    if (!all_.shared) make(0);
  }
  void begin() override {
    if (all_.shared) make(0);
  }
  const double* solve(std::size_t e) override {
    using proxsuite::nullopt;
    if (all_.shared && all_.bounds)
      solver_->update(nullopt, q_[e], nullopt, nullopt, nullopt, nullopt, nullopt, nullopt, nullopt, false);
    else if (all_.shared)
      solver_->update(nullopt, q_[e], nullopt, nullopt, nullopt, nullopt, nullopt, false);
    else
      solver_->update(Q_[e], q_[e], A_[e], b_[e], G_[e], low_, h_[e], true);
    solver_->solve();
    return solver_->results.x.data();
  }
  /// The derivative of an element that was solved just before, for a gradient of z; with the package's own tolerance,
  /// as it does not reach 1e-9 on W2.
  void backward(VectorXd& seed) { proxsuite::proxqp::dense::compute_backward<double>(*solver_, seed); }

 private:
  void make(std::size_t e) {
    using proxsuite::nullopt;
    const auto hessian = all_.bounds ? proxsuite::proxqp::HessianType::Diagonal : proxsuite::proxqp::HessianType::Dense;
    solver_.emplace(all_.n, all_.p, all_.m, all_.bounds, hessian);
    solver_->settings.eps_abs = tolerance, solver_->settings.eps_rel = 0, solver_->settings.initial_guess = guess_;
    if (all_.bounds)
      solver_->init(Q_[e], q_[e], A_[e], b_[e], nullopt, nullopt, nullopt, zero_, infinite_);
    else
      solver_->init(Q_[e], q_[e], A_[e], b_[e], G_[e], low_, h_[e]);
  }

  const Problems& all_;
  std::vector<MatrixXd> Q_, A_, G_;
  std::vector<VectorXd> q_, b_, h_;
  VectorXd low_, zero_, infinite_;
  proxsuite::proxqp::InitialGuessStatus guess_;
  std::optional<Solver> solver_;
};
#endif

}  // namespace optnet::benchmarks
