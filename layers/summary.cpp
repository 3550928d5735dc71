// The table of a module's layers.
#include "layers/summary.h"

#include "framework/train.h"

#include <array>
#include <set>

namespace optnet {
namespace {

std::string text_of(const std::optional<Shape>& shape) {
  if (!shape) return "-";
  std::ostringstream out;
  out << *shape;
  return out.str();
}

std::int64_t numel(const std::vector<NamedParam>& params) {
  std::int64_t n = 0;
  for (const auto& [name, param] : params) n += param.value().numel();
  return n;
}

std::int64_t bytes(const std::vector<NamedParam>& params) {
  std::int64_t n = 0;
  for (const auto& [name, param] : params) n += param.value().numel() * static_cast<std::int64_t>(size_of(param.dtype()));
  return n;
}

}  // namespace

/// Evaluation mode and an open ear; at the end, whatever happens, modes and random numbers are as they were.
struct Summary::Observed {
  std::vector<std::pair<Module::State*, bool>> modes;
  Random random = default_random();

  explicit Observed(Module::State& root) {
    Module::walk(root, "", [&](Module::State& state, const std::string&) { modes.emplace_back(&state, state.training); });
    for (auto [state, training] : modes) state->training = false, state->observed = true;
  }
  Observed(const Observed&) = delete;
  ~Observed() {
    for (auto [state, training] : modes) {
      state->training = training, state->observed = false;
      for (Module::Child& child : state->children) child.output.reset();
    }
    default_random() = random;
  }
};

struct Summary::Table {
  std::vector<std::array<std::string, 4>> rows{{"layer", "type", "output", "parameters"}};
  std::set<const Module::State*> seen;

  /// A layer and all below it, whose names begin with `prefix`.
  void add(const std::string& name, const std::string& prefix, const Module::Child& layer) {
    const bool first = seen.insert(layer.state.get()).second;
    rows.push_back({name, layer.type, text_of(layer.output), first ? grouped(numel(layer.state->params)) : "shared"});
    for (const Module::Child& child : layer.state->children) add(prefix + child.name, prefix + child.name + ".", child);
  }

  /// Columns as wide as their widest entry, the last one set to the right.
  std::string text() const {
    std::array<std::size_t, 4> width{};
    for (const auto& row : rows)
      for (std::size_t k = 0; k < row.size(); ++k) width[k] = std::max(width[k], row[k].size());
    std::string out;
    for (const auto& row : rows) {
      for (std::size_t k = 0; k < 3; ++k) out += row[k] + std::string(width[k] - row[k].size() + 2, ' ');
      out += std::string(width[3] - row[3].size(), ' ') + row[3] + '\n';
    }
    return out;
  }
};

std::string Summary::of(const Module& net, const std::string& type, const std::function<Shape()>& run) {
  const Observed observed(*net.state_);
  std::optional<Shape> output;
  if (run) output = run();
  Table table;
  table.add("net", "", {"", type, net.state_, output});
  const auto params = net.parameters(), buffers = net.buffers();
  return table.text() + "parameters: " + grouped(numel(params)) + ", buffers: " + grouped(numel(buffers)) +
         ", bytes: " + grouped(bytes(params) + bytes(buffers)) + '\n';
}

Tensor Summary::example(const Module& net, const Shape& shape) {
  Shape batch{1};
  for (std::int64_t size : shape) batch.push_back(size);
  const auto params = net.parameters();
  return params.empty() ? zeros(batch) : zeros(batch, params[0].second.dtype(), params[0].second.value().device());
}

}  // namespace optnet
