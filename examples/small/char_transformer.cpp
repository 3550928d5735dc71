// A transformer that writes text letter by letter, from public ops alone: embedding, causal attention with several heads,
// residuals, sampling. It learns to predict each next character of --text FILE, but for the last tenth, by which it is judged.
// Prints the loss as it falls, in nats a character, and at the end text of its own: from the catalogue of ops, new ops.
// Vaswani et al. 2017, with the norms before the blocks as in Radford et al. 2019.
#include "optnet.h"

#include <cmath>
#include <iomanip>
#include <iostream>
#include <set>

using namespace optnet;

/// Each position looks at itself and those before it.  x [B, T, width] -> [B, T, width]
struct CausalAttention : Module {
  std::int64_t heads;
  Linear query, key, value, out;

  CausalAttention(std::int64_t width, std::int64_t heads_)
      : heads(heads_), query(child("query", Linear{width, width})), key(child("key", Linear{width, width})),
        value(child("value", Linear{width, width})), out(child("out", Linear{width, width})) {}

  Var operator()(const Var& x) const {
    const std::int64_t B = x.size(0), T = x.size(1), size = x.size(2) / heads;
    const auto split = [&](const Var& y) { return transpose(reshape(y, {B, T, heads, size}), 1, 2); };  // [B, heads, T, size]
    const Var scores = matmul(split(query(x)), split(key(x)), {.transpose_b = true}) / std::sqrt(static_cast<double>(size));
    const Tensor future = triu(full({T, T}, -INFINITY), 1);
    const Var mixed = matmul(softmax(scores + future), split(value(x)));
    return out(reshape(transpose(mixed, 1, 2), x.shape()));
  }
};

/// Numbers of characters [B, T] -> logits of each next one [B, T, alphabet].
struct Transformer : Module {
  std::int64_t context;
  Param letters, places;
  Sequential blocks;

  Transformer(std::int64_t alphabet, std::int64_t context_, std::int64_t width, std::int64_t heads, int depth)
      : context(context_), letters(param("letters", normal(default_random(), {alphabet, width}, 0, 0.1))),
        places(param("places", normal(default_random(), {context, width}, 0, 0.1))) {
    for (int i = 0; i < depth; ++i) {
      blocks.add(Residual{Sequential{LayerNorm{{width}}, CausalAttention{width, heads}}});
      blocks.add(Residual{Sequential{LayerNorm{{width}}, Linear{width, 4 * width}, GELU{}, Linear{4 * width, width}}});
    }
    blocks.add(LayerNorm{{width}});
    blocks.add(Linear{width, alphabet});
    child("blocks", blocks);
  }

  Var operator()(const Tensor& text) const {
    return blocks(gather(letters, 0, text) + slice(places, 0, 0, text.size(1)));
  }
};

/// Pieces of the text at random places: what is read, and what comes next at each place. [batch, length] both
Dataset pieces(const Tensor& text, std::int64_t batch, std::int64_t length, Random& random) {
  std::vector<Tensor> x, y;
  for (std::int64_t i = 0; i < batch; ++i) {
    const std::int64_t at = random.below(text.size(0) - length);
    x.push_back(slice(text, 0, at, at + length)), y.push_back(slice(text, 0, at + 1, at + 1 + length));
  }
  return {stack(x), stack(y)};
}

/// Goes on with a text, a character at a time, each drawn with the probabilities that the net gives it.
std::vector<std::int64_t> write(const Transformer& net, std::vector<std::int64_t> text, std::int64_t more, Random& random) {
  for (; more > 0; --more) {
    const std::int64_t size = std::min<std::int64_t>(net.context, std::ssize(text));
    const Tensor logits = slice(net(from({1, size}, std::span<const std::int64_t>(text).last(size))).value(), 1, size - 1, size);
    const Tensor gumbel = -log(-log(uniform(random, logits.shape())));  // logits + gumbel is largest where softmax(logits) says how often
    text.push_back(static_cast<std::int64_t>(argmax(logits + gumbel).item()));
  }
  return text;
}

int main(int argc, char** argv) try {
  spin_briefly(argv);
  std::int64_t steps = 300, context = 64, batch = 16;
  std::string file = "framework/ops.h";
  Random& random = default_random();
  read_flags(argc, argv, {{"--text", &file}, {"--steps", &steps}, {"--context", &context}, {"--batch", &batch}, {"--seed", &random.seed}});

  check(std::filesystem::exists(file), "--text: there is no '", file, "'; name a file, or run this in the repository's folder");
  const std::string text = read_file(file);
  const std::set<char> letters(text.begin(), text.end());
  const std::string alphabet(letters.begin(), letters.end());
  std::vector<std::int64_t> numbers;
  for (const char c : text) numbers.push_back(static_cast<std::int64_t>(alphabet.find(c)));
  const std::int64_t size = std::ssize(text), cut = size - size / 10;
  check(context > 0, "--context: must be positive; got ", context);
  check(batch > 0 && batch <= 10'000, "--batch: must be 1 to 10000; got ", batch);
  check(size - cut > context, "--text: a tenth of it must be longer than --context ", context, "; ", file, " has ", size, " characters");
  const Tensor all = from({size}, numbers), train = slice(all, 0, 0, cut), test = slice(all, 0, cut, size);

  const Transformer net(std::ssize(alphabet), context, 64, 4, 2);
  AdamW adam{net.parameters()};
  for (std::int64_t step = 1; step <= steps; ++step) {
    Tape tape;
    const auto [x, y] = pieces(train, batch, context, random);
    const Var loss = cross_entropy(net(x), y);
    adam.lr = 4e-3 * warm_up(step - 1, 50) * cosine_decay(1, step - 1, steps);
    adam.step(tape.gradients(loss));
    if (step % 50 && step != 1) continue;
    Random same{1};
    const auto [x_test, y_test] = pieces(test, 64, context, same);
    const double test_loss = cross_entropy(net(x_test), y_test).item();
    std::cout << "step " << std::setw(4) << step << "  loss " << loss.item() << "  on the last tenth " << test_loss << std::endl;
  }
  for (const std::int64_t i : write(net, {numbers[0]}, 400, random)) std::cout << alphabet[static_cast<std::size_t>(i)];
  std::cout << '\n';
  flush_output();
} catch (const Error& error) {
  std::cerr << "char_transformer: " << error.what() << '\n';
  return 2;
}
