// Linear regression: the smallest training loop, and a check on what it finds.
// 100 noisy points of the plane y = 2 x1 - 3 x2 + 1/2. Gradient descent and the normal equations X'X w = X'y, solved by
// Cholesky, reach the same weights: not quite the true ones, but the best that these points allow. Prints all three.
#include "optnet.h"

#include <iomanip>
#include <iostream>

using namespace optnet;

int main(int argc, char** argv) try {
  std::int64_t steps = 100;
  Random random;
  read_flags(argc, argv, {{"--steps", &steps}, {"--seed", &random.seed}});

  const Tensor truth = from({3, 1}, {2.0, -3.0, 0.5});
  const Tensor x = concat({normal(random, {100, 2}, 0, 1, float64), ones({100, 1}, float64)}, 1);  // the last column carries the constant
  const Tensor y = matmul(x, truth) + normal(random, {100, 1}, 0, 0.2, float64);

  Param w(zeros({3, 1}, float64));
  SGD sgd({{"w", w}}, {.lr = 0.1});
  for (std::int64_t step = 0; step < steps; ++step) {
    Tape tape;
    const Var loss = mse(matmul(x, w), y);
    if (step % 10 == 0) std::cout << "step " << std::setw(3) << step << "  loss " << loss.item() << '\n';
    sgd.step(tape.gradients(loss));
  }

  const Tensor L = cholesky(matmul(x, x, {.transpose_a = true}));
  const Tensor Xy = matmul(x, y, {.transpose_a = true});
  const Tensor best = solve_lower(L, solve_lower(L, Xy), {.transpose = true});

  std::cout << std::fixed << std::setprecision(6) << "\n   gradient descent  least squares  truth\n";
  for (int i = 0; i < 3; ++i)
    std::cout << "w" << i + 1 << std::setw(17) << w.value()(i, 0) << std::setw(15) << best(i, 0) << std::setw(11) << truth(i, 0) << '\n';
  flush_output();
} catch (const Error& error) {
  std::cerr << "linear_regression: " << error.what() << '\n';
  return 2;
}
