// gradcheck: do the tape's gradients agree with central differences? For anyone who writes an op or a layer.
#pragma once

#include "framework/tape.h"

#include <ostream>
#include <string>
#include <vector>

namespace optnet {

struct GradCheckOptions {
  double step = 1e-5;        // of the central difference, times max(1, |x|)
  double tolerance = 1e-6;   // on |tape - difference| / max(1, |tape|, |difference|)
};

struct GradCheckResult {
  bool passed = true;
  double largest_error = 0;  // relative, as above, over all entries
  std::string worst;         // "input 1 [2, 0]: tape gives 0.5, differences give 0.7"
  explicit operator bool() const { return passed; }
};
std::ostream& operator<<(std::ostream&, const GradCheckResult&);

/// Compares d f / d inputs with (f(x + h) - f(x - h)) / 2h, entry by entry, in float64. The value of f may have any
/// shape: it is reduced to a scalar by fixed random weights. Inputs must be float64; NaN anywhere fails.
GradCheckResult gradcheck(const std::function<Var(const std::vector<Var>&)>& f, const std::vector<Tensor>& inputs,
                          GradCheckOptions options = {});

}  // namespace optnet
