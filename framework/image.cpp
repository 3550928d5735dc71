// Pictures by stb_image and stb_image_write, whose functions stay inside this file. stb_image takes a damaged PNG for
// what it still decodes to, and a truncated JPEG for grey below: both are found here.
#include "framework/files.h"

#include "framework/io.h"
#include "framework/ops.h"

#include <zlib.h>

#include <cstdlib>

#define STB_IMAGE_STATIC
#define STB_IMAGE_IMPLEMENTATION
#define STBI_ONLY_JPEG
#define STBI_ONLY_PNG
#define STBI_NO_STDIO
#define STBI_MALLOC(size) std::calloc(1, size)  // a JPEG can use tables that it never filled
#define STBI_REALLOC std::realloc
#define STBI_FREE std::free
#include <stb/stb_image.h>

#define STB_IMAGE_WRITE_STATIC
#define STB_IMAGE_WRITE_IMPLEMENTATION
#define STBI_WRITE_NO_STDIO
#include <stb/stb_image_write.h>

#include <algorithm>
#include <climits>
#include <cmath>
#include <memory>

namespace optnet {
namespace {

constexpr std::int64_t most_pixels = std::int64_t{1} << 26;

std::uint32_t big_endian(std::string_view bytes) {
  std::uint32_t out = 0;
  for (std::size_t i = 0; i < 4; ++i) out = out << 8 | static_cast<unsigned char>(bytes[i]);
  return out;
}

/// A PNG is chunks of length, name, data and a sum of name and data, up to the one that is named IEND.
void check_png(std::string_view rest, const std::string& file) {
  for (rest.remove_prefix(8);;) {
    check(rest.size() >= 12 && rest.size() - 12 >= big_endian(rest), file, ": truncated PNG");
    const std::size_t length = big_endian(rest);
    const std::string_view name = rest.substr(4, 4), summed = rest.substr(4, 4 + length);
    const auto sum = crc32_z(0, reinterpret_cast<const Bytef*>(summed.data()), summed.size());
    check(sum == big_endian(rest.substr(8 + length)), file, ": damaged PNG; the check sum of its part ", name, " is wrong");
    if (name == "IEND") return;
    rest.remove_prefix(12 + length);
  }
}

/// A byte of a text, 0 beyond its end.
int byte(std::string_view text, std::size_t at) { return at < text.size() ? static_cast<unsigned char>(text[at]) : 0; }

/// Tables one after another: a byte for the kind, 16 for the number of codes of each length, a byte a code.
void check_huffman_tables(std::string_view segment, std::size_t length, const std::string& file) {
  for (std::size_t at = 2; at < length;) {
    int codes = 0;
    for (std::size_t i = 1; i <= 16; ++i) codes += byte(segment, at + i);
    check(codes < 256, file, ": damaged JPEG; a Huffman table has fewer than 256 codes, got ", codes);
    at += 17 + static_cast<std::size_t>(codes);
  }
}

/// The frame: precision, height, width, the number of components; of each its name, sampling factors, table.
void check_sampling(std::string_view segment, const std::string& file) {
  for (int shift : {4, 0}) {  // across, down
    int most = 0;
    for (std::size_t i = 0; i < 4 && static_cast<int>(i) < byte(segment, 7); ++i) most = std::max(most, byte(segment, 9 + 3 * i) >> shift & 15);
    for (std::size_t i = 0; i < 4 && static_cast<int>(i) < byte(segment, 7); ++i) {
      const int factor = byte(segment, 9 + 3 * i) >> shift & 15;
      check(factor == 0 || most % factor == 0, file, ": damaged JPEG, or a rare one; sampling factors must divide the largest, got ", factor, " and ", most);
    }
  }
}

/// A JPEG is segments: 255, a marker, mostly a length and content; after the marker of a scan come data, in which 255
/// stands before 0 or a restart's marker only. Where tables or factors are wrong, stb_image before 2.28 reads and writes
/// beyond its memory. This follows it through the segments, and lets pass what it refuses itself.
void check_jpeg(std::string_view rest, const std::string& file) {
  constexpr int tables = 0xC4, first_restart = 0xD0, start = 0xD8, end = 0xD9;
  while (true) {
    rest.remove_prefix(std::min(rest.find('\xff'), rest.size()));
    rest.remove_prefix(std::min(rest.find_first_not_of('\xff'), rest.size()));
    const int marker = byte(rest, 0);
    if (rest.empty() || marker == end) return;
    rest.remove_prefix(1);
    if (marker == 0 || (marker >= first_restart && marker <= start)) continue;  // these have no length
    const auto length = static_cast<std::size_t>(byte(rest, 0) << 8 | byte(rest, 1));
    if (marker == tables) check_huffman_tables(rest, length, file);
    if (marker >= 0xC0 && marker <= 0xC2) check_sampling(rest, file);
    rest.remove_prefix(std::min(length, rest.size()));
  }
}

/// What stb_image reads from; it notes when more was wanted than there is.
struct Source {
  std::string_view rest;
  bool ran_out = false;

