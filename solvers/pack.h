// Pack: as many doubles as a vector register holds (FloatPack: floats). The solver's templates run on plain double, or on packs of
// one entry of several problems, where each arithmetic operation serves them all: the batch is in the type, and lanes never meet.
// Where one problem is worked on alone (dense_one.h) a pack holds neighbouring entries of it, and lanes are added up.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

#if defined(__SSE2__)
#include <immintrin.h>
#endif

namespace optnet {

#if defined(__AVX512F__)
inline constexpr int register_bytes = 64;
#elif defined(__AVX__)
inline constexpr int register_bytes = 32;
#else
inline constexpr int register_bytes = 16;
#endif

/// One truth value a lane.
template <class S>
struct LaneMask {
  using Integer = std::conditional_t<sizeof(S) == 8, std::int64_t, std::int32_t>;
  typedef Integer Bits __attribute__((vector_size(register_bytes)));

  Bits bits;
  bool operator[](int lane) const { return bits[lane] != 0; }
  friend LaneMask operator&(const LaneMask& a, const LaneMask& b) { return {a.bits & b.bits}; }
  friend LaneMask operator|(const LaneMask& a, const LaneMask& b) { return {a.bits | b.bits}; }
  friend LaneMask operator!(const LaneMask& a) { return {~a.bits}; }
};

/// As many numbers S as a register holds.
template <class S>
struct PackOf {
  using Scalar = S;
  static constexpr int lanes = register_bytes / static_cast<int>(sizeof(S));
  typedef S Vector __attribute__((vector_size(register_bytes)));
  using Bits = typename LaneMask<S>::Bits;

  Vector v;

  PackOf() = default;
  PackOf(S x) : v(x - Vector{}) {}
  explicit PackOf(const Vector& x) : v(x) {}
  S operator[](int lane) const { return v[lane]; }
  void set(int lane, S x) { v[lane] = x; }

  friend PackOf operator+(const PackOf& a, const PackOf& b) { return PackOf(a.v + b.v); }
  friend PackOf operator-(const PackOf& a, const PackOf& b) { return PackOf(a.v - b.v); }
  friend PackOf operator*(const PackOf& a, const PackOf& b) { return PackOf(a.v * b.v); }
  friend PackOf operator/(const PackOf& a, const PackOf& b) { return PackOf(a.v / b.v); }
  friend PackOf operator-(const PackOf& a) { return PackOf(-a.v); }
  PackOf& operator+=(const PackOf& b) { return v += b.v, *this; }
  PackOf& operator-=(const PackOf& b) { return v -= b.v, *this; }
  PackOf& operator*=(const PackOf& b) { return v *= b.v, *this; }

  friend LaneMask<S> operator<(const PackOf& a, const PackOf& b) { return {a.v < b.v}; }
  friend LaneMask<S> operator>(const PackOf& a, const PackOf& b) { return {a.v > b.v}; }
  friend LaneMask<S> operator<=(const PackOf& a, const PackOf& b) { return {a.v <= b.v}; }
  friend LaneMask<S> operator>=(const PackOf& a, const PackOf& b) { return {a.v >= b.v}; }
  friend LaneMask<S> operator==(const PackOf& a, const PackOf& b) { return {a.v == b.v}; }

