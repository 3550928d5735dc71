// Layers that are quadratic programs by another name: projections, sparsemax, isotonic regression, total variation. Each
// is a few lines over argmin (layers/optnet.h), differentiable in every argument. x is [n], [B, n] or has more axes
// before the last one, unless it says otherwise; Sequential takes the functions of one argument as layers.
#pragma once

#include "layers/optnet.h"

namespace optnet {

/// The nearest point with z >= 0, sum z = total; its zeros are exact. `total` is a positive number, or [B, 1].
Var project_simplex(const Var& x, const Var& total = 1.0);
/// The nearest point with low <= z <= high; both are numbers, [n], or [B, n]; infinite where there is no side.
Var project_box(const Var& x, const Var& low, const Var& high);
/// The nearest point with G z <= h.  x [B, n], G [m, n], h [m]; or [B, m, n], [B, m].
Var project_polyhedron(const Var& x, const Var& G, const Var& h);

/// A softmax with zeros: the projection on {z >= 0, sum z = 1}. Martins and Astudillo 2016.
Var sparsemax(const Var& x);
struct Sparsemax : Module {
  Var operator()(const Var& x) const { return sparsemax(x); }
};

/// Isotonic regression: argmin_z 1/2 |x - z|^2 with z_1 <= z_2 <= ... <= z_n.
Var isotonic(const Var& x);

/// argmin_z 1/2 |y - z|^2 + lambda sum_i |(D z)_i|, with D z = z_{i+1} - z_i unless it is given: what is left is piecewise
/// constant. Rudin, Osher and Fatemi 1992, in one dimension. lambda >= 0 is a number or [k], D [k, n].
Var total_variation(const Var& y, const Var& lambda);
Var total_variation(const Var& y, const Var& lambda, const Var& D);

struct TotalVariationOptions {
  std::int64_t size = 0;  // n
  double lambda = 1;      // at first
  bool learn_D = false;   // D begins as first differences, [n-1, n]
  DType dtype = float32;
};
/// total_variation with learned lambda = exp(log_lambda), and a learned D if asked.
class TotalVariation : public Module {
 public:
  explicit TotalVariation(const TotalVariationOptions& options);
  Var operator()(const Var& y) const;

  Param log_lambda, D;

 private:
  std::int64_t size_;
  bool learn_D_;
};

}  // namespace optnet
