// Modules and the ordinary layers: names, modes, buffers, conversions, initial values, summaries, and a module of one's own.
#include "layers/summary.h"
#include "tests/test.h"

namespace {

using Names = std::vector<std::string>;

Names names(const std::vector<NamedParam>& params) {
  Names out;
  for (const auto& [name, param] : params) out.push_back(name);
  return out;
}
Names names(const Module& module) { return names(module.parameters()); }

/// A layer as a user would write it.
struct Block : Module {
  Linear inner = child("inner", Linear{4, 4}), outer = child("outer", Linear{4, 4, {.bias = false}});
  Param scale = param("scale", ones({4}));
  Var operator()(const Var& x) const { return x + scale * outer(relu(inner(x))); }
};

/// What BatchNorm keeps, under PyTorch's names, and a constant of its own.
struct Statistics : Module {
  Param weight = param("weight", ones({3}));
  Param running_mean = buffer("running_mean", zeros({3})), num_batches_tracked = buffer("num_batches_tracked", zeros({}, int64));
  Param tiny = constant(full({}, 1e-5));
  Var operator()(const Var& x) const { return weight * (x - running_mean.value()) + tiny.value(); }
};

struct Twins : Module {
  Linear a = child("a", Linear{8, 3}), b = child("b", Linear{8, 3});
  Var operator()(const Var& x) const { return a(x) + b(x); }
};

struct Twice : Module {
  Linear shared = child("shared", Linear{3, 3});
  Dropout drop = child("drop", Dropout{0.5});
  Var operator()(const Var& x) const { return shared(drop(shared(x))); }
};

}  // namespace

TEST_CASE("parameters are named by their place, as PyTorch's are", "[layers]") {
  const Sequential net{Linear{4, 3}, ReLU{}, Linear{3, 2, {.bias = false}}, Block{}};
  CHECK(names(net) == Names{"0.weight", "0.bias", "2.weight", "3.scale", "3.inner.weight", "3.inner.bias", "3.outer.weight"});
  CHECK(names(Sequential{Sequential{Linear{1, 1}}, Tanh{}}) == Names{"0.0.weight", "0.0.bias"});
  CHECK(names(ReLU{}).empty());
  CHECK(names(Sequential{}).empty());
}

TEST_CASE("a linear layer is x W' + b, over any leading axes", "[layers]") {
  seed(1);
  const Linear layer{3, 2};
  const Tensor x = uniform(default_random(), {5, 4, 3}), W = layer.weight.value(), b = layer.bias.value();
  CHECK(W.shape() == Shape{2, 3});
  CHECK(b.shape() == Shape{2});
  const Tensor y = layer(x).value();
  CHECK(y.shape() == Shape{5, 4, 2});
  for (int i = 0; i < 5; ++i)
    for (int j = 0; j < 4; ++j)
      for (int o = 0; o < 2; ++o) CHECK(y(i, j, o) == Approx(b(o) + x(i, j, 0) * W(o, 0) + x(i, j, 1) * W(o, 1) + x(i, j, 2) * W(o, 2)));
  const Linear bare{3, 2, {.bias = false, .dtype = float64}};
  CHECK(names(bare) == Names{"weight"});
  CHECK(bare(ones({2, 3}, float64)).dtype() == float64);
  CHECK(layer(zeros({0, 3})).shape() == Shape{0, 2});
}

TEST_CASE("a linear layer's gradients are right, for it and for its input", "[layers][gradient]") {
  Linear layer{3, 2, {.dtype = float64}};
  const auto f = [&](const std::vector<Var>& v) { return tanh(matmul(v[0], v[1], {.transpose_b = true}) + v[2]); };
  Random random{2};
  const Tensor x = random_tensor(random, {4, 3});
  CHECK(gradcheck(f, {x, layer.weight.value(), layer.bias.value()}));
  Tape tape;
  const Gradients g = tape.gradients(sum(tanh(layer(x))));
  const Var W = tape.watch(layer.weight.value()), b = tape.watch(layer.bias.value());
  const Gradients same = tape.gradients(sum(f({x, W, b})));
  CHECK(same_bits(g[layer.weight], same[W]));
  CHECK(same_bits(g[layer.bias], same[b]));
}

