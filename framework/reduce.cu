// Reductions over any axes, and what is built on them: mean, variance, norm, argmax. A reduction sees its input as
// [outer, count, inner]; long sums are cut into chunks of fixed length whose partial results are added in
// order, so that the answer is the same for any number of threads.
#include "framework/kernel.h"
#include "framework/ops.h"

#include <cmath>
#include <limits>

namespace optnet {
namespace {

// float32 sums are kept in double: no slower than memory, and a mean over a million stays exact to float's eps.
template <class T> struct Accumulator { using Type = T; };
template <> struct Accumulator<float> { using Type = double; };

struct Sum {
  template <class A> static constexpr A start = 0;
  template <class A> OPTNET_HD A operator()(A a, A x) const { return a + x; }
};
struct Max {
  template <class A> static constexpr A start =
      std::numeric_limits<A>::has_infinity ? -std::numeric_limits<A>::infinity() : std::numeric_limits<A>::lowest();
  template <class A> OPTNET_HD A operator()(A a, A x) const { return x != x ? x : x > a ? x : a; }  // NaN stays
};
struct Min {
  template <class A> static constexpr A start =
      std::numeric_limits<A>::has_infinity ? std::numeric_limits<A>::infinity() : std::numeric_limits<A>::max();
  template <class A> OPTNET_HD A operator()(A a, A x) const { return x != x ? x : x < a ? x : a; }
};
struct MaxAbs {
  template <class A> static constexpr A start = 0;
  template <class A> OPTNET_HD A operator()(A a, A x) const { return Max{}(a, x < 0 ? -x : x); }
};

constexpr int lanes = 8;  // independent partial results, which the compiler keeps in vector registers

/// Entries of the reduced axis that lie next to each other: out[o] = R over x[o, :].
template <class R, class A, class T, class Out>
struct ReduceRows {
  const T* x;
  Out* out;
  std::int64_t count, chunk, chunks;  // of each row; out is [outer, chunks]
  OPTNET_HD void operator()(std::int64_t task) const {
    const R r{};
    const std::int64_t first = task % chunks * chunk, last = first + chunk < count ? first + chunk : count;
    const T* row = x + task / chunks * count;
    A part[lanes];
    for (int u = 0; u < lanes; ++u) part[u] = R::template start<A>;
    std::int64_t i = first;
    for (; i + lanes <= last; i += lanes)
      for (int u = 0; u < lanes; ++u) part[u] = r(part[u], static_cast<A>(row[i + u]));
    for (; i < last; ++i) part[0] = r(part[0], static_cast<A>(row[i]));
    for (int u = 1; u < lanes; ++u) part[0] = r(part[0], part[u]);
    out[task] = static_cast<Out>(part[0]);
  }
};

/// Entries of the reduced axis a stride apart: out[o, i] = R over x[o, :, i], a few columns at a time. Rows narrower
/// than that are walked several at once, and what they gave is joined at the end.
template <class R, class A, class T, class Out>
struct ReduceColumns {
  static constexpr int width = 16;
  const T* x;
  Out* out;
  std::int64_t count, inner, chunk, chunks, tiles;  // tiles of columns; out is [outer, chunks, inner]
  OPTNET_HD void operator()(std::int64_t task) const {
    const R r{};
    const std::int64_t run = task / tiles, first = task % tiles * width, from = run % chunks * chunk;
    const std::int64_t to = from + chunk < count ? from + chunk : count;
    const T *at = x + (run / chunks * count + from) * inner + first, *const end = at + (to - from) * inner;
    const bool narrow = inner < width;
    const int w = static_cast<int>(narrow ? width / inner * inner : inner - first < width ? inner - first : width);
    const std::int64_t step = narrow ? w : inner;
    A part[width];
    for (int c = 0; c < w; ++c) part[c] = R::template start<A>;
    for (; end - at >= step; at += step)
      if (w == width)
        for (int c = 0; c < width; ++c) part[c] = r(part[c], static_cast<A>(at[c]));
      else
        for (int c = 0; c < w; ++c) part[c] = r(part[c], static_cast<A>(at[c]));
    for (int c = 0; c < end - at; ++c) part[c] = r(part[c], static_cast<A>(at[c]));  // narrow rows that are left over
    for (int c = static_cast<int>(inner); c < w; ++c) part[c % inner] = r(part[c % inner], part[c]);
    for (int c = 0; c < w && c < inner; ++c) out[run * inner + first + c] = static_cast<Out>(part[c]);
  }
};

/// out[outer, chunks, inner] = R over each chunk of the reduced axis of x [outer, count, inner].
template <class R, class A, class T, class Out>
void reduce_chunks(Device device, const T* x, Out* out, const Extent& e, std::int64_t chunk, std::int64_t chunks) {
  const std::int64_t work = e.outer * e.count * e.inner;
  if (e.inner == 1) return parallel_for(device, e.outer * chunks, work, ReduceRows<R, A, T, Out>{x, out, e.count, chunk, chunks});
  using Columns = ReduceColumns<R, A, T, Out>;
  const std::int64_t tiles = (e.inner + Columns::width - 1) / Columns::width;
  parallel_for(device, e.outer * chunks * tiles, work, Columns{x, out, e.count, e.inner, chunk, chunks, tiles});
}

template <class R, class T>
Tensor reduce_as(const Tensor& x, const Extent& e, const Shape& shape) {
  using A = typename Accumulator<T>::Type;
  Buffer out(static_cast<std::size_t>(shape.numel()) * sizeof(T), x.device());
  T* y = static_cast<T*>(out.data());
  const std::int64_t chunk = 8192, chunks = std::max<std::int64_t>((e.count + chunk - 1) / chunk, 1);
  if (chunks == 1) {
    reduce_chunks<R, A>(x.device(), x.data<T>(), y, e, chunk, 1);
  } else {
    Buffer parts(static_cast<std::size_t>(e.outer * chunks * e.inner) * sizeof(A), x.device());
    A* partial = static_cast<A*>(parts.data());
    reduce_chunks<R, A>(x.device(), x.data<T>(), partial, e, chunk, chunks);
    reduce_chunks<R, A>(x.device(), partial, y, {e.outer, chunks, e.inner}, chunks, 1);
  }
  return Tensor(shape, dtype_of<T>, std::move(out));
}

/// Which axes are reduced, as flags; no axes means all.
std::vector<bool> reduced_axes(const char* op, const Shape& shape, const Axes& axes) {
  std::vector<bool> reduced(static_cast<std::size_t>(shape.rank()), axes.empty());
  for (int axis : axes) {
    const auto a = static_cast<std::size_t>(shape.axis(axis, op));
    check(!reduced[a], op, ": each axis may be named once; got axis ", axis, " twice");
    reduced[a] = true;
  }
  return reduced;
}

Shape reduced_shape(const Shape& shape, const std::vector<bool>& reduced, bool keepdims) {
  Shape out;
  for (int d = 0; d < shape.rank(); ++d)
    if (!reduced[static_cast<std::size_t>(d)]) out.push_back(shape[d]);
    else if (keepdims) out.push_back(1);
  return out;
}

/// One run of neighbouring axes after another, from the last: each is one pass over [outer, count, inner].
template <class R>
Tensor reduce(const char* op, Tensor x, const Axes& axes, Reduce options) {
  check_operands(op, x);
  const std::vector<bool> reduced = reduced_axes(op, x.shape(), axes);
  const Shape result = reduced_shape(x.shape(), reduced, options.keepdims);
  Shape shape = x.shape();
  for (int last = shape.rank() - 1; last >= 0; --last) {
    if (!reduced[static_cast<std::size_t>(last)]) continue;
    int first = last;
    while (first > 0 && reduced[static_cast<std::size_t>(first - 1)]) --first;
    Extent e;
    for (int d = 0; d < shape.rank(); ++d) (d < first ? e.outer : d > last ? e.inner : e.count) *= shape[d];
    for (int d = first; d <= last; ++d) shape[d] = 1;
    x = dispatch(x.dtype(), [&](auto t) { return reduce_as<R, decltype(t)>(x, e, shape); });
    last = first;
  }
  return x.reshape(result);
}

/// The shape of a reduced tensor with its axes put back as 1, so that it broadcasts against the input.
Shape kept_shape(const char* op, const Shape& shape, const Axes& axes) {
  return reduced_shape(shape, reduced_axes(op, shape, axes), true);
}

void check_not_empty(const char* op, const Tensor& x, const Shape& kept) {
  check(x.numel() > 0 || kept.numel() == 0, op, ": needs at least one element along the reduced axes; got ", x.shape());
}

/// max and min: the gradient goes to the extreme elements, shared where several are equal.
Var extreme(const char* op, const Var& x, const Tensor& y, const Axes& axes) {
  const Shape kept = kept_shape(op, x.shape(), axes);
  return record(op, y, Wrt{x, [x = x.value(), y = y.reshape(kept), axes, kept](const Tensor& dy) {
                  const Tensor hit = equal(x, y);
                  return hit * (dy.reshape(kept) / sum(hit, axes, {.keepdims = true}));
                }});
}

struct SquaredDistance {
  template <class T>
  OPTNET_HD T operator()(T x, T center) const { return (x - center) * (x - center); }
};
struct VarianceGrad {
  double free;
  template <class T>
  OPTNET_HD T operator()(T x, T center, T dy) const { return (x - center) * (dy * static_cast<T>(2 / free)); }
};

/// What the sum of squares is divided by: how many numbers each variance is of, less the correction.
double degrees_of_freedom(const Shape& shape, const Axes& axes, double correction) {
  double count = 1;
  const std::vector<bool> reduced = reduced_axes("var", shape, axes);
  for (int d = 0; d < shape.rank(); ++d)
    if (reduced[static_cast<std::size_t>(d)]) count *= static_cast<double>(shape[d]);
  check(count > 0, "var: needs elements along the reduced axes; got ", shape);
  check(count > correction, "var: needs more elements along the reduced axes than the correction of ", correction,
        " (give {.correction = 0}); got ", shape);
  return count - correction;
}

/// A power of two near the largest |x|: numbers are divided by it exactly, and their squares then do not overflow.
struct Scale {
  template <class T>
  OPTNET_HD T operator()(T top) const { return top > 0 && top - top == 0 ? std::ldexp(T(1), std::ilogb(top)) : T(1); }
};
struct ScaledSquare {
  template <class T>
  OPTNET_HD T operator()(T x, T scale) const { return (x / scale) * (x / scale); }
};
struct ScaledRoot {
  template <class T>
  OPTNET_HD T operator()(T squares, T scale) const { return scale * std::sqrt(squares); }
};
struct NormGrad {
  template <class T>
  OPTNET_HD T operator()(T x, T y, T dy) const { return x / (y == 0 ? T(1) : y) * dy; }
};

template <class T>
struct ArgMax {
  const T* x;
  std::int64_t* out;
  std::int64_t count, inner;
  OPTNET_HD void operator()(std::int64_t i) const {
    const T* at = x + i / inner * count * inner + i % inner;
    std::int64_t best = 0;
    for (std::int64_t k = 1; k < count; ++k)
      if (at[best * inner] == at[best * inner] && !(at[k * inner] <= at[best * inner])) best = k;  // NaN is the largest
    out[i] = best;
  }
};

}  // namespace

Tensor sum_to(const Tensor& x, const Shape& shape, const char* op) {
  if (x.shape() == shape) return x;
  Axes axes;
  const int shift = x.rank() - shape.rank();
  check(shift >= 0, op, ": ", x.shape(), " is no broadcast of ", shape);
  for (int d = 0; d < x.rank(); ++d)
    if (d < shift || (shape[d - shift] == 1 && x.shape()[d] != 1)) axes.push_back(d);
    else check(shape[d - shift] == x.shape()[d], op, ": ", x.shape(), " is no broadcast of ", shape);
  return axes.empty() ? x.reshape(shape) : sum(x, axes).reshape(shape);
}

Tensor sum(const Tensor& x, const Axes& axes, Reduce options) { return reduce<Sum>("sum", x, axes, options); }
Var sum(const Var& x, const Axes& axes, Reduce options) {
  return record("sum", sum(x.value(), axes, options),
                Wrt{x, [shape = x.shape(), kept = kept_shape("sum", x.shape(), axes)](const Tensor& dy) {
                      return dy.reshape(kept) + zeros(shape, dy.dtype(), dy.device());
                    }});
}

Tensor mean(const Tensor& x, const Axes& axes, Reduce options) {
  check_operands("mean", x);
  check_floating("mean", x.dtype());
  const Shape kept = kept_shape("mean", x.shape(), axes);
  check_not_empty("mean", x, kept);
  return sum(x, axes, options) / std::max(1.0, static_cast<double>(x.numel()) / static_cast<double>(std::max<std::int64_t>(1, kept.numel())));
}
Var mean(const Var& x, const Axes& axes, Reduce options) {
  Tensor y = mean(x.value(), axes, options);
  const Shape kept = kept_shape("mean", x.shape(), axes);
  return record("mean", y, Wrt{x, [shape = x.shape(), kept](const Tensor& dy) {
                  const double count = static_cast<double>(shape.numel()) / static_cast<double>(kept.numel());
                  return dy.reshape(kept) / count + zeros(shape, dy.dtype(), dy.device());
                }});
}

Var var(const Var& in, const Axes& axes, Variance options) {
  const Tensor& x = in.value();
  check_operands("var", x);
  check_floating("var", x.dtype());
  const double free = degrees_of_freedom(x.shape(), axes, options.correction);
  const Tensor center = mean(x, axes, {.keepdims = true});
  const Tensor squares = sum(map_floating("var", SquaredDistance{}, x, center), axes, {.keepdims = options.keepdims});
  return record("var", squares / free, Wrt{in, [x, center, free](const Tensor& dy) {  // that of the mean adds up to 0
                  return map_floating("var", VarianceGrad{free}, x, center, dy.reshape(center.shape()));
                }});
}
Tensor var(const Tensor& x, const Axes& axes, Variance options) { return var(Var(x), axes, options).value(); }

Tensor norm(const Tensor& x, const Axes& axes, Reduce options) {
  check_operands("norm", x);
  check_floating("norm", x.dtype());
  const Tensor scale = map_floating("norm", Scale{}, reduce<MaxAbs>("norm", x, axes, options));
  const Tensor kept = scale.reshape(kept_shape("norm", x.shape(), axes));
  return map_floating("norm", ScaledRoot{}, sum(map_floating("norm", ScaledSquare{}, x, kept), axes, options), scale);
}
Var norm(const Var& x, const Axes& axes, Reduce options) {
  Tensor y = norm(x.value(), axes, options);
  return record("norm", y, Wrt{x, [x = x.value(), y, kept = kept_shape("norm", x.shape(), axes)](const Tensor& dy) {
                  return map_floating("norm", NormGrad{}, x, y.reshape(kept), dy.reshape(kept));
                }});
}

Tensor max(const Tensor& x, const Axes& axes, Reduce options) {
  check_operands("max", x);
  check_not_empty("max", x, kept_shape("max", x.shape(), axes));
  return reduce<Max>("max", x, axes, options);
}
Var max(const Var& x, const Axes& axes, Reduce options) { return extreme("max", x, max(x.value(), axes, options), axes); }

Tensor min(const Tensor& x, const Axes& axes, Reduce options) {
  check_operands("min", x);
  check_not_empty("min", x, kept_shape("min", x.shape(), axes));
  return reduce<Min>("min", x, axes, options);
}
Var min(const Var& x, const Axes& axes, Reduce options) { return extreme("min", x, min(x.value(), axes, options), axes); }

Tensor argmax(const Tensor& x, int axis) {
  check_operands("argmax", x);
  const int at = x.shape().axis(axis, "argmax");
  check(x.size(at) > 0, "argmax: needs at least one element along axis ", axis, "; got ", x.shape());
  const Shape shape = without(x.shape(), at);
  Buffer out(static_cast<std::size_t>(shape.numel()) * sizeof(std::int64_t), x.device());
  dispatch(x.dtype(), [&](auto t) {
    using T = decltype(t);
    parallel_for(x.device(), shape.numel(), x.numel(),
                 ArgMax<T>{x.data<T>(), static_cast<std::int64_t*>(out.data()), x.size(at), Extent(x.shape(), at).inner});
  });
  return Tensor(shape, int64, std::move(out));
}

}  // namespace optnet
