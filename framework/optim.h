// Optimisers: what turns gradients into new parameters. Each holds handles on the parameters it was given,
// steps them in place of their cells, and has a state that can be saved and restored under their names. It is made after
// parameters have got their dtype and device.
#pragma once

#include "framework/tape.h"

#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace optnet {

using NamedParam = std::pair<std::string, Param>;
using NamedTensors = std::map<std::string, Tensor>;

/// Throws Error, in the name of `op`, if two parameters have one name.
void check_names(const char* op, const std::vector<NamedParam>& params);
/// Throws Error, beginning with `what`, unless each expected tensor is given with its shape and dtype.
void check_forms(const char* what, const NamedTensors& given, const NamedTensors& expected);

/// Parameters whose rate and decay are the optimiser's times these factors: {.params = p, .lr = 0.1} is stepped at a tenth of
/// the rate, also where a schedule changes it, and {.params = p, .weight_decay = 0} without decay.
struct ParamGroup {
  std::vector<NamedParam> params;
  double lr = 1, weight_decay = 1;
};

/// Those of which `chosen` is true, and the others, in their order. Biases and the weights of norms are best not decayed:
///     const auto [matrices, vectors] = partition(net.parameters(), [](auto&, auto& param) { return param.shape().rank() > 1; });
///     AdamW adam({{.params = matrices}, {.params = vectors, .weight_decay = 0}}, {.lr = 1e-3});
std::pair<std::vector<NamedParam>, std::vector<NamedParam>> partition(
    const std::vector<NamedParam>& params, const std::function<bool(const std::string& name, const Param& param)>& chosen);

/// What all optimisers share: parameters, the rate, and the state's way to a checkpoint and back.
class Optimizer {
 public:
  virtual ~Optimizer() = default;

  /// One step against the gradients.
  void step(const Gradients& gradients);

  /// The learning rate, to be changed by a schedule.
  double lr;

  /// The state under names such as "exp_avg.0.weight", and "step".
  NamedTensors state() const;
  /// Restores it; an error, and nothing changed, if a name is missing or unknown or a shape or dtype differs.
  void load_state(const NamedTensors& state);

 protected:
  /// A parameter, its group's factors, and what the optimiser remembers of it: tensors of its shape, in the order of their names.
  struct Slot {
    std::string name;
    Param param;
    double lr, weight_decay;
    std::vector<Tensor> buffers;
  };

  Optimizer(const std::vector<ParamGroup>& groups, double lr, std::vector<std::string> buffer_names);

  /// Steps x, the value of the slot's parameter, and the slot's buffers.
  virtual void update(Tensor& x, const Tensor& dx, Slot& slot) const = 0;
  std::int64_t steps_ = 0;  // counted from 1 within update()

 private:
  std::vector<Slot> slots_;
  std::vector<std::string> buffer_names_;
};

struct SGDOptions {
  double lr = 0.01, momentum = 0, weight_decay = 0;
  bool nesterov = false;
};
/// v = momentum v + g,  x = x - lr v (Nesterov: x - lr (g + momentum v)),  g = dx + weight_decay x.
/// Sutskever et al. 2013, in PyTorch's form.
class SGD : public Optimizer {
 public:
  explicit SGD(std::vector<NamedParam> params, SGDOptions options = {}) : SGD(std::vector{ParamGroup{std::move(params)}}, options) {}
  explicit SGD(const std::vector<ParamGroup>& groups, SGDOptions options = {});

 private:
  void update(Tensor& x, const Tensor& dx, Slot& slot) const override;
  SGDOptions options_;
};

struct AdamOptions {
  double lr = 1e-3, beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = 0;
};
/// Kingma and Ba 2015, with bias correction; weight decay, if any, is added to the gradient.
class Adam : public Optimizer {
 public:
  explicit Adam(std::vector<NamedParam> params, AdamOptions options = {}) : Adam(std::vector{ParamGroup{std::move(params)}}, options) {}
  explicit Adam(const std::vector<ParamGroup>& groups, AdamOptions options = {});

 protected:
  /// `op` names the optimiser in errors.
  Adam(const char* op, const std::vector<ParamGroup>& groups, AdamOptions options, double decoupled_decay);

 private:
  void update(Tensor& x, const Tensor& dx, Slot& slot) const override;
  AdamOptions options_;
  double decoupled_decay_;
};

struct AdamWOptions {
  double lr = 1e-3, beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = 0.01;
};
/// Loshchilov and Hutter 2019: weight decay acts on the parameter itself, x = x - lr weight_decay x, before Adam's step.
class AdamW : public Adam {
 public:
  explicit AdamW(std::vector<NamedParam> params, AdamWOptions options = {}) : AdamW(std::vector{ParamGroup{std::move(params)}}, options) {}
  explicit AdamW(const std::vector<ParamGroup>& groups, AdamWOptions options = {});
};

/// Scales gradients of the parameters so that their joint 2-norm is at most `limit`. Returns the norm before.
double clip_norm(Gradients& gradients, const std::vector<NamedParam>& params, double limit);

// Schedules: the rate at step t of `total`, t from 0. A constant rate needs none.

/// rate, times `factor` after each `every` steps.
double step_decay(double rate, std::int64_t t, std::int64_t every, double factor);
/// From rate down to `last` along half a cosine. Loshchilov and Hutter 2017.
double cosine_decay(double rate, std::int64_t t, std::int64_t total, double last = 0);
/// A factor that rises from 1/steps to 1 in the first `steps` steps: multiply another schedule by it.
double warm_up(std::int64_t t, std::int64_t steps);

}  // namespace optnet