TEST_CASE("initial weights are uniform within PyTorch's bound", "[layers]") {
  seed(3);
  const Linear layer{100, 400};
  for (const Param& param : {layer.weight, layer.bias}) {
    const Tensor x = param.value();
    CHECK(max(abs(x)).item() <= 0.1);
    CHECK(max(x).item() > 0.099);
    CHECK(min(x).item() < -0.099);
    CHECK(std::abs(mean(x).item()) < 0.015);
  }
  CHECK(mean(pow(layer.weight.value(), 2)).item() == Approx(0.01 / 3).epsilon(0.02));
  seed(3);
  CHECK(same_bits(Linear(100, 400).weight.value(), layer.weight.value()));
}

TEST_CASE("layers refuse inputs and sizes that make no sense", "[layers]") {
  CHECK(error_of([] { Linear(0, 3); }) == "Linear: sizes must be positive; got in = 0, out = 3");
  CHECK(error_of([] { Linear(3, -1); }) == "Linear: sizes must be positive; got in = 3, out = -1");
  CHECK(error_of([] { Linear(3, 2)(ones({4, 2})); }) == "Linear: input must be [batch, 3]; got [4, 2]");
  CHECK(error_of([] { Linear(3, 2)(ones({4, 3}, float64)); }) != "");
  CHECK(error_of([] { Dropout(1); }) == "Dropout: p must lie in [0, 1); got 1");
  CHECK(error_of([] { Dropout(-0.1); }) == "Dropout: p must lie in [0, 1); got -0.1");
}

TEST_CASE("modules refuse a name that is taken", "[layers]") {
  struct Params : Module {
    Param a = param("a", ones({1})), b = param("a", ones({1}));
  };
  struct Children : Module {
    Linear a = child("a", Linear{1, 1}), b = child("a", Linear{1, 1});
  };
  CHECK(error_of([] { Params made; }) == "module: parameter 'a' is declared twice");
  CHECK(error_of([] { Children made; }) == "module: child 'a' is declared twice");
}

TEST_CASE("dropout keeps the mean and zeroes its share, in training only", "[layers]") {
  seed(4);
  Dropout layer{0.3};
  const Tensor x = full({100, 1000}, 2);
  const Tensor y = layer(x).value();
  const double zero = mean(equal(y, full({}, 0))).item();
  CHECK(std::abs(zero - 0.3) < 5 * std::sqrt(0.3 * 0.7 / 1e5));
  CHECK(mean(y).item() == Approx(2).epsilon(0.02));
  CHECK(max(y).item() == Approx(2 / 0.7));
  CHECK_FALSE(same_bits(layer(x).value(), y));  // another mask each time
  layer.eval();
  CHECK(same_bits(layer(x).value(), x));
  layer.train();
  seed(4);
  CHECK(same_bits(layer(x).value(), y));
  const std::uint64_t before = default_random().next;
  CHECK(same_bits(Dropout{0}(x).value(), x));
  CHECK(default_random().next == before);
}

TEST_CASE("dropout's gradient has the mask of its value", "[layers]") {
  seed(5);
  const Dropout layer{0.5};
  Tape tape;
  const Var x = tape.watch(ones({1000})), y = layer(x);
  CHECK(same_bits(tape.gradients(sum(y))[x], y.value()));
}

TEST_CASE("train and eval reach every module below", "[layers]") {
  Sequential net{Linear{3, 3}, Sequential{Dropout{0.9}}, Twice{}};
  CHECK(net.training());
  const Tensor x = ones({2, 3});
  net.eval();
  CHECK_FALSE(net.training());
  CHECK(same_bits(net(x).value(), net(x).value()));
  net.train();
  CHECK_FALSE(same_bits(net(x).value(), net(x).value()));
}

TEST_CASE("copies of a module share parameters and mode", "[layers]") {
  Twice module;
  Twice copy = module;
  CHECK(names(module) == Names{"shared.weight", "shared.bias"});
  copy.eval();
  CHECK_FALSE(module.training());
  CHECK_FALSE(module.drop.training());
  auto params = copy.parameters();
  params[0].second.set(zeros({3, 3}));
  CHECK(same_bits(module.shared.weight.value(), zeros({3, 3})));

  const Linear shared{3, 3};  // in two places of a net: one leaf, the sum of two gradients
  const Sequential net{shared, Tanh{}, shared};
  Tape tape;
  const Var loss = sum(net(ones({1, 3})));
  const Gradients g = tape.gradients(loss);
  const Var W = tape.watch(shared.weight.value()), V = tape.watch(shared.weight.value());
  const auto layer = [&](const Var& x, const Var& w) { return matmul(x, w, {.transpose_b = true}) + Var(shared.bias.value()); };
  const Gradients parts = tape.gradients(sum(layer(tanh(layer(ones({1, 3}), W)), V)));
  CHECK(max_difference(g[shared.weight], parts[W] + parts[V]) < 1e-6);
}

