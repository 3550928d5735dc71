// SGD, Adam and AdamW: what each remembers of a parameter, and its step as a formula on one element, run in one pass. Numbers that
// nobody else holds are written over; those that a user, a tape or a saved state still holds stay, and the next go into fresh memory.
#include "framework/kernel.h"
#include "framework/optim.h"

#include <cmath>
#include <optional>

#ifdef __clang__
#pragma clang diagnostic ignored "-Wpass-failed"  // where little is optimised, simd has no effect
#endif

namespace optnet {
namespace {

void check_rate(const char* op, const char* name, double value) {
  check(value >= 0 && std::isfinite(value), op, ": the ", name, " must be finite and not negative; got ", value);
}

void check_share(const char* op, const char* name, double value) {
  check(value >= 0 && value < 1, op, ": ", name, " must lie in [0, 1); got ", value);
}

/// Where a tensor's next numbers are written.
template <class T>
class Next {
 public:
  explicit Next(Tensor& x) : x_(x), to_(static_cast<T*>(x.sole_memory())) {
    if (!to_) to_ = static_cast<T*>(fresh_.emplace(static_cast<std::size_t>(x.numel()) * sizeof(T), x.device()).data());
  }
  const T* from() const { return x_.data<T>(); }
  T* to() const { return to_; }
  void keep() {
    if (fresh_) x_ = Tensor(x_.shape(), x_.dtype(), std::move(*fresh_));
  }

