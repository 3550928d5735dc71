// Optimisers, clipping and schedules.
#include "framework/optim.h"

#include "framework/ops.h"

#include <cmath>
#include <numbers>
#include <set>

namespace optnet {
namespace {

void check_rate(const char* op, const char* name, double value) {
  check(value >= 0 && std::isfinite(value), op, ": the ", name, " must be finite and not negative; got ", value);
}

void check_share(const char* op, const char* name, double value) {
  check(value >= 0 && value < 1, op, ": ", name, " must lie in [0, 1); got ", value);
}

}  // namespace

Optimizer::Optimizer(std::vector<NamedParam> params, double rate, std::vector<std::string> buffer_names)
    : lr(rate), params_(std::move(params)), buffer_names_(std::move(buffer_names)) {
  check(!params_.empty(), "optimizer: needs at least one parameter; got none");
  check_names("optimizer", params_);
  for (const auto& [name, param] : params_) {
    std::vector<Tensor>& own = buffers_.emplace_back();
    for (std::size_t i = 0; i < buffer_names_.size(); ++i)
      own.push_back(zeros(param.shape(), param.dtype(), param.value().device()));
  }
}

void Optimizer::step(const Gradients& gradients) {
  ++steps_;
  for (std::size_t i = 0; i < params_.size(); ++i) {
    Param& param = params_[i].second;
    param.set(update(param.value(), gradients[param], buffers_[i]));
  }
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
  for (std::size_t i = 0; i < params_.size(); ++i)
    for (std::size_t k = 0; k < buffer_names_.size(); ++k) out[buffer_names_[k] + "." + params_[i].first] = buffers_[i][k];
  return out;
}

void Optimizer::load_state(const NamedTensors& state) {
  const NamedTensors now = this->state();
  for (const auto& [name, tensor] : state) check(now.contains(name), "optimizer: unknown state '", name, "'");
  check_forms("optimizer: state", state, now);
  steps_ = state.at("step").data<std::int64_t>()[0];
  for (std::size_t i = 0; i < params_.size(); ++i)
    for (std::size_t k = 0; k < buffer_names_.size(); ++k)
      buffers_[i][k] = state.at(buffer_names_[k] + "." + params_[i].first).to(params_[i].second.value().device());
}

SGD::SGD(std::vector<NamedParam> params, SGDOptions options) : Optimizer(std::move(params), options.lr, {"momentum"}), options_(options) {
  check_rate("SGD", "learning rate", options.lr);
  check_rate("SGD", "weight decay", options.weight_decay);
  check_share("SGD", "momentum", options.momentum);
  check(!options.nesterov || options.momentum > 0, "SGD: Nesterov needs momentum > 0; got ", options.momentum);
}

Tensor SGD::update(const Tensor& x, const Tensor& dx, std::vector<Tensor>& buffers) const {
  const double momentum = options_.momentum;
  const Tensor g = options_.weight_decay != 0 ? dx + options_.weight_decay * x : dx;
  if (momentum == 0) return x - lr * g;
  Tensor& v = buffers[0];
  v = momentum * v + g;
  return x - lr * (options_.nesterov ? g + momentum * v : v);
}

Adam::Adam(std::vector<NamedParam> params, AdamOptions options) : Adam("Adam", std::move(params), options) {}

Adam::Adam(const char* op, std::vector<NamedParam> params, AdamOptions options)
    : Optimizer(std::move(params), options.lr, {"exp_avg", "exp_avg_sq"}), options_(options) {
  check_rate(op, "learning rate", options.lr);
  check_rate(op, "weight decay", options.weight_decay);
  check_share(op, "beta1", options.beta1);
  check_share(op, "beta2", options.beta2);
  check(options.eps > 0 && std::isfinite(options.eps), op, ": eps must be finite and positive; got ", options.eps);
}

Tensor Adam::update(const Tensor& x, const Tensor& dx, std::vector<Tensor>& buffers) const {
  const auto& [rate, beta1, beta2, eps, decay] = options_;
  const Tensor g = decay != 0 ? dx + decay * x : dx;
  Tensor &m = buffers[0], &v = buffers[1];
  m = beta1 * m + (1 - beta1) * g;
  v = beta2 * v + (1 - beta2) * (g * g);
  const double t = static_cast<double>(steps_), correction = 1 - std::pow(beta1, t);
  return x - (lr / correction) * m / (sqrt(v / (1 - std::pow(beta2, t))) + eps);
}

AdamW::AdamW(std::vector<NamedParam> params, AdamWOptions options)
    : Adam("AdamW", std::move(params), {.lr = options.lr, .beta1 = options.beta1, .beta2 = options.beta2, .eps = options.eps}), decay_(options.weight_decay) {
  check_rate("AdamW", "weight decay", decay_);
}

Tensor AdamW::update(const Tensor& x, const Tensor& dx, std::vector<Tensor>& buffers) const {
  return Adam::update(x * (1 - lr * decay_), dx, buffers);
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
