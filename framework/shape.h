// Shape: the sizes of a tensor's axes, at most eight, stored in place so that a small op allocates nothing
// for them; and NumPy's broadcasting rule on shapes.
#pragma once

#include "framework/error.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <initializer_list>
#include <ostream>
#include <vector>

namespace optnet {

class Shape {
 public:
  static constexpr int max_rank = 8;
  static constexpr std::int64_t most_elements = std::int64_t{1} << 59;  // so that a size in bytes is a number too

  Shape() = default;
  Shape(std::initializer_list<std::int64_t> sizes) : Shape(sizes.begin(), sizes.end()) {}
  explicit Shape(const std::vector<std::int64_t>& sizes) : Shape(sizes.begin(), sizes.end()) {}
  template <class It>
  Shape(It first, It last) {
    for (; first != last; ++first) push_back(*first);
  }

  int rank() const { return rank_; }
  const std::int64_t* begin() const { return sizes_.data(); }
  const std::int64_t* end() const { return sizes_.data() + rank_; }
  std::int64_t operator[](int axis) const { return sizes_[static_cast<std::size_t>(axis)]; }
  std::int64_t& operator[](int axis) { return sizes_[static_cast<std::size_t>(axis)]; }

  /// The number of elements: the product of the sizes, 1 for a scalar.
  std::int64_t numel() const {
    std::int64_t n = 1;
    for (std::int64_t size : *this)
      check(!__builtin_mul_overflow(n, size, &n) && n <= most_elements, "shape: too many elements; got ", *this);
    return n;
  }

  void push_back(std::int64_t size) {
    check(rank_ < max_rank, "shape: at most ", max_rank, " axes; got more");
    check(size >= 0, "shape: sizes must not be negative; got ", size);
    sizes_[static_cast<std::size_t>(rank_++)] = size;
  }

  /// `axis` counted from the front; -1 is the last one. `op` names who asked, for the error.
  int axis(int axis, const char* op) const {
    check(rank_ > 0, op, ": a tensor of shape [] has no axes; got axis ", axis);
    check(axis >= -rank_ && axis < rank_, op, ": axis must lie in [", -rank_, ", ", rank_ - 1, "] for shape ", *this,
          "; got ", axis);
    return axis < 0 ? axis + rank_ : axis;
  }

  friend bool operator==(const Shape& a, const Shape& b) { return std::equal(a.begin(), a.end(), b.begin(), b.end()); }

  friend std::ostream& operator<<(std::ostream& out, const Shape& shape) {
    out << '[';
    for (int i = 0; i < shape.rank_; ++i) out << (i ? ", " : "") << shape[i];
    return out << ']';
  }

 private:
  std::array<std::int64_t, max_rank> sizes_{};
  int rank_ = 0;
};

/// NumPy's rule: aligned from the last axis, two sizes agree if they are equal or one of them is 1.
inline Shape broadcast(const Shape& a, const Shape& b, const char* op) {
  if (a == b) return a;
  Shape out = a.rank() >= b.rank() ? a : b;
  const Shape& low = a.rank() >= b.rank() ? b : a;
  for (int i = 0, shift = out.rank() - low.rank(); i < low.rank(); ++i) {
    std::int64_t& size = out[i + shift];
    check(size == low[i] || size == 1 || low[i] == 1, op,
          ": shapes must agree axis by axis from the last, or be 1 there; got ", a, " and ", b);
    if (size == 1) size = low[i];
  }
  return out;
}

}  // namespace optnet
