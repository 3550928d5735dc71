// boards.png: puzzles and a network's answers.
#pragma once

#include "examples/sudoku.h"

namespace sudoku {

/// Up to twelve boards, those with errors first: givens dark, right answers blue, errors red with the right digit
/// in their corner. Throws optnet::Error if the file cannot be written.
void draw_boards(const std::filesystem::path& png, const std::string& title, const std::vector<Puzzle>& puzzles,
                 const std::vector<Board>& answers);

}  // namespace sudoku
