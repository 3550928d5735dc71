// Making, splitting, reading and encoding 4x4 puzzles.
#include "examples/sudoku.h"

#include "framework/io.h"

#include <algorithm>
#include <bit>
#include <fstream>
#include <iomanip>
#include <map>
#include <numeric>
#include <set>
#include <sstream>

namespace sudoku {

using optnet::check;
using optnet::Random;
using optnet::Tensor;

// ---- boards and rules ------------------------------------------------------------------------------------------

int Board::operator[](int cell) const { return std::bit_width(bits >> 4 * cell & 15); }

void Board::set(int cell, int digit) {
  bits &= ~(std::uint64_t{15} << 4 * cell);
  if (digit) bits |= std::uint64_t{1} << (4 * cell + digit - 1);
}

namespace {

/// Whether two cells share a row, a column or a box.
bool meet(int a, int b) {
  const int row_a = a / 4, row_b = b / 4, column_a = a % 4, column_b = b % 4;
  return row_a == row_b || column_a == column_b || (row_a / 2 == row_b / 2 && column_a / 2 == column_b / 2);
}

void fill_from(int cell, Board grid, std::vector<Board>& found) {
  if (cell == 16) return found.push_back(grid);
  for (int digit = 1; digit <= 4; ++digit) {
    bool free = true;
    for (int before = 0; before < cell; ++before) free &= !(meet(before, cell) && grid[before] == digit);
    if (!free) continue;
    grid.set(cell, digit);
    fill_from(cell + 1, grid, found);
  }
}

/// Fisher and Yates.
template <class T>
void shuffle(std::vector<T>& list, Random& random) {
  for (std::size_t i = list.size(); i > 1; --i) std::swap(list[i - 1], list[static_cast<std::size_t>(random.below(static_cast<std::int64_t>(i)))]);
}

bool has_one_solution(const Board& givens) {
  return std::ranges::count_if(all_grids(), [&](const Board& grid) { return givens.within(grid); }) == 1;
}

}  // namespace

const std::vector<Board>& all_grids() {
  static const std::vector<Board> grids = [] {
    std::vector<Board> found;
    fill_from(0, {}, found);
    return found;
  }();
  return grids;
}

std::vector<Board> solutions(const Board& givens) {
  std::vector<Board> found;
  std::ranges::copy_if(all_grids(), std::back_inserter(found), [&](const Board& grid) { return givens.within(grid); });
  return found;
}

bool obeys_rules(const Board& grid) { return std::ranges::find(all_grids(), grid) != all_grids().end(); }

// ---- making and splitting --------------------------------------------------------------------------------------

std::vector<Puzzle> make_puzzles(Random& random, std::int64_t count) {
  check(count >= 0 && count <= 1'000'000, "sudoku: the number of puzzles must lie in [0, 1000000]; got ", count);
  const std::vector<Board>& grids = all_grids();
  std::vector<int> cells(16);
  std::iota(cells.begin(), cells.end(), 0);
  std::set<Board> seen;
  std::vector<Puzzle> out;
  while (std::ssize(out) < count) {
    const Board solution = grids[static_cast<std::size_t>(random.below(std::ssize(grids)))];
    Board givens = solution;
    shuffle(cells, random);
    std::int64_t left = 4 + random.below(9);
    for (auto cell = cells.begin(); cell != cells.end() && left > 0; ++cell) {
      Board fewer = givens;
      fewer.set(*cell, 0);
      if (has_one_solution(fewer)) givens = fewer, --left;
    }
    if (seen.insert(givens).second) out.push_back({givens, solution});
  }
  return out;
}

Split split(const std::vector<Puzzle>& puzzles, SplitBy by, Random& random) {
  std::map<Board, std::vector<Puzzle>> groups;  // what must stay together
  for (const Puzzle& puzzle : puzzles) groups[by == SplitBy::grids ? puzzle.solution : puzzle.givens].push_back(puzzle);
  std::vector<Board> order;
  for (const auto& [key, group] : groups) order.push_back(key);
  shuffle(order, random);
  Split parts;
  for (const Board& key : order) {
    std::vector<Puzzle>& part = parts.test.size() < puzzles.size() / 10         ? parts.test
                                : parts.validation.size() < puzzles.size() / 20 ? parts.validation
                                                                                : parts.train;
    part.insert(part.end(), groups[key].begin(), groups[key].end());
  }
  check(!parts.train.empty() && !parts.validation.empty() && !parts.test.empty(), "sudoku: ", puzzles.size(), " puzzles on ", groups.size(),
        by == SplitBy::grids ? " solution grids" : " different boards", " are too few to split; 20 are the least");
  return parts;
}

void check_split(const Split& parts, SplitBy by) {
  const auto key = [&](const Puzzle& puzzle) { return by == SplitBy::grids ? puzzle.solution : puzzle.givens; };
  std::set<Board> known;
  for (const auto* part : {&parts.train, &parts.validation})
    for (const Puzzle& puzzle : *part) known.insert(key(puzzle));
  for (const Puzzle& puzzle : parts.test)
    check(!known.contains(key(puzzle)), "sudoku: test puzzle ", to_string(puzzle.givens), by == SplitBy::grids ? " has a solution that" : "",
          " is in the training set too");
}

// ---- text ------------------------------------------------------------------------------------------------------

namespace {

/// The text with bytes that are not printable ASCII as \xNN, so that a message shows what a file holds, and no more.
std::string printable(const std::string& text) {
  std::ostringstream out;
  for (const unsigned char c : text)
    if (c >= ' ' && c <= '~') out << c;
    else out << "\\x" << std::hex << std::setw(2) << std::setfill('0') << static_cast<int>(c);
  return out.str();
}

}  // namespace

Board parse(const std::string& text) {
  check(text.size() == 16, "a puzzle has 16 digits, 0 for an empty cell; got ", text.size(), " characters");
  Board board;
  for (int cell = 0; cell < 16; ++cell) {
    const char c = text[static_cast<std::size_t>(cell)];
    check((c >= '0' && c <= '4') || c == '.', "a puzzle holds digits 0 to 4; character ", cell + 1, " is '", printable({c}), "'");
    board.set(cell, c == '.' ? 0 : c - '0');
  }
  return board;
}

std::string to_string(const Board& board) {
  std::string text;
  for (int cell = 0; cell < 16; ++cell) text += static_cast<char>('0' + board[cell]);
  return text;
}

namespace {

/// The content of a file, of standard input if it is "-", or of a pipe.
std::string content(const std::filesystem::path& path) {
  std::error_code error;
  const auto type = std::filesystem::status(path, error).type();
  const bool stream = path == "-" || type == std::filesystem::file_type::fifo || type == std::filesystem::file_type::character;
  if (!stream) return optnet::read_file(path);
  std::ifstream in(path == "-" ? "/dev/stdin" : path.c_str(), std::ios::binary);
  check(in.is_open(), path.string(), ": cannot be opened");
  return {std::istreambuf_iterator<char>(in), {}};
}

/// f on each line that holds a puzzle; what it throws is led by the file and the line.
template <class F>
void for_each_line(const std::filesystem::path& path, const F& f) {
  std::istringstream in(content(path));
  std::string text;
  for (int number = 1; std::getline(in, text); ++number) {
    if (number == 1 && text.starts_with("\xef\xbb\xbf")) text.erase(0, 3);  // some editors begin UTF-8 so
    text.erase(text.find_last_not_of(" \t\r") + 1);
    text.erase(0, text.find_first_not_of(" \t"));
    if (text.empty() || text[0] == '#') continue;
    try {
      f(parse(text));
    } catch (const optnet::Error& error) {
      optnet::fail(path.string(), ": line ", number, ": ", error.what(), ": '", printable(text.substr(0, 40)), "'");
    }
  }
}

}  // namespace

std::vector<Board> read_boards(const std::filesystem::path& path) {
  std::vector<Board> out;
  for_each_line(path, [&](const Board& board) { out.push_back(board); });
  check(!out.empty(), path.string(), ": holds no puzzle; give one of 16 digits a line, 0 for an empty cell");
  return out;
}

std::vector<Puzzle> read_puzzles(const std::filesystem::path& path) {
  std::vector<Puzzle> out;
  for_each_line(path, [&](const Board& givens) {
    const std::vector<Board> found = solutions(givens);
    check(!found.empty(), "this puzzle has no solution");
    check(found.size() == 1, "this puzzle has ", found.size(), " solutions; give more digits, so that it has one");
    out.push_back({givens, found[0]});
  });
  check(!out.empty(), path.string(), ": holds no puzzle; give one of 16 digits a line, 0 for an empty cell");
  return out;
}

// ---- tensors ---------------------------------------------------------------------------------------------------

Tensor encode(const std::vector<Board>& boards) {
  std::vector<float> numbers;
  numbers.reserve(boards.size() * 64);
  for (const Board& board : boards)
    for (int bit = 0; bit < 64; ++bit) numbers.push_back(static_cast<float>(board.bits >> bit & 1));
  return optnet::from({std::ssize(boards), 64}, numbers);
}

optnet::Dataset encode(const std::vector<Puzzle>& puzzles) {
  std::vector<Board> givens, grids;
  for (const Puzzle& puzzle : puzzles) givens.push_back(puzzle.givens), grids.push_back(puzzle.solution);
  return {encode(givens), encode(grids)};
}

std::vector<Board> decode(const Tensor& z) {
  const std::vector<std::int64_t> digits = argmax(z.reshape({-1, 16, 4})).to_vector<std::int64_t>();
  std::vector<Board> boards(digits.size() / 16);
  for (std::size_t i = 0; i < digits.size(); ++i) boards[i / 16].set(static_cast<int>(i % 16), static_cast<int>(digits[i]) + 1);
  return boards;
}

std::int64_t count_wrong(const Tensor& z, const Tensor& y) {
  const std::vector<Board> answers = decode(z), truth = decode(y);
  std::int64_t wrong = 0;
  for (std::size_t i = 0; i < answers.size(); ++i) wrong += answers[i] != truth[i];
  return wrong;
}

}  // namespace sudoku
