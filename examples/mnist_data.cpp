// Reading the images, and drawing those that were mistaken.
#include "examples/mnist_data.h"

#include "examples/canvas.h"
#include "framework/files.h"

#include <algorithm>
#include <cmath>
#include <future>
#include <iomanip>

namespace mnist {

using namespace optnet;

namespace {

std::filesystem::path find(const std::filesystem::path& folder, const std::string& name) {
  for (const char* extension : {".gz", ""})
    if (auto file = folder / (name + extension); std::filesystem::exists(file)) return file;
  fail("there is no ", name, ".gz (or without .gz) in '", folder.string(),
       "'; Fashion-MNIST is Debian's package dataset-fashion-mnist (sh tools/setup installs it), or name a folder of MNIST's files");
}

/// The images in 0 ... 255 and the labels of a part, "train" or "t10k".
Dataset read(const std::filesystem::path& folder, const std::string& part) {
  const auto images = find(folder, part + "-images-idx3-ubyte"), labels = find(folder, part + "-labels-idx1-ubyte");
  const Dataset out{load_idx(images), load_idx(labels, int64)};
  const Shape& shape = out.x.shape();
  check(shape.rank() == 3 && shape[1] == 28 && shape[2] == 28, images.string(), ": must hold images of 28 x 28; got ", shape);
  check(shape[0] > 0 && out.y.shape() == Shape{shape[0]}, labels.string(), ": must hold a label for each image, [", shape[0], "]; got ", out.y.shape());
  const Tensor bad = maximum(less(out.y, number_like(0, out.y)), greater(out.y, number_like(9, out.y)));
  check(max(bad).item() == 0, labels.string(), ": labels must be 0 to 9; number ", argmax(bad, 0).item(), " is not");
  return {out.x.reshape({-1, 1, 28, 28}), out.y};
}

/// A number that another image, another label or another order changes.
double trace_of(const Dataset& data) {
  const Tensor place = arange(1, static_cast<double>(data.size() + 1), 1, float64);
  return sum(place * (mean(data.x, {1, 2, 3}).to(float64) + 1000 * data.y.to(float64))).item();
}

/// In pieces whose memory, 100 KB, the next ones use again: fresh memory, as much as the images take, is what would cost time.
double variance(const Tensor& images, double mean_of) {
  constexpr std::int64_t most = 32;
  double out = 0;
  for (std::int64_t i = 0; i < images.size(0); i += most) {
    const Tensor piece = slice(images, 0, i, std::min(i + most, images.size(0))) - mean_of;
    out += mean(piece * piece).item() * static_cast<double>(piece.size(0)) / static_cast<double>(images.size(0));
  }
  return out;
}

/// Fashion-MNIST's training labels begin so; MNIST's with 5 0 4 1 9.
bool is_fashion(const Tensor& labels) {
  return labels.size(0) >= 10 && slice(labels, 0, 0, 10).to_vector<std::int64_t>() == std::vector<std::int64_t>{9, 0, 0, 3, 0, 2, 7, 2, 5, 5};
}

Dataset part(const Dataset& data, std::int64_t begin, std::int64_t end) { return {slice(data.x, 0, begin, end), slice(data.y, 0, begin, end)}; }

}  // namespace

Data load(const std::filesystem::path& folder, std::int64_t most) {
  std::future<Dataset> test = std::async(std::launch::async, read, folder, "t10k");  // meanwhile, on another core
  const Dataset all = read(folder, "train");
  Data data;
  const std::int64_t validation = std::max<std::int64_t>(all.size() / 12, 1), learned = all.size() - validation;
  check(learned > 0, "there must be two training images at least, one of them for validation; got ", all.size());
  data.train = part(all, 0, std::min(most, learned));
  data.validation = part(all, learned, all.size());
  data.test = test.get();
  std::ostringstream text;
  text << std::setprecision(15) << all.size() << " images, " << trace_of(all) << ", and " << data.test.size() << ", " << trace_of(data.test);
  data.fingerprint = text.str();

  data.mean = mean(data.train.x).item();
  data.deviation = std::max(std::sqrt(variance(data.train.x, data.mean)), 255e-6);
  if (is_fashion(all.y)) data.names = {"t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot"};
  else data.names = {"0", "1", "2", "3", "4", "5", "6", "7", "8", "9"};
  return data;
}

void draw_mistakes(const std::filesystem::path& png, const std::string& title, const Data& data, const Tensor& logits) {
  using namespace drawing;
  constexpr Color paper{250, 250, 247}, ink{33, 37, 41}, grey{134, 142, 150}, red{212, 43, 59};
  constexpr int columns = 8, most = 24, scale = 4, side = 28 * scale, gap = 24, label = 44, margin = 40, head = 92;
  const Tensor answers = argmax(logits), sure = max(softmax(logits), {1});
  std::vector<std::int64_t> wrong;
  for (std::int64_t i = 0; i < answers.size(0); ++i)
    if (answers(i) != data.test.y(i)) wrong.push_back(i);
  std::stable_sort(wrong.begin(), wrong.end(), [&](auto a, auto b) { return sure(a) > sure(b); });
  wrong.resize(std::min<std::size_t>(wrong.size(), most));

  const int rows = (static_cast<int>(wrong.size()) + columns - 1) / columns;
  Canvas canvas(2 * margin + columns * (side + gap) - gap, head + std::max(rows, 1) * (side + label + gap) - gap + margin, paper);
  canvas.text({margin, 46}, 18, 2.5, title, ink);
  canvas.text({margin, 74}, 10, 1.6, "what it was taken for", red);
  canvas.text({margin + Canvas::text_width(10, "what it was taken for") + gap, 74}, 10, 1.4, "what it is", grey);
  for (std::size_t k = 0; k < wrong.size(); ++k) {
    const int at = static_cast<int>(k);
    const double left = margin + at % columns * (side + gap), top = head + at / columns * (side + label + gap);
    for (int y = 0; y < 28; ++y)
      for (int x = 0; x < 28; ++x) {
        const auto shade = static_cast<std::uint8_t>(255 - std::lround(std::clamp(data.test.x(wrong[k], 0, y, x), 0.0, 255.0)));
        canvas.rectangle({left + x * scale, top + y * scale}, scale, scale, 0, {shade, shade, shade});
      }
    const auto name = [&](double label_of) { return data.names[static_cast<std::size_t>(label_of)]; };
    canvas.text({left, top + side + 18}, 10, 1.6, name(answers(wrong[k])), red);
    canvas.text({left, top + side + 38}, 10, 1.4, name(data.test.y(wrong[k])), grey);
  }
  canvas.save(png);
}

}  // namespace mnist
