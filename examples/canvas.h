// A small rasteriser for PNGs: rounded rectangles, lines and text, all antialiased by the distance to their edge.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace drawing {

struct Color {
  std::uint8_t red, green, blue;
};
struct Point {
  double x, y;
};

class Canvas {
 public:
  Canvas(int width, int height, Color background);

  void rectangle(Point corner, double width, double height, double radius, Color color);
  /// A polyline with round ends.
  void line(const std::vector<Point>& points, double thickness, Color color) { strokes({points}, thickness, color); }
  /// Text in the canvas's own stroke font; `from` is the left end of the base line, `height` that of a capital.
  /// Throws optnet::Error for a character that the font lacks.
  void text(Point from, double height, double thickness, const std::string& text, Color color);
  static double text_width(double height, const std::string& text);

  /// Throws optnet::Error if the file cannot be written.
  void save(const std::filesystem::path& png) const;

 private:
  void strokes(const std::vector<std::vector<Point>>& lines, double thickness, Color color);
  void blend(int x, int y, double cover, Color color);

  int width_, height_;
  std::vector<std::uint8_t> pixels_;
};

}  // namespace drawing
