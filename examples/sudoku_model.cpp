// Choosing, saving and loading the networks.
#include "examples/sudoku_model.h"

#include <charconv>

namespace sudoku {

Network::Network(const std::string& name_, double eps_) : name(name_), eps(eps_) {
  if (name == "optnet") forward = child("rules", RuleLearner(eps));
  else if (name == "mlp") forward = child("perceptron", perceptron());
  else if (name == "conv") forward = child("convnet", ConvNet());
  else fail("the model must be optnet, mlp or conv; got '", name, "'");
}

Var Network::operator()(const Var& puzzles) const try {
  return forward(puzzles);
} catch (const Error&) {
  if (name != "optnet") throw;
  throw Unsolvable("with these parameters the network's QP cannot be solved");
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
