// A QP in plain numbers, the units it is measured in, and how well an answer proves what its status says. Nothing here
// relies on what the solver says of itself; long sums are in extended precision.
#pragma once

#include "optnet.h"

#include <limits>
#include <vector>

using namespace optnet;

/// One problem in its longest form: Q [n, n], every side in full length, infinite where there is none.
struct PlainQP {
  int n = 0, m = 0, p = 0;
  std::vector<double> Q{}, q{}, G{}, h{}, lower_g{}, A{}, b{}, lower{}, upper{};
};

struct PlainAnswer {
  std::vector<double> z, nu, lambda, dual_lower, dual_upper, dual_lower_g;
};

/// What one of each thing is worth: z is given as variables * z, row i of G as rows_i G_i, the objective times objective.
/// Powers of two, so that a change of units rounds nothing.
struct Units {
  std::vector<double> variables, rows, equalities;
  double objective = 1;
};
PlainQP in_units(PlainQP, const Units&);
/// An answer to in_units(qp, units) as one to qp: a solution, or a certificate of that status.
PlainAnswer from_units(PlainAnswer, const Units&, QPStatus);

/// How a batch writes its Q.
enum class Form { dense, diagonal, scalar, absent };
/// Elements of equal sizes as a batch; `shared` where they have the same Q, G and A. Sides that no element has are left out.
QP<Tensor> batch_of(const std::vector<PlainQP>&, Form = Form::dense, bool shared = false);
/// Element e of any batch, and of its solution.
PlainQP element_of(const QP<Tensor>&, std::int64_t e);
PlainAnswer answer_of(const QPSolution&, std::int64_t e, const PlainQP& sizes);

/// Whether every number of a tensor, which may be absent, of a solution, or of a gradient, is finite.
bool all_finite(const Tensor&);
bool all_finite(const QPSolution&);
bool all_finite(const QP<Tensor>&);
/// The gradient of the sum of z and all duals.
QP<Tensor> gradient_of_sums(const QP<Tensor>&, const QPSolution&);

/// The largest violation of (K2), each block beside 1 + the largest sum of absolute values of its terms.
double kkt_error(const PlainQP&, const PlainAnswer&);
/// The same in absolute numbers, and how far the answer is from a kink.
struct KktCheck {
  double residual = 0;                                          // the largest violation of (K2), products s lambda among them
  double separation = std::numeric_limits<double>::infinity();  // the smallest max(s, lambda): 0 where strict complementarity fails
  int active = 0;                                               // sides with lambda > s
};
KktCheck kkt(const PlainQP&, const PlainAnswer&);
/// The largest violation of (K16) and of (K17), at the value -1.
double infeasibility_error(const PlainQP&, const PlainAnswer&);
double unboundedness_error(const PlainQP&, const PlainAnswer&);
/// That of the three that the status claims; infinite for a status that claims nothing.
double error_of_claim(const PlainQP&, const PlainAnswer&, QPStatus);
