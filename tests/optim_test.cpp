// Optimisers against steps by hand and against the published formulas, written again here number by number; whose memory they
// write to; clipping and schedules.
#include "tests/test.h"

#include <memory>
#include <numbers>

namespace {

using Numbers = std::vector<double>;

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
