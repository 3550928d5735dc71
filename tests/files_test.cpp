// Files of data: round trips, what other programs write, and damage. An error names the file and what is wrong with it.
#include "framework/files.h"

#include "tests/test.h"

#include <zlib.h>

#define STB_IMAGE_WRITE_STATIC
#define STB_IMAGE_WRITE_IMPLEMENTATION
#include <stb/stb_image_write.h>

namespace {

const std::string file = "data";

std::string gzip(const std::string& plain) {
  const Folder folder;
  const std::string path = (folder / "f").string();
  const gzFile out = gzopen(path.c_str(), "wb");
  gzwrite(out, plain.data(), static_cast<unsigned>(plain.size()));
  gzclose(out);
  return read_file(path);
}

std::string bytes(std::initializer_list<int> values) {
  std::string out;
  for (int value : values) out += static_cast<char>(value);
  return out;
}

/// An npy file of this header and data.
std::string npy(const std::string& header, const std::string& data = "", int version = 1) {
  std::string length = bytes({static_cast<int>(header.size() % 256), static_cast<int>(header.size() / 256)});
  if (version > 1) length += bytes({0, 0});
  return "\x93NUMPY" + bytes({version, 0}) + length + header + data;
}
std::string npy_of(const std::string& descr, const std::string& shape, const std::string& data, const std::string& order = "False") {
  return npy("{'descr': '" + descr + "', 'fortran_order': " + order + ", 'shape': " + shape + ", }\n", data);
}

template <class F>
std::string fault(const F& parse) {
  const std::string message = error_of(parse);
  return message.starts_with("data: ") ? message.substr(6) : message;
}
std::string npy_fault(const std::string& content) { return fault([&] { parse_npy(content, file); }); }
std::string idx_fault(const std::string& content, DType dtype = float32) { return fault([&] { parse_idx(content, file, dtype); }); }
std::string csv_fault(const std::string& content, const CSVOptions& options = {}) { return fault([&] { parse_csv(content, file, options); }); }
std::string image_fault(const std::string& content) { return fault([&] { parse_image(content, file); }); }

Tensor csv(const std::string& content, const CSVOptions& options = {}) { return parse_csv(content, file, options).values; }

/// A picture of 40 x 30 by stb's own writers: in PNG of up to 4 channels, or JPEG.
std::string picture(int channels, bool jpeg = false) {
  std::vector<std::uint8_t> pixels;
  for (int i = 0; i < 40 * 30; ++i)
    for (int k = 0; k < channels; ++k) pixels.push_back(static_cast<std::uint8_t>(k == 1 && channels == 2 ? 9 : k == 3 ? 77 : i % 40 * 6 + k));
  std::string out;
  const auto append = [](void* to, void* data, int size) { static_cast<std::string*>(to)->append(static_cast<char*>(data), static_cast<std::size_t>(size)); };
  if (jpeg) stbi_write_jpg_to_func(append, &out, 40, 30, channels, pixels.data(), 95);
  else stbi_write_png_to_func(append, &out, 40, 30, channels, pixels.data(), 40 * channels);
  return out;
}

/// What is the same in both, NaN and all.
bool same(const Tensor& a, const Tensor& b) { return max_difference(a, b) == 0; }

}  // namespace

TEST_CASE("arrays of every dtype and shape come back from npy bit for bit", "[files]") {
  const Folder folder;
  Random random{1};
  for (DType dtype : {float32, float64, int64})
    for (const Shape& shape : {Shape{}, Shape{1}, Shape{0}, Shape{3, 0, 2}, Shape{5}, Shape{2, 3, 4}, Shape{1, 1, 1, 1, 1, 1, 1, 2}}) {
      const Tensor x = random_tensor(random, shape, dtype, -1000, 1000);
      save_npy(folder / "x", x);
      CHECK(same_bits(load_npy(folder / "x"), x));
      CHECK(read_file(folder / "x").find('\n') % 64 == 63);  // the data are aligned
    }
  CHECK(error_of([&] { save_npy(folder / "x", Tensor{}); }) == "save_npy: the tensor is absent; give it values first");
  CHECK(error_of([&] { load_npy(folder / "none"); }) == (folder / "none").string() + ": there is no such file");
}

