// The backward pass: from the gradient with respect to the solution, by the adjoint system, to that of every parameter.
#include "solvers/batch.h"

#include "framework/backend.h"

#include <algorithm>
#include <cmath>

namespace optnet {
namespace {

/// A gradient [count, size] in the shape and dtype of the parameter x: summed over what was shared.
Tensor as_parameter(const Batch& batch, const Numbers& values, std::int64_t width, std::int64_t first, std::int64_t size,
                    double sign, const Tensor& x) {
  Buffer out(static_cast<std::size_t>(batch.count * size) * sizeof(double), Device::cpu);
  double* y = static_cast<double*>(out.data());
  for (std::int64_t e = 0; e < batch.count; ++e)
    for (std::int64_t i = 0; i < size; ++i) y[e * size + i] = sign * values[static_cast<std::size_t>(e * width + first + i)];
  const Tensor all({batch.count, size}, float64, std::move(out));
  const Shape target = x.rank() >= 1 ? x.shape() : Shape{1};
  return sum_to(all, x.rank() == 2 ? target : Shape{1, target[0]}).reshape(x.shape()).to(x.dtype());
}

struct View {  // [count, width]
  const double* data;
  std::int64_t width;
  const double* row(std::int64_t e) const { return data + e * width; }
};

constexpr std::int64_t cached = 4 << 20;  // bytes of a gradient that may be in a cache still when it is read

/// out = x y + u v, if `large` past the caches. In whole packs, so that an entry is the same to the last bit wherever it lies.
void write_row(std::int64_t count, double x, const double* y, double u, const double* v, double* out, bool large) {
  constexpr std::int64_t lanes = Pack::lanes;
  const auto entries = [&](std::int64_t j) { return Pack(x) * load(y + j) + Pack(u) * load(v + j); };
  if (count < lanes) {
    for (std::int64_t j = 0; j < count; ++j) out[j] = x * y[j] + u * v[j];
  } else if (!large) {
    for (std::int64_t j = 0; j < count - lanes; j += lanes) store(entries(j), out + j);
    store(entries(count - lanes), out + count - lanes);  // over some that are there already
  } else {  // not here: a line that is on its way would come back
    const auto some = [&](std::int64_t first, std::int64_t from, std::int64_t to) {
      const Pack pack = entries(first);
      for (std::int64_t l = from; l < to; ++l) out[first + l] = pack[static_cast<int>(l)];
    };
    std::int64_t j = -static_cast<std::int64_t>(reinterpret_cast<std::uintptr_t>(out) / sizeof(double)) & (lanes - 1);
    some(0, 0, j);
    for (; j + lanes <= count; j += lanes) stream(entries(j), out + j);
    some(count - lanes, j - (count - lanes), lanes);
  }
}

/// sum over the batch of  scale (x y' + u v')  where the parameter is shared (products of matrices), else each.
/// x, u [count, rows]; y, v [count, columns]. In the shape and dtype of `parameter`.
Tensor outer_products(const Batch& batch, View x, View y, View u, View v, double scale, const Tensor& parameter) {
  const std::int64_t matrices = parameter.rank() == 3 && parameter.size(0) > 1 ? batch.count : 1, rows = x.width, columns = y.width, size = rows * columns;
  Buffer out(static_cast<std::size_t>(matrices * size) * sizeof(double), Device::cpu);
  double* g = static_cast<double*>(out.data());
  if (matrices == 1) {
    Gemm product{.m = rows, .n = columns, .k = batch.count, .transpose_a = true};
    backend(Device::cpu).gemm(float64, product, x.data, y.data, g);
    if (x.data == v.data && y.data == u.data) {  // x y' + y x'
      for (std::int64_t i = 0; i < rows; ++i)
        for (std::int64_t j = 0; j <= i; ++j) g[i * rows + j] = g[j * rows + i] = g[i * rows + j] + g[j * rows + i];
    } else {
      product.accumulate = true;
      backend(Device::cpu).gemm(float64, product, u.data, v.data, g);
    }
    for (std::int64_t i = 0; i < size; ++i) g[i] *= scale;
  } else {
    const bool large = matrices * size * static_cast<std::int64_t>(sizeof(double)) > cached;
#pragma omp parallel for schedule(static) num_threads(threads()) if (matrices * size > 32768 && threads() > 1)
    for (std::int64_t e = 0; e < matrices; ++e) {
      for (std::int64_t i = 0; i < rows; ++i)
        write_row(columns, scale * x.row(e)[i], y.row(e), scale * u.row(e)[i], v.row(e), g + e * size + i * columns, large);
      if (large) fence();
    }
  }
  return Tensor(parameter.shape(), float64, std::move(out)).to(parameter.dtype());
}

/// dQ of a diagonal or a multiple of I: dz * z, summed to the parameter.
Tensor diagonal_gradient(const Batch& batch, const Numbers& dz, const Numbers& z, const Tensor& Q) {
  Numbers product(dz.size());
  for (std::size_t i = 0; i < dz.size(); ++i) product[i] = dz[i] * z[i];
  const Tensor all = from<double>({batch.count, 1, batch.n}, product);
  Shape target{1, 1, 1};
  for (int d = 0; d < Q.rank(); ++d) target[3 - Q.rank() + d] = Q.size(d);
  return sum_to(all, target).reshape(Q.shape()).to(Q.dtype());
}

void add_seed(const Batch& batch, const char* what, const Tensor& seed, std::int64_t width, std::int64_t first, std::int64_t size, Numbers& out) {
  if (!seed.defined()) return;
  check(seed.numel() == batch.count * size, "vjp: the seed of ", what, " must be [", batch.count, ", ", size, "]; got ", seed.shape());
  const Tensor values = seed.to(Device::cpu).to(float64);
  for (std::int64_t e = 0; e < batch.count; ++e) std::copy_n(values.data<double>() + e * size, size, out.data() + e * width + first);
}

/// Elements that were not solved have no derivative: 0. Nor have those in which it overflows: the matrices' gradients are sums
/// of products of d and the solution, and what is shared is summed over the batch.
void drop_unsolved(const Batch& batch, const QPSolution& solution, Iterates& d) {
  const double largest = batch.dtype == float32 ? 1e34 : 1e290;
  for (std::int64_t e = 0; e < batch.count; ++e) {
    const auto sum_of_sizes = [&](const Iterates& x) {
      double sum = 0;
      for (auto [values, width] : {std::pair{&x.z, batch.n}, {&x.nu, batch.p}, {&x.lambda, batch.sides()}})
        for (std::int64_t i = e * width; i < (e + 1) * width; ++i) sum += std::abs((*values)[static_cast<std::size_t>(i)]);
      return sum;
    };
    const bool whole = sum_of_sizes(d) * sum_of_sizes(solution.factors->solution) < largest;  // not so of inf or NaN, not even times 0
    if (whole && solution.status[static_cast<std::size_t>(e)] == QPStatus::solved) continue;
    std::fill_n(d.z.data() + e * batch.n, batch.n, 0), std::fill_n(d.nu.data() + e * batch.p, batch.p, 0);
    std::fill_n(d.lambda.data() + e * batch.sides(), batch.sides(), 0);
  }
}

/// The duals of G's rows, both sides in one: those of G z <= h minus those of lower_g <= G z. [count, m]
Numbers row_duals(const Batch& batch, const Numbers& lambda) {
  const SideBlocks side(batch);
  Numbers out(static_cast<std::size_t>(batch.count * batch.m));
  for (std::int64_t e = 0; e < batch.count; ++e)
    for (std::int64_t i = 0; i < batch.m; ++i) {
      const double* own = lambda.data() + e * batch.sides() + i;
      out[static_cast<std::size_t>(e * batch.m + i)] = (batch.high ? own[side.h] : 0) - (batch.low ? own[side.lower_g] : 0);
    }
  return out;
}

}  // namespace

QP<Tensor> vjp(const QP<Tensor>& qp, const QPSolution& solution, const QPSeed& seed, const QPFlags& wanted) {
  check(solution.factors != nullptr, "vjp: the solution holds no factors; solve with .differentiable = true");
  const Batch batch = read(qp);
  const Iterates& at = solution.factors->solution;
  const std::int64_t n = batch.n, p = batch.p, m = batch.m, k = batch.sides();
  const SideBlocks side(batch);
  check(solution.factors->sizes == batch &&
        solution.status.size() == static_cast<std::size_t>(batch.count) && at.z.size() == static_cast<std::size_t>(batch.count * n) &&
        at.nu.size() == static_cast<std::size_t>(batch.count * p) && at.lambda.size() == static_cast<std::size_t>(batch.count * k),
        "vjp: the solution is of another problem; its sizes differ");

  Iterates d{Numbers(at.z.size()), Numbers(at.nu.size()), {}, Numbers(at.lambda.size())};
  add_seed(batch, "z", seed.z, n, 0, n, d.z);
  add_seed(batch, "nu", seed.nu, p, 0, p, d.nu);
  if (batch.field.lower) add_seed(batch, "dual_lower", seed.dual_lower, k, side.lower, n, d.lambda);
  if (batch.field.upper) add_seed(batch, "dual_upper", seed.dual_upper, k, side.upper, n, d.lambda);
  if (batch.field.lower_g) add_seed(batch, "dual_lower_g", seed.dual_lower_g, k, side.lower_g, m, d.lambda);
  if (batch.field.h) add_seed(batch, "lambda", seed.lambda, k, side.h, m, d.lambda);
  adjoint_cpu(batch, *solution.factors, d);
  drop_unsolved(batch, solution, d);

  const auto want = [&](std::size_t i) { return wanted[i] && fields(qp)[i]->defined(); };
  const View z{at.z.data(), n}, dz{d.z.data(), n}, nu{at.nu.data(), p}, dnu{d.nu.data(), p};
  const Numbers y = row_duals(batch, at.lambda), dy = row_duals(batch, d.lambda);
  const View lambda{y.data(), m}, dlambda{dy.data(), m};
  QP<Tensor> g;
  if (want(0)) g.Q = batch.Q_dense ? outer_products(batch, dz, z, z, dz, 0.5, qp.Q) : diagonal_gradient(batch, d.z, at.z, qp.Q);  // (K21)
  if (want(1)) g.q = as_parameter(batch, d.z, n, 0, n, 1, qp.q);                                     // (K20)
  if (want(2)) g.G = outer_products(batch, dlambda, z, lambda, dz, 1, qp.G);                         // (K21)
  if (want(3)) g.h = as_parameter(batch, d.lambda, k, side.h, m, -1, qp.h);                           // (K20)
  if (want(4)) g.A = outer_products(batch, dnu, z, nu, dz, 1, qp.A);                                 // (K21)
  if (want(5)) g.b = as_parameter(batch, d.nu, p, 0, p, -1, qp.b);                                   // (K20)
  if (want(6)) g.lower = as_parameter(batch, d.lambda, k, side.lower, n, 1, qp.lower);                     // (K22)
  if (want(7)) g.upper = as_parameter(batch, d.lambda, k, side.upper, n, -1, qp.upper);                  // (K22)
  if (want(8)) g.lower_g = as_parameter(batch, d.lambda, k, side.lower_g, m, 1, qp.lower_g);              // (K22)
  return g;
}

}  // namespace optnet
