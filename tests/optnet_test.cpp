// OptNet, and the layers that are quadratic programs by another name: values against algorithms of their own (sorting, pool
// adjacent violators, coordinate descent), gradients against known Jacobians and central differences, ties included.
#include "layers/projections.h"
#include "tests/naive.h"

#include <numeric>

namespace {

/// f of each row of x [B, n], as plain numbers.
template <class F>
Tensor by_row(const Tensor& x, const F& f) {
  std::vector<Tensor> rows;
  for (std::int64_t i = 0; i < x.size(0); ++i) rows.push_back(vec(f(slice(x, 0, i, i + 1).to_vector<double>())));
  return stack(rows);
}

/// d y_i / d x_j of a function of vectors. [outputs, inputs]
template <class F>
Tensor jacobian(const F& f, const Tensor& x) {
  std::vector<Tensor> rows;
  Tape tape;
  const Var leaf = tape.watch(x), y = reshape(f(leaf), {-1});
  for (std::int64_t i = 0; i < y.size(0); ++i) rows.push_back(tape.gradients(slice(y, 0, i, i + 1))[leaf].reshape({-1}));
  return stack(rows);
}

/// The matrix that replaces each entry by the mean of its group. [n, n]
Tensor averages(const std::vector<int>& group) {
  const std::size_t n = group.size();
  Numbers J;
  for (std::size_t i = 0; i < n; ++i)
    for (std::size_t j = 0; j < n; ++j)
      J.push_back(group[i] == group[j] ? 1.0 / static_cast<double>(std::count(group.begin(), group.end(), group[i])) : 0);
  return from({static_cast<std::int64_t>(n), static_cast<std::int64_t>(n)}, J);
}

/// tau such that sum max(x - tau, 0) = total, by sorting.
double threshold(Numbers x, double total) {
  std::sort(x.begin(), x.end(), std::greater<>());
  double sum = 0, tau = 0;
  for (std::size_t k = 0; k < x.size(); ++k) {
    sum += x[k];
    const double next = (sum - total) / static_cast<double>(k + 1);
    if (x[k] > next) tau = next;
  }
  return tau;
}

Numbers on_simplex(Numbers x, double total = 1) {
  const double tau = threshold(x, total);
  for (double& v : x) v = std::max(v - tau, 0.0);
  return x;
}

/// Total variation by exact coordinate descent on the dual: slow, sure. D row by row.
Numbers smoothed(const Numbers& y, double lambda, const std::vector<Numbers>& D) {
  Numbers u(D.size(), 0), z = y;
  for (double moved = 1; moved > 1e-14;) {
    moved = 0;
    for (std::size_t k = 0; k < D.size(); ++k) {
      const double norm = std::inner_product(D[k].begin(), D[k].end(), D[k].begin(), 0.0);
      const double next = std::clamp(u[k] + std::inner_product(D[k].begin(), D[k].end(), z.begin(), 0.0) / norm, -lambda, lambda);
      for (std::size_t i = 0; i < z.size(); ++i) z[i] -= (next - u[k]) * D[k][i];
      moved = std::max(moved, std::abs(next - u[k]));
      u[k] = next;
    }
  }
  return z;
}

std::vector<Numbers> differences(std::size_t n) {
  std::vector<Numbers> D(n - 1, Numbers(n, 0));
  for (std::size_t k = 0; k + 1 < n; ++k) D[k][k] = -1, D[k][k + 1] = 1;
  return D;
}

bool finite(const Tensor& x) { return std::isfinite(sum(abs(x)).item()); }

}  // namespace

// ---- OptNet ----------------------------------------------------------------------------------------------------

TEST_CASE("an OptNet layer solves the program of its parameters, and z0 stays feasible", "[optnet]") {
  seed(1);
  const OptNet layer{{.variables = 4, .inequalities = 5, .equalities = 2, .dtype = float64}};
  Param L = layer.L, z0 = layer.z0, log_s0 = layer.log_s0;
  z0.set(uniform(default_random(), {4, 1}, -3, 3, float64));
  log_s0.set(uniform(default_random(), {5}, -4, 1, float64));
  const Tensor x = random_tensor(default_random(), {7, 4}), z = layer(x).value();
  const Tensor G = layer.G.value(), A = layer.A.value(), lower = matmul(eye(4, float64), L.value());
  const Tensor h = matmul(G, z0.value()).reshape({-1}) + exp(log_s0.value()), b = matmul(A, z0.value()).reshape({-1});
  CHECK(max(matmul(z, G, {.transpose_b = true}) - h).item() < 1e-8);
  CHECK(max(abs(matmul(z, A, {.transpose_b = true}) - b)).item() < 1e-8);
  const Tensor index = arange(0, 4, 1, float64), triangle = lower * less_equal(index, index.reshape({4, 1}));
  const Tensor Q = matmul(triangle, triangle, {.transpose_b = true}) + 1e-4 * eye(4, float64);
  CHECK(max_difference(z, argmin({.Q = Q, .q = x, .G = G, .h = h, .A = A, .b = b}).value()) < 1e-9);
}

