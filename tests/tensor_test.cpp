// Tensors without history: construction, reading, conversion, printing, special numbers, and what every op says
// about operands that it refuses.
#include "tests/test.h"

#include <atomic>
#include <thread>

namespace {

constexpr double NaN = std::numeric_limits<double>::quiet_NaN(), infinity = std::numeric_limits<double>::infinity();

Tensor numbers(std::initializer_list<double> list) { return from({static_cast<std::int64_t>(list.size())}, list); }

}  // namespace

TEST_CASE("constructors fill what they say, float32 unless asked otherwise", "[tensor]") {
  CHECK(zeros({2, 3}).dtype() == float32);
  CHECK(zeros({2, 3}).to_vector<float>() == std::vector<float>(6, 0));
  CHECK(ones({2}, int64).to_vector<std::int64_t>() == std::vector<std::int64_t>{1, 1});
  CHECK(full({}, 2.5, float64).item() == 2.5);
  CHECK(full({0, 4}, 1).numel() == 0);
  CHECK(eye(3, float64).to_vector<double>() == std::vector<double>{1, 0, 0, 0, 1, 0, 0, 0, 1});
  CHECK(eye(0).shape() == Shape{0, 0});
  CHECK(from({2, 2}, {1., 2., 3., 4.}).dtype() == float64);
  CHECK(from({2}, {1.f, 2.f}).dtype() == float32);
  CHECK(from({2}, std::vector<std::int64_t>{1, 2}).dtype() == int64);
  CHECK(zeros({2}).device() == Device::cpu);
  CHECK(error_of([] { from({2, 2}, {1., 2., 3.}); }) == "from: [2, 2] takes 4 values; got 3");
}

TEST_CASE("arange stops before its end", "[tensor]") {
  CHECK(arange(0, 5, 1, int64).to_vector<std::int64_t>() == std::vector<std::int64_t>{0, 1, 2, 3, 4});
  CHECK(arange(1, 2, 0.25, float64).to_vector<double>() == std::vector<double>{1, 1.25, 1.5, 1.75});
  CHECK(arange(0, 1, 0.4, float64).size(0) == 3);
  CHECK(arange(3, 0, -1).to_vector<float>() == std::vector<float>{3, 2, 1});
  CHECK(arange(3, 0).shape() == Shape{0});
  CHECK(error_of([] { arange(0, 1, 0); }) == "arange: start, stop and a step other than 0 must be finite; got 0, 1, 0");
  CHECK_THAT(error_of([] { arange(0, infinity); }), Contains("arange: start, stop and a step other than 0 must be finite"));
}

TEST_CASE("elements are read by index, alone, or all together", "[tensor]") {
  const Tensor x = arange(0, 6, 1, float64).reshape({2, 3});
  CHECK(x(0, 0) == 0);
  CHECK(x(1, 2) == 5);
  CHECK(x.size(-1) == 3);
  CHECK(x.rank() == 2);
  CHECK(x.data<double>()[4] == 4);
  CHECK(x.to_vector<std::int64_t>() == std::vector<std::int64_t>{0, 1, 2, 3, 4, 5});
  CHECK(full({1, 1}, 7).item() == 7);
  CHECK(full({}, 7, int64)() == 7);
  CHECK(error_of([&] { x(2, 0); }) == "element: index 2 is outside axis 0 of [2, 3]");
  CHECK(error_of([&] { x(0, -1); }) == "element: index -1 is outside axis 1 of [2, 3]");
  CHECK(error_of([&] { x(1); }) == "element: needs one index for each axis of [2, 3]; got 1");
  CHECK(error_of([&] { x.item(); }) == "item: needs a tensor of one element; got [2, 3]");
  CHECK(error_of([&] { x.size(2); }) == "size: axis must lie in [-2, 1] for shape [2, 3]; got 2");
  CHECK(error_of([&] { x.data<float>(); }) == "data: the tensor is float64; read as float32 (convert with to())");
}

