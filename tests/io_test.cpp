// Files: round trips, and damage. A file that is not what it should be gives an Error that names it, never a crash
// and never half a model.
#include "tests/test.h"

#include <fstream>

namespace {

/// A safetensors file by hand: header text and data.
std::string file_of(const std::string& header, const std::string& data = "") {
  const std::uint64_t length = header.size();
  return std::string(reinterpret_cast<const char*>(&length), sizeof length) + header + data;
}

/// What load_safetensors says about a file of this content, after "<file>: "; "" if it loads.
std::string complaint(const std::string& content) {
  static const Folder folder;
  const std::string file = (folder / "damaged").string();
  write_file(file, content);
  const std::string message = error_of([&] { load_safetensors(file); });
  if (message.empty()) return "";
  return message.starts_with(file + ": ") ? message.substr(file.size() + 2) : "does not name the file: " + message;
}

/// The same for a file with one tensor "x", whose entry is given, and 8 bytes of data.
std::string entry_complaint(const std::string& entry) { return complaint(file_of("{\"x\":" + entry + "}", std::string(8, 'a'))); }

NamedTensors some_tensors() {
  Random random{1};
  return {{"a.weight", random_tensor(random, {3, 2}, float32)}, {"b", random_tensor(random, {2}, float64)},
          {"count", from({1}, std::vector<std::int64_t>{-5})}, {"empty", zeros({0, 4})}, {"number", full({}, 0.5, float64)}};
}

std::size_t entries_in(const std::filesystem::path& folder) {
  return static_cast<std::size_t>(std::distance(std::filesystem::directory_iterator(folder), {}));
}

}  // namespace

TEST_CASE("tensors of every dtype and shape come back bit for bit, with their metadata", "[io]") {
  const Folder folder;
  Random random{2};
  for (DType dtype : {float32, float64, int64}) {
    NamedTensors tensors;
    for (const Shape& shape : {Shape{}, Shape{1}, Shape{0}, Shape{3, 0, 2}, Shape{5}, Shape{2, 3, 4}, Shape{1, 1, 1, 1, 1, 1, 1, 2}}) {
      std::ostringstream name;
      name << "layer \"quoted\" \n ünïcode " << shape;
      tensors[name.str()] = random_tensor(random, shape, dtype, -1000, 1000);
    }
    if (is_floating(dtype)) tensors["special"] = from({4}, {double(NAN), double(INFINITY), -0.0, 1e-310}).to(dtype);
    const Metadata metadata{{"epoch", "3"}, {"", "no key"}, {"text", "line\nline \"x\" é"}};
    save_safetensors(folder / "f.safetensors", tensors, metadata);
    const Checkpoint loaded = load_safetensors(folder / "f.safetensors");
    CHECK(loaded.metadata == metadata);
    CHECK(loaded.tensors.size() == tensors.size());
    for (const auto& [name, x] : tensors) CHECK(same_bits(loaded.tensors.at(name), x));
  }
  save_safetensors(folder / "nothing", {});
  CHECK(load_safetensors(folder / "nothing").tensors.empty());
  save_safetensors(folder / "nothing", {{"no numbers", zeros({3, 0})}});
  CHECK(load_safetensors(folder / "nothing").tensors.at("no numbers").shape() == Shape{3, 0});
  CHECK(entries_in(folder.path) == 2);  // no temporary file stays
}

TEST_CASE("the file is laid out as the format says", "[io]") {
  const Folder folder;
  save_safetensors(folder / "f", {{"x", from({2}, {1.f, 2.f})}}, {{"k", "v"}});
  const std::string content = read_file(folder / "f");
  std::uint64_t length;
  std::memcpy(&length, content.data(), 8);
  CHECK(length % 8 == 0);
  CHECK(content.size() == 8 + length + 8);
  CHECK_THAT(content, Contains("{\"__metadata__\":{\"k\":\"v\"},\"x\":{\"data_offsets\":[0,8],\"dtype\":\"F32\",\"shape\":[2]}}"));
  // As Python's safetensors writes it: keys in another order, tensors in another order than their names'.
  const std::string data = content.substr(content.size() - 8);
  write_file(folder / "g", file_of(R"({"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}  )", data));
  CHECK(load_safetensors(folder / "g").tensors.at("a").item() == 2);
  CHECK(load_safetensors(folder / "g").tensors.at("b").item() == 1);
}

