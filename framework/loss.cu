// Losses: means over the batch.
#include "framework/kernel.h"
#include "framework/ops.h"

namespace optnet {
namespace {

/// y[row, labels[row]] = value, elsewhere 0: the rows of a one-hot matrix.
template <class T>
struct OneHot {
  const std::int64_t* labels;
  T* y;
  std::int64_t classes;
  OPTNET_HD void operator()(std::int64_t row) const {
    for (std::int64_t c = 0; c < classes; ++c) y[row * classes + c] = c == labels[row] ? T(1) : T(0);
  }
};

Tensor one_hot(const Tensor& labels, std::int64_t classes, DType dtype) {
  const Shape shape{labels.numel(), classes};
  Buffer y(static_cast<std::size_t>(shape.numel()) * size_of(dtype), labels.device());
  dispatch(dtype, [&](auto t) {
    using T = decltype(t);
    parallel_for(labels.device(), labels.numel(), shape.numel(),
                 OneHot<T>{labels.data<std::int64_t>(), static_cast<T*>(y.data()), classes});
  });
  return Tensor(shape, dtype, std::move(y));
}

}  // namespace

Var cross_entropy(const Var& logits, const Tensor& labels) {
  check(logits.rank() == 2 && logits.size(0) > 0, "cross_entropy: logits must be [batch, classes] and not empty; got ", logits.shape());
  check(labels.defined() && labels.dtype() == int64 && labels.shape() == Shape{logits.size(0)},
        "cross_entropy: labels must be int64 [", logits.size(0), "]; got ", labels.dtype(), labels.shape());
  check_floating("cross_entropy", logits.dtype());
  check(labels.device() == logits.value().device(), "cross_entropy: labels must be on the logits' device (move them with to(device)); got ",
        labels.device(), " and ", logits.value().device());
  for (std::int64_t label : labels.to_vector<std::int64_t>())
    check(label >= 0 && label < logits.size(1), "cross_entropy: a label must lie in [0, ", logits.size(1), "); got ", label);
  const Tensor hot = one_hot(labels, logits.size(1), logits.dtype()), log_p = log_softmax(logits.value());
  const double batch = static_cast<double>(logits.size(0));
  const Tensor picked = where(hot, log_p, number_like(0, log_p));  // no product: a class of logit -inf has log_p -inf
  return record("cross_entropy", -sum(picked) / batch,
                Wrt{logits, [=](const Tensor& dy) { return (exp(log_p) - hot) * (dy / batch); }});
}

Var mse(const Var& y, const Tensor& target) {
  check_operands("mse", y.value(), target);
  check_floating("mse", y.dtype());
  check(y.shape() == target.shape(), "mse: shapes must agree; got ", y.shape(), " and ", target.shape());
  const Tensor difference = y.value() - target;
  return record("mse", mean(difference * difference), Wrt{y, [difference](const Tensor& dy) {
                  return difference * (dy * (2.0 / static_cast<double>(difference.numel())));
                }});
}

}  // namespace optnet
