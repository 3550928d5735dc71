// Central differences against the tape.
#include "framework/gradcheck.h"

#include "framework/ops.h"

#include <cmath>

namespace optnet {
namespace {

using Function = std::function<Var(const std::vector<Var>&)>;

/// sum(weights * f): fixed weights make every entry of f's value count.
Var weighted(const Function& f, const std::vector<Var>& inputs) {
  const Var y = f(inputs);
  check(y.dtype() == float64, "gradcheck: f must compute in float64; got ", y.dtype());
  Random random{2017};
  return sum(y * uniform(random, y.shape(), 0.5, 1.5, float64));
}

double value_at(const Function& f, const std::vector<Tensor>& inputs, std::size_t which, std::size_t entry, double x) {
  std::vector<Var> moved(inputs.begin(), inputs.end());
  std::vector<double> numbers = inputs[which].to_vector<double>();
  numbers[entry] = x;
  moved[which] = from(inputs[which].shape(), numbers);
  return weighted(f, moved).item();
}

std::string place(std::size_t input, std::size_t entry, const Shape& shape) {
  std::vector<std::int64_t> index;
  for (int d = shape.rank() - 1; d >= 0; --d) {
    index.insert(index.begin(), static_cast<std::int64_t>(entry) % shape[d]);
    entry /= static_cast<std::size_t>(shape[d]);
  }
  std::ostringstream out;
  out << "input " << input << ' ' << Shape(index);
  return out.str();
}

}  // namespace

GradCheckResult gradcheck(const Function& f, const std::vector<Tensor>& inputs, GradCheckOptions options) {
  for (const Tensor& x : inputs) check(x.dtype() == float64, "gradcheck: inputs must be float64 (convert with to(float64)); got ", x.dtype());
  Tape tape;
  std::vector<Var> watched;
  for (const Tensor& x : inputs) watched.push_back(tape.watch(x));
  const Gradients gradients = tape.gradients(weighted(f, watched));

  GradCheckResult result;
  for (std::size_t k = 0; k < inputs.size(); ++k) {
    const std::vector<double> x = inputs[k].to_vector<double>(), dx = gradients[watched[k]].to_vector<double>();
    for (std::size_t i = 0; i < x.size(); ++i) {
      const double h = options.step * std::max(1.0, std::abs(x[i]));
      const double difference = (value_at(f, inputs, k, i, x[i] + h) - value_at(f, inputs, k, i, x[i] - h)) / (2 * h);
      const double error = std::abs(dx[i] - difference) / std::max({1.0, std::abs(dx[i]), std::abs(difference)});
      if (error <= result.largest_error) continue;  // false for NaN, which is thus reported
      result.largest_error = error;
      result.passed = result.passed && error <= options.tolerance;
      std::ostringstream worst;
      worst << place(k, i, inputs[k].shape()) << ": tape gives " << dx[i] << ", differences give " << difference;
      result.worst = worst.str();
      if (std::isnan(error)) return result;
    }
  }
  return result;
}

std::ostream& operator<<(std::ostream& out, const GradCheckResult& result) {
  return out << (result.passed ? "passed" : "failed") << ", largest error " << result.largest_error << " at " << result.worst;
}

}  // namespace optnet
