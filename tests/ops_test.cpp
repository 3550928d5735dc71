// Every op: one row in a table, which checks its gradient against differences, its value against a formula where
// there is a short one, and both devices against each other. (values_test.cpp: values against naive loops.)
#include "tests/naive.h"

namespace {

using Vars = std::vector<Var>;

struct Row {
  std::string op, what;                                           // the name on the tape; which case of it
  std::function<Var(const Vars&)> f;
  std::vector<Tensor> inputs;                                     // float64
  std::function<Tensor(const std::vector<Tensor>&)> formula = {};  // the value by other means, if there are any
};

/// Uniform numbers, other ones for each call.
Tensor some(const Shape& shape, double low = -2, double high = 2) {
  static Random random{17};
  return uniform(random, shape, low, high, float64);
}

/// An index or labels, on the device of `x`.
Tensor whole(std::vector<std::int64_t> numbers, const Var& x) {
  return from({static_cast<std::int64_t>(numbers.size())}, numbers).to(x.value().device());
}

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
  unary(rows, "sqrt", [](const Var& x) { return sqrt(x); }, [](double x) { return std::sqrt(x); }, 0.3, 3);
  unary(rows, "tanh", [](const Var& x) { return tanh(x); }, [](double x) { return std::tanh(x); });
  unary(rows, "sigmoid", [](const Var& x) { return sigmoid(x); }, [](double x) { return 1 / (1 + std::exp(-x)); });
  unary(rows, "relu", [](const Var& x) { return relu(x); }, [](double x) { return std::max(x, 0.0); });
  unary(rows, "abs", [](const Var& x) { return abs(x); }, [](double x) { return std::abs(x); });
  unary(rows, "pow", [](const Var& x) { return pow(x, 2.5); }, [](double x) { return std::pow(x, 2.5); }, 0.3, 3);
  unary(rows, "pow", [](const Var& x) { return pow(x, -1); }, [](double x) { return 1 / x; }, 0.5, 3);
  unary(rows, "pow", [](const Var& x) { return pow(x, 3); }, [](double x) { return x * x * x; });
  unary(rows, "pow", [](const Var& x) { return pow(x, 0); }, [](double) { return 1.0; });
  unary(rows, "add", [](const Var& x) { return 2.0 + x + 1.0; }, [](double x) { return x + 3; });
  unary(rows, "sub", [](const Var& x) { return 2.0 - (x - 1.0); }, [](double x) { return 3 - x; });
  unary(rows, "mul", [](const Var& x) { return 2.0 * x * 3.0; }, [](double x) { return 6 * x; });
  unary(rows, "div", [](const Var& x) { return 2.0 / (x / 3.0); }, [](double x) { return 6 / x; }, 0.5, 3);
  rows.push_back({"dropout", "a fixed mask", [](const Vars& v) { Random random{5}; return dropout(v[0], 0.4, random); }, {some({4, 5})}});
  rows.push_back({"dropout", "p = 0", [](const Vars& v) { Random random{5}; return dropout(v[0], 0, random); }, {some({7})},
                  [](const auto& x) { return x[0]; }});
}

void add_reductions(std::vector<Row>& rows) {
  using F = Var (*)(const Var&, const Axes&, Reduce);
  const std::pair<const char*, F> ops[] = {{"sum", sum}, {"mean", mean}, {"max", max}, {"min", min}};
  const std::pair<Shape, Axes> cases[] = {{{}, {}}, {{5}, {}}, {{2, 3, 4}, {}}, {{2, 3, 4}, {0}}, {{2, 3, 4}, {1}}, {{2, 3, 4}, {-1}},
                                          {{2, 3, 4}, {2, 0}}, {{2, 1, 3, 2}, {1, -1}}, {{3, 0}, {0}}};
  for (const auto& [op, f] : ops)
    for (const auto& [shape, axes] : cases)
      for (bool keepdims : {false, true})
        rows.push_back({op, keepdims ? "keepdims" : "", [f = f, axes = axes, keepdims](const Vars& v) { return f(v[0], axes, {keepdims}); }, {some(shape)}});
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
}