TEST_CASE("an OptNet layer's gradients are right for its input and every parameter", "[optnet][gradient]") {
  seed(2);
  const OptNet layer{{.variables = 3, .inequalities = 3, .equalities = 1, .eps = 0.1, .dtype = float64}};
  Param(layer.log_s0).set(full({3}, -1, float64));
  std::vector<Param> params;
  std::vector<Tensor> at{random_tensor(default_random(), {4, 3})};
  for (const auto& [name, param] : layer.parameters()) params.push_back(param), at.push_back(param.value());
  REQUIRE(params.size() == 5);
  Tape tape;
  const Var x = tape.watch(at[0]), weights(random_tensor(default_random(), {4, 3}));
  const Gradients g = tape.gradients(sum(weights * layer(x)));
  const auto value = [&] { return sum(weights.value() * layer(at[0]).value()).item(); };
  for (std::size_t k = 0; k < at.size(); ++k) {
    Numbers numbers = at[k].to_vector<double>(), differences;
    for (double& entry : numbers) {
      const double there = entry, h = 1e-5;
      double change = 0;
      for (const double sign : {1.0, -1.0}) {
        entry = there + sign * h;
        const Tensor moved = from(at[k].shape(), numbers);
        if (k) params[k - 1].set(moved);
        change += sign * (k ? value() : sum(weights.value() * layer(moved).value()).item());
      }
      entry = there;
      differences.push_back(change / (2 * h));
    }
    if (k) params[k - 1].set(at[k]);
    CHECK(max_difference(k ? g[params[k - 1]] : g[x], from(at[k].shape(), differences)) < 1e-6);
  }
}

TEST_CASE("an OptNet layer refuses sizes and inputs that make no sense", "[optnet]") {
  CHECK(error_of([] { OptNet{{.variables = 0}}; }) == "OptNet: needs variables > 0 and inequalities, equalities >= 0; got 0, 0, 0");
  CHECK(error_of([] { OptNet{{.variables = 2, .eps = 0}}; }) == "OptNet: eps must be positive, so that Q is definite; got 0");
  CHECK(error_of([] { OptNet{{.variables = 2}}(ones({3})); }) == "OptNet: input must be [batch, 2]; got [3]");
}

// ---- projections -----------------------------------------------------------------------------------------------

TEST_CASE("the projection on the simplex agrees with sorting", "[optnet]") {
  Random random{3};
  for (const std::int64_t n : {1, 2, 5, 40, 300})
    for (const double total : {1.0, 0.25, 7.0}) {
      const Tensor x = random_tensor(random, {6, n});
      const Tensor expected = by_row(x, [&](const Numbers& row) { return on_simplex(row, total); });
      const Tensor z = project_simplex(x, total).value();
      CHECK(max_difference(z, expected) < 1e-9);
      CHECK(same_bits(equal(z, zeros({}, float64)), equal(expected, zeros({}, float64))));
      CHECK(min(z).item() >= 0);
      CHECK(max_difference(project_simplex(x.to(float32), total).value(), expected.to(float32)) < 1e-5);
    }
  const Tensor x = random_tensor(random, {2, 3, 4});
  CHECK(same_bits(project_simplex(x).value(), project_simplex(x.reshape({6, 4})).value().reshape({2, 3, 4})));
  CHECK(max_difference(project_simplex(vec({0.5, 1.5, -1})).value(), vec({0, 1, 0})) < 1e-12);
}

