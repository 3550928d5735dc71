// summary: a module as a table of its layers, their output shapes and sizes.
#pragma once

#include "layers/module.h"

namespace optnet {

/// What summary() is made of.
class Summary {
 public:
  /// `run` calls the module and returns the shape of what came out; without it no shapes are known.
  static std::string of(const Module& net, const std::string& type, const std::function<Shape()>& run);
  /// Zeros for one example of this shape, with the dtype and on the device of the module's first parameter.
  static Tensor example(const Module& net, const Shape& shape);

 private:
  struct Table;
  struct Observed;
};

/// A line for each layer: its name, type, the shape of its output for this batch, the number of its own parameters; then
/// totals. The net runs once, in evaluation mode; its modes and the random numbers stay as they were. Output shapes are
/// known of what Sequential and Residual call.
///     std::cout << summary(net, {1, 28, 28});     // the shape of one example
template <std::derived_from<Module> Net>
std::string summary(const Net& net, const Tensor& batch) {
  return Summary::of(net, type_name(typeid(Net)), [&] { return net(Var(batch)).shape(); });
}
template <std::derived_from<Module> Net>
std::string summary(const Net& net, const Shape& example) {
  return summary(net, Summary::example(net, example));
}
/// Without running it: no output shapes.
template <std::derived_from<Module> Net>
std::string summary(const Net& net) {
  return Summary::of(net, type_name(typeid(Net)), nullptr);
}

}  // namespace optnet
