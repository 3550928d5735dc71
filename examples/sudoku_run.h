// A training run as a thing: its data, network and optimiser, how far it is, and its way to a checkpoint and back.
#pragma once

#include "examples/sudoku.h"
#include "examples/sudoku_model.h"
#include "examples/sudoku_settings.h"
#include "framework/fit.h"

namespace sudoku {

/// The puzzles of a run, as boards and as tensors.
struct Data {
  Split boards;
  Dataset train, validation, test;
  std::string fingerprint;  // two runs on equal puzzles have equal ones
};

/// Made from the seed, or read. Throws Usage, and Error if a test puzzle were among those to learn from.
Data make_data(const Settings& settings);

/// How far a run is.
struct Position {
  std::int64_t epoch = 0, batch = 0;            // finished; batches in the epoch under way
  std::int64_t boards = 0, wrong = 0;           // seen in that epoch, and answered wrong
  double loss = 0;                              // summed over those boards
  double seconds = 0;                           // of training
  Random order;                                 // from which that epoch's order is drawn
};

struct Score {
  std::int64_t wrong = 0;
  double loss = 0;
  bool operator<(const Score& other) const { return std::pair(wrong, loss) < std::pair(other.wrong, other.loss); }
};

/// The parameters that did best on the validation puzzles.
struct Best {
  std::int64_t epoch = 0;  // 0: none yet
  Score score;
  NamedTensors parameters;
};

class Run {
 public:
  /// From the start, or as --resume's checkpoint left it.
  explicit Run(const Settings& settings);

  const Settings settings;
  const Data data;
  Network network;
  Adam adam;
  Position at;
  Best best;
  Log log;
  RunFiles files;

  Score evaluate(const Dataset& data) const;
  /// Ends an epoch: judges it on the validation and test puzzles, keeps the best, writes record and checkpoint.
  std::string finish_epoch(double seconds);
  /// Writes last.safetensors, with all that a resumed run needs to go on as if nothing had happened, and the best
  /// parameters.
  void save();
  /// The test by the best parameters; with `finished`, the final record. Then pictures and the table. Before the first
  /// epoch's end there is nothing to report.
  void report(bool finished);

 private:
  void restore(const Checkpoint& saved);
  void record(const nlohmann::ordered_json& record);
};

/// Curves and table of the models that were trained into one folder.
void compare(const Settings& settings);

}  // namespace sudoku
