// Every op: one row in a table, which checks its gradient against differences, its value against a formula where
// there is a short one, and both devices against each other. (matrix_rows.cpp: the rows of matrices; values_test.cpp:
// values against naive loops.)
#include "tests/op_rows.h"

namespace {

template <class F>
void unary(std::vector<Row>& rows, const char* op, F f, double (*formula)(double), double low = -2, double high = 2) {
  for (const Shape& shape : {Shape{}, Shape{3, 1, 5}, Shape{2, 0}, Shape{17}})
    rows.push_back({op, "of one tensor", [f](const Vars& v) { return f(v[0]); },
                    {some(shape, low, high)}, [formula](const auto& x) { return each(x[0], formula); }});
}

template <class F>
void binary(std::vector<Row>& rows, const char* op, F f, double (*formula)(double, double), double low = -2, double high = 2) {
  const std::pair<Shape, Shape> pairs[] = {{{2, 3}, {2, 3}}, {{2, 3}, {3}}, {{}, {2, 1, 3}}, {{4, 1}, {1, 5}},
                                           {{2, 1, 3, 1}, {4, 1, 2}}, {{0, 3}, {1, 3}}, {{}, {}}, {{2, 1, 0}, {3, 1}}};
  for (const auto& [a, b] : pairs)
    rows.push_back({op, "broadcast", [f](const Vars& v) { return f(v[0], v[1]); }, {some(a, low, high), some(b, low, high)},
                    [formula](const auto& x) { return each(x[0], x[1], formula); }});
  rows.push_back({op, "of a tensor and itself", [f](const Vars& v) { return f(v[0], v[0] * 0.5 + 0.7); }, {some({3}, low, high)}});
}

void add_pointwise(std::vector<Row>& rows) {
  binary(rows, "add", [](const Var& a, const Var& b) { return a + b; }, [](double a, double b) { return a + b; });
  binary(rows, "sub", [](const Var& a, const Var& b) { return a - b; }, [](double a, double b) { return a - b; });
  binary(rows, "mul", [](const Var& a, const Var& b) { return a * b; }, [](double a, double b) { return a * b; });
  binary(rows, "div", [](const Var& a, const Var& b) { return a / b; }, [](double a, double b) { return a / b; }, 0.5, 2);
  binary(rows, "maximum", [](const Var& a, const Var& b) { return maximum(a, b); }, [](double a, double b) { return std::max(a, b); });
  binary(rows, "minimum", [](const Var& a, const Var& b) { return minimum(a, b); }, [](double a, double b) { return std::min(a, b); });
  unary(rows, "neg", [](const Var& x) { return -x; }, [](double x) { return -x; });
  unary(rows, "exp", [](const Var& x) { return exp(x); }, [](double x) { return std::exp(x); });
  unary(rows, "log", [](const Var& x) { return log(x); }, [](double x) { return std::log(x); }, 0.3, 3);
  unary(rows, "log1p", [](const Var& x) { return log1p(x); }, [](double x) { return std::log1p(x); }, -0.7, 3);
  unary(rows, "expm1", [](const Var& x) { return expm1(x); }, [](double x) { return std::expm1(x); });
  unary(rows, "sqrt", [](const Var& x) { return sqrt(x); }, [](double x) { return std::sqrt(x); }, 0.3, 3);
  unary(rows, "sin", [](const Var& x) { return sin(x); }, [](double x) { return std::sin(x); });
  unary(rows, "cos", [](const Var& x) { return cos(x); }, [](double x) { return std::cos(x); });
  unary(rows, "erf", [](const Var& x) { return erf(x); }, [](double x) { return std::erf(x); });
  unary(rows, "tanh", [](const Var& x) { return tanh(x); }, [](double x) { return std::tanh(x); });
  unary(rows, "sigmoid", [](const Var& x) { return sigmoid(x); }, [](double x) { return 1 / (1 + std::exp(-x)); });
  unary(rows, "relu", [](const Var& x) { return relu(x); }, [](double x) { return std::max(x, 0.0); });
  unary(rows, "leaky_relu", [](const Var& x) { return leaky_relu(x); }, [](double x) { return x > 0 ? x : 0.01 * x; });
  unary(rows, "leaky_relu", [](const Var& x) { return leaky_relu(x, 0.3); }, [](double x) { return x > 0 ? x : 0.3 * x; });
  unary(rows, "gelu", [](const Var& x) { return gelu(x); }, [](double x) { return x * (1 + std::erf(x / std::sqrt(2))) / 2; });
  unary(rows, "softplus", [](const Var& x) { return softplus(x); }, [](double x) { return std::log(1 + std::exp(x)); });
  unary(rows, "clamp", [](const Var& x) { return clamp(x, -1.2, 0.7); }, [](double x) { return std::min(std::max(x, -1.2), 0.7); });
  unary(rows, "abs", [](const Var& x) { return abs(x); }, [](double x) { return std::abs(x); });
  unary(rows, "pow", [](const Var& x) { return pow(x, 2.5); }, [](double x) { return std::pow(x, 2.5); }, 0.3, 3);
  unary(rows, "pow", [](const Var& x) { return pow(x, -1); }, [](double x) { return 1 / x; }, 0.5, 3);
  unary(rows, "pow", [](const Var& x) { return pow(x, 3); }, [](double x) { return x * x * x; });
  unary(rows, "pow", [](const Var& x) { return pow(x, 0); }, [](double) { return 1.0; });
  unary(rows, "add", [](const Var& x) { return 2.0 + x + 1.0; }, [](double x) { return x + 3; });
  unary(rows, "sub", [](const Var& x) { return 2.0 - (x - 1.0); }, [](double x) { return 3 - x; });
  unary(rows, "mul", [](const Var& x) { return 2.0 * x * 3.0; }, [](double x) { return 6 * x; });
  unary(rows, "div", [](const Var& x) { return 2.0 / (x / 3.0); }, [](double x) { return 6 / x; }, 0.5, 3);
  const std::tuple<Shape, Shape, Shape> choices[] = {{{}, {}, {}}, {{2, 3}, {2, 3}, {2, 3}}, {{3}, {2, 3}, {}}, {{2, 1}, {}, {1, 3}},
                                                     {{4, 1}, {2, 1, 5}, {5}}, {{0, 1}, {3}, {1, 1}}};
  for (const auto& [mask, a, b] : choices) {
    const Tensor chosen = greater(some(mask), zeros(mask, float64));
    rows.push_back({"where", "", [=](const Vars& v) { return where(beside(chosen, v[0]), v[0], v[1]); }, {some(a), some(b)},
                    [=](const auto& x) { return chosen * x[0] + (1 - chosen) * x[1]; }});
  }
  rows.push_back({"dropout", "a fixed mask", [](const Vars& v) { Random random{5}; return dropout(v[0], 0.4, random); }, {some({4, 5})}});
  rows.push_back({"dropout", "p = 0", [](const Vars& v) { Random random{5}; return dropout(v[0], 0, random); }, {some({7})},
                  [](const auto& x) { return x[0]; }});
}

void add_reductions(std::vector<Row>& rows) {
  using F = Var (*)(const Var&, const Axes&, Reduce);
  const std::pair<const char*, F> ops[] = {{"sum", sum}, {"mean", mean}, {"max", max}, {"min", min}, {"norm", norm}};
  const std::pair<Shape, Axes> cases[] = {{{}, {}}, {{5}, {}}, {{2, 3, 4}, {}}, {{2, 3, 4}, {0}}, {{2, 3, 4}, {1}}, {{2, 3, 4}, {-1}},
                                          {{2, 3, 4}, {2, 0}}, {{2, 1, 3, 2}, {1, -1}}, {{3, 0}, {0}}};
  for (const auto& [op, f] : ops)
    for (const auto& [shape, axes] : cases)
      for (bool keepdims : {false, true})
        rows.push_back({op, keepdims ? "keepdims" : "", [f = f, axes = axes, keepdims](const Vars& v) { return f(v[0], axes, {keepdims}); }, {some(shape)}});
  for (const auto& [shape, axes] : cases)
    for (double correction : {0.0, 0.5, 1.0})
      if (shape.rank() > 0 || correction < 1)  // a single number has no variance of a sample
        rows.push_back({"var", "", [=, axes = axes](const Vars& v) { return var(v[0], axes, {correction == 0, correction}); }, {some(shape)},
                        [=, axes = axes](const auto& x) {
                          const Tensor y = x[0] - mean(x[0], axes, {.keepdims = true}), squares = sum(y * y, axes, {correction == 0});
                          return squares.numel() ? squares / (static_cast<double>(x[0].numel() / squares.numel()) - correction) : squares;
                        }});
  for (const Shape& shape : {Shape{4}, Shape{2, 3}, Shape{0}})
    rows.push_back({"norm", "by its formula", [](const Vars& v) { return norm(v[0], {-1}); }, {some(shape)},
                    [](const auto& x) { return sqrt(sum(x[0] * x[0], {-1})); }});
  rows.push_back({"sum", "of no elements", [](const Vars& v) { return sum(v[0], {1}); }, {zeros({3, 0}, float64)},
                  [](const auto&) { return zeros({3}, float64); }});
  for (const Shape& shape : {Shape{5}, Shape{3, 4}, Shape{2, 1, 3}, Shape{2, 1}, Shape{0, 3}}) {
    rows.push_back({"softmax", "", [](const Vars& v) { return softmax(v[0]); }, {some(shape)}, [](const auto& x) {
                      const Tensor e = each(x[0], [](double t) { return std::exp(t); });
                      return e / sum(e, {-1}, {.keepdims = true});
                    }});
    rows.push_back({"log_softmax", "", [](const Vars& v) { return log_softmax(v[0]); }, {some(shape)}, [](const auto& x) {
                      const Tensor e = each(x[0], [](double t) { return std::exp(t); });
                      return log(e / sum(e, {-1}, {.keepdims = true}));
                    }});
  }
  const std::pair<Shape, int> lines[] = {{{5}, 0}, {{1}, -1}, {{2, 3, 4}, -1}, {{2, 3, 4}, 1}, {{2, 3, 17}, 0}, {{0, 3}, 0}, {{3, 0}, 0}};
  for (const auto& [shape, axis] : lines) {
    rows.push_back({"logsumexp", "", [axis = axis](const Vars& v) { return logsumexp(v[0], axis); }, {some(shape)},
                    [axis = axis](const auto& x) { return log(sum(exp(x[0]), {axis})); }});
    rows.push_back({"cumsum", "", [axis = axis](const Vars& v) { return cumsum(v[0], axis); }, {some(shape)}, [axis = axis](const auto& x) {
                      Tensor total = zeros(slice(x[0], axis, 0, 0).shape(), float64);  // of parts of 0, 1, 2, ... entries
                      for (std::int64_t k = 1; k <= x[0].size(axis); ++k)
                        total = concat({total, sum(slice(x[0], axis, 0, k), {axis}, {.keepdims = true})}, axis);
                      return total;
                    }});
  }
}

void add_movements(std::vector<Row>& rows) {
  rows.push_back({"reshape", "", [](const Vars& v) { return reshape(v[0], {3, -1}); }, {some({2, 3, 2})}, [](const auto& x) { return x[0].reshape({3, 4}); }});
  rows.push_back({"reshape", "to a scalar", [](const Vars& v) { return reshape(v[0], Shape{}); }, {some({1, 1})}});
  rows.push_back({"reshape", "empty", [](const Vars& v) { return reshape(v[0], {0, 5}); }, {some({2, 0})}});
  for (const auto& [a, b] : {std::pair{0, 1}, {0, 2}, {1, 3}, {-1, -2}, {2, 2}, {3, 0}})
    rows.push_back({"transpose", "", [a = a, b = b](const Vars& v) { return transpose(v[0], a, b); }, {some({2, 3, 1, 4})}});
  rows.push_back({"transpose", "empty", [](const Vars& v) { return transpose(v[0]); }, {some({2, 0})}});
  for (int axis : {0, 1, -1})
    rows.push_back({"flip", "", [=](const Vars& v) { return flip(v[0], axis); }, {some({2, 3, 1, 4})}, [=](const auto& x) {
                      std::vector<std::int64_t> backwards;
                      for (std::int64_t k = x[0].size(axis); k-- > 0;) backwards.push_back(k);
                      return gather(x[0], axis, from({x[0].size(axis)}, backwards));
                    }});
  rows.push_back({"flip", "empty", [](const Vars& v) { return flip(v[0], 1); }, {some({2, 0})}});
  const std::pair<Shape, std::vector<Pad>> frames[] = {
      {{}, {}}, {{3}, {{2, 1}}}, {{2, 3}, {{0, 0}, {1, 2}}}, {{2, 1, 3}, {{1, 0}, {2, 2}, {0, 1}}}, {{2, 3}, {{1, -1}, {-1, 0}}},
      {{3}, {{-2, -1}}}, {{3}, {{-5, 9}}}, {{3}, {{9, -5}}}, {{0, 2}, {{1, 1}, {0, 1}}}, {{2, 0}, {{0, 0}, {2, 0}}}, {{2, 2}, {{}, {.after = 1}}}};
  for (const auto& [shape, pads] : frames)
    for (double value : {0.0, -1.5})
      rows.push_back({"pad", "", [pads = pads, value](const Vars& v) { return pad(v[0], pads, value); }, {some(shape)},
                      [pads = pads, value](const auto& x) {
                        Shape larger = x[0].shape();
                        for (std::size_t d = 0; d < pads.size(); ++d) larger[static_cast<int>(d)] += pads[d].before + pads[d].after;
                        const Numbers in = x[0].template to_vector<double>();
                        return build(larger, float64, [&](std::vector<std::int64_t> at) {
                          for (std::size_t d = 0; d < at.size(); ++d)
                            if ((at[d] -= pads[d].before) < 0 || at[d] >= x[0].size(static_cast<int>(d))) return value;
                          return in[place(x[0].shape(), at)];
                        });
                      }});
  const std::pair<Shape, std::vector<std::int64_t>> tiles[] = {
      {{}, {}}, {{3}, {2}}, {{2, 3}, {1, 3}}, {{2, 1, 3}, {2, 3, 2}}, {{2, 3}, {2, 0}}, {{0, 2}, {3, 2}}, {{2, 1, 1, 2, 1, 1}, {1, 2, 1, 2, 1, 2}}};
  for (const auto& [shape, times] : tiles)
    rows.push_back({"repeat", "", [times = times](const Vars& v) { return repeat(v[0], times); }, {some(shape)}, [times = times](const auto& x) {
                      Shape larger = x[0].shape();
                      for (std::size_t d = 0; d < times.size(); ++d) larger[static_cast<int>(d)] *= times[d];
                      const Numbers in = x[0].template to_vector<double>();
                      return build(larger, float64, [&](std::vector<std::int64_t> at) {
                        for (std::size_t d = 0; d < at.size(); ++d) at[d] %= x[0].size(static_cast<int>(d));
                        return in[place(x[0].shape(), at)];
                      });
                    }});
  for (const auto& [axis, start, stop] : {std::tuple{0, 0, 2}, {1, 1, 3}, {-1, -3, -1}, {2, 2, 2}, {1, -1, 3}})
    rows.push_back({"slice", "", [axis = axis, start = start, stop = stop](const Vars& v) { return slice(v[0], axis, start, stop); }, {some({2, 3, 4})}});
  for (int axis : {0, 1, -1})
    rows.push_back({"gather", "with repeats", [=](const Vars& v) { return gather(v[0], axis, whole({1, 0, 1, 1, 2}, v[0])); }, {some({3, 4, 3})}});
  for (int axis : {0, 1, -1})
    for (const Shape& shape : {Shape{}, Shape{2, 3}, Shape{0, 2}})
      rows.push_back({"gather", "by an index of any shape", [=](const Vars& v) {
                        return gather(v[0], axis, slice(whole({2, 0, 1, 2, 2, 0}, v[0]), 0, 0, shape.numel()).reshape(shape));
                      }, {some({3, 4, 3})}});
  rows.push_back({"gather", "nothing", [](const Vars& v) { return gather(v[0], 0, whole({}, v[0])); }, {some({3, 2})}});
  for (int axis : {0, 1, -1})
    rows.push_back({"concat", "", [=](const Vars& v) { return concat({v[0], v[1], v[0]}, axis); }, {some({2, 2, 2}), some({2, 2, 2})}});
  rows.push_back({"concat", "of other sizes", [](const Vars& v) { return concat({v[0], v[1], v[2]}, -1); }, {some({2, 3}), some({2, 0}), some({2, 1})}});
  rows.push_back({"concat", "one part", [](const Vars& v) { return concat(Vars{v[0]}, 0); }, {some({2, 3})}});
  for (int axis : {0, 1, 2, -1, -3})
    rows.push_back({"concat", "stack", [=](const Vars& v) { return stack({v[0], v[1]}, axis); }, {some({2, 3}), some({2, 3})}});
  rows.push_back({"concat", "stack of scalars", [](const Vars& v) { return stack({v[0], v[1], v[0]}); }, {some({}), some({})}});
}

/// Cross entropy by its definition: weights of classes, and a share of the target that is spread over all of them.
double naive_cross_entropy(const Tensor& logits, const std::vector<std::int64_t>& labels, double smoothing, const Numbers& weights) {
  const Numbers x = logits.to_vector<double>();
  const std::size_t classes = weights.size();
  double total = 0, weight = 0;
  for (std::size_t i = 0; i < labels.size(); ++i) {
    const auto label = static_cast<std::size_t>(labels[i]);
    double sum = 0;
    for (std::size_t c = 0; c < classes; ++c) sum += std::exp(x[i * classes + c]);
    for (std::size_t c = 0; c < classes; ++c) {
      const double target = (c == label ? 1 - smoothing : 0) + smoothing / static_cast<double>(classes);
      total -= target * weights[c] * std::log(std::exp(x[i * classes + c]) / sum);
    }
    weight += weights[label];
  }
  return total / weight;
}

double naive_huber(double e, double delta) { return std::abs(e) <= delta ? e * e / 2 : delta * (std::abs(e) - delta / 2); }

void add_losses(std::vector<Row>& rows) {
  using Labels = std::vector<std::int64_t>;
  const std::pair<Labels, Numbers> cases[] = {{{2, 0, 2}, {1, 1, 1, 1}}, {{0, 0}, {1}}, {{1, 0, 3, 3, 1}, {0.5, 2, 0, 3}}, {{1}, {3, 1}}};
  for (const auto& [labels, weights] : cases)
    for (double smoothing : {0.0, 0.1, 1.0}) {
      const Shape shape{static_cast<std::int64_t>(labels.size()), static_cast<std::int64_t>(weights.size())};
      const Tensor w = max(from({shape[1]}, weights)).item() == 1 ? Tensor() : from({shape[1]}, weights);
      rows.push_back({"cross_entropy", "", [=, labels = labels](const Vars& v) {
                        return cross_entropy(v[0], whole(labels, v[0]), {.label_smoothing = smoothing, .class_weights = beside(w, v[0])});
                      },
                      {some(shape)}, [=, labels = labels, weights = weights](const auto& x) {
                        return full({}, naive_cross_entropy(x[0], labels, smoothing, weights), float64);
                      }});
    }
  using F = Var (*)(const Var&, const Tensor&);
  const std::tuple<const char*, F, double (*)(double, double)> losses[] = {
      {"mse", mse, [](double y, double t) { return (y - t) * (y - t); }},
      {"l1", l1, [](double y, double t) { return std::abs(y - t); }},
      {"huber", [](const Var& y, const Tensor& t) { return huber(y, t); }, [](double y, double t) { return naive_huber(y - t, 1); }},
      {"huber", [](const Var& y, const Tensor& t) { return huber(y, t, {.delta = 0.4}); }, [](double y, double t) { return naive_huber(y - t, 0.4); }},
      {"binary_cross_entropy_with_logits", binary_cross_entropy_with_logits,
       [](double y, double t) { return -t * std::log(1 / (1 + std::exp(-y))) - (1 - t) * std::log(1 / (1 + std::exp(y))); }}};
  for (const auto& [op, f, formula] : losses)
    for (const Shape& shape : {Shape{}, Shape{2, 3}, Shape{1, 1}})
      for (const Tensor& target : {some(shape, 0, 1), zeros(shape, float64), ones(shape, float64)})
        rows.push_back({op, "", [=, f = f](const Vars& v) { return f(v[0], beside(target, v[0])); }, {some(shape)},
                        [=, formula = formula](const auto& x) { return mean(each(x[0], target, formula)); }});
}

/// Images, windows, strides, paddings and dilations: even windows, strides over the window's size, one entry, a batch of one.
void add_images(std::vector<Row>& rows) {
  struct Case {
    Shape x, w;
    Conv2dOptions options;
  };
  const Case cases[] = {{{2, 3, 6, 5}, {4, 3, 3, 3}, {}},
                        {{1, 1, 1, 1}, {1, 1, 1, 1}, {}},
                        {{2, 2, 4, 4}, {3, 2, 2, 2}, {.padding = 1}},
                        {{1, 2, 5, 7}, {2, 2, 3, 2}, {.stride = 2, .padding = {1, 0}}},
                        {{3, 1, 5, 5}, {2, 1, 1, 1}, {.stride = 3}},
                        {{2, 2, 6, 6}, {1, 2, 2, 3}, {.padding = 2, .dilation = 2}},
                        {{1, 3, 4, 5}, {9, 3, 4, 5}, {}},
                        {{2, 1, 3, 3}, {2, 1, 2, 2}, {.padding = {3, 2}}},
                        {{2, 2, 7, 6}, {5, 2, 3, 3}, {.stride = {1, 2}, .padding = 1, .dilation = {2, 1}}},
                        {{3, 4, 3, 2}, {2, 4, 1, 1}, {}},
                        {{2, 3, 5, 4}, {9, 3, 4, 3}, {.padding = {1, 0}}},
                        {{1, 2, 7, 9}, {3, 2, 3, 3}, {.padding = 1, .dilation = 3}},
                        {{2, 1, 4, 4}, {2, 1, 2, 2}, {.padding = 2, .dilation = 5}},
                        {{0, 2, 4, 4}, {3, 2, 3, 3}, {}}};
  for (const Case& c : cases) {
    rows.push_back({"conv2d", "with a bias", [o = c.options](const Vars& v) { return conv2d(v[0], v[1], v[2], o); }, {some(c.x), some(c.w), some({c.w[0]})},
                    [o = c.options](const auto& x) { return naive_conv2d(x[0], x[1], o) + x[2].reshape({-1, 1, 1}); }});
    rows.push_back({"conv2d", "", [o = c.options](const Vars& v) { return conv2d(v[0], v[1], o); }, {some(c.x), some(c.w)},
                    [o = c.options](const auto& x) { return naive_conv2d(x[0], x[1], o); }});
  }
  struct Pooling {
    Shape x;
    Size2 window;
    Pool2dOptions options;
  };
  const Pooling poolings[] = {{{2, 3, 4, 6}, 2, {}}, {{1, 1, 1, 1}, 1, {}}, {{2, 2, 5, 5}, 3, {.stride = 2, .padding = 1}}, {{1, 2, 5, 4}, {2, 3}, {.stride = 1}},
                              {{1, 1, 6, 6}, 2, {.stride = 3}}, {{0, 2, 4, 4}, 2, {}}, {{2, 1, 4, 4}, {4, 2}, {.stride = {1, 2}, .padding = {2, 1}}}};
  for (const Pooling& c : poolings) {
    rows.push_back({"max_pool2d", "", [c](const Vars& v) { return max_pool2d(v[0], c.window, c.options); }, {some(c.x)},
                    [c](const auto& x) { return naive_pool2d(x[0], c.window, c.options, true); }});
    rows.push_back({"avg_pool2d", "", [c](const Vars& v) { return avg_pool2d(v[0], c.window, c.options); }, {some(c.x)},
                    [c](const auto& x) { return naive_pool2d(x[0], c.window, c.options, false); }});
  }
}

/// (x - mean) / sqrt(variance + eps) over `axes`.
Tensor naive_norm(const Tensor& x, const Axes& axes) {
  const Tensor centred = x - mean(x, axes, {.keepdims = true});
  return centred / sqrt(mean(centred * centred, axes, {.keepdims = true}) + 1e-5);
}

void add_norms(std::vector<Row>& rows) {
  for (const Shape& shape : {Shape{5, 3}, Shape{2, 1}, Shape{2, 3, 4}, Shape{3, 2, 2, 5}, Shape{1, 2, 9, 1}}) {
    const std::int64_t channels = shape[1];
    Axes axes{0};
    Shape across{channels};
    for (int d = 2; d < shape.rank(); ++d) axes.push_back(d), across.push_back(1);
    rows.push_back({"batch_norm", "", [](const Vars& v) { return batch_norm(v[0], v[1], v[2]).y; }, {some(shape), some({channels}), some({channels})},
                    [=](const auto& x) { return naive_norm(x[0], axes) * x[1].reshape(across) + x[2].reshape(across); }});
    const Tensor mean = some({channels}), variance = some({channels}, 0.3, 2);
    rows.push_back({"mul", "batch_norm by given statistics",
                    [=](const Vars& v) { return batch_norm(v[0], v[1], v[2], mean.to(v[0].value().device()), variance.to(v[0].value().device())); },
                    {some(shape), some({channels}), some({channels})}, [=](const auto& x) {
                      return (x[0] - mean.reshape(across)) / sqrt(variance + 1e-5).reshape(across) * x[1].reshape(across) + x[2].reshape(across);
                    }});
  }
  for (const auto& [shape, own] : {std::pair{Shape{4, 5}, Shape{5}}, {Shape{2, 3, 4}, Shape{4}}, {Shape{2, 3, 4}, Shape{3, 4}}, {Shape{7}, Shape{7}}, {Shape{0, 3}, Shape{3}}}) {
    Axes axes;
    for (int d = -own.rank(); d < 0; ++d) axes.push_back(d);
    rows.push_back({"layer_norm", "", [](const Vars& v) { return layer_norm(v[0], v[1], v[2]); }, {some(shape), some(own), some(own)},
                    [axes](const auto& x) { return naive_norm(x[0], axes) * x[1] + x[2]; }});
  }
}

void add_argmin(std::vector<Row>& rows) {
  const QPOptions tight{.tolerance = 1e-12};
  const Tensor low = full({4}, -0.6, float64), high = full({4}, 0.9, float64);
  rows.push_back({"argmin", "a batch with every kind of constraint",
                  [=](const Vars& v) {
                    const Var Q = matmul(v[0], v[0], {.transpose_b = true}) + Var(eye(4, float64).to(v[0].value().device()));
                    return argmin({.Q = Q, .q = v[1], .G = v[2], .h = v[3], .A = v[4], .b = v[5], .lower = v[6], .upper = v[7]}, tight);
                  },
                  {some({4, 4}), some({3, 4}), some({2, 4}), some({2}, 0.5, 1), some({1, 4}), some({1}, -0.2, 0.2), low, high}});
  rows.push_back({"optimum", "a solution and its duals",
                  [=](const Vars& v) {
                    const Optimum o = optimum({.Q = v[0], .q = v[1], .G = v[2], .h = v[3], .A = v[4], .b = v[5], .lower = v[6], .lower_g = v[7]}, tight);
                    return concat({o.nu, o.z, o.dual_lower, o.lambda, o.dual_lower_g}, -1);
                  },
                  {some({4}, 0.5, 2), some({3, 4}, -3, 3), some({2, 4}), some({2}, 0.2, 0.4), some({1, 4}), some({1}, -0.2, 0.2), low, full({2}, -0.3, float64)}});
  rows.push_back({"argmin", "Q a diagonal", [=](const Vars& v) { return argmin({.Q = v[0], .q = v[1], .G = v[2], .h = v[3]}, tight); },
                  {some({3}, 0.5, 2), some({2, 3}), some({2, 2, 3}), some({2, 2}, 0.2, 1)}});
  rows.push_back({"argmin", "Q a number, no constraints", [=](const Vars& v) { return argmin({.Q = v[0], .q = v[1]}, tight); },
                  {some({}, 0.5, 2), some({3})}, [](const auto& x) { return -(x[1] / x[0]); }});
}

const std::vector<Row>& table() {
  static const std::vector<Row> rows = [] {
    std::vector<Row> all;
    add_pointwise(all);
    add_reductions(all);
    add_matmul(all);
    add_factorisations(all);
    add_triangles(all);
    add_movements(all);
    add_losses(all);
    add_images(all);
    add_norms(all);
    add_argmin(all);
    return all;
  }();
  return rows;
}

std::string title(const Row& row) {
  std::ostringstream out;
  out << row.op << ' ' << row.what;
  for (const Tensor& x : row.inputs) out << ' ' << x.shape();
  return out.str();
}

std::set<std::string> seen_by_observer;

/// The names of the ops that f records, which still reach the observer of main.cpp.
std::set<std::string> ops_recorded_by(const Row& row) {
  static void (*outer)(const char*) = nullptr;
  outer = Tape::observer;
  seen_by_observer.clear();
  Tape::observer = [](const char* op) {
    seen_by_observer.insert(op);
    if (outer) outer(op);
  };
  {
    Tape tape;
    Vars inputs;
    for (const Tensor& x : row.inputs) inputs.push_back(tape.watch(x));
    row.f(inputs);
  }
  Tape::observer = outer;
  return seen_by_observer;
}

}  // namespace

