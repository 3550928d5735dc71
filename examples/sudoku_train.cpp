// ./sudoku_train: learns 4x4 Sudoku from solved puzzles, by a network that is one QP, or by one of two usual ones to compare
// with (sudoku_model.h). Here is what it learns from, how it is judged and what it shows; the loop is fit()'s.
#include "examples/sudoku.h"
#include "examples/sudoku_model.h"
#include "examples/sudoku_picture.h"
#include "examples/trainer.h"

#include <nlohmann/json.hpp>

#include <cstdio>

using namespace sudoku;
using trainer::demand;

namespace {

constexpr const char* program = "sudoku_train";
const std::vector<std::pair<std::string, std::string>> models{{"optnet", "OptNet"}, {"mlp", "MLP"}, {"conv", "ConvNet"}};

// ---- settings --------------------------------------------------------------------------------------------------

struct Settings : trainer::Settings {
  double eps = 0.1;
  std::int64_t boards = 10'000;
  std::filesystem::path puzzles;  // instead of generated ones
  std::string split = "puzzles";
  std::vector<trainer::Flag> flags;
};

void read_settings(Settings& s, int argc, char** argv) {
  s.model = "optnet", s.batch = 150;
  s.flags = {
      trainer::choice("model", s.model, {"optnet", "mlp", "conv"}, "one layer that is a QP; or a perceptron or a convolutional net to compare with (optnet)"),
      trainer::whole("epochs", s.epochs, 1, 100'000, "passes over the training puzzles (optnet: 14, mlp: 60, conv: 24)"),
      trainer::whole("batch", s.batch, 1, 1'000'000, "puzzles a step (150)"),
      trainer::positive("lr", s.lr, "Adam's learning rate at first; it falls to 0 along a cosine (optnet: 0.15, mlp: 0.004, conv: 0.002)"),
      trainer::positive("eps", s.eps, "of optnet: the weight of 1/2 z'z in its QP (0.1)"),
      trainer::whole("boards", s.boards, 20, 1'000'000, "puzzles to generate: 9/10 to learn from, 1/10 for the test (10000)"),
      trainer::path("puzzles", "FILE", s.puzzles, "your own instead: 16 digits a line, 0 for an empty cell; - is standard input"),
      trainer::choice("split", s.split, {"puzzles", "grids"}, "grids: no solution in the test occurs in training (puzzles: no puzzle does)")};
  for (trainer::Flag& flag : trainer::common(s, "sudoku_run")) s.flags.push_back(std::move(flag));
  const auto given = trainer::read(argc, argv, program, "Learns 4x4 Sudoku from solved puzzles, without being told its rules.", s.flags, s);
  demand(!given.contains("eps") || s.model == "optnet", "--eps: only the model optnet has one; leave it out with --model ", s.model);
  demand(!given.contains("boards") || s.puzzles.empty(), "--boards: with --puzzles the file says how many; leave one of the two out");
  if (s.epochs == 0) s.epochs = s.model == "optnet" ? 14 : s.model == "mlp" ? 60 : 24;
  if (s.lr == 0) s.lr = s.model == "optnet" ? 0.15 : s.model == "mlp" ? 0.004 : 0.002;
}

// ---- data ------------------------------------------------------------------------------------------------------

/// The puzzles of a run, as boards and as tensors.
struct Data {
  Split boards;
  Dataset train, validation, test;
};

/// Made from the seed, or read.
Data make_data(const Settings& s) {
  const SplitBy by = s.split == "grids" ? SplitBy::grids : SplitBy::puzzles;
  Random random{s.seed, std::uint64_t{1} << 62};  // a part of the seed's stream that neither parameters nor fit() reach
  Data data;
  try {
    data.boards = split(s.puzzles.empty() ? make_puzzles(random, s.boards) : read_puzzles(s.puzzles), by, random);
  } catch (const Error& error) {
    throw trainer::Usage((s.puzzles.empty() ? "--boards: " : "--puzzles: ") + std::string(error.what()));
  }
  check_split(data.boards, by);
  data.train = encode(data.boards.train), data.validation = encode(data.boards.validation), data.test = encode(data.boards.test);
  return data;
}

/// FNV-1a over all boards: runs on equal puzzles have equal ones.
std::string fingerprint(const Split& boards) {
  std::uint64_t hash = 0xcbf29ce484222325;
  for (const auto* part : {&boards.train, &boards.validation, &boards.test})
    for (const Puzzle& puzzle : *part)
      for (int shift = 0; shift < 64; shift += 8) hash = (hash ^ (puzzle.givens.bits >> shift & 255)) * 0x100000001b3;
  return std::to_string(hash);
}

// ---- how good, and what is shown -------------------------------------------------------------------------------

struct Score {
  std::int64_t wrong = 0;
  double loss = 0;
};

Score evaluate(const Network& network, const Dataset& puzzles) {
  Score score;
  Random unused;
  for (const auto& [x, y] : Batches(puzzles, 500, unused, {.shuffle = false})) {
    const Tensor z = network(x).value();
    score.wrong += count_wrong(z, y);
    score.loss += mse(z, y).item() * static_cast<double>(x.size(0)) / static_cast<double>(puzzles.size());
  }
  return score;
}

/// "37 of 1,000"
std::string of(std::int64_t wrong, std::int64_t boards) { return grouped(wrong) + " of " + grouped(boards); }
double share(std::int64_t wrong, std::int64_t boards) { return static_cast<double>(wrong) / static_cast<double>(boards); }

Judgement judge(const Settings& s, const Data& data, const Network& network, const Epoch& epoch) {
  const Score validation = evaluate(network, data.validation), test = evaluate(network, data.test);
  const auto wrong = static_cast<std::int64_t>(epoch.sums.at("wrong"));
  return {{static_cast<double>(validation.wrong), validation.loss},
          {{"split", s.split}, {"train_boards", epoch.examples}, {"train_boards_wrong", wrong}, {"train_error", share(wrong, epoch.examples)},
           {"validation_boards", data.validation.size()}, {"validation_boards_wrong", validation.wrong}, {"validation_loss", validation.loss},
           {"test_boards", data.test.size()}, {"test_boards_wrong", test.wrong}, {"test_error", share(test.wrong, data.test.size())}},
          "wrong " + of(wrong, epoch.examples) + " in training, " + of(validation.wrong, data.validation.size()) + " in validation"};
}

/// A model's line in the table at the end.
std::string row(const std::string& title, const nlohmann::ordered_json& best, const nlohmann::ordered_json& end) {
  const auto part = [](const nlohmann::ordered_json& record, const std::string& name) {
    const std::int64_t wrong = record.at(name + "_wrong"), boards = record.at(name);
    char text[80];
    std::snprintf(text, sizeof text, "%s (%.1f%%)", of(wrong, boards).c_str(), 100 * share(wrong, boards));
    return std::string(text);
  };
  char text[200];
  std::snprintf(text, sizeof text, "%-8s %6s %8s %7s  %26s  %24s  %8.1f", title.c_str(), end.at("seed").dump().c_str(), best.at("split").get<std::string>().c_str(),
                end.at("epochs").dump().c_str(), part(best, "train_boards").c_str(), part(end, "test_boards").c_str(), end.at("train_seconds").get<double>());
  return text;
}
constexpr const char* head = "model      seed    split  epochs           wrong in training         wrong in the test   seconds";

/// boards.png: the test by the parameters in place.
void draw_test(const Settings& s, const Data& data, const Network& network, RunFiles& files) {
  const Tensor z = network(data.test.x).value();
  const std::string title = std::map(models.begin(), models.end()).at(s.model) + ", 4x4 Sudoku - " + of(count_wrong(z, data.test.y), data.test.size());
  draw_boards(files.claim(files.path("boards", ".png")), title + " test boards wrong", data.boards.test, decode(z));
}

int train(int argc, char** argv) {
  Settings s;
  read_settings(s, argc, argv);
  set_threads(s.threads);
  const Data data = make_data(s);
  seed(s.seed);
  const Network network(s.model, s.eps);
  Adam adam(network.parameters(), {.lr = s.lr});
  trainer::make_folder(s.out);
  RunFiles files(s.out, s.model == "optnet" ? "" : "." + s.model);
  Metadata settings = trainer::settings_of(s.flags);
  settings["puzzles_fingerprint"] = fingerprint(data.boards);

  const auto loss = [&](const Dataset& batch, Epoch& epoch) {
    const Var z = network(batch.x);
    epoch.sums["wrong"] += static_cast<double>(count_wrong(z.value(), batch.y));
    return mse(z, batch.y);
  };
  const auto finish = [&] {
    return Metrics{{"seed", s.seed}, {"epochs", s.epochs}, {"test_boards", data.test.size()},
                   {"test_boards_wrong", count_wrong(network(data.test.x).value(), data.test.y)}};
  };
  const Fit what{.state = network.state(), .optimizer = adam, .train = data.train, .batch = s.batch, .epochs = s.epochs, .seed = s.seed, .loss = loss,
                 .rate = [&](std::int64_t step, std::int64_t steps) { return cosine_decay(s.lr, step, steps); },
                 .judge = [&](const Epoch& epoch) { return judge(s, data, network, epoch); }, .finish = finish,
                 .files = files, .resume = s.resume, .settings = settings, .notes = trainer::files_of(s.flags), .model = s.model,
                 .describe = {{"seed", s.seed}}, .unit = "boards",
                 .plots = {{"Mean squared error in training", "epoch", "loss", true, {{"loss", {}}}},
                           {"Boards with an error", "epoch", "share", false, {{"train_error", {}, true}, {"test_error", {}}}}},
                 .models = models};
  return trainer::train(program, s, what, [&] {
    draw_test(s, data, network, files);
    trainer::print_table(program, s, models, head, row);
  });
}

}  // namespace

int main(int argc, char** argv) {
  return trainer::run(program, argv, [&] { return train(argc, argv); });
}
