// The networks that learn Sudoku: one whose only layer is a QP, and a perceptron and a convolutional net to compare it with.
#pragma once

#include "layers/images.h"
#include "layers/init.h"
#include "layers/layers.h"
#include "layers/optnet.h"

#include "framework/fit.h"

namespace sudoku {

using namespace optnet;

/// z* = argmin 1/2 eps z'z - puzzle'z  subject to  A z = b, z >= 0.   puzzles [B, 64] -> z [B, 64]
/// Nothing here says what a row, a column or a box is: A and b start from random numbers, and that 40 linear
/// equations hold of every solution is all the model is given. b = A exp(log_z0) makes them always solvable.
struct RuleLearner : Module {
  Param A = param("A", uniform(default_random(), {40, 64}));
  Param log_z0 = param("log_z0", zeros({64, 1}));
  double eps;

  explicit RuleLearner(double eps_) : eps(eps_) {}

  Var operator()(const Var& puzzles) const {
    const Var b = matmul(A, exp(Var(log_z0)));
    return argmin({.Q = eps, .q = -puzzles, .A = A, .b = reshape(b, {40}), .lower = 0.0}, {.active_set = false});
  }
};

/// The usual network: enough weights to learn its puzzles by heart.
inline Sequential perceptron() { return Sequential{Linear{64, 512}, ReLU{}, Linear{512, 64}}; }

/// The paper's baseline, scaled to train here in a minute (the paper: ten 3x3 convolutions of 512 channels): the board is an
/// image of 4 x 4 pixels with a channel a digit.   puzzles [B, 64] -> [B, 64]
struct ConvNet : Module {
  Sequential layers = child("layers", Sequential{conv(4, 64), ReLU{}, conv(64, 64), ReLU{}, conv(64, 64), ReLU{}, conv(64, 64), ReLU{}, conv(64, 4)});

  static Conv2d conv(std::int64_t in, std::int64_t out) {
    Conv2d layer(in, out, 3, {.padding = 1});
    layer.weight.set(kaiming_normal(default_random(), layer.weight.shape()));
    return layer;
  }
  Var operator()(const Var& puzzles) const {
    const Var images = reshape(transpose(reshape(puzzles, {-1, 16, 4})), {-1, 4, 4, 4});  // digits last -> first
    return reshape(transpose(reshape(layers(images), {-1, 4, 16})), {-1, 64});
  }
};

/// Parameters that leave the QP without a solution.
struct Unsolvable : Diverged {
  using Diverged::Diverged;
};

/// Any of them, under the name that --model gives it.
struct Network : Module {
  std::string name;
  double eps;
  std::function<Var(const Var&)> forward;

  Network(const std::string& name, double eps);
  /// Throws Unsolvable if the parameters leave the QP without a solution.
  Var operator()(const Var& puzzles) const;
};

/// From a model.safetensors of sudoku_train. Throws Error that names the file and the fault.
Network load_network(const std::filesystem::path& path);

}  // namespace sudoku
