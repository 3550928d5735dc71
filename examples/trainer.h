// What the trainers of examples/ share beside fit(): their flags, and how a run begins and ends.
#pragma once

#include "framework/fit.h"

namespace trainer {

/// A flag, or what it names, that cannot be used. The program then ends with exit code 2.
struct Usage : optnet::Error {
  using Error::Error;
};

template <class... Parts>
void demand(bool condition, const Parts&... parts) {
  if (condition) return;
  std::ostringstream message;
  (message << ... << parts);
  throw Usage(message.str());
}

/// What every trainer can be asked.
struct Settings {
  std::string model;
  std::int64_t epochs = 0, batch = 0;     // 0: the model's own
  double lr = 0;
  std::uint64_t seed = 0;
  int threads = 0;                        // 0: as many as cores
  std::filesystem::path out, resume;
};

/// --NAME VALUE, bound to a variable.
struct Flag {
  std::string name, value, help;
  std::function<void(const std::string& text)> set;  // throws Usage
  std::function<std::string()> text = {};            // as set() reads it; absent if it has no say in the results
  bool moves = false;                                // names a file, which may have another name when a run is resumed
};
Flag whole(const std::string& name, std::int64_t& x, std::int64_t low, std::int64_t high, const std::string& help);
/// 1 or more, or the word "all", which stands for a number that is more than there can be.
Flag whole_or_all(const std::string& name, std::int64_t& x, std::int64_t all, const std::string& help);
Flag positive(const std::string& name, double& x, const std::string& help);
Flag choice(const std::string& name, std::string& x, const std::vector<std::string>& choices, const std::string& help);
/// A file or folder, made absolute; "-" stays.
Flag path(const std::string& name, const std::string& value, std::filesystem::path& x, const std::string& help);
/// --seed, --threads, --out and --resume.
std::vector<Flag> common(Settings& s, const std::string& default_out);

/// Reads the command line into the flags' variables. With --resume, what is not given is taken from the checkpoint, and what
/// contradicts it is refused; `out` is then the checkpoint's folder. Throws Usage; ends the program after --help.
/// Returns the flags that were given.
std::set<std::string> read(int argc, char** argv, const std::string& program, const std::string& about, const std::vector<Flag>& flags, Settings& s);
/// What a checkpoint keeps of them: the settings that fix a run's results, and the files that it reads, which may move.
optnet::Metadata settings_of(const std::vector<Flag>& flags);
optnet::Metadata files_of(const std::vector<Flag>& flags);

/// Makes the folder of --out. Throws Usage if it cannot be written into.
void make_folder(const std::filesystem::path& folder);

/// fit(), then `report` if an epoch has ended. Returns the exit code: 0, or 130 if it was stopped, as for any program that
/// Ctrl-C ended; then it says how to go on.
int train(const std::string& program, const Settings& s, const optnet::Fit& what, const std::function<void()>& report);

/// The models that were trained into the folder, a line each, which `row` makes of the record of the epoch whose parameters are
/// kept, with the number of all as its "epochs", and the final one.
using Row = std::function<std::string(const std::string& title, const nlohmann::ordered_json& best, const nlohmann::ordered_json& end)>;
void print_table(const std::string& program, const Settings& s, const std::vector<std::pair<std::string, std::string>>& models, const std::string& head, const Row& row);

/// A trainer's main: `body` returns the exit code; errors become a line on standard error and 2 (Usage) or 1.
int run(const std::string& program, char** argv, const std::function<int()>& body);

}  // namespace trainer
