// Convolution, pooling and normalisation: what a row of the table of ops cannot say.
#include "tests/naive.h"

namespace {

Tensor some(const Shape& shape, DType dtype = float64) {
  static Random random{23};
  return normal(random, shape, 0, 1, dtype);
}

}  // namespace

TEST_CASE("a convolution of stride 2 is every other entry of the one of stride 1, which another path computes", "[ops][conv]") {
  for (DType dtype : {float32, float64})
    for (const auto& [x, w] : {std::pair{Shape{3, 5, 19, 23}, Shape{13, 5, 3, 4}}, {Shape{2, 40, 9, 9}, Shape{33, 40, 3, 3}},
                               {Shape{1, 3, 70, 65}, Shape{6, 3, 5, 5}}, {Shape{2, 20, 12, 12}, Shape{50, 20, 5, 5}}}) {
      const Tensor a = some(x, dtype), b = some(w, dtype), c = some({w[0]}, dtype);
      const Conv2dOptions every{.padding = 2, .dilation = {1, 2}};
      Conv2dOptions other = every;
      other.stride = 2;
      const auto take = [](const Tensor& y) {
        Tensor out = y;
        for (int axis : {2, 3}) {
          std::vector<std::int64_t> at;
          for (std::int64_t i = 0; i < y.size(axis); i += 2) at.push_back(i);
          out = gather(out, axis, from({static_cast<std::int64_t>(at.size())}, at));
        }
        return out;
      };
      Tape tape;
      const Var u = tape.watch(a), v = tape.watch(b), s = tape.watch(c);
      const Var dense = conv2d(u, v, s, every), sparse = conv2d(u, v, s, other);
      const double eps = dtype == float32 ? 2e-4 : 1e-12;
      CHECK(max_difference(take(dense.value()), sparse.value()) < eps);
      // Gradients: of a loss that sees every other entry only.
      const Tensor seed = some(sparse.shape(), dtype);
      std::vector<Tensor> seeds;
      const Tensor hit = take(from(dense.shape(), [&] {
        std::vector<double> index(static_cast<std::size_t>(dense.value().numel()));
        for (std::size_t i = 0; i < index.size(); ++i) index[i] = static_cast<double>(i);
        return index;
      }()));
      std::vector<double> spread(static_cast<std::size_t>(dense.value().numel()));
      const auto where = hit.to_vector<double>(), values = seed.to_vector<double>();
      for (std::size_t i = 0; i < where.size(); ++i) spread[static_cast<std::size_t>(where[i])] = values[i];
      const Gradients one = tape.gradients(sum(dense * Var(from(dense.shape(), spread).to(dtype)))), two = tape.gradients(sum(sparse * Var(seed)));
      for (const Var& input : {u, v, s}) CHECK(max_difference(one[input], two[input]) < eps * 20);
    }
}

TEST_CASE("images give the same bits for any number of threads, alone and in a batch", "[ops][conv]") {
  const int before = threads();
  const Tensor x = some({7, 3, 12, 11}, float32), w = some({5, 3, 3, 3}, float32), b = some({5}, float32);
  for (const Conv2dOptions& options : {Conv2dOptions{.padding = 1}, Conv2dOptions{.stride = 2}}) {
    std::vector<Tensor> results[2];
    for (int count : {1, 3}) {
      set_threads(count);
      Tape tape;
      const Var u = tape.watch(x), v = tape.watch(w), s = tape.watch(b);
      const Var y = max_pool2d(conv2d(u, v, s, options), 2);
      const Gradients gradients = tape.gradients(sum(y * y));
      results[count > 1] = {y.value(), gradients[u], gradients[v], gradients[s]};
    }
    set_threads(before);
    for (std::size_t i = 0; i < 4; ++i) CHECK(max_difference(results[0][i], results[1][i]) == 0);
    const Tensor all = conv2d(x, w, b, options).value();
    CHECK(max_difference(conv2d(slice(x, 0, 4, 5), w, b, options).value(), slice(all, 0, 4, 5)) == 0);
  }
}

TEST_CASE("max_pool2d gives the gradient to the first of equal entries, and lets NaN through", "[ops][conv]") {
  Tape tape;
  const Var x = tape.watch(from({1, 1, 2, 4}, {3., 3., double{NAN}, 1., 3., 0., 2., double{NAN}}));
  const Var y = max_pool2d(x, 2);
  CHECK(y.value()(0, 0, 0, 0) == 3);
  CHECK(std::isnan(y.value()(0, 0, 0, 1)));
  const Tensor dx = tape.gradients(sum(y * Var(from({1, 1, 1, 2}, {5., 7.}))))[x];
  CHECK(dx.to_vector<double>() == Numbers{5, 0, 7, 0, 0, 0, 0, 0});
  const Tensor low = full({1, 1, 2, 2}, -INFINITY, float64);
  CHECK(max_pool2d(low, 2, {.padding = 1}).value()(0, 0, 0, 0) == -INFINITY);
}

