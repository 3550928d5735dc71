// A libFuzzer target, built by `make fuzz-files`: every reader gets the same bytes as a file's content, so that the
// corpus, and what breaks something, are files as they are. Either an Error comes out, which names the file, or tensors
// no larger than the bytes allow; a table of whole numbers has in int64 the same ones as in float64. It begins from a
// file of each format, which it writes itself. With FUZZ_FORMAT=safetensors, npy, idx, csv or image only that reader is asked,
// which goes through a hundred times as many inputs as all together.
#include "framework/files.h"
#include "framework/io.h"

#define STB_IMAGE_WRITE_STATIC
#define STB_IMAGE_WRITE_IMPLEMENTATION
#include <stb/stb_image_write.h>

#include <cstdlib>
#include <iostream>

namespace {

using namespace optnet;

void demand(bool holds, const char* what, std::string_view given = "") {
  if (holds) return;
  std::cerr << "broken: " << what << "; got " << given << '\n';
  std::abort();
}

/// What f returns, of a type whose default is nothing, if it throws no Error.
template <class F>
auto tried(const F& f) -> decltype(f()) {
  try {
    return f();
  } catch (const Error& error) {
    demand(std::string_view(error.what()).starts_with("the file: "), "an error begins with the file", error.what());
    return {};
  }
}

void check_size(const Tensor& x, std::size_t most_numbers) {
  if (x.defined()) demand(static_cast<std::size_t>(x.numel()) <= most_numbers, "no more numbers than the bytes allow");
}

/// Whatever is the same number in both is the same: float64 holds those of 53 bits.
void check_table(std::string_view content, const CSVOptions& options) {
  const Table real = tried([&] { return parse_csv(content, "the file", options); });
  check_size(real.values, content.size() + 1);
  CSVOptions exact = options;
  exact.dtype = int64, exact.missing_as_nan = false;
  const Table whole = tried([&] { return parse_csv(content, "the file", exact); });
  if (!whole.values.defined()) return;
  demand(real.values.defined() && real.values.shape() == whole.values.shape() && real.columns == whole.columns, "a table of whole numbers is one of numbers");
  const auto x = real.values.to_vector<double>();
  const auto n = whole.values.to_vector<std::int64_t>();
  for (std::size_t i = 0; i < n.size(); ++i) demand(x[i] == static_cast<double>(n[i]), "the same numbers");
}

/// A header after its length, as npy (2 bytes) and safetensors (8) have it.
std::string with_length(std::size_t bytes, const std::string& header) {
  std::string out(bytes, '\0');
  out[0] = static_cast<char>(header.size());
  return out + header;
}

const std::string seeds[] = {
    "a,b\n1,2\n-3.5e-2,\" 4 \"\n", "1;2\r\n\r\n;nan\r\n", "\xef\xbb\xbf\"x\"\"y\",\"\n\"\n9007199254740993,-inf",
    std::string("\0\0\x08\x01\0\0\0\x03\x01\x02\xff", 11), std::string("\0\0\x0d\x02\0\0\0\x01\0\0\0\x02\x3f\x80\0\0\x40\0\0\0", 20), std::string("\0\0\x0b\x01\0\0\0\x01\xff\xfe", 10),
    std::string("\x1f\x8b\x08\0\0\0\0\0\x02\xff\x63\x60\xe0\x60\x64\x60\x60\x60\x66\x64\xfa\x0f\0\xbc\x5b\xb6\x10\x0b\0\0\0", 31),
    std::string("\x93NUMPY\x01\0", 8) + with_length(2, "{'descr': '|u1', 'fortran_order': True, 'shape': (2, 2)}") + "abcd",
    std::string("\x93NUMPY\x02\0", 8) + with_length(4, "{\"shape\": (), 'descr': '>i2', 'fortran_order': False, }\n") + "ab",
    with_length(8, R"({"a":{"dtype":"F16","shape":[1],"data_offsets":[0,2]},"b":{"dtype":"BF16","shape":[1],"data_offsets":[2,4]}})") + "abcd",
    with_length(8, R"({"a":{"dtype":"BOOL","shape":[],"data_offsets":[0,1]},"b":{"dtype":"I8","shape":[1,1],"data_offsets":[1,2]}})") + "ab"};

}  // namespace

/// Writes the seeds into the corpus, the first argument.
extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv) {
  if (*argc < 2 || !std::filesystem::is_directory((*argv)[1])) return 0;
  const std::filesystem::path corpus = (*argv)[1];
  for (std::size_t i = 0; i < std::size(seeds); ++i) write_file(corpus / ("seed" + std::to_string(i)), seeds[i]);
  const NamedTensors tensors{{"weight", ones({2, 3})}, {"bias", zeros({2}, float64)}, {"count", full({}, -1, int64)}, {"none", zeros({0, 2})}};
  save_safetensors(corpus / "seed.safetensors", tensors, {{"key", "value"}});
  for (const auto& [name, x] : tensors) save_npy(corpus / ("seed_" + name + ".npy"), x);
  save_png(corpus / "seed.png", full({3, 8, 8}, 0.5));
  std::string jpeg;
  const auto append = [](void* to, void* data, int size) { static_cast<std::string*>(to)->append(static_cast<const char*>(data), static_cast<std::size_t>(size)); };
  stbi_write_jpg_to_func(append, &jpeg, 8, 8, 3, std::string(3 * 64, 'x').data(), 90);
  write_file(corpus / "seed.jpg", jpeg);
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const char* const format = std::getenv("FUZZ_FORMAT");
  const auto asked = [](std::string_view name) { return !format || *format == '\0' || format == name; };
  const std::string_view content(reinterpret_cast<const char*>(data), size);
  if (asked("safetensors")) {
    std::size_t numbers = 0;
    for (const auto& [name, x] : tried([&] { return parse_safetensors(content, "the file"); }).tensors) numbers += static_cast<std::size_t>(x.numel());
    demand(numbers <= size, "no more numbers than bytes");
  }
  if (asked("npy")) check_size(tried([&] { return parse_npy(content, "the file"); }), size);
  for (DType dtype : {float32, int64})
    if (asked("idx")) check_size(tried([&] { return parse_idx(content, "the file", dtype); }), 1100 * size);
  if (asked("image")) check_size(tried([&] { return parse_image(content, "the file"); }), 3 * 8256 * size);
  if (asked("csv")) {
    check_table(content, {.header = true, .missing_as_nan = true, .dtype = float64});
    check_table(content, {.separator = ';', .dtype = float64});
  }
  return 0;
}
