// Elementwise ops: value and gradient side by side. A functor is a formula on one element; map() in kernel.h
// runs it over tensors of any dtype, on any device.
#include "framework/kernel.h"
#include "framework/ops.h"

#include <cmath>

namespace optnet {
namespace {

// A functor on elements of any type, as a named struct so that nvcc can launch it.
#define FORMULA_1(Name, formula) \
  struct Name { template <class T> OPTNET_HD T operator()(T x) const { return static_cast<T>(formula); } }
#define FORMULA_2(Name, formula) \
  struct Name { template <class T> OPTNET_HD T operator()(T a, T b) const { return static_cast<T>(formula); } }

FORMULA_2(Add, a + b);
FORMULA_2(Sub, a - b);
FORMULA_2(Mul, a * b);
FORMULA_2(Div, a / b);
FORMULA_2(Max, a > b || a != a ? a : b);  // a != a: NaN stays NaN, as it does in b
FORMULA_2(Min, a < b || a != a ? a : b);
FORMULA_2(Greater, a > b);
FORMULA_2(GreaterEqual, a >= b);
FORMULA_2(Less, a < b);
FORMULA_2(LessEqual, a <= b);
FORMULA_2(Equal, a == b);
FORMULA_2(AheadOf, a > b ? T(1) : a == b ? T(0.5) : a < b ? T(0) : a + b);  // the share of max(a, b)'s gradient that is a's

FORMULA_1(Neg, -x);
FORMULA_1(Exp, std::exp(x));
FORMULA_1(Log, std::log(x));
FORMULA_1(Log1p, std::log1p(x));
FORMULA_1(Expm1, std::expm1(x));
FORMULA_1(Sqrt, std::sqrt(x));
FORMULA_1(Sin, std::sin(x));
FORMULA_1(Cos, std::cos(x));
FORMULA_1(Erf, std::erf(x));
FORMULA_1(Tanh, std::tanh(x));
FORMULA_1(Sigmoid, x >= 0 ? 1 / (1 + std::exp(-x)) : std::exp(x) / (1 + std::exp(x)));
FORMULA_1(Relu, x > 0 || x != x ? x : T(0));
FORMULA_1(Softplus, (x > 0 ? x : T(0)) + std::log1p(std::exp(x > 0 ? -x : x)));
FORMULA_1(NormalCdf, T(0.5) * std::erfc(x * T(-0.70710678118654752)));  // P(Z <= x); 1 + erf would cancel far below 0
FORMULA_1(NormalDensity, T(0.39894228040143268) * std::exp(T(-0.5) * x * x));
FORMULA_1(Abs, x < 0 ? -x : x);
FORMULA_1(Sign, x != x ? x : T(x > 0) - T(x < 0));

// Gradients: b = dy, and a = x where nothing else is said.
FORMULA_2(Log1pGrad, b / (1 + a));
FORMULA_2(Expm1Grad, std::exp(a) * b);
FORMULA_2(SinGrad, std::cos(a) * b);
FORMULA_2(CosGrad, -std::sin(a) * b);
FORMULA_2(ErfGrad, T(1.1283791670955126) * std::exp(-a * a) * b);  // 2 / sqrt(pi)
FORMULA_2(TanhGrad, (1 - a * a) * b);     // a = tanh x
FORMULA_2(SigmoidGrad, Sigmoid{}(a) * Sigmoid{}(-a) * b);  // 1 - sigmoid x would cancel for large x
FORMULA_2(SoftplusGrad, Sigmoid{}(a) * b);
FORMULA_2(SqrtGrad, b / (2 * a));         // a = sqrt x
FORMULA_2(ReluGrad, a > 0 ? b : a != a ? a : T(0));  // a = x or relu x

struct Pow {
  double p;
  template <class T>
  OPTNET_HD T operator()(T x) const { return static_cast<T>(std::pow(x, static_cast<T>(p))); }
};
struct Clamp {
  double low, high;
  template <class T>
  OPTNET_HD T operator()(T x) const {
    const T least = static_cast<T>(low), most = static_cast<T>(high);
    return x < least ? least : x > most ? most : x;
  }
};
struct ClampGrad {
  double low, high;
  template <class T>
  OPTNET_HD T operator()(T x, T dy) const { return x >= static_cast<T>(low) && x <= static_cast<T>(high) ? dy : x != x ? x : T(0); }
};
struct LeakyRelu {
  double slope;
  template <class T>
  OPTNET_HD T operator()(T x) const { return x > 0 ? x : static_cast<T>(slope) * x; }
};
struct LeakyReluGrad {
  double slope;
  template <class T>
  OPTNET_HD T operator()(T x, T dy) const { return x > 0 ? dy : x != x ? x : static_cast<T>(slope) * dy; }
};
struct Gelu {
  template <class T>
  OPTNET_HD T operator()(T x) const {
    const T p = NormalCdf{}(x);
    return p == 0 ? T(0) : x * p;  // no product of -inf and 0
  }
};
struct GeluGrad {
  template <class T>
  OPTNET_HD T operator()(T x, T dy) const {
    const T density = NormalDensity{}(x);
    return (NormalCdf{}(x) + (density == 0 ? T(0) : x * density)) * dy;
  }
};
struct Where {
  template <class T>
  OPTNET_HD T operator()(T mask, T a, T b) const { return mask != T(0) ? a : b; }
};
struct DropoutMask {  // of a uniform number in [0, 1)
  double p;
  template <class T>
  OPTNET_HD T operator()(T u) const { return u < static_cast<T>(p) ? T(0) : static_cast<T>(1 / (1 - p)); }
};

#undef FORMULA_1
#undef FORMULA_2

template <class T>
struct Fill {
  T* y;
  T value;
  OPTNET_HD void operator()(std::int64_t i) const { y[i] = value; }
};
template <class From, class To>
struct Cast {
  const From* x;
  To* y;
  OPTNET_HD void operator()(std::int64_t i) const { y[i] = static_cast<To>(x[i]); }
};

}  // namespace

Tensor full(const Shape& shape, double value, DType dtype, Device device) {
  check_number("full", value, dtype);
  Buffer out(static_cast<std::size_t>(shape.numel()) * size_of(dtype), device);
  dispatch(dtype, [&](auto t) {
    using T = decltype(t);
    parallel_for(device, shape.numel(), shape.numel(), Fill<T>{static_cast<T*>(out.data()), static_cast<T>(value)});
  });
  return Tensor(shape, dtype, std::move(out));
}

Tensor Tensor::to(DType target) const {
  if (!defined() || target == dtype_) return *this;
  if (target == int64 && numel() > 0) {  // other numbers have no int64; those between two are truncated
    const double low = min(*this).item(), high = max(*this).item();
    check(low >= -0x1p63 && high < 0x1p63, "to: int64 takes numbers of at least -2^63 and below 2^63, and no NaN; got ",
          low, " to ", high);
  }
  Buffer out(static_cast<std::size_t>(numel()) * size_of(target), device());
  dispatch(dtype_, [&](auto a) {
    dispatch(target, [&](auto b) {
      using To = decltype(b);
      parallel_for(device(), numel(), numel(), Cast<decltype(a), To>{data<decltype(a)>(), static_cast<To*>(out.data())});
    });
  });
  return Tensor(shape_, target, std::move(out));
}

Tensor number_like(double number, const Tensor& x) {
  check_number("arithmetic", number, x.dtype());
  return full({}, number, x.dtype(), x.device());
}

Tensor operator+(const Tensor& a, const Tensor& b) { return map("add", Add{}, a, b); }
Var operator+(const Var& a, const Var& b) {
  return record("add", a.value() + b.value(),
                Wrt{a, [](const Tensor& dy) { return dy; }},
                Wrt{b, [](const Tensor& dy) { return dy; }});
}

Tensor operator-(const Tensor& a, const Tensor& b) { return map("sub", Sub{}, a, b); }
Var operator-(const Var& a, const Var& b) {
  return record("sub", a.value() - b.value(),
                Wrt{a, [](const Tensor& dy) { return dy; }},
                Wrt{b, [](const Tensor& dy) { return -dy; }});
}

Tensor operator*(const Tensor& a, const Tensor& b) { return map("mul", Mul{}, a, b); }
Var operator*(const Var& a, const Var& b) {
  return record("mul", a.value() * b.value(),
                Wrt{a, [y = b.value()](const Tensor& dz) { return dz * y; }},
                Wrt{b, [x = a.value()](const Tensor& dz) { return dz * x; }});
}

Tensor operator/(const Tensor& a, const Tensor& b) { return map_floating("div", Div{}, a, b); }
Var operator/(const Var& a, const Var& b) {
  Tensor z = a.value() / b.value();
  return record("div", z,
                Wrt{a, [y = b.value()](const Tensor& dz) { return dz / y; }},
                Wrt{b, [y = b.value(), z](const Tensor& dz) { return -(dz * z / y); }});
}

Tensor operator-(const Tensor& x) { return map("neg", Neg{}, x); }
Var operator-(const Var& x) {
  return record("neg", -x.value(), Wrt{x, [](const Tensor& dy) { return -dy; }});
}

Tensor maximum(const Tensor& a, const Tensor& b) { return map("maximum", Max{}, a, b); }
Var maximum(const Var& a, const Var& b) {
  Tensor x = a.value(), y = b.value();
  return record("maximum", maximum(x, y),
                Wrt{a, [x, y](const Tensor& dz) { return dz * map("maximum", AheadOf{}, x, y); }},
                Wrt{b, [x, y](const Tensor& dz) { return dz * map("maximum", AheadOf{}, y, x); }});
}

Tensor minimum(const Tensor& a, const Tensor& b) { return map("minimum", Min{}, a, b); }
Var minimum(const Var& a, const Var& b) {
  Tensor x = a.value(), y = b.value();
  return record("minimum", minimum(x, y),
                Wrt{a, [x, y](const Tensor& dz) { return dz * map("minimum", AheadOf{}, y, x); }},
                Wrt{b, [x, y](const Tensor& dz) { return dz * map("minimum", AheadOf{}, x, y); }});
}

Tensor pow(const Tensor& x, double p) { return map_floating("pow", Pow{p}, x); }
Var pow(const Var& x, double p) {
  return record("pow", pow(x.value(), p),
                Wrt{x, [x = x.value(), p](const Tensor& dy) {  // x^0 is constant, at 0 too
                  return p == 0 ? zeros(dy.shape(), dy.dtype(), dy.device()) : dy * (p * pow(x, p - 1));
                }});
}

Tensor exp(const Tensor& x) { return map_floating("exp", Exp{}, x); }
Var exp(const Var& x) {
  Tensor y = exp(x.value());
  return record("exp", y, Wrt{x, [y](const Tensor& dy) { return dy * y; }});
}

Tensor log(const Tensor& x) { return map_floating("log", Log{}, x); }
Var log(const Var& x) {
  return record("log", log(x.value()), Wrt{x, [x = x.value()](const Tensor& dy) { return dy / x; }});
}

Tensor log1p(const Tensor& x) { return map_floating("log1p", Log1p{}, x); }
Var log1p(const Var& x) {
  return record("log1p", log1p(x.value()), Wrt{x, [x = x.value()](const Tensor& dy) { return map_floating("log1p", Log1pGrad{}, x, dy); }});
}

Tensor expm1(const Tensor& x) { return map_floating("expm1", Expm1{}, x); }
Var expm1(const Var& x) {
  return record("expm1", expm1(x.value()), Wrt{x, [x = x.value()](const Tensor& dy) { return map_floating("expm1", Expm1Grad{}, x, dy); }});
}

Tensor sqrt(const Tensor& x) { return map_floating("sqrt", Sqrt{}, x); }
Var sqrt(const Var& x) {
  Tensor y = sqrt(x.value());
  return record("sqrt", y, Wrt{x, [y](const Tensor& dy) { return map_floating("sqrt", SqrtGrad{}, y, dy); }});
}

Tensor sin(const Tensor& x) { return map_floating("sin", Sin{}, x); }
Var sin(const Var& x) {
  return record("sin", sin(x.value()), Wrt{x, [x = x.value()](const Tensor& dy) { return map_floating("sin", SinGrad{}, x, dy); }});
}

Tensor cos(const Tensor& x) { return map_floating("cos", Cos{}, x); }
Var cos(const Var& x) {
  return record("cos", cos(x.value()), Wrt{x, [x = x.value()](const Tensor& dy) { return map_floating("cos", CosGrad{}, x, dy); }});
}

Tensor erf(const Tensor& x) { return map_floating("erf", Erf{}, x); }
Var erf(const Var& x) {
  return record("erf", erf(x.value()), Wrt{x, [x = x.value()](const Tensor& dy) { return map_floating("erf", ErfGrad{}, x, dy); }});
}

Tensor tanh(const Tensor& x) { return map_floating("tanh", Tanh{}, x); }
Var tanh(const Var& x) {
  Tensor y = tanh(x.value());
  return record("tanh", y, Wrt{x, [y](const Tensor& dy) { return map_floating("tanh", TanhGrad{}, y, dy); }});
}

Tensor sigmoid(const Tensor& x) { return map_floating("sigmoid", Sigmoid{}, x); }
Var sigmoid(const Var& x) {
  return record("sigmoid", sigmoid(x.value()),
                Wrt{x, [x = x.value()](const Tensor& dy) { return map_floating("sigmoid", SigmoidGrad{}, x, dy); }});
}

Tensor relu(const Tensor& x) { return map("relu", Relu{}, x); }
Var relu(const Var& x) {
  Tensor y = relu(x.value());
  return record("relu", y, Wrt{x, [y](const Tensor& dy) { return map("relu", ReluGrad{}, y, dy); }});
}

Tensor leaky_relu(const Tensor& x, double slope) { return map_floating("leaky_relu", LeakyRelu{slope}, x); }
Var leaky_relu(const Var& x, double slope) {
  return record("leaky_relu", leaky_relu(x.value(), slope), Wrt{x, [x = x.value(), slope](const Tensor& dy) {
                  return map_floating("leaky_relu", LeakyReluGrad{slope}, x, dy);
                }});
}

Tensor gelu(const Tensor& x) { return map_floating("gelu", Gelu{}, x); }
Var gelu(const Var& x) {
  return record("gelu", gelu(x.value()), Wrt{x, [x = x.value()](const Tensor& dy) { return map_floating("gelu", GeluGrad{}, x, dy); }});
}

Tensor softplus(const Tensor& x) { return map_floating("softplus", Softplus{}, x); }
Var softplus(const Var& x) {
  return record("softplus", softplus(x.value()),
                Wrt{x, [x = x.value()](const Tensor& dy) { return map_floating("softplus", SoftplusGrad{}, x, dy); }});
}

Tensor clamp(const Tensor& x, double low, double high) {
  check_operands("clamp", x);
  check(low <= high, "clamp: low must be at most high; got ", low, " and ", high);
  for (double limit : {low, high}) check_number("clamp", limit, x.dtype());
  return map("clamp", Clamp{low, high}, x);
}
Var clamp(const Var& x, double low, double high) {
  return record("clamp", clamp(x.value(), low, high), Wrt{x, [x = x.value(), low, high](const Tensor& dy) {
                  return map("clamp", ClampGrad{low, high}, x, dy);
                }});
}

Tensor abs(const Tensor& x) { return map("abs", Abs{}, x); }
Var abs(const Var& x) {
  return record("abs", abs(x.value()),
                Wrt{x, [x = x.value()](const Tensor& dy) { return dy * map("abs", Sign{}, x); }});
}

Var dropout(const Var& x, double p, Random& random) {
  check_operands("dropout", x.value());
  check_floating("dropout", x.dtype());
  check(p >= 0 && p < 1, "dropout: p must lie in [0, 1); got ", p);
  Tensor mask = map("dropout", DropoutMask{p}, uniform(random, x.shape(), 0, 1, x.dtype(), x.value().device()));
  return record("dropout", x.value() * mask, Wrt{x, [mask](const Tensor& dy) { return dy * mask; }});
}

Tensor equal(const Tensor& a, const Tensor& b) { return map("equal", Equal{}, a, b); }
Tensor less(const Tensor& a, const Tensor& b) { return map("less", Less{}, a, b); }
Tensor less_equal(const Tensor& a, const Tensor& b) { return map("less_equal", LessEqual{}, a, b); }
Tensor greater(const Tensor& a, const Tensor& b) { return map("greater", Greater{}, a, b); }
Tensor greater_equal(const Tensor& a, const Tensor& b) { return map("greater_equal", GreaterEqual{}, a, b); }

Tensor where(const Tensor& mask, const Tensor& a, const Tensor& b) { return map("where", Where{}, mask, a, b); }
Var where(const Tensor& mask, const Var& a, const Var& b) {  // no products: NaN and inf of what was not taken stay out
  return record("where", where(mask, a.value(), b.value()),
                Wrt{a, [mask](const Tensor& dy) { return where(mask, dy, number_like(0, dy)); }},
                Wrt{b, [mask](const Tensor& dy) { return where(mask, number_like(0, dy), dy); }});
}

}  // namespace optnet
