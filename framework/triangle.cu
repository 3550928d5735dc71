// Diagonals and triangles of matrices, which are the last two axes. A task writes one row.
#include "framework/kernel.h"
#include "framework/ops.h"

namespace optnet {
namespace {

template <class T>
struct Diag {  // row i of a matrix is x[i] at column i
  const T* x;
  T* y;
  std::int64_t n;
  OPTNET_HD void operator()(std::int64_t row) const {
    for (std::int64_t j = 0; j < n; ++j) y[row * n + j] = T(0);
    y[row * n + row % n] = x[row];
  }
};

template <class T>
struct Diagonal {
  const T* x;
  T* y;
  std::int64_t n;
  OPTNET_HD void operator()(std::int64_t row) const { y[row] = x[row * n + row % n]; }
};

template <class T>
struct Triangle {  // keeps j - i <= k, or j - i >= k
  const T* x;
  T* y;
  std::int64_t rows, columns, k;
  bool lower;
  OPTNET_HD void operator()(std::int64_t row) const {
    const std::int64_t diagonal = row % rows + k;
    for (std::int64_t j = 0; j < columns; ++j)
      y[row * columns + j] = (lower ? j <= diagonal : j >= diagonal) ? x[row * columns + j] : T(0);
  }
};

Tensor triangle(const char* op, const Tensor& x, std::int64_t k, bool lower) {
  check_operands(op, x);
  check(x.rank() >= 2, op, ": needs matrices, at least two axes (use reshape); got ", x.shape());
  const std::int64_t rows = x.size(-2), columns = x.size(-1);
  Buffer y(static_cast<std::size_t>(x.numel()) * size_of(x.dtype()), x.device());
  dispatch(x.dtype(), [&](auto t) {
    using T = decltype(t);
    parallel_for(x.device(), x.numel() / std::max<std::int64_t>(columns, 1), x.numel(),
                 Triangle<T>{x.data<T>(), static_cast<T*>(y.data()), rows, columns, std::clamp(k, -rows, columns), lower});
  });
  return Tensor(x.shape(), x.dtype(), std::move(y));
}

}  // namespace

Tensor diag(const Tensor& x) {
  check_operands("diag", x);
  check(x.rank() >= 1, "diag: needs vectors, at least one axis (use reshape); got ", x.shape());
  Shape shape = x.shape();
  shape.push_back(x.size(-1));
  Buffer y(static_cast<std::size_t>(shape.numel()) * size_of(x.dtype()), x.device());
  dispatch(x.dtype(), [&](auto t) {
    using T = decltype(t);
    parallel_for(x.device(), x.numel(), shape.numel(), Diag<T>{x.data<T>(), static_cast<T*>(y.data()), x.size(-1)});
  });
  return Tensor(shape, x.dtype(), std::move(y));
}
Var diag(const Var& x) {
  return record("diag", diag(x.value()), Wrt{x, [](const Tensor& dy) { return diagonal(dy); }});
}

Tensor diagonal(const Tensor& x) {
  check_operands("diagonal", x);
  check(x.rank() >= 2 && x.size(-1) == x.size(-2), "diagonal: needs square matrices; got ", x.shape());
  const Shape shape(x.shape().begin(), x.shape().end() - 1);
  Buffer y(static_cast<std::size_t>(shape.numel()) * size_of(x.dtype()), x.device());
  dispatch(x.dtype(), [&](auto t) {
    using T = decltype(t);
    parallel_for(x.device(), shape.numel(), shape.numel(), Diagonal<T>{x.data<T>(), static_cast<T*>(y.data()), x.size(-1)});
  });
  return Tensor(shape, x.dtype(), std::move(y));
}
Var diagonal(const Var& x) {
  return record("diagonal", diagonal(x.value()), Wrt{x, [](const Tensor& dy) { return diag(dy); }});
}

Tensor tril(const Tensor& x, std::int64_t k) { return triangle("tril", x, k, true); }
Var tril(const Var& x, std::int64_t k) {
  return record("tril", tril(x.value(), k), Wrt{x, [k](const Tensor& dy) { return tril(dy, k); }});
}

Tensor triu(const Tensor& x, std::int64_t k) { return triangle("triu", x, k, false); }
Var triu(const Var& x, std::int64_t k) {
  return record("triu", triu(x.value(), k), Wrt{x, [k](const Tensor& dy) { return triu(dy, k); }});
}

}  // namespace optnet
