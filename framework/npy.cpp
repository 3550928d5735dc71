// npy: "\x93NUMPY", version, header length, a header that is a literal of a Python dictionary, data.
#include "framework/files.h"

#include "framework/encoding.h"
#include "framework/io.h"
#include "framework/ops.h"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <map>
#include <optional>

namespace optnet {
namespace {

/// descr without its byte order.
const std::map<std::string_view, Stored> kinds{{"f8", Stored::f64}, {"f4", Stored::f32}, {"i8", Stored::i64}, {"i4", Stored::i32},
                                               {"i2", Stored::i16}, {"i1", Stored::i8},  {"u1", Stored::u8},  {"b1", Stored::boolean}};

/// Reads Python's literals from the front of a text, as far as npy headers hold them.
struct Literals {
  std::string_view text;
  std::string file;

  [[noreturn]] void expected(const char* what) const {
    fail(file, ": malformed npy header; expected ", what, "; got '", text.substr(0, 40), "'");
  }
  void skip_space() { text.remove_prefix(std::min(text.find_first_not_of(" \n"), text.size())); }
  bool take(char c) {
    skip_space();
    if (!text.starts_with(c)) return false;
    text.remove_prefix(1);
    return true;
  }
  void need(char c, const char* what) {
    if (!take(c)) expected(what);
  }
  std::string_view string() {
    const char quote = take('\'') ? '\'' : '"';
    if (quote == '"') need('"', "a text in quotes");
    const std::size_t end = text.find(quote);
    if (end == text.npos) expected("the end of a text in quotes");
    const std::string_view out = text.substr(0, end);
    text.remove_prefix(end + 1);
    return out;
  }
  bool boolean() {
    skip_space();
    for (const std::string_view word : {"True", "False"}) {
      if (!text.starts_with(word)) continue;
      text.remove_prefix(word.size());
      return word == "True";
    }
    expected("True or False");
  }
  std::vector<std::uint64_t> sizes() {
    std::vector<std::uint64_t> out;
    need('(', "'(' of a shape");
    while (!take(')')) {
      const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out.emplace_back());
      if (error != std::errc()) expected("a size, whole and not negative");
      text.remove_prefix(static_cast<std::size_t>(end - text.data()));
      if (!take(',') && !text.starts_with(')')) expected("',' or ')' in a shape");
    }
    return out;
  }
};

struct Header {
  std::optional<std::string_view> descr;
  std::optional<bool> fortran_order;
  std::optional<std::vector<std::uint64_t>> shape;
};

void read_entry(Literals& in, Header& out) {
  const std::string_view key = in.string();
  in.need(':', "':' after a key");
  const auto once = [&](auto& entry, auto value) {
    check(!entry, in.file, ": malformed npy header; '", key, "' is there twice");
    entry = std::move(value);
  };
  if (key == "descr") {
    check(!in.take('['), in.file, ": holds records, which make no tensor (save their fields one by one)");
    once(out.descr, in.string());
  } else if (key == "fortran_order") {
    once(out.fortran_order, in.boolean());
  } else if (key == "shape") {
    once(out.shape, in.sizes());
  } else {
    fail(in.file, ": malformed npy header; its keys are descr, fortran_order and shape; got '", key.substr(0, 40), "'");
  }
}

Header read_header(Literals in) {
  Header out;
  in.need('{', "'{'");
  while (!in.take('}')) {
    read_entry(in, out);
    if (!in.take(',') && !in.text.starts_with('}')) in.expected("',' or '}'");
  }
  in.skip_space();
  if (!in.text.empty()) in.expected("nothing after '}'");
  check(out.descr && out.fortran_order && out.shape, in.file, ": malformed npy header; needs descr, fortran_order and shape");
  return out;
}

/// The header's text and the data after it.
std::pair<std::string_view, std::string_view> parts(std::string_view content, const std::string& file) {
  check(content.starts_with("\x93NUMPY"), file, ": not an npy file; it begins otherwise");
  check(content.size() >= 12, file, ": truncated; an npy header takes more than ", content.size(), " bytes");
  const int major = static_cast<unsigned char>(content[6]);
  check(major >= 1 && major <= 3, file, ": the version of an npy file must be 1, 2 or 3; got ", major);
  const std::size_t length_bytes = major == 1 ? 2 : 4;
  std::uint32_t length = 0;
  std::memcpy(&length, content.data() + 8, length_bytes);
  content.remove_prefix(8 + length_bytes);
  check(length <= content.size(), file, ": truncated; its header claims ", length, " bytes of the ", content.size(), " that follow");
  return {content.substr(0, length), content.substr(length)};
}

}  // namespace

Tensor parse_npy(std::string_view content, const std::string& file) {
  const auto [text, data] = parts(content, file);
  Header header = read_header({text, file});
  const auto kind = header.descr->empty() ? kinds.end() : kinds.find(header.descr->substr(1));
  const char order = kind == kinds.end() ? '?' : header.descr->front();
  check(order == '<' || order == '>' || (order == '|' && size_of(kind->second) == 1), file,
        ": dtype must be f8, f4, i8, i4, i2, i1, u1 or b1 (convert with astype before saving); got '", header.descr->substr(0, 40), "'");
  if (*header.fortran_order) std::reverse(header.shape->begin(), header.shape->end());
  const Shape shape = shape_within(file, *header.shape, kind->second, data.size());
  Tensor x = decode(file, data, shape, kind->second, dtype_for(kind->second), order == '>' ? std::endian::big : std::endian::little);
  if (*header.fortran_order)
    for (int axis = 0; axis < x.rank() / 2; ++axis) x = transpose(x, axis, x.rank() - 1 - axis);
  return x;
}

Tensor load_npy(const std::filesystem::path& path) { return parse_npy(read_file(path), path.string()); }

void save_npy(const std::filesystem::path& path, const Tensor& x) {
  check(x.defined(), "save_npy: the tensor is absent; give it values first");
  std::ostringstream text;
  text << "{'descr': '<" << (x.dtype() == float32 ? "f4" : x.dtype() == float64 ? "f8" : "i8") << "', 'fortran_order': False, 'shape': (";
  for (const std::int64_t size : x.shape()) text << size << ", ";
  text << "), }";
  std::string header = text.str();
  header.resize((10 + header.size() + 64) / 64 * 64 - 11, ' ');  // so that the data are aligned; one more byte ends the line
  header += '\n';
  const auto length = static_cast<std::uint16_t>(header.size());
  std::string content("\x93NUMPY\x01\x00", 8);
  content.append(reinterpret_cast<const char*>(&length), sizeof length).append(header);
  const Tensor host = x.to(Device::cpu);
  content.append(static_cast<const char*>(host.raw()), static_cast<std::size_t>(x.numel()) * size_of(x.dtype()));
  write_file(path, content);
}

}  // namespace optnet
