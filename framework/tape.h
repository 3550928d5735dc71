// Reverse-mode automatic differentiation. While a Tape is in scope, every op appends one node to it; the
// backward pass walks that vector from its end. Numbers (Tensor) and history (Var) are different types, so a
// solver or a pullback, which see tensors only, cannot record by accident. docs/quick_tour.md shows it in use.
#pragma once

#include "framework/tensor.h"

#include <functional>
#include <memory>
#include <unordered_map>
#include <vector>

namespace optnet {

/// A parameter: the one thing that changes. Copies share the same cell, as handles do.
class Param {
 public:
  Param() = default;
  explicit Param(Tensor value) : cell_(std::make_shared<Tensor>(std::move(value))) {}

  const Tensor& value() const;
  /// Replaces the numbers; shape and dtype must stay. Tensors already read keep the old ones.
  void set(Tensor value);
  /// Converts or moves the numbers in place, for all handles; what was recorded of it before is then out of date.
  void to(DType);
  void to(Device);
  const Shape& shape() const { return value().shape(); }
  DType dtype() const { return value().dtype(); }

 private:
  friend class Tape;
  friend class Optimizer;
  std::shared_ptr<Tensor> cell_;
};

/// Numbers with history: a tensor and, while a tape records, its place on it. A Var made from a Tensor or a
/// number is a constant; one made from a Param is a leaf whose gradient can be asked for.
class Var {
 public:
  Var() = default;
  Var(Tensor constant) : value_(std::move(constant)) {}
  /// A float64 scalar. Arithmetic with plain numbers has overloads of its own and keeps the tensor's dtype.
  Var(double number) : value_(full({}, number, float64)) {}
  Var(const Param& param);

  const Tensor& value() const { return value_; }
  const Shape& shape() const { return value_.shape(); }
  DType dtype() const { return value_.dtype(); }
  int rank() const { return value_.rank(); }
  std::int64_t size(int axis) const { return value_.size(axis); }
  double item() const { return value_.item(); }
  bool defined() const { return value_.defined(); }

  /// Whether a gradient would flow to this value: it is, or depends on, a leaf of the recording tape.
  /// Throws if its tape has ended.
  bool tracked() const;

 private:
  friend class Tape;
  friend class Gradients;
  Tensor value_;
  std::uint64_t tape_ = 0;  // 0: a constant
  int slot_ = -1;
};

/// From the gradient of an op's value to that of one of its inputs; broadcast axes are summed by the tape.
using Pullback = std::function<Tensor(const Tensor& dy)>;

/// The gradients of one scalar with respect to everything on its tape. Outlives the tape.
class Gradients {
 public:
  /// Zeros if the scalar does not depend on it.
  Tensor operator[](const Param&) const;
  Tensor operator[](const Var&) const;
  /// Replaces each gradient by f of it, as clipping does.
  void transform(const std::function<Tensor(const Tensor&)>& f);

 private:
  friend class Tape;
  std::uint64_t tape_ = 0;
  std::vector<Tensor> slots_;
  std::unordered_map<const Tensor*, int> leaves_;
  std::vector<std::shared_ptr<Tensor>> cells_;  // keeps the keys of leaves_ alive
};

template <class F>
struct Wrt;

/// Records ops from its construction to the end of its scope. Tapes nest: the innermost one records. A tape ends
/// on the thread that it began on.
class Tape {
 public:
  Tape();
  ~Tape();
  Tape(const Tape&) = delete;
  Tape& operator=(const Tape&) = delete;

  /// A leaf that is no parameter, to ask for the gradient with respect to data.
  Var watch(const Tensor& x);

  /// d loss / d everything. `loss` has one element. May be called several times.
  Gradients gradients(const Var& loss) const;

  std::size_t size() const { return nodes_.size(); }
  static Tape* current();

  /// Called with the name of every op that is recorded; the tests use it to find ops without a test.
  static void (*observer)(const char* op);

 private:
  struct Input {
    int slot;
    Pullback pullback;
  };
  struct Node {
    const char* op;
    Shape shape;
    std::vector<Input> inputs;
  };

  friend class Var;
  template <class... F>
  friend Var record(const char* op, Tensor value, Wrt<F>... inputs);
  friend Var record(const char* op, Tensor value, const std::vector<Var>& inputs,
                    std::function<std::vector<Tensor>(const Tensor& dy)> pullback);

  static void keep(std::vector<Input>& kept, const Var& input, Pullback pullback);
  Var append(const char* op, Tensor value, std::vector<Input> inputs);
  Var leaf(const Param& param);

  std::uint64_t id_;
  Tape* outer_;
  std::vector<Node> nodes_;
  std::unordered_map<const Tensor*, int> leaves_;
  std::vector<std::shared_ptr<Tensor>> cells_;
};

/// "With respect to": an input of an op and the pullback of its gradient.
template <class F>
struct Wrt {
  const Var& input;
  F pullback;
};
template <class F>
Wrt(const Var&, F) -> Wrt<F>;

/// How an op enters the tape: its name, its value, and for each input the pullback. Inputs that are constants
/// drop out, with all that their pullbacks captured; outside a tape nothing is kept at all.
///     return record("mul", x * y, Wrt{a, [y](const Tensor& dz) { return dz * y; }},
///                                 Wrt{b, [x](const Tensor& dz) { return dz * x; }});
template <class... F>
Var record(const char* op, Tensor value, Wrt<F>... inputs) {
  if (!(inputs.input.tracked() || ...)) return Var(std::move(value));
  std::vector<Tape::Input> kept;
  kept.reserve(sizeof...(F));
  ((inputs.input.tracked() ? Tape::keep(kept, inputs.input, std::move(inputs.pullback)) : void()), ...);
  return Tape::current()->append(op, std::move(value), std::move(kept));
}

/// The form for ops whose gradients come together, or whose inputs are many: one pullback returns a gradient
/// for each of `inputs`; those of constants are ignored and may be absent.
Var record(const char* op, Tensor value, const std::vector<Var>& inputs,
           std::function<std::vector<Tensor>(const Tensor& dy)> pullback);

}  // namespace optnet
