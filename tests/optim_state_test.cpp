// What an optimiser knows beside its parameters: its state on its way to a file and back, groups with rates of their own, and
// what is refused.
#include "tests/test.h"

#include <memory>

namespace {

/// The gradient of step t.
Tensor gradient(int t) { return vec({std::sin(1.7 * t), 2 * std::sin(1.7 * t + 0.9), 3 * std::sin(1.7 * t + 1.8)}); }

Param start() { return Param(vec({1, -2, 0.5})); }

}  // namespace

TEST_CASE("an optimiser that resumes from its state continues bit for bit", "[optim]") {
  const auto make = [](int kind, const Param& a, const Param& b) -> std::unique_ptr<Optimizer> {
    std::vector<NamedParam> params{{"0.weight", a}, {"0.bias", b}};
    if (kind == 0) return std::make_unique<SGD>(params, SGDOptions{.lr = 0.1, .momentum = 0.9, .nesterov = true});
    if (kind == 1) return std::make_unique<Adam>(params, AdamOptions{.lr = 0.1});
    return std::make_unique<AdamW>(params, AdamWOptions{.lr = 0.1, .weight_decay = 0.1});
  };
  Folder folder;
  for (int kind : {0, 1, 2}) {
    Param a = start(), b(full({2, 2}, 0.5, float32)), a2 = start(), b2(b.value());
    const auto whole = make(kind, a, b);
    const auto run = [](Optimizer& optimizer, const Param& u, const Param& v, int from, int to) {
      for (int t = from; t < to; ++t) {
        Tape tape;
        optimizer.step(tape.gradients(sum(Var(u) * Var(gradient(t))) + Var(0.1) * sum(Var(u) * Var(u))));
        optimizer.step(tape.gradients(sum(Var(v) * Var(v) * Var(v))));
      }
    };
    run(*whole, a, b, 0, 4);
    save_safetensors(folder / "state", whole->state());
    a2.set(a.value());
    b2.set(b.value());
    run(*whole, a, b, 4, 9);
    const auto resumed = make(kind, a2, b2);
    resumed->load_state(load_safetensors(folder / "state").tensors);
    run(*resumed, a2, b2, 4, 9);
    CHECK(same_bits(a.value(), a2.value()));
    CHECK(same_bits(b.value(), b2.value()));
    CHECK(whole->state().at("step").item() == 18);
  }
}

TEST_CASE("the state has PyTorch's names, and anything else is refused with nothing changed", "[optim]") {
  const Param param = start();
  Adam adam{{{"0.weight", param}}};
  adam.step(gradients_with(param, vec({1, 2, 3})));
  const NamedTensors good = adam.state();
  std::vector<std::string> names;
  for (const auto& [name, tensor] : good) names.push_back(name);
  CHECK(names == std::vector<std::string>{"exp_avg.0.weight", "exp_avg_sq.0.weight", "step"});

  const auto refused = [&](const std::function<void(NamedTensors&)>& damage) {
    NamedTensors state = good;
    for (auto& [name, tensor] : state) tensor = tensor + tensor;  // so that a change would show
    damage(state);
    const std::string message = error_of([&] { adam.load_state(state); });
    for (const auto& [name, tensor] : adam.state()) CHECK(same_bits(tensor, good.at(name)));
    return message;
  };
  CHECK(refused([](NamedTensors& s) { s.erase("step"); }) == "optimizer: state 'step' is missing");
  CHECK(refused([](NamedTensors& s) { s.erase("exp_avg.0.weight"); }) == "optimizer: state 'exp_avg.0.weight' is missing");
  CHECK(refused([](NamedTensors& s) { s["momentum.0.weight"] = vec({1}); }) == "optimizer: unknown state 'momentum.0.weight'");
  CHECK(refused([](NamedTensors& s) { s["exp_avg.0.weight"] = vec({1}); }) == "optimizer: state 'exp_avg.0.weight' must be float64[3]; got float64[1]");
  CHECK(refused([](NamedTensors& s) { s["exp_avg.0.weight"] = ones({3}); }) == "optimizer: state 'exp_avg.0.weight' must be float64[3]; got float32[3]");
  CHECK(refused([](NamedTensors& s) { s["step"] = ones({1}); }) == "optimizer: state 'step' must be int64[1]; got float32[1]");
  adam.load_state(good);
}

