// Numbers from bytes: one loop, made for each kind of number and each dtype.
#include "framework/encoding.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

namespace optnet {
namespace {

/// IEEE 754's half: 1 bit of sign, 5 of exponent, 10 of fraction.
struct Half {
  std::uint16_t bits;
  operator float() const {
    const std::uint32_t exponent = bits >> 10 & 31, fraction = bits & 1023;
    const float size = exponent == 0 ? static_cast<float>(fraction) * 0x1p-24f  // 0, or subnormal
                                     : std::bit_cast<float>((exponent == 31 ? 255 : exponent + 112) << 23 | fraction << 13);
    return bits >> 15 ? -size : size;
  }
};
/// The upper half of a float.
struct BFloat {
  std::uint16_t bits;
  operator float() const { return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16); }
};
struct Bool {
  std::uint8_t bits;
  operator std::int64_t() const { return bits != 0; }
};

template <class F>
decltype(auto) dispatch(Stored kind, F&& f) {
  switch (kind) {
    case Stored::f64: return f(double{});
    case Stored::f32: return f(float{});
    case Stored::f16: return f(Half{});
    case Stored::bf16: return f(BFloat{});
    case Stored::i64: return f(std::int64_t{});
    case Stored::i32: return f(std::int32_t{});
    case Stored::i16: return f(std::int16_t{});
    case Stored::i8: return f(std::int8_t{});
    case Stored::u8: return f(std::uint8_t{});
    default: return f(Bool{});
  }
}

/// The type in which a kind's values are compared: double, float or int64.
template <class Raw>
using Value = std::conditional_t<std::is_same_v<Raw, double>, double,
                                 std::conditional_t<std::is_floating_point_v<Raw> || std::is_same_v<Raw, Half> || std::is_same_v<Raw, BFloat>, float, std::int64_t>>;

template <class Raw>
Raw read(const char* at, std::endian order) {
  char bytes[sizeof(Raw)];
  std::memcpy(bytes, at, sizeof bytes);
  if (order != std::endian::native) std::reverse(bytes, bytes + sizeof bytes);
  return std::bit_cast<Raw>(bytes);
}

/// Whether T holds x: exactly if it is whole, and as a finite number if it is one.
template <class T, class V>
bool holds(V x) {
  if constexpr (std::is_same_v<T, V>) return true;
  else if constexpr (std::is_floating_point_v<V>) return !std::isfinite(x) || std::isfinite(static_cast<T>(x));
  else return x >= -(std::int64_t{1} << std::numeric_limits<T>::digits) && x <= std::int64_t{1} << std::numeric_limits<T>::digits;
}

template <class Raw, class T>
void decode_into(T* out, const std::string& where, std::string_view bytes, std::endian order) {
  for (std::size_t i = 0; i < bytes.size() / sizeof(Raw); ++i) {
    const auto x = static_cast<Value<Raw>>(read<Raw>(bytes.data() + i * sizeof(Raw), order));
    check(holds<T>(x), where, ": ", dtype_of<T>, " cannot hold ", x, " (ask for ", dtype_of<Value<Raw>>, ")");
    out[i] = static_cast<T>(x);
  }
}

}  // namespace

std::size_t size_of(Stored kind) {
  return dispatch(kind, [](auto raw) { return sizeof raw; });
}

DType dtype_for(Stored kind) {
  return dispatch(kind, [](auto raw) { return dtype_of<Value<decltype(raw)>>; });
}

Shape shape_within(const std::string& where, std::span<const std::uint64_t> sizes, Stored kind, std::uint64_t available) {
  check(sizes.size() <= Shape::max_rank, where, ": a shape has at most ", Shape::max_rank, " sizes; got ", sizes.size());
  const bool empty = std::find(sizes.begin(), sizes.end(), 0u) != sizes.end();
  const std::uint64_t most = empty ? Shape::most_elements : available;
  Shape shape;
  std::uint64_t bytes = size_of(kind);
  for (const std::uint64_t size : sizes) {
    if (size > INT64_MAX || (size > 0 && bytes > most / size)) {
      std::ostringstream text;
      for (const std::uint64_t each : sizes) text << (text.tellp() > 0 ? ", " : "") << each;
      fail(where, ": a shape of [", text.str(), "] takes more than the file's ", available, " bytes of data (is it truncated?)");
    }
    bytes *= size;
    shape.push_back(static_cast<std::int64_t>(size));
  }
  check(empty || bytes <= available, where, ": a number takes ", bytes, " bytes; the file has ", available, " bytes of data (is it truncated?)");
  return shape;
}

Tensor decode(const std::string& where, std::string_view bytes, const Shape& shape, Stored kind, DType dtype, std::endian order) {
  check(is_floating(dtype) || !is_floating(dtype_for(kind)), where, ": holds floating-point numbers (ask for float32 or float64); got int64");
  check(bytes.size() == static_cast<std::size_t>(shape.numel()) * size_of(kind), where, ": ", shape, " takes ",
        static_cast<std::size_t>(shape.numel()) * size_of(kind), " bytes of data; got ", bytes.size());
  Buffer out(static_cast<std::size_t>(shape.numel()) * size_of(dtype), Device::cpu);
  dispatch(dtype, [&](auto t) {
    using T = decltype(t);
    dispatch(kind, [&](auto raw) {
      using Raw = decltype(raw);
      if constexpr (std::is_floating_point_v<T> || !std::is_floating_point_v<Value<Raw>>)
        decode_into<Raw>(static_cast<T*>(out.data()), where, bytes, order);
    });
  });
  return Tensor(shape, dtype, std::move(out));
}

}  // namespace optnet
