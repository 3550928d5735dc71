// Rasterising by distance: a pixel is covered by 1/2 - d, cut to [0, 1], where d is how far it lies outside the shape.
#include "examples/canvas.h"

#include "framework/files.h"
#include "framework/ops.h"

#include <algorithm>
#include <cmath>

namespace drawing {
namespace {

/// A glyph's strokes as control points of curves on a grid of two characters a point, x then y, 0 to 9 and a to g:
/// the base line is y = 4, capitals reach g = 16, small letters c = 12. A point given twice is a sharp corner.
struct Glyph {
  char letter;
  int width;
  const char* strokes;
};
constexpr Glyph font[] = {
    {'0', 8, "4g 8g 84 04 0g 4g"},
    {'1', 6, "0d 4g 4g 44"},
    {'2', 8, "0d 0g 8g 8b 04 04 84"},
    {'3', 8, "0e 0g 7g 7a 3a 3a 8a 84 04 07"},
    {'4', 8, "64 6g 6g 07 07 87"},
    {'5', 8, "7g 1g 1g 0a 0a 1c 8c 84 04 06"},
    {'6', 8, "7g 3g 0d 04 84 8b 0b 08"},
    {'7', 8, "0g 8g 8g 34"},
    {'8', 8, "4a 0a 0g 8g 8a 4a|4a 0a 04 84 8a 4a"},
    {'9', 8, "14 54 87 8g 0g 09 89 8c"},
    {'a', 7, "78 7c 0c 04 74 78|7c 74"},
    {'b', 7, "0g 04|08 0c 7c 74 04 08"},
    {'c', 6, "6a 6c 0c 04 64 66"},
    {'d', 7, "78 7c 0c 04 74 78|7g 74"},
    {'e', 7, "08 78 78 7c 0c 04 74 76"},
    {'f', 5, "5g 2g 2d 24|0c 5c"},
    {'g', 7, "78 7c 0c 04 74 78|7c 70 00 02"},
    {'h', 7, "0g 04|08 0c 7c 79 74"},
    {'i', 0, "04 0c|0g 0g"},
    {'j', 3, "3c 30 00|3g 3g"},
    {'k', 6, "0g 04|6c 07|28 64"},
    {'l', 0, "0g 04"},
    {'m', 9, "0c 04|08 0c 5c 59 54|58 5c ac a9 a4"},
    {'n', 7, "0c 04|08 0c 7c 79 74"},
    {'o', 7, "3c 7c 74 04 0c 3c"},
    {'p', 7, "0c 00|08 0c 7c 74 04 08"},
    {'q', 7, "78 7c 0c 04 74 78|7c 70"},
    {'r', 4, "0c 04|08 0c 5c"},
    {'s', 6, "6a 6c 0c 08 68 64 04 06"},
    {'t', 5, "2g 27 24 54|0c 5c"},
    {'u', 7, "0c 04 74 78|7c 74"},
    {'v', 6, "0c 34 34 6c"},
    {'w', 8, "0c 24 24 4b 4b 64 64 8c"},
    {'x', 6, "0c 64|6c 04"},
    {'y', 6, "0c 34|6c 10"},
    {'z', 6, "0c 6c 6c 04 04 64"},
    {'A', 8, "04 4g 4g 84|17 77"},
    {'B', 8, "0a 8a 84 04 04 0g 0g 7g 7a 0a"},
    {'C', 9, "9d 9g 0g 04 94 97"},
    {'D', 9, "04 0g 0g 9g 94 04"},
    {'E', 7, "7g 0g 0g 04 04 74|0a 6a"},
    {'F', 7, "04 0g 0g 7g|0a 6a"},
    {'G', 9, "9d 9g 0g 04 94 9a 9a 5a"},
    {'H', 8, "0g 04|8g 84|0a 8a"},
    {'I', 0, "04 0g"},
    {'J', 6, "6g 64 04 07"},
    {'K', 8, "0g 04|8g 08|3b 84"},
    {'L', 7, "0g 04 04 74"},
    {'M', 10, "04 0g 0g 58 58 ag ag a4"},
    {'N', 8, "04 0g 0g 84 84 8g"},
    {'O', 10, "5g ag a4 04 0g 5g"},
    {'P', 8, "04 0g 0g 8g 89 09"},
    {'Q', 10, "5g ag a4 04 0g 5g|67 a3"},
    {'R', 8, "04 0g 0g 8g 89 09|49 84"},
    {'S', 8, "8d 8g 0g 0a 8a 84 04 07"},
    {'T', 8, "0g 8g|4g 44"},
    {'U', 8, "0g 04 84 8g"},
    {'V', 8, "0g 44 44 8g"},
    {'W', 12, "0g 34 34 6e 6e 94 94 cg"},
    {'X', 8, "0g 84|8g 04"},
    {'Y', 8, "0g 4a 4a 8g|4a 44"},
    {'Z', 8, "0g 8g 8g 04 04 84"},
    {' ', 2, ""},
    {',', 0, "04 04 02"},
    {'.', 0, "04 04"},
    {'-', 6, "08 68"},
    {'+', 6, "08 68|3b 35"},
};

const Glyph& glyph(char letter, const std::string& text) {
  const auto* found = std::ranges::find(font, letter, &Glyph::letter);
  optnet::check(found != std::end(font), "canvas: a text must be of letters, digits, spaces and , . - +; got '", letter, "' in '", text, "'");
  return *found;
}

int advance(const Glyph& glyph) { return glyph.width + 4; }

/// Chaikin's corner cutting: each round replaces a corner by the points a quarter of the way to its neighbours.
std::vector<Point> smooth(std::vector<Point> points) {
  for (int round = 0; round < 4; ++round) {
    std::vector<Point> finer{points.front()};
    for (std::size_t i = 0; i + 1 < points.size(); ++i) {
      const auto [a, b] = std::pair(points[i], points[i + 1]);
      if (i > 0) finer.push_back({a.x * 0.75 + b.x * 0.25, a.y * 0.75 + b.y * 0.25});
      if (i + 2 < points.size()) finer.push_back({a.x * 0.25 + b.x * 0.75, a.y * 0.25 + b.y * 0.75});
    }
    finer.push_back(points.back());
    points = std::move(finer);
  }
  return points;
}

std::vector<std::vector<Point>> curves(const Glyph& glyph, Point from, double unit) {
  const auto digit = [](char c) { return c <= '9' ? c - '0' : c - 'a' + 10; };
  std::vector<std::vector<Point>> out(1);
  for (const char* at = glyph.strokes;; at += 3) {
    out.back().push_back({from.x + digit(at[0]) * unit, from.y - (digit(at[1]) - 4) * unit});
    if (at[2] == '|') out.emplace_back();
    if (at[2] == '\0') break;
  }
  for (auto& stroke : out) stroke = smooth(std::move(stroke));
  return out;
}

double distance(Point p, Point a, Point b) {
  const double dx = b.x - a.x, dy = b.y - a.y, length2 = dx * dx + dy * dy;
  const double t = length2 > 0 ? std::clamp(((p.x - a.x) * dx + (p.y - a.y) * dy) / length2, 0.0, 1.0) : 0;
  return std::hypot(p.x - a.x - t * dx, p.y - a.y - t * dy);
}

}  // namespace

Canvas::Canvas(int width, int height, Color background) : width_(width), height_(height) {
  for (int i = 0; i < width * height; ++i) pixels_.insert(pixels_.end(), {background.red, background.green, background.blue});
}

void Canvas::blend(int x, int y, double cover, Color color) {
  if (x < 0 || y < 0 || x >= width_ || y >= height_ || cover <= 0) return;
  std::uint8_t* pixel = &pixels_[static_cast<std::size_t>(3 * (y * width_ + x))];
  const std::uint8_t channels[] = {color.red, color.green, color.blue};
  for (int k = 0; k < 3; ++k) pixel[k] = static_cast<std::uint8_t>(std::lround(pixel[k] + (channels[k] - pixel[k]) * std::min(cover, 1.0)));
}

void Canvas::rectangle(Point corner, double width, double height, double radius, Color color) {
  const Point middle{corner.x + width / 2, corner.y + height / 2};
  for (int y = static_cast<int>(corner.y) - 1; y <= corner.y + height + 1; ++y)
    for (int x = static_cast<int>(corner.x) - 1; x <= corner.x + width + 1; ++x) {
      const double dx = std::abs(x + 0.5 - middle.x) - width / 2 + radius, dy = std::abs(y + 0.5 - middle.y) - height / 2 + radius;
      const double outside = std::hypot(std::max(dx, 0.0), std::max(dy, 0.0)) + std::min(std::max(dx, dy), 0.0) - radius;
      blend(x, y, 0.5 - outside, color);
    }
}

void Canvas::strokes(const std::vector<std::vector<Point>>& lines, double thickness, Color color) {
  Point low{1e9, 1e9}, high{-1e9, -1e9};
  for (const auto& line : lines)
    for (const Point& p : line) low = {std::min(low.x, p.x), std::min(low.y, p.y)}, high = {std::max(high.x, p.x), std::max(high.y, p.y)};
  const double reach = thickness / 2 + 1;
  for (int y = static_cast<int>(low.y - reach); y <= high.y + reach; ++y)
    for (int x = static_cast<int>(low.x - reach); x <= high.x + reach; ++x) {
      double nearest = 1e9;  // of all strokes together, so that where two meet nothing is painted twice
      for (const auto& line : lines)
        for (std::size_t i = 0; i + 1 < line.size(); ++i) nearest = std::min(nearest, distance({x + 0.5, y + 0.5}, line[i], line[i + 1]));
      blend(x, y, 0.5 + thickness / 2 - nearest, color);
    }
}

void Canvas::text(Point from, double height, double thickness, const std::string& text, Color color) {
  const double unit = height / 12;
  for (char letter : text) {
    const Glyph& drawn = glyph(letter, text);
    if (*drawn.strokes) strokes(curves(drawn, from, unit), thickness, color);
    from.x += advance(drawn) * unit;
  }
}

double Canvas::text_width(double height, const std::string& text) {
  int units = text.empty() ? 0 : -4;  // no gap after the last letter
  for (char letter : text) units += advance(glyph(letter, text));
  return units * height / 12;
}

void Canvas::save(const std::filesystem::path& png) const {
  using namespace optnet;
  const Tensor rows = from({height_, width_, 3}, std::vector<float>(pixels_.begin(), pixels_.end())) / 255;
  save_png(png, transpose(transpose(rows, 1, 2), 0, 1));  // channels first
}

}  // namespace drawing
