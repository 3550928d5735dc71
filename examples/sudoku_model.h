// The two networks that learn Sudoku: one whose only layer is a QP, and a perceptron to compare it with.
#pragma once

#include "layers/layers.h"
#include "layers/optnet.h"

#include "framework/io.h"

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

struct Unsolvable : Error {
  using Error::Error;
};

/// Either of the two, under the name that --model gives it.
struct Network : Module {
  std::string name;
  double eps;
  std::function<Var(const Var&)> forward;

  Network(const std::string& name, double eps);
  /// Throws Unsolvable if the parameters leave the QP without a solution.
  Var operator()(const Var& puzzles) const;
};

void save_network(const std::filesystem::path& path, const Network& network, const NamedTensors& parameters);
/// Throws Error that names the file and the fault.
Network load_network(const std::filesystem::path& path);

}  // namespace sudoku