TEST_CASE("reshape shares memory and computes one size", "[tensor]") {
  const Tensor x = arange(0, 12);
  CHECK(x.reshape({3, -1}).shape() == Shape{3, 4});
  CHECK(x.reshape({-1}).shape() == Shape{12});
  CHECK(x.reshape({2, 3, 2}).raw() == x.raw());
  CHECK(x.reshape(Shape{4, 3})(2, 1) == 7);
  CHECK(zeros({0, 3}).reshape({-1, 5}).shape() == Shape{0, 5});
  CHECK(error_of([&] { x.reshape({5, 2}); }) == "reshape: the number of elements must stay; got [12] to [5, 2]");
  CHECK(error_of([&] { x.reshape({-1, -1}); }) == "reshape: at most one size may be -1; got 2");
  CHECK(error_of([&] { x.reshape({-1, 5}); }) == "reshape: 12 elements of [12] do not fill rows of 5");
  CHECK(error_of([&] { zeros({0}).reshape({-1, 0}); }) == "reshape: 0 elements of [0] do not fill rows of 0");
  CHECK(error_of([&] { x.reshape({-2, -6}); }) == "shape: sizes must not be negative; got -2");
}

TEST_CASE("shapes refuse negative sizes, too many axes and more elements than memory has addresses", "[tensor]") {
  CHECK(error_of([] { zeros({2, -1}); }) == "shape: sizes must not be negative; got -1");
  CHECK(error_of([] { zeros({1, 1, 1, 1, 1, 1, 1, 1, 1}); }) == "shape: at most 8 axes; got more");
  CHECK_THAT(error_of([] { zeros({1LL << 32, 1LL << 32}); }), Contains("shape: too many elements; got [4294967296, 4294967296]"));
  CHECK_THAT(error_of([] { zeros({1LL << 62}); }), Contains("shape: too many elements"));
  CHECK(zeros({1, 1, 1, 1, 1, 1, 1, 1}).rank() == 8);
}

