// The code of README.md and docs/quick_tour.md, as one program; a test checks that they show what stands here.
#include "optnet.h"

#include <iostream>

using namespace optnet;

// A layer of your own: a struct with a call operator, and its parameters declared where they stand.
struct Block : Module {
  Linear inner = child("inner", Linear{16, 16});
  Param scale = param("scale", ones({1}));

  Var operator()(const Var& x) const { return x + scale * relu(inner(x)); }
};

// A small LeNet, under the names that it has in PyTorch.
struct LeNet : Module {
  Conv2d conv1 = child("conv1", Conv2d{1, 2, 5, {.padding = 2}});
  Conv2d conv2 = child("conv2", Conv2d{2, 4, 5});
  Linear fc1 = child("fc1", Linear{4 * 5 * 5, 12}), fc2 = child("fc2", Linear{12, 12}), fc3 = child("fc3", Linear{12, 10});

  Var operator()(const Var& x) const {
    Var y = max_pool2d(relu(conv1(x)), 2);
    y = max_pool2d(relu(conv2(y)), 2);
    return fc3(relu(fc2(relu(fc1(Flatten{}(y))))));
  }
};

// An op of your own: its value, and for each input the way back.
Var square(const Var& x) {
  return record("square", x.value() * x.value(),
                Wrt{x, [x = x.value()](const Tensor& dy) { return 2.0 * x * dy; }});
}

void tensors() {
  Tensor a = from({2, 3}, {1.0f, 2.0f, 3.0f, 4.0f, 5.0f, 6.0f});
  Tensor b = a + 10 * ones({3});
  std::cout << b << '\n' << sum(b, {1}) << '\n' << matmul(a, b, {.transpose_b = true}) << '\n';
}

void gradients() {
  Param w(from({2}, {1.0, 2.0}));
  Tape tape;
  Var loss = sum(square(w));
  Gradients gradients = tape.gradients(loss);
  std::cout << gradients[w] << '\n';  // [2, 4]
}

void check() {
  std::cout << gradcheck([](const std::vector<Var>& x) { return square(x[0]); }, {from({2}, {1.0, -3.0})}) << '\n';
}

void projection() {
  Param x(from({3}, {0.5, 1.5, -1.0}));
  Tape tape;
  // The point of the simplex {z >= 0, sum z = 1} nearest to x, and how it moves with x.
  Var z = argmin({.Q = 1.0, .q = -Var(x), .A = ones({1, 3}, float64), .b = ones({1}, float64), .lower = 0.0});
  Gradients gradients = tape.gradients(slice(z, 0, 0, 1));
  std::cout << z.value() << '\n' << gradients[x] << '\n';
}

void train() {
  seed(0);
  Random random{1};
  Tensor inputs = normal(random, {512, 4});
  Dataset data{inputs, argmax(inputs)};  // the task: which of four numbers is the largest?

  Sequential net{Linear{4, 16}, ReLU{}, Block{}, Linear{16, 8}, OptNet{{.variables = 8, .inequalities = 8}}, Linear{8, 4}};
  Adam adam{net.parameters(), {.lr = 0.01}};
  for (int epoch = 0; epoch < 10; ++epoch)
    for (const auto& [x, y] : Batches(data, 64, random)) {
      Tape tape;
      adam.step(tape.gradients(cross_entropy(net(x), y)));
    }
  Tensor right = equal(argmax(net(data.x).value()), data.y);
  std::cout << "right: " << mean(right.to(float32)).item() << '\n';
  net.save("tour.safetensors");
}

void pretrained() {
  LeNet net;
  net.load("tests/data/lenet.safetensors");
  net.eval();
  std::cout << net(zeros({1, 1, 28, 28})).value() << '\n';
}

void trainer() {
  Random random{1};
  Tensor x = normal(random, {512, 4});
  Sequential net{Linear{4, 16}, ReLU{}, Linear{16, 4}};
  Adam adam{net.parameters()};
  RunFiles files("tour_run");
  fit({.state = net.state(), .optimizer = adam, .train = {x, argmax(x)}, .batch = 64, .epochs = 3,
       .loss = [&](const Dataset& batch, Epoch&) { return cross_entropy(net(batch.x), batch.y); },
       .rate = [](std::int64_t step, std::int64_t steps) { return cosine_decay(0.03, step, steps); }, .files = files});
}

int main() try {
  tensors();
  gradients();
  check();
  projection();
  train();
  trainer();
  pretrained();  // reads a file of the repository, so from its root
  flush_output();
} catch (const Error& error) {
  std::cerr << "quick_tour: " << error.what() << '\n';
  return 1;
}