TEST_CASE("npy is read in each version, byte order, kind and layout", "[files]") {
  const std::string header = R"({ "shape" : ( 2 , ) ,'fortran_order':False,'descr':'<i4'})";
  for (int version : {1, 2, 3}) CHECK(same(parse_npy(npy(header, bytes({1, 0, 0, 0, 254, 255, 255, 255}), version), file), from<std::int64_t>({2}, {1, -2})));
  CHECK(same(parse_npy(npy_of(">f4", "(1,)", bytes({0x3f, 0x80, 0, 0})), file), ones({1})));
  CHECK(same(parse_npy(npy_of(">i2", "()", bytes({255, 254})), file), full({}, -2, int64)));
  CHECK(same(parse_npy(npy_of("<i2", "()", bytes({254, 255})), file), full({}, -2, int64)));
  CHECK(same(parse_npy(npy_of("|i1", "(2,)", bytes({255, 127})), file), from<std::int64_t>({2}, {-1, 127})));
  CHECK(same(parse_npy(npy_of("|u1", "(2,)", bytes({255, 127})), file), from<std::int64_t>({2}, {255, 127})));
  CHECK(same(parse_npy(npy_of("|b1", "(3,)", bytes({0, 1, 2})), file), from<std::int64_t>({3}, {0, 1, 1})));
  CHECK(same(parse_npy(npy_of("|u1", "(2, 3)", bytes({1, 2, 3, 4, 5, 6}), "True"), file), from<std::int64_t>({2, 3}, {1, 3, 5, 2, 4, 6})));
  const Tensor cube = parse_npy(npy_of("|u1", "(2, 3, 1)", bytes({1, 2, 3, 4, 5, 6}), "True"), file);
  CHECK(same(cube, from<std::int64_t>({2, 3, 1}, {1, 3, 5, 2, 4, 6})));
}

TEST_CASE("a damaged npy file is refused with its fault", "[files]") {
  const std::string good = npy_of("<f4", "(2,)", std::string(8, 'a'));
  CHECK(npy_fault(good) == "");
  CHECK(npy_fault("") == "not an npy file; it begins otherwise");
  CHECK(npy_fault("\x93NUMPY\x01") == "truncated; an npy header takes more than 7 bytes");
  CHECK(npy_fault(good.substr(0, 20)) == "truncated; its header claims " + std::to_string(good.size() - 18) + " bytes of the 10 that follow");
  CHECK(npy_fault(npy("{}", "", 4)) == "the version of an npy file must be 1, 2 or 3; got 4");
  for (std::size_t size = 0; size < good.size(); ++size) CHECK(npy_fault(good.substr(0, size)) != "");
  CHECK(npy_fault(good + "x") == "[2] takes 8 bytes of data; got 9");
  CHECK(npy_fault(good.substr(0, good.size() - 1)) == "a shape of [2] takes more than the file's 7 bytes of data (is it truncated?)");

  CHECK(npy_fault(npy("    ")) == "malformed npy header; expected '{'; got ''");
  CHECK(npy_fault(npy("{x: 1}")) == "malformed npy header; expected a text in quotes; got 'x: 1}'");
  CHECK(npy_fault(npy("{'descr}")) == "malformed npy header; expected the end of a text in quotes; got 'descr}'");
  CHECK(npy_fault(npy("{'descr', '<f4'}")) == "malformed npy header; expected ':' after a key; got ', '<f4'}'");
  CHECK(npy_fault(npy("{'shape': 3}  ")) == "malformed npy header; expected '(' of a shape; got '3}  '");
  for (const char* size : {"-1", "x", "1.5", "18446744073709551616", "", ","})
    CHECK_THAT(npy_fault(npy_of("<f4", "(" + std::string(size) + ";)", "")), Contains(size[0] == '1' && size[1] == '.' ? "expected ',' or ')' in a shape" : "expected a size, whole and not negative"));
  CHECK_THAT(npy_fault(npy("{'fortran_order': false}")), Contains("expected True or False; got 'false}'"));
  CHECK_THAT(npy_fault(npy("{'shape': (1,) 'descr'}")), Contains("expected ',' or '}'; got ''descr'}'"));
  CHECK_THAT(npy_fault(npy("{'descr': '<f4', 'fortran_order': False, 'shape': ()} {}")), Contains("expected nothing after '}'; got '{}'"));
  CHECK(npy_fault(npy("{'descr': '<f4', 'descr': '<f4'}")) == "malformed npy header; 'descr' is there twice");
  CHECK(npy_fault(npy("{'other': '<f4'}")) == "malformed npy header; its keys are descr, fortran_order and shape; got 'other'");
  CHECK(npy_fault(npy("{'descr': '<f4'}")) == "malformed npy header; needs descr, fortran_order and shape");
  CHECK(npy_fault(npy("{'descr': [('a', '<f4')]}")) == "holds records, which make no tensor (save their fields one by one)");
  for (const char* descr : {"<f2", "|f4", "=f4", "<c8", "|O", "<U3", "f4", "", "<"})
    CHECK(npy_fault(npy_of(descr, "()", "aaaa")) == std::string("dtype must be f8, f4, i8, i4, i2, i1, u1 or b1 (convert with astype before saving); got '") + descr + "'");

  for (const char* shape : {"(3,)", "(4294967296, 4294967296)", "(18446744073709551615,)", "(2, 4611686018427387904)"})
    CHECK_THAT(npy_fault(npy_of("<f4", shape, std::string(8, 'a'))), Contains("a shape of [") && Contains("takes more than the file's 8 bytes of data"));
  CHECK(npy_fault(npy_of("<f8", "()", "aaaa")) == "a number takes 8 bytes; the file has 4 bytes of data (is it truncated?)");
  CHECK(npy_fault(npy_of("|u1", "(1, 1, 1, 1, 1, 1, 1, 1, 1)", "a")) == "a shape has at most 8 sizes; got 9");
  CHECK(npy_fault(npy_of("|u1", "(0, 9223372036854775807)", "")) == "");
  CHECK_THAT(npy_fault(npy_of("|u1", "(9223372036854775807, 4, 0)", "")), Contains("a shape of ["));
}