TEST_CASE("sparsemax has its threshold formula's values and Jacobian", "[optnet][gradient]") {
  Random random{4};
  const Tensor x = random_tensor(random, {5, 8});
  CHECK(max_difference(Sparsemax{}(x).value(), by_row(x, [](const Numbers& row) { return on_simplex(row); })) < 1e-12);
  const Tensor row = slice(x, 0, 0, 1), z = sparsemax(row).value();  // Jacobian: diag(s) - s s' / |s|, s the support
  const Tensor s = greater(z, zeros({}, float64)), k = sum(s);  // zeros are exact
  CHECK(max_difference(jacobian(sparsemax, row), eye(8, float64) * s - matmul(s, s, {.transpose_a = true}) / k) < 1e-9);
  CHECK(gradcheck([](const std::vector<Var>& v) { return sparsemax(v[0]); }, {x}));
  CHECK(gradcheck([](const std::vector<Var>& v) { return project_simplex(v[0], v[1]); }, {x, full({}, 1.3, float64)}));
  CHECK(gradcheck([](const std::vector<Var>& v) { return project_simplex(v[0], v[1]); }, {x, uniform(random, {5, 1}, 0.5, 2, float64)}));
  CHECK(max_difference(jacobian(sparsemax, vec({3})), zeros({1, 1}, float64)) < 1e-12);
  CHECK(max_difference(jacobian(sparsemax, row.to(float32)), jacobian(sparsemax, row).to(float32)) < 1e-6);
}

TEST_CASE("the projection on a box is a clamp, with a clamp's gradients", "[optnet][gradient]") {
  Random random{5};
  const Tensor x = random_tensor(random, {6, 5}), low = random_tensor(random, {5}, float64, -1.5, -0.5), high = random_tensor(random, {6, 5}, float64, 0.2, 1);
  CHECK(max_difference(project_box(x, low, high).value(), minimum(maximum(x, low), high)) < 1e-12);
  CHECK(max_difference(project_box(x, 0.0, INFINITY).value(), relu(x)) < 1e-12);
  CHECK(max_difference(project_box(x.to(float32), -1.0, 0.5).value(), minimum(maximum(x, full({}, -1, float64)), full({}, 0.5, float64)).to(float32)) < 1e-6);
  CHECK(gradcheck([](const std::vector<Var>& v) { return project_box(v[0], v[1], v[2]); }, {x, low, high}));
  Tape tape;
  const Var a = tape.watch(x), b = tape.watch(low), c = tape.watch(high);
  const Gradients g = tape.gradients(sum(project_box(a, b, c)));
  const Gradients expected = tape.gradients(sum(minimum(maximum(a, b), c)));
  for (const Var& leaf : {a, b, c}) CHECK(max_difference(g[leaf], expected[leaf]) < 1e-9);
}

TEST_CASE("the projection on a half-space has a closed form, and many meet", "[optnet][gradient]") {
  Random random{6};
  const Tensor x = random_tensor(random, {6, 4}), g = random_tensor(random, {1, 4}), h = vec({0.3});
  const Tensor excess = relu(matmul(x, g, {.transpose_b = true}) - h);  // z = x - g (g'x - h)+ / g'g
  CHECK(max_difference(project_polyhedron(x, g, h).value(), x - excess * g / sum(g * g)) < 1e-10);
  const auto f = [](const std::vector<Var>& v) { return project_polyhedron(v[0], v[1], v[2]); };
  CHECK(gradcheck(f, {x, g, h}));
  CHECK(gradcheck(f, {x, random_tensor(random, {3, 4}), uniform(random, {3}, 0, 1, float64)}));
  CHECK(gradcheck(f, {x, random_tensor(random, {6, 3, 4}), uniform(random, {6, 3}, 0, 1, float64)}));
}

// ---- along a line ----------------------------------------------------------------------------------------------

TEST_CASE("isotonic regression agrees with pool adjacent violators", "[optnet]") {
  Random random{7};
  for (const std::int64_t n : {1, 2, 3, 10, 60, 300})
    for (const double trend : {0.0, 1.0, -1.0}) {  // descending: one pool of all
      const Tensor x = random_tensor(random, {4, n}) + trend * arange(0, static_cast<double>(n), 1, float64);
      const Tensor expected = by_row(x, pooled);
      INFO(n << ", " << trend);
      CHECK(max_difference(isotonic(x).value(), expected) < 1e-9 * static_cast<double>(n));
      CHECK(max_difference(isotonic(x.to(float32)).value(), by_row(x.to(float32), pooled).to(float32)) < 1e-4);
    }
}

