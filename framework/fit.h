// fit(): what programs that train have in common, and nothing else. Epochs over batches, a line of progress, records, the best and
// the last checkpoint, Ctrl-C, going on. What is trained, how it is judged and what is recorded are the caller's functions.
#pragma once

#include "framework/data.h"
#include "framework/io.h"
#include "framework/train.h"

#include <set>
#include <variant>

namespace optnet {

/// A number or a text under its name: what records are made of.
struct Metric {
  std::string name;
  std::variant<std::int64_t, double, std::string> value;
};
using Metrics = std::vector<Metric>;

/// What an epoch has seen so far: sums over its examples.
struct Epoch {
  std::int64_t number = 1, examples = 0;
  double loss = 0;                     // its mean over the examples
  std::map<std::string, double> sums;  // whatever `loss` of Fit adds to it, the number of mistakes, say
};

/// How good the parameters are after an epoch.
struct Judgement {
  std::vector<double> score;  // the smallest is kept as the best, compared from the first number on
  Metrics metrics;              // for the record
  std::string text;           // for the line of progress
};

/// The files that a run writes into its folder. What another run left there moves aside first, to the first of old.1, old.2, ...
/// that is free, so that no run is lost to the next.
class RunFiles {
 public:
  explicit RunFiles(std::filesystem::path folder);
  /// The file, to be written.
  const std::filesystem::path& claim(const std::filesystem::path& file);
  /// A file that the run wrote before it was resumed.
  void keep(const std::filesystem::path& file) { claimed_.insert(file); }

 private:
  std::filesystem::path folder_, old_;
  std::set<std::filesystem::path> claimed_;
};

struct Fit {
  // What is trained, on what.
  std::vector<NamedParam> state;  // Module::state(): what is saved
  Optimizer& optimizer;
  Dataset train;
  std::int64_t batch = 128, epochs = 10;
  BatchOptions batches = {};
  std::uint64_t seed = 0;         // of the order, and of what `batches` augments
  /// The mean loss of a batch, on the tape; it may add to the epoch's sums.
  std::function<Var(const Dataset& batch, Epoch& epoch)> loss;
  /// The learning rate at a step of all steps; the optimiser's own if empty.
  std::function<double(std::int64_t step, std::int64_t steps)> rate = {};
  /// After each epoch. If empty, the epoch's loss is the score.
  std::function<Judgement(const Epoch& epoch)> judge = {};
  /// After the last: fields of the final record, by the best parameters, which are then in place.
  std::function<Metrics()> finish = {};

  // What is shown and kept, and where.
  RunFiles& files;
  std::filesystem::path folder;          // must exist
  std::string suffix = "";               // "last" + suffix + ".safetensors": models that share a folder have their own
  std::filesystem::path resume = {};     // a last.safetensors to go on from
  std::string unit = "examples";         // how progress calls them
  Metrics describe = {};                  // at the beginning of every record: the model's name, the seed
  /// Pictures of the run: each curve is named after a number of the epochs' records. None: no picture.
  std::vector<Plot> plots = {{"Loss in training", "epoch", "loss", true, {{"loss", {}}}}};
  /// What fixes a run: kept in both checkpoints. A checkpoint of another one is refused.
  Metadata settings = {};
};

struct Fitted {
  bool finished = false;                 // false: stopped by Ctrl-C, SIGTERM or SIGHUP
  std::int64_t epoch = 0, best = 0;      // epochs that were finished; the one whose parameters are in place, 0 for none
  double seconds = 0;                    // of training, earlier parts of a resumed run with them
};

/// Trains. Writes into the folder, by way of temporary names:
///     last.safetensors      all that a resumed run needs to go on bit for bit as if nothing had happened: after each epoch, each
///                           minute, and at the end
///     model.safetensors     the best parameters
///     metrics.jsonl, .csv   a record after each epoch, and the final one
///     curves.png            the plots
/// Throws Diverged if the loss is not finite, Error if a file cannot be written, BadCheckpoint for `resume`.
Fitted fit(const Fit& what);

struct Diverged : Error {
  using Error::Error;
};
struct BadCheckpoint : Error {
  using Error::Error;
};

}  // namespace optnet
