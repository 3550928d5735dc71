// Module: what has parameters. A layer derives from it, names its parameters and children where it declares
// them, and has a call operator; nothing else. docs/quick_tour.md shows one of ten lines.
#pragma once

#include "framework/ops.h"
#include "framework/optim.h"

#include <concepts>
#include <filesystem>
#include <optional>
#include <string>
#include <typeinfo>
#include <vector>

namespace optnet {

/// Copies share their parameters, buffers and mode, as handles do.
class Module {
 public:
  /// All parameters with their names, children's after their prefix: "0.weight", PyTorch's convention. One that is in
  /// several places is listed once, in the first.
  std::vector<NamedParam> parameters() const;
  /// Likewise what is saved but not trained, as the running statistics of BatchNorm.
  std::vector<NamedParam> buffers() const;
  /// Both, in each place where they are: all that a checkpoint holds, and PyTorch's state_dict().
  std::vector<NamedParam> state() const;

  /// The state under its names in safetensors, as PyTorch's save_file(model.state_dict(), path) writes it. A missing or unknown
  /// name, or another shape or dtype, is an error that names it and leaves the module untouched.
  void save(const std::filesystem::path& path) const;
  void load(const std::filesystem::path& path);

  /// Training (the initial mode) or evaluation, for this module and all below it; Dropout acts in training only.
  void train(bool on = true);
  void eval() { train(false); }
  bool training() const { return state_->training; }

  /// Converts or moves this module and all below it in place, int64 buffers to no other dtype. Before an optimiser is made.
  void to(DType);
  void to(Device);

 protected:
  /// Declares a parameter:  `Param weight = param("weight", zeros({3, 4}));`
  Param param(const std::string& name, Tensor value);

  /// Declares a buffer:  `Param running_mean = buffer("running_mean", zeros({c}));`  To be read with value(), so that no
  /// gradient is asked for.
  Param buffer(const std::string& name, Tensor value);

  /// A constant of the layer's own, which follows to() and is not saved. To be read with value(), like a buffer.
  Param constant(Tensor value);

  /// Declares a child:  `Linear inner = child("inner", Linear{16, 16});`
  template <class M>
  M child(const std::string& name, M module) {
    add_child(name, typeid(M), static_cast<const Module&>(module).state_);
    return module;
  }

  /// For layers that call their children in a way of their own, as Sequential does: what child number i returned, for summary().
  void returned(std::size_t i, const Var& y) const {
    if (state_->observed) state_->children[i].output = y.shape();
  }

 private:
  struct State;
  struct Child {
    std::string name, type;
    std::shared_ptr<State> state;
    std::optional<Shape> output;  // while a summary is made
  };
  struct State {
    bool training = true, observed = false;
    std::vector<NamedParam> params, buffers;
    std::vector<Param> constants;
    std::vector<Child> children;
  };
  using Visit = std::function<void(State&, const std::string& prefix)>;
  /// The state and all below it, parents first; shared ones in each place.
  static void walk(State&, const std::string& prefix, const Visit& visit);
  void convert(const std::function<void(Param&)>& f);
  Param declare(std::vector<NamedParam>& list, const char* kind, const std::string& name, Tensor value);
  void add_child(const std::string& name, const std::type_info& type, const std::shared_ptr<State>& state);

  friend class Summary;
  std::shared_ptr<State> state_ = std::make_shared<State>();
};

/// A type's name without namespaces and template arguments: "Linear".
std::string type_name(const std::type_info& type);

}  // namespace optnet
