// Pack: as many doubles as a vector register holds. The solver's templates run on plain double, or on packs of one entry of
// several problems, where each arithmetic operation serves them all: the batch is in the type, and lanes never meet. Where one
// problem is worked on alone (dense_one.h) a pack holds neighbouring entries of it, and lanes are added up.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <utility>

#if defined(__SSE2__)
#include <immintrin.h>
#endif

namespace optnet {

struct Mask;

struct Pack {
#if defined(__AVX512F__)
  static constexpr int lanes = 8;
#elif defined(__AVX__)
  static constexpr int lanes = 4;
#else
  static constexpr int lanes = 2;
#endif
  typedef double Vector __attribute__((vector_size(lanes * sizeof(double))));
  typedef std::int64_t Bits __attribute__((vector_size(lanes * sizeof(double))));

  Vector v;

  Pack() = default;
  Pack(double x) : v(x - Vector{}) {}
  explicit Pack(const Vector& x) : v(x) {}
  double operator[](int lane) const { return v[lane]; }
  void set(int lane, double x) { v[lane] = x; }

  friend Pack operator+(const Pack& a, const Pack& b) { return Pack(a.v + b.v); }
  friend Pack operator-(const Pack& a, const Pack& b) { return Pack(a.v - b.v); }
  friend Pack operator*(const Pack& a, const Pack& b) { return Pack(a.v * b.v); }
  friend Pack operator/(const Pack& a, const Pack& b) { return Pack(a.v / b.v); }
  friend Pack operator-(const Pack& a) { return Pack(-a.v); }
  Pack& operator+=(const Pack& b) { return v += b.v, *this; }
  Pack& operator-=(const Pack& b) { return v -= b.v, *this; }
  Pack& operator*=(const Pack& b) { return v *= b.v, *this; }
};

/// One truth value a lane.
struct Mask {
  Pack::Bits bits;
  bool operator[](int lane) const { return bits[lane] != 0; }
  friend Mask operator&(const Mask& a, const Mask& b) { return {a.bits & b.bits}; }
  friend Mask operator|(const Mask& a, const Mask& b) { return {a.bits | b.bits}; }
  friend Mask operator!(const Mask& a) { return {~a.bits}; }
};

inline Mask operator<(const Pack& a, const Pack& b) { return {a.v < b.v}; }
inline Mask operator>(const Pack& a, const Pack& b) { return {a.v > b.v}; }
inline Mask operator<=(const Pack& a, const Pack& b) { return {a.v <= b.v}; }
inline Mask operator>=(const Pack& a, const Pack& b) { return {a.v >= b.v}; }
inline Mask operator==(const Pack& a, const Pack& b) { return {a.v == b.v}; }

/// a where the mask holds, else b.
inline Pack select(const Mask& mask, const Pack& a, const Pack& b) {
  return Pack((Pack::Vector)((mask.bits & (Pack::Bits)a.v) | (~mask.bits & (Pack::Bits)b.v)));
}
inline Pack min(const Pack& a, const Pack& b) { return select(a < b, a, b); }
inline Pack max(const Pack& a, const Pack& b) { return select(a > b, a, b); }
inline Pack abs(const Pack& a) { return max(a, -a); }
inline Pack sqrt(const Pack& a) {
  Pack root;
  for (int lane = 0; lane < Pack::lanes; ++lane) root.v[lane] = __builtin_sqrt(a.v[lane]);
  return root;
}
namespace detail {
// One step of the butterfly below: a and b hold rows r and r + s of a matrix of which s x s blocks change places.
template <int s, int... i>
void exchange(Pack::Vector& a, Pack::Vector& b, std::integer_sequence<int, i...>) {
  constexpr int n = Pack::lanes;
  const Pack::Vector x = __builtin_shufflevector(a, b, ((i & s) ? n + i - s : i)...);
  b = __builtin_shufflevector(a, b, ((i & s) ? n + i : i + s)...);
  a = x;
}
template <int s>
void transpose(Pack::Vector (&v)[Pack::lanes]) {
  for (int i = 0; i < Pack::lanes; ++i)
    if ((i & s) == 0) exchange<s>(v[i], v[i + s], std::make_integer_sequence<int, Pack::lanes>{});
  if constexpr (s > 1) transpose<s / 2>(v);
}
}  // namespace detail

namespace detail {
// f over all lanes: each lane meets the one s away, s = lanes/2 ... 1.
template <int s, class V, class F, int... i>
V fold(const V& x, const F& f, std::integer_sequence<int, i...> all) {
  const V y = f(x, (V)__builtin_shufflevector(x, x, (i ^ s)...));
  if constexpr (s > 1) return fold<s / 2>(y, f, all);
  else return y;
}
using AllLanes = std::make_integer_sequence<int, Pack::lanes>;
}  // namespace detail
inline double sum_of_lanes(const Pack& x) {
  return detail::fold<Pack::lanes / 2>(x.v, [](const Pack::Vector& a, const Pack::Vector& b) { return a + b; }, detail::AllLanes{})[0];
}
inline double largest_lane(const Pack& x) {
  return detail::fold<Pack::lanes / 2>(x.v, [](const Pack::Vector& a, const Pack::Vector& b) { return max(Pack(a), Pack(b)).v; }, detail::AllLanes{})[0];
}
inline bool any(const Mask& mask) {
  return detail::fold<Pack::lanes / 2>(mask.bits, [](const Pack::Bits& a, const Pack::Bits& b) { return a | b; }, detail::AllLanes{})[0] != 0;
}

/// 0, 1, 2, ... lane by lane.
inline Pack lane_numbers() {
  Pack out;
  for (int lane = 0; lane < Pack::lanes; ++lane) out.v[lane] = lane;
  return out;
}
/// Neighbouring numbers, wherever they begin.
inline Pack load(const double* from) {
  Pack x;
  std::memcpy(&x.v, from, sizeof x.v);
  return x;
}
inline void store(const Pack& x, double* to) { std::memcpy(to, &x.v, sizeof x.v); }
/// out[i] = (rows[0][i], rows[1][i], ...): `count` numbers of each lane's own into packs, a square block at a time. Returns
/// whether all are finite: 0 times the others is NaN.
inline bool interleave(const double* const (&rows)[Pack::lanes], std::int64_t count, Pack* out) {
  constexpr int n = Pack::lanes;
  Pack::Vector zero = {};
  std::int64_t i = 0;
  for (; i + n <= count; i += n) {
    Pack::Vector block[n];
    for (int l = 0; l < n; ++l) block[l] = load(rows[l] + i).v;
    for (int l = 0; l < n; ++l) zero += 0 * block[l];
    detail::transpose<n / 2>(block);
    for (int k = 0; k < n; ++k) out[i + k].v = block[k];
  }
  for (; i < count; ++i) {
    for (int l = 0; l < n; ++l) out[i].set(l, rows[l][i]);
    zero += 0 * out[i].v;
  }
  return sum_of_lanes(Pack(zero)) == 0;
}
inline bool interleave(const double* const (&rows)[1], std::int64_t count, double* out) {
  double zero = 0;
  for (std::int64_t i = 0; i < count; ++i) out[i] = rows[0][i], zero += 0 * out[i];
  return zero == 0;
}
/// The inverse: rows[l][i] = lane l of in[i].
inline void deinterleave(const Pack* in, std::int64_t count, double* const (&rows)[Pack::lanes]) {
  constexpr int n = Pack::lanes;
  std::int64_t i = 0;
  for (; i + n <= count; i += n) {
    Pack::Vector block[n];
    for (int k = 0; k < n; ++k) block[k] = in[i + k].v;
    detail::transpose<n / 2>(block);
    for (int l = 0; l < n; ++l) store(Pack(block[l]), rows[l] + i);
  }
  for (; i < count; ++i)
    for (int l = 0; l < n; ++l) rows[l][i] = in[i][l];
}
inline void deinterleave(const double* in, std::int64_t count, double* const (&rows)[1]) { std::copy_n(in, count, rows[0]); }

/// store() past the caches, for what is too large to stay there: a line that is written as a whole need not be read first. `to` is
/// aligned as a Pack; fence() before another thread reads it.
inline void stream(const Pack& x, double* to) {
#if defined(__AVX512F__)
  _mm512_stream_pd(to, x.v);
#elif defined(__AVX__)
  _mm256_stream_pd(to, x.v);
#elif defined(__SSE2__)
  _mm_stream_pd(to, x.v);
#else
  store(x, to);
#endif
}
inline void fence() {
#if defined(__SSE2__)
  _mm_sfence();
#endif
}

// The same names for a single problem.
inline double select(bool mask, double a, double b) { return mask ? a : b; }
inline double min(double a, double b) { return a < b ? a : b; }
inline double max(double a, double b) { return a > b ? a : b; }
inline double abs(double a) { return std::fabs(a); }
inline double sqrt(double a) { return __builtin_sqrt(a); }
inline bool any(bool mask) { return mask; }

template <class T>
using MaskOf = decltype(T{} < T{});

/// Problems a value of type T holds, and the value of one of them.
template <class T>
inline constexpr int lanes_of = 1;
template <>
inline constexpr int lanes_of<Pack> = Pack::lanes;
inline double lane(double x, int) { return x; }
inline double lane(const Pack& x, int i) { return x[i]; }
inline bool lane(bool x, int) { return x; }
inline bool lane(const Mask& x, int i) { return x[i]; }
/// Loaded once, used often: otherwise each multiplication reads its operand from memory again, and loads are the limit.
template <class V>
inline void stay_in_register(V& x) {
#if defined(__AVX512F__)
  asm("" : "+v"(x));
#elif defined(__x86_64__)
  asm("" : "+x"(x));
#else
  (void)x;
#endif
}
inline Pack::Vector raw(const Pack& x) { return x.v; }
inline double raw(double x) { return x; }
/// Whether lane l stands for the problem of the lane before: a pack that is not full repeats its last.
inline bool repeats(const std::int64_t* problems, int l) { return l > 0 && problems[l] == problems[l - 1]; }
inline void set_lane(double& x, int, double value) { x = value; }
inline void set_lane(Pack& x, int i, double value) { x.set(i, value); }
inline void set_lane(bool& x, int, bool value) { x = value; }
inline void set_lane(Mask& x, int i, bool value) { x.bits[i] = value ? -1 : 0; }

}  // namespace optnet
