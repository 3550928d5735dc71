// The tape: who receives which gradient, what is recorded and what is not, and gradcheck, which watches over it.
#include "tests/test.h"

namespace {

bool is(const Tensor& x, std::initializer_list<double> list) { return x.to_vector<double>() == std::vector<double>(list); }

/// x^2 by the first form of record, with a pullback that scales the right one.
Var square(const Var& x, double scale = 1) {
  return record("test:square", x.value() * x.value(), Wrt{x, [x = x.value(), scale](const Tensor& dy) { return scale * 2.0 * x * dy; }});
}

}  // namespace

TEST_CASE("a shared input receives the sum of its gradients", "[tape]") {
  Tape tape;
  const Var x = tape.watch(vec({1, 2, 3}));
  const Var y = x * x + 3.0 * x;      // 2 x + 3
  const Var z = y * y;                // and y itself is used twice
  const Gradients g = tape.gradients(sum(z));
  CHECK(is(g[x], {2 * 4 * 5, 2 * 10 * 7, 2 * 18 * 9}));
  CHECK(is(g[y], {8, 20, 36}));
}

TEST_CASE("long chains and deep sharing are walked without recursion", "[tape]") {
  Tape tape;
  const Var x = tape.watch(full({}, 1, float64));
  Var chain = x, doubled = x;
  for (int i = 0; i < 100'000; ++i) chain = chain + 1.0;
  for (int i = 0; i < 50; ++i) doubled = doubled + doubled;
  CHECK(tape.gradients(chain)[x].item() == 1);
  CHECK(tape.gradients(doubled)[x].item() == std::pow(2.0, 50));
}

TEST_CASE("inputs that the loss does not use have gradient zero", "[tape]") {
  Tape tape;
  const Var x = tape.watch(vec({1, 2})), unused = tape.watch(ones({3, 2}, float32));
  const Param never(ones({2, 2}, float64)), idle(ones({4}, float64));
  const Var read = idle;
  const Var later = x * 2.0;
  const Gradients g = tape.gradients(sum(x));
  CHECK(same_bits(g[unused], zeros({3, 2}, float32)));
  CHECK(same_bits(g[never], zeros({2, 2}, float64)));
  CHECK(same_bits(g[idle], zeros({4}, float64)));
  CHECK(same_bits(g[read], zeros({4}, float64)));
  CHECK(same_bits(g[later], zeros({2}, float64)));
  const Var after = x * 3.0;  // recorded after the walk
  CHECK(same_bits(g[after], zeros({2}, float64)));
}

TEST_CASE("a parameter used twice is one leaf", "[tape]") {
  Param w(vec({2, 3}));
  const Param copy = w;
  Tape tape;
  const Var loss = sum(Var(w) * Var(copy) * Var(w));
  const std::size_t size = tape.size();
  const Gradients g = tape.gradients(loss);
  CHECK(size == 4);  // leaf, mul, mul, sum
  CHECK(is(g[w], {12, 27}));
  CHECK(is(g[copy], {12, 27}));
}

TEST_CASE("a parameter that is set keeps shape and dtype, and values read before", "[tape]") {
  Param w(vec({1, 2}));
  const Tensor before = w.value();
  w.set(vec({3, 4}));
  CHECK(is(before, {1, 2}));
  CHECK(is(w.value(), {3, 4}));
  CHECK(error_of([&] { w.set(vec({1})); }) == "param: a new value must keep float64[2]; got float64[1]");
  CHECK(error_of([&] { w.set(ones({2})); }) == "param: a new value must keep float64[2]; got float32[2]");
  Param scalar(zeros({}));
  CHECK_THAT(error_of([&] { scalar.set(Tensor{}); }), Contains("param: the new value is absent (a default-constructed Tensor)"));
  CHECK(error_of([] { Param{}.value(); }) == "param: it is empty; construct it with a tensor");
}

TEST_CASE("broadcast inputs receive the sum over the axes they were spread along", "[tape]") {
  Tape tape;
  const Var x = tape.watch(ones({2, 3}, float64)), row = tape.watch(ones({3}, float64)), number = tape.watch(full({}, 2, float64)), column = tape.watch(ones({2, 1}, float64));
  const Gradients g = tape.gradients(sum(x * row * number * column));
  CHECK(same_bits(g[row], full({3}, 4, float64)));
  CHECK(same_bits(g[number], full({}, 6, float64)));
  CHECK(same_bits(g[column], full({2, 1}, 6, float64)));
}

TEST_CASE("gradients can be asked for several times, and outlive their tape", "[tape]") {
  Gradients kept;
  const Param w(vec({1, 2}));
  {
    Tape tape;
    const Var y = concat({Var(w), Var(w) * 2.0}, 0);
    const Var loss = sum(y * y);
    const Gradients first = tape.gradients(loss), second = tape.gradients(loss);
    CHECK(same_bits(first[w], second[w]));
    CHECK(is(tape.gradients(sum(y))[w], {3, 3}));
    kept = first;
  }
  CHECK(is(kept[w], {10, 20}));
}

TEST_CASE("nothing is recorded outside a tape", "[tape]") {
  const Param w(vec({1, 2}));
  const Var y = exp(Var(w) * 2.0);
  CHECK_FALSE(y.tracked());
  CHECK(Tape::current() == nullptr);
  auto alive = std::make_shared<int>(1);
  const Var z = record("test:keeps", w.value(), Wrt{y, [alive](const Tensor& dy) { return dy; }});
  const Var u = record("test:keeps", w.value(), std::vector<Var>{y}, [alive](const Tensor& dy) { return std::vector<Tensor>{dy}; });
  CHECK(alive.use_count() == 1);  // the pullbacks are gone
  Tape tape;
  CHECK_FALSE(y.tracked());
}

TEST_CASE("constants drop out, with all that their pullbacks hold", "[tape]") {
  Tape tape;
  auto alive = std::make_shared<int>(1);
  const Var constant = ones({2}, float64), x = tape.watch(ones({2}, float64));
  const std::size_t before = tape.size();
  const Var y = record("test:keeps", ones({2}, float64), Wrt{constant, [alive](const Tensor& dy) { return dy; }});
  CHECK_FALSE(y.tracked());
  CHECK(tape.size() == before);
  CHECK(alive.use_count() == 1);
  const Var z = record("test:keeps", ones({2}, float64), Wrt{constant, [alive](const Tensor& dy) { return dy; }}, Wrt{x, [](const Tensor& dy) { return dy; }});
  CHECK(z.tracked());
  CHECK(tape.size() == before + 1);
  CHECK(alive.use_count() == 1);
  CHECK(is(tape.gradients(sum(z))[x], {1, 1}));
  CHECK(is(tape.gradients(Var(full({}, 3, float64)))[x], {0, 0}));  // a loss that is a constant
  CHECK_THAT(error_of([&] { tape.gradients(sum(z))[constant]; }), Contains("gradients: this Var is a constant, or of another tape; watch() it first"));
}

TEST_CASE("a Var that outlives its tape throws", "[tape]") {
  Var old;
  {
    Tape tape;
    old = tape.watch(vec({1, 2})) * 2.0;
    CHECK(old.tracked());
  }
  const std::string text = "tape: this Var belongs to a tape that has ended, or to one outside the innermost";
  CHECK_THAT(error_of([&] { old + 1.0; }), Contains(text));
  Tape next;  // whose slots must not be mistaken for the old one's
  const Var x = next.watch(vec({5, 6}));
  CHECK_THAT(error_of([&] { x * old; }), Contains(text));
  CHECK(error_of([&] { next.gradients(sum(x))[old]; }) == "gradients: this Var is a constant, or of another tape; watch() it first");
  CHECK(error_of([&] { next.gradients(old); }) != "");
  CHECK(is((x * Var(old.value())).value(), {10, 24}));  // the remedy
}

TEST_CASE("tapes nest: the innermost one records", "[tape]") {
  Param w(vec({3}));
  Tape outer;
  const Var x = outer.watch(vec({2})), y = x * Var(w);
  {
    Tape inner;
    CHECK(Tape::current() == &inner);
    CHECK(is(inner.gradients(sum(Var(w) * Var(w)))[w], {6}));
    CHECK_THAT(error_of([&] { y * 2.0; }), Contains("tape: this Var belongs to a tape that has ended, or to one outside the innermost"));
    CHECK(error_of([&] { outer.watch(vec({1})); }) == "watch: only the innermost tape records");
  }
  CHECK(Tape::current() == &outer);
  const Gradients g = outer.gradients(sum(y));
  CHECK(is(g[x], {3}));
  CHECK(is(g[w], {2}));
}

TEST_CASE("tapes on the heap may end in any order", "[tape]") {
  auto a = std::make_unique<Tape>(), b = std::make_unique<Tape>(), c = std::make_unique<Tape>();
  b.reset();
  CHECK(Tape::current() == c.get());
  a.reset();
  const Var x = c->watch(vec({2}));
  CHECK(is(c->gradients(sum(x * x))[x], {4}));
  c.reset();
  CHECK(Tape::current() == nullptr);
  CHECK_FALSE((Var(Param(vec({1}))) * 2.0).tracked());
}

TEST_CASE("a loss is one floating-point number of this tape", "[tape]") {
  Tape tape;
  const Var x = tape.watch(vec({1, 2}));
  CHECK(error_of([&] { tape.gradients(x); }) == "gradients: the loss must have one element (take a sum or a mean); got [2]");
  CHECK(error_of([&] { tape.gradients(Var(ones({}, int64))); }) == "gradients: the loss must be float32 or float64; got int64");
  CHECK(error_of([&] { tape.gradients(Var{}); }) != "");
  CHECK(is(tape.gradients(reshape(sum(x), {1, 1}))[x], {1, 1}));
  Tape other;
  const Var z = sum(other.watch(vec({1})));
  CHECK(error_of([&] { tape.gradients(z); }) == "gradients: the loss was not recorded on this tape");
}

TEST_CASE("gradients have their input's dtype", "[tape]") {
  Tape tape;
  const Var x = tape.watch(ones({2, 3}, float32));
  const Gradients g = tape.gradients(mean(softmax(x / 2.0) * 3.0));
  CHECK(g[x].dtype() == float32);
  CHECK(g[x].shape() == Shape{2, 3});
}

TEST_CASE("equal entries share the gradient of a maximum", "[tape]") {
  Tape tape;
  const Var x = tape.watch(vec({3, 1, 3})), y = tape.watch(vec({3, 5, 0}));
  CHECK(is(tape.gradients(sum(maximum(x, y)))[x], {0.5, 0, 1}));
  CHECK(is(tape.gradients(sum(maximum(x, y)))[y], {0.5, 1, 0}));
  CHECK(is(tape.gradients(sum(minimum(x, y)))[x], {0.5, 1, 0}));
  CHECK(is(tape.gradients(max(x))[x], {0.5, 0, 0.5}));
  CHECK(is(tape.gradients(min(x))[x], {0, 1, 0}));
  CHECK(is(tape.gradients(sum(relu(x - 3.0)))[x], {0, 0, 0}));
  CHECK(is(tape.gradients(sum(abs(x - 3.0)))[x], {0, -1, 0}));
  const Var zero = tape.watch(vec({0, 0}));
  CHECK(is(tape.gradients(sum(pow(zero, 0)))[zero], {0, 0}));
  CHECK(is(tape.gradients(sum(pow(zero, 1)))[zero], {1, 1}));
  CHECK(is(tape.gradients(sum(pow(zero, 2)))[zero], {0, 0}));
}

TEST_CASE("NaN is not lost on the way back either", "[tape]") {
  for (DType dtype : {float32, float64}) {
    Tape tape;
    const Var x = tape.watch(vec({NAN, 1, NAN, 2}).to(dtype)), y = tape.watch(vec({1, NAN, NAN, 1}).to(dtype));
    for (const Var& z : {maximum(x, y), minimum(x, y)})
      for (const Var& in : {x, y}) CHECK(max_difference(equal(tape.gradients(sum(z))[in], tape.gradients(sum(z))[in]).to(float64), vec({0, 0, 0, 1})) == 0);
    for (const Var& z : {relu(x), abs(x), max(x), min(x)}) CHECK(std::isnan(tape.gradients(sum(z))[x](0)));
    CHECK(tape.gradients(sum(relu(x)))[x](3) == 1);
  }
}

TEST_CASE("masked classes, with logits of minus infinity, have loss and gradient all the same", "[tape]") {
  Tape tape;
  const Var x = tape.watch(from({1, 3}, {-std::numeric_limits<double>::infinity(), 1., 1.}));
  CHECK(max_difference(tape.gradients(cross_entropy(x, from({1}, std::vector<std::int64_t>{2})))[x], from({1, 3}, {0., 0.5, -0.5})) < 1e-15);
}

TEST_CASE("both forms of record make an op of one's own", "[tape]") {
  const auto product = [](const Var& a, const Var& b) {  // two gradients that come together
    return record("test:product", a.value() * b.value(), {a, b}, [x = a.value(), y = b.value()](const Tensor& dz) { return std::vector<Tensor>{dz * y, dz * x}; });
  };
  CHECK(gradcheck([](const std::vector<Var>& v) { return square(v[0]); }, {vec({1, -2, 3})}));
  CHECK(gradcheck([&](const std::vector<Var>& v) { return product(v[0], v[1]); }, {vec({1, -2, 3}), vec({0.5, 2, 1})}));
  CHECK(gradcheck([&](const std::vector<Var>& v) { return product(v[0], v[0]); }, {vec({1, -2, 3})}));
  CHECK(gradcheck([&](const std::vector<Var>& v) { return product(Var(vec({4, 5, 6})), v[0]); }, {vec({1, -2, 3})}));
  CHECK(gradcheck([&](const std::vector<Var>& v) { return product(v[0], v[1]); }, {vec({1, -2, 3}), full({}, 0.5, float64)}));  // the tape sums

  Tape tape;
  const Var x = tape.watch(vec({1})), y = record("test:few", x.value(), {x, x}, [](const Tensor& dy) { return std::vector<Tensor>{dy}; });
  CHECK(error_of([&] { tape.gradients(y); }) == "test:few: the pullback must return a gradient for each of 2 inputs; got 1");
  const Var w = tape.watch(vec({1, 2})), z = record("test:wrong", sum(w.value()), Wrt{w, [](const Tensor&) { return vec({1, 2, 3}); }});
  CHECK(error_of([&] { tape.gradients(z); }) == "test:wrong: [3] is no broadcast of [2]");
}

TEST_CASE("gradcheck catches a wrong gradient and names the entry", "[tape][gradient]") {
  const Tensor x = from({2, 2}, {0.5, 1., 1.5, 4.});
  CHECK(gradcheck([](const std::vector<Var>& v) { return square(v[0]); }, {x}));
  const GradCheckResult wrong = gradcheck([](const std::vector<Var>& v) { return v[0] + square(v[1], 1.01); }, {x, x});
  CHECK_FALSE(wrong);
  CHECK_THAT(wrong.worst, Contains("input 1 [1, 1]: tape gives ") || Contains("input 1 ["));
  CHECK_THAT(wrong.worst, Contains(", differences give "));
  CHECK(wrong.largest_error == Approx(0.01 / 1.01).epsilon(0.5));
  const GradCheckResult one = gradcheck(
      [](const std::vector<Var>& v) {  // wrong in a single entry
        const Tensor bad = from({2, 2}, {1., 1., 1.001, 1.});
        return record("test:scaled", v[0].value(), Wrt{v[0], [bad](const Tensor& dy) { return dy * bad; }});
      },
      {x});
  CHECK_FALSE(one);
  CHECK_THAT(one.worst, Contains("input 0 [1, 0]: tape gives "));
  CHECK(gradcheck([](const std::vector<Var>& v) { return square(v[0], 1.0000001); }, {x}));  // below the tolerance
  CHECK_FALSE(gradcheck([](const std::vector<Var>& v) { return square(v[0], 1.0001); }, {x}));
  CHECK_FALSE(gradcheck([](const std::vector<Var>& v) { return Var(v[0].value() * 2.0) + 0.0 * v[0]; }, {x}));  // history lost
}

TEST_CASE("gradcheck reports NaN and refuses float32", "[tape][gradient]") {
  const GradCheckResult result = gradcheck([](const std::vector<Var>& v) { return sqrt(v[0]); }, {vec({1, -1})});
  CHECK_FALSE(result);
  CHECK_THAT(result.worst, Contains("input 0 [1]") || Contains("nan"));
  const GradCheckResult silent = gradcheck(
      [](const std::vector<Var>& v) { return record("test:nan", v[0].value(), Wrt{v[0], [](const Tensor& dy) { return dy * NAN; }}); }, {vec({1})});
  CHECK_FALSE(silent);
  CHECK_THAT(silent.worst, Contains("input 0 [0]: tape gives ") && Contains("nan, differences give 1"));
  CHECK(error_of([] { gradcheck([](const std::vector<Var>& v) { return v[0]; }, {ones({2})}); }) == "gradcheck: inputs must be float64 (convert with to(float64)); got float32");
  CHECK_THAT(error_of([] { gradcheck([](const std::vector<Var>&) { return Var(ones({2})); }, {vec({1})}); }), Contains("gradcheck: f must compute in float64; got float32"));
}

TEST_CASE("transform changes every gradient", "[tape]") {
  Param w(vec({1, 2}));
  Tape tape;
  Gradients g = tape.gradients(sum(Var(w) * 3.0));
  g.transform([](const Tensor& dx) { return dx * 2.0; });
  CHECK(is(g[w], {6, 6}));
}
