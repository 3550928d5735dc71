// The inner loops of convolutions of stride 1 on the CPU, for one image at a time: without im2col, which they would wait for.
// conv.cu calls them.
#pragma once

#include "framework/kernel.h"

#include <cstdint>
#include <vector>

namespace optnet {

/// How a window slides over an image, along both axes.
struct Sliding {
  std::int64_t channels, height, width;             // of the input
  std::int64_t rows, columns;                       // of the window
  std::int64_t stride[2], padding[2], dilation[2];
  std::int64_t out_height, out_width;

  OPTNET_HD std::int64_t window() const { return rows * columns; }
  OPTNET_HD std::int64_t in_size() const { return height * width; }  // of a channel
  OPTNET_HD std::int64_t out_size() const { return out_height * out_width; }
};

/// A convolution y [out, ...] of x [channels, ...] by w [out, channels, rows, columns], stride 1; or, for the gradient of x, the
/// same of y by w turned round. An image is first copied into a frame of zeros. Then each entry (c, r, s) of the window sees
/// the frame as one long row that begins at an offset of its own, and y is a sum of such rows. Where the frame would be mostly
/// zeros, as round small images of gradients, each entry of the window is multiplied by them alone, and the products are added where
/// they belong.
template <class T>
class DirectConvolution {
 public:
  enum class Of { value, input_gradient, weight_gradient };
  /// `at` and `out` are those of the value in every case.
  DirectConvolution(const Sliding& at, std::int64_t out, const T* w, Of of);

  /// Entries of memory that run() and add_weight_gradient() need.
  std::int64_t memory_size() const;
  /// Of value: y from x; of input_gradient: dx from dy. bias [out] or null.
  void run(const T* x, const T* bias, T* memory, T* y) const;
  /// dw [out, depth] += dy times the rows of x: of weight_gradient.
  void add_weight_gradient(const T* x, const T* dy, T* memory, T* dw) const;

 private:
  template <class Entry>
  void pack(std::int64_t rows, const Entry& entry);
  void scatter(const T* dy, T* memory, T* dx) const;
  void frame(const T* x, T* framed) const;
  std::int64_t frame_size() const;

  Sliding at_;
  bool scattered_ = false;
  std::int64_t channels_, height_, width_, out_, out_height_, out_width_;  // of what is summed and of the sum
  std::int64_t padding_[2], framed_height_, framed_width_;
  std::int64_t length_;                // of a row of y in the frame's width: its lines, and the gaps between them
  std::vector<std::int64_t> offsets_;  // [depth]
  std::vector<T> weights_;             // [out in blocks, depth, block]; scattered: [channels x window of the value in blocks, out, block]
};

}  // namespace optnet
