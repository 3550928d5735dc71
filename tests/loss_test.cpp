// Losses: numbers worked out by hand, extremes, and what they refuse. (ops_test.cpp: their gradients, and the values of
// ordinary inputs.)
#include "tests/test.h"

namespace {

constexpr double infinity = std::numeric_limits<double>::infinity(), NaN = std::numeric_limits<double>::quiet_NaN();

Tensor labels(std::vector<std::int64_t> numbers) { return from({static_cast<std::int64_t>(numbers.size())}, numbers); }

template <class F>
Tensor gradient(const F& loss, const Tensor& x) {
  Tape tape;
  const Var in = tape.watch(x);
  return tape.gradients(loss(in))[in];
}

}  // namespace

TEST_CASE("cross entropy weighs classes and smooths labels as PyTorch does", "[loss]") {
  // -log p of (1, 2, 3) is (2.4076, 1.4076, 0.4076); the labels' weights are 3 and 1.
  const Tensor x = from({2, 3}, {1., 2., 3., 1., 2., 3.}), w = from({3}, {1., 2., 3.});
  const double a = 2.40760596, b = 1.40760596, c = 0.40760596;
  CHECK(cross_entropy(x, labels({2, 0})).item() == Approx((c + a) / 2));
  CHECK(cross_entropy(x, labels({2, 0}), {.class_weights = w}).item() == Approx((3 * c + 1 * a) / 4));
  CHECK(cross_entropy(x, labels({2, 0}), {.label_smoothing = 0.3}).item() == Approx(0.7 * (c + a) / 2 + 0.1 * (a + b + c)));
  CHECK(cross_entropy(x, labels({2, 0}), {.label_smoothing = 0.3, .class_weights = w}).item() ==
        Approx((0.7 * (3 * c + a) + 2 * 0.1 * (a + 2 * b + 3 * c)) / 4));
  const auto loss = [&](const Var& v) { return cross_entropy(v, labels({1, 0}), {.label_smoothing = 0.3, .class_weights = w}); };
  CHECK(gradient(loss, x).dtype() == float64);
  const auto single = [&](const Var& v) { return cross_entropy(v, labels({1, 0}), {.label_smoothing = 0.3, .class_weights = w.to(float32)}); };
  CHECK(max_difference(gradient(single, x.to(float32)).to(float64), gradient(loss, x)) < 1e-7);
  CHECK(max_difference(sum(gradient(loss, x), {1}), zeros({2}, float64)) < 1e-15);  // each row's adds up to 0
}

TEST_CASE("cross entropy takes batches of any axes, the classes last, as if they were one", "[loss]") {
  Random random{3};
  const Tensor x = normal(random, {2, 3, 4}), y = argmax(normal(random, {2, 3, 4}));
  const CrossEntropy options{.label_smoothing = 0.1, .class_weights = from({4}, {1.0f, 2.0f, 0.5f, 3.0f})};
  const auto deep = [&](const Var& v) { return cross_entropy(v, y, options); };
  const auto flat = [&](const Var& v) { return cross_entropy(v, y.reshape({6}), options); };
  CHECK(same_bits(deep(x).value(), flat(x.reshape({6, 4})).value()));
  CHECK(same_bits(gradient(deep, x), gradient(flat, x.reshape({6, 4})).reshape({2, 3, 4})));
  CHECK(error_of([&] { flat(x); }) == "cross_entropy: labels must be int64 [2, 3]; got int64[6]");
}

TEST_CASE("cross entropy bears masked classes, large logits, and says NaN when it is given one", "[loss]") {
  const Tensor masked = from({1, 3}, {-infinity, 1., 1.});
  const auto at = [](std::int64_t label, CrossEntropy options = {}) {
    return [=](const Var& x) { return cross_entropy(x, labels({label}), options); };
  };
  CHECK(at(1)(masked).item() == Approx(std::log(2)));
  CHECK(max_difference(gradient(at(2), masked), from({1, 3}, {0., 0.5, -0.5})) < 1e-15);
  CHECK(at(0)(masked).item() == infinity);
  CHECK(at(1, {.label_smoothing = 0.1})(masked).item() == infinity);
  const CrossEntropy unweighted{.label_smoothing = 0.1, .class_weights = from({3}, {0., 1., 1.})};  // the masked class counts for nothing
  CHECK(at(1, unweighted)(masked).item() == Approx((0.9 + 2 * 0.1 / 3) * std::log(2)));
  for (double x : gradient(at(1, unweighted), masked).to_vector<double>()) CHECK(std::isfinite(x));
  for (DType dtype : {float32, float64}) {
    const Tensor large = from({1, 2}, {1e30, -1e30}).to(dtype);
    CHECK(at(0)(large).item() == 0);
    CHECK(at(1)(large).item() == Approx(2e30));
    CHECK(max_difference(gradient(at(1), large), from({1, 2}, {1., -1.}).to(dtype)) == 0);
    CHECK(std::isnan(at(0)(from({1, 2}, {0., NaN}).to(dtype)).item()));
    CHECK(std::isnan(gradient(at(0), from({1, 2}, {0., NaN}).to(dtype))(0, 0)));
  }
}

