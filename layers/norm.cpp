// Normalising layers: parameters and running statistics. The arithmetic is in framework/norm.cu.
#include "layers/norm.h"

namespace optnet {

BatchNorm::BatchNorm(std::int64_t channels, NormOptions options) : options_(options) {
  check(channels > 0, "BatchNorm: needs at least one channel; got ", channels);
  check(options.momentum >= 0 && options.momentum <= 1, "BatchNorm: the momentum must lie in [0, 1]; got ", options.momentum);
  weight = param("weight", ones({channels}, options.dtype)), bias = param("bias", zeros({channels}, options.dtype));
  running_mean = buffer("running_mean", zeros({channels}, options.dtype)), running_var = buffer("running_var", ones({channels}, options.dtype));
  num_batches_tracked = buffer("num_batches_tracked", full({}, 0, int64));
}

Var BatchNorm::operator()(const Var& x) const {
  if (!training()) return batch_norm(x, weight, bias, running_mean.value(), running_var.value(), options_.eps);
  const BatchStatistics out = batch_norm(x, weight, bias, options_.eps);
  const double count = static_cast<double>(x.value().numel()) / static_cast<double>(x.size(1)), share = options_.momentum;
  const auto move = [share](Param running, const Tensor& to) { running.set((1 - share) * running.value() + share * to); };
  move(running_mean, out.mean);
  move(running_var, out.variance * (count / (count - 1)));  // without bias, as PyTorch keeps it
  Param(num_batches_tracked).set(full({}, num_batches_tracked.value().item() + 1, int64, num_batches_tracked.value().device()));
  return out.y;
}

Var BatchNorm1d::operator()(const Var& x) const {
  check(x.rank() == 2 || x.rank() == 3, "BatchNorm1d: input must be [batch, channels] or [batch, channels, length]; got ", x.shape());
  return BatchNorm::operator()(x);
}
Var BatchNorm2d::operator()(const Var& x) const {
  check(x.rank() == 4, "BatchNorm2d: input must be [batch, channels, height, width]; got ", x.shape());
  return BatchNorm::operator()(x);
}

LayerNorm::LayerNorm(const Shape& shape, NormOptions options) : eps_(options.eps) {
  check(shape.rank() > 0 && shape.numel() > 0, "LayerNorm: the shape must not be empty; got ", shape);
  weight = param("weight", ones(shape, options.dtype)), bias = param("bias", zeros(shape, options.dtype));
}

}  // namespace optnet
