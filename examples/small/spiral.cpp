// Three spirals, told apart by a perceptron with two hidden layers: data, batches, training, judging.
// A straight line cannot part the arms; the network must bend its borders around them. Prints the loss as it falls, the
// share of new points that are told right, and a map of the plane that shows which arm the network sees where.
#include "optnet.h"

#include <iostream>
#include <numbers>

using namespace optnet;

/// n noisy points of three arms that wind around each other, and the arm of each.
Dataset spirals(std::int64_t n, Random& random) {
  const Tensor arm = argmax(uniform(random, {n, 3}));
  const Tensor radius = uniform(random, {n}, 0.1, 1);
  const Tensor angle = 2 * std::numbers::pi / 3 * arm.to(float32) + 5 * radius + normal(random, {n}, 0, 0.1);
  return {stack({radius * cos(angle), radius * sin(angle)}, 1), arm};
}

/// The plane from -1 to 1 as text: a sign for each arm.
void draw(const Sequential& net) {
  const int rows = 30, columns = 60;
  const Tensor across = arange(0, columns) / (columns / 2.0) - 1 + zeros({rows, 1});
  const Tensor down = (1 - arange(0, rows) / (rows / 2.0)).reshape({rows, 1}) + zeros({columns});
  const Tensor arm = argmax(net(stack({across, down}, 2)).value());  // [rows, columns]
  for (int i = 0; i < rows; ++i) {
    for (int j = 0; j < columns; ++j) std::cout << ".o#"[static_cast<int>(arm(i, j))];
    std::cout << '\n';
  }
}

int main(int argc, char** argv) try {
  spin_briefly(argv);
  std::int64_t epochs = 30;
  Random& random = default_random();  // the initial weights are drawn from it too
  read_flags(argc, argv, {{"--epochs", &epochs}, {"--seed", &random.seed}});

  const Dataset train = spirals(2000, random), test = spirals(1000, random);
  Sequential net{Linear{2, 32}, ReLU{}, Linear{32, 32}, ReLU{}, Linear{32, 3}};
  Adam adam{net.parameters(), {.lr = 0.01}};
  for (std::int64_t epoch = 0; epoch < epochs; ++epoch) {
    double loss = 0;
    for (const auto& [x, arm] : Batches(train, 50, random)) {
      Tape tape;
      const Var error = cross_entropy(net(x), arm);
      adam.step(tape.gradients(error));
      loss += error.item() * static_cast<double>(x.size(0)) / static_cast<double>(train.size());
    }
    if (epoch % 5 == 0) std::cout << "epoch " << epoch << "  loss " << loss << '\n';
  }
  const Tensor right = equal(argmax(net(test.x).value()), test.y);
  std::cout << "right on new points: " << mean(right.to(float32)).item() << "\n\n";
  draw(net);
  flush_output();
} catch (const Error& error) {
  std::cerr << "spiral: " << error.what() << '\n';
  return 2;
}
