// Initial values of weights, by their names in the papers. Shapes are PyTorch's: [out, in] of a linear layer and
// [out, in, kernel...] of a convolution, so that fan in = in * kernel's size and fan out = out * kernel's size.
//     Param weight = param("weight", kaiming_normal(default_random(), {out, in, 3, 3}));
#pragma once

#include "framework/random.h"

namespace optnet {

/// What comes after the weights. Its gain: 1, 1, 5/3, sqrt(2), sqrt(2 / (1 + slope^2)), 3/4; PyTorch's numbers.
enum class Nonlinearity : std::uint8_t { linear, sigmoid, tanh, relu, leaky_relu, selu };
double gain(Nonlinearity nonlinearity, double slope = 0.01);

/// Whether values keep their size on the way forward (in) or gradients on the way back (out).
enum class Fan : std::uint8_t { in, out };

struct KaimingOptions {
  Nonlinearity nonlinearity = Nonlinearity::relu;
  double slope = 0.01;  // of leaky_relu
  Fan fan = Fan::in;
  DType dtype = float32;
};
/// Variance gain^2 / fan, uniform or normal. He et al. 2015.
Tensor kaiming_uniform(Random& random, const Shape& shape, KaimingOptions options = {});
Tensor kaiming_normal(Random& random, const Shape& shape, KaimingOptions options = {});

struct XavierOptions {
  Nonlinearity nonlinearity = Nonlinearity::linear;
  double slope = 0.01;  // of leaky_relu
  DType dtype = float32;
};
/// Variance 2 gain^2 / (fan in + fan out), uniform or normal. Glorot and Bengio 2010.
Tensor xavier_uniform(Random& random, const Shape& shape, XavierOptions options = {});
Tensor xavier_normal(Random& random, const Shape& shape, XavierOptions options = {});

/// Normal with variance 1 / fan in. LeCun et al. 1998; for SELU.
Tensor lecun_normal(Random& random, const Shape& shape, DType dtype = float32);

/// gain times a random matrix [shape[0], product of the others] whose rows are orthonormal, or its columns if it has
/// fewer. Saxe et al. 2014.
Tensor orthogonal(Random& random, const Shape& shape, XavierOptions options = {});

struct TruncatedNormal {
  double mean = 0, deviation = 1;  // of the normal before the cut
  double low = -2, high = 2;       // where it is cut: values, not deviations
  DType dtype = float32;
};
/// Normal, given that it lies in [low, high]. One random number an element.
Tensor truncated_normal(Random& random, const Shape& shape, TruncatedNormal options = {});

}  // namespace optnet