TEST_CASE("idx is read in each kind, plain and packed, into the dtype asked for", "[files]") {
  const std::string images = bytes({0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2, 0, 1, 128, 255});
  const Tensor expected = from<std::int64_t>({2, 1, 2}, {0, 1, 128, 255});
  for (DType dtype : {float32, float64, int64}) {
    CHECK(same(parse_idx(images, file, dtype), expected.to(dtype)));
    CHECK(same(parse_idx(gzip(images), file, dtype), expected.to(dtype)));
  }
  CHECK(parse_idx(images, file).dtype() == float32);
  CHECK(same(parse_idx(gzip(images.substr(0, 17)) + gzip(images.substr(17)), file, int64), expected));  // as `cat` joins them
  CHECK(same(parse_idx(bytes({0, 0, 9, 1, 0, 0, 0, 1, 255}), file), full({1}, -1)));
  CHECK(same(parse_idx(bytes({0, 0, 11, 1, 0, 0, 0, 1, 255, 254}), file, int64), full({1}, -2, int64)));
  CHECK(same(parse_idx(bytes({0, 0, 12, 0, 1, 0, 0, 1}), file, float64), full({}, 16777217, float64)));
  CHECK(same(parse_idx(bytes({0, 0, 13, 0, 0x3f, 0x80, 0, 0}), file, float64), full({}, 1, float64)));
  CHECK(same(parse_idx(bytes({0, 0, 14, 0, 0x3f, 0xf0, 0, 0, 0, 0, 0, 1}), file), full({}, 1)));  // rounded
  CHECK(parse_idx(bytes({0, 0, 8, 2, 0, 0, 0, 0, 0, 0, 0, 5}), file).shape() == Shape{0, 5});

  const Folder folder;
  write_file(folder / "x.gz", gzip(images));
  CHECK(same(load_idx(folder / "x.gz", int64), expected));
  CHECK(error_of([&] { load_idx(folder / "none"); }) == (folder / "none").string() + ": there is no such file");
}