void add_matmul(std::vector<Row>& rows) {
  const std::pair<Shape, Shape> batches[] = {{{}, {}}, {{3}, {3}}, {{3}, {}}, {{}, {3}}, {{2, 1}, {3}}, {{2, 3}, {1, 1}}, {{0}, {}}, {{2}, {0, 1}}};
  const auto with = [](Shape batch, std::int64_t rows, std::int64_t columns, bool transpose) {
    batch.push_back(transpose ? columns : rows);
    batch.push_back(transpose ? rows : columns);
    return batch;
  };
  for (const auto& [a, b] : batches)
    for (std::int64_t k : {4, 1, 0})
      for (bool ta : {false, true})
        for (bool tb : {false, true})
          rows.push_back({"matmul", std::string(ta ? "a'" : "a") + (tb ? "b'" : "b"),
                          [=](const Vars& v) { return matmul(v[0], v[1], {ta, tb}); }, {some(with(a, 2, k, ta)), some(with(b, k, 3, tb))},
                          [=](const auto& x) { return naive_matmul(x[0], x[1], {ta, tb}); }});
  rows.push_back({"matmul", "of a matrix and itself", [](const Vars& v) { return matmul(v[0], v[0], {.transpose_b = true}); }, {some({3, 2})}});
}

void add_movements(std::vector<Row>& rows) {
  rows.push_back({"reshape", "", [](const Vars& v) { return reshape(v[0], {3, -1}); }, {some({2, 3, 2})}, [](const auto& x) { return x[0].reshape({3, 4}); }});
  rows.push_back({"reshape", "to a scalar", [](const Vars& v) { return reshape(v[0], Shape{}); }, {some({1, 1})}});
  rows.push_back({"reshape", "empty", [](const Vars& v) { return reshape(v[0], {0, 5}); }, {some({2, 0})}});
  for (const auto& [a, b] : {std::pair{0, 1}, {0, 2}, {1, 3}, {-1, -2}, {2, 2}, {3, 0}})
    rows.push_back({"transpose", "", [a = a, b = b](const Vars& v) { return transpose(v[0], a, b); }, {some({2, 3, 1, 4})}});
  rows.push_back({"transpose", "empty", [](const Vars& v) { return transpose(v[0]); }, {some({2, 0})}});
  for (const auto& [axis, start, stop] : {std::tuple{0, 0, 2}, {1, 1, 3}, {-1, -3, -1}, {2, 2, 2}, {1, -1, 3}})
    rows.push_back({"slice", "", [axis = axis, start = start, stop = stop](const Vars& v) { return slice(v[0], axis, start, stop); }, {some({2, 3, 4})}});
  for (int axis : {0, 1, -1})
    rows.push_back({"gather", "with repeats", [=](const Vars& v) { return gather(v[0], axis, whole({1, 0, 1, 1, 2}, v[0])); }, {some({3, 4, 3})}});
  rows.push_back({"gather", "nothing", [](const Vars& v) { return gather(v[0], 0, whole({}, v[0])); }, {some({3, 2})}});
  for (int axis : {0, 1, -1})
    rows.push_back({"concat", "", [=](const Vars& v) { return concat({v[0], v[1], v[0]}, axis); }, {some({2, 2, 2}), some({2, 2, 2})}});
  rows.push_back({"concat", "of other sizes", [](const Vars& v) { return concat({v[0], v[1], v[2]}, -1); }, {some({2, 3}), some({2, 0}), some({2, 1})}});
  rows.push_back({"concat", "one part", [](const Vars& v) { return concat(Vars{v[0]}, 0); }, {some({2, 3})}});
  for (int axis : {0, 1, 2, -1, -3})
    rows.push_back({"concat", "stack", [=](const Vars& v) { return stack({v[0], v[1]}, axis); }, {some({2, 3}), some({2, 3})}});
  rows.push_back({"concat", "stack of scalars", [](const Vars& v) { return stack({v[0], v[1], v[0]}); }, {some({}), some({})}});
}

void add_losses(std::vector<Row>& rows) {
  rows.push_back({"cross_entropy", "", [](const Vars& v) { return cross_entropy(v[0], whole({2, 0, 2}, v[0])); }, {some({3, 4})}, [](const auto& x) {
                    const Numbers a = x[0].template to_vector<double>();
                    double total = 0;
                    const std::size_t labels[] = {2, 0, 2};
                    for (std::size_t i = 0; i < 3; ++i) {
                      double sum = 0;
                      for (std::size_t c = 0; c < 4; ++c) sum += std::exp(a[i * 4 + c]);
                      total -= std::log(std::exp(a[i * 4 + labels[i]]) / sum);
                    }
                    return full({}, total / 3, float64);
                  }});
  rows.push_back({"cross_entropy", "one class", [](const Vars& v) { return cross_entropy(v[0], whole({0, 0}, v[0])); }, {some({2, 1})},
                  [](const auto&) { return zeros({}, float64); }});
  for (const Shape& shape : {Shape{}, Shape{2, 3}})
    rows.push_back({"mse", "", [t = some(shape)](const Vars& v) { return mse(v[0], t.to(v[0].value().device())); }, {some(shape)}});
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
