// Ops that move elements: reshape, transpose, flip, slice, pad, gather, concat, stack, repeat. Most see their tensor
// as [outer, axis, inner], and copy runs of `inner` neighbouring elements.
#include "framework/kernel.h"
#include "framework/ops.h"

namespace optnet {
namespace {

Shape with_size(Shape shape, int axis, std::int64_t size) {
  shape[axis] = size;
  return shape;
}

/// y[o, to + k, :] = x[o, from + k, :] for k = 0 ... count-1: slice, and its transpose pad.
template <class T>
struct CopyRange {
  const T* x;
  T* y;
  std::int64_t x_count, y_count, from, to, count, inner;
  OPTNET_HD void operator()(std::int64_t run) const {
    const std::int64_t o = run / count, k = run % count;
    const T* source = x + (o * x_count + from + k) * inner;
    T* target = y + (o * y_count + to + k) * inner;
    for (std::int64_t i = 0; i < inner; ++i) target[i] = source[i];
  }
};

void copy_range(const Tensor& x, const Extent& ex, Buffer& y, std::int64_t y_count, std::int64_t from, std::int64_t to,
                std::int64_t count) {
  dispatch(x.dtype(), [&](auto t) {
    using T = decltype(t);
    parallel_for(x.device(), ex.outer * count, ex.outer * count * ex.inner,
                 CopyRange<T>{x.data<T>(), static_cast<T*>(y.data()), ex.count, y_count, from, to, count, ex.inner});
  });
}

Buffer make_buffer(const Shape& shape, const Tensor& like) {
  return Buffer(static_cast<std::size_t>(shape.numel()) * size_of(like.dtype()), like.device());
}

/// y[o, count-1 - k, :] = x[o, k, :].
template <class T>
struct Flip {
  const T* x;
  T* y;
  std::int64_t count, inner;
  OPTNET_HD void operator()(std::int64_t run) const {
    const T* source = x + run * inner;
    T* target = y + (run / count * count + count - 1 - run % count) * inner;
    for (std::int64_t i = 0; i < inner; ++i) target[i] = source[i];
  }
};

/// One row of y: x moved by `before` along each axis, and `value` where x does not reach.
template <class T>
struct PadRow {
  const T* x;
  T* y;
  T value;
  int last;  // axis
  std::int64_t x_size[Shape::max_rank], y_size[Shape::max_rank], before[Shape::max_rank];
  OPTNET_HD void operator()(std::int64_t row) const {
    std::int64_t from = 0, stride = x_size[last], rest = row;
    bool within = true;
    for (int d = last - 1; d >= 0; --d) {
      const std::int64_t k = rest % y_size[d] - before[d];
      within = within && k >= 0 && k < x_size[d];
      from += k * stride;
      stride *= x_size[d];
      rest /= y_size[d];
    }
    const std::int64_t n = y_size[last], shift = before[last], end = within ? limit(shift + x_size[last], n) : 0;
    const std::int64_t begin = limit(shift, n) < end ? limit(shift, n) : end;
    T* target = y + row * n;
    for (std::int64_t j = 0; j < begin; ++j) target[j] = value;
    for (std::int64_t j = begin; j < end; ++j) target[j] = x[from + j - shift];
    for (std::int64_t j = end; j < n; ++j) target[j] = value;
  }