TEST_CASE("a parameter in two places is listed once, and saved in both", "[layers]") {
  const Linear shared{3, 3};
  const Sequential net{shared, Tanh{}, shared};
  CHECK(names(net) == Names{"0.weight", "0.bias"});
  CHECK(names(net.state()) == Names{"0.weight", "0.bias", "2.weight", "2.bias"});
}

TEST_CASE("buffers are saved and restored with the parameters, and are not trained", "[layers]") {
  Sequential net{Linear{3, 3}, Statistics{}, Residual{Statistics{}}};
  CHECK(names(net.buffers()) == Names{"1.running_mean", "1.num_batches_tracked", "2.inner.running_mean", "2.inner.num_batches_tracked"});
  CHECK(names(net) == Names{"0.weight", "0.bias", "1.weight", "2.inner.weight"});
  CHECK(names(net.state()) == Names{"0.weight", "0.bias", "1.weight", "1.running_mean", "1.num_batches_tracked", "2.inner.weight",
                                    "2.inner.running_mean", "2.inner.num_batches_tracked"});
  for (auto [name, buffer] : net.buffers()) buffer.set(buffer.dtype() == int64 ? full({}, 7, int64) : from({3}, {1.0f, 2.0f, 3.0f}));
  Folder folder;
  save_safetensors(folder / "net", values(net.state()));
  const Sequential other{Linear{3, 3}, Statistics{}, Residual{Statistics{}}};
  assign(other.state(), load_safetensors(folder / "net").tensors);
  for (std::size_t i = 0; i < net.state().size(); ++i) CHECK(same_bits(net.state()[i].second.value(), other.state()[i].second.value()));
  CHECK(other.buffers()[3].second.value().item() == 7);
  Tape tape;
  Statistics{}(ones({2, 3}));
  CHECK(tape.size() == 3);  // the weight, the product, the sum: buffers are no leaves
}

TEST_CASE("a module converts in place, with all below it and all handles", "[layers]") {
  seed(7);
  const Linear first{3, 3};
  Sequential net{first, Statistics{}, OptNet{{.variables = 3, .inequalities = 3, .equalities = 1}}};
  const Tensor x = uniform(default_random(), {2, 3}), W = first.weight.value(), before = net(x).value();
  net.to(float64);
  for (const auto& [name, param] : net.state()) CHECK(param.dtype() == (name == "1.num_batches_tracked" ? int64 : float64));
  CHECK(same_bits(first.weight.value(), W.to(float64)));
  const Tensor after = net(x.to(float64)).value();  // an error if constants had stayed
  CHECK(after.dtype() == float64);
  CHECK(max_difference(before.to(float64), after) < 1e-5);
  Adam adam{net.parameters(), {.lr = 0.01}};
  Tape tape;
  adam.step(tape.gradients(sum(net(x.to(float64)))));
  CHECK_FALSE(same_bits(net(x.to(float64)).value(), after));
  net.to(float32);
  net.to(Device::cpu);
  CHECK(first.weight.dtype() == float32);
  CHECK(error_of([&] { net.to(int64); }) == "module: to: needs float32 or float64 (convert with to(float32)); got int64");
}

TEST_CASE("residual layers add, flatten keeps the batch", "[layers]") {
  const Sequential inner{Linear{4, 4}, Tanh{}};
  const Residual layer{inner};
  const Tensor x = arange(0, 8).reshape({2, 4});
  CHECK(same_bits(layer(x).value(), x + inner(x).value()));
  CHECK(names(layer) == Names{"inner.0.weight", "inner.0.bias"});
  CHECK(names(Sequential{Residual{Residual{Linear{1, 1}}}, Tanh{}}) == Names{"0.inner.weight", "0.inner.bias"});  // a copy, as of Sequential
  const Flatten flatten;
  CHECK(flatten(ones({5, 2, 3})).shape() == Shape{5, 6});
  CHECK(flatten(ones({0, 2, 3})).shape() == Shape{0, 6});
  CHECK(flatten(ones({5})).shape() == Shape{5, 1});
  CHECK(error_of([&] { flatten(ones({})); }) == "Flatten: input must be [batch, ...]; got []");
  CHECK(same_bits(Softmax{}(x).value(), softmax(x)));
}