TEST_CASE("a file cut off at any byte, or with bytes to spare, is refused", "[io]") {
  const Folder folder;
  save_safetensors(folder / "f", some_tensors(), {{"key", "value"}});
  const std::string content = read_file(folder / "f");
  CHECK(complaint(content) == "");
  for (std::size_t size = 0; size < content.size(); ++size) {
    const std::string message = complaint(content.substr(0, size));
    INFO("cut to " << size << " of " << content.size() << " bytes: " << message);
    CHECK((message.starts_with("not a safetensors file") || message.find("truncated") != std::string::npos ||
           message.find("takes more than the file's") != std::string::npos));
  }
  CHECK_THAT(complaint(content + "x"), Contains("bytes of data, of which its tensors take"));
}

TEST_CASE("damaged headers are refused with the fault", "[io]") {
  const std::uint64_t huge[] = {0xffffffffffffffff, 0x7fffffffffffffff, 100'000'001, 1'000};
  for (std::uint64_t length : huge)
    CHECK_THAT(complaint(std::string(reinterpret_cast<const char*>(&length), 8) + "{}"), Contains("not a safetensors file, or truncated; its header claims " + std::to_string(length)));
  CHECK(complaint("") == "not a safetensors file; it has 0 bytes, the header alone takes 8");
  for (const char* text : {"", "{", "{}}", "[]", "null", "3", "\"x\"", "{\"x\":}", "{x:1}", "{\"x\":{},}", "\xff\xfe", "{\"\xff\":1}", "{} {}", "nan"})
    CHECK(complaint(file_of(text)) == "not a safetensors file; its header is no JSON object");
  CHECK(complaint(file_of("{}")) == "");
  CHECK(complaint(file_of("{}      ")) == "");
  CHECK_THAT(complaint(file_of(std::string(1'000'000, '['))), Contains("nested too deeply"));
  CHECK_THAT(complaint(file_of("{\"x\":" + std::string(100'000, '[') + std::string(100'000, ']') + "}")), Contains("nested too deeply"));
  std::string bomb;
  for (int i = 0; i < 100'000; ++i) bomb += "{\"a\":";
  CHECK_THAT(complaint(file_of(bomb)), Contains("nested too deeply"));

  const std::string x = R"("x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]})";
  CHECK(complaint(file_of("{" + x + "," + x + "}", std::string(8, 'a'))) == "'x' is there twice");
  CHECK_THAT(complaint(file_of("{" + x + R"(,"y":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", std::string(8, 'a'))), Contains("overlaps another tensor"));
  const auto y_at = [&](const char* offsets) {
    return complaint(file_of("{" + x + R"(,"y":{"dtype":"F32","shape":[2],"data_offsets":)" + offsets + "}}", std::string(16, 'a')));
  };
  CHECK(y_at("[8,16]") == "");
  CHECK(y_at("[0,8]") == "it has 16 bytes of data, of which its tensors take 8");
  CHECK(y_at("[4,12]") == "tensors must follow one another; one ends at byte 8 of the data, the next begins at 4");
  CHECK(complaint(file_of(R"({"__metadata__":3})")) == "__metadata__ must be an object of strings");
  CHECK(complaint(file_of(R"({"__metadata__":{"k":3}})")) == "__metadata__ must hold strings; 'k' is 3");
}