  /// a where the mask holds, else b.
  friend PackOf select(const LaneMask<S>& mask, const PackOf& a, const PackOf& b) {
    return PackOf((Vector)((mask.bits & (Bits)a.v) | (~mask.bits & (Bits)b.v)));
  }
  friend PackOf min(const PackOf& a, const PackOf& b) { return select(a < b, a, b); }
  friend PackOf max(const PackOf& a, const PackOf& b) { return select(a > b, a, b); }
  friend PackOf abs(const PackOf& a) { return max(a, -a); }
  friend PackOf sqrt(const PackOf& a) {
    PackOf root;
    for (int lane = 0; lane < lanes; ++lane) root.v[lane] = std::sqrt(a.v[lane]);
    return root;
  }
};

using Pack = PackOf<double>;
using FloatPack = PackOf<float>;
using Mask = LaneMask<double>;

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
template <class S>
using AllLanes = std::make_integer_sequence<int, PackOf<S>::lanes>;
}  // namespace detail
template <class S>
S sum_of_lanes(const PackOf<S>& x) {
  using V = typename PackOf<S>::Vector;
  return detail::fold<PackOf<S>::lanes / 2>(x.v, [](const V& a, const V& b) { return a + b; }, detail::AllLanes<S>{})[0];
}
template <class S>
S largest_lane(const PackOf<S>& x) {
  using V = typename PackOf<S>::Vector;
  return detail::fold<PackOf<S>::lanes / 2>(x.v, [](const V& a, const V& b) { return max(PackOf<S>(a), PackOf<S>(b)).v; }, detail::AllLanes<S>{})[0];
}
template <class S>
bool any(const LaneMask<S>& mask) {
  using B = typename LaneMask<S>::Bits;
  return detail::fold<PackOf<S>::lanes / 2>(mask.bits, [](const B& a, const B& b) { return a | b; }, detail::AllLanes<S>{})[0] != 0;
}

/// 0, 1, 2, ... lane by lane.
template <class P = Pack>
P lane_numbers() {
  P out;
  for (int lane = 0; lane < P::lanes; ++lane) out.v[lane] = lane;
  return out;
}
/// Neighbouring numbers, wherever they begin.
template <class S>
PackOf<S> load(const S* from) {
  PackOf<S> x;
  std::memcpy(&x.v, from, sizeof x.v);
  return x;
}
template <class S>
void store(const PackOf<S>& x, S* to) { std::memcpy(to, &x.v, sizeof x.v); }

/// The lanes where a mask holds, one bit each.
template <class S>
unsigned bits_of(const LaneMask<S>& mask) {
#if defined(__AVX512DQ__)
  if constexpr (sizeof(S) == 8) return _mm512_movepi64_mask((__m512i)mask.bits);
  else return _mm512_movepi32_mask((__m512i)mask.bits);
#else
  unsigned bits = 0;
  for (int lane = 0; lane < PackOf<S>::lanes; ++lane) bits |= static_cast<unsigned>(mask[lane]) << lane;
  return bits;
#endif
}
/// Where there is an instruction for it: those lanes of x, next to each other; writes a whole pack.
#if defined(__AVX512F__)
inline constexpr bool can_compress = true;
inline void compress(const Pack& x, unsigned bits, double* out) { _mm512_storeu_pd(out, _mm512_maskz_compress_pd(static_cast<__mmask8>(bits), x.v)); }
inline void compress(const FloatPack& x, unsigned bits, float* out) { _mm512_storeu_ps(out, _mm512_maskz_compress_ps(static_cast<__mmask16>(bits), x.v)); }
inline void compress_numbers(int first, unsigned bits, int* out) {
  const __m512i numbers = _mm512_add_epi32(_mm512_set1_epi32(first), _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15));
  _mm512_storeu_si512(out, _mm512_maskz_compress_epi32(static_cast<__mmask16>(bits), numbers));
}
#else
inline constexpr bool can_compress = false;
template <class S>
void compress(const PackOf<S>&, unsigned, S*) {}
inline void compress_numbers(int first, unsigned bits, int* out) {
  for (int lane = 0; lane < 4 * register_bytes / 16; ++lane) *out = first + lane, out += bits >> lane & 1;
}
#endif

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
inline float abs(float a) { return std::fabs(a); }
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
template <class S>
typename PackOf<S>::Vector raw(const PackOf<S>& x) { return x.v; }
inline double raw(double x) { return x; }
/// Whether lane l stands for the problem of the lane before: a pack that is not full repeats its last.
inline bool repeats(const std::int64_t* problems, int l) { return l > 0 && problems[l] == problems[l - 1]; }
inline void set_lane(double& x, int, double value) { x = value; }
inline void set_lane(Pack& x, int i, double value) { x.set(i, value); }
inline void set_lane(bool& x, int, bool value) { x = value; }
inline void set_lane(Mask& x, int i, bool value) { x.bits[i] = value ? -1 : 0; }

}  // namespace optnet
