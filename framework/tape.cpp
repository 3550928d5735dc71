// The tape: appending nodes and the backward walk.
#include "framework/tape.h"

#include <atomic>

namespace optnet {
namespace {

thread_local Tape* innermost = nullptr;
std::atomic<std::uint64_t> next_id{1};

}  // namespace

void (*Tape::observer)(const char* op) = nullptr;

const Tensor& Param::value() const {
  check(cell_ != nullptr, "param: it is empty; construct it with a tensor");
  return *cell_;
}

void Param::set(Tensor value) {
  check(value.defined(), "param: the new value is absent (a default-constructed Tensor)");
  check(value.shape() == shape() && value.dtype() == dtype(), "param: a new value must keep ", dtype(), shape(),
        "; got ", value.dtype(), value.shape());
  *cell_ = std::move(value);
}

void Param::to(DType dtype) { *cell_ = value().to(dtype); }
void Param::to(Device device) { *cell_ = value().to(device); }

Var::Var(const Param& param) : value_(param.value()) {
  if (innermost) *this = innermost->leaf(param);
}

bool Var::tracked() const {
  if (tape_ == 0) return false;
  check(innermost && tape_ == innermost->id_,
        "tape: this Var belongs to a tape that has ended, or to one outside the innermost; use value() to take its "
        "numbers as a constant");
  return true;
}

Tape::Tape() : id_(next_id++), outer_(innermost) { innermost = this; }

Tape::~Tape() {  // on the heap, an outer tape may end before the inner one
  Tape** link = &innermost;
  while (*link && *link != this) link = &(*link)->outer_;
  if (*link) *link = outer_;
}

Tape* Tape::current() { return innermost; }

Var Tape::append(const char* op, Tensor value, std::vector<Input> inputs) {
  if (observer) observer(op);
  Var y(std::move(value));
  y.tape_ = id_;
  y.slot_ = static_cast<int>(nodes_.size());
  nodes_.push_back({op, y.shape(), std::move(inputs)});
  return y;
}

void Tape::keep(std::vector<Input>& kept, const Var& input, Pullback pullback) {
  kept.push_back({input.slot_, std::move(pullback)});
}

Var Tape::leaf(const Param& param) {
  auto [place, fresh] = leaves_.try_emplace(param.cell_.get(), static_cast<int>(nodes_.size()));
  if (fresh) {
    cells_.push_back(param.cell_);
    nodes_.push_back({"leaf", param.shape(), {}});
  }
  Var x(param.value());
  x.tape_ = id_;
  x.slot_ = place->second;
  return x;
}

Var Tape::watch(const Tensor& x) {
  check(this == innermost, "watch: only the innermost tape records");
  return leaf(Param(x));
}

Gradients Tape::gradients(const Var& loss) const {
  check(loss.value().numel() == 1, "gradients: the loss must have one element (take a sum or a mean); got ", loss.shape());
  check(is_floating(loss.dtype()), "gradients: the loss must be float32 or float64; got ", loss.dtype());
  check(loss.tape_ == 0 || loss.tape_ == id_, "gradients: the loss was not recorded on this tape");
  Gradients result;
  result.tape_ = id_;
  result.leaves_ = leaves_;
  result.cells_ = cells_;
  std::vector<Tensor>& grads = result.slots_;
  grads.resize(nodes_.size());
  if (loss.tape_ == 0) return result;

  grads[static_cast<std::size_t>(loss.slot_)] = ones(loss.shape(), loss.dtype(), loss.value().device());
  for (std::size_t i = static_cast<std::size_t>(loss.slot_) + 1; i-- > 0;) {
    if (!grads[i].defined()) continue;  // the loss does not depend on it
    for (const Input& input : nodes_[i].inputs) {
      Tensor& sum = grads[static_cast<std::size_t>(input.slot)];
      const Tensor dx = sum_to(input.pullback(grads[i]), nodes_[static_cast<std::size_t>(input.slot)].shape, nodes_[i].op);
      sum = sum.defined() ? sum + dx : dx;
    }
  }
  return result;
}

Tensor Gradients::operator[](const Var& x) const {
  check(x.tape_ == tape_ && x.slot_ >= 0, "gradients: this Var is a constant, or of another tape; watch() it first");
  const auto slot = static_cast<std::size_t>(x.slot_);  // past the end if it was recorded after the gradients
  return slot < slots_.size() && slots_[slot].defined() ? slots_[slot] : zeros(x.shape(), x.dtype(), x.value().device());
}

Tensor Gradients::operator[](const Param& param) const {
  const auto leaf = leaves_.find(&param.value());
  if (leaf != leaves_.end() && slots_[static_cast<std::size_t>(leaf->second)].defined())
    return slots_[static_cast<std::size_t>(leaf->second)];
  return zeros(param.shape(), param.dtype(), param.value().device());
}

void Gradients::transform(const std::function<Tensor(const Tensor&)>& f) {
  for (Tensor& dx : slots_)
    if (dx.defined()) dx = f(dx);
}

Var record(const char* op, Tensor value, const std::vector<Var>& inputs,
           std::function<std::vector<Tensor>(const Tensor& dy)> pullback) {
  // The inputs of a node are walked one after another with the same dy, so the first computes for all.
  auto shared = std::make_shared<std::vector<Tensor>>();
  std::vector<Tape::Input> kept;
  const std::size_t count = inputs.size();
  for (std::size_t i = 0; i < count; ++i) {
    if (!inputs[i].tracked()) continue;
    const bool first = kept.empty();
    Tape::keep(kept, inputs[i], [=](const Tensor& dy) {
      if (first) {
        *shared = pullback(dy);
        check(shared->size() == count, op, ": the pullback must return a gradient for each of ", count, " inputs; got ", shared->size());
      }
      return std::move((*shared)[i]);
    });
  }
  if (kept.empty()) return Var(std::move(value));
  return Tape::current()->append(op, std::move(value), std::move(kept));
}

}  // namespace optnet
