// Products and factorisations of matrices, on the backend's dense linear algebra.
#include "framework/ops.h"

namespace optnet {
namespace {

/// The leading axes of x: all but the last two.
Shape batch_of(const Shape& shape) { return Shape(shape.begin(), shape.end() - 2); }

Shape matrix_shape(Shape batch, std::int64_t rows, std::int64_t columns) {
  batch.push_back(rows);
  batch.push_back(columns);
  return batch;
}

/// x with its batch axes broadcast to `batch`, so that matrix i of the result is the i-th in memory.
Tensor expand(const Tensor& x, const Shape& batch) {
  const Shape target = matrix_shape(batch, x.size(-2), x.size(-1));
  return target == x.shape() ? x : x + zeros(target, x.dtype(), x.device());
}

/// [..., m, k] as the single matrix of all its rows.
Tensor as_rows(const Tensor& x) {
  std::int64_t rows = 1;
  for (int d = 0; d < x.rank() - 1; ++d) rows *= x.size(d);
  return x.reshape(Shape{rows, x.size(-1)});
}

void check_matrix(const char* op, const Tensor& x) {
  check(x.defined() && x.rank() >= 2, op, ": needs matrices, at least two axes (use reshape); got ", x.shape());
}

void check_square(const char* op, const Tensor& x) {
  check_matrix(op, x);
  check(x.size(-1) == x.size(-2), op, ": the matrices must be square; got ", x.shape());
}

Buffer copy_of(const Tensor& x) {
  Buffer out(static_cast<std::size_t>(x.numel()) * size_of(x.dtype()), x.device());
  backend(x.device()).copy(out.data(), x.raw(), out.bytes());
  return out;
}

}  // namespace

Tensor matmul(const Tensor& a, const Tensor& b, Matmul options) {
  check_matrix("matmul", a);
  check_matrix("matmul", b);
  check(a.dtype() == b.dtype() && a.device() == b.device(), "matmul: dtypes and devices must agree (convert with to()); got ",
        a.dtype(), " on ", a.device(), " and ", b.dtype(), " on ", b.device());
  check_floating("matmul", a.dtype());
  Gemm g{.transpose_a = options.transpose_a, .transpose_b = options.transpose_b};
  g.m = a.size(g.transpose_a ? -1 : -2);
  g.k = a.size(g.transpose_a ? -2 : -1);
  g.n = b.size(g.transpose_b ? -2 : -1);
  check(g.k == b.size(g.transpose_b ? -1 : -2), "matmul: inner sizes must agree; got ", a.shape(), g.transpose_a ? "'" : "",
        " and ", b.shape(), g.transpose_b ? "'" : "");

  const Shape batch = broadcast(batch_of(a.shape()), batch_of(b.shape()), "matmul");
  g.batch = batch.numel();
  // A factor of one matrix is shared as it is; other partial broadcasts are written out.
  const Tensor x = batch_of(a.shape()).numel() == 1 ? a : expand(a, batch);
  const Tensor y = batch_of(b.shape()).numel() == 1 ? b : expand(b, batch);
  g.stride_a = batch_of(a.shape()).numel() == 1 ? 0 : g.m * g.k;
  g.stride_b = batch_of(b.shape()).numel() == 1 ? 0 : g.k * g.n;
  const Shape shape = matrix_shape(batch, g.m, g.n);
  if (g.stride_b == 0 && !g.transpose_a && g.batch > 1) {  // [..., m, k] times one [k, n] is a single tall product
    g.m *= g.batch;
    g.batch = 1;
  }
  Buffer c(static_cast<std::size_t>(shape.numel()) * size_of(a.dtype()), a.device());
  backend(a.device()).gemm(a.dtype(), g, x.raw(), y.raw(), c.data());
  return Tensor(shape, a.dtype(), std::move(c));
}

Var matmul(const Var& a, const Var& b, Matmul options) {
  const bool ta = options.transpose_a, tb = options.transpose_b;
  const bool tall = a.rank() > 2 && b.rank() == 2 && !ta;  // the value is a single tall product, and so is db
  // c = op(a) op(b):  d op(a) = dc op(b)',  d op(b) = op(a)' dc;  a transposed factor transposes its gradient.
  return record("matmul", matmul(a.value(), b.value(), options),
                Wrt{a, [b = b.value(), ta, tb](const Tensor& dc) {
                      return ta ? matmul(b, dc, {.transpose_a = tb, .transpose_b = true}) : matmul(dc, b, {.transpose_b = !tb});
                    }},
                Wrt{b, [a = tall ? as_rows(a.value()) : a.value(), ta, tb, tall](const Tensor& dy) {
                      const Tensor dc = tall ? as_rows(dy) : dy;
                      return tb ? matmul(dc, a, {.transpose_a = true, .transpose_b = ta}) : matmul(a, dc, {.transpose_a = !ta});
                    }});
}

Tensor cholesky(const Tensor& a) {
  check_square("cholesky", a);
  check_floating("cholesky", a.dtype());
  Buffer l = copy_of(a);
  backend(a.device()).cholesky(a.dtype(), batch_of(a.shape()).numel(), a.size(-1), l.data());
  return Tensor(a.shape(), a.dtype(), std::move(l));
}

Tensor solve_lower(const Tensor& l, const Tensor& b, SolveLower options) {
  check_square("solve_lower", l);
  check_matrix("solve_lower", b);
  check(l.dtype() == b.dtype() && l.device() == b.device(), "solve_lower: dtypes and devices must agree; got ", l.dtype(),
        " on ", l.device(), " and ", b.dtype(), " on ", b.device());
  check(batch_of(l.shape()) == batch_of(b.shape()) && l.size(-1) == b.size(-2),
        "solve_lower: L [..., n, n] and b [..., n, c] must agree; got ", l.shape(), " and ", b.shape());
  Buffer x = copy_of(b);
  backend(b.device()).solve_lower(b.dtype(), batch_of(b.shape()).numel(), l.size(-1), b.size(-1), options.transpose, l.raw(), x.data());
  return Tensor(b.shape(), b.dtype(), std::move(x));
}

}  // namespace optnet
