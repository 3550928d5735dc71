// Pack: one entry of several problems. The solver's templates run on plain double, or on packs, where each
// arithmetic operation serves as many problems as a vector register holds: the batch is in the type.
// Lanes never meet: what happens in one cannot be seen from another.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <utility>

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
inline bool any(const Mask& mask) {
  std::int64_t bits = 0;
  for (int lane = 0; lane < Pack::lanes; ++lane) bits |= mask.bits[lane];
  return bits != 0;
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

/// out[i] = (rows[0][i], rows[1][i], ...): `count` numbers of each lane's own into packs, a square block at a time.
inline void interleave(const double* const (&rows)[Pack::lanes], std::int64_t count, Pack* out) {
  constexpr int n = Pack::lanes;
  std::int64_t i = 0;
  for (; i + n <= count; i += n) {
    Pack::Vector block[n];
    for (int l = 0; l < n; ++l) std::memcpy(&block[l], rows[l] + i, sizeof block[l]);
    detail::transpose<n / 2>(block);
    for (int k = 0; k < n; ++k) out[i + k].v = block[k];
  }
  for (; i < count; ++i)
    for (int l = 0; l < n; ++l) out[i].set(l, rows[l][i]);
}
inline void interleave(const double* const (&rows)[1], std::int64_t count, double* out) { std::copy_n(rows[0], count, out); }

/// Whether a number is neither infinite nor NaN.
inline Mask finite(const Pack& x) { return x - x == Pack(0.0); }
inline bool finite(double x) { return std::isfinite(x); }

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
inline void set_lane(double& x, int, double value) { x = value; }
inline void set_lane(Pack& x, int i, double value) { x.set(i, value); }
inline void set_lane(bool& x, int, bool value) { x = value; }
inline void set_lane(Mask& x, int i, bool value) { x.bits[i] = value ? -1 : 0; }

}  // namespace optnet
