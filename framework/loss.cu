// Losses: means over the batch; and the labels that they take.
#include "framework/kernel.h"
#include "framework/ops.h"

#include <cmath>

namespace optnet {
namespace {

/// y[row, labels[row]] = 1, elsewhere 0.
template <class T>
struct OneHot {
  const std::int64_t* labels;
  T* y;
  std::int64_t classes;
  OPTNET_HD void operator()(std::int64_t row) const {
    for (std::int64_t c = 0; c < classes; ++c) y[row * classes + c] = c == labels[row] ? T(1) : T(0);
  }
};

void check_labels(const char* op, const Tensor& labels, std::int64_t classes) {
  const Tensor host = labels.to(Device::cpu);
  for (std::int64_t label : std::span(host.data<std::int64_t>(), static_cast<std::size_t>(host.numel())))
    check(label >= 0 && label < classes, op, ": a label must lie in [0, ", classes, "); got ", label);
}

/// One row of cross_entropy and, where it is asked for, of its gradient: one walk over the logits for both, as they
/// share their exponentials. With the target q = (1 - smoothing) w[label] at the label + smoothing / C w, the loss is
/// -sum q ln p, its gradient (sum q) p - q, and p = softmax(x) = exp(x - top) / total.
template <class T>
struct CrossEntropyRow {
  const T* x;
  const std::int64_t* labels;
  const T* weights;  // none: all 1
  double smoothing, scale;
  std::int64_t classes;
  T* loss;
  T* dx;  // none: no gradient
  OPTNET_HD void operator()(std::int64_t row) const {
    const T* in = x + row * classes;
    const std::int64_t label = labels[row];
    T top = in[0];
    for (std::int64_t c = 1; c < classes; ++c) top = in[c] > top || in[c] != in[c] ? in[c] : top;
    double total = 0;
    for (std::int64_t c = 0; c < classes; ++c) {
      const T e = std::exp(in[c] - top);
      total += e;
      if (dx) dx[row * classes + c] = e;
    }
    const double log_total = std::log(total), spread = scale * smoothing / static_cast<double>(classes);
    const double hot = scale * (1 - smoothing) * weight(label);
    double result = times(hot, log_total + (top - in[label])), all = hot;
    if (spread > 0)
      for (std::int64_t c = 0; c < classes; ++c) {
        result += times(spread * weight(c), log_total + (top - in[c]));
        all += spread * weight(c);
      }
    loss[row] = static_cast<T>(result);
    if (!dx) return;
    T* out = dx + row * classes;
    const T share = static_cast<T>(all / total);
    for (std::int64_t c = 0; c < classes; ++c) out[c] *= share;
    if (spread > 0)
      for (std::int64_t c = 0; c < classes; ++c) out[c] -= static_cast<T>(spread * weight(c));
    out[label] -= static_cast<T>(hot);
  }

