// Convolution and pooling of images [batch, channels, height, width]. A convolution is a matrix product with im2col: the
// patch under each position of the kernel, written out as a column. Images are shared out among threads, each with room for
// one image's columns.
#include "framework/conv_direct.h"
#include "framework/kernel.h"
#include "framework/ops.h"

#include <omp.h>

#include <limits>
#include <optional>

namespace optnet {
namespace {

Sliding slide(const char* op, const Shape& x, Size2 window, Size2 stride, Size2 padding, Size2 dilation) {
  check(x.rank() == 4, op, ": input must be [batch, channels, height, width]; got ", x);
  check(x[2] > 0 && x[3] > 0, op, ": images must have a height and a width; got ", x);
  check(window.height > 0 && window.width > 0, op, ": the window must not be empty; got ", window);
  check(stride.height > 0 && stride.width > 0, op, ": the stride must be positive; got ", stride);
  check(dilation.height > 0 && dilation.width > 0, op, ": the dilation must be positive; got ", dilation);
  check(padding.height >= 0 && padding.width >= 0, op, ": the padding must not be negative; got ", padding);
  const std::int64_t height = x[2] + 2 * std::int64_t{padding.height} - dilation.height * (std::int64_t{window.height} - 1);
  const std::int64_t width = x[3] + 2 * std::int64_t{padding.width} - dilation.width * (std::int64_t{window.width} - 1);
  check(height > 0 && width > 0, op, ": the window must fit into the padded image; got a window ", window, ", dilation ", dilation,
        ", padding ", padding, " and images ", x);
  return {x[1], x[2], x[3], window.height, window.width, {stride.height, stride.width}, {padding.height, padding.width},
          {dilation.height, dilation.width}, (height - 1) / stride.height + 1, (width - 1) / stride.width + 1};
}

/// The indices i from 0 on at which start + i stride lies in [0, size): first ... last-1.
struct Range {
  std::int64_t first, last;
  OPTNET_HD Range(std::int64_t start, std::int64_t stride, std::int64_t size, std::int64_t count) {
    first = start >= 0 ? 0 : (-start + stride - 1) / stride;
    last = size - start <= 0 ? 0 : (size - start + stride - 1) / stride;
    if (last > count) last = count;
    if (first > last) first = last;
  }
};

// ---- convolution --------------------------------------------------------------------------------------------------

/// Some rows of the output, of which one image's columns are written out at a time: few enough to stay in a core's cache.
struct Band {
  std::int64_t first, rows;
};

/// Row (c, r, s) of the columns, at one row of the output: x[c, i stride - padding + r dilation, ...].
template <class T>
struct Im2col {
  const T* x;
  T* columns;  // [channels, rows, columns of the window, band, out_width]
  Sliding at;
  Band band;
  OPTNET_HD void operator()(std::int64_t task) const {
    const std::int64_t i = band.first + task % band.rows, row = task / band.rows;
    const std::int64_t s = row % at.columns, r = row / at.columns % at.rows, c = row / at.window();
    const std::int64_t y = i * at.stride[0] - at.padding[0] + r * at.dilation[0], left = s * at.dilation[1] - at.padding[1];
    const Range inside(left, at.stride[1], y >= 0 && y < at.height ? at.width : 0, at.out_width);
    const T* in = x + (c * at.height + y) * at.width + left;
    T* out = columns + task * at.out_width;
    std::int64_t j = 0;
    for (; j < inside.first; ++j) out[j] = T(0);
    if (at.stride[1] == 1)
      for (; j < inside.last; ++j) out[j] = in[j];
    else
      for (; j < inside.last; ++j) out[j] = in[j * at.stride[1]];
    for (; j < at.out_width; ++j) out[j] = T(0);
  }
};

/// The transpose of Im2col, for one row of the image: its entries collect what their copies received.
template <class T>
struct Col2im {
  const T* columns;
  T* x;
  Sliding at;
  Band band;
  OPTNET_HD void operator()(std::int64_t task) const {
    const std::int64_t y = task % at.height, c = task / at.height;
    T* out = x + task * at.width;
    for (std::int64_t r = 0; r < at.rows; ++r) {
      const std::int64_t up = y + at.padding[0] - r * at.dilation[0], i = up / at.stride[0] - band.first;
      if (up < 0 || up % at.stride[0] != 0 || i < 0 || i >= band.rows) continue;
      for (std::int64_t s = 0; s < at.columns; ++s) {
        const std::int64_t left = s * at.dilation[1] - at.padding[1];
        const T* in = columns + (((c * at.rows + r) * at.columns + s) * band.rows + i) * at.out_width;
        const Range inside(left, at.stride[1], at.width, at.out_width);
        if (at.stride[1] == 1)
          for (std::int64_t j = inside.first; j < inside.last; ++j) out[left + j] += in[j];
        else
          for (std::int64_t j = inside.first; j < inside.last; ++j) out[left + j * at.stride[1]] += in[j];
      }
    }
  }
};

/// y[c, :] = value[c], or 0.
template <class T>
struct FillChannels {
  const T* value;
  T* y;
  std::int64_t size;
  OPTNET_HD void operator()(std::int64_t c) const {
    for (std::int64_t i = 0; i < size; ++i) y[c * size + i] = value ? value[c] : T(0);
  }
};

/// A convolution of one image x [channels, ...] to y [out, ...] by w [out, depth], and its two transposes. Each is asked for one
/// of them only; strides of 1 on the CPU are left to conv_direct.h.
template <class T>
class Convolution {
 public:
  using Of = typename DirectConvolution<T>::Of;
  Convolution(const Tensor& weight, const Sliding& sliding, Of of) : device_(weight.device()), at_(sliding), out_(weight.size(0)), w_(weight.data<T>()) {
    if (device_ == Device::cpu && at_.stride[0] == 1 && at_.stride[1] == 1) direct_.emplace(at_, out_, w_, of);
  }

