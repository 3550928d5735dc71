// Softmax, its logarithm and the logarithm of its denominator. Each is computed relative to the largest entry, whose
// exponential is then 1, so that none overflows.
#include "framework/kernel.h"
#include "framework/ops.h"

#include <cmath>
#include <limits>

namespace optnet {
namespace {

template <class T>
constexpr T infinity = std::numeric_limits<T>::infinity();

/// One row of log_softmax: y = x - max - ln sum exp(x - max).
template <class T>
struct LogSoftmax {
  const T* x;
  T* y;
  std::int64_t count;
  OPTNET_HD void operator()(std::int64_t row) const {
    const T* in = x + row * count;
    T* out = y + row * count;
    T top = in[0], total = 0;
    for (std::int64_t i = 1; i < count; ++i) top = in[i] > top || in[i] != in[i] ? in[i] : top;
    for (std::int64_t i = 0; i < count; ++i) total += std::exp(in[i] - top);
    const T shift = top + std::log(total);
    for (std::int64_t i = 0; i < count; ++i) out[i] = in[i] - shift;
  }
};

/// y = ln sum exp(x) of one line of x [outer, count, inner]. An infinite largest entry is the answer itself.
template <class T>
struct LogSumExp {
  const T* x;
  T* y;
  std::int64_t count, inner;
  OPTNET_HD void operator()(std::int64_t line) const {
    const T* in = x + line / inner * count * inner + line % inner;
    T top = -infinity<T>;
    for (std::int64_t i = 0; i < count; ++i) top = in[i * inner] > top || in[i * inner] != in[i * inner] ? in[i * inner] : top;
    double total = 0;
    for (std::int64_t i = 0; i < count; ++i) total += std::exp(in[i * inner] - top);
    y[line] = top == infinity<T> || top == -infinity<T> ? top : static_cast<T>(top + std::log(total));
  }
};

struct LogSumExpGrad {  // 0 where all entries are -inf, and so is y
  template <class T>
  OPTNET_HD T operator()(T x, T y, T dy) const { return y == -infinity<T> ? T(0) : std::exp(x - y) * dy; }
};

Tensor log_softmax_for(const char* op, const Tensor& x) {
  check_operands(op, x);
  check(x.rank() >= 1 && x.size(-1) > 0, op, ": needs a last axis with at least one element; got ", x.shape());
  return dispatch_floating(op, x.dtype(), [&](auto t) {
    using T = decltype(t);
    Buffer out(static_cast<std::size_t>(x.numel()) * sizeof(T), x.device());
    parallel_for(x.device(), x.numel() / x.size(-1), 8 * x.numel(),
                 LogSoftmax<T>{x.data<T>(), static_cast<T*>(out.data()), x.size(-1)});
    return Tensor(x.shape(), x.dtype(), std::move(out));
  });
}

}  // namespace

Tensor log_softmax(const Tensor& x) { return log_softmax_for("log_softmax", x); }
Var log_softmax(const Var& x) {
  Tensor y = log_softmax(x.value());
  return record("log_softmax", y, Wrt{x, [y](const Tensor& dy) {
                  return dy - exp(y) * sum(dy, {-1}, {.keepdims = true});
                }});
}

Tensor softmax(const Tensor& x) { return exp(log_softmax_for("softmax", x)); }
Var softmax(const Var& x) {
  Tensor y = softmax(x.value());
  return record("softmax", y, Wrt{x, [y](const Tensor& dy) {
                  return y * (dy - sum(dy * y, {-1}, {.keepdims = true}));
                }});
}

Tensor logsumexp(const Tensor& x, int axis) {
  check_operands("logsumexp", x);
  const int at = x.shape().axis(axis, "logsumexp");
  const Shape shape = without(x.shape(), at);
  return dispatch_floating("logsumexp", x.dtype(), [&](auto t) {
    using T = decltype(t);
    Buffer out(static_cast<std::size_t>(shape.numel()) * sizeof(T), x.device());
    parallel_for(x.device(), shape.numel(), 8 * x.numel(), LogSumExp<T>{x.data<T>(), static_cast<T*>(out.data()), x.size(at), Extent(x.shape(), at).inner});
    return Tensor(shape, x.dtype(), std::move(out));
  });
}
Var logsumexp(const Var& x, int axis) {
  Tensor y = logsumexp(x.value(), axis);
  Shape kept = x.shape();
  kept[kept.axis(axis, "logsumexp")] = 1;
  return record("logsumexp", y, Wrt{x, [x = x.value(), y, kept](const Tensor& dy) {
                  return map_floating("logsumexp", LogSumExpGrad{}, x, y.reshape(kept), dy.reshape(kept));
                }});
}

}  // namespace optnet
