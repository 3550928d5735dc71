// 4x4 Sudoku: puzzles, their solutions, and their encoding as tensors. Rows, columns and the four boxes hold each of
// 1 2 3 4 once. This file knows the rules, to make puzzles and to judge answers; the networks are never told.
#pragma once

#include "framework/data.h"

#include <compare>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace sudoku {

/// A grid of 16 cells, empty or 1 to 4, one-hot: bit 4 cell + digit - 1. The same 64 numbers are the network's
/// input; and a grid completes a puzzle if it has all of the puzzle's bits.
struct Board {
  std::uint64_t bits = 0;

  int operator[](int cell) const;  // 0: empty
  void set(int cell, int digit);   // 0 empties it
  bool within(const Board& other) const { return (bits & ~other.bits) == 0; }
  auto operator<=>(const Board&) const = default;
};

struct Puzzle {
  Board givens, solution;
};

/// All 288 complete grids that obey the rules.
const std::vector<Board>& all_grids();
/// The grids among them that complete these givens.
std::vector<Board> solutions(const Board& givens);
bool obeys_rules(const Board& grid);

/// `count` different puzzles with exactly one solution each: on grids drawn uniformly, cells are emptied in random
/// order as long as the solution stays the only one, until 4 to 12 (drawn uniformly) are empty or none is left to try.
std::vector<Puzzle> make_puzzles(optnet::Random& random, std::int64_t count);

/// What a run learns from, chooses its best parameters by, and is judged by.
struct Split {
  std::vector<Puzzle> train, validation, test;
};
enum class SplitBy { puzzles, grids };
/// A tenth for the test, a twentieth for validation, the rest for training. Equal puzzles stay in one part; by grids,
/// all puzzles with the same solution do, so that no solution of the test is known from training.
Split split(const std::vector<Puzzle>& puzzles, SplitBy by, optnet::Random& random);
/// Throws if a test puzzle (by grids: its solution) is in one of the other parts.
void check_split(const Split& split, SplitBy by);

/// 16 digits, 0 or . for an empty cell. Throws optnet::Error that says what is wrong.
Board parse(const std::string& text);
std::string to_string(const Board& board);
/// One puzzle a line; empty lines and those that begin with # are skipped. "-" is standard input, and pipes will do.
/// Errors name the file and the line.
std::vector<Board> read_boards(const std::filesystem::path& path);
/// The same, where each must have exactly one solution.
std::vector<Puzzle> read_puzzles(const std::filesystem::path& path);

/// x [N, 64]: the givens; y [N, 64]: the solutions.
optnet::Tensor encode(const std::vector<Board>& boards);
optnet::Dataset encode(const std::vector<Puzzle>& puzzles);
/// The digit with the largest of each cell's four numbers. z [N, 64]
std::vector<Board> decode(const optnet::Tensor& z);
/// How many boards have some cell wrong. z, y [N, 64]
std::int64_t count_wrong(const optnet::Tensor& z, const optnet::Tensor& y);

}  // namespace sudoku
