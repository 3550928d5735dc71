// Initial values: a variance for each name, then uniform or normal numbers of that variance.
#include "layers/init.h"

#include "framework/ops.h"

#include <cmath>
#include <numbers>

namespace optnet {
namespace {

struct Fans {
  double in, out;
};

Fans fans(const char* op, const Shape& shape) {
  check(shape.rank() >= 2 && shape.numel() > 0, op, ": the shape must be [out, in, kernel...], of positive sizes; got ", shape);
  const double all = static_cast<double>(shape.numel());
  return {all / static_cast<double>(shape[0]), all / static_cast<double>(shape[1])};
}

Tensor uniform_of(Random& random, const Shape& shape, double deviation, DType dtype) {
  const double bound = std::sqrt(3.0) * deviation;
  return uniform(random, shape, -bound, bound, dtype);
}

double kaiming_deviation(const char* op, const Shape& shape, const KaimingOptions& options) {
  const Fans fan = fans(op, shape);
  return gain(options.nonlinearity, options.slope) / std::sqrt(options.fan == Fan::in ? fan.in : fan.out);
}

double xavier_deviation(const char* op, const Shape& shape, const XavierOptions& options) {
  const Fans fan = fans(op, shape);
  return gain(options.nonlinearity, options.slope) * std::sqrt(2 / (fan.in + fan.out));
}

/// The normal distribution function, exact in its lower tail.
double below(double x) { return std::erfc(-x / std::numbers::sqrt2) / 2; }

/// Its inverse, p in (0, 1/2], by Newton's method: below is convex there, so that from 0 the steps go down and never too far.
double lower_quantile(double p) {
  double x = 0;
  for (int i = 0; i < 100; ++i) {
    const double density = std::exp(-x * x / 2) / std::sqrt(2 * std::numbers::pi), step = (below(x) - p) / density;
    x -= step;
    if (!(step > 1e-15 * (1 - x))) break;
  }
  return x;
}

}  // namespace

double gain(Nonlinearity nonlinearity, double slope) {
  switch (nonlinearity) {
    case Nonlinearity::tanh: return 5.0 / 3;
    case Nonlinearity::relu: return std::numbers::sqrt2;
    case Nonlinearity::leaky_relu: return std::sqrt(2 / (1 + slope * slope));
    case Nonlinearity::selu: return 3.0 / 4;
    default: return 1;
  }
}

Tensor kaiming_uniform(Random& random, const Shape& shape, KaimingOptions options) {
  return uniform_of(random, shape, kaiming_deviation("kaiming_uniform", shape, options), options.dtype);
}

Tensor kaiming_normal(Random& random, const Shape& shape, KaimingOptions options) {
  return normal(random, shape, 0, kaiming_deviation("kaiming_normal", shape, options), options.dtype);
}

Tensor xavier_uniform(Random& random, const Shape& shape, XavierOptions options) {
  return uniform_of(random, shape, xavier_deviation("xavier_uniform", shape, options), options.dtype);
}

Tensor xavier_normal(Random& random, const Shape& shape, XavierOptions options) {
  return normal(random, shape, 0, xavier_deviation("xavier_normal", shape, options), options.dtype);
}

Tensor lecun_normal(Random& random, const Shape& shape, DType dtype) {
  return normal(random, shape, 0, 1 / std::sqrt(fans("lecun_normal", shape).in), dtype);
}

Tensor orthogonal(Random& random, const Shape& shape, XavierOptions options) {
  fans("orthogonal", shape);
  const std::int64_t rows = shape[0], columns = shape.numel() / rows, few = std::min(rows, columns);
  Tensor x = normal(random, {few, std::max(rows, columns)}, 0, 1, float64);
  // Rows made orthonormal as Gram and Schmidt do, by X <- L^-1 X with X X' = L L'. The first shift lets even a matrix
  // that is singular to rounding pass; what it leaves, and rounding, the next two rounds take away (Fukaya et al. 2020).
  for (const double shift : {1e-12, 0.0, 0.0}) {
    const Tensor gram = matmul(x, x, {.transpose_b = true});
    x = solve_lower(cholesky(gram + shift * static_cast<double>(shape.numel()) * eye(few, float64)), x);
  }
  return (gain(options.nonlinearity, options.slope) * (rows > columns ? transpose(x) : x)).reshape(shape).to(options.dtype);
}

Tensor truncated_normal(Random& random, const Shape& shape, TruncatedNormal options) {
  const auto& [mean, deviation, low, high, dtype] = options;
  check(deviation > 0 && low < high, "truncated_normal: needs deviation > 0 and low < high; got ", deviation, ", ", low, " and ", high);
  const double a = (low - mean) / deviation, b = (high - mean) / deviation;
  const double sign = a > 0 ? -1 : 1;  // an interval in the upper tail is mirrored, so that its mass keeps its digits
  const double first = sign > 0 ? below(a) : below(-b), last = sign > 0 ? below(b) : below(-a);
  check(last > first && last > 0, "truncated_normal: [low, high] holds none of the normal's mass; got [", low, ", ", high, "]");
  std::vector<double> values = uniform(random, shape, 0, 1, float64).to_vector<double>();
  for (double& x : values) {
    const double p = first + x * (last - first), z = p <= 0.5 ? lower_quantile(p) : -lower_quantile(1 - p);
    x = std::clamp(mean + deviation * sign * z, low, high);
  }
  return from(shape, values).to(dtype);
}

}  // namespace optnet
