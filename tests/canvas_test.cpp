// The canvas of the examples: its font has what their titles are made of, and says what it lacks.
#include "tests/test.h"

#include "examples/canvas.h"

#include <map>

namespace {

/// A text as a picture, black on white.
Tensor drawn(const std::string& text) {
  using namespace drawing;
  const Folder folder;
  Canvas canvas(static_cast<int>(Canvas::text_width(24, text)) + 20, 50, {255, 255, 255});
  canvas.text({10, 36}, 24, 2.5, text, {0, 0, 0});
  canvas.save(folder / "text.png");
  return load_image(folder / "text.png");
}

double ink(const Tensor& picture) { return sum(1 - picture).item(); }

}  // namespace

TEST_CASE("the canvas's font has each letter, digit and sign of the titles, and no two but l and I look alike", "[canvas]") {
  std::string letters = ",.-+";
  for (char c = 'a'; c <= 'z'; ++c) letters += {c, static_cast<char>(c - 'a' + 'A')};
  for (char c = '0'; c <= '9'; ++c) letters += c;
  std::map<std::vector<double>, char> seen;
  for (const char c : letters) {
    INFO(c);
    const Tensor picture = drawn({c});
    CHECK(ink(picture) > 12);  // a point is 3 x 2.5 x 2.5 pi / 4
    CHECK(min(slice(picture, 2, 8, picture.size(2) - 8)).item() < 0.1);  // between its sides, not beyond them
    const auto [other, is_new] = seen.emplace(picture.to_vector<double>(), c);
    INFO("the same as " << other->second);
    CHECK(is_new == (c != 'l'));  // after I
  }
  CHECK(ink(drawn(" ")) == 0);
  CHECK(drawing::Canvas::text_width(24, "ConvNet") > drawing::Canvas::text_width(24, "onvNet"));
}

TEST_CASE("a text with a character that the canvas's font lacks is refused by name, drawn or measured", "[canvas][errors]") {
  drawing::Canvas canvas(10, 10, {0, 0, 0});
  const std::string said = "canvas: a text must be of letters, digits, spaces and , . - +; got '_' in 'a_b'";
  CHECK(error_of([&] { canvas.text({0, 9}, 9, 1, "a_b", {9, 9, 9}); }) == said);
  CHECK(error_of([] { drawing::Canvas::text_width(9, "a_b"); }) == said);
}