TEST_CASE("binary cross entropy does not overflow", "[loss]") {
  for (DType dtype : {float32, float64}) {
    const Tensor x = from({6}, {1000., -1000., 1000., -1000., infinity, -infinity}).to(dtype), t = from({6}, {1., 0., 0., 1., 1., 0.}).to(dtype);
    const auto loss = [&](const Var& v) { return binary_cross_entropy_with_logits(v, t); };
    CHECK(loss(x).item() == Approx(2000.0 / 6));
    CHECK(max_difference(6 * gradient(loss, x), from({6}, {0., 0., 1., -1., 0., 0.}).to(dtype)) < 1e-6);
    CHECK(binary_cross_entropy_with_logits(full({}, 0, dtype), full({}, 0.3, dtype)).item() == Approx(std::log(2)));
  }
  CHECK(binary_cross_entropy_with_logits(full({}, -40, float64), full({}, 0, float64)).item() == Approx(std::exp(-40)).margin(0));
}

TEST_CASE("huber is squared near 0 and absolute far from it; l1 has no gradient at its corner", "[loss]") {
  const Tensor y = from({4}, {0., 1., -3., 1e200}), t = zeros({4}, float64);
  CHECK(huber(slice(y, 0, 0, 3), slice(t, 0, 0, 3)).item() == Approx((0.5 + 2.5) / 3));
  CHECK(huber(slice(y, 0, 0, 3), slice(t, 0, 0, 3), {.delta = 2}).item() == Approx((0.5 + 4) / 3));
  CHECK(huber(y, t).item() == Approx(1e200 / 4));  // its square would overflow
  CHECK(max_difference(4 * gradient([&](const Var& v) { return huber(v, t, {.delta = 2}); }, y), from({4}, {0., 1., -2., 2.})) == 0);
  CHECK(max_difference(4 * gradient([&](const Var& v) { return l1(v, t); }, y), from({4}, {0., 1., -1., 1.})) == 0);
  for (const auto& loss : {mse(full({1}, NaN), zeros({1})), l1(full({1}, NaN), zeros({1})), huber(full({1}, NaN), zeros({1})),
                           binary_cross_entropy_with_logits(full({1}, NaN), zeros({1}))}) CHECK(std::isnan(loss.item()));
}

TEST_CASE("one_hot puts a 1 at each label", "[loss]") {
  CHECK(same_bits(one_hot(labels({1, 0}), 3), from({2, 3}, {0.f, 1.f, 0.f, 1.f, 0.f, 0.f})));
  CHECK(same_bits(one_hot(full({}, 1, int64), 2, float64), from({2}, {0., 1.})));
  CHECK(one_hot(zeros({2, 3}, int64), 4).shape() == Shape{2, 3, 4});
  CHECK(one_hot(zeros({0}, int64), 4).shape() == Shape{0, 4});
  CHECK(error_of([] { one_hot(labels({0, 3}), 3); }) == "one_hot: a label must lie in [0, 3); got 3");
  CHECK(error_of([] { one_hot(ones({2}), 3); }) == "one_hot: labels must be int64 (convert with to(int64)); got float32[2]");
  CHECK_THAT(error_of([] { one_hot(zeros({0}, int64), -1); }), Contains("sizes must not be negative"));
}

TEST_CASE("losses refuse what does not go together", "[loss][errors]") {
  const Tensor x = ones({2, 3}), y = labels({0, 1});
  const auto refusal = [&](const CrossEntropy& options) { return error_of([&] { cross_entropy(x, y, options); }); };
  CHECK(refusal({.label_smoothing = 1.5}) == "cross_entropy: label_smoothing must lie in [0, 1]; got 1.5");
  CHECK_THAT(refusal({.label_smoothing = NaN}), Contains("cross_entropy: label_smoothing must lie in [0, 1]"));
  CHECK(refusal({.class_weights = ones({2})}) == "cross_entropy: class weights must be [3]; got [2]");
  CHECK_THAT(refusal({.class_weights = ones({3}, float64)}), Contains("cross_entropy: dtypes must agree"));
  CHECK(refusal({.class_weights = full({3}, -1)}) == "cross_entropy: class weights must be finite and not negative; got -1");
  CHECK_THAT(refusal({.class_weights = from({3}, {0.f, 0.f, 1.f})}), Contains("the weights of the batch's labels must not all be 0"));
  CHECK(error_of([&] { cross_entropy(x, labels({0, -1})); }) == "cross_entropy: a label must lie in [0, 3); got -1");
  CHECK(error_of([&] { huber(x, x, {.delta = 0}); }) == "huber: delta must be positive and finite; got 0");
  using F = Var (*)(const Var&, const Tensor&);
  const std::pair<std::string, F> losses[] = {{"mse", mse}, {"l1", l1}, {"huber", [](const Var& v, const Tensor& t) { return huber(v, t); }},
                                              {"binary_cross_entropy_with_logits", binary_cross_entropy_with_logits}};
  const std::string dtypes = ": dtypes must agree (convert one with to(float32)); got float32 and float64";
  const std::string floating = ": needs float32 or float64 (convert with to(float32)); got int64";
  for (const auto& [op, loss] : losses) {
    CHECK(error_of([&, loss = loss] { loss(x, ones({3})); }) == op + ": shapes must agree; got [2, 3] and [3]");
    CHECK(error_of([&, loss = loss] { loss(x, ones({2, 3}, float64)); }) == op + dtypes);
    CHECK(error_of([&, loss = loss] { loss(zeros({0, 3}), zeros({0, 3})); }) == op + ": needs at least one element; got [0, 3]");
    CHECK(error_of([&, loss = loss] { loss(ones({2}, int64), ones({2}, int64)); }) == op + floating);
    CHECK_THAT(error_of([&, loss = loss] { loss(x, Tensor()); }), Contains(op + ": an operand is absent"));
  }
}
