// ./sudoku_solve: fills 4x4 puzzles by a network that ./sudoku_train made, and says which answers are wrong.
#include "examples/sudoku.h"
#include "examples/sudoku_model.h"
#include "framework/train.h"

#include <CLI/CLI.hpp>

#include <iostream>

using namespace sudoku;

namespace {

/// The puzzles that the argument is, or that the file it names holds.
std::vector<Board> puzzles_of(const std::string& argument) {
  std::error_code error;  // a name too long for a file is none
  if (argument == "-" || std::filesystem::exists(argument, error)) return read_boards(argument);
  const bool digits = argument.find_first_not_of("0123456789.") == std::string::npos;
  check(digits, "PUZZLE|FILE: there is no file '", argument, "', and it is no puzzle: give 16 digits, 0 for an empty cell, or a file of such lines");
  try {
    return {parse(argument)};
  } catch (const Error& error) {
    fail("PUZZLE|FILE: ", error.what(), ": '", argument, "'; give 16 digits, 0 for an empty cell, or a file of such lines");
  }
}

/// Givens bold, answers blue, given digits that were changed red.
void draw(const Board& givens, const Board& answer) {
  const char* const edges[] = {"┌─────┬─────┐", "├─────┼─────┤", "└─────┴─────┘"};
  for (int row = 0; row < 4; ++row) {
    if (row % 2 == 0) std::cout << edges[row / 2] << '\n';
    for (int column = 0; column < 4; ++column) {
      const int cell = 4 * row + column, given = givens[cell];
      const char* const color = !given ? "\033[34m" : given == answer[cell] ? "\033[1m" : "\033[1;31m";
      std::cout << (column % 2 == 0 ? "│ " : "") << color << answer[cell] << "\033[0m ";
    }
    std::cout << "│\n";
  }
  std::cout << edges[2] << '\n';
}

/// What is wrong with an answer; nothing if it is right.
std::string fault(const Board& givens, const Board& answer) {
  const std::size_t count = solutions(givens).size();
  if (count == 0) return "the puzzle has no solution";
  const std::string also = count == 1 ? "" : " (the puzzle has " + std::to_string(count) + " solutions; the network learned from puzzles with one)";
  if (!givens.within(answer)) return "the answer changes a given digit" + also;
  return obeys_rules(answer) ? "" : "the answer has a digit twice in a row, column or box" + also;
}

int solve_all(const std::string& argument, const std::string& model) {
  const std::vector<Board> puzzles = puzzles_of(argument);
  check(std::filesystem::exists(model), "there is no model '", model, "' yet; run ./sudoku_train first, or name one with --model FILE");
  const std::vector<Board> answers = decode(load_network(model)(encode(puzzles)).value());
  int wrong = 0;
  for (std::size_t i = 0; i < puzzles.size(); ++i) {
    if (on_terminal()) draw(puzzles[i], answers[i]);
    else std::cout << to_string(answers[i]) << '\n';
    const std::string text = fault(puzzles[i], answers[i]);
    if (text.empty()) continue;
    ++wrong;
    std::cout.flush();
    std::cerr << "puzzle " << i + 1 << ", " << to_string(puzzles[i]) << ": " << text << '\n';
  }
  flush_output();
  if (wrong) std::cerr << wrong << " of " << puzzles.size() << " answers are wrong\n";
  return wrong ? 1 : 0;
}

}  // namespace

int main(int argc, char** argv) try {
  std::string argument, model = "sudoku_run/model.safetensors";
  CLI::App app{"Solves 4x4 Sudoku with a network that ./sudoku_train made. Exit code 0 if all answers obey the rules.", "sudoku_solve"};
  app.add_option("PUZZLE|FILE", argument, "16 digits, 0 for an empty cell; or a file of such lines; - is standard input")->required();
  app.add_option("--model", model, "parameters (sudoku_run/model.safetensors)")->type_name("FILE");
  try {
    app.parse(argc, argv);
  } catch (const CLI::CallForHelp& help) {
    app.exit(help);
    flush_output();
    return 0;
  } catch (const CLI::ParseError& error) {
    std::cerr << "sudoku_solve: " << error.what() << "; sudoku_solve --help tells more\n";
    return 2;
  }
  return solve_all(argument, model);
} catch (const std::exception& error) {
  std::cerr << "sudoku_solve: " << error.what() << '\n';
  return 2;
}
