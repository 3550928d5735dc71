// Ops once more, as loops over positions that anyone can check: what the tests of ops compare with.
#pragma once

#include "tests/test.h"

using Numbers = std::vector<double>;

inline std::vector<std::int64_t> position(const Shape& shape, std::int64_t flat) {
  std::vector<std::int64_t> at(static_cast<std::size_t>(shape.rank()));
  for (int d = shape.rank() - 1; d >= 0; flat /= shape[d--]) at[static_cast<std::size_t>(d)] = flat % shape[d];
  return at;
}

/// Where the element at a position of a broadcast shape, or of `shape` itself, lies.
inline std::size_t place(const Shape& shape, const std::vector<std::int64_t>& at) {
  std::int64_t flat = 0;
  const std::size_t shift = at.size() - static_cast<std::size_t>(shape.rank());
  for (int d = 0; d < shape.rank(); ++d) flat = flat * shape[d] + (shape[d] == 1 ? 0 : at[shift + static_cast<std::size_t>(d)]);
  return static_cast<std::size_t>(flat);
}

/// out[at] = f(at) for every position, in the dtype given.
template <class F>
Tensor build(const Shape& shape, DType dtype, const F& f) {
  Numbers out;
  for (std::int64_t i = 0; i < shape.numel(); ++i) out.push_back(static_cast<double>(f(position(shape, i))));
  return from(shape, out).to(dtype);
}

inline Shape broadcast_shape(const Shape& a, const Shape& b) {
  std::vector<std::int64_t> out;
  for (int d = 1; d <= std::max(a.rank(), b.rank()); ++d) {
    const std::int64_t x = d <= a.rank() ? a[a.rank() - d] : 1, y = d <= b.rank() ? b[b.rank() - d] : 1;
    out.insert(out.begin(), x == 1 ? y : x);
  }
  return Shape(out);
}

inline Tensor each(const Tensor& x, double (*f)(double)) {
  const Numbers in = x.to_vector<double>();
  return build(x.shape(), x.dtype(), [&](const auto& at) { return f(in[place(x.shape(), at)]); });
}

inline Tensor each(const Tensor& a, const Tensor& b, double (*f)(double, double)) {
  const Numbers x = a.to_vector<double>(), y = b.to_vector<double>();
  return build(broadcast_shape(a.shape(), b.shape()), a.dtype(),
               [&](const auto& at) { return f(x[place(a.shape(), at)], y[place(b.shape(), at)]); });
}

inline Tensor naive_matmul(const Tensor& a, const Tensor& b, Matmul options = {}) {
  const Numbers x = a.to_vector<double>(), y = b.to_vector<double>();
  const bool ta = options.transpose_a, tb = options.transpose_b;
  Shape shape = broadcast_shape(Shape(a.shape().begin(), a.shape().end() - 2), Shape(b.shape().begin(), b.shape().end() - 2));
  shape.push_back(a.size(ta ? -1 : -2));
  shape.push_back(b.size(tb ? -2 : -1));
  const std::size_t r = static_cast<std::size_t>(shape.rank()) - 2;
  return build(shape, a.dtype(), [&](const std::vector<std::int64_t>& at) {
    double total = 0;
    for (std::int64_t k = 0; k < a.size(ta ? -2 : -1); ++k) {
      std::vector<std::int64_t> p = at, q = at;
      p[r] = ta ? k : at[r], p[r + 1] = ta ? at[r] : k;
      q[r] = tb ? at[r + 1] : k, q[r + 1] = tb ? k : at[r + 1];
      total += x[place(a.shape(), p)] * y[place(b.shape(), q)];
    }
    return total;
  });
}

/// The definition, entry by entry. x [B, C, H, W], w [O, C, R, S], float64
inline Tensor naive_conv2d(const Tensor& x, const Tensor& w, const Conv2dOptions& o) {
  const auto size = [](std::int64_t in, std::int64_t window, int stride, int padding, int dilation) {
    return (in + 2 * padding - dilation * (window - 1) - 1) / stride + 1;
  };
  const Shape shape{x.size(0), w.size(0), size(x.size(2), w.size(2), o.stride.height, o.padding.height, o.dilation.height),
                    size(x.size(3), w.size(3), o.stride.width, o.padding.width, o.dilation.width)};
  Numbers y;
  for (std::int64_t b = 0; b < shape[0]; ++b)
    for (std::int64_t k = 0; k < shape[1]; ++k)
      for (std::int64_t i = 0; i < shape[2]; ++i)
        for (std::int64_t j = 0; j < shape[3]; ++j) {
          double sum = 0;
          for (std::int64_t c = 0; c < w.size(1); ++c)
            for (std::int64_t r = 0; r < w.size(2); ++r)
              for (std::int64_t s = 0; s < w.size(3); ++s) {
                const std::int64_t at_row = i * o.stride.height - o.padding.height + r * o.dilation.height;
                const std::int64_t at_column = j * o.stride.width - o.padding.width + s * o.dilation.width;
                if (at_row >= 0 && at_row < x.size(2) && at_column >= 0 && at_column < x.size(3)) sum += w(k, c, r, s) * x(b, c, at_row, at_column);
              }
          y.push_back(sum);
        }
  return from(shape, y);
}

/// The largest or the mean of each window, entry by entry.
inline Tensor naive_pool2d(const Tensor& x, Size2 window, const Pool2dOptions& o, bool largest) {
  const Size2 stride = o.stride.height ? o.stride : window;
  const Shape shape{x.size(0), x.size(1), (x.size(2) + 2 * o.padding.height - window.height) / stride.height + 1,
                    (x.size(3) + 2 * o.padding.width - window.width) / stride.width + 1};
  Numbers y;
  for (std::int64_t b = 0; b < shape[0]; ++b)
    for (std::int64_t c = 0; c < shape[1]; ++c)
      for (std::int64_t i = 0; i < shape[2]; ++i)
        for (std::int64_t j = 0; j < shape[3]; ++j) {
          double sum = 0, top = -INFINITY;
          for (std::int64_t r = i * stride.height - o.padding.height, k = 0; k < window.height; ++k, ++r)
            for (std::int64_t s = j * stride.width - o.padding.width, l = 0; l < window.width; ++l, ++s)
              if (r >= 0 && r < x.size(2) && s >= 0 && s < x.size(3)) sum += x(b, c, r, s), top = std::max(top, x(b, c, r, s));
          y.push_back(largest ? top : sum / (window.height * window.width));
        }
  return from(shape, y);
}

/// Pool adjacent violators: the non-decreasing sequence nearest to y.
inline Numbers pooled(const Numbers& y) {
  struct Block {
    double sum;
    std::size_t count;
    double mean() const { return sum / static_cast<double>(count); }
  };
  std::vector<Block> blocks;
  for (double value : y) {
    blocks.push_back({value, 1});
    while (blocks.size() > 1 && blocks[blocks.size() - 2].mean() >= blocks.back().mean()) {
      const Block last = blocks.back();
      blocks.pop_back();
      blocks.back().sum += last.sum, blocks.back().count += last.count;
    }
  }
  Numbers out;
  for (const Block& block : blocks) out.insert(out.end(), block.count, block.mean());
  return out;
}