 private:
  Tensor& x_;
  std::optional<Buffer> fresh_;
  T* to_;
};

/// f(i) over one chunk of n elements. Element i reads and writes no other's numbers, though both may be in one memory: what the
/// compiler cannot see and simd tells it.
template <class F>
struct Chunk {
  F f;
  std::int64_t n, size;
  OPTNET_NOINLINE OPTNET_HD void operator()(std::int64_t task) const {
    const std::int64_t first = task * size, last = n - first < size ? n : first + size;
#ifndef __CUDA_ARCH__
#pragma omp simd
#endif
    for (std::int64_t i = first; i < last; ++i) f(i);
  }
};

template <class F>
void for_each_element(const Tensor& x, const F& f) {
  const std::int64_t n = x.numel(), size = x.device() == Device::cuda ? 1 : 4096;
  parallel_for(x.device(), (n + size - 1) / size, n, Chunk<F>{f, n, size});
}

/// x = x - rate g, g = dx + decay x
template <class T>
struct Descent {
  T rate, decay;
  const T *x, *dx;
  T* x_next;
  OPTNET_HD void operator()(std::int64_t i) const {
    const T g = decay != 0 ? dx[i] + decay * x[i] : dx[i];
    x_next[i] = x[i] - rate * g;
  }
};

/// v = momentum v + g,  x = x - rate v, or with Nesterov x - rate (g + momentum v)
template <class T>
struct HeavyBall {
  T rate, momentum, decay;
  bool nesterov;
  const T *x, *dx, *v;
  T *x_next, *v_next;
  OPTNET_HD void operator()(std::int64_t i) const {
    const T g = decay != 0 ? dx[i] + decay * x[i] : dx[i], v_now = momentum * v[i] + g;
    v_next[i] = v_now;
    x_next[i] = x[i] - rate * (nesterov ? g + momentum * v_now : v_now);
  }
};

/// Kingma and Ba 2015, algorithm 1, on one element. `fresh1` is 1 - beta1, rounded once; `unbias1` is 1 / (1 - beta1^t). What AdamW
/// adds is `shrink`, 1 - rate weight_decay (Loshchilov and Hutter 2019, algorithm 2).
template <class T>
struct AdamStep {
  T rate, beta1, beta2, fresh1, fresh2, unbias1, unbias2, eps, decay, shrink;
  const T *x, *dx, *m, *v;
  T *x_next, *m_next, *v_next;
  OPTNET_HD void operator()(std::int64_t i) const {
    const T g = decay != 0 ? dx[i] + decay * x[i] : dx[i];
    const T m_now = beta1 * m[i] + fresh1 * g;
    const T v_now = beta2 * v[i] + fresh2 * (g * g);
    m_next[i] = m_now, v_next[i] = v_now;
    x_next[i] = shrink * x[i] - rate * (unbias1 * m_now) / (std::sqrt(unbias2 * v_now) + eps);
  }
};

}  // namespace

SGD::SGD(const std::vector<ParamGroup>& groups, SGDOptions options) : Optimizer(groups, options.lr, {"momentum"}), options_(options) {
  check_rate("SGD", "learning rate", options.lr);
  check_rate("SGD", "weight decay", options.weight_decay);
  check_share("SGD", "momentum", options.momentum);
  check(!options.nesterov || options.momentum > 0, "SGD: Nesterov needs momentum > 0; got ", options.momentum);
}

void SGD::update(Tensor& x, const Tensor& dx, Slot& slot) const {
  dispatch_floating("SGD", x.dtype(), [&](auto t) {
    using T = decltype(t);
    const T rate = static_cast<T>(lr * slot.lr), momentum = static_cast<T>(options_.momentum);
    const T decay = static_cast<T>(options_.weight_decay * slot.weight_decay);
    Next<T> x_next(x);
    if (options_.momentum == 0) {
      for_each_element(x, Descent<T>{rate, decay, x_next.from(), dx.data<T>(), x_next.to()});
    } else {
      Next<T> v(slot.buffers[0]);
      for_each_element(x, HeavyBall<T>{rate, momentum, decay, options_.nesterov, x_next.from(), dx.data<T>(), v.from(), x_next.to(), v.to()});
      v.keep();
    }
    x_next.keep();
  });
}

Adam::Adam(const std::vector<ParamGroup>& groups, AdamOptions options) : Adam("Adam", groups, options, 0) {}

Adam::Adam(const char* op, const std::vector<ParamGroup>& groups, AdamOptions options, double decoupled_decay)
    : Optimizer(groups, options.lr, {"exp_avg", "exp_avg_sq"}), options_(options), decoupled_decay_(decoupled_decay) {
  check_rate(op, "learning rate", options.lr);
  check_rate(op, "weight decay", options.weight_decay);
  check_rate(op, "weight decay", decoupled_decay);
  check_share(op, "beta1", options.beta1);
  check_share(op, "beta2", options.beta2);
  check(options.eps > 0 && std::isfinite(options.eps), op, ": eps must be finite and positive; got ", options.eps);
}

void Adam::update(Tensor& x, const Tensor& dx, Slot& slot) const {
  const double rate = lr * slot.lr, beta1 = options_.beta1, beta2 = options_.beta2, steps = static_cast<double>(steps_);
  dispatch_floating("Adam", x.dtype(), [&](auto t) {
    using T = decltype(t);
    Next<T> x_next(x), m(slot.buffers[0]), v(slot.buffers[1]);
    for_each_element(x, AdamStep<T>{.rate = static_cast<T>(rate),
                                    .beta1 = static_cast<T>(beta1),
                                    .beta2 = static_cast<T>(beta2),
                                    .fresh1 = static_cast<T>(1 - beta1),
                                    .fresh2 = static_cast<T>(1 - beta2),
                                    .unbias1 = static_cast<T>(1 / (1 - std::pow(beta1, steps))),
                                    .unbias2 = static_cast<T>(1 / (1 - std::pow(beta2, steps))),
                                    .eps = static_cast<T>(options_.eps),
                                    .decay = static_cast<T>(options_.weight_decay * slot.weight_decay),
                                    .shrink = static_cast<T>(1 - rate * decoupled_decay_ * slot.weight_decay),
                                    .x = x_next.from(), .dx = dx.data<T>(), .m = m.from(), .v = v.from(),
                                    .x_next = x_next.to(), .m_next = m.to(), .v_next = v.to()});
    x_next.keep(), m.keep(), v.keep();
  });
}

AdamW::AdamW(const std::vector<ParamGroup>& groups, AdamWOptions options)
    : Adam("AdamW", groups, {.lr = options.lr, .beta1 = options.beta1, .beta2 = options.beta2, .eps = options.eps}, options.weight_decay) {}

}  // namespace optnet
