// Choosing, saving and loading the networks.
#include "examples/sudoku_model.h"

#include <charconv>

namespace sudoku {

Network::Network(const std::string& name_, double eps_) : name(name_), eps(eps_) {
  check(name == "optnet" || name == "mlp", "the model must be optnet or mlp; got '", name, "'");
  if (name == "optnet") forward = child("rules", RuleLearner(eps));
  else forward = child("perceptron", perceptron());
}

Var Network::operator()(const Var& puzzles) const try {
  return forward(puzzles);
} catch (const Error&) {
  throw Unsolvable("with these parameters the network's QP cannot be solved");
}

void save_network(const std::filesystem::path& path, const Network& network, const NamedTensors& parameters) {
  char text[32];
  const std::string eps(text, std::to_chars(text, text + sizeof text, network.eps).ptr);
  save_safetensors(path, parameters, {{"model", network.name}, {"eps", eps}});
}

Network load_network(const std::filesystem::path& path) {
  const Checkpoint saved = load_safetensors(path);
  check(!saved.metadata.contains("state"), path.string(), ": this is a run to go on with, by ./sudoku_train --resume; give the model.safetensors beside it");
  check(saved.metadata.contains("model") && saved.metadata.contains("eps"), path.string(),
        ": no model of sudoku_train, it does not say which one; give a model.safetensors that it wrote");
  const std::string &name = saved.metadata.at("model"), &text = saved.metadata.at("eps");
  double eps = 0;
  std::from_chars(text.data(), text.data() + text.size(), eps);
  check(eps > 0, path.string(), ": eps must be positive; got '", text, "'");
  try {
    Network network(name, eps);
    assign(network.parameters(), saved.tensors);
    return network;
  } catch (const Error& error) {
    fail(path.string(), ": ", error.what());
  }
}

}  // namespace sudoku