TEST_CASE("an absent tensor in a state or a checkpoint is refused, even for a scalar", "[optim]") {
  Param scalar(full({}, 2)), other(full({}, 3));
  SGD sgd{{{"x", scalar}}, {.lr = 0.1, .momentum = 0.9}};
  NamedTensors state = sgd.state();
  state["momentum.x"] = Tensor{};
  CHECK_THAT(error_of([&] { sgd.load_state(state); }), Contains("optimizer: state 'momentum.x' is absent"));
  CHECK_THAT(error_of([&] { assign({{"a", scalar}, {"b", other}}, {{"a", ones({})}, {"b", Tensor{}}}); }), Contains("assign: parameter 'b' is absent"));
  CHECK(scalar.value().item() == 2);
}

TEST_CASE("options that make no sense are refused", "[optim]") {
  const std::vector<NamedParam> params{{"x", start()}};
  CHECK(error_of([&] { SGD(params, {.lr = -1}); }) == "SGD: the learning rate must be finite and not negative; got -1");
  CHECK(error_of([&] { SGD(params, {.momentum = 1}); }) == "SGD: momentum must lie in [0, 1); got 1");
  CHECK(error_of([&] { SGD(params, {.nesterov = true}); }) == "SGD: Nesterov needs momentum > 0; got 0");
  CHECK_THAT(error_of([&] { Adam(params, {.lr = NAN}); }), Contains("Adam: the learning rate must be finite and not negative; got "));
  CHECK(error_of([&] { Adam(params, {.beta1 = 1}); }) == "Adam: beta1 must lie in [0, 1); got 1");
  CHECK(error_of([&] { Adam(params, {.beta2 = -0.1}); }) == "Adam: beta2 must lie in [0, 1); got -0.1");
  CHECK(error_of([&] { Adam(params, {.eps = 0}); }) == "Adam: eps must be finite and positive; got 0");
  CHECK(error_of([&] { AdamW(params, {.beta1 = 2}); }) == "AdamW: beta1 must lie in [0, 1); got 2");
  CHECK(error_of([&] { AdamW(params, {.eps = -1}); }) == "AdamW: eps must be finite and positive; got -1");
  for (const double wrong : std::initializer_list<double>{NAN, -0.1, INFINITY}) {
    CHECK_THAT(error_of([&] { SGD(params, {.lr = wrong}); }), Contains("SGD: the learning rate must be finite and not negative; got "));
    CHECK_THAT(error_of([&] { SGD(params, {.momentum = wrong}); }), Contains("SGD: momentum must lie in [0, 1); got "));
    CHECK_THAT(error_of([&] { SGD(params, {.weight_decay = wrong}); }), Contains("SGD: the weight decay must be finite and not negative; got "));
    CHECK_THAT(error_of([&] { Adam(params, {.weight_decay = wrong}); }), Contains("Adam: the weight decay must be finite and not negative; got "));
    CHECK_THAT(error_of([&] { Adam(params, {.eps = wrong}); }), Contains("Adam: eps must be finite and positive; got "));
    CHECK_THAT(error_of([&] { AdamW(params, {.lr = wrong}); }), Contains("AdamW: the learning rate must be finite and not negative; got "));
    CHECK_THAT(error_of([&] { AdamW(params, {.beta2 = wrong}); }), Contains("AdamW: beta2 must lie in [0, 1); got "));
    CHECK_THAT(error_of([&] { AdamW(params, {.weight_decay = wrong}); }), Contains("AdamW: the weight decay must be finite and not negative; got "));
  }
  CHECK(error_of([&] { SGD(std::vector<NamedParam>{}); }) == "optimizer: needs at least one parameter; got none");
}

