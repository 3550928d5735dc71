// Projections onto constraints: each is a small quadratic program, and differentiable in its point and in its constraints.
// Prints the nearest points of a simplex, a box and a half-space, and how the nearest point moves with the point. Then learns
// a half-space that nobody shows it, g'z <= h, from points and their projections alone; prints it beside the true one.
#include "optnet.h"

#include <iomanip>
#include <iostream>

using namespace optnet;

void show(const char* name, const Tensor& x) {
  std::cout << std::left << std::setw(32) << name << std::right << std::fixed << std::setprecision(4);
  for (const double number : x.to_vector<double>()) std::cout << std::setw(9) << number;
  std::cout << '\n';
}

int main(int argc, char** argv) try {
  spin_briefly(argv);
  std::int64_t steps = 400;
  Random random;
  read_flags(argc, argv, {{"--steps", &steps}, {"--seed", &random.seed}});

  Tape tape;
  const Var x = tape.watch(from({3}, {0.9, 0.5, -1.0}));
  const Var simplex = project_simplex(x);
  show("the point x", x.value());
  show("nearest with z >= 0, sum z = 1", simplex.value());
  show("nearest with 0 <= z <= 0.6", project_box(x, 0.0, 0.6).value());
  show("nearest with z1 + z2 <= 1", project_polyhedron(x, from({1, 3}, {1.0, 1.0, 0.0}), ones({1}, float64)).value());
  show("d z1 / d x on the simplex", tape.gradients(slice(simplex, 0, 0, 1))[x]);

  const Tensor g_true = from({1, 3}, {0.6, -0.8, 0.0}), h_true = from({1}, {0.5});
  const Tensor points = normal(random, {64, 3}, 0, 2, float64);
  const Tensor projected = project_polyhedron(points, g_true, h_true).value();

  Param g(from({1, 3}, {1.0, 0.0, 0.0})), h(from({1}, {1.0}));  // a first guess, z1 <= 1
  Adam adam({{"g", g}, {"h", h}}, {.lr = 0.05});
  std::cout << '\n';
  for (std::int64_t step = 0; step <= steps; ++step) {
    Tape inner;
    const Var loss = mse(project_polyhedron(points, g, h), projected);
    if (step % 100 == 0) std::cout << "step " << std::setw(3) << step << std::scientific << std::setprecision(2) << "  loss " << loss.item() << '\n';
    adam.step(inner.gradients(loss));
  }
  const Tensor length = norm(g.value());  // a half-space stays the same if g and h grow alike
  std::cout << '\n';
  show("learned g, h", concat({(g.value() / length).reshape({3}), h.value() / length}, 0));
  show("true g, h", concat({g_true.reshape({3}), h_true}, 0));
  flush_output();
} catch (const Error& error) {
  std::cerr << "projections: " << error.what() << '\n';
  return 2;
}
