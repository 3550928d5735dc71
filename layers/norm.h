// Normalising layers. Their buffers have PyTorch's names.
#pragma once

#include "layers/module.h"

namespace optnet {

struct NormOptions {
  double eps = 1e-5, momentum = 0.1;  // momentum: the share of a new batch in the running statistics
  DType dtype = float32;
};

/// y = (x - mean) / sqrt(variance + eps) weight + bias, channel by channel: by the batch's statistics in training, by running
/// ones in evaluation. weight and bias [channels], 1 and 0 at first. Ioffe and Szegedy 2015.
class BatchNorm : public Module {
 public:
  BatchNorm(std::int64_t channels, NormOptions options = {});
  Var operator()(const Var& x) const;

  Param weight, bias, running_mean, running_var, num_batches_tracked;

 private:
  NormOptions options_;
};
/// x [B, C] or [B, C, L]
struct BatchNorm1d : BatchNorm {
  using BatchNorm::BatchNorm;
  Var operator()(const Var& x) const;
};
/// x [B, C, H, W]
struct BatchNorm2d : BatchNorm {
  using BatchNorm::BatchNorm;
  Var operator()(const Var& x) const;
};

/// The same over the last axes, of sizes `shape`, of each example. Ba et al. 2016.
class LayerNorm : public Module {
 public:
  explicit LayerNorm(const Shape& shape, NormOptions options = {});
  Var operator()(const Var& x) const { return layer_norm(x, weight, bias, eps_); }

  Param weight, bias;

 private:
  double eps_;
};

}  // namespace optnet
