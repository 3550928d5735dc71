// Running sums along an axis, of an input seen as [outer, count, inner].
#include "framework/kernel.h"
#include "framework/ops.h"

namespace optnet {
namespace {

/// y[o, k, i] = sum of x[o, 0 ... k, i], or of x[o, k ... count-1, i] in reverse. A task walks a few neighbouring
/// columns i together; float32 is summed in double, as in reduce.cu.
template <class T>
struct Scan {
  using A = std::conditional_t<std::is_same_v<T, float>, double, T>;
  static constexpr int width = 16;
  const T* x;
  T* y;
  std::int64_t count, inner, tiles;
  bool reverse;
  OPTNET_HD void operator()(std::int64_t task) const {
    const std::int64_t first = task % tiles * width, columns = inner - first < width ? inner - first : width;
    const std::int64_t begin = task / tiles * count * inner + first;
    A total[width] = {};
    for (std::int64_t k = 0; k < count; ++k) {
      const std::int64_t at = begin + (reverse ? count - 1 - k : k) * inner;
      for (std::int64_t c = 0; c < columns; ++c) y[at + c] = static_cast<T>(total[c] += static_cast<A>(x[at + c]));
    }
  }
};

Tensor scan(const Tensor& x, int axis, bool reverse) {
  check_operands("cumsum", x);
  const Extent e(x.shape(), x.shape().axis(axis, "cumsum"));
  return dispatch(x.dtype(), [&](auto t) {
    using T = decltype(t);
    Buffer y(static_cast<std::size_t>(x.numel()) * sizeof(T), x.device());
    const std::int64_t tiles = (e.inner + Scan<T>::width - 1) / Scan<T>::width;
    parallel_for(x.device(), e.outer * tiles, x.numel(), Scan<T>{x.data<T>(), static_cast<T*>(y.data()), e.count, e.inner, tiles, reverse});
    return Tensor(x.shape(), x.dtype(), std::move(y));
  });
}

}  // namespace

Tensor cumsum(const Tensor& x, int axis) { return scan(x, axis, false); }
Var cumsum(const Var& x, int axis) {  // x[k] is in the sums from k on
  return record("cumsum", cumsum(x.value(), axis), Wrt{x, [axis](const Tensor& dy) { return scan(dy, axis, true); }});
}

}  // namespace optnet