  int read(char* to, int size) {
    const std::size_t given = std::min(rest.size(), static_cast<std::size_t>(size));
    ran_out = ran_out || given == 0;
    rest.copy(to, given);
    rest.remove_prefix(given);
    return static_cast<int>(given);
  }
  void skip(int size) {
    ran_out = ran_out || size < 0 || static_cast<std::size_t>(size) > rest.size();
    rest.remove_prefix(ran_out ? rest.size() : static_cast<std::size_t>(size));
  }
};
constexpr stbi_io_callbacks callbacks{
    [](void* source, char* to, int size) { return static_cast<Source*>(source)->read(to, size); },
    [](void* source, int size) { static_cast<Source*>(source)->skip(size); },
    [](void* source) { return static_cast<int>(static_cast<Source*>(source)->rest.empty()); }};

}  // namespace

Tensor parse_image(std::string_view content, const std::string& file) {
  const bool png = content.starts_with("\x89PNG\r\n\x1a\n");
  check(png || content.starts_with("\xff\xd8"), file, ": neither a PNG nor a JPEG; it begins otherwise");
  png ? check_png(content, file) : check_jpeg(content, file);
  int width = 0, height = 0, stored = 0;
  Source header{content};
  const bool known = stbi_info_from_callbacks(&callbacks, &header, &width, &height, &stored);
  check(known, file, header.ran_out ? ": truncated" : ": damaged", "; its size cannot be read");
  check(std::int64_t{width} * height <= most_pixels, file, ": may have at most ", most_pixels, " pixels; got ", width, " x ", height);
  // Deflate packs a PNG's pixels, of one bit at least, 1032 to one; a JPEG has a bit for 128 pixels at least.
  check(std::int64_t{width} * height / (png ? 8 * 1032 : 8 * 128) <= static_cast<std::int64_t>(content.size()), file, ": truncated; ", width, " x ", height,
        " pixels take more than its ", content.size(), " bytes");

  const int channels = stored <= 2 ? 1 : 3;  // 2 and 4 are these with transparency
  Source source{content};
  const std::unique_ptr<stbi_uc, void (*)(void*)> pixels(stbi_load_from_callbacks(&callbacks, &source, &width, &height, &stored, channels), stbi_image_free);
  check(!source.ran_out, file, ": truncated");
  check(pixels != nullptr, file, ": damaged (", stbi_failure_reason(), ")");

  const std::size_t plane = static_cast<std::size_t>(width) * static_cast<std::size_t>(height), count = static_cast<std::size_t>(channels);
  Buffer out(plane * count * sizeof(float), Device::cpu);
  for (std::size_t i = 0; i < plane; ++i)
    for (std::size_t k = 0; k < count; ++k) static_cast<float*>(out.data())[k * plane + i] = static_cast<float>(pixels.get()[i * count + k]) / 255;
  return Tensor({channels, height, width}, float32, std::move(out));
}

Tensor load_image(const std::filesystem::path& path) { return parse_image(read_file(path), path.string()); }

void save_png(const std::filesystem::path& path, const Tensor& image) {
  const Shape& shape = image.shape();
  check(image.defined() && shape.rank() == 3 && (shape[0] == 1 || shape[0] == 3) && image.numel() > 0, "save_png: an image is [1 or 3, height, width]; got ", shape);
  check(shape[1] * shape[2] <= most_pixels, "save_png: an image may have at most ", most_pixels, " pixels; got ", shape);
  check_floating("save_png", image.dtype());
  std::vector<std::uint8_t> pixels;
  for (const double x : transpose(image.reshape({shape[0], shape[1] * shape[2]})).to_vector<double>()) {
    check(x >= 0 && x <= 1, "save_png: values must lie in [0, 1] (divide by 255, or cut with minimum and maximum); got ", x);
    pixels.push_back(static_cast<std::uint8_t>(std::lround(x * 255)));
  }
  const auto [channels, height, width] = std::tuple(static_cast<int>(shape[0]), static_cast<int>(shape[1]), static_cast<int>(shape[2]));
  std::string content;
  const auto append = [](void* to, void* data, int size) { static_cast<std::string*>(to)->append(static_cast<const char*>(data), static_cast<std::size_t>(size)); };
  check(stbi_write_png_to_func(append, &content, width, height, channels, pixels.data(), width * channels) != 0, path.string(), ": cannot be encoded");
  write_file(path, content);
}

}  // namespace optnet
