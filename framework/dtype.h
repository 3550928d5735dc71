// The three number types of a tensor, chosen at run time, and the step from there to a template argument.
// There is no silent promotion: an op on two dtypes is an error that names the cure, to(dtype).
#pragma once

#include "framework/error.h"

#include <cstdint>
#include <ostream>
#include <type_traits>

namespace optnet {

enum class DType : std::uint8_t { float32, float64, int64 };

inline constexpr DType float32 = DType::float32, float64 = DType::float64, int64 = DType::int64;

template <class T>
inline constexpr DType dtype_of = std::is_same_v<T, float> ? float32 : std::is_same_v<T, double> ? float64 : int64;

inline const char* name(DType t) { return t == float32 ? "float32" : t == float64 ? "float64" : "int64"; }
inline std::size_t size_of(DType t) { return t == float32 ? 4 : 8; }
inline bool is_floating(DType t) { return t != int64; }
inline std::ostream& operator<<(std::ostream& out, DType t) { return out << name(t); }

/// f(T{}) with T the C++ type of `t`.
template <class F>
decltype(auto) dispatch(DType t, F&& f) {
  switch (t) {
    case float32: return f(float{});
    case float64: return f(double{});
    default: return f(std::int64_t{});
  }
}

/// Refuses int64, in the name of `op`.
inline void check_floating(const char* op, DType t) {
  check(is_floating(t), op, ": needs float32 or float64 (convert with to(float32)); got int64");
}

/// Refuses, in the name of `op`, a number that dtype t cannot hold: int64 takes whole ones in [-2^63, 2^63).
inline void check_number(const char* op, double x, DType t) {
  check(is_floating(t) || (x >= -0x1p63 && x < 0x1p63 && x == static_cast<double>(static_cast<std::int64_t>(x))), op,
        ": an int64 tensor takes whole numbers of 64 bits (convert with to(float32)); got ", x);
}

/// dispatch for ops that exist on floating-point numbers only.
template <class F>
decltype(auto) dispatch_floating(const char* op, DType t, F&& f) {
  check_floating(op, t);
  return t == float32 ? f(float{}) : f(double{});
}

}  // namespace optnet
