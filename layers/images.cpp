// Convolution as a layer.
#include "layers/images.h"

#include <cmath>

namespace optnet {

Conv2d::Conv2d(std::int64_t in, std::int64_t out, Size2 window, const Conv2dLayerOptions& options)
    : options_{options.stride, options.padding, options.dilation}, has_bias_(options.bias) {
  check(in > 0 && out > 0 && window.height > 0 && window.width > 0, "Conv2d: sizes must be positive; got in = ", in, ", out = ", out, ", window ", window);
  const double bound = 1 / std::sqrt(static_cast<double>(in) * window.height * window.width);
  weight = param("weight", uniform(default_random(), {out, in, window.height, window.width}, -bound, bound, options.dtype));
  if (has_bias_) bias = param("bias", uniform(default_random(), {out}, -bound, bound, options.dtype));
}

Var Conv2d::operator()(const Var& x) const { return has_bias_ ? conv2d(x, weight, bias, options_) : conv2d(x, weight, options_); }

}  // namespace optnet
