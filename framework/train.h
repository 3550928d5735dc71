// What programs that train share: waiting that leaves the cores to others, flags, a progress line, a log of records,
// Ctrl-C, curves as a picture.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace optnet {

/// Call it first in main. OpenMP's threads wait by spinning for milliseconds, which makes a program up to 100 times
/// slower where other programs keep the cores busy. How long they spin is read from the environment when OpenMP is
/// loaded: so this starts the program anew with a short spin, unless the environment says something of it already.
void spin_briefly(char** argv);

/// What a flag of a command line sets: a whole number that is not negative, or a text.
using Flag = std::variant<std::int64_t*, std::uint64_t*, std::string*>;
/// Reads "--name value" pairs; flags that are not given leave their variables as they were. Throws Error for any other
/// argument or value, and says which there are. For programs of few flags; those of many have CLI11.
///     read_flags(argc, argv, {{"--steps", &steps}, {"--text", &text}});
void read_flags(int argc, char** argv, const std::vector<std::pair<std::string, Flag>>& flags);

/// Whether standard output is a terminal that can overwrite a line.
bool on_terminal();
/// Throws Error if something written to standard output did not get there.
void flush_output();

/// A line on standard output that says how far a run is and how long it will take. On a terminal it is rewritten in
/// place, ten times a second at most; elsewhere it is an ordinary line, once in ten seconds at most.
class Progress {
 public:
  /// `total` steps in all, of which `done` were made by an earlier run.
  explicit Progress(std::int64_t total, std::int64_t done = 0);
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  ~Progress() { clear(); }

  /// After step number `done`: a bar, `text`, the time left. The text is asked for only when it is shown.
  void show(std::int64_t done, const std::function<std::string()>& text);
  /// The same as a line of at most `columns`: the bar is as long as there is room, then the text is cut; the time never.
  static std::string fit(double share, const std::string& text, const std::string& time, std::size_t columns);
  /// A line that stays.
  void line(const std::string& text);
  /// "3 s left", "2:05 left", "1:00:30 left" at the pace of this run so far.
  std::string time_left(std::int64_t done) const;

 private:
  using Clock = std::chrono::steady_clock;
  void clear();

  std::int64_t total_, first_;
  bool terminal_, standing_ = false;  // standing: a line that the next one overwrites
  Clock::time_point begin_, shown_;
};

/// 1234567 as "1,234,567".
std::string grouped(std::int64_t number);

/// Records, one JSON object a line. The file is replaced as a whole by each record, so none is ever half written; until
/// the first it is not touched.
class Log {
 public:
  /// Begins with the lines of an earlier run, if any.
  explicit Log(std::filesystem::path path, std::string lines = "") : path_(std::move(path)), lines_(std::move(lines)) {}
  /// Throws Error if the file cannot be written.
  void add(const nlohmann::ordered_json& record);
  const std::string& lines() const { return lines_; }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
  std::string lines_;
};

/// While one is in scope, the first Ctrl-C, SIGTERM or SIGHUP only raises a flag; the second ends the program as usual.
class Interrupt {
 public:
  Interrupt();
  Interrupt(const Interrupt&) = delete;
  Interrupt& operator=(const Interrupt&) = delete;
  ~Interrupt();
  explicit operator bool() const;
};

struct Curve {
  std::string name;
  std::vector<double> y;  // at x = 1, 2, ...
  bool dashed = false;
  int color = 0;          // curves that belong together share one
};

/// One set of axes.
struct Plot {
  std::string title, x_label, y_label;
  bool log_y = false;
  std::vector<Curve> curves;
};

/// Draws the plots side by side as a PNG, by gnuplot. Returns "" or why there is no picture: nobody should lose a
/// run for want of one.
std::string draw_plots(const std::filesystem::path& png, const std::vector<Plot>& plots);

}  // namespace optnet
