// Ops where formulas lose their digits, overflow or meet NaN and infinity; and what ops refuse. (tensor_test.cpp: the
// same for arithmetic; loss_test.cpp: for losses.)
#include "tests/test.h"

namespace {

constexpr double infinity = std::numeric_limits<double>::infinity(), NaN = std::numeric_limits<double>::quiet_NaN();

Tensor numbers(std::vector<double> values) { return from({static_cast<std::int64_t>(values.size())}, values); }

/// d sum(f(x)) / dx
template <class F>
Tensor slope(const F& f, const Tensor& x) {
  Tape tape;
  const Var in = tape.watch(x);
  return tape.gradients(sum(f(in)))[in];
}

void check_relative(const Tensor& x, const Tensor& right, double tolerance) {
  CHECK(max_difference(x / right, ones(right.shape(), right.dtype())) < tolerance);
}

}  // namespace

TEST_CASE("functions keep their digits where their formulas would cancel", "[ops]") {
  const Tensor small = numbers({1e-20, -1e-12, 1e-8}), far = numbers({-5, -10, -20, -30});
  check_relative(log1p(small), numbers({1e-20, -1e-12, 1e-8 - 0.5e-16}), 1e-12);
  check_relative(expm1(small), numbers({1e-20, -1e-12, 1e-8 + 0.5e-16}), 1e-12);
  check_relative(slope([](const Var& x) { return expm1(x); }, far), exp(far), 1e-14);
  check_relative(softplus(far), log1p(exp(far)), 1e-14);
  check_relative(slope([](const Var& x) { return softplus(x); }, far), sigmoid(far), 1e-14);
  check_relative(gelu(far), numbers({-1.4332578594e-6, -7.6198530242e-23, -5.5072482372e-88, -1.4720141781e-196}), 1e-9);
  check_relative(var(numbers({1e8, 1e8 + 1, 1e8 + 2})), full({}, 1, float64), 1e-12);
}

TEST_CASE("large numbers do not overflow on the way to a moderate result", "[ops]") {
  for (DType dtype : {float32, float64}) {
    const auto is = [&](const Tensor& x, std::vector<double> right) { return max_difference(x, numbers(right).to(dtype)) == 0; };
    const Tensor x = numbers({-infinity, -1000, 0, 1000, infinity}).to(dtype);
    CHECK(is(slice(softplus(x), 0, 0, 2), {0, 0}));
    CHECK(is(slice(softplus(x), 0, 3, 5), {1000, infinity}));
    CHECK(is(slope([](const Var& v) { return softplus(v); }, x), {0, 0, 0.5, 1, 1}));
    CHECK(is(gelu(x), {0, 0, 0, 1000, infinity}));
    CHECK(is(slope([](const Var& v) { return gelu(v); }, x), {0, 0, 0.5, 1, 1}));
    CHECK(is(erf(x), {-1, -1, 0, 1, 1}));
    CHECK(is(clamp(x, -2, 3), {-2, -2, 0, 3, 3}));
    CHECK(is(clamp(x, 0, infinity), {0, 0, 0, 1000, infinity}));
    CHECK(is(leaky_relu(x, 0.5), {-infinity, -500, 0, 1000, infinity}));
    const double huge = dtype == float32 ? 0x1p125 : 0x1p1020, tiny = dtype == float32 ? 0x1p-140 : 0x1p-1060;
    CHECK(norm(numbers({3 * huge, 4 * huge}).to(dtype)).item() == 5 * huge);
    CHECK(norm(numbers({3 * tiny, -4 * tiny}).to(dtype)).item() == 5 * tiny);
    CHECK(is(slope([](const Var& v) { return norm(v); }, numbers({-3 * huge, 4 * huge}).to(dtype)), {-0.6, 0.8}));
    CHECK(is(logsumexp(numbers({1000, 1000, -1000, -1000}).to(dtype).reshape({2, 2})), {1000 + std::log(2), -1000 + std::log(2)}));
    CHECK(norm(numbers({1, infinity, 2}).to(dtype)).item() == infinity);
  }
}