 private:
  OPTNET_HD double weight(std::int64_t c) const { return weights ? static_cast<double>(weights[c]) : 1.0; }
  OPTNET_HD static double times(double q, double log_p) { return q == 0 ? 0.0 : q * log_p; }  // q ln p is 0 for q = p = 0
};

/// What the rows' losses are divided by: the weights of their labels, added up.
double total_weight(const Tensor& labels, const Tensor& weights) {
  if (!weights.defined()) return static_cast<double>(labels.numel());
  const std::vector<double> weight = weights.to_vector<double>();
  for (double w : weight)
    check(w >= 0 && std::isfinite(w), "cross_entropy: class weights must be finite and not negative; got ", w);
  double total = 0;
  for (std::int64_t label : labels.to_vector<std::int64_t>()) total += weight[static_cast<std::size_t>(label)];
  check(total > 0, "cross_entropy: the weights of the batch's labels must not all be 0; got ", weights);
  return total;
}

void check_classes(const Tensor& logits, const Tensor& labels, const CrossEntropy& options) {
  check(logits.rank() >= 2 && logits.numel() > 0, "cross_entropy: logits must be [batch, ..., classes] and not empty; got ", logits.shape());
  const Shape batch(logits.shape().begin(), logits.shape().end() - 1);
  check(labels.defined() && labels.dtype() == int64 && labels.shape() == batch,
        "cross_entropy: labels must be int64 ", batch, "; got ", labels.dtype(), labels.shape());
  check_floating("cross_entropy", logits.dtype());
  check(labels.device() == logits.device(), "cross_entropy: labels must be on the logits' device (move them with to(device)); got ",
        labels.device(), " and ", logits.device());
  check_labels("cross_entropy", labels, logits.size(-1));
  check(options.label_smoothing >= 0 && options.label_smoothing <= 1, "cross_entropy: label_smoothing must lie in [0, 1]; got ",
        options.label_smoothing);
  const Tensor& weights = options.class_weights;
  if (!weights.defined()) return;
  check_operands("cross_entropy", logits, weights);
  check(weights.shape() == Shape{logits.size(-1)}, "cross_entropy: class weights must be [", logits.size(-1), "]; got ", weights.shape());
}

// Elementwise losses of y and its target t, and their derivatives by y.
struct SquaredError {
  template <class T> OPTNET_HD T operator()(T y, T t) const { return (y - t) * (y - t); }
  template <class T> OPTNET_HD T gradient(T y, T t) const { return 2 * (y - t); }
};
struct AbsoluteError {
  template <class T> OPTNET_HD T operator()(T y, T t) const { return y < t ? t - y : y - t; }
  template <class T> OPTNET_HD T gradient(T y, T t) const { return y > t ? T(1) : y < t ? T(-1) : y - t; }
};
struct HuberError {
  double delta;
  template <class T> OPTNET_HD T operator()(T y, T t) const {
    const T e = AbsoluteError{}(y, t), d = static_cast<T>(delta);
    return e <= d ? e * e / 2 : d * (e - d / 2);
  }
  template <class T> OPTNET_HD T gradient(T y, T t) const {
    const T e = y - t, d = static_cast<T>(delta);
    return e > d ? d : e < -d ? -d : e;
  }
};
/// -t ln p - (1 - t) ln(1 - p) for p = sigmoid(y): as much of |y| as the target says, and ln(1 + exp(-|y|)).
struct LogisticError {
  template <class T> OPTNET_HD T operator()(T y, T t) const {
    const T size = y < 0 ? -y : y, share = y > 0 ? 1 - t : t;
    return (share == 0 ? T(0) : share * size) + std::log1p(std::exp(-size));
  }
  template <class T> OPTNET_HD T gradient(T y, T t) const {
    const T e = std::exp(y < 0 ? y : -y), p = (y < 0 ? e : T(1)) / (1 + e);
    return p - t;
  }
};

template <class F>
struct MeanGrad {
  F f;
  double scale;
  template <class T> OPTNET_HD T operator()(T y, T t, T dloss) const {
    return f.gradient(y, t) * (dloss * static_cast<T>(scale));
  }
};

/// The mean of f(y, target) over all elements.
template <class F>
Var mean_error(const char* op, const F& f, const Var& y, const Tensor& target) {
  check_operands(op, y.value(), target);
  check_floating(op, y.dtype());
  check(y.shape() == target.shape(), op, ": shapes must agree; got ", y.shape(), " and ", target.shape());
  check(target.numel() > 0, op, ": needs at least one element; got ", y.shape());
  const MeanGrad<F> gradient{f, 1.0 / static_cast<double>(target.numel())};
  return record(op, mean(map_floating(op, f, y.value(), target)), Wrt{y, [op, gradient, y = y.value(), target](const Tensor& dloss) {
                  return map_floating(op, gradient, y, target, dloss);
                }});
}

}  // namespace

Tensor one_hot(const Tensor& labels, std::int64_t classes, DType dtype) {
  check(labels.defined() && labels.dtype() == int64, "one_hot: labels must be int64 (convert with to(int64)); got ",
        labels.dtype(), labels.shape());
  check_labels("one_hot", labels, classes);
  Shape shape = labels.shape();
  shape.push_back(classes);
  Buffer y(static_cast<std::size_t>(shape.numel()) * size_of(dtype), labels.device());
  dispatch(dtype, [&](auto t) {
    using T = decltype(t);
    parallel_for(labels.device(), labels.numel(), shape.numel(),
                 OneHot<T>{labels.data<std::int64_t>(), static_cast<T*>(y.data()), classes});
  });
  return Tensor(shape, dtype, std::move(y));
}

Var cross_entropy(const Var& logits, const Tensor& labels, const CrossEntropy& options) {
  const Tensor& x = logits.value();
  check_classes(x, labels, options);
  const Tensor& weights = options.class_weights;
  const double scale = 1 / total_weight(labels, weights);
  const bool wants_gradient = logits.tracked();
  return dispatch_floating("cross_entropy", x.dtype(), [&](auto t) {
    using T = decltype(t);
    Buffer rows(static_cast<std::size_t>(labels.numel()) * sizeof(T), x.device());
    Buffer dx(wants_gradient ? static_cast<std::size_t>(x.numel()) * sizeof(T) : 0, x.device());
    parallel_for(x.device(), labels.numel(), 8 * x.numel(),
                 CrossEntropyRow<T>{x.data<T>(), labels.data<std::int64_t>(), weights.defined() ? weights.data<T>() : nullptr,
                                    options.label_smoothing, scale, x.size(-1), static_cast<T*>(rows.data()),
                                    wants_gradient ? static_cast<T*>(dx.data()) : nullptr});
    const Tensor loss = sum(Tensor(labels.shape(), x.dtype(), std::move(rows)));
    if (!wants_gradient) return Var(loss);
    const Tensor gradient(x.shape(), x.dtype(), std::move(dx));
    return record("cross_entropy", loss, Wrt{logits, [gradient](const Tensor& dloss) { return gradient * dloss; }});
  });
}

Var mse(const Var& y, const Tensor& target) { return mean_error("mse", SquaredError{}, y, target); }
Var l1(const Var& y, const Tensor& target) { return mean_error("l1", AbsoluteError{}, y, target); }
Var huber(const Var& y, const Tensor& target, Huber options) {
  check(options.delta > 0 && std::isfinite(options.delta), "huber: delta must be positive and finite; got ", options.delta);
  return mean_error("huber", HuberError{options.delta}, y, target);
}
Var binary_cross_entropy_with_logits(const Var& logits, const Tensor& targets) {
  return mean_error("binary_cross_entropy_with_logits", LogisticError{}, logits, targets);
}

}  // namespace optnet
