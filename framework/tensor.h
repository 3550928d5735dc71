// Tensor: an immutable, contiguous, row-major array of numbers. It knows its shape, dtype and device and
// shares its memory when copied; it knows nothing of gradients (that is Var, in tape.h).
// Arithmetic and all other ops stand in ops.h.
#pragma once

#include "framework/backend.h"
#include "framework/shape.h"

#include <memory>
#include <ostream>
#include <span>
#include <vector>

namespace optnet {

class Tensor {
 public:
  /// Absent: no numbers at all. For optional inputs, such as a QP without inequalities.
  Tensor() = default;

  /// Takes over memory that holds shape.numel() elements, already written. Nobody can change it from here on.
  Tensor(const Shape& shape, DType dtype, Buffer&& buffer);

  bool defined() const { return buffer_ != nullptr; }
  const Shape& shape() const { return shape_; }
  DType dtype() const { return dtype_; }
  Device device() const;
  int rank() const { return shape_.rank(); }
  std::int64_t numel() const { return defined() ? shape_.numel() : 0; }
  /// The size of an axis; -1 is the last one.
  std::int64_t size(int axis) const { return shape_[shape_.axis(axis, "size")]; }

  /// The elements in row-major order, on the tensor's device. T must match the dtype.
  template <class T>
  const T* data() const {
    check(defined(), "data: the tensor is absent (default-constructed); give it values first");
    check(dtype_ == dtype_of<T>, "data: the tensor is ", dtype_, "; read as ", dtype_of<T>, " (convert with to())");
    return static_cast<const T*>(buffer_->data());
  }
  const void* raw() const { return buffer_->data(); }
  /// The memory, to be written over, if no other tensor shares it; null if one does, whose numbers must stay. For optimisers.
  void* sole_memory();

  /// One element as a double: x(2, 3). Meant for reading results; loops over many elements use data<T>().
  template <std::integral... Index>
  double operator()(Index... index) const {
    const std::int64_t list[] = {static_cast<std::int64_t>(index)..., 0};
    return element(list, sizeof...(index));
  }
  /// The only element of a tensor of one element, as a double.
  double item() const;
  /// All elements in row-major order, converted to T.
  template <class T>
  std::vector<T> to_vector() const;

  /// To int64, a number is truncated towards zero; one that does not fit, or NaN, is an error.
  Tensor to(DType) const;
  Tensor to(Device) const;

  /// The same elements under another shape; one size may be -1 and is then computed. Shares memory.
  Tensor reshape(const Shape&) const;
  Tensor reshape(std::initializer_list<std::int64_t> sizes) const;

 private:
  double element(const std::int64_t* index, std::size_t count) const;

  Shape shape_;
  DType dtype_ = DType::float32;
  std::shared_ptr<const Buffer> buffer_;
};

/// NumPy's layout, then shape and dtype; long tensors are abbreviated.
std::ostream& operator<<(std::ostream&, const Tensor&);

// Constructors. float32 unless asked otherwise, on the CPU unless asked otherwise.

Tensor full(const Shape&, double value, DType = float32, Device = Device::cpu);
inline Tensor zeros(const Shape& s, DType t = float32, Device d = Device::cpu) { return full(s, 0, t, d); }
inline Tensor ones(const Shape& s, DType t = float32, Device d = Device::cpu) { return full(s, 1, t, d); }
/// start, start + step, ... up to but not including stop. [ceil((stop - start) / step)]
Tensor arange(double start, double stop, double step = 1, DType = float32);
/// The identity matrix [n, n].
Tensor eye(std::int64_t n, DType = float32);
/// Copies values in row-major order; the dtype is the values'. `from({2, 2}, {1., 2., 3., 4.})`
template <class T>
Tensor from(const Shape&, std::span<const T> values);
template <class T>
Tensor from(const Shape& shape, const std::vector<T>& values) {
  return from(shape, std::span<const T>(values));
}
template <class T>
Tensor from(const Shape& shape, std::initializer_list<T> values) {
  return from(shape, std::span<const T>(values.begin(), values.size()));
}

// The two things the tape itself needs to add up gradients; all other ops stand in ops.h.

/// a + b, elementwise, with NumPy's broadcasting.
Tensor operator+(const Tensor& a, const Tensor& b);
/// Sums the axes along which `shape` was broadcast to x.shape(): the transpose of broadcasting. Returns `shape`.
Tensor sum_to(const Tensor& x, const Shape& shape, const char* op = "sum_to");

}  // namespace optnet
