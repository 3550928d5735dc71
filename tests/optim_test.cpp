// Optimisers against steps by hand and against the published formulas, written again here number by number; their
// state on its way to a file and back; clipping and schedules.
#include "tests/test.h"

#include <memory>
#include <numbers>

namespace {

using Numbers = std::vector<double>;

Tensor vec(const Numbers& numbers) { return from({static_cast<std::int64_t>(numbers.size())}, numbers); }

/// Gradients of which `param`'s is dx.
Gradients gradients_with(const Param& param, const Tensor& dx) {
  Tape tape;
  return tape.gradients(sum(Var(param) * Var(dx)));
}

/// The gradient of step t, the same for the optimiser and for its formula.
Numbers gradient(int t, std::size_t n) {
  Numbers out;
  for (std::size_t i = 0; i < n; ++i) out.push_back(std::sin(1.7 * t + 0.9 * static_cast<double>(i)) * (1 + static_cast<double>(i)));
  return out;
}

/// Runs `steps` steps, and after each compares the parameter with formula(x, g, t), which changes x[i] in place.
template <class F>
void compare(Optimizer& optimizer, const Param& param, int steps, const F& formula) {
  Numbers x = param.value().to_vector<double>();
  for (int t = 1; t <= steps; ++t) {
    const Numbers g = gradient(t, x.size());
    optimizer.step(gradients_with(param, vec(g)));
    for (std::size_t i = 0; i < x.size(); ++i) formula(x[i], g[i], t, i);
    INFO("step " << t);
    CHECK(max_difference(param.value(), vec(x)) < 1e-13);
  }
}

Param start() { return Param(vec({1, -2, 0.5})); }

}  // namespace

TEST_CASE("SGD's first steps by hand", "[optim]") {
  Param x(vec({1, 2}));
  SGD sgd{{{"x", x}}, {.lr = 0.1}};
  sgd.step(gradients_with(x, vec({10, -10})));
  CHECK(x.value().to_vector<double>() == Numbers{0, 3});
  Param y(vec({1}));
  SGD heavy{{{"y", y}}, {.lr = 0.5, .momentum = 0.5}};
  heavy.step(gradients_with(y, vec({1})));  // v = 1,   y = 0.5
  heavy.step(gradients_with(y, vec({1})));  // v = 1.5, y = -0.25
  CHECK(y.value().item() == -0.25);
}

TEST_CASE("SGD follows its formula, plain, with momentum, Nesterov's and with decay", "[optim]") {
  for (double momentum : {0.0, 0.9})
    for (double decay : {0.0, 0.05})
      for (bool nesterov : {false, true}) {
        if (nesterov && momentum == 0) continue;
        const Param param = start();
        SGD sgd{{{"x", param}}, {.lr = 0.1, .momentum = momentum, .weight_decay = decay, .nesterov = nesterov}};
        Numbers v(3, 0);
        compare(sgd, param, 8, [&](double& x, double dx, int, std::size_t i) {
          const double g = dx + decay * x;
          v[i] = momentum * v[i] + g;
          x -= 0.1 * (nesterov ? g + momentum * v[i] : v[i]);
        });
      }
}

TEST_CASE("Adam and AdamW follow their papers", "[optim]") {
  const double lr = 0.05, b1 = 0.8, b2 = 0.95, eps = 1e-6;
  for (double decay : {0.0, 0.1})
    for (bool decoupled : {false, true}) {
      const Param param = start();
      Adam adam{{{"x", param}}, {.lr = lr, .beta1 = b1, .beta2 = b2, .eps = eps, .weight_decay = decay}};
      AdamW adamw{{{"x", param}}, {.lr = lr, .beta1 = b1, .beta2 = b2, .eps = eps, .weight_decay = decay}};
      Numbers m(3, 0), v(3, 0);
      compare(decoupled ? static_cast<Optimizer&>(adamw) : adam, param, 10, [&](double& x, double dx, int t, std::size_t i) {
        if (decoupled) x -= lr * decay * x;
        const double g = decoupled ? dx : dx + decay * x;
        m[i] = b1 * m[i] + (1 - b1) * g;
        v[i] = b2 * v[i] + (1 - b2) * g * g;
        x -= lr * (m[i] / (1 - std::pow(b1, t))) / (std::sqrt(v[i] / (1 - std::pow(b2, t))) + eps);
      });
    }
  Param x(vec({1, 1}));
  Adam first{{{"x", x}}, {.lr = 0.1}};  // Adam's first step is lr, whatever the gradient's size
  first.step(gradients_with(x, vec({1e-3, -1e3})));
  CHECK(max_difference(x.value(), vec({0.9, 1.1})) < 1e-5);
}