TEST_CASE("batch_norm gives the statistics of the batch, exact for large means", "[ops][norm]") {
  const Tensor x = some({64, 3, 5, 5}, float32) + 10000.0;
  const BatchStatistics out = batch_norm(x, ones({3}), zeros({3}));
  const Tensor exact = x.to(float64), m = mean(exact, {0, 2, 3});
  const Tensor d = exact - m.reshape({3, 1, 1});
  CHECK(max_difference(out.mean, m.to(float32)) == 0);
  CHECK(max_difference(out.variance.to(float64), mean(d * d, {0, 2, 3})) < 1e-3);
  CHECK(max(abs(mean(out.y.value(), {0, 2, 3}))).item() < 2e-3);
  CHECK(max(abs(mean(out.y.value() * out.y.value(), {0, 2, 3}) - 1.0)).item() < 2e-3);
}

TEST_CASE("images, windows and statistics of wrong sizes are refused by name", "[ops][conv][norm][errors]") {
  const Tensor x = ones({2, 3, 5, 5}), w = ones({4, 3, 3, 3});
  CHECK_THAT(error_of([&] { conv2d(ones({3, 5, 5}), w); }), Contains("conv2d: input must be [batch, channels, height, width]; got [3, 5, 5]"));
  CHECK_THAT(error_of([&] { conv2d(x, ones({4, 2, 3, 3})); }), Contains("conv2d: the weight's channels must be those of the input"));
  CHECK_THAT(error_of([&] { conv2d(x, ones({3, 3})); }), Contains("conv2d: the weight must be [out, in, height, width]; got [3, 3]"));
  CHECK_THAT(error_of([&] { conv2d(x, w, ones({3})); }), Contains("conv2d: the bias must be [4]; got [3]"));
  CHECK_THAT(error_of([&] { conv2d(x, ones({4, 3, 6, 6})); }), Contains("conv2d: the window must fit into the padded image; got a window 6x6"));
  CHECK_THAT(error_of([&] { conv2d(x, ones({4, 3, 0, 3})); }), Contains("conv2d: the window must not be empty; got 0x3"));
  CHECK_THAT(error_of([&] { conv2d(x, w, Conv2dOptions{.stride = 0}); }), Contains("conv2d: the stride must be positive; got 0x0"));
  CHECK_THAT(error_of([&] { conv2d(x, w, Conv2dOptions{.dilation = {1, 0}}); }), Contains("conv2d: the dilation must be positive; got 1x0"));
  CHECK_THAT(error_of([&] { conv2d(x, w, Conv2dOptions{.padding = -1}); }), Contains("conv2d: the padding must not be negative; got -1x-1"));
  CHECK_THAT(error_of([&] { conv2d(x, w.to(float64)); }), Contains("conv2d: dtypes must agree"));
  for (const Shape& none : {Shape{2, 3, 5, 0}, Shape{2, 3, 0, 5}}) {  // nor does padding make an image of nothing
    const std::string said = std::string(": images must have a height and a width; got [2, 3, ") + (none[2] ? "5, 0]" : "0, 5]");
    CHECK(error_of([&] { conv2d(ones(none), w, {.padding = 3}); }) == "conv2d" + said);
    CHECK(error_of([&] { max_pool2d(ones(none), 2, {.padding = 1}); }) == "max_pool2d" + said);
    CHECK(error_of([&] { avg_pool2d(ones(none), 2, {.padding = 1}); }) == "avg_pool2d" + said);
  }
  CHECK_THAT(error_of([&] { conv2d(ones({2, 0, 5, 5}), ones({4, 0, 3, 3})); }), Contains("and not none"));
  CHECK_THAT(error_of([&] { max_pool2d(x, 2, {.padding = 2}); }), Contains("max_pool2d: the padding must be at most half of the window 2x2; got 2x2"));
  CHECK_THAT(error_of([&] { avg_pool2d(x, 6); }), Contains("avg_pool2d: the window must fit"));
  CHECK_THAT(error_of([&] { max_pool2d(ones({1, 1, 2, 2}, int64), 2); }), Contains("max_pool2d"));
  CHECK_THAT(error_of([&] { batch_norm(ones({1, 3}), ones({3}), ones({3})); }), Contains("batch_norm: training needs more than one value a channel (a larger batch, or eval()); got [1, 3]"));
  CHECK_THAT(error_of([&] { batch_norm(ones({4, 3}), ones({2}), ones({3})); }), Contains("batch_norm: weight and bias must be [3] for input [4, 3]; got [2] and [3]"));
  CHECK_THAT(error_of([&] { batch_norm(ones({4}), ones({4}), ones({4})); }), Contains("batch_norm: input must be [batch, channels, ...]; got [4]"));
  CHECK_THAT(error_of([&] { batch_norm(ones({4, 3}), ones({3}), ones({3}), 0); }), Contains("batch_norm: eps must be positive; got 0"));
  CHECK_THAT(error_of([&] { layer_norm(ones({4, 3}), ones({4}), ones({4})); }), Contains("layer_norm: the weight's shape must be that of the input's last axes"));
  CHECK_THAT(error_of([&] { Size2(std::int64_t{1} << 40); }), Contains("size: must fit into 32 bits; got 1099511627776"));
}
