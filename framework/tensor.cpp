// Tensor's members: construction, reading, moving, printing. Ops stand in the .cu families; full() and to(DType),
// which are kernels, in pointwise.cu.
#include "framework/tensor.h"

#include <cmath>
#include <cstring>
#include <iomanip>

namespace optnet {

Tensor::Tensor(const Shape& shape, DType dtype, Buffer&& buffer) : shape_(shape), dtype_(dtype) {
  const std::size_t need = static_cast<std::size_t>(shape.numel()) * size_of(dtype);
  check(buffer.bytes() == need, "tensor: ", dtype, shape, " takes ", need, " bytes; got a buffer of ", buffer.bytes());
  buffer_ = std::make_shared<const Buffer>(std::move(buffer));
}

Device Tensor::device() const { return buffer_ ? buffer_->device() : Device::cpu; }

void* Tensor::sole_memory() {
  if (buffer_.use_count() != 1) return nullptr;
  { const auto holder = buffer_; }  // as another thread may have held it till now: the count's change orders its reads before what follows
  return const_cast<void*>(buffer_->data());
}

double Tensor::element(const std::int64_t* index, std::size_t count) const {
  check(defined() && count == static_cast<std::size_t>(rank()), "element: needs one index for each axis of ", shape_,
        "; got ", count);
  std::int64_t at = 0;
  for (int axis = 0; axis < rank(); ++axis) {
    check(index[axis] >= 0 && index[axis] < shape_[axis], "element: index ", index[axis], " is outside axis ", axis,
          " of ", shape_);
    at = at * shape_[axis] + index[axis];
  }
  const std::size_t size = size_of(dtype_);
  alignas(8) char one[8];
  backend(device()).copy_to_host(one, static_cast<const char*>(raw()) + static_cast<std::size_t>(at) * size, size);
  return dispatch(dtype_, [&](auto t) {
    std::memcpy(&t, one, sizeof t);
    return static_cast<double>(t);
  });
}

double Tensor::item() const {
  check(numel() == 1, "item: needs a tensor of one element; got ", shape_);
  return reshape(Shape{1})(0);
}

template <class T>
std::vector<T> Tensor::to_vector() const {
  if (!defined()) return {};
  const Tensor host = to(Device::cpu).to(dtype_of<T>);
  return {host.data<T>(), host.data<T>() + numel()};
}
template std::vector<float> Tensor::to_vector() const;
template std::vector<double> Tensor::to_vector() const;
template std::vector<std::int64_t> Tensor::to_vector() const;

Tensor Tensor::to(Device target) const {
  if (!defined() || target == device()) return *this;
  const std::size_t bytes = buffer_->bytes();
  Buffer out(bytes, target);
  if (target == Device::cpu)
    backend(device()).copy_to_host(out.data(), raw(), bytes);
  else
    backend(target).copy_from_host(out.data(), raw(), bytes);
  return Tensor(shape_, dtype_, std::move(out));
}

Tensor Tensor::reshape(const Shape& shape) const {
  check(defined() && shape.numel() == numel(), "reshape: the number of elements must stay; got ", shape_, " to ", shape);
  Tensor out = *this;
  out.shape_ = shape;
  return out;
}

Tensor Tensor::reshape(std::initializer_list<std::int64_t> sizes) const {
  std::int64_t known = 1, unknown = 0;
  for (std::int64_t size : sizes) size == -1 ? ++unknown : known *= size;
  check(unknown <= 1, "reshape: at most one size may be -1; got ", unknown);
  if (unknown == 0) return reshape(Shape(sizes));
  check(known > 0 && numel() % known == 0, "reshape: ", numel(), " elements of ", shape_, " do not fill rows of ", known);
  Shape shape;
  for (std::int64_t size : sizes) shape.push_back(size == -1 ? numel() / known : size);
  return reshape(shape);
}

Tensor arange(double start, double stop, double step, DType dtype) {
  check(std::isfinite(start) && std::isfinite(stop) && std::isfinite(step) && step != 0,
        "arange: start, stop and a step other than 0 must be finite; got ", start, ", ", stop, ", ", step);
  const double count = std::max(0.0, std::ceil((stop - start) / step));
  check(count <= static_cast<double>(Shape::most_elements), "arange: too many elements; got ", start, ", ", stop, ", ", step);
  for (double x : {start, step, start + std::max(0.0, count - 1) * step}) check_number("arange", x, dtype);
  const auto n = static_cast<std::int64_t>(count);
  Buffer out(static_cast<std::size_t>(n) * size_of(dtype), Device::cpu);
  dispatch(dtype, [&](auto t) {
    auto* y = static_cast<decltype(t)*>(out.data());
    for (std::int64_t i = 0; i < n; ++i) y[i] = static_cast<decltype(t)>(start + static_cast<double>(i) * step);
  });
  return Tensor({n}, dtype, std::move(out));
}

Tensor eye(std::int64_t n, DType dtype) {
  const Shape shape{n, n};
  Buffer out(static_cast<std::size_t>(shape.numel()) * size_of(dtype), Device::cpu);
  dispatch(dtype, [&](auto t) {
    auto* y = static_cast<decltype(t)*>(out.data());
    std::fill(y, y + n * n, decltype(t)(0));
    for (std::int64_t i = 0; i < n; ++i) y[i * n + i] = 1;
  });
  return Tensor(shape, dtype, std::move(out));
}

template <class T>
Tensor from(const Shape& shape, std::span<const T> values) {
  check(static_cast<std::size_t>(shape.numel()) == values.size(), "from: ", shape, " takes ", shape.numel(),
        " values; got ", values.size());
  Buffer out(values.size_bytes(), Device::cpu);
  if (!values.empty()) std::memcpy(out.data(), values.data(), values.size_bytes());
  return Tensor(shape, dtype_of<T>, std::move(out));
}
template Tensor from(const Shape&, std::span<const float>);
template Tensor from(const Shape&, std::span<const double>);
template Tensor from(const Shape&, std::span<const std::int64_t>);

namespace {

// NumPy's nested brackets; in an axis of more than eight entries the middle ones become "...".
template <class T>
void print(std::ostream& out, const T* x, const Shape& shape, int axis, int width) {
  if (axis == shape.rank()) {
    out << std::setw(width) << *x;
    return;
  }
  std::int64_t stride = 1;
  for (int d = axis + 1; d < shape.rank(); ++d) stride *= shape[d];
  const bool last = axis == shape.rank() - 1;
  const std::string gap = last ? ", " : ",\n" + std::string(static_cast<std::size_t>(axis + 1), ' ');
  out << '[';
  for (std::int64_t i = 0; i < shape[axis]; ++i) {
    if (i > 0) out << gap;
    if (shape[axis] > 8 && i == 3) {
      out << "...";
      i = shape[axis] - 4;
      continue;
    }
    print(out, x + i * stride, shape, axis + 1, width);
  }
  out << ']';
}

}  // namespace

std::ostream& operator<<(std::ostream& out, const Tensor& x) {
  if (!x.defined()) return out << "absent";
  const Tensor host = x.to(Device::cpu);
  std::ostringstream text;  // so that the stream's own flags and width stay as they are
  text << std::setprecision(4);
  dispatch(x.dtype(), [&](auto t) {
    const auto* data = host.data<decltype(t)>();
    std::size_t width = 0;  // of the longest entry, so that columns align
    for (std::int64_t i = 0; i < std::min<std::int64_t>(x.numel(), 1000) && x.rank() > 0; ++i) {
      std::ostringstream one;
      one << std::setprecision(4) << data[i];
      width = std::max(width, one.str().size());
    }
    print(text, data, x.shape(), 0, static_cast<int>(width));
  });
  return out << text.str() << "  " << x.shape() << ' ' << x.dtype();
}

}  // namespace optnet