  std::int64_t in_step() const { return at_.channels * at_.in_size(); }  // from image to image
  std::int64_t out_step() const { return out_ * at_.out_size(); }
  /// Numbers of memory that a call needs.
  std::int64_t memory_size() const { return direct_ ? direct_->memory_size() : plain() ? 0 : depth() * band_rows() * at_.out_width; }

  /// y = w columns(x) + bias
  void value(const T* x, const T* bias, T* memory, T* y) const {
    if (direct_) return direct_->run(x, bias, memory, y);
    if (bias) parallel_for(device_, out_, out_step(), FillChannels<T>{bias, y, at_.out_size()});
    each_band([&](Band band, std::int64_t first, std::int64_t size) {
      gemm({.m = out_, .n = size, .k = depth(), .ld_c = at_.out_size(), .accumulate = bias != nullptr}, w_, columns_of(x, band, memory), y + first);
    });
  }
  /// dx = columns'(w' dy)
  void input_gradient(const T* dy, T* memory, T* dx) const {
    if (direct_) return direct_->run(dy, nullptr, memory, dx);
    if (plain()) return gemm({.m = depth(), .n = at_.out_size(), .k = out_, .transpose_a = true}, w_, dy, dx);
    parallel_for(device_, at_.channels, in_step(), FillChannels<T>{nullptr, dx, at_.in_size()});
    each_band([&](Band band, std::int64_t first, std::int64_t size) {
      gemm({.m = depth(), .n = size, .k = out_, .transpose_a = true, .ld_b = at_.out_size()}, w_, dy + first, memory);
      parallel_for(device_, at_.channels * at_.height, depth() * size, Col2im<T>{memory, dx, at_, band});
    });
  }
  /// dw = 0
  void clear(T* dw) const { parallel_for(device_, out_, out_ * depth(), FillChannels<T>{nullptr, dw, depth()}); }
  /// dw += dy columns(x)'
  void add_weight_gradient(const T* x, const T* dy, T* memory, T* dw) const {
    if (direct_) return direct_->add_weight_gradient(x, dy, memory, dw);
    each_band([&](Band band, std::int64_t first, std::int64_t size) {
      gemm({.m = out_, .n = depth(), .k = size, .transpose_b = true, .ld_a = at_.out_size(), .accumulate = true}, dy + first,
           columns_of(x, band, memory), dw);
    });
  }

 private:
  std::int64_t depth() const { return at_.channels * at_.window(); }
  /// A window of one entry that visits all others: the image is its own columns.
  bool plain() const {
    return at_.window() == 1 && at_.stride[0] == 1 && at_.stride[1] == 1 && at_.padding[0] == 0 && at_.padding[1] == 0;
  }
  std::int64_t band_rows() const {
    constexpr std::int64_t cached = 1 << 17;  // entries
    return plain() ? at_.out_height : std::clamp<std::int64_t>(cached / (depth() * at_.out_width), 1, at_.out_height);
  }

