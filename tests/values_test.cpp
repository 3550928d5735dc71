// The values of ops against naive loops on random shapes, and the same whatever the size and the number of threads.
#include "tests/naive.h"

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

TEST_CASE("reductions of tall matrices, wide and narrow, agree with those along rows", "[ops]") {
  Random random{10};
  for (std::int64_t columns : {1, 2, 3, 5, 8, 9, 15, 16, 17, 33})
    for (std::int64_t rows : {1, 7, 8191, 8192, 8193, 20'000}) {
      const Tensor x = random_tensor(random, {2, rows, columns}, int64, -99, 99), flat = transpose(x);
      INFO(x.shape());
      CHECK(same_bits(sum(x, {1}), sum(flat, {2})));
      CHECK(same_bits(max(x, {1}), max(flat, {2})));
      CHECK(same_bits(min(x, {1}), min(flat, {2})));
      CHECK(max_difference(sum(x.to(float32), {1}).to(int64), sum(flat, {2})) == 0);
    }
  CHECK(same_bits(sum(zeros({0, 3}), {0}), zeros({3})));
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

TEST_CASE("solve undoes what products did, and names the matrix and the column that are singular", "[ops]") {
  Random random{11};
  for (const Shape& batch : {Shape{}, Shape{3}, Shape{2, 2}, Shape{0}})
    for (std::int64_t n : {1, 2, 7, 40}) {
      Shape square = batch, columns = batch;
      square.push_back(n), square.push_back(n), columns.push_back(n), columns.push_back(3);
      const Tensor b = random_tensor(random, columns);
      const Tensor a = flip(random_tensor(random, square) + 8 * eye(n, float64), -1);  // pivots off the diagonal
      CHECK(max_difference(matmul(a, solve(a, b)), b) < 1e-10);
      CHECK(max_difference(solve(a.to(float32), b.to(float32)), solve(a, b).to(float32)) < 1e-3);
    }
  const Tensor singular = stack({eye(3, float64), from({3, 3}, {1., 2., 0., 2., 4., 1., 3., 6., 5.})}), b = ones({2, 3, 1}, float64);
  CHECK(error_of([&] { solve(singular, b); }) == "solve: the matrix must not be singular; matrix 1 of 2 has no pivot in column 1");
  CHECK_THAT(error_of([&] { solve(zeros({1, 1}), ones({1, 1})); }), Contains("matrix 0 of 1 has no pivot in column 0"));
  CHECK(std::isnan(solve(full({1, 1}, NAN, float64), ones({1, 1}, float64)).item()));
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
  const Tensor wide = random_tensor(random, {20, 40, 50}), narrow = random_tensor(random, {20, 50, 30}), tall = million.reshape({500'000, 2});
  const auto all = [&] {
    Random fresh{9};
    return std::vector<Tensor>{sum(million), sum(million, {0}), sum(million, {1}), sum(tall, {0}), max(tall, {0}), mean(million), max(million), min(million, {0}),
                               exp(million), million * slice(million, 0, 0, 1), million / slice(million, 1, 0, 1), softmax(million), argmax(million, 0),
                               matmul(a, b), matmul(a, b, {.transpose_a = true}), matmul(a, b, {.transpose_b = true}), matmul(a, b, {true, true}),
                               matmul(wide, narrow), matmul(wide, slice(narrow, 0, 0, 1)), transpose(million), concat({million, million}, 1),
                               gather(million, 1, permutation(fresh, 1000)), uniform(fresh, {100'000}), normal(fresh, {100'000}, 0, 1, float64),
                               cholesky(matmul(wide, wide, {.transpose_b = true}) + 1.0 * eye(40, float64)),
                               solve(slice(wide, 2, 0, 40), wide), var(million, {0}), norm(million), norm(million, {0}), logsumexp(million),
                               logsumexp(million, 0), cumsum(million, 0), cumsum(million, 1), flip(million, 1), pad(million, {{1, 2}, {3, 0}}),
                               repeat(tall, {2, 2}), tril(million), gelu(million), cross_entropy(million, argmax(million)).value()};
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
  CHECK(cumsum(full({1'000'000}, 0.1), 0)(999'999) == Approx(static_cast<double>(0.1f) * 1e6).epsilon(1e-7));
  CHECK(norm(full({1'000'000}, 0.1)).item() == Approx(static_cast<double>(0.1f) * 1e3).epsilon(1e-7));
  CHECK(var(arange(0, 1'000'000)).item() == Approx(1e6 * (1e6 + 1) / 12).epsilon(1e-6));
}
