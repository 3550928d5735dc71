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
  std::variant<std::int64_t, std::uint64_t, double, std::string> value;
};
using Metrics = std::vector<Metric>;

/// What an epoch has seen so far: sums over its examples.
struct Epoch {
  std::int64_t number = 1, examples = 0;
  double loss = 0;                          // its mean over the examples
  std::map<std::string, double> sums = {};  // whatever `loss` of Fit adds to it, the number of mistakes, say
};

/// How good the parameters are after an epoch.
struct Judgement {
  std::vector<double> score;  // the smallest is kept as the best, compared from the first number on
  Metrics metrics;            // for the record
  std::string text;           // for the line of progress
};

/// The folder of a run. What another run left there moves aside first, to the first of old.1, old.2, ... that is free, so that
/// no run is lost to the next. `suffix` tells the files of models that share a folder apart: "last" + suffix + ".safetensors".
class RunFiles {
 public:
  explicit RunFiles(std::filesystem::path folder, std::string suffix = "");
  std::filesystem::path path(const std::string& name, const std::string& extension) const { return folder_ / (name + suffix_ + extension); }
  const std::filesystem::path& folder() const { return folder_; }

  /// The file, to be written; parts of it that a killed run left go.
  const std::filesystem::path& claim(const std::filesystem::path& file);
  /// A file that the run wrote before it was resumed; or all that are there.
  void keep(const std::filesystem::path& file) { kept_.insert(file); }
  void keep_all() { all_kept_ = true; }

 private:
  std::filesystem::path folder_, old_;
  std::string suffix_;
  std::set<std::filesystem::path> claimed_, kept_;
  bool all_kept_ = false;
};

struct Fit {
  // What is trained, on what.
  std::vector<NamedParam> state;  // Module::state(): what is saved
  Optimizer& optimizer;
  Dataset train;
  std::int64_t batch = 128, epochs = 10;
  std::uint64_t seed = 0;         // of the order, and of what `augment` draws
  std::function<Dataset(Dataset batch, Random& random)> augment = {};  // as in BatchOptions
  int prefetch = 0;                                                    // likewise
  /// The mean loss of a batch, on the tape; it may add to the epoch's sums.
  std::function<Var(const Dataset& batch, Epoch& epoch)> loss;
  /// The learning rate at a step of all steps; the optimiser's own if empty.
  std::function<double(std::int64_t step, std::int64_t steps)> rate = {};
  /// After each epoch. If empty, the epoch's loss is the score.
  std::function<Judgement(const Epoch& epoch)> judge = {};
  /// After the last: the final record, by the best parameters, which are then in place. The seconds of training are added.
  std::function<Metrics()> finish = {};

  // What is shown and kept, and where.
  RunFiles& files;                       // whose folder is made if need be
  std::filesystem::path resume = {};     // a last.safetensors to go on from
  /// What fixes a run: kept in both checkpoints. A checkpoint of another one is refused.
  Metadata settings = {};
  Metadata notes = {};                   // kept in last.safetensors beside them, and never compared
  std::string model = "";                // its name in records, and in the name of their file
  Metrics describe = {};                 // at the beginning of the epochs' records: the seed, say
  std::string unit = "examples";         // how progress calls them
  /// Pictures of the run: each curve is named after a number of the epochs' records. None: no picture.
  std::vector<Plot> plots = {{"Loss in training", "epoch", "loss", true, {{"loss", {}}}}};
  /// The models that share the folder, each with a title: the curves of all are drawn together.
  std::vector<std::pair<std::string, std::string>> models = {};
};

struct Fitted {
  bool finished = false;                 // false: stopped by Ctrl-C, SIGTERM or SIGHUP
  std::int64_t epoch = 1, batch = 0;     // the epoch under way, or one beyond the last; its batches that are done
  std::int64_t best = 0;                 // the epoch whose parameters are in place at the end; 0: none has ended yet
  double seconds = 0;                    // of training, earlier parts of a resumed run with them
};

/// Trains. Writes into the folder, by way of temporary names:
///     last.safetensors                  all that a resumed run needs to go on bit for bit as if nothing had happened: after each
///                                       epoch, each minute, and at the end
///     model.safetensors                 the best parameters
///     metrics.jsonl, metrics.csv        a record after each epoch, and the final one; metrics.MODEL.* if the model has a name,
///                                       and metrics.jsonl is then that of the latest run
///     curves.png                        the plots
/// Throws Diverged if the loss is not finite, Error if a file cannot be written, BadCheckpoint for `resume`.
Fitted fit(const Fit& what);

/// The records of a log, one JSON object a line; lines that are none are passed over. None of a file that is not there.
std::vector<nlohmann::ordered_json> read_records(const std::filesystem::path& path);

/// `loss` may throw it too, with the reason; fit() adds the epoch.
struct Diverged : Error {
  using Error::Error;
};
/// The checkpoint to go on from is damaged, or of another run.
struct BadCheckpoint : Error {
  using Error::Error;
};

}  // namespace optnet
