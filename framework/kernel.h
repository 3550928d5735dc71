// Kernels: loops over named functors, run on the CPU (OpenMP) or on a GPU. The .cu files that use this header
// are compiled by g++ as C++ and by nvcc as CUDA; only this file holds a launch. Results depend on sizes
// alone, never on the number of threads.
#pragma once

#include "framework/tensor.h"

#include <utility>

#ifdef __CUDACC__
#define OPTNET_HD __host__ __device__
#else
#define OPTNET_HD
#endif
#ifdef __CUDA_ARCH__
#define OPTNET_NOINLINE  // on a GPU a call would copy the functor to the stack of every thread
#else
#define OPTNET_NOINLINE [[gnu::noinline]]
#endif

namespace optnet {

/// Below this many elements a loop stays on the calling thread: starting threads would cost more than it saves.
inline constexpr std::int64_t parallel_threshold = 1 << 15;

#ifdef __CUDACC__
void check_launch();  // backend_cuda.cpp

namespace {
template <class F>
__global__ void grid(std::int64_t n, F f) {
  for (std::int64_t i = blockIdx.x * std::int64_t(blockDim.x) + threadIdx.x; i < n; i += gridDim.x * std::int64_t(blockDim.x)) f(i);
}
}  // namespace
#endif

/// f(i) for i = 0 ... n-1, in any order. `work` is the number of elements touched in all, to judge its size.
template <class F>
void parallel_for(Device device, std::int64_t n, std::int64_t work, const F& f) {
  if (n == 0) return;
  if (device == Device::cuda) {
#ifdef __CUDACC__
    grid<<<static_cast<unsigned>(std::min<std::int64_t>((n + 255) / 256, 65535)), 256>>>(n, f);
    return check_launch();
#else
    fail("kernel: this build has no CUDA; build with make CUDA=1");
#endif
  }
  if (work < parallel_threshold || n == 1 || threads() == 1) {
    for (std::int64_t i = 0; i < n; ++i) f(i);
    return;
  }
#pragma omp parallel for schedule(static) num_threads(threads())
  for (std::int64_t i = 0; i < n; ++i) f(i);
}

/// A tensor as [outer, count, inner] around an axis, or around several neighbouring ones that were counted together.
struct Extent {
  std::int64_t outer = 1, count = 1, inner = 1;
  Extent() = default;
  Extent(std::int64_t o, std::int64_t c, std::int64_t i) : outer(o), count(c), inner(i) {}
  Extent(const Shape& shape, int axis) : count(shape[axis]) {
    for (int d = 0; d < axis; ++d) outer *= shape[d];
    for (int d = axis + 1; d < shape.rank(); ++d) inner *= shape[d];
  }
};
inline Shape without(const Shape& shape, int axis) {
  Shape out;
  for (int d = 0; d < shape.rank(); ++d)
    if (d != axis) out.push_back(shape[d]);
  return out;
}

// ---- elementwise, with broadcasting --------------------------------------------------------------------------

/// How N operands are walked together under broadcasting: as `rows` runs of `inner` elements, in which an
/// operand either advances by one (step 1) or stays (step 0). Axes that can be walked as one are merged.
template <int N>
struct Walk {
  int rank = 0;                              // of the outer axes
  std::int64_t size[Shape::max_rank] = {};   // outer axes, outermost first
  std::int64_t stride[N][Shape::max_rank] = {};
  std::int64_t rows = 1, inner = 1, step[N] = {};

  Walk(const Shape& out, const Shape* const (&in)[N]) {
    for (int axis = 0; axis < out.rank(); ++axis)
      if (out[axis] != 1) push(out, in, axis);
    if (rank > 0) {  // the last merged axis becomes the inner run
      inner = size[--rank];
      for (int k = 0; k < N; ++k) step[k] = stride[k][rank];
    }
    for (int d = 0; d < rank; ++d) rows *= size[d];
  }

  /// Where operand k's run `row` begins.
  OPTNET_HD std::int64_t offset(int k, std::int64_t row) const {
    std::int64_t at = 0;
    for (int d = rank - 1; d >= 0; --d) {
      at += row % size[d] * stride[k][d];
      row /= size[d];
    }
    return at;
  }

 private:
  static std::int64_t stride_of(const Shape& in, const Shape& out, int axis) {
    int own = axis - (out.rank() - in.rank());
    if (own < 0 || in[own] == 1) return 0;
    std::int64_t s = 1;
    for (int d = own + 1; d < in.rank(); ++d) s *= in[d];
    return s;
  }

  void push(const Shape& out, const Shape* const (&in)[N], int axis) {
    bool merge = rank > 0;
    for (int k = 0; k < N && merge; ++k) merge = stride[k][rank - 1] == stride_of(*in[k], out, axis) * out[axis];
    if (!merge) size[rank++] = 1;
    size[rank - 1] *= out[axis];
    for (int k = 0; k < N; ++k) stride[k][rank - 1] = stride_of(*in[k], out, axis);
  }
};

/// out[i] = f(in[0][i], in[1][i], ...) over one chunk of one run.
template <class F, class T, int N>
struct Elementwise {
  F f;
  T* out;
  const T* in[N];
  Walk<N> walk;
  std::int64_t chunk, chunks;  // elements a chunk, chunks a run

