// What a run of ./sudoku_train is asked to do: its flags, checked, and what of them belongs to the run for good.
#pragma once

#include "framework/io.h"

#include <filesystem>
#include <string>

namespace sudoku {

/// A flag, or what it names, that cannot be used. The program then ends with exit code 2.
struct Usage : optnet::Error {
  using Error::Error;
};

struct Settings {
  std::string model = "optnet";        // or mlp
  std::int64_t epochs = 0, batch = 150;
  double lr = 0, eps = 0.1;            // 0 epochs, rate 0: the model's own, below
  std::uint64_t seed = 0;
  std::int64_t boards = 10'000;
  std::filesystem::path puzzles;       // instead of generated ones
  std::string split = "puzzles";       // or grids
  int threads = 0;                     // 0: as many as cores
  std::filesystem::path out = "sudoku_run", resume;

  /// "optnet's name.ext" is name.ext; the perceptron's is name.mlp.ext, so that both can share a folder.
  std::filesystem::path file(const std::string& name, const std::string& extension) const;
};

/// From the command line. Throws Usage; ends the program after --help. With --resume, what is not given is taken
/// from the checkpoint, and what contradicts it is refused; but the puzzles' file may have moved.
Settings read_settings(int argc, char** argv);

/// Makes the folder of --out. Throws Usage if it cannot be written into.
void make_folder(const std::filesystem::path& folder);

/// The settings that fix a run's results, as a checkpoint keeps them. They print and read back exactly.
optnet::Metadata describe(const Settings& settings);

}  // namespace sudoku
