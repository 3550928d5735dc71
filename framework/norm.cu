// Normalisation: batch_norm over each channel of a batch, layer_norm over each example. Sums of float32 are kept in double.
#include "framework/kernel.h"
#include "framework/ops.h"

#include <cmath>

namespace optnet {
namespace {

/// x as [batch, channels, inner].
struct Channels {
  std::int64_t batch, channels, inner;
  double count() const { return static_cast<double>(batch * inner); }
};

constexpr int lanes = 8;  // independent partial sums, which the compiler keeps in vector registers

/// Sum of f(i) for i = 0 ... count-1.
template <class F>
OPTNET_HD double sum_over(std::int64_t count, const F& f) {
  double part[lanes] = {};
  std::int64_t i = 0;
  for (; i + lanes <= count; i += lanes)
    for (int u = 0; u < lanes; ++u) part[u] += f(i + u);
  for (; i < count; ++i) part[0] += f(i);
  for (int u = 1; u < lanes; ++u) part[0] += part[u];
  return part[0];
}
/// Sum of f(i) over all entries i of channel c.
template <class F>
OPTNET_HD double sum_channel(const Channels& s, std::int64_t c, const F& f) {
  if (s.inner == 1) return sum_over(s.batch, [&](std::int64_t b) { return f(b * s.channels + c); });
  double total = 0;
  for (std::int64_t b = 0; b < s.batch; ++b) {
    const std::int64_t first = (b * s.channels + c) * s.inner;
    total += sum_over(s.inner, [&](std::int64_t i) { return f(first + i); });
  }
  return total;
}

/// The mean and the variance (over N) of each channel, in two passes: in one, large means would cancel.
template <class T>
struct Moments {
  const T* x;
  T *mean, *variance;
  Channels s;
  OPTNET_HD void operator()(std::int64_t c) const {
    const double count = static_cast<double>(s.batch * s.inner);
    const double m = sum_channel(s, c, [this](std::int64_t i) { return static_cast<double>(x[i]); }) / count;
    mean[c] = static_cast<T>(m);
    variance[c] = static_cast<T>(sum_channel(s, c, [this, m](std::int64_t i) { return (x[i] - m) * (x[i] - m); }) / count);
  }
};

/// sum dy and sum dy (x - mean), channel by channel.
template <class T>
struct GradientSums {
  const T *x, *dy, *mean;
  T *sum, *product;
  Channels s;
  OPTNET_HD void operator()(std::int64_t c) const {
    sum[c] = static_cast<T>(sum_channel(s, c, [this](std::int64_t i) { return static_cast<double>(dy[i]); }));
    const double m = mean[c];
    product[c] = static_cast<T>(sum_channel(s, c, [this, m](std::int64_t i) { return dy[i] * (x[i] - m); }));
  }
};

/// out = a dy + b (x - mean) + shift, where a, b, mean and shift are the channel's; without dy if there is none.
template <class T>
struct Combine {
  const T *x, *dy, *mean, *a, *b, *shift;
  T* out;
  Channels s;
  OPTNET_HD void operator()(std::int64_t task) const {  // one example, or one channel of one
    const bool narrow = s.inner == 1;
    const std::int64_t first = task * (narrow ? s.channels : s.inner), count = narrow ? s.channels : s.inner;
    const std::int64_t c = narrow ? 0 : task % s.channels;
    if (narrow)
      for (std::int64_t i = 0; i < count; ++i) out[first + i] = at(first + i, i);
    else
      for (std::int64_t i = 0; i < count; ++i) out[first + i] = at(first + i, c);
  }
  OPTNET_HD T at(std::int64_t i, std::int64_t c) const {
    const T value = b[c] * (x[i] - mean[c]) + shift[c];
    return dy ? a[c] * dy[i] + value : value;
  }
};

Channels channels_of(const Tensor& x) {
  std::int64_t inner = 1;
  for (int d = 2; d < x.rank(); ++d) inner *= x.size(d);
  return {x.size(0), x.size(1), inner};
}

/// By channel: a, b and shift of Combine.
Tensor combine(const Tensor& x, const Tensor* dy, const Tensor& mean, const Tensor* a, const Tensor& b, const Tensor& shift) {
  const Channels s = channels_of(x);
  return dispatch_floating("batch_norm", x.dtype(), [&](auto t) {
    using T = decltype(t);
    Buffer out(static_cast<std::size_t>(x.numel()) * sizeof(T), x.device());
    parallel_for(x.device(), s.inner == 1 ? s.batch : s.batch * s.channels, x.numel(),
                 Combine<T>{x.data<T>(), dy ? dy->data<T>() : nullptr, mean.data<T>(), a ? a->data<T>() : nullptr, b.data<T>(), shift.data<T>(),
                            static_cast<T*>(out.data()), s});
    return Tensor(x.shape(), x.dtype(), std::move(out));
  });
}

/// Two results of one kernel over the channels.
template <template <class> class Kernel, class... X>
std::pair<Tensor, Tensor> by_channel(const Tensor& x, const X&... rest) {
  const Channels s = channels_of(x);
  return dispatch_floating("batch_norm", x.dtype(), [&](auto t) {
    using T = decltype(t);
    const std::size_t bytes = static_cast<std::size_t>(s.channels) * sizeof(T);
    Buffer first(bytes, x.device()), second(bytes, x.device());
    parallel_for(x.device(), s.channels, x.numel(), Kernel<T>{x.data<T>(), rest.template data<T>()..., static_cast<T*>(first.data()), static_cast<T*>(second.data()), s});
    return std::pair{Tensor({s.channels}, x.dtype(), std::move(first)), Tensor({s.channels}, x.dtype(), std::move(second))};
  });
}

void check_norm(const char* op, const Var& x, const Var& w, const Var& b, const Shape& own) {
  check_operands(op, x.value(), w.value());
  check_operands(op, x.value(), b.value());
  check_floating(op, x.dtype());
  check(w.shape() == own && b.shape() == own, op, ": weight and bias must be ", own, " for input ", x.shape(), "; got ", w.shape(), " and ", b.shape());
}
void check_channels(const Var& x) { check(x.rank() >= 2, "batch_norm: input must be [batch, channels, ...]; got ", x.shape()); }

/// 1 / sqrt(variance + eps)
Tensor inverse_deviation(const Tensor& variance, double eps) {
  check(eps > 0, "batch_norm: eps must be positive; got ", eps);
  return 1.0 / sqrt(variance + eps);
}

// ---- layer_norm ---------------------------------------------------------------------------------------------------

/// One row: y = (x - mean) inverse w + b, and its mean and 1 / sqrt(variance + eps).
template <class T>
struct LayerNorm {
  const T *x, *w, *b;
  T *y, *mean, *inverse;
  std::int64_t count;
  double eps;
  OPTNET_HD void operator()(std::int64_t row) const {
    const T* in = x + row * count;
    const double m = sum_over(count, [in](std::int64_t i) { return static_cast<double>(in[i]); }) / static_cast<double>(count);
    const double variance = sum_over(count, [in, m](std::int64_t i) { return (in[i] - m) * (in[i] - m); }) / static_cast<double>(count);
    mean[row] = static_cast<T>(m), inverse[row] = static_cast<T>(1 / std::sqrt(variance + eps));
    for (std::int64_t i = 0; i < count; ++i) y[row * count + i] = (in[i] - mean[row]) * inverse[row] * w[i] + b[i];
  }
};

/// dx = inverse (w dy - mean(w dy) - n mean(w dy n)), n = (x - mean) inverse; and dy n, which sums up to dw.
template <class T>
struct LayerNormGrad {
  const T *x, *w, *mean, *inverse, *dy;
  T *dx, *product;
  std::int64_t count;
  OPTNET_HD void operator()(std::int64_t row) const {
    const T *in = x + row * count, *d = dy + row * count, *own = w;
    const T m = mean[row], r = inverse[row];
    const double share = 1 / static_cast<double>(count);
    const T first = static_cast<T>(share * sum_over(count, [=](std::int64_t i) { return static_cast<double>(own[i] * d[i]); }));
    const T second = static_cast<T>(share * sum_over(count, [=](std::int64_t i) { return static_cast<double>(own[i] * d[i] * (in[i] - m) * r); }));
    for (std::int64_t i = 0; i < count; ++i) {
      const T n = (in[i] - m) * r;
      dx[row * count + i] = r * (w[i] * d[i] - first - n * second), product[row * count + i] = d[i] * n;
    }
  }
};

}  // namespace

BatchStatistics batch_norm(const Var& x, const Var& w, const Var& b, double eps) {
  check_channels(x);
  check_norm("batch_norm", x, w, b, {x.size(1)});
  const double count = channels_of(x.value()).count();
  check(count > 1, "batch_norm: training needs more than one value a channel (a larger batch, or eval()); got ", x.shape());
  const auto [mean, variance] = by_channel<Moments>(x.value());
  const Tensor inverse = inverse_deviation(variance, eps), scale = w.value() * inverse;
  const Tensor y = combine(x.value(), nullptr, mean, nullptr, scale, b.value());
  return {record("batch_norm", y, {x, w, b}, [=, x = x.value(), mean = mean](const Tensor& dy) {
            const auto [sum, product] = by_channel<GradientSums>(x, dy, mean);
            const Tensor dw = product * inverse;  // dx = scale (dy - mean(dy) - n mean(dy n)), n = (x - mean) inverse
            const Tensor dx = combine(x, &dy, mean, &scale, -(scale * inverse * dw) / count, -(scale * sum) / count);
            return std::vector<Tensor>{dx, dw, sum};
          }),
          mean, variance};
}

Var batch_norm(const Var& x, const Var& w, const Var& b, const Tensor& mean, const Tensor& variance, double eps) {
  check_channels(x);
  check_norm("batch_norm", x, w, b, {x.size(1)});
  check_norm("batch_norm", x, mean, variance, {x.size(1)});
  Shape across{x.size(1)};
  for (int d = 2; d < x.rank(); ++d) across.push_back(1);
  const Var scale = w * Var(inverse_deviation(variance, eps));
  return (x - Var(mean.reshape(across))) * reshape(scale, across) + reshape(b, across);
}

Var layer_norm(const Var& x, const Var& w, const Var& b, double eps) {
  check_norm("layer_norm", x, w, b, w.shape());
  const int own = w.rank();
  check(own > 0 && x.rank() >= own && std::equal(w.shape().begin(), w.shape().end(), x.shape().end() - own) && w.value().numel() > 0,
        "layer_norm: the weight's shape must be that of the input's last axes, and not empty; got ", w.shape(), " and ", x.shape());
  check(eps > 0, "layer_norm: eps must be positive; got ", eps);
  const std::int64_t count = w.value().numel(), rows = x.value().numel() / count;
  return dispatch_floating("layer_norm", x.dtype(), [&](auto t) {
    using T = decltype(t);
    const auto memory = [&](std::int64_t size) { return Buffer(static_cast<std::size_t>(size) * sizeof(T), x.value().device()); };
    Buffer y = memory(x.value().numel()), m = memory(rows), r = memory(rows);
    parallel_for(x.value().device(), rows, 4 * x.value().numel(),
                 LayerNorm<T>{x.value().data<T>(), w.value().data<T>(), b.value().data<T>(), static_cast<T*>(y.data()), static_cast<T*>(m.data()),
                              static_cast<T*>(r.data()), count, eps});
    const Tensor mean({rows}, x.dtype(), std::move(m)), inverse({rows}, x.dtype(), std::move(r));
    return record("layer_norm", Tensor(x.shape(), x.dtype(), std::move(y)), {x, w, b}, [=, x = x.value(), w = w.value()](const Tensor& dy) {
      const std::size_t bytes = static_cast<std::size_t>(x.numel()) * sizeof(T);
      Buffer dx(bytes, x.device()), product(bytes, x.device());
      parallel_for(x.device(), rows, 4 * x.numel(),
                   LayerNormGrad<T>{x.data<T>(), w.data<T>(), mean.data<T>(), inverse.data<T>(), dy.data<T>(), static_cast<T*>(dx.data()),
                                    static_cast<T*>(product.data()), count});
      const Tensor dyn(x.shape(), x.dtype(), std::move(product));
      return std::vector<Tensor>{Tensor(x.shape(), x.dtype(), std::move(dx)), sum_to(dyn, w.shape()), sum_to(dy, w.shape())};
    });
  });
}

}  // namespace optnet
