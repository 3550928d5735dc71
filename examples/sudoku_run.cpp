// Data, scores, checkpoints and the end of a run.
#include "examples/sudoku_run.h"

#include "examples/sudoku_picture.h"

#include <nlohmann/json.hpp>

#include <cstdio>
#include <iomanip>
#include <iostream>

namespace sudoku {
namespace {

using json = nlohmann::ordered_json;

// Parts of the seed's stream, too far apart to meet; parameters come from its beginning.
constexpr std::uint64_t puzzles_begin = std::uint64_t{1} << 62, order_begin = std::uint64_t{1} << 61;

/// FNV-1a over all boards.
std::string fingerprint(const Split& boards) {
  std::uint64_t hash = 0xcbf29ce484222325;
  for (const auto* part : {&boards.train, &boards.validation, &boards.test})
    for (const Puzzle& puzzle : *part)
      for (int shift = 0; shift < 64; shift += 8) hash = (hash ^ (puzzle.givens.bits >> shift & 255)) * 0x100000001b3;
  return std::to_string(hash);
}

/// "37 of 1,000"
std::string of(std::int64_t wrong, std::int64_t boards) { return grouped(wrong) + " of " + grouped(boards); }

const std::string& seeded(const Settings& settings) {
  seed(settings.seed);
  return settings.model;
}

[[noreturn]] void refuse(const std::filesystem::path& checkpoint, const std::string& reason) {
  throw Usage("--resume: " + checkpoint.string() + ": " + reason + "; give an undamaged last.safetensors, or start a new run without --resume");
}

}  // namespace

Data make_data(const Settings& settings) {
  const SplitBy by = settings.split == "grids" ? SplitBy::grids : SplitBy::puzzles;
  Random random{settings.seed, puzzles_begin};
  Data data;
  try {
    data.boards = split(settings.puzzles.empty() ? make_puzzles(random, settings.boards) : read_puzzles(settings.puzzles), by, random);
  } catch (const Error& error) {
    throw Usage((settings.puzzles.empty() ? "--boards: " : "--puzzles: ") + std::string(error.what()));
  }
  check_split(data.boards, by);
  data.train = encode(data.boards.train);
  data.validation = encode(data.boards.validation);
  data.test = encode(data.boards.test);
  data.fingerprint = fingerprint(data.boards);
  return data;
}

// ---- checkpoints -----------------------------------------------------------------------------------------------

Run::Run(const Settings& settings_)
    : settings(settings_), data(make_data(settings)), network(seeded(settings), settings.eps), adam(network.parameters(), {.lr = settings.lr}),
      log(settings.out / ("metrics." + settings.model + ".jsonl")), files(settings.out) {
  at.order = {settings.seed, order_begin};
  if (!settings.resume.empty()) restore(load_safetensors(settings.resume));
  make_folder(settings.out);
}

void Run::record(const nlohmann::ordered_json& record) {
  files.claim(log.path());
  log.add(record);
  write_file(settings.out / "metrics.jsonl", log.lines());  // the latest run's, whichever its model
}

void Run::save() {
  NamedTensors tensors;
  put(tensors, "model.", values(network.parameters()));
  put(tensors, "adam.", adam.state());
  put(tensors, "best.", best.parameters);
  const json state{{"epoch", at.epoch},     {"batch", at.batch},           {"boards", at.boards},          {"wrong", at.wrong},
                   {"loss", at.loss},       {"seconds", at.seconds},       {"order_seed", at.order.seed},  {"order_next", at.order.next},
                   {"best", best.epoch},    {"best_wrong", best.score.wrong}, {"best_loss", best.score.loss}};
  Metadata metadata = describe(settings);
  metadata["state"] = state.dump();
  metadata["metrics"] = log.lines();
  metadata["puzzles_fingerprint"] = data.fingerprint;
  save_safetensors(files.claim(settings.file("last", ".safetensors")), tensors, metadata);
  if (best.epoch) save_network(files.claim(settings.file("model", ".safetensors")), network, best.parameters);
}

void Run::restore(const Checkpoint& saved) try {
  const auto& metadata = saved.metadata;
  check(metadata.at("puzzles_fingerprint") == data.fingerprint, "its puzzles are not those of ",
        settings.puzzles.empty() ? "this program's generator" : settings.puzzles.string(), "; has that changed since?");
  const json state = json::parse(metadata.at("state"));
  const auto whole = [&](const char* name, std::int64_t most) {
    const auto value = state.at(name).is_number_integer() ? state.at(name).get<std::int64_t>() : -1;
    check(value >= 0 && value <= most, "not a checkpoint of this trainer: '", name, "' is ", state.at(name).dump(), ", which none of its runs has");
    return value;
  };
  const std::int64_t batches = (data.train.size() + settings.batch - 1) / settings.batch;
  at.epoch = whole("epoch", settings.epochs);
  at.batch = whole("batch", at.epoch < settings.epochs ? batches : 0);
  at.boards = whole("boards", std::min(at.batch * settings.batch, data.train.size()));
  at.wrong = whole("wrong", at.boards);
  at.loss = state.at("loss"), at.seconds = state.at("seconds");
  at.order = {state.at("order_seed"), state.at("order_next")};
  best = {whole("best", at.epoch), {whole("best_wrong", data.validation.size()), state.at("best_loss")}, take(saved.tensors, "best.")};
  if (best.epoch) assign(network.parameters(), best.parameters);  // checks their names and shapes
  assign(network.parameters(), take(saved.tensors, "model."));
  adam.load_state(take(saved.tensors, "adam."));
  log = Log(log.path(), metadata.at("metrics"));
  std::error_code error;
  if (!std::filesystem::equivalent(settings.resume.parent_path() / ".", settings.out / ".", error)) return;
  files.keep(settings.file("last", ".safetensors"));
  if (best.epoch == 0) return;
  for (const auto& file : {settings.file("model", ".safetensors"), settings.file("boards", ".png"), log.path()}) files.keep(file);
} catch (const Error& error) {
  refuse(settings.resume, error.what());
} catch (const std::exception&) {  // a part is missing, or not what it should be
  refuse(settings.resume, "not a checkpoint of this trainer: its state is damaged");
}

// ---- scores and records ----------------------------------------------------------------------------------------

Score Run::evaluate(const Dataset& puzzles) const {
  Score score;
  Random unused;
  for (const auto& [x, y] : Batches(puzzles, 500, unused, {.shuffle = false})) {
    const Tensor z = network(x).value();
    score.wrong += count_wrong(z, y);
    score.loss += mse(z, y).item() * static_cast<double>(x.size(0)) / static_cast<double>(puzzles.size());
  }
  return score;
}

std::string Run::finish_epoch(double seconds) {
  const Score validation = evaluate(data.validation), test = evaluate(data.test);
  const double loss = at.loss / static_cast<double>(at.boards), pace = static_cast<double>(at.boards) / seconds;
  ++at.epoch;
  if (best.epoch == 0 || validation < best.score) best = {at.epoch, validation, values(network.parameters())};
  record({{"event", "epoch"}, {"model", settings.model}, {"seed", settings.seed}, {"split", settings.split}, {"epoch", at.epoch}, {"loss", loss},
          {"train_boards", at.boards}, {"train_boards_wrong", at.wrong},
          {"validation_boards", data.validation.size()}, {"validation_boards_wrong", validation.wrong}, {"validation_loss", validation.loss},
          {"test_boards", data.test.size()}, {"test_boards_wrong", test.wrong}, {"best_epoch", best.epoch},
          {"boards_per_second", std::round(pace)}});

  std::ostringstream line;
  line << "epoch " << std::setw(static_cast<int>(std::to_string(settings.epochs).size())) << at.epoch << '/' << settings.epochs << std::fixed
       << std::setprecision(5) << "  loss " << loss << "  wrong " << of(at.wrong, at.boards) << " in training, " << of(validation.wrong, data.validation.size())
       << " in validation  " << grouped(static_cast<std::int64_t>(pace)) << " boards/s";
  at.batch = at.boards = at.wrong = 0;
  at.loss = 0;
  return line.str();
}

// ---- the end ---------------------------------------------------------------------------------------------------

void Run::report(bool finished) {
  if (best.epoch == 0) {
    std::cout << "no epoch has ended yet: there are no metrics, model and pictures to write\n";
    return;
  }
  assign(network.parameters(), best.parameters);
  std::vector<Board> answers;
  std::int64_t wrong = 0;
  const std::vector<Puzzle>& puzzles = data.boards.test;
  for (const Board& answer : decode(network(data.test.x).value())) answers.push_back(answer);
  for (std::size_t i = 0; i < answers.size(); ++i) wrong += answers[i] != puzzles[i].solution;
  if (finished) {
    record({{"event", "final"}, {"model", settings.model}, {"seed", settings.seed}, {"epochs", settings.epochs}, {"test_boards", data.test.size()},
            {"test_boards_wrong", wrong}, {"train_seconds", std::round(at.seconds * 1000) / 1000}});
  }
  const std::string name = settings.model == "optnet" ? "OptNet" : "MLP";
  draw_boards(files.claim(settings.file("boards", ".png")), name + ", 4x4 Sudoku - " + of(wrong, data.test.size()) + " test boards wrong", puzzles, answers);
  compare(settings);
  std::cout << "\nparameters, metrics and pictures are in " << settings.out.string() << "\n";
}

}  // namespace sudoku