TEST_CASE("conversions change the numbers' type and nothing else", "[tensor]") {
  const Tensor x = from({2, 2}, {1.75, -2.5, 3., 1e10});
  CHECK(x.to(float32).to_vector<double>() == std::vector<double>{1.75, -2.5, 3, 1e10});
  CHECK(x.to(int64).to_vector<std::int64_t>() == std::vector<std::int64_t>{1, -2, 3, 10'000'000'000});
  CHECK(x.to(float32).shape() == x.shape());
  CHECK(x.to(float64).raw() == x.raw());
  CHECK(x.to(Device::cpu).raw() == x.raw());
}

TEST_CASE("numbers that no int64 holds are refused, wherever they come from", "[tensor][errors]") {
  const std::string rule = ": an int64 tensor takes whole numbers of 64 bits (convert with to(float32)); got ";
  const Tensor x = arange(0, 2, 1, int64);
  CHECK(error_of([&] { x * 0.5; }) == "arithmetic" + rule + "0.5");
  CHECK(error_of([&] { x + 1e30; }) == "arithmetic" + rule + "1e+30");
  CHECK(error_of([&] { x - infinity; }) == "arithmetic" + rule + "inf");
  CHECK(error_of([] { full({1}, NaN, int64); }) == "full" + rule + "nan");
  CHECK(error_of([] { full({2}, 2.5, int64); }) == "full" + rule + "2.5");
  CHECK_THAT(error_of([] { full({2}, 0x1p63, int64); }), Contains("full" + rule));
  CHECK(full({}, -0x1p63, int64).data<std::int64_t>()[0] == INT64_MIN);
  CHECK(error_of([] { arange(0, 1, 0.25, int64); }) == "arange" + rule + "0.25");
  CHECK(error_of([] { arange(0.5, 3, 1, int64); }) == "arange" + rule + "0.5");
  CHECK_THAT(error_of([] { arange(0, 3e19, 9e18, int64); }), Contains("arange" + rule));

  const std::string range = "to: int64 takes numbers of at least -2^63 and below 2^63, and no NaN; got ";
  CHECK(error_of([] { numbers({1, 1e30, -2}).to(int64); }) == range + "-2 to 1e+30");
  CHECK(error_of([] { numbers({1, -infinity}).to(float32).to(int64); }) == range + "-inf to 1");
  CHECK(error_of([] { numbers({1, NaN, 2}).to(int64); }) == range + "nan to nan");
  CHECK_THAT(error_of([] { numbers({0x1p63}).to_vector<std::int64_t>(); }), Contains(range));
  CHECK(numbers({-0x1p63, 0x1p62}).to(int64).to_vector<std::int64_t>() == std::vector<std::int64_t>{INT64_MIN, std::int64_t{1} << 62});
  CHECK(zeros({0, 3}).to(int64).shape() == Shape{0, 3});
}

TEST_CASE("tensors larger than the memory are refused", "[tensor][errors]") {
  CHECK(error_of([] { ones({std::int64_t{1} << 58}); }) == "cpu: out of memory: 1152921504606846976 bytes asked for");
  CHECK(error_of([] { arange(0, 1e30); }) == "arange: too many elements; got 0, 1e+30, 1");
  CHECK(error_of([] { arange(-1e308, 1e308, 1e-300); }) == "arange: too many elements; got -1e+308, 1e+308, 1e-300");
  CHECK_THAT(error_of([] { arange(0, 1e17); }), Contains("cpu: out of memory"));
}

TEST_CASE("large blocks of memory, which are used again, belong to one tensor at a time", "[tensor]") {
  Threads one(1);
  std::atomic<int> wrong = 0;
  const auto work = [&](std::uint64_t seed) {
    Random random{seed};
    std::vector<Tensor> alive(6);
    std::vector<double> last(alive.size());
    for (int i = 0; i < 400; ++i) {
      const auto at = static_cast<std::size_t>(random.below(6));
      const std::int64_t bytes = (std::int64_t{1} << (17 + random.below(5))) + 8 * random.below(9) - 32;  // about the sizes of blocks
      if (alive[at].defined() && (alive[at](0) != last[at] || alive[at](alive[at].numel() - 1) != last[at])) ++wrong;
      last[at] = random.uniform();
      alive[at] = full({bytes / 8}, last[at], float64);
    }
  };
  std::vector<std::thread> threads;
  for (std::uint64_t seed : {1, 2, 3}) threads.emplace_back(work, seed);
  for (std::thread& thread : threads) thread.join();
  CHECK(wrong == 0);
}

TEST_CASE("an absent tensor is told apart, and refused by name", "[tensor]") {
  const Tensor absent;
  CHECK_FALSE(absent.defined());
  CHECK(absent.numel() == 0);
  CHECK(text_of(absent) == "absent");
  CHECK_FALSE(absent.to(float64).defined());
  CHECK(absent.to_vector<float>().empty());
  CHECK(error_of([&] { absent.item(); }) == "item: needs a tensor of one element; got []");
  CHECK(error_of([&] { absent + ones({2}); }) == "add: an operand is absent (a default-constructed Tensor); give it values first");
  CHECK_THAT(error_of([&] { absent.data<float>(); }), Contains("data: the tensor is absent (default-constructed); give it values first"));
  CHECK_THAT(error_of([&] { absent.reshape({0}); }), Contains("reshape: "));
  using F = Tensor (*)(const Tensor&);
  for (const auto& [op, f] : std::vector<std::pair<std::string, F>>{
           {"sum", [](const Tensor& x) { return sum(x); }}, {"mean", [](const Tensor& x) { return mean(x); }}, {"max", [](const Tensor& x) { return max(x); }},
           {"min", [](const Tensor& x) { return min(x, {0}); }}, {"softmax", [](const Tensor& x) { return softmax(x); }}, {"transpose", [](const Tensor& x) { return transpose(x); }},
           {"slice", [](const Tensor& x) { return slice(x, 0, 0, 0); }}, {"concat", [](const Tensor& x) { return concat({x}, 0); }}, {"argmax", [](const Tensor& x) { return argmax(x); }},
           {"stack", [](const Tensor& x) { return stack({x, x}); }}, {"stack", [](const Tensor& x) { return stack({ones({}), x}); }}, {"neg", [](const Tensor& x) { return -x; }},
           {"where", [](const Tensor& x) { return where(x, x, x); }}, {"mse", [](const Tensor& x) { return mse(x, x).value(); }},
           {"dropout", [](const Tensor& x) { return dropout(x, 0.5, default_random()).value(); }}})
    CHECK(error_of([&, f = f] { f(absent); }) == op + ": an operand is absent (a default-constructed Tensor); give it values first");
  CHECK_THAT(error_of([&] { matmul(absent, absent); }), Contains("matmul: needs matrices"));
  CHECK_THAT(error_of([&] { cholesky(absent); }), Contains("cholesky: needs matrices"));
}

TEST_CASE("tensors print as NumPy's do, then shape and dtype", "[tensor]") {
  CHECK(text_of(full({}, 2.5)) == "2.5  [] float32");
  CHECK(text_of(arange(0, 3, 1, int64)) == "[0, 1, 2]  [3] int64");
  CHECK(text_of(from({2, 2}, {1., -20., 0.5, 3.})) == "[[  1, -20],\n [0.5,   3]]  [2, 2] float64");
  CHECK(text_of(arange(0, 8, 1, int64).reshape({2, 2, 2})) == "[[[0, 1],\n  [2, 3]],\n [[4, 5],\n  [6, 7]]]  [2, 2, 2] int64");
  CHECK(text_of(zeros({0})) == "[]  [0] float32");
  CHECK(text_of(arange(0, 100, 1, int64)) == "[ 0,  1,  2, ..., 97, 98, 99]  [100] int64");
  CHECK(text_of(numbers({NaN, infinity, 1.23456789, 1e-9})) == "[  nan,   inf, 1.235, 1e-09]  [4] float64");
  std::ostringstream out;
  out << std::hex << numbers({1}) << ' ' << 255;
  CHECK(out.str() == "[1]  [1] float64 ff");
}

// ---- special numbers ----------------------------------------------------------------------------------------------

TEST_CASE("NaN is never lost", "[tensor][ops]") {
  for (DType dtype : {float32, float64}) {
    const Tensor x = numbers({1, NaN, 3, -2}).to(dtype), y = numbers({NaN, 1, 1, 1}).to(dtype), bad = full({}, NaN, dtype);
    CHECK(std::isnan(max(x).item()));
    CHECK(std::isnan(min(x).item()));
    CHECK(std::isnan(sum(x).item()));
    for (std::int64_t n : {1, 2, 7, 8, 9, 40, 9000}) {  // whatever the lane or chunk of the sum it lies in
      for (std::int64_t at : {std::int64_t{0}, n / 2, n - 1}) {
        const Tensor row = where(equal(arange(0, double(n), 1, dtype), full({}, double(at), dtype)), bad, arange(0, double(n), 1, dtype));
        CHECK(std::isnan(max(row).item()));
        CHECK(std::isnan(min(row).item()));
        CHECK(std::isnan(max(row.reshape({n, 1}) + zeros({1, 3}, dtype), {0})(2)));
        CHECK(std::isnan(log_softmax(row)(n / 3)));
        CHECK(argmax(row).item() == at);
      }
    }
    CHECK(max_difference(maximum(x, y), numbers({NaN, NaN, 3, 1}).to(dtype)) == 0);
    CHECK(max_difference(minimum(x, y), numbers({NaN, NaN, 1, -2}).to(dtype)) == 0);
    CHECK(max_difference(maximum(y, x), maximum(x, y)) == 0);
    CHECK(max_difference(relu(x), numbers({1, NaN, 3, 0}).to(dtype)) == 0);
    CHECK(std::isnan(abs(x)(1)));
    CHECK(std::isnan(sigmoid(x)(1)));
    CHECK(equal(x, x)(1) == 0);
    CHECK(where(x, ones({}, dtype), zeros({}, dtype))(1) == 1);  // not 0
  }
}

TEST_CASE("large numbers do not overflow where the result is moderate", "[tensor][ops]") {
  for (DType dtype : {float32, float64}) {
    const Tensor x = numbers({1000, -1000, 0}).to(dtype);
    CHECK(max_difference(sigmoid(x), numbers({1, 0, 0.5}).to(dtype)) == 0);
    CHECK(max_difference(softmax(x), numbers({1, 0, 0}).to(dtype)) == 0);
    CHECK(max_difference(log_softmax(x), numbers({0, -2000, -1000}).to(dtype)) == 0);
    CHECK(max_difference(tanh(x), numbers({1, -1, 0}).to(dtype)) == 0);
  }
  CHECK(max_difference(log(numbers({0, -1, 1})), numbers({-infinity, NaN, 0})) == 0);
  CHECK(max_difference(numbers({1, -1, 0}) / 0.0, numbers({infinity, -infinity, NaN})) == 0);
  CHECK(max_difference(softmax(numbers({-infinity, 0, 0})), numbers({0, 0.5, 0.5})) < 1e-15);
  CHECK(cross_entropy(from({1, 3}, {-infinity, 0., 0.}), from({1}, std::vector<std::int64_t>{1})).item() == Approx(std::log(2)));
}

TEST_CASE("sigmoid and its gradient keep all their digits far from 0", "[tensor][ops]") {
  for (DType dtype : {float32, float64})
    for (double x : {-80., -40., -20., -1., 0., 1., 20., 40., 80.}) {
      INFO(x << ' ' << dtype);
      const double relative = dtype == float32 ? 1e-6 : 1e-14, e = std::exp(-std::abs(x));
      Tape tape;
      const Var in = tape.watch(full({}, x, dtype)), y = sigmoid(in);
      CHECK(y.item() == Approx(1 / (1 + std::exp(-x))).epsilon(relative).margin(0));
      CHECK(tape.gradients(y)[in].item() == Approx(e / ((1 + e) * (1 + e))).epsilon(relative).margin(0));
    }
}

TEST_CASE("int64 arithmetic is exact", "[tensor][ops]") {
  const std::int64_t big = (std::int64_t{1} << 60) + 1;
  const Tensor x = from({3}, std::vector<std::int64_t>{big, -7, 0}), y = from({3}, std::vector<std::int64_t>{2, 3, 5});
  const auto is = [](const Tensor& t, std::vector<std::int64_t> v) { return t.dtype() == int64 && t.to_vector<std::int64_t>() == v; };
  CHECK(is(x + y, {big + 2, -4, 5}));
  CHECK(is(x - y, {big - 2, -10, -5}));
  CHECK(is(x * y, {2 * big, -21, 0}));
  CHECK(is(-x, {-big, 7, 0}));
  CHECK(is(abs(x), {big, 7, 0}));
  CHECK(is(relu(x), {big, 0, 0}));
  CHECK(is(maximum(x, y), {big, 3, 5}));
  CHECK(is(x * 2, {2 * big, -14, 0}));
  CHECK(is(10 - y, {8, 7, 5}));
  CHECK(sum(x).data<std::int64_t>()[0] == big - 7);
  CHECK(max(x).data<std::int64_t>()[0] == big);
  CHECK(min(x).data<std::int64_t>()[0] == -7);
  CHECK(is(less(x, y), {0, 1, 1}));
  CHECK(is(where(less(x, y), x, y), {2, -7, 0}));
}

TEST_CASE("comparisons give 1 or 0 in their operands' dtype", "[tensor][ops]") {
  const Tensor x = numbers({1, 2, 3}), y = numbers({3, 2, 1});
  CHECK(same_bits(equal(x, y), numbers({0, 1, 0})));
  CHECK(same_bits(less(x, y), numbers({1, 0, 0})));
  CHECK(same_bits(less_equal(x, y), numbers({1, 1, 0})));
  CHECK(same_bits(greater(x, y), numbers({0, 0, 1})));
  CHECK(same_bits(greater_equal(x, y), numbers({0, 1, 1})));
}

TEST_CASE("the shape of gather's index takes the axis's place", "[tensor][ops]") {
  const Tensor x = numbers({0, 1, 2, 3, 4, 5}).reshape({3, 2});
  const Tensor words = from({2, 2}, std::vector<std::int64_t>{2, 0, 1, 1});
  CHECK(same_bits(gather(x, 0, words), numbers({4, 5, 0, 1, 2, 3, 2, 3}).reshape({2, 2, 2})));
  CHECK(same_bits(gather(x, -1, from({1, 3}, std::vector<std::int64_t>{1, 0, 1})), numbers({1, 0, 1, 3, 2, 3, 5, 4, 5}).reshape({3, 1, 3})));
  CHECK(same_bits(gather(x, 0, from({}, std::vector<std::int64_t>{1})), numbers({2, 3})));
  CHECK(gather(x, 0, zeros({2, 0}, int64)).shape() == Shape{2, 0, 2});
}

TEST_CASE("a plain number beside a tensor takes its dtype, in comparisons, limits and choices too", "[tensor][ops]") {
  for (const DType dtype : {float32, float64, int64}) {
    const Tensor x = numbers({1, 2, 3}).to(dtype);
    const auto is = [&](const Tensor& y, std::initializer_list<double> expected) { return same_bits(y, numbers(expected).to(dtype)); };
    CHECK(is(equal(x, 2), {0, 1, 0}));
    CHECK(is(less(x, 2), {1, 0, 0}));
    CHECK(is(less(2, x), {0, 0, 1}));
    CHECK(is(less_equal(x, 2), {1, 1, 0}));
    CHECK(is(greater(x, 2), {0, 0, 1}));
    CHECK(is(greater_equal(2, x), {1, 1, 0}));
    CHECK(is(maximum(x, 2), {2, 2, 3}));
    CHECK(is(minimum(2, x), {1, 2, 2}));
    CHECK(is(where(less(x, 2), x, 7), {1, 7, 7}));
  }
  Tape tape;
  const Var x = tape.watch(from({3}, {1.0f, 2.0f, 3.0f}));
  const Gradients gradients = tape.gradients(sum(maximum(x, 1.5) + minimum(2.5, x) + minimum(x, 2.5) + maximum(1.5, x) + where(less(x.value(), 2), x, 0)));
  CHECK(same_bits(gradients[x], from({3}, {3.0f, 4.0f, 2.0f})));
}

// ---- refusals -----------------------------------------------------------------------------------------------------

TEST_CASE("mixed dtypes are refused by name, with the cure", "[tensor][ops][errors]") {
  const Tensor a = ones({2, 2}), b = ones({2, 2}, float64);
  const std::string tail = ": dtypes must agree (convert one with to(float32)); got float32 and float64";
  CHECK(error_of([&] { a + b; }) == "add" + tail);
  CHECK(error_of([&] { a - b; }) == "sub" + tail);
  CHECK(error_of([&] { a * b; }) == "mul" + tail);
  CHECK(error_of([&] { a / b; }) == "div" + tail);
  CHECK(error_of([&] { maximum(a, b); }) == "maximum" + tail);
  CHECK(error_of([&] { minimum(a, b); }) == "minimum" + tail);
  CHECK(error_of([&] { less(a, b); }) == "less" + tail);
  CHECK(error_of([&] { less_equal(a, b); }) == "less_equal" + tail);
  CHECK(error_of([&] { greater(a, b); }) == "greater" + tail);
  CHECK(error_of([&] { greater_equal(a, b); }) == "greater_equal" + tail);
  CHECK(error_of([&] { equal(a, b); }) == "equal" + tail);
  CHECK(error_of([&] { where(a, a, b); }) == "where" + tail);
  CHECK(error_of([&] { where(a, b, b); }) == "where" + tail);
  CHECK(error_of([&] { concat({a, b}, 0); }) == "concat" + tail);
  CHECK(error_of([&] { stack({a, b}, 0); }) == "stack" + tail);
  CHECK(error_of([&] { stack({Var(a), Var(b)}, 0); }) == "stack" + tail);
  CHECK(error_of([&] { mse(a, b); }) == "mse" + tail);
  CHECK(error_of([&] { matmul(a, b); }) == "matmul: dtypes and devices must agree (convert with to()); got float32 on cpu and float64 on cpu");
  CHECK(error_of([&] { solve_lower(a, b); }) == "solve_lower: dtypes and devices must agree; got float32 on cpu and float64 on cpu");
}

TEST_CASE("shapes that do not go together are refused by name, as given", "[tensor][ops][errors]") {
  const Tensor a = ones({2, 3}), b = ones({4});
  const std::string tail = ": shapes must agree axis by axis from the last, or be 1 there; got [2, 3] and [4]";
  CHECK(error_of([&] { a + b; }) == "add" + tail);
  CHECK(error_of([&] { a - b; }) == "sub" + tail);
  CHECK(error_of([&] { a * b; }) == "mul" + tail);
  CHECK(error_of([&] { a / b; }) == "div" + tail);
  CHECK(error_of([&] { maximum(a, b); }) == "maximum" + tail);
  CHECK(error_of([&] { Var(a) + Var(b); }) == "add" + tail);
  CHECK(error_of([&] { where(a, b, b); }) == "where" + tail);
  CHECK(error_of([&] { ones({0}) + ones({2}); }) == "add: shapes must agree axis by axis from the last, or be 1 there; got [0] and [2]");

  CHECK(error_of([&] { sum(a, {2}); }) == "sum: axis must lie in [-2, 1] for shape [2, 3]; got 2");
  CHECK(error_of([&] { mean(a, {-3}); }) == "mean: axis must lie in [-2, 1] for shape [2, 3]; got -3");
  CHECK(error_of([&] { max(a, {0, -2}); }) == "max: each axis may be named once; got axis -2 twice");
  CHECK(error_of([&] { max(zeros({2, 0}), {1}); }) == "max: needs at least one element along the reduced axes; got [2, 0]");
  CHECK(error_of([&] { min(zeros({0})); }) == "min: needs at least one element along the reduced axes; got [0]");
  CHECK(error_of([&] { mean(zeros({0, 3})); }) == "mean: needs at least one element along the reduced axes; got [0, 3]");
  CHECK(error_of([&] { argmax(zeros({2, 0})); }) == "argmax: needs at least one element along axis -1; got [2, 0]");
  CHECK(error_of([&] { argmax(a, 2); }) == "argmax: axis must lie in [-2, 1] for shape [2, 3]; got 2");
  CHECK(error_of([&] { log_softmax(full({}, 1)); }) == "log_softmax: needs a last axis with at least one element; got []");
  CHECK(error_of([&] { sum_to(a, {2}); }) == "sum_to: [2, 3] is no broadcast of [2]");
  CHECK(error_of([&] { sum_to(b, {1, 4}); }) == "sum_to: [4] is no broadcast of [1, 4]");

  CHECK(error_of([&] { matmul(a, a); }) == "matmul: inner sizes must agree; got [2, 3] and [2, 3]");
  CHECK(error_of([&] { matmul(a, a, {.transpose_a = true, .transpose_b = true}); }) == "matmul: inner sizes must agree; got [2, 3]' and [2, 3]'");
  CHECK(error_of([&] { matmul(a, b); }) == "matmul: needs matrices, at least two axes (use reshape); got [4]");
  CHECK(error_of([&] { matmul(ones({2, 1, 3}), ones({3, 3, 1})); }) == "matmul: shapes must agree axis by axis from the last, or be 1 there; got [2] and [3]");
  CHECK(error_of([&] { matmul(Var(ones({2, 3, 4})), Var(ones({5, 6}))); }) == "matmul: inner sizes must agree; got [2, 3, 4] and [5, 6]");
  CHECK(error_of([&] { cholesky(a); }) == "cholesky: the matrices must be square; got [2, 3]");
  CHECK(error_of([&] { solve_lower(a, a); }) == "solve_lower: the matrices must be square; got [2, 3]");
  CHECK(error_of([&] { solve_lower(eye(3), a); }) == "solve_lower: L [..., n, n] and b [..., n, c] must agree; got [3, 3] and [2, 3]");

  CHECK(error_of([&] { transpose(b); }) == "transpose: axis must lie in [-1, 0] for shape [4]; got -2");
  CHECK(error_of([&] { slice(a, 1, 2, 5); }) == "slice: start <= stop must lie within axis 1 of [2, 3]; got 2 and 5");
  CHECK(error_of([&] { slice(a, 1, 2, 1); }) == "slice: start <= stop must lie within axis 1 of [2, 3]; got 2 and 1");
  CHECK(error_of([&] { slice(a, 0, -3, 1); }) == "slice: start <= stop must lie within axis 0 of [2, 3]; got -3 and 1");
  CHECK(error_of([&] { gather(a, 0, from({1}, std::vector<std::int64_t>{2})); }) == "gather: an index must lie in [0, 2) for axis 0 of [2, 3]; got 2");
  CHECK(error_of([&] { gather(a, 0, from({1}, std::vector<std::int64_t>{-1})); }) == "gather: an index must lie in [0, 2) for axis 0 of [2, 3]; got -1");
  CHECK(error_of([&] { gather(a, 0, b); }) == "gather: the index must be an int64 tensor (convert with to(int64)); got float32[4]");
  CHECK(error_of([&] { concat({a, b}, 0); }) == "concat: all sizes but axis 0's must agree; got [2, 3] and [4]");
  CHECK(error_of([&] { concat({a, ones({2, 4})}, 0); }) == "concat: all sizes but axis 0's must agree; got [2, 3] and [2, 4]");
  CHECK(error_of([&] { concat(std::vector<Tensor>{}, 0); }) == "concat: needs at least one tensor; got none");
  CHECK(error_of([&] { stack({a, b}); }) == "stack: all shapes must agree; got [2, 3] and [4]");
  CHECK(error_of([&] { stack({a, a}, 3); }) == "stack: the new axis must lie in [-3, 2]; got 3");
  CHECK(error_of([&] { stack(std::vector<Tensor>{}); }) == "stack: needs at least one tensor; got none");

  const Tensor labels = zeros({2}, int64);
  CHECK(error_of([&] { cross_entropy(b, labels); }) == "cross_entropy: logits must be [batch, ..., classes] and not empty; got [4]");
  CHECK(error_of([&] { cross_entropy(a, zeros({3}, int64)); }) == "cross_entropy: labels must be int64 [2]; got int64[3]");
  CHECK(error_of([&] { cross_entropy(a, zeros({2})); }) == "cross_entropy: labels must be int64 [2]; got float32[2]");
  CHECK(error_of([&] { cross_entropy(a, labels + 3); }) == "cross_entropy: a label must lie in [0, 3); got 3");
  CHECK(error_of([&] { mse(a, b); }) == "mse: shapes must agree; got [2, 3] and [4]");
}

TEST_CASE("what exists on floating-point numbers only says so, with the cure", "[tensor][ops][errors]") {
  const Tensor x = ones({2, 2}, int64);
  const std::string tail = ": needs float32 or float64 (convert with to(float32)); got int64";
  CHECK(error_of([&] { x / x; }) == "div" + tail);
  CHECK(error_of([&] { exp(x); }) == "exp" + tail);
  CHECK(error_of([&] { log(x); }) == "log" + tail);
  CHECK(error_of([&] { sqrt(x); }) == "sqrt" + tail);
  CHECK(error_of([&] { tanh(x); }) == "tanh" + tail);
  CHECK(error_of([&] { sigmoid(x); }) == "sigmoid" + tail);
  CHECK(error_of([&] { pow(x, 2); }) == "pow" + tail);
  CHECK(error_of([&] { mean(x); }) == "mean" + tail);
  CHECK(error_of([&] { log_softmax(x); }) == "log_softmax" + tail);
  CHECK(error_of([&] { softmax(x); }) == "softmax" + tail);
  CHECK(error_of([&] { mse(x, x); }) == "mse" + tail);
  CHECK(error_of([&] { cross_entropy(x, zeros({2}, int64)); }) == "cross_entropy" + tail);
  CHECK(error_of([&] { dropout(x, 0.5, default_random()); }) == "dropout" + tail);
  CHECK(error_of([&] { matmul(zeros({2, 0}, int64), zeros({0, 2}, int64)); }) == "matmul" + tail);
  CHECK(error_of([&] { matmul(x, x); }) == "matmul" + tail);
  CHECK(error_of([&] { cholesky(x); }) == "cholesky" + tail);
  CHECK(error_of([&] { solve_lower(x, x); }) == "solve_lower" + tail);
  Random random;
  CHECK(error_of([&] { dropout(ones({2}), 1, random); }) == "dropout: p must lie in [0, 1); got 1");
  CHECK_THAT(error_of([&] { dropout(ones({2}), NaN, random); }), Contains("dropout: p must lie in [0, 1)"));
}

TEST_CASE("a device that is not there is refused with the remedy", "[tensor][errors]") {
  if (available(Device::cuda)) return;
  CHECK_THAT(error_of([] { zeros({2}).to(Device::cuda); }), Contains("device: "));
  CHECK_THAT(error_of([] { zeros({2}, float32, Device::cuda); }), Contains("device: "));
  CHECK(error_of([] { set_threads(0); }) == "set_threads: the number of threads must lie in [1, 1024]; got 0");
}