TEST_CASE("logsumexp knows infinity and no elements, and its gradient no NaN where all is masked", "[ops]") {
  const Tensor masked = from({3, 2}, {-infinity, -infinity, -infinity, 1., 0., 0.});
  CHECK(max_difference(logsumexp(masked), numbers({-infinity, 1, std::log(2)})) == 0);
  CHECK(max_difference(slope([](const Var& x) { return logsumexp(x); }, masked), from({3, 2}, {0., 0., 0., 1., 0.5, 0.5})) < 1e-15);
  CHECK(logsumexp(numbers({infinity, 1})).item() == infinity);
  CHECK(max_difference(logsumexp(zeros({2, 0}, float64)), numbers({-infinity, -infinity})) == 0);
}

TEST_CASE("NaN is lost neither in values nor in gradients", "[ops]") {
  const Tensor x = numbers({NaN, 0.5});
  using F = Var (*)(const Var&);
  const F functions[] = {log1p, expm1, sin, cos, erf, gelu, softplus, [](const Var& v) { return leaky_relu(v); },
                         [](const Var& v) { return clamp(v, 0, 1); }, [](const Var& v) { return var(v); },
                         [](const Var& v) { return norm(v); }, [](const Var& v) { return logsumexp(v); }};
  for (F f : functions) {
    CHECK(std::isnan(sum(f(x)).item()));
    CHECK(std::isnan(slope(f, x)(0)));
  }
  CHECK(max_difference(cumsum(numbers({1, NaN, 1}), 0), numbers({1, NaN, NaN})) == 0);
  CHECK(max_difference(tril(from({2, 2}, {1., NaN, 2., 3.})), from({2, 2}, {1., 0., 2., 3.})) == 0);
}

TEST_CASE("gradients at corners are those that are documented", "[ops]") {
  CHECK(same_bits(slope([](const Var& x) { return clamp(x, -1, 2); }, numbers({-1.5, -1, 0, 2, 2.5})), numbers({0, 1, 1, 1, 0})));
  CHECK(same_bits(slope([](const Var& x) { return leaky_relu(x, 0.1); }, numbers({-1, 0, 1})), numbers({0.1, 0.1, 1})));
  CHECK(same_bits(slope([](const Var& x) { return norm(x, {1}); }, from({2, 2}, {0., 0., 3., -4.})), from({2, 2}, {0., 0., 0.6, -0.8})));
  CHECK(same_bits(slope([](const Var& x) { return var(x); }, ones({3}, float64)), zeros({3}, float64)));
  // Neither NaN nor infinity gets through where in the place of what was taken, on the way back either.
  const Tensor x = numbers({4, 0, -1}), mask = numbers({1, 0, 0}), bad = numbers({1, NaN, infinity});
  CHECK(same_bits(where(mask, bad, x), numbers({1, 0, -1})));
  CHECK(same_bits(slope([&](const Var& v) { return where(mask, v, Var(x)) * Var(bad); }, x), numbers({1, 0, 0})));
  const Tensor a = matmul(from({2, 2}, {1., 2., 0., 3.}), from({2, 2}, {1., 0., 2., 3.})), da = slope([](const Var& v) { return cholesky(v); }, a);
  CHECK(da(0, 1) == Approx(da(1, 0)).epsilon(1e-14));
}

TEST_CASE("moving ops keep whole numbers exact", "[ops]") {
  const std::int64_t big = (std::int64_t{1} << 60) + 1;
  const auto is = [](const Tensor& t, std::vector<std::int64_t> v) { return t.dtype() == int64 && t.to_vector<std::int64_t>() == v; };
  const Tensor x = from({3}, std::vector<std::int64_t>{big, -7, 0});
  CHECK(is(cumsum(x, 0), {big, big - 7, big - 7}));
  CHECK(is(flip(x, 0), {0, -7, big}));
  CHECK(is(pad(x, {{1, 0}}, 5), {5, big, -7, 0}));
  CHECK(is(repeat(x, {2}), {big, -7, 0, big, -7, 0}));
  CHECK(is(clamp(x, -3, 9), {9, -3, 0}));
  CHECK(is(diagonal(diag(x)), {big, -7, 0}));
  CHECK(is(outer(x, from({2}, std::vector<std::int64_t>{1, 2})), {big, 2 * big, -7, -14, 0, 0}));
  CHECK(is(one_hot(from({2}, std::vector<std::int64_t>{1, 0}), 2, int64), {0, 1, 1, 0}));
}