TEST_CASE("isotonic regression's Jacobian takes the mean of each pool", "[optnet][gradient]") {
  CHECK(max_difference(jacobian(isotonic, vec({3, 1, 1.5, 5, 4, 9})), averages({0, 0, 0, 1, 1, 2})) < 1e-9);
  CHECK(max_difference(jacobian(isotonic, vec({7})), ones({1, 1}, float64)) == 0);
  Random random{8};
  CHECK(gradcheck([](const std::vector<Var>& v) { return isotonic(v[0]); }, {random_tensor(random, {4, 9})}));
}

TEST_CASE("total variation agrees with coordinate descent on its dual", "[optnet]") {
  Random random{9};
  for (const std::int64_t n : {1, 2, 3, 12, 40})
    for (const double lambda : {0.05, 0.5, 3.0}) {
      const Tensor y = random_tensor(random, {4, n});
      const auto reference = [&](const Numbers& row) { return smoothed(row, lambda, differences(row.size())); };
      INFO(n << ", " << lambda);
      CHECK(max_difference(total_variation(y, lambda).value(), by_row(y, reference)) < 1e-9);
      CHECK(max_difference(TotalVariation{{.size = n, .lambda = lambda}}(y.to(float32)).value(), by_row(y, reference).to(float32)) < 1e-5);
    }
  const Tensor y = random_tensor(random, {2, 3, 8});
  CHECK(same_bits(total_variation(y, 0.3).value(), total_variation(y.reshape({6, 8}), 0.3).value().reshape({2, 3, 8})));
  CHECK(max_difference(total_variation(y, 100.0).value(), mean(y, {-1}, {.keepdims = true}) + zeros({8}, float64)) < 1e-9);
  const Tensor D = random_tensor(random, {3, 8}), x = random_tensor(random, {4, 8});
  std::vector<Numbers> rows;
  for (int k = 0; k < 3; ++k) rows.push_back(slice(D, 0, k, k + 1).to_vector<double>());
  CHECK(max_difference(total_variation(x, 0.4, D).value(), by_row(x, [&](const Numbers& row) { return smoothed(row, 0.4, rows); })) < 1e-9);
}

TEST_CASE("total variation's gradients are right for y, lambda and D", "[optnet][gradient]") {
  Random random{10};
  const Tensor y = random_tensor(random, {4, 7});
  CHECK(gradcheck([](const std::vector<Var>& v) { return total_variation(v[0], v[1]); }, {y, full({}, 0.4, float64)}));
  CHECK(gradcheck([](const std::vector<Var>& v) { return total_variation(v[0], v[1], v[2]); },
                  {y, uniform(random, {4}, 0.2, 0.6, float64), random_tensor(random, {4, 7})}));
  CHECK(gradcheck([](const std::vector<Var>& v) { return total_variation(v[0], v[1], v[2]); },  // more rows than columns: many u, one z
                  {y, full({}, 0.1, float64), random_tensor(random, {10, 7})}, {.tolerance = 1e-5}));
  // Pieces move with their mean, and at a rate of +-1 / size with lambda.
  const Tensor x = vec({0, 0.1, -0.1, 5, 5.2, 5.1});
  const auto f = [](const Var& v) { return total_variation(v, 0.5); };
  CHECK(max_difference(jacobian(f, x), averages({0, 0, 0, 1, 1, 1})) < 1e-9);
  CHECK(max_difference(jacobian([&](const Var& lambda) { return total_variation(x, lambda); }, full({}, 0.5, float64)).reshape({6}),
                       vec({1, 1, 1, -1, -1, -1}) / 3.0) < 1e-9);
}

TEST_CASE("a total variation layer learns its lambda, and D if asked", "[optnet]") {
  const auto names = [](const Module& module) {
    std::string out;
    for (const auto& [name, param] : module.parameters()) out += name + " ";
    return out;
  };
  CHECK(names(TotalVariation{{.size = 5}}) == "log_lambda ");
  CHECK(names(TotalVariation{{.size = 5, .learn_D = true}}) == "log_lambda D ");
  Random random{11};
  const Tensor clean = concat({zeros({16, 10}), ones({16, 10})}, 1), y = clean + normal(random, {16, 20}, 0, 0.3);
  for (const bool learn_D : {false, true}) {
    TotalVariation layer{{.size = 20, .lambda = 0.01, .learn_D = learn_D}};
    Adam adam{layer.parameters(), {.lr = 0.05}};
    const double first = mse(layer(y), clean).item();
    for (int i = 0; i < 100; ++i) {
      Tape tape;
      adam.step(tape.gradients(mse(layer(y), clean)));
    }
    CHECK(mse(layer(y), clean).item() < 0.4 * first);
    CHECK(exp(layer.log_lambda.value()).item() > 0.1);
  }
  TotalVariation layer{{.size = 4, .learn_D = true}};
  layer.to(float64);
  CHECK(layer(ones({2, 4}, float64)).dtype() == float64);
  CHECK(error_of([] { TotalVariation{{.size = 0}}; }) == "TotalVariation: size must be positive; got 0");
  CHECK(error_of([] { TotalVariation{{.size = 3, .lambda = 0}}; }) == "TotalVariation: lambda must be positive and finite; got 0");
  CHECK(error_of([&] { layer(ones({2, 5})); }) == "TotalVariation: input must be [..., 4]; got [2, 5]");
}

