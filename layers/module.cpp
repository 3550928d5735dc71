// Walking the tree of modules.
#include "layers/module.h"

namespace optnet {

std::vector<NamedParam> Module::parameters() const {
  std::vector<NamedParam> out;
  collect(*state_, "", out);
  return out;
}

Param Module::param(const std::string& name, Tensor value) {
  for (const auto& [taken, ignored] : state_->params) check(taken != name, "module: parameter '", name, "' is declared twice");
  return state_->params.emplace_back(name, Param(std::move(value))).second;
}

void Module::set_mode(State& state, bool training) {
  state.training = training;
  for (auto& [name, child] : state.children) set_mode(*child, training);
}

void Module::collect(const State& state, const std::string& prefix, std::vector<NamedParam>& out) {
  for (const auto& [name, param] : state.params) out.emplace_back(prefix + name, param);
  for (const auto& [name, child] : state.children) collect(*child, prefix + name + ".", out);
}

}  // namespace optnet