TEST_CASE("groups have their own rate and decay, as factors", "[optim]") {
  const auto check_groups = []<class Kind>(std::type_identity<Kind>, auto options) {
    using Params = std::vector<NamedParam>;
    const Param fast = start(), slow = start(), bare = start(), alone_slow = start(), alone_bare = start();
    const ParamGroup first{.params = {{"fast", fast}}}, second{.params = {{"slow", slow}}, .lr = 0.1}, third{.params = {{"bare", bare}}, .weight_decay = 0};
    Kind groups({first, second, third}, options);
    auto tenth = options, plain = options;
    tenth.lr *= 0.1, plain.weight_decay = 0;
    Kind one(Params{{"slow", alone_slow}}, tenth), two(Params{{"bare", alone_bare}}, plain);
    for (int t = 0; t < 5; ++t) {
      Tape tape;
      Var loss(0.0);
      for (const Param& x : {fast, slow, bare, alone_slow, alone_bare}) loss = loss + sum(Var(x) * gradient(t));
      const Gradients gradients = tape.gradients(loss);
      for (Optimizer* optimizer : std::initializer_list<Optimizer*>{&groups, &one, &two}) {
        if (t == 3) optimizer->lr *= 0.5;  // a schedule reaches all groups
        optimizer->step(gradients);
      }
    }
    CHECK(max_difference(slow.value(), alone_slow.value()) < 1e-15);
    CHECK(max_difference(bare.value(), alone_bare.value()) < 1e-15);
    CHECK(max_difference(fast.value(), slow.value()) > 1e-2);
    CHECK(max_difference(fast.value(), bare.value()) > 1e-5);
  };
  check_groups(std::type_identity<SGD>{}, SGDOptions{.lr = 0.05, .momentum = 0.5, .weight_decay = 0.1});
  check_groups(std::type_identity<Adam>{}, AdamOptions{.lr = 0.05, .weight_decay = 0.1});
  check_groups(std::type_identity<AdamW>{}, AdamWOptions{.lr = 0.05, .weight_decay = 0.1});
}

TEST_CASE("parameters are put into groups by their names or their values", "[optim]") {
  const Sequential net{Linear{2, 3}, Linear{3, 1}};
  const auto names = [](const std::vector<NamedParam>& params) {
    std::vector<std::string> out;
    for (const auto& [name, param] : params) out.push_back(name);
    return out;
  };
  using Names = std::vector<std::string>;
  const auto [matrices, vectors] = partition(net.parameters(), [](auto&, auto& param) { return param.shape().rank() > 1; });
  CHECK(names(matrices) == Names{"0.weight", "1.weight"});
  CHECK(names(vectors) == Names{"0.bias", "1.bias"});
  const auto [first, rest] = partition(net.parameters(), [](auto& name, auto&) { return name.starts_with("0."); });
  CHECK(names(first) == Names{"0.weight", "0.bias"});
  AdamW adam({{.params = matrices}, {.params = vectors, .weight_decay = 0}}, {.lr = 1e-3});
  CHECK(adam.state().size() == 9);
  CHECK(adam.state().contains("exp_avg.1.bias"));
  SGD sgd({{.params = std::vector<NamedParam>{}}, {.params = rest}});  // an empty group is no fault
}

TEST_CASE("groups that make no sense are refused", "[optim]") {
  const Param param = start();
  const std::vector<NamedParam> none, x{{"x", param}}, another_x{{"x", start()}}, y{{"y", param}};
  CHECK(error_of([&] { SGD({{.params = x, .lr = -1}}); }) == "optimizer: the factor on a group's learning rate must be finite and not negative; got -1");
  CHECK_THAT(error_of([&] { SGD({{.params = x, .weight_decay = NAN}}); }), Contains("optimizer: the factor on a group's weight decay must be finite"));
  CHECK(error_of([&] { Adam({{.params = x}, {.params = another_x}}); }) == "optimizer: two parameters are named 'x'; give each a name of its own");
  CHECK(error_of([&] { Adam({{.params = x}, {.params = y}}); }) == "optimizer: 'x' and 'y' are one parameter; give it once");
  CHECK(error_of([&] { Adam({{.params = none, .lr = 1}}); }) == "optimizer: needs at least one parameter; got none");
}

TEST_CASE("an optimiser says that it was made before its parameters were converted", "[optim]") {
  Param x(ones({2}));
  Adam adam{{{"x", x}}};
  x.to(float64);
  CHECK(error_of([&] { adam.step(gradients_with(x, vec({1, 1}))); }) ==
        "optimizer: parameter 'x' was float32 on cpu and now is float64 on cpu; make the optimiser after to()");
  CHECK(adam.state().at("step").item() == 0);
}

TEST_CASE("two parameters of one name are refused, as one would take the other's place in a state or a file", "[optim]") {
  const std::vector<NamedParam> params{{"x", start()}, {"y", start()}, {"x", start()}};
  const std::string rule = ": two parameters are named 'x'; give each a name of its own";
  CHECK(error_of([&] { SGD{params}; }) == "optimizer" + rule);
  CHECK(error_of([&] { values(params); }) == "values" + rule);
  CHECK(error_of([&] { assign(params, {{"x", ones({3}, float64)}, {"y", ones({3}, float64)}}); }) == "assign" + rule);
}