TEST_CASE("projections refuse in their own terms what they cannot do, and take an empty batch", "[optnet][errors]") {
  const Tensor x = ones({2, 3}), bad = from<float>({1, 3}, {1, std::numeric_limits<float>::quiet_NaN(), 2});
  CHECK(error_of([&] { project_simplex(x, from<float>({2, 1}, {1, -2})); }) == "project_simplex: total must not be negative; got -2");
  CHECK(error_of([&] { project_box(x, from<float>({3}, {0, 1, 2}), 1.5); }) == "project_box: low must be at most high; got 2");
  CHECK(error_of([&] { total_variation(x, -1); }) == "total_variation: lambda must not be negative; got -1");
  const std::pair<std::string, std::function<Var(const Var&)>> ops[]{
      {"project_simplex", sparsemax}, {"isotonic", isotonic}, {"project_box", [](const Var& v) { return project_box(v, 0, 1); }},
      {"total_variation", [](const Var& v) { return total_variation(v, 1); }}};
  for (const auto& op : ops) {
    CHECK(error_of([&] { op.second(bad); }).starts_with(op.first + ": input must be finite; got "));
    CHECK(op.second(ones({0, 3})).shape() == Shape{0, 3});
  }
}

// ---- ties: where the derivative is not unique, it is one of the one-sided ones, or between them ------------------

TEST_CASE("derivatives at ties are finite and between the one-sided ones", "[optnet][gradient]") {
  const auto between = [](const Tensor& J, const Tensor& a, const Tensor& b) {
    return max(maximum(minimum(a, b) - J, J - maximum(a, b))).item() < 1e-7;
  };
  const Tensor I = eye(2, float64), zero = zeros({2, 2}, float64);
  // (1, 0) is on the simplex, and leaves it for its second entry in one direction only.
  CHECK(between(jacobian(sparsemax, vec({1, 0})), zero, averages({0, 1}) - averages({0, 0})));
  // Equal entries inside or outside the support are no tie.
  CHECK(max_difference(jacobian(sparsemax, vec({2, 2, 0, 0})), eye(4, float64) * vec({1, 1, 0, 0}) - averages({0, 0, 1, 1}) * vec({1, 1, 0, 0})) < 1e-9);
  CHECK(between(jacobian([](const Var& v) { return project_box(v, -1.0, 1.0); }, vec({1, -1})), zero, I));
  CHECK(between(jacobian(isotonic, vec({1, 1})), I, averages({0, 0})));
  CHECK(max_difference(jacobian([](const Var& v) { return total_variation(v, 0.5); }, vec({1, 1, 1})), averages({0, 0, 0})) < 1e-9);
  CHECK(between(jacobian([](const Var& v) { return total_variation(v, 0.5); }, vec({0, 1})), I, averages({0, 0})));
  for (const std::int64_t n : {1, 2, 5, 50}) {
    for (const Tensor& x : {zeros({3, n}, float64), ones({3, n}, float64) / static_cast<double>(n)}) {
      INFO(n);
      for (const auto& f : std::initializer_list<std::function<Var(const Var&)>>{sparsemax, isotonic, [](const Var& v) { return total_variation(v, 0.0); },
                                                                                 [](const Var& v) { return project_box(v, 0.0, 0.0); },
                                                                                 [](const Var& v) { return project_box(v, 0.0, 1.0); }}) {
        const Tensor J = jacobian(f, x);
        CHECK(finite(J));
        CHECK(max(abs(J)).item() < 1 + 1e-7);
      }
    }
  }
}