namespace {

/// Steps of all three by plain loops over numbers of type T, in the order of the papers' lines: no tensor, no op.
template <class T>
struct PlainLoops {
  int kind;  // 0: SGD with Nesterov's momentum, 1: Adam, 2: AdamW
  std::vector<T> x, m = std::vector<T>(x.size()), v = m;
  int t = 0;
  void step(const std::vector<T>& dx) {
    ++t;
    for (std::size_t i = 0; i < x.size(); ++i) {
      const double g = dx[i] + (kind == 2 ? 0 : 0.1) * x[i];
      if (kind == 0) {
        m[i] = static_cast<T>(0.9 * m[i] + g);
        x[i] -= static_cast<T>(0.05 * (g + 0.9 * m[i]));
        continue;
      }
      if (kind == 2) x[i] -= static_cast<T>(0.05 * 0.1 * x[i]);
      m[i] = static_cast<T>(0.9 * m[i] + (1 - 0.9) * g);
      v[i] = static_cast<T>(0.999 * v[i] + (1 - 0.999) * g * g);
      x[i] -= static_cast<T>(0.05 * (m[i] / (1 - std::pow(0.9, t))) / (std::sqrt(v[i] / (1 - std::pow(0.999, t))) + 1e-8));
    }
  }
};

std::unique_ptr<Optimizer> make_decayed(int kind, const std::vector<NamedParam>& params) {
  if (kind == 0) return std::make_unique<SGD>(params, SGDOptions{.lr = 0.05, .momentum = 0.9, .weight_decay = 0.1, .nesterov = true});
  if (kind == 1) return std::make_unique<Adam>(params, AdamOptions{.lr = 0.05, .weight_decay = 0.1});
  return std::make_unique<AdamW>(params, AdamWOptions{.lr = 0.05, .weight_decay = 0.1});
}

}  // namespace

