// The ordinary layers: Linear, activations, Dropout, Flatten, and what holds others: Sequential, Residual.
#pragma once

#include "layers/module.h"

#include <concepts>
#include <functional>

namespace optnet {

struct LinearOptions {
  bool bias = true;
  DType dtype = float32;
};

/// y = x W' + b.  x [batch, in] -> y [batch, out], and with further leading axes; W [out, in], b [out].
/// Initialised like PyTorch's: both uniform in +-1/sqrt(in), from default_random().
class Linear : public Module {
 public:
  Linear(std::int64_t in, std::int64_t out, LinearOptions options = {});
  Var operator()(const Var& x) const;

  Param weight, bias;

 private:
  std::int64_t in_;
  bool has_bias_;
};

struct ReLU : Module {
  Var operator()(const Var& x) const { return relu(x); }
};
struct Tanh : Module {
  Var operator()(const Var& x) const { return tanh(x); }
};
struct Sigmoid : Module {
  Var operator()(const Var& x) const { return sigmoid(x); }
};
/// x, or slope x below 0.
struct LeakyReLU : Module {
  double slope;
  explicit LeakyReLU(double slope_ = 0.01) : slope(slope_) {}
  Var operator()(const Var& x) const { return leaky_relu(x, slope); }
};
struct GELU : Module {
  Var operator()(const Var& x) const { return gelu(x); }
};
struct Softplus : Module {
  Var operator()(const Var& x) const { return softplus(x); }
};
/// Along the last axis.
struct Softmax : Module {
  Var operator()(const Var& x) const { return softmax(x); }
};

/// [batch, ...] -> [batch, n]
struct Flatten : Module {
  Var operator()(const Var& x) const;
};

/// Sets entries to 0 with probability p in training, and scales the rest so that the mean stays; does nothing
/// in evaluation. Draws from default_random().
class Dropout : public Module {
 public:
  explicit Dropout(double p = 0.5);
  Var operator()(const Var& x) const;

 private:
  double p_;
};

/// Calls its layers one after another. Their parameters are named "0.weight", "1.weight", ... by position.
/// Anything that maps a Var to a Var can be a layer: modules, functions, lambdas.
class Sequential : public Module {
 public:
  template <std::invocable<const Var&>... Layers>
  explicit Sequential(Layers... layers) {
    (add(std::move(layers)), ...);
  }

  template <std::invocable<const Var&> Layer>
  void add(Layer layer) {
    const std::string name = std::to_string(layers_->size());
    if constexpr (std::derived_from<Layer, Module>)
      child(name, layer);
    else
      child(name, function{});
    layers_->push_back(std::move(layer));
  }

  Var operator()(const Var& x) const;

 private:
  struct function : Module {};  // stands for a layer that is no module
  using Layers = std::vector<std::function<Var(const Var&)>>;
  std::shared_ptr<Layers> layers_ = std::make_shared<Layers>();  // copies share them, as they do parameters
};

/// y = x + inner(x).  Its parameters are named "inner.weight", or "inner.0.weight" if inner is a Sequential.
/// He et al. 2016.
class Residual : public Module {
 public:
  template <std::invocable<const Var&> Layer>
    requires std::derived_from<Layer, Module>
  explicit Residual(Layer inner) : inner_(child("inner", std::move(inner))) {}

  Var operator()(const Var& x) const;

 private:
  std::function<Var(const Var&)> inner_;
};

}  // namespace optnet
