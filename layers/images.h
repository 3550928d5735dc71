// Layers for images [batch, channels, height, width]: convolution and pooling.
#pragma once

#include "layers/module.h"

namespace optnet {

struct Conv2dLayerOptions {
  Size2 stride = 1, padding = 0, dilation = 1;  // as in Conv2dOptions
  bool bias = true;
  DType dtype = float32;
};

/// y = conv2d(x, weight, bias).  x [B, in, H, W] -> y [B, out, H', W']: see conv2d in framework/ops.h; weight [out, in, window].
/// Initialised like PyTorch's: both uniform in +-1/sqrt(in times the window's entries), from default_random().
class Conv2d : public Module {
 public:
  Conv2d(std::int64_t in, std::int64_t out, Size2 window, const Conv2dLayerOptions& options = {});
  Var operator()(const Var& x) const;

  Param weight, bias;

 private:
  Conv2dOptions options_;
  bool has_bias_;
};

class MaxPool2d : public Module {
 public:
  explicit MaxPool2d(Size2 window, const Pool2dOptions& options = {}) : window_(window), options_(options) {}
  Var operator()(const Var& x) const { return max_pool2d(x, window_, options_); }

 private:
  Size2 window_;
  Pool2dOptions options_;
};

class AvgPool2d : public Module {
 public:
  explicit AvgPool2d(Size2 window, const Pool2dOptions& options = {}) : window_(window), options_(options) {}
  Var operator()(const Var& x) const { return avg_pool2d(x, window_, options_); }

 private:
  Size2 window_;
  Pool2dOptions options_;
};

}  // namespace optnet
