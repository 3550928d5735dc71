// A layer of your own: a struct that names its parameters and children, and a call operator; nothing else.
// This one multiplies two linear maps, so it learns products of its inputs, at which a perceptron of the same size is poor.
// Prints the network as a table, both errors, and how far the answers of a copy are off that was saved and loaded: not at all.
#include "optnet.h"

#include <iostream>

using namespace optnet;

/// y = (A x) * (B x + b) + c, elementwise. Shazeer 2020 calls it bilinear.
struct Bilinear : Module {
  Linear left, right;
  Param shift;

  Bilinear(std::int64_t in, std::int64_t out)
      : left(child("left", Linear{in, out, {.bias = false}})), right(child("right", Linear{in, out})), shift(param("shift", zeros({out}))) {}
  Var operator()(const Var& x) const { return left(x) * right(x) + shift; }
};

/// y = x1 x2 + x2 x3 + ... + x5 x6
Dataset products(std::int64_t n, Random& random) {
  const Tensor x = normal(random, {n, 6});
  return {x, sum(slice(x, 1, 0, 5) * slice(x, 1, 1, 6), {1}, {.keepdims = true})};
}

/// The mean squared error on new data after training.
double train(Sequential& net, std::int64_t steps, Random random) {
  Adam adam{net.parameters()};
  for (std::int64_t step = 0; step < steps; ++step) {
    const auto [x, y] = products(128, random);
    Tape tape;
    adam.lr = cosine_decay(0.01, step, steps);
    adam.step(tape.gradients(mse(net(x), y)));
  }
  const auto [x, y] = products(1000, random);
  return mse(net(x), y).item();
}

int main(int argc, char** argv) try {
  spin_briefly(argv);
  std::int64_t steps = 1500;
  std::string file = "custom_layer.safetensors";
  Random& random = default_random();
  read_flags(argc, argv, {{"--steps", &steps}, {"--file", &file}, {"--seed", &random.seed}});

  Sequential perceptron{Linear{6, 30}, ReLU{}, Linear{30, 1}}, net{Bilinear{6, 16}, Linear{16, 1}};
  net.save(file);  // a file that cannot be written shows before the training
  std::cout << summary(net, {6}) << "\nerror of the perceptron: " << train(perceptron, steps, random) << '\n'
            << "error with the layer:    " << train(net, steps, random) << '\n';
  net.save(file);
  Sequential copy{Bilinear{6, 16}, Linear{16, 1}};
  copy.load(file);
  const Tensor x = uniform(random, {100, 6});
  std::cout << "the copy is off by:      " << max(abs(net(x) - copy(x))).item() << '\n';
  flush_output();
} catch (const Error& error) {
  std::cerr << "custom_layer: " << error.what() << '\n';
  return 2;
}
