// Layers for images and norms: what they add to their ops.
#include "tests/test.h"

TEST_CASE("BatchNorm normalises by the batch in training, by running statistics in evaluation", "[layers][norm]") {
  Random random{3};
  const Tensor x = normal(random, {6, 2, 3, 3}, 4, 2, float64);
  BatchNorm2d norm{2, {.momentum = 0.25, .dtype = float64}};
  const Tensor y = norm(x).value(), m = mean(x, {0, 2, 3}), d = x - m.reshape({2, 1, 1}), variance = mean(d * d, {0, 2, 3});
  CHECK(max(abs(mean(y, {0, 2, 3}))).item() < 1e-12);
  CHECK(max(abs(mean(y * y, {0, 2, 3}) - 1.0)).item() < 1e-4);
  CHECK(max(abs(norm.running_mean.value() - 0.25 * m)).item() < 1e-12);
  CHECK(max(abs(norm.running_var.value() - (0.75 + 0.25 * 54 / 53.0 * variance))).item() < 1e-12);  // without bias
  CHECK(norm.num_batches_tracked.value().item() == 1);
  norm.eval();
  const Tensor out = norm(x).value(), by_running = (x - norm.running_mean.value().reshape({2, 1, 1})) / sqrt(norm.running_var.value() + 1e-5).reshape({2, 1, 1});
  CHECK(max(abs(out - by_running)).item() < 1e-12);
  CHECK(norm.num_batches_tracked.value().item() == 1);
  std::vector<std::string> names;
  for (const auto& [name, param] : norm.state()) names.push_back(name);
  CHECK(names == std::vector<std::string>{"weight", "bias", "running_mean", "running_var", "num_batches_tracked"});
  CHECK(norm.parameters().size() == 2);
}

TEST_CASE("Conv2d, pooling and LayerNorm call their ops", "[layers][conv]") {
  Random random{4};
  const Tensor x = normal(random, {2, 3, 8, 8});
  const Conv2d conv{3, 5, 3, {.stride = 2, .padding = 1}};
  CHECK(conv.weight.shape() == Shape{5, 3, 3, 3});
  CHECK(max(abs(conv.weight.value())).item() <= 1 / std::sqrt(27.0));
  CHECK(conv(x).shape() == Shape{2, 5, 4, 4});
  CHECK(Conv2d(3, 5, {1, 2}, {.bias = false}).parameters().size() == 1);
  CHECK(MaxPool2d(2)(x).shape() == Shape{2, 3, 4, 4});
  CHECK(AvgPool2d(3, {.stride = 1})(x).shape() == Shape{2, 3, 6, 6});
  const Tensor y = LayerNorm(Shape{8})(x).value();
  CHECK(max(abs(mean(y, {-1}))).item() < 1e-5);
  CHECK_THAT(error_of([] { Conv2d(0, 1, 3); }), Contains("Conv2d: sizes must be positive; got in = 0"));
  CHECK_THAT(error_of([&] { BatchNorm1d(3)(x); }), Contains("BatchNorm1d: input must be [batch, channels] or [batch, channels, length]; got [2, 3, 8, 8]"));
  CHECK_THAT(error_of([&] { BatchNorm2d(3)(ones({4, 3})); }), Contains("BatchNorm2d: input must be [batch, channels, height, width]; got [4, 3]"));
  CHECK_THAT(error_of([] { BatchNorm1d(0); }), Contains("BatchNorm: needs at least one channel; got 0"));
}