TEST_CASE("a damaged idx file is refused with its fault", "[files]") {
  const std::string good = bytes({0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 3, 1, 2, 3, 4, 5, 6});
  CHECK(idx_fault(good) == "");
  CHECK(idx_fault("") == "not an idx file; it must begin with two zero bytes");
  CHECK(idx_fault("text") == "not an idx file; it must begin with two zero bytes");
  CHECK(idx_fault(bytes({0, 0, 10, 1})) == "the third byte of an idx file must be 8, 9, 11, 12, 13 or 14, for the kind of number; got 10");
  CHECK(idx_fault(good.substr(0, 11)) == "truncated; the sizes of 2 axes take 8 bytes, it has 7");
  CHECK(idx_fault(good.substr(0, 17)) == "a shape of [2, 3] takes more than the file's 5 bytes of data (is it truncated?)");
  CHECK(idx_fault(good + "x") == "a shape of [2, 3] takes 6 bytes; the file goes on");
  CHECK_THAT(idx_fault(bytes({0, 0, 8, 3, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1})), Contains("a shape of [4294967295, 4294967295, 4294967295] takes more"));
  CHECK(idx_fault(bytes({0, 0, 8, 9}) + std::string(36, '\1')) == "a shape has at most 8 sizes; got 9");
  CHECK(idx_fault(bytes({0, 0, 13, 0, 0, 0, 0, 0}), int64) == "holds floating-point numbers (ask for float32 or float64); got int64");
  CHECK(idx_fault(bytes({0, 0, 12, 0, 1, 0, 0, 1})) == "float32 cannot hold 16777217 (ask for int64)");
  CHECK(idx_fault(bytes({0, 0, 14, 0, 0x7f, 0xe0, 0, 0, 0, 0, 0, 0})) == "float32 cannot hold 8.98847e+307 (ask for float64)");
  CHECK(idx_fault(bytes({0, 0, 14, 0, 0x7f, 0xf0, 0, 0, 0, 0, 0, 0})) == "");  // infinity
}