TEST_CASE("damaged entries are refused with tensor and fault", "[io]") {
  CHECK(entry_complaint(R"({"dtype":"F32","shape":[2],"data_offsets":[0,8]})") == "");
  for (const char* entry : {"3", "[]", "{}", "null", R"({"dtype":"F32","shape":[2]})", R"({"shape":[2],"data_offsets":[0,8]})", R"({"dtype":"F32","data_offsets":[0,8]})"})
    CHECK(entry_complaint(entry) == "'x': needs dtype, shape and data_offsets");
  for (const char* dtype : {"\"F8_E4M3\"", "\"U64\"", "\"\"", "3", "null", "[\"F32\"]"})
    CHECK(entry_complaint(std::string(R"({"shape":[2],"data_offsets":[0,8],"dtype":)") + dtype + "}") == std::string("'x': dtype must be F64, F32, F16, BF16, I64, I32, I16, I8, U8 or BOOL; got ") + dtype);

  const auto with_shape = [](const std::string& shape) { return entry_complaint(R"({"dtype":"F32","data_offsets":[0,8],"shape":)" + shape + "}"); };
  for (const char* shape : {"[-1]", "[2,-1]", "[1.5]", "[\"2\"]", "[null]", "[[2]]", "[1e3]", "[18446744073709551616]", "[-9223372036854775808]"})
    CHECK_THAT(with_shape(shape), Contains("'x': sizes must be whole and not negative; got "));
  for (const char* shape : {"[3]", "[4294967296,4294967296]", "[9223372036854775807]", "[18446744073709551615]", "[0,18446744073709551615]", "[2,4611686018427387904]", "[65536,65536,65536,65536]"})
    CHECK_THAT(with_shape(shape), Contains("'x': a shape of ") && Contains(" takes more than the file's 8 bytes"));
  for (const char* shape : {"2", "{}", "\"2\"", "null", "[1,1,1,1,1,1,1,1,2]"}) CHECK_THAT(with_shape(shape), Contains("'x': shape must be a list of at most 8 sizes; got "));
  for (const char* shape : {"[1]", "[]", "[0]", "[0,9223372036854775807]"}) CHECK_THAT(with_shape(shape), Contains("data_offsets give 8"));

  const auto with_offsets = [](const std::string& offsets) { return entry_complaint(R"({"dtype":"F32","shape":[2],"data_offsets":)" + offsets + "}"); };
  for (const char* offsets : {"8", "[0]", "[0,4,8]", "[-1,7]", "[0.0,8.0]", "[\"0\",\"8\"]", "null", "{}", "[0,18446744073709551616]"})
    CHECK_THAT(with_offsets(offsets), Contains("'x': data_offsets must be two whole numbers; got "));
  for (const char* offsets : {"[8,16]", "[8,0]", "[1,9]", "[0,18446744073709551615]", "[18446744073709551608,18446744073709551615]", "[18446744073709551608,0]"})
    CHECK_THAT(with_offsets(offsets), Contains("lie outside the file's 8 bytes of data"));
  for (const char* offsets : {"[0,4]", "[4,8]", "[8,8]", "[1,8]"}) CHECK_THAT(with_offsets(offsets), Contains("F32[2] takes 8 bytes; data_offsets give "));
}

TEST_CASE("numbers of kinds that a tensor lacks are converted", "[io]") {
  const auto read = [](const std::string& kind, const std::string& data, int count) {
    const std::string entry = "{\"x\":{\"dtype\":\"" + kind + "\",\"shape\":[" + std::to_string(count) + "],\"data_offsets\":[0," + std::to_string(data.size()) + "]}}";
    return parse_safetensors(file_of(entry, data), "f").tensors.at("x");
  };
  CHECK(same_bits(read("BF16", {'\x80', '\x3f', '\x00', '\xc0', '\x80', '\x7f'}, 3), from({3}, {1.f, -2.f, float(INFINITY)})));
  CHECK(same_bits(read("F16", {'\x00', '\x3c', '\x01', '\x80', '\x00', '\x7c', '\xff', '\x7b'}, 4), from({4}, {1.f, -0x1p-24f, float(INFINITY), 65504.f})));
  CHECK(same_bits(read("I32", {'\xfe', '\xff', '\xff', '\xff'}, 1), from<std::int64_t>({1}, {-2})));
  CHECK(same_bits(read("I16", {'\xfe', '\xff'}, 1), from<std::int64_t>({1}, {-2})));
  CHECK(same_bits(read("I8", "\xfe\x03", 2), from<std::int64_t>({2}, {-2, 3})));
  CHECK(same_bits(read("U8", "\xfe\x03", 2), from<std::int64_t>({2}, {254, 3})));
  CHECK(same_bits(read("BOOL", {'\0', '\1'}, 2), from<std::int64_t>({2}, {0, 1})));
}

TEST_CASE("no flip of bytes crashes the reader", "[io]") {
  const Folder folder;
  save_safetensors(folder / "f", some_tensors(), {{"key", "value"}});
  const std::string content = read_file(folder / "f");
  Random random{3};
  int refused = 0;
  for (int trial = 0; trial < 2000; ++trial) {
    std::string damaged = content;
    for (std::int64_t k = 0; k <= random.below(4); ++k) damaged[static_cast<std::size_t>(random.below(static_cast<std::int64_t>(damaged.size())))] = static_cast<char>(random.below(256));
    const std::string message = complaint(damaged);
    refused += !message.empty();
    if (message.starts_with("does not name")) FAIL(message);
  }
  CHECK(refused > 1000);  // the rest changed numbers or names only
}

