// What all optimisers share, clipping and schedules; the optimisers themselves stand in optim.cu.
#include "framework/optim.h"

#include "framework/ops.h"

#include <cmath>
#include <numbers>
#include <set>

namespace optnet {
namespace {

void check_factor(const char* name, double value) {
  check(value >= 0 && std::isfinite(value), "optimizer: the factor on a group's ", name, " must be finite and not negative; got ", value);
}

}  // namespace

std::pair<std::vector<NamedParam>, std::vector<NamedParam>> partition(
    const std::vector<NamedParam>& params, const std::function<bool(const std::string& name, const Param& param)>& chosen) {
  std::pair<std::vector<NamedParam>, std::vector<NamedParam>> out;
  for (const auto& [name, param] : params) (chosen(name, param) ? out.first : out.second).emplace_back(name, param);
  return out;
}

Optimizer::Optimizer(const std::vector<ParamGroup>& groups, double rate, std::vector<std::string> buffer_names)
    : lr(rate), buffer_names_(std::move(buffer_names)) {
  std::vector<NamedParam> all;
  std::map<const Tensor*, std::string> cells;  // one in two places would be stepped twice
  for (const ParamGroup& group : groups) {
    check_factor("learning rate", group.lr);
    check_factor("weight decay", group.weight_decay);
    for (const auto& [name, param] : group.params) {
      const auto [taken, fresh] = cells.try_emplace(&param.value(), name);
      check(fresh || taken->second == name, "optimizer: '", taken->second, "' and '", name, "' are one parameter; give it once");
      const std::vector<Tensor> buffers(buffer_names_.size(), zeros(param.shape(), param.dtype(), param.value().device()));
      slots_.push_back({name, param, group.lr, group.weight_decay, buffers});
      all.emplace_back(name, param);
    }
  }
  check(!all.empty(), "optimizer: needs at least one parameter; got none");
  check_names("optimizer", all);
}

void Optimizer::step(const Gradients& gradients) {
  for (const auto& [name, param, rate, decay, buffers] : slots_)
    for (const Tensor& x : buffers)
      check(x.dtype() == param.dtype() && x.device() == param.value().device(), "optimizer: parameter '", name, "' was ", x.dtype(), " on ",
            x.device(), " and now is ", param.dtype(), " on ", param.value().device(), "; make the optimiser after to()");
  std::vector<Tensor> dx;
  for (const Slot& slot : slots_) {
    const Tensor &x = slot.param.value(), &own = dx.emplace_back(gradients[slot.param]);
    check(own.shape() == x.shape() && own.dtype() == x.dtype() && own.device() == x.device(), "optimizer: the gradient of '", slot.name,
          "' must be ", x.dtype(), x.shape(), " on ", x.device(), " as the parameter is; got ", own.dtype(), own.shape(), " on ", own.device());
  }
  ++steps_;
  for (std::size_t i = 0; i < slots_.size(); ++i) update(*slots_[i].param.cell_, dx[i], slots_[i]);
}

void check_names(const char* op, const std::vector<NamedParam>& params) {
  std::set<std::string> names;
  for (const auto& [name, param] : params) check(names.insert(name).second, op, ": two parameters are named '", name, "'; give each a name of its own");
}

void check_forms(const char* what, const NamedTensors& given, const NamedTensors& expected) {
  for (const auto& [name, tensor] : expected) {
    const auto found = given.find(name);
    check(found != given.end(), what, " '", name, "' is missing");
    check(found->second.defined(), what, " '", name, "' is absent (a default-constructed Tensor)");
    check(found->second.shape() == tensor.shape() && found->second.dtype() == tensor.dtype(), what, " '", name, "' must be ",
          tensor.dtype(), tensor.shape(), "; got ", found->second.dtype(), found->second.shape());
  }
}

NamedTensors Optimizer::state() const {
  NamedTensors out{{"step", from({1}, {steps_})}};
  for (const Slot& slot : slots_)
    for (std::size_t k = 0; k < buffer_names_.size(); ++k) out[buffer_names_[k] + "." + slot.name] = slot.buffers[k];
  return out;
}

void Optimizer::load_state(const NamedTensors& state) {
  const NamedTensors now = this->state();
  for (const auto& [name, tensor] : state) check(now.contains(name), "optimizer: unknown state '", name, "'");
  check_forms("optimizer: state", state, now);
  steps_ = state.at("step").data<std::int64_t>()[0];
  for (Slot& slot : slots_)
    for (std::size_t k = 0; k < buffer_names_.size(); ++k)
      slot.buffers[k] = state.at(buffer_names_[k] + "." + slot.name).to(slot.param.value().device());
}

double clip_norm(Gradients& gradients, const std::vector<NamedParam>& params, double limit) {
  check(limit > 0, "clip_norm: the limit must be positive; got ", limit);
  double squares = 0;
  for (const auto& [name, param] : params) {
    const Tensor dx = gradients[param].to(float64);
    squares += sum(dx * dx).item();
  }
  const double norm = std::sqrt(squares);
  check(std::isfinite(norm), "clip_norm: the gradients hold NaN or infinity");
  if (norm > limit) gradients.transform([=](const Tensor& dx) { return dx * (limit / norm); });
  return norm;
}

double step_decay(double rate, std::int64_t t, std::int64_t every, double factor) {
  check(every > 0, "step_decay: the interval must be positive; got ", every);
  return rate * std::pow(factor, static_cast<double>(t / every));
}

double cosine_decay(double rate, std::int64_t t, std::int64_t total, double last) {
  check(total > 0, "cosine_decay: the number of steps must be positive; got ", total);
  const double share = static_cast<double>(std::clamp<std::int64_t>(t, 0, total)) / static_cast<double>(total);
  return last + (rate - last) * (1 + std::cos(std::numbers::pi * share)) / 2;
}

double warm_up(std::int64_t t, std::int64_t steps) {
  return steps <= 0 ? 1 : std::min(1.0, static_cast<double>(t + 1) / static_cast<double>(steps));
}

}  // namespace optnet