  // A chunk is worth a call: inlined twice by parallel_for it would double the time to compile an op.
  OPTNET_NOINLINE OPTNET_HD void operator()(std::int64_t task) const {
    std::int64_t row = task / chunks, first = task % chunks * chunk;
    std::int64_t count = walk.inner - first < chunk ? walk.inner - first : chunk;
    const T* at[N];
    for (int k = 0; k < N; ++k) at[k] = in[k] + walk.offset(k, row) + first * walk.step[k];
    run(out + row * walk.inner + first, at, count, std::make_integer_sequence<int, N>{});
  }

 private:
  // The common patterns get a loop of their own, in which the steps are constants and the compiler vectorises.
  template <int... K>
  OPTNET_HD void run(T* y, const T* const (&x)[N], std::int64_t count, std::integer_sequence<int, K...>) const {
    if (((walk.step[K] == 1) && ...))
      for (std::int64_t i = 0; i < count; ++i) y[i] = f(x[K][i]...);
    else if (N == 2 && walk.step[0] == 1)
      for (std::int64_t i = 0; i < count; ++i) y[i] = f(x[K][K == 0 ? i : 0]...);
    else if (N == 2 && walk.step[1] == 1)
      for (std::int64_t i = 0; i < count; ++i) y[i] = f(x[K][K == 0 ? 0 : i]...);
    else if (N == 3 && walk.step[0] == 1 && walk.step[1] == 1)
      for (std::int64_t i = 0; i < count; ++i) y[i] = f(x[K][K == 2 ? 0 : i]...);
    else if (N == 3 && walk.step[0] == 1 && walk.step[2] == 0)
      for (std::int64_t i = 0; i < count; ++i) y[i] = f(x[K][K == 0 ? i : 0]...);
    else
      for (std::int64_t i = 0; i < count; ++i) y[i] = f(x[K][i * walk.step[K]]...);
  }
};

inline void check_operands(const char* op, const Tensor& x) {
  check(x.defined(), op, ": an operand is absent (a default-constructed Tensor); give it values first");
}
inline void check_operands(const char* op, const Tensor& a, const Tensor& b) {
  check_operands(op, a);
  check_operands(op, b);
  check(a.dtype() == b.dtype(), op, ": dtypes must agree (convert one with to(", a.dtype(), ")); got ", a.dtype(),
        " and ", b.dtype());
  check(a.device() == b.device(), op, ": operands must be on one device (move one with to(device)); got ", a.device(),
        " and ", b.device());
}

template <class T, class F, class... X>
Tensor map_as(const F& f, const Shape& shape, const Tensor& first, const X&... rest) {
  constexpr int n = 1 + sizeof...(rest);
  Buffer y(static_cast<std::size_t>(shape.numel()) * sizeof(T), first.device());
  if (shape.numel() > 0) {
    const Walk<n> walk(shape, {&first.shape(), &rest.shape()...});
    // A GPU takes an element a thread; a CPU takes runs short enough to share out, long enough to vectorise.
    const std::int64_t chunk = first.device() == Device::cuda ? 1 : std::min<std::int64_t>(walk.inner, 4096);
    const std::int64_t chunks = (walk.inner + chunk - 1) / chunk;
    parallel_for(first.device(), walk.rows * chunks, shape.numel(),
                 Elementwise<F, T, n>{f, static_cast<T*>(y.data()), {first.data<T>(), rest.template data<T>()...}, walk, chunk, chunks});
  }
  return Tensor(shape, dtype_of<T>, std::move(y));
}

/// The shape to which the operands broadcast, after they have been checked.
template <class... X>
Shape common_shape(const char* op, const Tensor& first, const X&... rest) {
  check_operands(op, first);
  (check_operands(op, first, rest), ...);
  Shape shape = first.shape();
  ((shape = broadcast(shape, rest.shape(), op)), ...);
  return shape;
}

/// f elementwise over tensors of one dtype, with NumPy's broadcasting.
template <class F, class... X>
Tensor map(const char* op, const F& f, const Tensor& first, const X&... rest) {
  const Shape shape = common_shape(op, first, rest...);
  return dispatch(first.dtype(), [&](auto t) { return map_as<decltype(t)>(f, shape, first, rest...); });
}
/// The same where f exists on floating-point numbers only.
template <class F, class... X>
Tensor map_floating(const char* op, const F& f, const Tensor& first, const X&... rest) {
  const Shape shape = common_shape(op, first, rest...);
  return dispatch_floating(op, first.dtype(), [&](auto t) { return map_as<decltype(t)>(f, shape, first, rest...); });
}

}  // namespace optnet