TEST_CASE("optimisers agree with plain loops in parameters of all sizes, whole chunks or not", "[optim]") {
  const auto compare_sizes = []<class T>(T, double tolerance) {
    for (std::int64_t n : {1, 7, 4096, 4099, 70'001})
      for (int kind : {0, 1, 2}) {
        Random random{static_cast<std::uint64_t>(n + kind)};
        const Param param(normal(random, {n}, 0, 1, dtype_of<T>));
        PlainLoops<T> plain{kind, param.value().to_vector<T>()};
        const auto optimizer = make_decayed(kind, {{"x", param}});
        for (int t = 0; t < 4; ++t) {
          const Tensor dx = normal(random, {n}, 0, 1, dtype_of<T>);
          optimizer->step(gradients_with(param, dx));
          plain.step(dx.to_vector<T>());
        }
        INFO(n << " numbers of " << name(dtype_of<T>) << ", kind " << kind);
        CHECK(max_difference(param.value(), from({n}, plain.x)) < tolerance);
      }
  };
  compare_sizes(float{}, 2e-5);
  compare_sizes(double{}, 1e-13);
}

TEST_CASE("a step's bits do not depend on threads", "[optim]") {
  const int before = threads();
  for (int kind : {0, 1, 2}) {
    std::vector<Tensor> results;
    for (int count : {1, 2, 3}) {
      set_threads(count);
      Random random{7};
      const Param param(normal(random, {100'003}));
      const auto optimizer = make_decayed(kind, {{"x", param}});
      for (int t = 0; t < 3; ++t) optimizer->step(gradients_with(param, normal(random, {100'003})));
      results.push_back(param.value());
    }
    CHECK(same_bits(results[0], results[1]));
    CHECK(same_bits(results[0], results[2]));
  }
  set_threads(before);
}

TEST_CASE("a step writes over numbers that nobody else holds, and over no others", "[optim]") {
  for (int kind : {0, 1, 2}) {
    INFO("kind " << kind);
    Param param = start(), same = start();
    const auto optimizer = make_decayed(kind, {{"x", param}}), other = make_decayed(kind, {{"x", same}});
    const auto step = [&](int t) {  // the other's numbers are always held
      const Tensor held = same.value();
      const NamedTensors state = other->state();
      optimizer->step(gradients_with(param, vec(gradient(t, 3))));
      other->step(gradients_with(same, vec(gradient(t, 3))));
    };
    step(0);
    const void* const memory = param.value().raw();
    step(1);
    CHECK(param.value().raw() == memory);

    const Tensor held = param.value(), shaped = param.value().reshape({3, 1});
    const Var constant = param;
    const NamedTensors state = optimizer->state();
    const Numbers numbers = held.to_vector<double>();
    std::map<std::string, Numbers> remembered;
    for (const auto& [name, tensor] : state) remembered[name] = tensor.to_vector<double>();
    for (int t = 2; t < 5; ++t) step(t);
    CHECK(held.to_vector<double>() == numbers);
    CHECK(shaped.to_vector<double>() == numbers);
    CHECK(constant.value().to_vector<double>() == numbers);
    for (const auto& [name, tensor] : state) CHECK(tensor.to_vector<double>() == remembered[name]);
    CHECK_FALSE(same_bits(held, param.value()));
    CHECK(same_bits(param.value(), same.value()));  // where the numbers are written changes none of them

    const Numbers later = param.value().to_vector<double>();
    param.set(held), same.set(held);  // back to a checkpoint in memory, twice
    for (int again = 0; again < 2; ++again) {
      optimizer->load_state(state), other->load_state(state);
      param.set(held), same.set(held);
      for (int t = 2; t < 5; ++t) step(t);
      CHECK(param.value().to_vector<double>() == later);
    }
  }
}

TEST_CASE("a tape that lives on gives the gradients of the numbers that it recorded", "[optim]") {
  const Param x(vec({3}));
  SGD sgd{{{"x", x}}, {.lr = 0.1}};
  Tape tape;
  const Var loss = sum(Var(x) * Var(x));
  for (int t = 0; t < 3; ++t) sgd.step(tape.gradients(loss));  // 2 * 3 each time
  CHECK(x.value().item() == Approx(3 - 3 * 0.6));
}

TEST_CASE("a parameter whose numbers are also another's, or its own gradient, steps alone", "[optim]") {
  const Tensor numbers = vec({1, -2, 0.5});
  const Param x(numbers), y(numbers);
  SGD sgd{{{"x", x}, {"y", y}}, {.lr = 0.5, .momentum = 0.5}};
  sgd.step(gradients_with(x, x.value()));
  CHECK(x.value().to_vector<double>() == Numbers{0.5, -1, 0.25});
  CHECK(y.value().to_vector<double>() == Numbers{1, -2, 0.5});
  CHECK(numbers.to_vector<double>() == Numbers{1, -2, 0.5});
}

TEST_CASE("a gradient that was changed into another form is refused, and nothing is stepped", "[optim]") {
  const Param x = start();
  Adam adam{{{"x", x}}};
  Gradients gradients = gradients_with(x, vec({1, 2, 3}));
  gradients.transform([](const Tensor& dx) { return dx.to(float32); });
  CHECK(error_of([&] { adam.step(gradients); }) ==
        "optimizer: the gradient of 'x' must be float64[3] on cpu as the parameter is; got float32[3] on cpu");
  CHECK(same_bits(x.value(), start().value()));
  CHECK(adam.state().at("step").item() == 0);
}

TEST_CASE("a rate that a schedule sets is the rate of the next step", "[optim]") {
  const Param param = start();
  SGD sgd{{{"x", param}}, {.lr = 1}};
  sgd.lr = 0;
  sgd.step(gradients_with(param, vec({1, 1, 1})));
  CHECK(same_bits(param.value(), start().value()));
  sgd.lr = 2;
  sgd.step(gradients_with(param, vec({1, 1, 1})));
  CHECK(param.value().to_vector<double>() == Numbers{-1, -4, -1.5});
}

TEST_CASE("parameters that the loss does not use still feel momentum and decay, nothing else", "[optim]") {
  const Param used = start(), idle = start();
  SGD sgd{{{"used", used}, {"idle", idle}}, {.lr = 0.1}};
  sgd.step(gradients_with(used, vec({1, 1, 1})));
  CHECK(same_bits(idle.value(), start().value()));
  CHECK_FALSE(same_bits(used.value(), start().value()));
}

TEST_CASE("optimisers keep float32", "[optim]") {
  const Param param(ones({2, 2}));
  AdamW adam{{{"x", param}}, {.lr = 2e-3}};  // the decay is 0.01 unless it is given
  adam.step(gradients_with(param, full({2, 2}, 3)));
  CHECK(param.dtype() == float32);
  CHECK(param.value()(1, 1) == Approx(1 - 2e-3 - 2e-5).epsilon(1e-6));
}

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
        optimizer.step(tape.gradients(sum(Var(u) * Var(vec(gradient(t, 3)))) + Var(0.1) * sum(Var(u) * Var(u))));
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
      for (const Param& x : {fast, slow, bare, alone_slow, alone_bare}) loss = loss + sum(Var(x) * vec(gradient(t, 3)));
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

TEST_CASE("clip_norm scales the joint norm down to its limit, never up", "[optim]") {
  const Param a(vec({3, 0}));
  Tape tape;
  const Var loss = sum(Var(a) * Var(a)) * 0.5;
  const std::vector<NamedParam> params{{"a", a}};
  Gradients g = tape.gradients(loss);
  CHECK(clip_norm(g, params, 5) == Approx(3));
  CHECK(g[a].to_vector<double>() == Numbers{3, 0});
  CHECK(clip_norm(g, params, 1.5) == Approx(3));
  CHECK(g[a].to_vector<double>() == Numbers{1.5, 0});
  const Param c(vec({1})), d(vec({1, 1}));
  Tape two;
  Gradients h = two.gradients(sum(Var(c) * 3.0) + sum(Var(d) * Var(vec({0, 4}))));
  CHECK(clip_norm(h, {{"c", c}, {"d", d}}, 1) == Approx(5));
  CHECK(h[c].item() == Approx(0.6));
  CHECK(h[d](1) == Approx(0.8));
  CHECK(error_of([&] { clip_norm(h, {{"c", c}}, 0); }) == "clip_norm: the limit must be positive; got 0");
  Gradients bad = two.gradients(sum(Var(c) * NAN));
  CHECK(error_of([&] { clip_norm(bad, {{"c", c}}, 1); }) == "clip_norm: the gradients hold NaN or infinity");
}

TEST_CASE("schedules have their published shape", "[optim]") {
  CHECK(step_decay(1, 0, 10, 0.1) == 1);
  CHECK(step_decay(1, 9, 10, 0.1) == 1);
  CHECK(step_decay(1, 10, 10, 0.1) == Approx(0.1));
  CHECK(step_decay(2, 35, 10, 0.5) == 0.25);
  CHECK(cosine_decay(1, 0, 100) == 1);
  CHECK(cosine_decay(1, 50, 100) == Approx(0.5));
  CHECK(cosine_decay(1, 100, 100, 0.1) == Approx(0.1));
  CHECK(cosine_decay(1, 500, 100, 0.1) == Approx(0.1));
  for (int t = 0; t <= 20; ++t) CHECK(cosine_decay(3, t, 20, 1) == Approx(1 + (1 + std::cos(std::numbers::pi * t / 20))));
  CHECK(warm_up(0, 4) == 0.25);
  CHECK(warm_up(3, 4) == 1);
  CHECK(warm_up(100, 4) == 1);
  CHECK(warm_up(0, 0) == 1);
  CHECK(error_of([] { step_decay(1, 0, 0, 0.1); }) == "step_decay: the interval must be positive; got 0");
  CHECK(error_of([] { cosine_decay(1, 0, 0); }) == "cosine_decay: the number of steps must be positive; got 0");
}
