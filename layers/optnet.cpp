// argmin: an op like any other, its value from solve() and its pullback from vjp().
#include "layers/optnet.h"

#include <cmath>

namespace optnet {
namespace {

/// A plain number stands for a scalar of q's dtype.
Tensor value_of(const Var& x, const Var& q) {
  const bool number = x.defined() && x.rank() == 0 && x.dtype() != q.dtype() && !x.tracked();
  return number ? x.value().to(q.dtype()) : x.value();
}

/// A solved QP, and what recording it needs.
struct Solved {
  QP<Tensor> data;
  std::vector<Var> inputs;
  QPFlags wanted;
  QPSolution solution;

  Solved(const QP<Var>& qp, QPOptions options) {
    for (std::size_t i = 0; i < wanted.size(); ++i) {
      const Var& field = *fields(qp)[i];
      *fields(data)[i] = value_of(field, qp.q);
      wanted[i] = field.tracked();
      options.differentiable |= wanted[i];
      inputs.push_back(field);
    }
    solution = solve(data, options);
  }

  std::vector<Tensor> pullback(const QPSeed& seed) const {
    const QP<Tensor> gradient = vjp(data, solution, seed, wanted);
    std::vector<Tensor> grads;
    for (const Tensor* field : fields(gradient)) grads.push_back(*field);
    return grads;
  }
};

}  // namespace

Var argmin(const QP<Var>& qp, const QPOptions& options) {
  const Solved solved(qp, options);
  return record("argmin", solved.solution.z, solved.inputs, [solved](const Tensor& dz) { return solved.pullback({.z = dz}); });
}

Optimum optimum(const QP<Var>& qp, const QPOptions& options) {
  const Solved solved(qp, options);
  const QPSolution& s = solved.solution;
  std::vector<Tensor> parts;
  for (const Tensor* part : {&s.z, &s.nu, &s.lambda, &s.dual_lower, &s.dual_upper, &s.dual_lower_g})
    if (part->defined()) parts.push_back(*part);
  // One node for all: its value is the parts side by side, its pullback takes their gradients apart.
  const auto split = [s](const auto& all, auto& out) {
    std::int64_t at = 0;
    const auto take = [&](auto& part, const Tensor& like) {
      if (!like.defined()) return;
      part = slice(all, -1, at, at + like.size(-1));
      at += like.size(-1);
    };
    take(out.z, s.z), take(out.nu, s.nu), take(out.lambda, s.lambda);
    take(out.dual_lower, s.dual_lower), take(out.dual_upper, s.dual_upper), take(out.dual_lower_g, s.dual_lower_g);
  };
  const Var all = record("optimum", concat(parts, -1), solved.inputs, [solved, split](const Tensor& dy) {
    QPSeed seed;
    split(dy, seed);
    return solved.pullback(seed);
  });
  Optimum out;
  split(all, out);
  return out;
}

OptNet::OptNet(const OptNetOptions& options) : options_(options) {
  const auto& [n, m, p, eps, dtype, solver] = options_;
  check(n > 0 && m >= 0 && p >= 0, "OptNet: needs variables > 0 and inequalities, equalities >= 0; got ", n, ", ", m, ", ", p);
  check(eps > 0, "OptNet: eps must be positive, so that Q is definite; got ", eps);
  const double bound = 1 / std::sqrt(static_cast<double>(n));
  L = param("L", uniform(default_random(), {n, n}, -bound, bound, dtype));
  z0 = param("z0", zeros({n, 1}, dtype));
  if (m) G = param("G", uniform(default_random(), {m, n}, -1, 1, dtype));
  if (m) log_s0 = param("log_s0", zeros({m}, dtype));
  if (p) A = param("A", uniform(default_random(), {p, n}, -1, 1, dtype));
  const Tensor index = arange(0, static_cast<double>(n), 1, dtype);
  lower_triangle_ = constant(less_equal(index, index.reshape({n, 1})));
  eps_I_ = constant(eps * eye(n, dtype));
}

Var OptNet::operator()(const Var& x) const {
  check(x.rank() == 2 && x.size(1) == options_.variables, "OptNet: input must be [batch, ", options_.variables, "]; got ", x.shape());
  const Var lower = Var(L) * lower_triangle_.value();
  QP<Var> qp{.Q = matmul(lower, lower, {.transpose_b = true}) + eps_I_.value(), .q = x};
  if (options_.inequalities) {
    qp.G = G;
    qp.h = reshape(matmul(G, z0), {-1}) + exp(Var(log_s0));
  }
  if (options_.equalities) {
    qp.A = A;
    qp.b = reshape(matmul(A, z0), {-1});
  }
  return argmin(qp, options_.solver);
}

}  // namespace optnet