TEST_CASE("packed data that are truncated, damaged or a bomb are refused", "[files]") {
  std::string plain = bytes({0, 0, 8, 1, 0, 0, 39, 16});
  Random random{2};
  for (int i = 0; i < 10'000; ++i) plain += static_cast<char>(random.below(256));
  const std::string packed = gzip(plain);
  CHECK(idx_fault(packed) == "");
  for (std::size_t size : {std::size_t{2}, std::size_t{10}, packed.size() / 2, packed.size() - 8, packed.size() - 1})
    CHECK_THAT(idx_fault(packed.substr(0, size)), Contains("truncated; gzip's data end after "));
  std::string damaged = packed;
  damaged[packed.size() - 6] = static_cast<char>(damaged[packed.size() - 6] + 1);  // of the sum
  CHECK(idx_fault(damaged) == "gzip's data are damaged after 10008 bytes unpacked (incorrect data check)");
  damaged = packed;
  damaged[3] = 'x';
  CHECK_THAT(idx_fault(damaged), Contains("gzip's data are damaged after 0 bytes unpacked ("));
  CHECK_THAT(idx_fault(packed + "rest"), Contains("gzip's data are damaged after 10008 bytes unpacked (incorrect header check)"));

  const std::string bomb = gzip(bytes({0, 0, 8, 1, 0, 0, 0, 3}) + std::string(50'000'000, '\0'));
  CHECK(idx_fault(bomb) == "a shape of [3] takes 3 bytes; the file goes on");
  CHECK_THAT(idx_fault(gzip(bytes({0, 0, 8, 2, 255, 255, 255, 255, 255, 255, 255, 255, 1}))), Contains("its header claims 18446744065119617037 bytes, more than its "));
  CHECK_THAT(idx_fault(gzip(bytes({0, 0, 8, 1, 0, 0, 0, 9, 1, 2}))), Contains("a shape of [9] takes more than the file's 2 bytes of data"));
}

TEST_CASE("a table comes from CSV as programs write it", "[files]") {
  const Tensor expected = from({2, 2}, {1.f, -2.5f, 3e4f, 0.5f});
  for (const char* text : {"1,-2.5\n3e4,.5\n", "1,-2.5\r\n3e4,.5", "\xef\xbb\xbf" "1,-2.5\r3e4,.5\r", "\n 1 ,\t-2.5\n \n\n3e4,+.5\n\n", "\"1\",\"-2.5\"\n\"3e4\" , \".5\"\n"})
    CHECK(same(csv(text), expected));
  CHECK(same(csv("1;-2.5\n3e4;.5", {.separator = ';'}), expected));
  CHECK(same(csv("1\t-2.5\n3e4\t.5", {.separator = '\t'}), expected));
  CHECK(same(csv("1 -2.5\n3e4 .5", {.separator = ' '}), expected));

  const Table named = parse_csv("a,\"b, \"\"c\"\"\n\"\n1,2\n", file, {.header = true});
  CHECK(named.columns == std::vector<std::string>{"a", "b, \"c\"\n"});
  CHECK(same(named.values, from({1, 2}, {1.f, 2.f})));
  CHECK(csv("a,b", {.header = true}).shape() == Shape{0, 2});
  CHECK(parse_csv("1,2", file).columns.empty());

  CHECK(same(csv("9007199254740993,-3", {.dtype = int64}), from<std::int64_t>({1, 2}, {9007199254740993, -3})));
  CHECK(same(csv("0.1,5e-324,1.7976931348623157e308", {.dtype = float64}), from({1, 3}, {0.1, 5e-324, 1.7976931348623157e308})));
  CHECK(same(csv("nan,-inf,inf"), from({1, 3}, {float(NAN), -float(INFINITY), float(INFINITY)})));
  CHECK(same(csv(",1\n2,\"\"\n", {.missing_as_nan = true}), from({2, 2}, {float(NAN), 1.f, 2.f, float(NAN)})));

  const Folder folder;
  write_file(folder / "x.csv", "1,2");
  CHECK(same(load_csv(folder / "x.csv").values, from({1, 2}, {1.f, 2.f})));
  CHECK(error_of([&] { load_csv(folder / "none"); }) == (folder / "none").string() + ": there is no such file");
}

TEST_CASE("a table that is none is refused with its line", "[files]") {
  CHECK(csv_fault("\n\n") == "has no row");
  CHECK(csv_fault("\n", {.header = true}) == "has no row; it should begin with the columns' names");
  CHECK(csv_fault("1,2\n\n3,4\n5\n") == "line 4: rows must be equally long; got 1 fields after rows of 2");
  CHECK(csv_fault("\"a\nb\",c\n1,2,3", {.header = true}) == "line 3: rows must be equally long; got 3 fields after rows of 2");
  CHECK(csv_fault("a,b\n1,2") == "line 1, field 1 (set header if this row names the columns): needs a number; got 'a'");
  CHECK(csv_fault("1,2\n3,x\x01y") == "line 2, field 2: needs a number; got 'x?y'");
  for (const char* text : {"1.2.3", "--1", "+-1", "0x10", "1e", "1 2", "NULL", "1\xff", "+", "-"}) CHECK_THAT(csv_fault(std::string("1\n") + text), Contains("line 2, field 1: needs a number; got '"));
  CHECK(csv_fault("1\n" + std::string(50, 'x')) == "line 2, field 1: needs a number; got '" + std::string(40, 'x') + "...'");
  CHECK(csv_fault("1\n2.0", {.dtype = int64}) == "line 2, field 1: needs a whole number; got '2.0'");
  CHECK(csv_fault("1\n9223372036854775808", {.dtype = int64}) == "line 2, field 1: int64 cannot hold '9223372036854775808'");
  CHECK(csv_fault("1\n1e39") == "line 2, field 1: float32 cannot hold '1e39'");
  CHECK(csv_fault("1\n1e309", {.dtype = float64}) == "line 2, field 1: float64 cannot hold '1e309'");
  CHECK(csv_fault("1,2\n3,\n") == "line 2, field 2: is empty (missing_as_nan makes it NaN)");
  CHECK(csv_fault("1,\"2\n3") == "line 1: a quote is never closed");
  CHECK(csv_fault("1\n\"2\"3\n") == "line 2: a field must end with its quote; got '3?' after it");
  CHECK(csv_fault("a,b,a\n", {.header = true}) == "line 1: two columns are named 'a'");
  CHECK(csv_fault("1", {.separator = '"'}) == "load_csv: the separator must not be a quote or the end of a line");
  CHECK(csv_fault("1", {.missing_as_nan = true, .dtype = int64}) == "load_csv: int64 has no NaN; ask for float32 or float64 with missing_as_nan");
}

TEST_CASE("a picture comes back from its PNG, to 8 bits a channel", "[files]") {
  const Folder folder;
  Random random{3};
  for (std::int64_t channels : {1, 3})
    for (DType dtype : {float32, float64}) {
      const Tensor whole = random_tensor(random, {channels, 5, 7}, int64, 0, 256), image = whole.to(dtype) / 255;
      save_png(folder / "x.png", image);
      const Tensor loaded = load_image(folder / "x.png");
      CHECK(same_bits(loaded, whole.to(float32) / 255));
    }
  save_png(folder / "x.png", from({1, 1, 2}, {0.4999 / 255, 0.5001 / 255}));  // to the nearest
  CHECK(same(load_image(folder / "x.png") * 255, from({1, 1, 2}, {0.f, 1.f})));
  const auto refused = [&](const Tensor& image) { return error_of([&] { save_png(folder / "x.png", image); }); };
  for (const Shape& shape : {Shape{2, 3, 3}, Shape{3, 3}, Shape{1, 0, 3}, Shape{4, 3, 3}}) CHECK_THAT(refused(zeros(shape)), Contains("save_png: an image is [1 or 3, height, width]; got "));
  CHECK(refused(Tensor{}) != "");
  CHECK(refused(zeros({1, 8193, 8193})) == "save_png: an image may have at most 67108864 pixels; got [1, 8193, 8193]");
  CHECK(refused(zeros({1, 2, 2}, int64)) == "save_png: needs float32 or float64 (convert with to(float32)); got int64");
  for (double wrong : {-0.01, 1.01, 254.0, double(NAN)}) CHECK_THAT(refused(full({1, 2, 2}, wrong)), Contains("save_png: values must lie in [0, 1] (divide by 255, or cut with minimum and maximum); got "));
  CHECK(error_of([&] { save_png(folder / "no/such", ones({1, 2, 2})); }).starts_with("cannot write "));
}

TEST_CASE("pictures are read as grey or as red, green, blue, without transparency", "[files]") {
  for (int channels : {1, 2, 3, 4}) {
    const Tensor x = parse_image(picture(channels), file);
    CHECK(x.shape() == Shape{channels <= 2 ? 1 : 3, 30, 40});
    for (int k = 0; k < x.size(0); ++k) CHECK(x(k, 3, 5) * 255 == Approx(30 + k));
  }
  const Tensor jpeg = parse_image(picture(3, true), file);
  CHECK(jpeg.shape() == Shape{3, 30, 40});
  CHECK(max_difference(jpeg, parse_image(picture(3), file)) < 0.03);
  CHECK(same(parse_image(picture(3, true) + "a camera's notes", file), jpeg));
}

TEST_CASE("a damaged picture is refused with its fault", "[files]") {
  CHECK(image_fault("") == "neither a PNG nor a JPEG; it begins otherwise");
  CHECK(image_fault("GIF89a") == "neither a PNG nor a JPEG; it begins otherwise");
  const std::string png = picture(3), jpeg = picture(3, true);
  for (std::size_t size = 8; size < png.size(); ++size) CHECK(image_fault(png.substr(0, size)) == "truncated PNG");
  for (std::size_t size = 2; size < jpeg.size(); ++size) CHECK_THAT(image_fault(jpeg.substr(0, size)), Catch::Matchers::StartsWith("truncated"));
  std::string damaged = png;
  damaged[60] = static_cast<char>(damaged[60] ^ 1);
  CHECK(image_fault(damaged) == "damaged PNG; the check sum of its part IDAT is wrong");

  // A header of our own, with its check sum.
  const auto with_header = [&](std::initializer_list<int> fields) {
    const std::string header = "IHDR" + bytes(fields);
    const auto sum = crc32(0, reinterpret_cast<const Bytef*>(header.data()), static_cast<uInt>(header.size()));
    return png.substr(0, 12) + header + bytes({int(sum >> 24), int(sum >> 16 & 255), int(sum >> 8 & 255), int(sum & 255)}) + png.substr(33);
  };
  CHECK(image_fault(with_header({0, 0, 0, 40, 0, 0, 0, 30, 8, 2, 0, 0, 0})) == "");
  CHECK(image_fault(with_header({0, 0, 64, 0, 0, 0, 32, 0, 8, 2, 0, 0, 0})) == "may have at most 67108864 pixels; got 16384 x 8192");
  CHECK(image_fault(with_header({0, 0, 0, 40, 0, 0, 0, 31, 8, 2, 0, 0, 0})) == "damaged (not enough pixels)");
  CHECK(image_fault(with_header({0, 0, 0, 0, 0, 0, 0, 30, 8, 2, 0, 0, 0})) == "damaged; its size cannot be read");

  CHECK_THAT(image_fault(with_header({0, 0, 32, 0, 0, 0, 32, 0, 1, 0, 0, 0, 0})), Contains("truncated; 8192 x 8192 pixels take more than its "));
  damaged = jpeg;
  damaged[jpeg.find("\xff\xc0") + 5] = '\x20';  // of its height: 8192 lines and 30
  damaged[jpeg.find("\xff\xc0") + 7] = '\x08';  // of its width: 2048 and 40
  CHECK_THAT(image_fault(damaged), Contains("truncated; 2088 x 8222 pixels take more than its "));
  damaged = jpeg;
  damaged[jpeg.find("\xff\xc4") + 5 + 15] = '\xff';  // the codes of 16 bits in the first Huffman table
  CHECK_THAT(image_fault(damaged), Contains("damaged JPEG; a Huffman table has fewer than 256 codes, got "));
  damaged = jpeg;
  damaged[jpeg.find("\xff\xc0") + 11] = '\x31';  // the first component's factors; the others have 1 and 1
  CHECK(image_fault(damaged) == "");
  damaged[jpeg.find("\xff\xc0") + 14] = '\x21';
  CHECK(image_fault(damaged) == "damaged JPEG, or a rare one; sampling factors must divide the largest, got 2 and 3");

  Random random{4};
  for (int trial = 0; trial < 1000; ++trial) {  // no flip of bytes crashes the reader
    std::string wild = jpeg;
    for (std::int64_t k = 0; k <= random.below(4); ++k) wild[static_cast<std::size_t>(random.below(static_cast<std::int64_t>(wild.size())))] = static_cast<char>(random.below(256));
    image_fault(wild);
  }
}

TEST_CASE("files go to NumPy and to Python's safetensors, and come back", "[files]") {
  const std::string python = python_with("numpy, safetensors");
  if (python.empty()) return skip("no python3 with numpy and safetensors (make python-venv installs them)");

  const Scratch folder;
  Random random{5};
  NamedTensors tensors{{"scalar", full({}, 0.5)}, {"none", zeros({0, 3})}, {"special", from({4}, {double(NAN), double(INFINITY), -0.0, 5e-324})}};
  for (DType dtype : {float32, float64, int64}) tensors[name(dtype)] = random_tensor(random, {2, 3, 4}, dtype, -1000, 1000);
  save_safetensors(folder / "ours.safetensors", tensors, {{"key", "vàlue"}});
  for (const auto& [name, x] : tensors) save_npy(folder / (name + ".npy"), x);

  const Outcome outcome = run(folder, python + " tests/python_files.py " + folder.path.string());
  INFO(outcome.err);
  REQUIRE(outcome.code == 0);
  const Checkpoint back = load_safetensors(folder / "theirs.safetensors");
  CHECK(back.metadata == Metadata{{"key", "vàlue"}});
  for (const auto& [name, x] : tensors) {
    CHECK(same_bits(back.tensors.at(name), x));
    CHECK(same_bits(load_npy(folder / ("their_" + name + ".npy")), x));
  }
  // Kinds that we only read: the numbers -2, 0, 1, or the nearest that the kind has.
  for (const char* kind : {"int32", "int16", "int8"}) {
    CHECK(same(load_npy(folder / (std::string(kind) + ".npy")), from<std::int64_t>({3, 1}, {-2, 0, 1})));
    CHECK(same(back.tensors.at(kind), from<std::int64_t>({3, 1}, {-2, 0, 1})));
  }
  for (const char* kind : {"uint8", "bool"}) {
    CHECK(same(load_npy(folder / (std::string(kind) + ".npy")), from<std::int64_t>({3, 1}, {kind[0] == 'u' ? 2 : 1, 0, 1})));
    CHECK(same(back.tensors.at(kind), from<std::int64_t>({3, 1}, {kind[0] == 'u' ? 2 : 1, 0, 1})));
  }
  CHECK(same(load_npy(folder / "columns.npy"), from<std::int64_t>({2, 3, 2}, {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11})));
  CHECK(same(load_npy(folder / "big_endian.npy"), from({2}, {1.5, -2.})));
  CHECK(same(back.tensors.at("halves"), load_npy(folder / "halves.npy")));
}
