// Initial values: bounds, means and variances for each name, shapes of convolutions, orthogonality, the truncated normal.
#include "layers/init.h"
#include "tests/test.h"

namespace {

/// Mean 0 and this variance, within five deviations of either's estimate; `kurtosis` is 9/5 for uniform numbers, 3 for normal ones.
void check_moments(const Tensor& x, double variance, double kurtosis) {
  const double n = static_cast<double>(x.numel());
  CHECK(std::abs(mean(x).item()) < 5 * std::sqrt(variance / n));
  CHECK(std::abs(mean(x * x).item() / variance - 1) < 5 * std::sqrt((kurtosis - 1) / n));
  CHECK(mean(pow(x, 4)).item() / (variance * variance) == Approx(kurtosis).epsilon(0.05));
}

double largest(const Tensor& x) { return max(abs(x)).item(); }

using N = Nonlinearity;

}  // namespace

TEST_CASE("variances are the papers', also of convolution kernels", "[init]") {
  Random random{1};
  for (const Shape& shape : {Shape{200, 300}, Shape{40, 60, 5, 5}}) {
    const double kernel = shape.rank() == 4 ? 25 : 1, in = static_cast<double>(shape[1]) * kernel, out = static_cast<double>(shape[0]) * kernel;
    check_moments(kaiming_uniform(random, shape, {.dtype = float64}), 2 / in, 1.8);
    check_moments(kaiming_normal(random, shape, {.dtype = float64}), 2 / in, 3);
    check_moments(kaiming_normal(random, shape, {.nonlinearity = N::tanh, .fan = Fan::out, .dtype = float64}), 25 / 9.0 / out, 3);
    check_moments(kaiming_uniform(random, shape, {.nonlinearity = N::leaky_relu, .slope = 2, .fan = Fan::out, .dtype = float64}), 0.4 / out, 1.8);
    check_moments(xavier_uniform(random, shape, {.dtype = float64}), 2 / (in + out), 1.8);
    check_moments(xavier_normal(random, shape, {.nonlinearity = N::relu, .dtype = float64}), 4 / (in + out), 3);
    check_moments(lecun_normal(random, shape, float64), 1 / in, 3);
  }
}

TEST_CASE("uniform initial values reach their bound and stay within", "[init]") {
  Random random{2};
  const Tensor x = kaiming_uniform(random, {300, 24}), y = xavier_uniform(random, {30, 2, 10});
  CHECK(largest(x) <= 0.5);
  CHECK(largest(x) > 0.499);
  CHECK(largest(y) <= std::sqrt(6.0 / 320));
  CHECK(largest(y) > std::sqrt(6.0 / 320) * 0.98);
  // PyTorch's Linear: kaiming_uniform with leaky_relu of slope sqrt(5), which is 1 / sqrt(in).
  CHECK(largest(kaiming_uniform(random, {1000, 16}, {.nonlinearity = N::leaky_relu, .slope = std::sqrt(5)})) == Approx(0.25).epsilon(1e-3));
}

TEST_CASE("gains are PyTorch's", "[init]") {
  CHECK(gain(N::linear) == 1);
  CHECK(gain(N::sigmoid) == 1);
  CHECK(gain(N::tanh) == Approx(5.0 / 3));
  CHECK(gain(N::relu) == Approx(std::sqrt(2)));
  CHECK(gain(N::leaky_relu) == Approx(std::sqrt(2 / 1.0001)));
  CHECK(gain(N::leaky_relu, 1) == 1);
  CHECK(gain(N::selu) == 0.75);
}