TEST_CASE("a summary lists layers, output shapes and sizes", "[layers]") {
  const Linear shared{8, 8};
  const auto twice = [](const Var& x) { return x * 2.0; };
  const Sequential net{Flatten{}, Linear{1200, 8}, Residual{Sequential{shared, Dropout{}}}, shared, twice, Twins{}, Statistics{}};
  CHECK(summary(net, {3, 20, 20}) ==
        "layer      type        output     parameters\n"
        "net        Sequential  [1, 3]              0\n"
        "0          Flatten     [1, 1200]           0\n"
        "1          Linear      [1, 8]          9,608\n"
        "2          Residual    [1, 8]              0\n"
        "2.inner    Sequential  [1, 8]              0\n"
        "2.inner.0  Linear      [1, 8]             72\n"
        "2.inner.1  Dropout     [1, 8]              0\n"
        "3          Linear      [1, 8]         shared\n"
        "4          function    [1, 8]              0\n"
        "5          Twins       [1, 3]              0\n"
        "5.a        Linear      -                  27\n"
        "5.b        Linear      -                  27\n"
        "6          Statistics  [1, 3]              3\n"
        "parameters: 9,737, buffers: 4, bytes: 38,968\n");
  CHECK_THAT(summary(net, zeros({5, 3, 400})), Contains("0          Flatten     [5, 1200]           0\n"));
  CHECK(summary(Linear{1200000, 1}) ==
        "layer  type    output  parameters\n"
        "net    Linear  -        1,200,001\n"
        "parameters: 1,200,001, buffers: 0, bytes: 4,800,004\n");
  CHECK_THAT(summary(Linear{2, 3, {.dtype = float64}}, {2}), Contains("bytes: 72"));
}

TEST_CASE("a summary leaves modes and random numbers as they were, also where it fails", "[layers]") {
  Dropout off{0.5};
  Sequential net{Linear{4, 4}, off, [](const Var& x) { return x * uniform(default_random(), {}); }, Dropout{0.9}};
  off.eval();
  const std::uint64_t before = default_random().next;
  summary(net, {4});
  CHECK_THAT(error_of([&] { summary(net, {5}); }), Contains("Linear: input must be"));
  CHECK(default_random().next == before);
  CHECK(net.training());
  CHECK_FALSE(off.training());
  Sequential copy = net;
  copy.add(Linear{4, 2});
  CHECK_THAT(summary(net, {4}), Contains("4      Linear      [1, 2]"));
}

TEST_CASE("a sequence takes functions and lambdas as layers", "[layers]") {
  const Sequential net{[](const Var& x) { return x * 2.0; }, Tanh{}, [](const Var& x) { return reshape(x, {-1}); }, Sigmoid{}};
  const Tensor x = arange(0, 6, 1, float64).reshape({2, 3}) / 10.0;
  CHECK(same_bits(net(x).value(), sigmoid(tanh(x * 2.0)).reshape({-1})));
  CHECK(same_bits(Sequential{}(x).value(), x));
  CHECK(names(Sequential{[](const Var& x) { return x; }, Linear{1, 1}}) == Names{"1.weight", "1.bias"});
  Sequential grown;
  grown.add(Linear{2, 2});
  grown.add(ReLU{});
  CHECK(names(grown) == Names{"0.weight", "0.bias"});
  CHECK(min(grown(ones({1, 2})).value()).item() >= 0);
  Sequential copy = grown;  // another handle on the same layers
  copy.add(Linear{2, 3});
  CHECK(names(grown) == names(copy));
  CHECK(grown(ones({1, 2})).shape() == Shape{1, 3});
}

TEST_CASE("a module of one's own learns", "[layers]") {
  seed(6);
  Block module;
  Adam adam{module.parameters(), {.lr = 0.03}};
  const Tensor x = normal(default_random(), {64, 4}), target = x + matmul(x, uniform(default_random(), {4, 4}));  // what it can represent
  double first = 0, last = 0;
  for (int i = 0; i < 400; ++i) {
    Tape tape;
    const Var loss = mse(module(x), target);
    (i == 0 ? first : last) = loss.item();
    adam.step(tape.gradients(loss));
  }
  CHECK(last < first / 20);
}