TEST_CASE("ops refuse what they cannot do, and say what to do", "[ops][errors]") {
  const Tensor x = ones({2, 3}), whole = ones({2, 3}, int64), absent;
  CHECK(error_of([&] { clamp(x, 1, 0); }) == "clamp: low must be at most high; got 1 and 0");
  CHECK_THAT(error_of([&] { clamp(x, NaN, 0); }), Contains("clamp: low must be at most high"));
  CHECK_THAT(error_of([&] { clamp(whole, 0.5, 1); }), Contains("clamp: an int64 tensor takes whole numbers"));
  CHECK(error_of([&] { var(ones({1, 3}), {0}); }) ==
        "var: needs more elements along the reduced axes than the correction of 1 (give {.correction = 0}); got [1, 3]");
  CHECK(error_of([&] { var(zeros({0}), {}, {.correction = 0}); }) == "var: needs elements along the reduced axes; got [0]");
  CHECK_THAT(error_of([&] { logsumexp(x, 2); }), Contains("logsumexp: axis must lie in [-2, 1]"));
  CHECK(error_of([&] { cumsum(ones({}), 0); }) == "cumsum: a tensor of shape [] has no axes; got axis 0");
  CHECK(error_of([&] { cumsum(x, 2); }) == "cumsum: axis must lie in [-2, 1] for shape [2, 3]; got 2");
  CHECK(error_of([&] { pad(x, {{1, 1}}); }) == "pad: needs one pair {before, after} for each axis of [2, 3]; got 1");
  CHECK(error_of([&] { pad(x, {{0, 0}, {-2, -2}}); }) == "pad: cannot cut 2 and 2 from axis 1 of [2, 3]");
  constexpr std::int64_t huge = std::numeric_limits<std::int64_t>::max();
  CHECK(error_of([&] { pad(x, {{0, 0}, {huge, huge}}); }) == "pad: too many elements to add or cut; got 9223372036854775807 and 9223372036854775807 for axis 1 of [2, 3]");
  CHECK_THAT(error_of([&] { pad(x, {{-huge - 1, 0}, {0, 0}}); }), Contains("pad: too many elements to add or cut; got -9223372036854775808 and 0"));
  CHECK_THAT(error_of([&] { pad(x, {{1LL << 58, 1LL << 58}, {1LL << 58, 0}}); }), Contains("shape: too many elements"));
  CHECK(error_of([&] { repeat(x, {1, huge}); }) == "repeat: too many elements; got 9223372036854775807 for axis 1 of [2, 3]");
  CHECK_THAT(error_of([&] { repeat(x, {huge / 4, 1}); }), Contains("shape: too many elements"));
  CHECK(error_of([&] { repeat(x, {2}); }) == "repeat: needs one number for each axis of [2, 3]; got 1");
  CHECK(error_of([&] { repeat(x, {2, -1}); }) == "repeat: the numbers must not be negative; got -1 for axis 1");
  CHECK_THAT(error_of([&] { outer(ones({}), x); }), Contains("outer: needs vectors, at least one axis (use reshape); got "));
  CHECK_THAT(error_of([&] { diag(ones({})); }), Contains("diag: needs vectors"));
  CHECK(error_of([&] { diagonal(x); }) == "diagonal: needs square matrices; got [2, 3]");
  CHECK_THAT(error_of([&] { tril(ones({3})); }), Contains("tril: needs matrices"));
  CHECK(error_of([&] { solve(x, x); }) == "solve: the matrices must be square; got [2, 3]");
  CHECK(error_of([&] { solve(eye(3), x); }) == "solve: A [..., n, n] and b [..., n, c] must agree; got [3, 3] and [2, 3]");
  CHECK(error_of([&] { where(x, Var(x), Var(ones({2, 3}, float64))); }) ==
        "where: dtypes must agree (convert one with to(float32)); got float32 and float64");
  using F = Tensor (*)(const Tensor&);
  for (const auto& [op, f] : std::vector<std::pair<std::string, F>>{
           {"log1p", log1p}, {"expm1", expm1}, {"sin", sin}, {"cos", cos}, {"erf", erf}, {"gelu", gelu}, {"softplus", softplus},
           {"leaky_relu", [](const Tensor& t) { return leaky_relu(t); }}, {"var", [](const Tensor& t) { return var(t); }},
           {"norm", [](const Tensor& t) { return norm(t); }}, {"logsumexp", [](const Tensor& t) { return logsumexp(t, 0); }}}) {
    CHECK(error_of([&, f = f] { f(whole); }) == op + ": needs float32 or float64 (convert with to(float32)); got int64");
    CHECK_THAT(error_of([&, f = f] { f(absent); }), Contains(op + ": an operand is absent"));
  }
}