 private:
  OPTNET_HD static std::int64_t limit(std::int64_t j, std::int64_t n) { return j < 0 ? 0 : j < n ? j : n; }
};

struct Same {
  template <class T>
  OPTNET_HD T operator()(T x) const { return x; }
};

template <class T>
struct Gather {
  const T* x;
  const std::int64_t* index;
  T* y;
  std::int64_t count, picks, inner;
  OPTNET_HD void operator()(std::int64_t run) const {
    const T* source = x + (run / picks * count + index[run % picks]) * inner;
    for (std::int64_t i = 0; i < inner; ++i) y[run * inner + i] = source[i];
  }
};

/// The transpose of Gather: y[o, index[k], :] += dy[o, k, :]. A task owns one o, so that no two tasks add to one
/// place and the order of the sum is fixed.
template <class T>
struct ScatterAdd {
  const T* dy;
  const std::int64_t* index;
  T* y;
  std::int64_t count, picks, inner;
  OPTNET_HD void operator()(std::int64_t o) const {
    T* target = y + o * count * inner;
    for (std::int64_t i = 0; i < count * inner; ++i) target[i] = T(0);
    for (std::int64_t k = 0; k < picks; ++k)
      for (std::int64_t i = 0; i < inner; ++i) target[index[k] * inner + i] += dy[(o * picks + k) * inner + i];
  }
};

/// Exchanges axes a < b of [outer, a, middle, b, inner].
template <class T>
struct Transpose {
  const T* x;
  T* y;
  std::int64_t a, middle, b, inner;
  OPTNET_HD void operator()(std::int64_t run) const {  // run counts [outer, b, middle, a] of the result
    std::int64_t rest = run;
    const std::int64_t ia = rest % a;
    rest /= a;
    const std::int64_t im = rest % middle;
    rest /= middle;
    const std::int64_t ib = rest % b, o = rest / b;
    const T* source = x + (((o * a + ia) * middle + im) * b + ib) * inner;
    for (std::int64_t i = 0; i < inner; ++i) y[run * inner + i] = source[i];
  }
};

std::vector<Tensor> values_of(const std::vector<Var>& parts) {
  std::vector<Tensor> values;
  for (const Var& part : parts) values.push_back(part.value());
  return values;
}

}  // namespace

Var reshape(const Var& x, const Shape& shape) {
  return record("reshape", x.value().reshape(shape), Wrt{x, [old = x.shape()](const Tensor& dy) { return dy.reshape(old); }});
}
Var reshape(const Var& x, std::initializer_list<std::int64_t> sizes) { return reshape(x, x.value().reshape(sizes).shape()); }

Tensor transpose(const Tensor& x, int axis_a, int axis_b) {
  check_operands("transpose", x);
  int a = x.shape().axis(axis_a, "transpose"), b = x.shape().axis(axis_b, "transpose");
  if (a > b) std::swap(a, b);
  Shape shape = x.shape();
  std::swap(shape[a], shape[b]);
  if (a == b || x.numel() == 0) return x.reshape(shape);
  const Extent first(x.shape(), a), second(x.shape(), b);
  const std::int64_t middle = first.inner / (second.count * second.inner);
  Buffer y = make_buffer(shape, x);
  dispatch(x.dtype(), [&](auto t) {
    using T = decltype(t);
    parallel_for(x.device(), x.numel() / second.inner, 4 * x.numel(),
                 Transpose<T>{x.data<T>(), static_cast<T*>(y.data()), first.count, middle, second.count, second.inner});
  });
  return Tensor(shape, x.dtype(), std::move(y));
}
Var transpose(const Var& x, int axis_a, int axis_b) {
  return record("transpose", transpose(x.value(), axis_a, axis_b),
                Wrt{x, [=](const Tensor& dy) { return transpose(dy, axis_a, axis_b); }});
}

Tensor flip(const Tensor& x, int axis) {
  check_operands("flip", x);
  const Extent e(x.shape(), x.shape().axis(axis, "flip"));
  Buffer y = make_buffer(x.shape(), x);
  dispatch(x.dtype(), [&](auto t) {
    using T = decltype(t);
    parallel_for(x.device(), e.outer * e.count, x.numel(), Flip<T>{x.data<T>(), static_cast<T*>(y.data()), e.count, e.inner});
  });
  return Tensor(x.shape(), x.dtype(), std::move(y));
}
Var flip(const Var& x, int axis) {
  return record("flip", flip(x.value(), axis), Wrt{x, [axis](const Tensor& dy) { return flip(dy, axis); }});
}

Tensor slice(const Tensor& x, int axis, std::int64_t start, std::int64_t stop) {
  check_operands("slice", x);
  const int at = x.shape().axis(axis, "slice");
  const std::int64_t size = x.size(at), from = start < 0 ? start + size : start, to = stop < 0 ? stop + size : stop;
  check(0 <= from && from <= to && to <= size, "slice: start <= stop must lie within axis ", axis, " of ", x.shape(),
        "; got ", start, " and ", stop);
  const Shape shape = with_size(x.shape(), at, to - from);
  Buffer y = make_buffer(shape, x);
  copy_range(x, Extent(x.shape(), at), y, to - from, from, 0, to - from);
  return Tensor(shape, x.dtype(), std::move(y));
}
Var slice(const Var& x, int axis, std::int64_t start, std::int64_t stop) {
  Tensor y = slice(x.value(), axis, start, stop);
  return record("slice", y, Wrt{x, [shape = x.shape(), axis, start](const Tensor& dy) {  // zeros around dy
                  const int at = shape.axis(axis, "slice");
                  const std::int64_t from = start < 0 ? start + shape[at] : start, to = from + dy.size(at);
                  std::vector<Pad> around(static_cast<std::size_t>(shape.rank()));
                  around[static_cast<std::size_t>(at)] = {from, shape[at] - to};
                  return pad(dy, around);
                }});
}

Tensor pad(const Tensor& x, const std::vector<Pad>& pads, double value) {
  check_operands("pad", x);
  check_number("pad", value, x.dtype());
  check(pads.size() == static_cast<std::size_t>(x.rank()), "pad: needs one pair {before, after} for each axis of ", x.shape(),
        "; got ", pads.size());
  Shape shape;
  for (int d = 0; d < x.rank(); ++d) {
    const auto [before, after] = pads[static_cast<std::size_t>(d)];
    const auto sane = [](std::int64_t n) { return n >= -Shape::most_elements && n <= Shape::most_elements; };  // so that the sum is a number
    check(sane(before) && sane(after), "pad: too many elements to add or cut; got ", before, " and ", after, " for axis ", d, " of ", x.shape());
    check(x.size(d) + before + after >= 0, "pad: cannot cut ", -before, " and ", -after, " from axis ", d, " of ", x.shape());
    shape.push_back(x.size(d) + before + after);
  }
  if (x.rank() == 0 || shape.numel() == 0) return x.rank() == 0 ? x : zeros(shape, x.dtype(), x.device());
  Buffer y = make_buffer(shape, x);
  dispatch(x.dtype(), [&](auto t) {
    using T = decltype(t);
    PadRow<T> row{x.data<T>(), static_cast<T*>(y.data()), static_cast<T>(value), x.rank() - 1, {}, {}, {}};
    for (int d = 0; d < x.rank(); ++d) {
      row.x_size[d] = x.size(d);
      row.y_size[d] = shape[d];
      row.before[d] = pads[static_cast<std::size_t>(d)].before;
    }
    parallel_for(x.device(), shape.numel() / shape[x.rank() - 1], shape.numel(), row);
  });
  return Tensor(shape, x.dtype(), std::move(y));
}
Var pad(const Var& x, const std::vector<Pad>& pads, double value) {
  return record("pad", pad(x.value(), pads, value), Wrt{x, [pads](const Tensor& dy) {  // what was added is cut, what was cut got 0
                  std::vector<Pad> undo;
                  for (const auto& [before, after] : pads) undo.push_back({-before, -after});
                  return pad(dy, undo, 0);
                }});
}

Tensor gather(const Tensor& x, int axis, const Tensor& index) {
  check_operands("gather", x);
  check(index.defined() && index.dtype() == int64, "gather: the index must be an int64 tensor (convert with to(int64)); got ", index.dtype(), index.shape());
  check(index.device() == x.device(), "gather: the index must be on the tensor's device (move it with to(device)); got ", index.device(), " and ", x.device());
  const int at = x.shape().axis(axis, "gather");
  for (std::int64_t i : index.to_vector<std::int64_t>())
    check(i >= 0 && i < x.size(at), "gather: an index must lie in [0, ", x.size(at), ") for axis ", axis, " of ", x.shape(), "; got ", i);
  Shape shape(x.shape().begin(), x.shape().begin() + at);
  for (const std::int64_t size : index.shape()) shape.push_back(size);
  for (int axis_after = at + 1; axis_after < x.rank(); ++axis_after) shape.push_back(x.size(axis_after));
  const Extent e(x.shape(), at);
  Buffer y = make_buffer(shape, x);
  dispatch(x.dtype(), [&](auto t) {
    using T = decltype(t);
    parallel_for(x.device(), e.outer * index.numel(), shape.numel(),
                 Gather<T>{x.data<T>(), index.data<std::int64_t>(), static_cast<T*>(y.data()), e.count, index.numel(), e.inner});
  });
  return Tensor(shape, x.dtype(), std::move(y));
}
Var gather(const Var& x, int axis, const Tensor& index) {
  return record("gather", gather(x.value(), axis, index), Wrt{x, [shape = x.shape(), axis, index](const Tensor& dy) {
                  const Extent e(shape, shape.axis(axis, "gather"));
                  Buffer dx = make_buffer(shape, dy);
                  dispatch(dy.dtype(), [&](auto t) {
                    using T = decltype(t);
                    parallel_for(dy.device(), e.outer, shape.numel() + dy.numel(),
                                 ScatterAdd<T>{dy.data<T>(), index.data<std::int64_t>(), static_cast<T*>(dx.data()),
                                               e.count, index.numel(), e.inner});
                  });
                  return Tensor(shape, dy.dtype(), std::move(dx));
                }});
}

Tensor concat(const std::vector<Tensor>& parts, int axis) {
  check(!parts.empty(), "concat: needs at least one tensor; got none");
  check_operands("concat", parts[0]);
  const int at = parts[0].shape().axis(axis, "concat");
  std::int64_t total = 0;
  for (const Tensor& part : parts) {
    check_operands("concat", parts[0], part);
    check(part.rank() == parts[0].rank() && with_size(part.shape(), at, parts[0].size(at)) == parts[0].shape(),
          "concat: all sizes but axis ", axis, "'s must agree; got ", parts[0].shape(), " and ", part.shape());
    total += part.size(at);
  }
  const Shape shape = with_size(parts[0].shape(), at, total);
  Buffer y = make_buffer(shape, parts[0]);
  std::int64_t to = 0;
  for (const Tensor& part : parts) {
    copy_range(part, Extent(part.shape(), at), y, total, 0, to, part.size(at));
    to += part.size(at);
  }
  return Tensor(shape, parts[0].dtype(), std::move(y));
}
Var concat(const std::vector<Var>& parts, int axis) {
  const std::vector<Tensor> values = values_of(parts);
  Tensor y = concat(values, axis);
  std::vector<std::int64_t> ends{0};
  for (const Tensor& part : values) ends.push_back(ends.back() + part.size(axis));
  return record("concat", y, parts, [axis, ends](const Tensor& dy) {
    std::vector<Tensor> grads;
    for (std::size_t i = 0; i + 1 < ends.size(); ++i) grads.push_back(slice(dy, axis, ends[i], ends[i + 1]));
    return grads;
  });
}

namespace {

/// The shape of each part of a stack with the new axis, of size 1.
Shape raised_shape(const std::vector<Tensor>& parts, int axis) {
  check(!parts.empty(), "stack: needs at least one tensor; got none");
  const Shape& shape = parts[0].shape();
  for (const Tensor& part : parts) {
    check_operands("stack", parts[0], part);
    check(part.shape() == shape, "stack: all shapes must agree; got ", shape, " and ", part.shape());
  }
  check(axis >= -shape.rank() - 1 && axis <= shape.rank(), "stack: the new axis must lie in [", -shape.rank() - 1, ", ",
        shape.rank(), "]; got ", axis);
  const int at = axis < 0 ? axis + shape.rank() + 1 : axis;
  Shape raised;
  for (int d = 0; d <= shape.rank(); ++d) raised.push_back(d < at ? shape[d] : d == at ? 1 : shape[d - 1]);
  return raised;
}

}  // namespace

Tensor stack(const std::vector<Tensor>& parts, int axis) {
  const Shape shape = raised_shape(parts, axis);
  std::vector<Tensor> rows;
  for (const Tensor& part : parts) rows.push_back(part.reshape(shape));
  return concat(rows, axis);
}
Var stack(const std::vector<Var>& parts, int axis) {
  const Shape shape = raised_shape(values_of(parts), axis);
  std::vector<Var> rows;
  for (const Var& part : parts) rows.push_back(reshape(part, shape));
  return concat(rows, axis);
}

Tensor repeat(const Tensor& x, const std::vector<std::int64_t>& times) {
  check_operands("repeat", x);
  check(times.size() == static_cast<std::size_t>(x.rank()), "repeat: needs one number for each axis of ", x.shape(), "; got ",
        times.size());
  Tensor y = x;
  for (int d = x.rank() - 1; d >= 0; --d) {
    const std::int64_t count = times[static_cast<std::size_t>(d)];
    check(count >= 0, "repeat: the numbers must not be negative; got ", count, " for axis ", d);
    if (count == 1) continue;
    const Extent e(y.shape(), d);
    std::int64_t size = 0;
    check(!__builtin_mul_overflow(count, e.count, &size), "repeat: too many elements; got ", count, " for axis ", d, " of ", x.shape());
    const Shape shape = with_size(y.shape(), d, size);
    const Tensor once = y.reshape({e.outer, 1, e.count * e.inner});
    const Shape copies{e.outer, count, e.count * e.inner};
    y = dispatch(y.dtype(), [&](auto t) { return map_as<decltype(t)>(Same{}, copies, once); }).reshape(shape);
  }
  return y;
}
Var repeat(const Var& x, const std::vector<std::int64_t>& times) {
  return record("repeat", repeat(x.value(), times), Wrt{x, [shape = x.shape(), times](Tensor dy) {  // the sum of the copies
                  for (int d = 0; d < shape.rank(); ++d) {
                    const Extent e(dy.shape(), d);
                    const Shape once = with_size(dy.shape(), d, shape[d]);
                    dy = sum(dy.reshape({e.outer, times[static_cast<std::size_t>(d)], shape[d] * e.inner}), {1}).reshape(once);
                  }
                  return dy;
                }});
}

}  // namespace optnet
