// The catalogue of ops: what each computes, its shapes, its errors. Every op exists on Tensor (numbers) and,
// where it has a gradient, on Var (numbers with history). Value and gradient stand together in the family's
// file, which the headings name. All dtypes of an op must agree.
#pragma once

#include "framework/random.h"
#include "framework/tape.h"

#include <vector>

namespace optnet {

// ---- pointwise.cu: elementwise, with NumPy's broadcasting; NaN stays NaN, in gradients too ---------------------

Var operator+(const Var& a, const Var& b);          ///< a + b  (on Tensor: tensor.h)
Tensor operator-(const Tensor& a, const Tensor& b); Var operator-(const Var& a, const Var& b);  ///< a - b
Tensor operator*(const Tensor& a, const Tensor& b); Var operator*(const Var& a, const Var& b);  ///< a b
Tensor operator/(const Tensor& a, const Tensor& b); Var operator/(const Var& a, const Var& b);  ///< a / b, floating
Tensor operator-(const Tensor& x);                  Var operator-(const Var& x);                ///< -x
Tensor maximum(const Tensor& a, const Tensor& b);   Var maximum(const Var& a, const Var& b);    ///< max(a, b); equal: half the gradient each
Tensor minimum(const Tensor& a, const Tensor& b);   Var minimum(const Var& a, const Var& b);    ///< min(a, b); equal: half the gradient each
Tensor pow(const Tensor& x, double p);              Var pow(const Var& x, double p);            ///< x^p for a fixed number p, floating

Tensor exp(const Tensor& x);     Var exp(const Var& x);      ///< e^x
Tensor log(const Tensor& x);     Var log(const Var& x);      ///< ln x; x = 0 gives -inf, x < 0 NaN
Tensor log1p(const Tensor& x);   Var log1p(const Var& x);    ///< ln(1 + x), with all its digits near 0
Tensor expm1(const Tensor& x);   Var expm1(const Var& x);    ///< e^x - 1, with all its digits near 0
Tensor sqrt(const Tensor& x);    Var sqrt(const Var& x);     ///< x^1/2; the gradient at 0 is infinite
Tensor sin(const Tensor& x);     Var sin(const Var& x);      ///< sine, of radians
Tensor cos(const Tensor& x);     Var cos(const Var& x);      ///< cosine, of radians
Tensor erf(const Tensor& x);     Var erf(const Var& x);      ///< 2 / sqrt(pi) times the integral of e^-t^2 from 0 to x
Tensor tanh(const Tensor& x);    Var tanh(const Var& x);     ///< hyperbolic tangent
Tensor sigmoid(const Tensor& x); Var sigmoid(const Var& x);  ///< 1 / (1 + e^-x), without overflow
Tensor relu(const Tensor& x);    Var relu(const Var& x);     ///< max(x, 0); gradient 0 at 0
Tensor gelu(const Tensor& x);    Var gelu(const Var& x);     ///< x P(Z <= x), Z standard normal: x (1 + erf(x / sqrt 2)) / 2
Tensor abs(const Tensor& x);     Var abs(const Var& x);      ///< |x|; gradient 0 at 0
Tensor softplus(const Tensor& x); Var softplus(const Var& x);  ///< ln(1 + e^x), without overflow

/// x if x > 0, else slope x; the gradient at 0 is the slope. Floating.
Tensor leaky_relu(const Tensor& x, double slope = 0.01); Var leaky_relu(const Var& x, double slope = 0.01);
/// min(max(x, low), high); gradient 1 between the limits and at them, else 0.
Tensor clamp(const Tensor& x, double low, double high); Var clamp(const Var& x, double low, double high);

/// x with each entry set to 0 with probability p, the rest divided by 1 - p. p in [0, 1).
Var dropout(const Var& x, double p, Random& random);

// Comparisons give 1 or 0 in the operands' dtype, so that a mask multiplies without a conversion.
Tensor equal(const Tensor& a, const Tensor& b);         ///< a == b
Tensor less(const Tensor& a, const Tensor& b);          ///< a < b
Tensor less_equal(const Tensor& a, const Tensor& b);    ///< a <= b
Tensor greater(const Tensor& a, const Tensor& b);       ///< a > b
Tensor greater_equal(const Tensor& a, const Tensor& b); ///< a >= b
/// a where mask is not 0, else b; the gradient goes to the one that was taken.
Tensor where(const Tensor& mask, const Tensor& a, const Tensor& b); Var where(const Tensor& mask, const Var& a, const Var& b);

// Plain numbers take the tensor's dtype and device.
Tensor number_like(double number, const Tensor& x);
#define OPTNET_WITH_NUMBER(op)                                                                                       \
  inline Tensor operator op(const Tensor& a, double b) { return a op number_like(b, a); }                            \
  inline Tensor operator op(double a, const Tensor& b) { return number_like(a, b) op b; }                            \
  inline Var operator op(const Var& a, double b) { return a op Var(number_like(b, a.value())); }                     \
  inline Var operator op(double a, const Var& b) { return Var(number_like(a, b.value())) op b; }
OPTNET_WITH_NUMBER(+)
OPTNET_WITH_NUMBER(-)
OPTNET_WITH_NUMBER(*)
OPTNET_WITH_NUMBER(/)
#undef OPTNET_WITH_NUMBER
#define OPTNET_WITH_NUMBER(op)                                                                                       \
  inline Tensor op(const Tensor& a, double b) { return op(a, number_like(b, a)); }                                   \
  inline Tensor op(double a, const Tensor& b) { return op(number_like(a, b), b); }
OPTNET_WITH_NUMBER(maximum)
OPTNET_WITH_NUMBER(minimum)
OPTNET_WITH_NUMBER(equal)
OPTNET_WITH_NUMBER(less)
OPTNET_WITH_NUMBER(less_equal)
OPTNET_WITH_NUMBER(greater)
OPTNET_WITH_NUMBER(greater_equal)
#undef OPTNET_WITH_NUMBER
inline Var maximum(const Var& a, double b) { return maximum(a, Var(number_like(b, a.value()))); }
inline Var maximum(double a, const Var& b) { return maximum(Var(number_like(a, b.value())), b); }
inline Var minimum(const Var& a, double b) { return minimum(a, Var(number_like(b, a.value()))); }
inline Var minimum(double a, const Var& b) { return minimum(Var(number_like(a, b.value())), b); }
inline Tensor where(const Tensor& mask, const Tensor& a, double b) { return where(mask, a, number_like(b, a)); }
inline Var where(const Tensor& mask, const Var& a, double b) { return where(mask, a, Var(number_like(b, a.value()))); }

// ---- reduce.cu: over any axes; no axes means all of them -------------------------------------------------------

using Axes = std::vector<int>;  // negative ones count from the last
struct Reduce {
  bool keepdims = false;  // leave the reduced axes in the shape, as 1
};
Tensor sum(const Tensor& x, const Axes& axes = {}, Reduce options = {});  Var sum(const Var& x, const Axes& axes = {}, Reduce options = {});   ///< Sum; 0 for no elements.
Tensor mean(const Tensor& x, const Axes& axes = {}, Reduce options = {}); Var mean(const Var& x, const Axes& axes = {}, Reduce options = {});  ///< Mean, floating; an error for no elements.
Tensor max(const Tensor& x, const Axes& axes = {}, Reduce options = {});  Var max(const Var& x, const Axes& axes = {}, Reduce options = {});   ///< Largest; NaN if any is; equal ones share the gradient.
Tensor min(const Tensor& x, const Axes& axes = {}, Reduce options = {});  Var min(const Var& x, const Axes& axes = {}, Reduce options = {});   ///< Smallest; likewise.
struct Variance {
  bool keepdims = false;
  double correction = 1;  // 1: of a sample; 0: of all there is
};
/// Sum of (x - mean)^2 / (count - correction), floating; an error where the correction is not below the count.
Tensor var(const Tensor& x, const Axes& axes = {}, Variance options = {});
Var var(const Var& x, const Axes& axes = {}, Variance options = {});
/// (Sum of x^2)^1/2, floating, overflowing only where the result does; gradient 0 at 0.
Tensor norm(const Tensor& x, const Axes& axes = {}, Reduce options = {});
Var norm(const Var& x, const Axes& axes = {}, Reduce options = {});
/// The first index of the largest element along an axis, which drops out of the shape; NaN counts as the largest. int64
Tensor argmax(const Tensor& x, int axis = -1);

// ---- softmax.cu and scan.cu: along one axis ---------------------------------------------------------------------

/// exp(x) / sum exp(x) along the last axis.
Tensor softmax(const Tensor& x);     Var softmax(const Var& x);
/// x - ln sum exp(x) along the last axis, without overflow.
Tensor log_softmax(const Tensor& x); Var log_softmax(const Var& x);
/// ln sum exp(x) along an axis, which drops out of the shape, without overflow; -inf, with gradient 0, where all entries are.
Tensor logsumexp(const Tensor& x, int axis = -1); Var logsumexp(const Var& x, int axis = -1);
/// y[k] = x[0] + ... + x[k] along an axis.
Tensor cumsum(const Tensor& x, int axis); Var cumsum(const Var& x, int axis);

// ---- matmul.cpp ------------------------------------------------------------------------------------------------

struct Matmul {
  bool transpose_a = false, transpose_b = false;
};
/// a b. a [..., m, k], b [..., k, n] -> [..., m, n]; batch axes broadcast; transposed factors are given as
/// [..., k, m] and [..., n, k].
Tensor matmul(const Tensor& a, const Tensor& b, Matmul options = {}); Var matmul(const Var& a, const Var& b, Matmul options = {});
/// The lower triangular L of A = L L'. A [..., n, n] symmetric positive definite (its lower half is read); an
/// error names the matrix and the column that is not positive. The gradient is symmetric.
Tensor cholesky(const Tensor& a); Var cholesky(const Var& a);
struct SolveLower {
  bool transpose = false;
};
/// L^-1 b, or L'^-1 b. L [..., n, n] lower triangular, b [..., n, c], the same batch axes.
Tensor solve_lower(const Tensor& l, const Tensor& b, SolveLower options = {});
Var solve_lower(const Var& l, const Var& b, SolveLower options = {});
/// A^-1 b by elimination with partial pivoting. A [..., n, n], b [..., n, c], the same batch axes; an error names a
/// singular matrix and the column that has no pivot.
Tensor solve(const Tensor& a, const Tensor& b); Var solve(const Var& a, const Var& b);
/// a b'. Vectors a [..., m] and b [..., n] -> [..., m, n]; the other axes broadcast.
Tensor outer(const Tensor& a, const Tensor& b); Var outer(const Var& a, const Var& b);

// ---- triangle.cu: of matrices, the last two axes ----------------------------------------------------------------

/// The matrix with x on its diagonal. [..., n] -> [..., n, n]
Tensor diag(const Tensor& x); Var diag(const Var& x);
/// The diagonal of a square matrix. [..., n, n] -> [..., n]
Tensor diagonal(const Tensor& x); Var diagonal(const Var& x);
/// The entries on and below diagonal k, elsewhere 0; k > 0 lies above the main diagonal.
Tensor tril(const Tensor& x, std::int64_t k = 0); Var tril(const Var& x, std::int64_t k = 0);
/// The entries on and above diagonal k, elsewhere 0.
Tensor triu(const Tensor& x, std::int64_t k = 0); Var triu(const Var& x, std::int64_t k = 0);

// ---- index.cu --------------------------------------------------------------------------------------------------

/// The same elements under another shape; one size may be -1. (On Tensor: a member.)
Var reshape(const Var& x, std::initializer_list<std::int64_t> sizes);
Var reshape(const Var& x, const Shape& shape);
/// Exchanges two axes; a copy.
Tensor transpose(const Tensor& x, int axis_a = -2, int axis_b = -1); Var transpose(const Var& x, int axis_a = -2, int axis_b = -1);
/// The entries of an axis in reverse.
Tensor flip(const Tensor& x, int axis); Var flip(const Var& x, int axis);
/// Entries start ... stop-1 of an axis; negative ends count from the back.
Tensor slice(const Tensor& x, int axis, std::int64_t start, std::int64_t stop); Var slice(const Var& x, int axis, std::int64_t start, std::int64_t stop);
struct Pad {
  std::int64_t before = 0, after = 0;  // negative ones cut
};
/// `value` added before and after the entries of each axis: pad(x, {{0, 0}, {1, 2}}).
Tensor pad(const Tensor& x, const std::vector<Pad>& pads, double value = 0);
Var pad(const Var& x, const std::vector<Pad>& pads, double value = 0);
/// The entries of an axis that `index` (int64) names, in its order; repeats are allowed. The index's shape takes the axis's
/// place: [B, T] of a table [n, c] gives [B, T, c], and a scalar drops the axis.
Tensor gather(const Tensor& x, int axis, const Tensor& index); Var gather(const Var& x, int axis, const Tensor& index);
/// Joined along an existing axis; the other sizes must agree.
Tensor concat(const std::vector<Tensor>& parts, int axis); Var concat(const std::vector<Var>& parts, int axis);
/// Joined along a new axis; all shapes must agree.
Tensor stack(const std::vector<Tensor>& parts, int axis = 0); Var stack(const std::vector<Var>& parts, int axis = 0);
/// x so many times one after another along each axis: repeat(x, {1, 3}).
Tensor repeat(const Tensor& x, const std::vector<std::int64_t>& times);
Var repeat(const Var& x, const std::vector<std::int64_t>& times);

// Braces around tensors mean tensors: concat({x, y}, 0).
inline Tensor concat(std::initializer_list<Tensor> parts, int axis) { return concat(std::vector<Tensor>(parts), axis); }
inline Tensor stack(std::initializer_list<Tensor> parts, int axis = 0) { return stack(std::vector<Tensor>(parts), axis); }

// ---- loss.cu: means over the batch, and the labels they take -----------------------------------------------------

/// 1 at each label, elsewhere 0. labels [...] int64 in 0 ... classes-1 -> [..., classes]
Tensor one_hot(const Tensor& labels, std::int64_t classes, DType dtype = float32);
struct CrossEntropy {
  double label_smoothing = 0;  // the share of the target that is spread evenly over all classes, in [0, 1]
  Tensor class_weights{};      // [C]; none: all 1
};
/// Mean of -log softmax(logits)[label]. logits [B, ..., C], labels [B, ...] int64 in 0 ... C-1 -> scalar. With weights w and
/// smoothing s: sum of -(1 - s) w[label] log p[label] - s / C sum_c w[c] log p[c], over the sum of w[label].
Var cross_entropy(const Var& logits, const Tensor& labels, const CrossEntropy& options = {});
/// Mean of -t log p - (1 - t) log(1 - p) with p = sigmoid(logits), without overflow; equal shapes, t in [0, 1]. -> scalar
Var binary_cross_entropy_with_logits(const Var& logits, const Tensor& targets);
/// Mean of (y - target)^2 over all elements; equal shapes. -> scalar
Var mse(const Var& y, const Tensor& target);
/// Mean of |y - target|, with gradient 0 where they are equal; equal shapes. -> scalar
Var l1(const Var& y, const Tensor& target);
struct Huber {
  double delta = 1;
};
/// Mean of e^2 / 2 where e = |y - target| is at most delta, else of delta (e - delta / 2); equal shapes. -> scalar
Var huber(const Var& y, const Tensor& target, Huber options = {});

// ---- conv.cu: images, [batch, channels, height, width] ------------------------------------------------------------

/// Along height and width; one number means both.
struct Size2 {
  int height, width;  // int: of options of two std::int64_t each, g++ 12 with -O2 -march=znver4 passes some as their neighbours
  Size2(std::int64_t both) : Size2(both, both) {}
  Size2(std::int64_t h, std::int64_t w) : height(static_cast<int>(h)), width(static_cast<int>(w)) {
    check(height == h && width == w, "size: must fit into 32 bits; got ", h, " and ", w);
  }
  friend std::ostream& operator<<(std::ostream& out, const Size2& size) { return out << size.height << 'x' << size.width; }
};
struct Conv2dOptions {
  Size2 stride = 1, padding = 0, dilation = 1;  // zeros around the image; steps between the window's entries
};
/// y[b, o, i, j] = bias[o] + sum over c, r, s of w[o, c, r, s] x[b, c, i stride - padding + r dilation, j ... + s dilation].
/// x [B, C, H, W], w [O, C, R, S], bias [O] -> [B, O, H', W'], H' = floor((H + 2 padding - dilation (R - 1) - 1) / stride) + 1.
Var conv2d(const Var& x, const Var& w, const Var& bias, const Conv2dOptions& options = {});
Var conv2d(const Var& x, const Var& w, const Conv2dOptions& options = {});
struct Pool2dOptions {
  Size2 stride = 0, padding = 0;  // stride 0: the window's size
};
/// The largest entry of each window; NaN if there is one; the first of equal ones has the gradient. Padding never counts.
Var max_pool2d(const Var& x, Size2 window, const Pool2dOptions& options = {});
/// The mean of each window, in which padding counts as 0.
Var avg_pool2d(const Var& x, Size2 window, const Pool2dOptions& options = {});

// ---- norm.cu ------------------------------------------------------------------------------------------------------

/// A normalised batch, and the statistics it was normalised by.
struct BatchStatistics {
  Var y;
  Tensor mean, variance;  // [C], over the batch; the variance over N
};
/// y = (x - mean) / sqrt(variance + eps) w + b, channel by channel.  x [B, C, ...], w and b [C]. Ioffe and Szegedy 2015.
BatchStatistics batch_norm(const Var& x, const Var& w, const Var& b, double eps = 1e-5);
/// The same with given statistics [C], as in evaluation.
Var batch_norm(const Var& x, const Var& w, const Var& b, const Tensor& mean, const Tensor& variance, double eps = 1e-5);
/// The same over the last axes, those of w and b, of each example. Ba et al. 2016.
Var layer_norm(const Var& x, const Var& w, const Var& b, double eps = 1e-5);

}  // namespace optnet
