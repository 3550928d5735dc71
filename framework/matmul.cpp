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

/// [..., n] as columns [..., n, 1], or as rows [..., 1, n].
Shape column_shape(const Tensor& x) {
  check(x.rank() >= 1, "outer: needs vectors, at least one axis (use reshape); got ", x.shape());
  return matrix_shape(Shape(x.shape().begin(), x.shape().end() - 1), x.size(-1), 1);
}
Shape row_shape(const Tensor& x) {
  const Shape column = column_shape(x);
  return matrix_shape(batch_of(column), 1, x.size(-1));
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

/// A factorisation and the right sides it is applied to: [..., n, n] and [..., n, c].
void check_system(const char* op, const char* letter, const Tensor& a, const Tensor& b) {
  check_square(op, a);
  check_matrix(op, b);
  check(a.dtype() == b.dtype() && a.device() == b.device(), op, ": dtypes and devices must agree; got ", a.dtype(),
        " on ", a.device(), " and ", b.dtype(), " on ", b.device());
  check_floating(op, a.dtype());
  check(batch_of(a.shape()) == batch_of(b.shape()) && a.size(-1) == b.size(-2),
        op, ": ", letter, " [..., n, n] and b [..., n, c] must agree; got ", a.shape(), " and ", b.shape());
}

Buffer copy_of(const Tensor& x) {
  Buffer out(static_cast<std::size_t>(x.numel()) * size_of(x.dtype()), x.device());
  backend(x.device()).copy(out.data(), x.raw(), out.bytes());
  return out;
}

/// P A = L U for each matrix: made once, for the value and for the gradient.
class LU {
 public:
  explicit LU(const Tensor& a) : batch_(batch_of(a.shape()).numel()), n_(a.size(-1)) {
    Buffer factors = copy_of(transpose(a));  // the backend takes matrices by columns
    auto pivots = std::make_shared<Buffer>(static_cast<std::size_t>(batch_ * n_) * sizeof(int), a.device());
    backend(a.device()).lu(a.dtype(), batch_, n_, factors.data(), static_cast<int*>(pivots->data()));
    factors_ = Tensor(a.shape(), a.dtype(), std::move(factors));
    pivots_ = std::move(pivots);
  }

  /// A^-1 b, or A'^-1 b.
  Tensor solve(const Tensor& b, bool transposed) const {
    const Tensor columns = transpose(b);
    Buffer x = copy_of(columns);
    backend(b.device()).solve_lu(b.dtype(), batch_, n_, b.size(-1), transposed, factors_.raw(),
                                 static_cast<const int*>(pivots_->data()), x.data());
    return transpose(Tensor(columns.shape(), b.dtype(), std::move(x)));
  }

 private:
  std::int64_t batch_, n_;
  Tensor factors_;
  std::shared_ptr<const Buffer> pivots_;
};

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

Var cholesky(const Var& a) {
  const Tensor l = cholesky(a.value());
  // dA = (S + S') / 2 with S = L'^-1 Phi(L' dL) L^-1, where Phi takes the lower triangle and half the diagonal: Murray
  // 2016, arXiv:1602.07527, section 3.1. Phi(M) + Phi(M)' is the lower triangle of M and its mirror image.
  return record("cholesky", l, Wrt{a, [l](const Tensor& dl) {
                  const Tensor m = matmul(l, dl, {.transpose_a = true});
                  const Tensor phi = 0.5 * (tril(m) + transpose(tril(m, -1)));
                  return solve_lower(l, transpose(solve_lower(l, phi, {.transpose = true})), {.transpose = true});
                }});
}

Tensor solve_lower(const Tensor& l, const Tensor& b, SolveLower options) {
  check_system("solve_lower", "L", l, b);
  Buffer x = copy_of(b);
  backend(b.device()).solve_lower(b.dtype(), batch_of(b.shape()).numel(), l.size(-1), b.size(-1), options.transpose, l.raw(), x.data());
  return Tensor(b.shape(), b.dtype(), std::move(x));
}
Var solve_lower(const Var& l, const Var& b, SolveLower options) {
  const Tensor x = solve_lower(l.value(), b.value(), options);
  const bool wants_dl = l.tracked();
  // x = L^-1 b: db = L'^-1 dx, dL = -db x', of which the lower triangle counts; x = L'^-1 b: dL = -x db'.
  return record("solve_lower", x, {l, b}, [l = l.value(), x, t = options.transpose, wants_dl](const Tensor& dx) {
    const Tensor db = solve_lower(l, dx, {.transpose = !t});
    const Tensor dl = wants_dl ? -tril(matmul(t ? x : db, t ? db : x, {.transpose_b = true})) : Tensor();
    return std::vector<Tensor>{dl, db};
  });
}

Tensor solve(const Tensor& a, const Tensor& b) {
  check_system("solve", "A", a, b);
  return LU(a).solve(b, false);
}
Var solve(const Var& a, const Var& b) {
  check_system("solve", "A", a.value(), b.value());
  const LU lu(a.value());
  const Tensor x = lu.solve(b.value(), false);
  const bool wants_da = a.tracked();
  return record("solve", x, {a, b}, [lu, x, wants_da](const Tensor& dx) {  // db = A'^-1 dx, dA = -db x'
    const Tensor db = lu.solve(dx, true);
    return std::vector<Tensor>{wants_da ? -matmul(db, x, {.transpose_b = true}) : Tensor(), db};
  });
}

Tensor outer(const Tensor& a, const Tensor& b) { return a.reshape(column_shape(a)) * b.reshape(row_shape(b)); }
Var outer(const Var& a, const Var& b) { return reshape(a, column_shape(a.value())) * reshape(b, row_shape(b.value())); }

}  // namespace optnet
