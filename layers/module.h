// Module: what has parameters. A layer derives from it, names its parameters and children where it declares
// them, and has a call operator; nothing else. docs/quick_tour.md shows one of ten lines.
#pragma once

#include "framework/ops.h"
#include "framework/optim.h"

#include <string>
#include <vector>

namespace optnet {

/// Copies share their parameters and their mode, as handles do.
class Module {
 public:
  /// All parameters with their names, children's after their prefix: "0.weight", PyTorch's convention.
  std::vector<NamedParam> parameters() const;

  /// Training (the initial mode) or evaluation, for this module and all below it; Dropout acts in training only.
  void train(bool on = true) { set_mode(*state_, on); }
  void eval() { train(false); }
  bool training() const { return state_->training; }

 protected:
  /// Declares a parameter:  `Param weight = param("weight", zeros({3, 4}));`
  Param param(const std::string& name, Tensor value);

  /// Declares a child:  `Linear inner = child("inner", Linear{16, 16});`
  template <class M>
  M child(const std::string& name, M module) {
    for (const auto& [taken, ignored] : state_->children) check(taken != name, "module: child '", name, "' is declared twice");
    state_->children.emplace_back(name, static_cast<const Module&>(module).state_);
    return module;
  }

 private:
  struct State {
    bool training = true;
    std::vector<NamedParam> params;
    std::vector<std::pair<std::string, std::shared_ptr<State>>> children;
  };
  static void set_mode(State&, bool training);
  static void collect(const State&, const std::string& prefix, std::vector<NamedParam>& out);

  std::shared_ptr<State> state_ = std::make_shared<State>();
};

}  // namespace optnet
