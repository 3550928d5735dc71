// The flags of ./sudoku_train.
#include "examples/sudoku_settings.h"

#include "framework/backend.h"
#include "framework/train.h"

#include <CLI/CLI.hpp>

#include <charconv>
#include <cmath>
#include <map>

namespace sudoku {
namespace {

using optnet::check;

template <class... Parts>
void demand(bool condition, const Parts&... parts) {
  if (condition) return;
  std::ostringstream message;
  (message << ... << parts);
  throw Usage(message.str());
}

/// A whole text as a number in [low, high].
template <class T>
T number(const std::string& flag, const std::string& text, T low, T high, const std::string& rule) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  const bool read = error == std::errc{} && end == text.data() + text.size();
  demand(read && value >= low && value <= high, "--", flag, ": must be ", rule, "; got '", text, "'");  // NaN fails here too
  return value;
}

std::int64_t whole(const std::string& flag, const std::string& text, std::int64_t low, std::int64_t high) {
  return number<std::int64_t>(flag, text, low, high, "a whole number from " + std::to_string(low) + " to " + std::to_string(high));
}

std::string choice(const std::string& flag, const std::string& text, const std::string& a, const std::string& b) {
  demand(text == a || text == b, "--", flag, ": must be ", a, " or ", b, "; got '", text, "'");
  return text;
}

void set(Settings& s, const std::string& flag, const std::string& text) {
  constexpr double tiny = 1e-12, huge = 1e6;
  if (flag == "model") s.model = choice(flag, text, "optnet", "mlp");
  if (flag == "epochs") s.epochs = whole(flag, text, 1, 100'000);
  if (flag == "batch") s.batch = whole(flag, text, 1, 1'000'000);
  if (flag == "lr") s.lr = number(flag, text, tiny, huge, "a positive number, such as 0.1");
  if (flag == "eps") s.eps = number(flag, text, tiny, huge, "a positive number, such as 0.1");
  if (flag == "seed") s.seed = number<std::uint64_t>(flag, text, 0, UINT64_MAX, "a whole number from 0 to 18446744073709551615");
  if (flag == "threads") s.threads = static_cast<int>(whole(flag, text, 1, 1024));
  if (flag == "boards") s.boards = whole(flag, text, 20, 1'000'000);
  if (flag == "split") s.split = choice(flag, text, "puzzles", "grids");
  if (flag == "puzzles") {
    demand(!text.empty(), "--puzzles: must be a file; got ''");
    s.puzzles = text == "-" ? std::filesystem::path(text) : std::filesystem::absolute(text);  // a run may be resumed from another folder
  }
  if (flag == "out") s.out = text;
  if (flag == "resume") s.resume = text;
}

/// The flags that stand on the command line, as text.
std::map<std::string, std::string> read_flags(int argc, char** argv) {
  std::map<std::string, std::string> given;
  CLI::App app{"Learns 4x4 Sudoku from solved puzzles, without being told its rules.", "sudoku_train"};
  const auto flag = [&](const std::string& name, const std::string& value, const std::string& help) {
    app.add_option_function<std::string>("--" + name, [&given, name](const std::string& text) { given[name] = text; }, help)->type_name(value);
  };
  flag("model", "optnet|mlp", "one layer that is a QP, or a perceptron to compare with (optnet)");
  flag("epochs", "N", "passes over the training puzzles (optnet: 12, mlp: 60)");
  flag("batch", "N", "puzzles a step (150)");
  flag("lr", "X", "Adam's learning rate at first; it falls to 0 along a cosine (optnet: 0.15, mlp: 0.004)");
  flag("eps", "X", "of optnet: the weight of 1/2 z'z in its QP (0.1)");
  flag("seed", "N", "fixes puzzles, initial parameters and order, whatever the number of threads (0)");
  flag("threads", "N", "OMP_NUM_THREADS, else as many as there are cores");
  flag("out", "DIR", "folder for metrics, parameters and pictures (sudoku_run, or that of --resume's file); another run's move to old.1 in it");
  flag("resume", "FILE", "go on from a run's last.safetensors");
  flag("boards", "N", "puzzles to generate: 9/10 to learn from, 1/10 for the test (10000)");
  flag("puzzles", "FILE", "your own instead: 16 digits a line, 0 for an empty cell; - is standard input");
  flag("split", "puzzles|grids", "grids: no solution in the test occurs in training (puzzles: no puzzle does)");
  try {
    app.parse(argc, argv);
  } catch (const CLI::CallForHelp& help) {
    const int code = app.exit(help);
    optnet::flush_output();
    std::exit(code);
  } catch (const CLI::ParseError& error) {
    throw Usage(error.what());
  }
  return given;
}

/// The settings of the run that a checkpoint holds.
Settings saved_settings(const std::filesystem::path& file) try {
  const optnet::Metadata saved = optnet::load_safetensors(file).metadata;
  Settings s;
  for (const auto& [name, value] : describe(s)) {
    check(saved.contains(name), file.string(), ": not a checkpoint of this trainer: it does not say '", name, "'");
    if (name != "puzzles" || !saved.at(name).empty()) set(s, name, saved.at(name));
  }
  return s;
} catch (const optnet::Error& error) {
  throw Usage(std::string("--resume: ") + error.what() + "; give the last.safetensors of a run, or start a new one without --resume");
}

std::string shortest(double x) {
  char text[32];
  return {text, std::to_chars(text, text + sizeof text, x).ptr};
}

}  // namespace

std::filesystem::path Settings::file(const std::string& name, const std::string& extension) const {
  return out / (name + (model == "optnet" ? "" : "." + model) + extension);
}

void make_folder(const std::filesystem::path& folder) try {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  optnet::write_file(folder / ".writable", "");
  std::filesystem::remove(folder / ".writable");
} catch (const optnet::Error&) {
  throw Usage("--out: cannot write into '" + folder.string() + "'; give a folder that is there, or can be made, and is writable");
}

optnet::Metadata describe(const Settings& s) {
  return {{"model", s.model},       {"epochs", std::to_string(s.epochs)}, {"batch", std::to_string(s.batch)},   {"lr", shortest(s.lr)},
          {"eps", shortest(s.eps)}, {"seed", std::to_string(s.seed)},     {"boards", std::to_string(s.boards)}, {"split", s.split},
          {"puzzles", s.puzzles.string()}};
}

Settings read_settings(int argc, char** argv) {
  const std::map<std::string, std::string> given = read_flags(argc, argv);
  Settings s;
  if (given.contains("resume")) {
    s = saved_settings(given.at("resume"));
    s.out = std::filesystem::path(given.at("resume")).parent_path();
    if (s.out.empty()) s.out = ".";
  }
  optnet::Metadata saved = describe(s);
  for (const auto& [name, text] : given) {
    set(s, name, text);
    const optnet::Metadata now = describe(s);
    if (name == "puzzles") saved["puzzles"] = now.at("puzzles");  // it may have moved; what it holds is checked later
    demand(!given.contains("resume") || now == saved, "--", name, ": '", text, "' contradicts ", given.contains("resume") ? given.at("resume") : "",
           ", whose run has ", saved.contains(name) ? "'" + saved.at(name) + "'" : "none", "; leave the flag out, or start a new run without --resume");
  }
  demand(!given.contains("eps") || s.model == "optnet", "--eps: only the model optnet has one; leave it out with --model ", s.model);
  demand(!given.contains("boards") || s.puzzles.empty(), "--boards: with --puzzles the file says how many; leave one of the two out");
  if (s.epochs == 0) s.epochs = s.model == "optnet" ? 12 : 60;
  if (s.lr == 0) s.lr = s.model == "optnet" ? 0.15 : 0.004;
  if (s.threads == 0) s.threads = optnet::threads();
  demand(!s.out.empty(), "--out: must be a folder; got ''");
  return s;
}

}  // namespace sudoku
