// boards.png.
#include "examples/sudoku_picture.h"

#include "examples/canvas.h"

#include <algorithm>

namespace sudoku {
namespace {

using namespace drawing;

constexpr Color paper{250, 250, 247}, white{255, 255, 255}, ink{33, 37, 41}, grey{134, 142, 150}, faint{222, 226, 230}, given{238, 240, 242},
    blue{28, 100, 216}, red{212, 43, 59}, rose{253, 228, 230};
constexpr double cell = 52, board = 4 * cell, gap = 44, margin = 56, head = 128;
constexpr std::size_t columns = 4, most = 12;

void centred(Canvas& canvas, Point middle, double height, double thickness, int digit, Color color) {
  const std::string text = std::to_string(digit);
  canvas.text({middle.x - Canvas::text_width(height, text) / 2, middle.y + height / 2}, height, thickness, text, color);
}

void draw_cell(Canvas& canvas, Point at, int shown, int puzzle, int truth) {
  const bool wrong = shown != truth;
  if (puzzle || wrong) canvas.rectangle(at, cell, cell, 0, wrong ? rose : given);
  centred(canvas, {at.x + cell / 2, at.y + cell / 2}, 25, puzzle ? 4.2 : 3.4, shown, wrong ? red : puzzle ? ink : blue);
  if (wrong) centred(canvas, {at.x + cell - 10, at.y + 11}, 10, 1.6, truth, grey);
}

void draw_board(Canvas& canvas, Point at, const Puzzle& puzzle, const Board& answer) {
  canvas.rectangle({at.x - 4, at.y - 4}, board + 8, board + 8, 7, ink);
  canvas.rectangle(at, board, board, 2, white);
  for (int i = 0; i < 16; ++i) draw_cell(canvas, {at.x + i % 4 * cell, at.y + i / 4 * cell}, answer[i], puzzle.givens[i], puzzle.solution[i]);
  for (const int i : {1, 3, 2}) {  // the boxes' edges lie over the thin lines
    const double way = i * cell, thickness = i == 2 ? 3 : 1.2;
    const Color color = i == 2 ? ink : faint;
    canvas.rectangle({at.x + way - thickness / 2, at.y}, thickness, board, 0, color);
    canvas.rectangle({at.x, at.y + way - thickness / 2}, board, thickness, 0, color);
  }
}

void draw_legend(Canvas& canvas, Point at) {
  const struct { const char* text; Color digit, ground; int right; } entries[] = {
      {"given", ink, given, 0}, {"answer", blue, white, 0}, {"error, and the right digit", red, rose, 2}};
  for (const auto& [text, digit, ground, right] : entries) {
    canvas.rectangle({at.x, at.y - 19}, 26, 26, 5, faint);
    canvas.rectangle({at.x + 1.5, at.y - 17.5}, 23, 23, 4, ground);
    centred(canvas, {at.x + (right ? 10 : 13), at.y - (right ? 4.5 : 6)}, 13, 2.2, 3, digit);
    if (right) centred(canvas, {at.x + 20.5, at.y - 12.5}, 6.5, 1.2, right, grey);
    canvas.text({at.x + 36, at.y}, 12, 1.5, text, grey);
    at.x += 36 + Canvas::text_width(12, text) + 30;
  }
}

}  // namespace

void draw_boards(const std::filesystem::path& png, const std::string& title, const std::vector<Puzzle>& puzzles, const std::vector<Board>& answers) {
  std::vector<std::size_t> order(puzzles.size());
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::stable_partition(order.begin(), order.end(), [&](std::size_t i) { return answers[i] != puzzles[i].solution; });
  order.resize(std::min(order.size(), most));

  const std::size_t rows = (order.size() + columns - 1) / columns;
  const double width = 2 * margin + columns * (board + gap) - gap, height = head + static_cast<double>(rows) * (board + gap) - gap + margin;
  Canvas canvas(static_cast<int>(width), static_cast<int>(height), paper);
  canvas.text({margin, 58}, 20, 2.8, title, ink);
  draw_legend(canvas, {margin, 98});
  for (std::size_t i = 0; i < order.size(); ++i)
    draw_board(canvas, {margin + static_cast<double>(i % columns) * (board + gap), head + static_cast<double>(i / columns) * (board + gap)}, puzzles[order[i]],
               answers[order[i]]);
  canvas.save(png);
}

}  // namespace sudoku