  /// run(band, its first entry in a channel of y, its entries)
  template <class Run>
  void each_band(const Run& run) const {
    for (std::int64_t i = 0, rows = band_rows(); i < at_.out_height; i += rows) {
      const Band band{i, std::min(rows, at_.out_height - i)};
      run(band, i * at_.out_width, band.rows * at_.out_width);
    }
  }
  const T* columns_of(const T* x, Band band, T* columns) const {
    if (plain()) return x;
    parallel_for(device_, depth() * band.rows, depth() * band.rows * at_.out_width, Im2col<T>{x, columns, at_, band});
    return columns;
  }
  void gemm(const Gemm& g, const T* a, const T* b, T* c) const { backend(device_).gemm(dtype_of<T>, g, a, b, c); }

  Device device_;
  Sliding at_;
  std::int64_t out_;
  const T* w_;
  std::optional<DirectConvolution<T>> direct_;
};

/// run(i, memory) for i = 0 ... count-1, shared out among threads, each with memory for `size` numbers.
template <class T, class Run>
void each_image(Device device, std::int64_t count, std::int64_t size, const Run& run) {
  const int team = device == Device::cpu ? static_cast<int>(std::clamp<std::int64_t>(count, 1, threads())) : 1;
  Buffer memory(static_cast<std::size_t>(team * size) * sizeof(T), device);
  T* own = static_cast<T*>(memory.data());
#pragma omp parallel for schedule(static) num_threads(team) if (team > 1)
  for (std::int64_t i = 0; i < count; ++i) run(i, own + omp_get_thread_num() * size);
}

Tensor conv2d_value(const Sliding& at, const Tensor& x, const Tensor& w, const Tensor& bias) {
  const Shape shape{x.size(0), w.size(0), at.out_height, at.out_width};
  return dispatch_floating("conv2d", x.dtype(), [&](auto t) {
    using T = decltype(t);
    Buffer y(static_cast<std::size_t>(shape.numel()) * sizeof(T), x.device());
    const Convolution<T> conv(w, at, Convolution<T>::Of::value);
    each_image<T>(x.device(), x.size(0), conv.memory_size(), [&](std::int64_t i, T* memory) {
      conv.value(x.data<T>() + i * conv.in_step(), bias.defined() ? bias.data<T>() : nullptr, memory, static_cast<T*>(y.data()) + i * conv.out_step());
    });
    return Tensor(shape, x.dtype(), std::move(y));
  });
}

Tensor input_gradient(const Sliding& at, const Shape& shape, const Tensor& w, const Tensor& dy) {
  return dispatch_floating("conv2d", dy.dtype(), [&](auto t) {
    using T = decltype(t);
    Buffer dx(static_cast<std::size_t>(shape.numel()) * sizeof(T), dy.device());
    const Convolution<T> conv(w, at, Convolution<T>::Of::input_gradient);
    each_image<T>(dy.device(), shape[0], conv.memory_size(), [&](std::int64_t i, T* memory) {
      conv.input_gradient(dy.data<T>() + i * conv.out_step(), memory, static_cast<T*>(dx.data()) + i * conv.in_step());
    });
    return Tensor(shape, dy.dtype(), std::move(dx));
  });
}

/// Each of a few groups of images has a sum of its own, so that the order of additions depends on no thread.
Tensor weight_gradient(const Sliding& at, const Tensor& x, const Tensor& w, const Tensor& dy) {
  const std::int64_t batch = x.size(0), groups = std::min<std::int64_t>(batch, 8);
  if (groups == 0) return zeros(w.shape(), w.dtype(), w.device());
  Shape shape{groups};
  for (std::int64_t size : w.shape()) shape.push_back(size);
  return dispatch_floating("conv2d", dy.dtype(), [&](auto t) {
    using T = decltype(t);
    Buffer sums(static_cast<std::size_t>(shape.numel()) * sizeof(T), dy.device());
    const Convolution<T> conv(w, at, Convolution<T>::Of::weight_gradient);
    each_image<T>(dy.device(), groups, conv.memory_size(), [&](std::int64_t g, T* memory) {
      T* dw = static_cast<T*>(sums.data()) + g * w.numel();
      conv.clear(dw);
      for (std::int64_t i = g * batch / groups; i < (g + 1) * batch / groups; ++i)
        conv.add_weight_gradient(x.data<T>() + i * conv.in_step(), dy.data<T>() + i * conv.out_step(), memory, dw);
    });
    return sum(Tensor(shape, dy.dtype(), std::move(sums)), {0});
  });
}

// ---- pooling ------------------------------------------------------------------------------------------------------

/// One row of the output: the largest entries, and where in their plane they are: the first of equal ones; NaN counts as the
/// largest.
template <class T>
struct MaxPool {
  const T* x;
  T* y;
  std::int32_t* from;
  Sliding at;
  OPTNET_HD void operator()(std::int64_t task) const {
    const T* plane = x + task / at.out_height * at.in_size();
    const std::int64_t top = task % at.out_height * at.stride[0] - at.padding[0];
    const std::int64_t y0 = top < 0 ? 0 : top, y1 = top + at.rows < at.height ? top + at.rows : at.height;
    for (std::int64_t j = 0; j < at.out_width; ++j) {
      const std::int64_t left = j * at.stride[1] - at.padding[1];
      const std::int64_t x0 = left < 0 ? 0 : left, x1 = left + at.columns < at.width ? left + at.columns : at.width;
      const std::int64_t first = y0 * at.width + x0, out = task * at.out_width + j;
      std::int64_t k;
      if (y1 - y0 == 2 && x1 - x0 == 2) {
        const std::int64_t up = larger(plane, first, first + 1), down = larger(plane, first + at.width, first + at.width + 1);
        k = larger(plane, up, down);
      } else {
        k = first;
        for (std::int64_t r = y0; r < y1; ++r)
          for (std::int64_t c = x0; c < x1; ++c) k = larger(plane, k, r * at.width + c);
      }
      y[out] = plane[k];
      from[out] = static_cast<std::int32_t>(k);
    }
  }

