// Every op: one row in a table, which checks its gradient against differences, its value against a formula where
// there is a short one, and both devices against each other; then values and shapes against naive loops.
#include "tests/test.h"

namespace {

using Vars = std::vector<Var>;
using Numbers = std::vector<double>;

// ---- naive arithmetic on positions -----------------------------------------------------------------------------

std::vector<std::int64_t> position(const Shape& shape, std::int64_t flat) {
  std::vector<std::int64_t> at(static_cast<std::size_t>(shape.rank()));
  for (int d = shape.rank() - 1; d >= 0; flat /= shape[d--]) at[static_cast<std::size_t>(d)] = flat % shape[d];
  return at;
}

/// Where the element at a position of a broadcast shape, or of `shape` itself, lies.
std::size_t place(const Shape& shape, const std::vector<std::int64_t>& at) {
  std::int64_t flat = 0;
  const std::size_t shift = at.size() - static_cast<std::size_t>(shape.rank());
  for (int d = 0; d < shape.rank(); ++d) flat = flat * shape[d] + (shape[d] == 1 ? 0 : at[shift + static_cast<std::size_t>(d)]);
  return static_cast<std::size_t>(flat);
}

/// out[at] = f(at) for every position, in the dtype given.
template <class F>
Tensor build(const Shape& shape, DType dtype, const F& f) {
  Numbers out;
  for (std::int64_t i = 0; i < shape.numel(); ++i) out.push_back(static_cast<double>(f(position(shape, i))));
  return from(shape, out).to(dtype);
}

Shape broadcast_shape(const Shape& a, const Shape& b) {
  std::vector<std::int64_t> out;
  for (int d = 1; d <= std::max(a.rank(), b.rank()); ++d) {
    const std::int64_t x = d <= a.rank() ? a[a.rank() - d] : 1, y = d <= b.rank() ? b[b.rank() - d] : 1;
    out.insert(out.begin(), x == 1 ? y : x);
  }
  return Shape(out);
}

Tensor each(const Tensor& x, double (*f)(double)) {
  const Numbers in = x.to_vector<double>();
  return build(x.shape(), x.dtype(), [&](const auto& at) { return f(in[place(x.shape(), at)]); });
}

Tensor each(const Tensor& a, const Tensor& b, double (*f)(double, double)) {
  const Numbers x = a.to_vector<double>(), y = b.to_vector<double>();
  return build(broadcast_shape(a.shape(), b.shape()), a.dtype(),
               [&](const auto& at) { return f(x[place(a.shape(), at)], y[place(b.shape(), at)]); });
}

Tensor naive_matmul(const Tensor& a, const Tensor& b, Matmul options = {}) {
  const Numbers x = a.to_vector<double>(), y = b.to_vector<double>();
  const bool ta = options.transpose_a, tb = options.transpose_b;
  Shape shape = broadcast_shape(Shape(a.shape().begin(), a.shape().end() - 2), Shape(b.shape().begin(), b.shape().end() - 2));
  shape.push_back(a.size(ta ? -1 : -2));
  shape.push_back(b.size(tb ? -2 : -1));
  const std::size_t r = static_cast<std::size_t>(shape.rank()) - 2;
  return build(shape, a.dtype(), [&](const std::vector<std::int64_t>& at) {
    double total = 0;
    for (std::int64_t k = 0; k < a.size(ta ? -2 : -1); ++k) {
      std::vector<std::int64_t> p = at, q = at;
      p[r] = ta ? k : at[r], p[r + 1] = ta ? at[r] : k;
      q[r] = tb ? at[r + 1] : k, q[r + 1] = tb ? k : at[r + 1];
      total += x[place(a.shape(), p)] * y[place(b.shape(), q)];
    }
    return total;
  });
}

// ---- the table ---------------------------------------------------------------------------------------------------

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

void add_argmin(std::vector<Row>& rows) {
  const QPOptions tight{.tolerance = 1e-12};
  const Tensor low = full({4}, -0.6, float64), high = full({4}, 0.9, float64);
  rows.push_back({"argmin", "a batch with every kind of constraint",
                  [=](const Vars& v) {
                    const Var Q = matmul(v[0], v[0], {.transpose_b = true}) + Var(eye(4, float64).to(v[0].value().device()));
                    return argmin({.Q = Q, .q = v[1], .G = v[2], .h = v[3], .A = v[4], .b = v[5], .lower = v[6], .upper = v[7]}, tight);
                  },
                  {some({4, 4}), some({3, 4}), some({2, 4}), some({2}, 0.5, 1), some({1, 4}), some({1}, -0.2, 0.2), low, high}});
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

// ---- values against naive loops ----------------------------------------------------------------------------------

TEST_CASE("broadcasting agrees with a naive loop on random shapes", "[ops]") {
  Random random{1};
  const auto some_shape = [&](const Shape& whole) {  // broadcasts to `whole`: fewer axes, some of them 1
    std::vector<std::int64_t> sizes(whole.begin() + random.below(whole.rank() + 1), whole.end());
    for (auto& size : sizes) size = random.below(3) == 0 ? 1 : size;
    return Shape(sizes);
  };
  for (int trial = 0; trial < 300; ++trial) {
    std::vector<std::int64_t> sizes(static_cast<std::size_t>(random.below(6)));
    for (auto& size : sizes) size = random.below(20) == 0 ? 0 : 1 + random.below(5);
    const Shape whole(sizes), a = some_shape(whole), b = some_shape(whole), c = some_shape(whole);
    const DType dtype = std::array{float32, float64, int64}[static_cast<std::size_t>(trial % 3)];
    const Tensor x = random_tensor(random, a, dtype, -9, 9), y = random_tensor(random, b, dtype, -9, 9), mask = random_tensor(random, c, int64, 0, 2).to(dtype);
    INFO(a << ' ' << b << ' ' << c << ' ' << dtype);
    CHECK(same_bits(x + y, each(x, y, [](double p, double q) { return p + q; })));
    CHECK(same_bits(x * y, each(x, y, [](double p, double q) { return p * q; })));
    CHECK(same_bits(less(x, y), each(x, y, [](double p, double q) { return double(p < q); })));
    const Numbers m = mask.to_vector<double>(), p = x.to_vector<double>(), q = y.to_vector<double>();
    CHECK(same_bits(where(mask, x, y), build(broadcast_shape(broadcast_shape(c, a), b), dtype, [&](const auto& at) {
                      return m[place(c, at)] != 0 ? p[place(a, at)] : q[place(b, at)];
                    })));
    const Tensor product = x * y;
    const Numbers all = product.to_vector<double>();
    Numbers total(static_cast<std::size_t>(a.numel()), 0);
    for (std::size_t i = 0; i < all.size(); ++i) total[place(a, position(product.shape(), static_cast<std::int64_t>(i)))] += all[i];
    CHECK(max_difference(sum_to(product, a), from(a, total).to(dtype)) <= (dtype == float32 ? 1e-2 : 1e-9));
  }
}

TEST_CASE("reductions over any axes agree with naive loops, in every dtype", "[ops]") {
  Random random{2};
  for (int trial = 0; trial < 150; ++trial) {
    std::vector<std::int64_t> sizes(static_cast<std::size_t>(random.below(6)));
    for (auto& size : sizes) size = 1 + random.below(trial % 10 == 0 ? 40 : 5);
    if (sizes.size() > 3 && trial % 10 == 0) sizes.resize(3);
    const Shape shape(sizes);
    Axes axes;
    std::set<int> reduced;
    for (int d = 0; d < shape.rank(); ++d)
      if (random.below(2)) axes.push_back(random.below(2) ? d : d - shape.rank()), reduced.insert(d);
    if (axes.empty())
      for (int d = 0; d < shape.rank(); ++d) reduced.insert(d);
    const bool keepdims = random.below(2);
    const DType dtype = std::array{float32, float64, int64}[static_cast<std::size_t>(trial % 3)];
    const Tensor x = random_tensor(random, shape, dtype, -9, 9);
    const Numbers in = x.to_vector<double>();
    Shape kept = shape, result;
    for (int d = 0; d < shape.rank(); ++d) {
      if (reduced.contains(d)) kept[d] = 1;
      if (!reduced.contains(d) || keepdims) result.push_back(kept[d]);
    }
    Numbers total(static_cast<std::size_t>(kept.numel()), 0), largest(total.size(), -1e9), smallest(total.size(), 1e9);
    for (std::int64_t i = 0; i < shape.numel(); ++i) {
      const std::size_t to = place(kept, position(shape, i));
      const double v = in[static_cast<std::size_t>(i)];
      total[to] += v, largest[to] = std::max(largest[to], v), smallest[to] = std::min(smallest[to], v);
    }
    INFO(shape << ' ' << dtype << " trial " << trial);
    const double tolerance = dtype == float32 ? 1e-2 : 1e-9;  // the last digit of sums up to 1e5
    CHECK(max_difference(sum(x, axes, {keepdims}), from(result, total).to(dtype)) <= tolerance);
    CHECK(same_bits(max(x, axes, {keepdims}), from(result, largest).to(dtype)));
    CHECK(same_bits(min(x, axes, {keepdims}), from(result, smallest).to(dtype)));
    if (dtype == int64) continue;
    for (double& t : total) t /= static_cast<double>(shape.numel()) / static_cast<double>(kept.numel());
    CHECK(max_difference(mean(x, axes, {keepdims}), from(result, total).to(dtype)) < 1e-5);
  }
}

TEST_CASE("argmax finds the first largest entry along an axis", "[ops]") {
  Random random{3};
  for (DType dtype : {float32, float64, int64}) {
    const Tensor x = random_tensor(random, {3, 4, 5}, int64, 0, 4).to(dtype);  // many ties
    for (int axis : {0, 1, 2, -1, -3}) {
      const int at_axis = axis < 0 ? axis + 3 : axis;
      Shape shape;
      for (int d = 0; d < 3; ++d)
        if (d != at_axis) shape.push_back(x.size(d));
      const Numbers in = x.to_vector<double>();
      CHECK(same_bits(argmax(x, axis), build(shape, int64, [&](std::vector<std::int64_t> at) {
                        at.insert(at.begin() + at_axis, 0);
                        std::vector<std::int64_t> best = at;
                        for (std::int64_t k = 1; k < x.size(axis); ++k) {
                          at[static_cast<std::size_t>(at_axis)] = k;
                          if (in[place(x.shape(), at)] > in[place(x.shape(), best)]) best = at;
                        }
                        return best[static_cast<std::size_t>(at_axis)];
                      })));
    }
  }
}

TEST_CASE("transpose, slice, gather and concat agree with naive loops, in every dtype", "[ops]") {
  Random random{4};
  for (int trial = 0; trial < 90; ++trial) {
    std::vector<std::int64_t> sizes(static_cast<std::size_t>(1 + random.below(5)));
    for (auto& size : sizes) size = 1 + random.below(5);
    const Shape shape(sizes);
    const DType dtype = std::array{float32, float64, int64}[static_cast<std::size_t>(trial % 3)];
    const Tensor x = random_tensor(random, shape, dtype, -99, 99);
    const Numbers in = x.to_vector<double>();
    const int a = static_cast<int>(random.below(shape.rank())), b = static_cast<int>(random.below(shape.rank()));
    const auto ua = static_cast<std::size_t>(a), ub = static_cast<std::size_t>(b);
    INFO(shape << " axes " << a << ' ' << b << ' ' << dtype);

    Shape exchanged = shape;
    std::swap(exchanged[a], exchanged[b]);
    CHECK(same_bits(transpose(x, a, b - shape.rank()), build(exchanged, dtype, [&](std::vector<std::int64_t> at) {
                      std::swap(at[ua], at[ub]);
                      return in[place(shape, at)];
                    })));

    const std::int64_t start = random.below(shape[a] + 1), stop = start + random.below(shape[a] - start + 1);
    Shape part = shape;
    part[a] = stop - start;
    const Tensor cut = build(part, dtype, [&](std::vector<std::int64_t> at) { return at[ua] += start, in[place(shape, at)]; });
    CHECK(same_bits(slice(x, a, start, stop), cut));
    if (start < shape[a] && stop < shape[a]) CHECK(same_bits(slice(x, a - shape.rank(), start - shape[a], stop - shape[a]), cut));
    CHECK(same_bits(concat({slice(x, a, 0, start), cut, slice(x, a, stop, shape[a])}, a), x));

    std::vector<std::int64_t> index(static_cast<std::size_t>(random.below(8)));
    for (auto& i : index) i = random.below(shape[b]);
    Shape picked = shape;
    picked[b] = static_cast<std::int64_t>(index.size());
    CHECK(same_bits(gather(x, b, from({picked[b]}, index)), build(picked, dtype, [&](std::vector<std::int64_t> at) {
                      at[ub] = index[static_cast<std::size_t>(at[ub])];
                      return in[place(shape, at)];
                    })));

    const Tensor both = stack({x, -x}, b);
    Shape raised = shape;
    raised.push_back(0);
    for (int d = shape.rank(); d > b; --d) raised[d] = shape[d - 1];
    raised[b] = 1;
    CHECK(same_bits(slice(both, b, 0, 1), x.reshape(raised)));
    CHECK(same_bits(slice(both, b, 1, 2), (-x).reshape(raised)));
  }
}

TEST_CASE("matmul agrees with a naive loop in float32 and float64, on batches and broadcast batches", "[ops]") {
  Random random{5};
  for (int trial = 0; trial < 60; ++trial) {
    const DType dtype = trial % 2 ? float32 : float64;
    const auto batch = [&](std::int64_t full) { return random.below(2) ? full : 1; };
    const std::int64_t m = 1 + random.below(9), n = 1 + random.below(9), k = 1 + random.below(9), p = 1 + random.below(4), q = 1 + random.below(4);
    const Matmul options{.transpose_a = random.below(2) == 1, .transpose_b = random.below(2) == 1};
    const Tensor a = random_tensor(random, {batch(p), batch(q), options.transpose_a ? k : m, options.transpose_a ? m : k}, dtype);
    const Tensor b = random_tensor(random, {batch(q), options.transpose_b ? n : k, options.transpose_b ? k : n}, dtype);
    INFO(a.shape() << ' ' << b.shape());
    CHECK(max_difference(matmul(a, b, options), naive_matmul(a, b, options)) < (dtype == float32 ? 1e-4 : 1e-12));
  }
}

TEST_CASE("cholesky and solve_lower undo what products did", "[ops]") {
  Random random{6};
  for (const Shape& batch : {Shape{}, Shape{3}, Shape{2, 2}, Shape{0}})
    for (std::int64_t n : {1, 2, 7, 40}) {
      Shape square = batch, columns = batch;
      square.push_back(n), square.push_back(n), columns.push_back(n), columns.push_back(3);
      const Tensor x = random_tensor(random, square), b = random_tensor(random, columns);
      const Tensor a = matmul(x, x, {.transpose_b = true}) + eye(n, float64);
      const Tensor l = cholesky(a);
      CHECK(max_difference(matmul(l, l, {.transpose_b = true}), a) < 1e-10);
      CHECK(max_difference(l * (1 - less_equal(arange(0, double(n), 1, float64), arange(0, double(n), 1, float64).reshape({n, 1}))), 0.0 * l) == 0);
      CHECK(max_difference(matmul(l, solve_lower(l, b)), b) < 1e-10);
      CHECK(max_difference(matmul(l, solve_lower(l, b, {.transpose = true}), {.transpose_a = true}), b) < 1e-10);
      CHECK(max_difference(cholesky(a.to(float32)), l.to(float32)) < 1e-3);
    }
  const Tensor a = stack({eye(3, float64), from({3, 3}, {1., 0., 0., 0., -1., 0., 0., 0., 1.})});
  CHECK(error_of([&] { cholesky(a); }) == "cholesky: the matrix must be positive definite; matrix 1 of 2 is not at column 1");
  CHECK_THAT(error_of([&] { cholesky(full({2, 2}, NAN, float64)); }), Contains("matrix 0 of 1 is not at column 0"));
}

// ---- sizes and threads --------------------------------------------------------------------------------------------

TEST_CASE("large tensors give what their small parts give", "[ops]") {
  Random random{7};
  const std::int64_t n = 3 * (1 << 15) / 2;
  Threads two(2);
  const Tensor x = random_tensor(random, {6, n / 6}, float32), y = random_tensor(random, {6, n / 6}, float32), row = random_tensor(random, {n / 6}, float32);
  const auto of_rows = [&](const auto& f) {
    std::vector<Tensor> parts;
    for (std::int64_t i = 0; i < 6; ++i) parts.push_back(f(slice(x, 0, i, i + 1), slice(y, 0, i, i + 1)));
    return concat(parts, 0);
  };
  CHECK(same_bits(x + y, of_rows([](const Tensor& a, const Tensor& b) { return a + b; })));
  CHECK(same_bits(x * row, of_rows([&](const Tensor& a, const Tensor&) { return a * row; })));
  CHECK(same_bits(tanh(x), of_rows([](const Tensor& a, const Tensor&) { return tanh(a); })));
  CHECK(same_bits(where(less(x, y), x, y), of_rows([](const Tensor& a, const Tensor& b) { return minimum(a, b); })));
  CHECK(same_bits(sum(x, {1}), of_rows([](const Tensor& a, const Tensor&) { return sum(a, {1}); })));
  CHECK(same_bits(max(x, {-1}, {.keepdims = true}), of_rows([](const Tensor& a, const Tensor&) { return max(a, {1}, {.keepdims = true}); })));
  CHECK(same_bits(log_softmax(x), of_rows([](const Tensor& a, const Tensor&) { return log_softmax(a); })));
  CHECK(same_bits(argmax(x), of_rows([](const Tensor& a, const Tensor&) { return argmax(a); })));
  CHECK(same_bits(transpose(transpose(x)), x));
  CHECK(max_difference(sum(x, {0}), [&] {
          Tensor total = zeros({n / 6});
          for (std::int64_t i = 0; i < 6; ++i) total = total + slice(x, 0, i, i + 1).reshape({-1});
          return total;
        }()) < 1e-5);
}

TEST_CASE("results are the same bit for bit with one thread and with two", "[ops]") {
  Random random{8};
  const Tensor million = random_tensor(random, {1000, 1000}, float32), a = random_tensor(random, {300, 300}, float32), b = random_tensor(random, {300, 300}, float32);
  const Tensor wide = random_tensor(random, {20, 40, 50}), narrow = random_tensor(random, {20, 50, 30});
  const auto all = [&] {
    Random fresh{9};
    return std::vector<Tensor>{sum(million), sum(million, {0}), sum(million, {1}), mean(million), max(million), min(million, {0}),
                               exp(million), million * slice(million, 0, 0, 1), million / slice(million, 1, 0, 1), softmax(million), argmax(million, 0),
                               matmul(a, b), matmul(a, b, {.transpose_a = true}), matmul(a, b, {.transpose_b = true}), matmul(a, b, {true, true}),
                               matmul(wide, narrow), matmul(wide, slice(narrow, 0, 0, 1)), transpose(million), concat({million, million}, 1),
                               gather(million, 1, permutation(fresh, 1000)), uniform(fresh, {100'000}), normal(fresh, {100'000}, 0, 1, float64),
                               cholesky(matmul(wide, wide, {.transpose_b = true}) + 1.0 * eye(40, float64))};
  };
  std::vector<std::vector<Tensor>> results;
  for (int count : {1, 2, 3}) {
    Threads set(count);
    results.push_back(all());
  }
  for (std::size_t i = 0; i < results[0].size(); ++i) {
    INFO("result " << i);
    CHECK(same_bits(results[0][i], results[1][i]));
    CHECK(same_bits(results[0][i], results[2][i]));
  }
}

TEST_CASE("a sum of a million floats is exact to float's last digit", "[ops]") {
  CHECK(sum(full({1'000'000}, 0.1)).item() == Approx(static_cast<double>(0.1f) * 1e6).epsilon(1e-7));
  CHECK(mean(full({1000, 1000}, 0.1)).item() == static_cast<double>(0.1f));
}
