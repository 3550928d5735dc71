// The ordinary layers.
#include "layers/layers.h"

#include <cmath>

namespace optnet {

Linear::Linear(std::int64_t in, std::int64_t out, LinearOptions options) : in_(in), has_bias_(options.bias) {
  check(in > 0 && out > 0, "Linear: sizes must be positive; got in = ", in, ", out = ", out);
  const double bound = 1 / std::sqrt(static_cast<double>(in));
  weight = param("weight", uniform(default_random(), {out, in}, -bound, bound, options.dtype));
  if (has_bias_) bias = param("bias", uniform(default_random(), {out}, -bound, bound, options.dtype));
}

Var Linear::operator()(const Var& x) const {
  check(x.rank() >= 2 && x.size(-1) == in_, "Linear: input must be [batch, ", in_, "]; got ", x.shape());
  Var y = matmul(x, weight, {.transpose_b = true});
  return has_bias_ ? y + bias : y;
}

Dropout::Dropout(double p) : p_(p) { check(p >= 0 && p < 1, "Dropout: p must lie in [0, 1); got ", p); }

Var Dropout::operator()(const Var& x) const { return training() && p_ > 0 ? dropout(x, p_, default_random()) : x; }

Var Flatten::operator()(const Var& x) const {
  check(x.rank() >= 1, "Flatten: input must be [batch, ...]; got ", x.shape());
  return reshape(x, {x.size(0), Shape(x.shape().begin() + 1, x.shape().end()).numel()});  // -1 would not do for an empty batch
}

Var Sequential::operator()(const Var& x) const {
  Var y = x;
  for (std::size_t i = 0; i < layers_->size(); ++i) returned(i, y = (*layers_)[i](y));
  return y;
}

Var Residual::operator()(const Var& x) const {
  const Var y = inner_(x);
  returned(0, y);
  return x + y;
}

}  // namespace optnet