 private:
  OPTNET_HD static std::int64_t larger(const T* plane, std::int64_t k, std::int64_t next) {
    const T best = plane[k];
    const std::int64_t take = !(plane[next] <= best) & (best == best);
    return k + ((next - k) & -take);  // no branch, which would be guessed wrong
  }
};

/// A task owns a plane, so that windows that overlap add up in a fixed order.
template <class T>
struct MaxPoolGrad {
  const T* dy;
  const std::int32_t* from;
  T* dx;
  std::int64_t in_size, out_size;
  OPTNET_HD void operator()(std::int64_t plane) const {
    T* out = dx + plane * in_size;
    for (std::int64_t k = 0; k < in_size; ++k) out[k] = T(0);
    for (std::int64_t k = plane * out_size; k < (plane + 1) * out_size; ++k) out[from[k]] += dy[k];
  }
};

/// Means over windows as sums of what they cover, in either direction: y from x, or dx from dy.
template <class T>
struct AvgPool {
  const T* x;
  T* y;
  Sliding at;
  bool transposed;
  OPTNET_HD void operator()(std::int64_t plane) const {
    const T share = T(1) / static_cast<T>(at.window());
    const std::int64_t in_size = transposed ? at.out_size() : at.in_size(), size = transposed ? at.in_size() : at.out_size();
    const T* in = x + plane * in_size;
    T* out = y + plane * size;
    for (std::int64_t k = 0; k < size; ++k) out[k] = T(0);
    for (std::int64_t i = 0; i < at.out_height; ++i)
      for (std::int64_t r = 0; r < at.rows; ++r) {
        const std::int64_t row = i * at.stride[0] - at.padding[0] + r;
        if (row < 0 || row >= at.height) continue;
        for (std::int64_t s = 0; s < at.columns; ++s) {
          const std::int64_t left = s - at.padding[1];
          const Range inside(left, at.stride[1], at.width, at.out_width);
          for (std::int64_t j = inside.first; j < inside.last; ++j) {
            const std::int64_t image = row * at.width + left + j * at.stride[1], window = i * at.out_width + j;
            if (transposed) out[image] += share * in[window];
            else out[window] += share * in[image];
          }
        }
      }
  }
};

Sliding slide(const char* op, const Tensor& x, Size2 window, const Pool2dOptions& options) {
  check_operands(op, x);
  const Sliding at = slide(op, x.shape(), window, options.stride.height ? options.stride : window, options.padding, 1);
  check(options.padding.height <= window.height / 2 && options.padding.width <= window.width / 2, op,
        ": the padding must be at most half of the window ", window, "; got ", options.padding);
  return at;
}

Shape pooled(const Shape& x, const Sliding& at) { return {x[0], x[1], at.out_height, at.out_width}; }

Tensor avg_pool(const Tensor& x, const Shape& shape, const Sliding& at, bool transposed) {
  return dispatch_floating("avg_pool2d", x.dtype(), [&](auto t) {
    using T = decltype(t);
    Buffer y(static_cast<std::size_t>(shape.numel()) * sizeof(T), x.device());
    parallel_for(x.device(), shape[0] * shape[1], at.window() * x.numel(), AvgPool<T>{x.data<T>(), static_cast<T*>(y.data()), at, transposed});
    return Tensor(shape, x.dtype(), std::move(y));
  });
}

}  // namespace

Var conv2d(const Var& x, const Var& w, const Var& bias, const Conv2dOptions& options) {
  check_operands("conv2d", x.value(), w.value());
  check_floating("conv2d", x.dtype());
  check(w.rank() == 4, "conv2d: the weight must be [out, in, height, width]; got ", w.shape());
  const Sliding at = slide("conv2d", x.shape(), {w.size(2), w.size(3)}, options.stride, options.padding, options.dilation);
  check(w.size(1) == x.size(1) && w.size(1) > 0 && w.size(0) > 0, "conv2d: the weight's channels must be those of the input, and not none; got ",
        w.shape(), " and ", x.shape());
  if (bias.defined()) {
    check_operands("conv2d", x.value(), bias.value());
    check(bias.shape() == Shape{w.size(0)}, "conv2d: the bias must be [", w.size(0), "]; got ", bias.shape());
  }
  const Tensor y = conv2d_value(at, x.value(), w.value(), bias.value());
  const auto dx = [at, shape = x.shape(), w = w.value()](const Tensor& dy) { return input_gradient(at, shape, w, dy); };
  const auto dw = [at, x = x.value(), w = w.value()](const Tensor& dy) { return weight_gradient(at, x, w, dy); };
  if (!bias.defined()) return record("conv2d", y, Wrt{x, dx}, Wrt{w, dw});
  return record("conv2d", y, Wrt{x, dx}, Wrt{w, dw}, Wrt{bias, [](const Tensor& dy) { return sum(dy, {0, 2, 3}); }});
}
Var conv2d(const Var& x, const Var& w, const Conv2dOptions& options) { return conv2d(x, w, {}, options); }

Var max_pool2d(const Var& x, Size2 window, const Pool2dOptions& options) {
  const Sliding at = slide("max_pool2d", x.value(), window, options);
  check(at.in_size() <= std::numeric_limits<std::int32_t>::max(), "max_pool2d: an image must have less than 2^31 entries; got ", x.shape());
  const Shape shape = pooled(x.shape(), at);
  const std::int64_t planes = shape[0] * shape[1];
  const Device device = x.value().device();
  return dispatch_floating("max_pool2d", x.dtype(), [&](auto t) {
    using T = decltype(t);
    Buffer y(static_cast<std::size_t>(shape.numel()) * sizeof(T), device);
    const auto from = std::make_shared<Buffer>(static_cast<std::size_t>(shape.numel()) * sizeof(std::int32_t), device);
    parallel_for(device, planes * at.out_height, at.window() * shape.numel(),
                 MaxPool<T>{x.value().data<T>(), static_cast<T*>(y.data()), static_cast<std::int32_t*>(from->data()), at});
    return record("max_pool2d", Tensor(shape, x.dtype(), std::move(y)), Wrt{x, [like = x.shape(), from, at, planes](const Tensor& dy) {
      Buffer dx(static_cast<std::size_t>(like.numel()) * sizeof(T), dy.device());
      parallel_for(dy.device(), planes, dy.numel() + like.numel(),
                   MaxPoolGrad<T>{dy.data<T>(), static_cast<const std::int32_t*>(from->data()), static_cast<T*>(dx.data()), at.in_size(), at.out_size()});
      return Tensor(like, dy.dtype(), std::move(dx));
    }});
  });
}

Var avg_pool2d(const Var& x, Size2 window, const Pool2dOptions& options) {
  const Sliding at = slide("avg_pool2d", x.value(), window, options);
  return record("avg_pool2d", avg_pool(x.value(), pooled(x.shape(), at), at, false), Wrt{x, [shape = x.shape(), at](const Tensor& dy) {
    return avg_pool(dy, shape, at, true);
  }});
}

}  // namespace optnet
