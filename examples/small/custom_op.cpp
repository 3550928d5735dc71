// An op of your own: its value in plain C++, and beside it the gradient's way back.
// Sorting moves numbers, so its gradient moves them back. With it a network learns to turn uniform noise into numbers like the
// data's: sorted, both must agree (the Wasserstein distance in one dimension). Prints what gradcheck says, the distance as it
// falls, and histograms of the data and of what the network makes.
#include "optnet.h"

#include <algorithm>
#include <iomanip>
#include <iostream>
#include <numeric>

using namespace optnet;

/// Where in x [n] the smallest number stands, the next, ... [n] int64
Tensor order_of(const Tensor& x) {
  const std::vector<double> numbers = x.to_vector<double>();
  std::vector<std::int64_t> order(numbers.size());
  std::iota(order.begin(), order.end(), 0);
  std::ranges::stable_sort(order, {}, [&](auto i) { return numbers[i]; });
  return from(x.shape(), order);
}

/// x [n] in rising order; the order of the order is the way back.
Var sorted(const Var& x) {
  const Tensor order = order_of(x.value());
  return record("sorted", gather(x.value(), 0, order), Wrt{x, [back = order_of(order)](const Tensor& dy) { return gather(dy, 0, back); }});
}

void histogram(const char* name, const Tensor& x) {
  std::cout << '\n' << name << '\n';
  for (double middle = -2.5; middle <= 2.5; middle += 0.5) {
    const double share = mean(less(abs(x - middle), 0.25)).item();
    std::cout << std::setw(5) << middle << ' ' << std::string(static_cast<std::size_t>(150 * share), '#') << '\n';
  }
}

int main(int argc, char** argv) try {
  spin_briefly(argv);
  std::int64_t steps = 1000;
  Random& random = default_random();
  read_flags(argc, argv, {{"--steps", &steps}, {"--seed", &random.seed}});
  std::cout << "gradcheck: " << gradcheck([](const std::vector<Var>& x) { return sorted(x[0]); }, {normal(random, {9}, 0, 1, float64)}) << '\n';
  Sequential net{Linear{1, 32}, Tanh{}, Linear{32, 32}, Tanh{}, Linear{32, 1}};
  Adam adam{net.parameters(), {.lr = 3e-3}};
  const auto noise = [&] { return uniform(random, {512, 1}, -1, 1); };
  const auto data = [&] { return concat({normal(random, {256}, -1.5, 0.3), normal(random, {256}, 1, 0.6)}, 0); };
  for (std::int64_t step = 0; step <= steps; ++step) {
    Tape tape;
    const Var distance = l1(sorted(reshape(net(noise()), {-1})), sorted(data()).value());
    adam.step(tape.gradients(distance));
    if (step % 200 == 0) std::cout << "step " << step << "  distance " << distance.item() << '\n';
  }
  histogram("data", data());
  histogram("network", net(noise()).value());
  flush_output();
} catch (const Error& error) {
  std::cerr << "custom_op: " << error.what() << '\n';
  return 2;
}