TEST_CASE("orthogonal matrices have orthonormal rows, or columns if there are fewer", "[init]") {
  Random random{3};
  for (const Shape& shape : std::vector<Shape>{{1, 1}, {1, 7}, {7, 1}, {30, 50}, {50, 30}, {80, 80}, {6, 4, 3, 3}, {40, 2, 3, 3}}) {
    const Tensor x = orthogonal(random, shape, {.dtype = float64});
    CHECK(x.shape() == shape);
    const Tensor m = x.reshape({shape[0], -1});
    const bool wide = m.size(0) <= m.size(1);
    const Tensor gram = matmul(m, m, {.transpose_a = !wide, .transpose_b = wide});
    CHECK(max_difference(gram, eye(gram.size(0), float64)) < 1e-14);
  }
  const Tensor x = orthogonal(random, {4, 4}, {.nonlinearity = N::relu});
  CHECK(x.dtype() == float32);
  CHECK(max_difference(matmul(x, x, {.transpose_b = true}), 2 * eye(4)) < 1e-6);
  // No direction is preferred: entries of many small ones have mean 0 and variance 1/n.
  std::vector<Tensor> many;
  for (int i = 0; i < 4000; ++i) many.push_back(orthogonal(random, {3, 3}, {.dtype = float64}));
  const Tensor all = stack(many);
  CHECK(largest(mean(all, {0})) < 5 * std::sqrt(1 / 3.0 / 4000));
  CHECK(largest(mean(all * all, {0}) - 1 / 3.0) < 0.03);
}

TEST_CASE("truncated normal numbers lie within their bounds and have their moments", "[init]") {
  Random random{4};
  const auto density = [](double x) { return std::exp(-x * x / 2) / std::sqrt(2 * M_PI); };
  const auto below = [](double x) { return std::erfc(-x / std::sqrt(2)) / 2; };
  for (auto [a, b] : {std::pair{-2.0, 2.0}, {-0.1, 3.0}, {1.0, 1.5}, {4.0, 9.0}, {-30.0, -8.0}, {-1.0, INFINITY}, {0.25, 0.250001}}) {
    const double mu = 0.3, deviation = 0.5;
    const double low = mu + deviation * a, high = mu + deviation * b;
    const Tensor x = truncated_normal(random, {40000}, {.mean = mu, .deviation = deviation, .low = low, .high = high, .dtype = float64});
    INFO(a << ' ' << b);
    CHECK(min(x).item() >= low);
    CHECK(max(x).item() <= high);
    const double mass = a > 0 ? below(-a) - below(-b) : below(b) - below(a), fb = std::isinf(b) ? 0 : b * density(b);
    const double m = (density(a) - density(b)) / mass, variance = 1 + (a * density(a) - fb) / mass - m * m;
    const Tensor z = (x - mu) / deviation;
    if (b - a < 1e-3) continue;  // the formula cancels
    CHECK(std::abs(mean(z).item() - m) < 5 * std::sqrt(variance / 40000));
    CHECK(mean((z - m) * (z - m)).item() == Approx(variance).epsilon(0.05));
  }
  const Tensor x = truncated_normal(random, {1000, 100});
  CHECK(x.dtype() == float32);
  CHECK(largest(x) <= 2);
  CHECK(largest(x) > 1.99);
}

TEST_CASE("the same seed gives the same initial values", "[init]") {
  Random a{5}, b{5};
  CHECK(same_bits(orthogonal(a, {5, 5}), orthogonal(b, {5, 5})));
  CHECK(same_bits(truncated_normal(a, {9}), truncated_normal(b, {9})));
  CHECK(a.next == b.next);
}

TEST_CASE("initialisers refuse shapes and bounds that make no sense", "[init]") {
  Random random{6};
  CHECK(error_of([&] { kaiming_normal(random, {3}); }) == "kaiming_normal: the shape must be [out, in, kernel...], of positive sizes; got [3]");
  CHECK(error_of([&] { xavier_uniform(random, {0, 3}); }) == "xavier_uniform: the shape must be [out, in, kernel...], of positive sizes; got [0, 3]");
  CHECK_THAT(error_of([&] { orthogonal(random, {3}); }), Contains("orthogonal: the shape must be"));
  CHECK_THAT(error_of([&] { lecun_normal(random, {3}); }), Contains("lecun_normal: the shape must be"));
  CHECK(error_of([&] { truncated_normal(random, {3}, {.low = 2, .high = 2}); }) == "truncated_normal: needs deviation > 0 and low < high; got 1, 2 and 2");
  CHECK(error_of([&] { truncated_normal(random, {3}, {.low = 50, .high = 60}); }) == "truncated_normal: [low, high] holds none of the normal's mass; got [50, 60]");
}
