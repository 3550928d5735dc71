// Walking the tree of modules.
#include "layers/module.h"

#include "framework/io.h"

#include <cxxabi.h>

#include <cstdlib>
#include <set>

namespace optnet {
namespace {

/// Without those whose cell came before.
std::vector<NamedParam> unique(const std::vector<NamedParam>& params) {
  std::set<const Tensor*> seen;
  std::vector<NamedParam> out;
  for (const auto& [name, param] : params)
    if (seen.insert(&param.value()).second) out.emplace_back(name, param);
  return out;
}

void append(std::vector<NamedParam>& out, const std::string& prefix, const std::vector<NamedParam>& params) {
  for (const auto& [name, param] : params) out.emplace_back(prefix + name, param);
}

}  // namespace

std::vector<NamedParam> Module::parameters() const {
  std::vector<NamedParam> out;
  walk(*state_, "", [&](State& state, const std::string& prefix) { append(out, prefix, state.params); });
  return unique(out);
}

std::vector<NamedParam> Module::buffers() const {
  std::vector<NamedParam> out;
  walk(*state_, "", [&](State& state, const std::string& prefix) { append(out, prefix, state.buffers); });
  return unique(out);
}

std::vector<NamedParam> Module::state() const {
  std::vector<NamedParam> out;
  walk(*state_, "", [&](State& state, const std::string& prefix) {
    append(out, prefix, state.params);
    append(out, prefix, state.buffers);
  });
  return out;
}

void Module::save(const std::filesystem::path& path) const { save_safetensors(path, values(state())); }

void Module::load(const std::filesystem::path& path) {
  const NamedTensors tensors = load_safetensors(path).tensors;
  try {
    assign(state(), tensors);
  } catch (const Error& error) {
    fail(path.string(), ": ", error.what());
  }
}

void Module::train(bool on) {
  walk(*state_, "", [on](State& state, const std::string&) { state.training = on; });
}

void Module::to(DType dtype) {
  check_floating("module: to", dtype);
  convert([dtype](Param& x) {
    if (is_floating(x.dtype())) x.to(dtype);
  });
}

void Module::to(Device device) {
  convert([device](Param& x) { x.to(device); });
}

void Module::convert(const std::function<void(Param&)>& f) {
  walk(*state_, "", [&](State& state, const std::string&) {
    for (auto& [name, param] : state.params) f(param);
    for (auto& [name, buffer] : state.buffers) f(buffer);
    for (Param& constant : state.constants) f(constant);
  });
}

Param Module::param(const std::string& name, Tensor value) { return declare(state_->params, "parameter", name, std::move(value)); }

Param Module::buffer(const std::string& name, Tensor value) { return declare(state_->buffers, "buffer", name, std::move(value)); }

Param Module::constant(Tensor value) { return state_->constants.emplace_back(std::move(value)); }

Param Module::declare(std::vector<NamedParam>& list, const char* kind, const std::string& name, Tensor value) {
  for (const auto* taken : {&state_->params, &state_->buffers})
    for (const auto& [other, ignored] : *taken) check(other != name, "module: ", kind, " '", name, "' is declared twice");
  return list.emplace_back(name, Param(std::move(value))).second;
}

void Module::add_child(const std::string& name, const std::type_info& type, const std::shared_ptr<State>& state) {
  for (const Child& other : state_->children) check(other.name != name, "module: child '", name, "' is declared twice");
  state_->children.push_back({name, type_name(type), state, {}});
}

void Module::walk(State& state, const std::string& prefix, const Visit& visit) {
  visit(state, prefix);
  for (const Child& child : state.children) walk(*child.state, prefix + child.name + ".", visit);
}

std::string type_name(const std::type_info& type) {
  const std::unique_ptr<char, void (*)(void*)> readable(abi::__cxa_demangle(type.name(), nullptr, nullptr, nullptr), std::free);
  const std::string name(readable ? readable.get() : type.name());
  const std::string plain = name.substr(0, name.find('<'));
  const std::size_t last = plain.rfind("::");
  return last == std::string::npos ? plain : plain.substr(last + 2);
}

}  // namespace optnet