const std::set<std::string>& ops_of_the_table() {
  static const std::set<std::string> names = [] {
    std::set<std::string> out;
    for (const Row& row : table()) out.insert(row.op);
    return out;
  }();
  return names;
}

TEST_CASE("every op's gradient agrees with differences, and its value with its formula", "[ops][gradient]") {
  for (const Row& row : table()) {
    INFO(title(row));
    CHECK(ops_recorded_by(row).contains(row.op));
    const GradCheckResult result = gradcheck(row.f, row.inputs);
    CHECK(result.passed);
    if (!result) WARN(title(row) << ": " << result);
    if (row.formula) CHECK(max_difference(row.f(Vars(row.inputs.begin(), row.inputs.end())).value(), row.formula(row.inputs)) < 1e-12);
  }
}

TEST_CASE("every op gives the same value and gradient on both devices", "[ops][cuda]") {
  if (!available(Device::cuda)) return skip("no CUDA device");
  for (const Row& row : table()) {
    INFO(title(row));
    std::vector<Tensor> results[2];
    for (Device device : {Device::cpu, Device::cuda}) {
      Tape tape;
      Vars inputs;
      for (const Tensor& x : row.inputs) inputs.push_back(tape.watch(x.to(device)));
      const Var y = row.f(inputs);
      CHECK(y.value().device() == device);
      const Gradients gradients = tape.gradients(sum(y * y));
      auto& out = results[device == Device::cuda];
      out.push_back(y.value().to(Device::cpu));
      for (const Var& x : inputs) out.push_back(gradients[x].to(Device::cpu));
    }
    for (std::size_t i = 0; i < results[0].size(); ++i) CHECK(max_difference(results[0][i], results[1][i]) < 1e-9);
  }
}