TEST_CASE("a checkpoint that does not fit leaves the model untouched", "[io]") {
  Param a(full({2, 2}, 1)), b(full({3}, 2, float64));
  const std::vector<NamedParam> params{{"a", a}, {"b", b}};
  const NamedTensors good{{"a", full({2, 2}, 7)}, {"b", full({3}, 8, float64)}};
  const auto refused = [&](const std::function<void(NamedTensors&)>& damage) {
    NamedTensors tensors = good;
    damage(tensors);
    const std::string message = error_of([&] { assign(params, tensors); });
    CHECK(same_bits(a.value(), full({2, 2}, 1)));
    CHECK(same_bits(b.value(), full({3}, 2, float64)));
    return message;
  };
  CHECK(refused([](NamedTensors& t) { t.erase("b"); }) == "assign: parameter 'b' is missing");
  CHECK(refused([](NamedTensors& t) { t["c"] = ones({1}); }) == "assign: the model has no parameter 'c'");
  CHECK(refused([](NamedTensors& t) { t["b"] = ones({2}, float64); }) == "assign: parameter 'b' must be float64[3]; got float64[2]");
  CHECK(refused([](NamedTensors& t) { t["b"] = ones({3}); }) == "assign: parameter 'b' must be float64[3]; got float32[3]");
  CHECK(refused([](NamedTensors& t) { t["b"] = Tensor{}; }) != "");
  assign(params, good);
  CHECK(same_bits(a.value(), good.at("a")));
  CHECK(same_bits(values(params).at("b"), good.at("b")));
}

TEST_CASE("a model comes back from its file", "[io]") {
  const Folder folder;
  seed(4);
  const Sequential net{Linear{3, 4}, Tanh{}, Linear{4, 2}}, other{Linear{3, 4}, Tanh{}, Linear{4, 2}};
  save_safetensors(folder / "net", values(net.parameters()));
  assign(other.parameters(), load_safetensors(folder / "net").tensors);
  const Tensor x = uniform(default_random(), {5, 3});
  CHECK(same_bits(net(x).value(), other(x).value()));
}

TEST_CASE("a file that cannot be written leaves the old one, and no litter", "[io]") {
  const Folder folder;
  write_file(folder / "f", "old");
  CHECK(read_file(folder / "f") == "old");
  const std::string text("new\0with zero", 13);
  write_file(folder / "f", text);
  CHECK(read_file(folder / "f") == text);

  CHECK_THAT(error_of([&] { write_file(folder / "f", [](const std::string& temporary) { return std::ofstream(temporary) << "half", false; }); }),
             Contains("cannot write " + (folder / "f").string()));
  CHECK(error_of([&] { write_file(folder / "f", [](const std::string& temporary) -> bool { std::ofstream(temporary) << "half", fail("stop"); }); }) == "stop");
  CHECK(read_file(folder / "f") == text);
  CHECK(entries_in(folder.path) == 1);

  std::filesystem::create_directories(folder / "full/inside");  // a folder where the file should be
  CHECK_THAT(error_of([&] { write_file(folder / "full", "x"); }), Contains("cannot write " + (folder / "full").string() + ": ") && Contains(" (is the folder there and writable, and the disk not full?)"));
  CHECK(std::filesystem::is_directory(folder / "full/inside"));
  CHECK_THAT(error_of([&] { write_file(folder / "no/such/folder", "x"); }), Contains("cannot write " + (folder / "no/such/folder").string() + ": No such file or directory"));
  CHECK_THAT(error_of([&] { save_safetensors(folder / "no/such/folder", some_tensors()); }), Contains("cannot write "));
  CHECK(entries_in(folder.path) == 2);
}

TEST_CASE("tensors that have no place in a file are refused before it is touched", "[io]") {
  const Folder folder;
  save_safetensors(folder / "f", some_tensors());
  const std::string before = read_file(folder / "f");
  CHECK(error_of([&] { save_safetensors(folder / "f", {{"x", Tensor{}}}); }) == "save_safetensors: 'x' is absent; leave it out");
  CHECK_THAT(error_of([&] { save_safetensors(folder / "f", {{"__metadata__", ones({1})}}); }), Contains("'__metadata__' is reserved"));
  CHECK(error_of([&] { save_safetensors(folder / "f", {{"bad \xff name", ones({1})}}); }).starts_with("save_safetensors: names and metadata must be UTF-8"));
  CHECK(error_of([&] { save_safetensors(folder / "f", {}, {{"k", "bad \xff"}}); }).starts_with("save_safetensors: names and metadata must be UTF-8"));
  CHECK(read_file(folder / "f") == before);
}

TEST_CASE("a file that is not there, or is a folder, is named", "[io]") {
  const Folder folder;
  CHECK(error_of([&] { load_safetensors(folder / "none"); }) == (folder / "none").string() + ": there is no such file");
  CHECK(error_of([&] { read_file(folder.path); }) == folder.path.string() + ": not a file");
}
