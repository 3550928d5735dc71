// idx: 0, 0, the kind of number, the number of axes, their sizes, data; all big-endian. Usually packed by gzip.
#include "framework/files.h"

#include "framework/encoding.h"
#include "framework/io.h"

#include <zlib.h>

#include <algorithm>
#include <memory>

namespace optnet {
namespace {

constexpr std::size_t longest_header = 4 + 4 * 255;
constexpr std::size_t densest = 1032;  // bytes that one of gzip's can hold

struct Header {
  Stored kind;
  std::vector<std::uint64_t> sizes;
  std::size_t bytes() const { return 4 + 4 * sizes.size(); }
};

Stored kind_of(unsigned char code, const std::string& file) {
  switch (code) {
    case 0x08: return Stored::u8;
    case 0x09: return Stored::i8;
    case 0x0B: return Stored::i16;
    case 0x0C: return Stored::i32;
    case 0x0D: return Stored::f32;
    case 0x0E: return Stored::f64;
  }
  fail(file, ": the third byte of an idx file must be 8, 9, 11, 12, 13 or 14, for the kind of number; got ", int{code});
}

Header read_header(std::string_view content, const std::string& file) {
  check(content.size() >= 4 && content.starts_with(std::string_view("\0\0", 2)), file, ": not an idx file; it must begin with two zero bytes");
  const std::size_t axes = static_cast<unsigned char>(content[3]);
  Header out{kind_of(static_cast<unsigned char>(content[2]), file), {}};
  check(content.size() >= 4 + 4 * axes, file, ": truncated; the sizes of ", axes, " axes take ", 4 * axes, " bytes, it has ", content.size() - 4);
  for (std::size_t i = 0; i < axes; ++i) {
    std::uint64_t size = 0;
    for (std::size_t k = 0; k < 4; ++k) size = size << 8 | static_cast<unsigned char>(content[4 + 4 * i + k]);
    out.sizes.push_back(size);
  }
  return out;
}

/// The size of a file with this header; the largest number if it is larger still.
std::size_t size_of_file(const Header& header) {
  std::size_t bytes = size_of(header.kind);
  for (const std::uint64_t size : header.sizes)
    if (__builtin_mul_overflow(bytes, size, &bytes)) return SIZE_MAX - 1;
  return std::min(bytes, SIZE_MAX - longest_header - 1) + header.bytes();
}

/// The first `most` bytes of what gzip packed, or all if they are fewer. Memory grows with what comes out, whatever is
/// claimed. Where the end is reached, the sum of all bytes has been checked.
std::string unpack(std::string_view packed, std::size_t most, const std::string& file) {
  z_stream stream{};
  check(inflateInit2(&stream, 16 + MAX_WBITS) == Z_OK, file, ": zlib cannot be started");  // 16: gzip
  const std::unique_ptr<z_stream, int (*)(z_stream*)> end(&stream, inflateEnd);
  std::string out;
  out.reserve(std::min(most, std::size_t{1} << 28));  // room alone: its pages are given when they are written
  int status = Z_OK;
  while (status == Z_OK && out.size() < most) {
    const std::size_t before = out.size(), room = std::min({most - before, std::max<std::size_t>(before, 4096), std::size_t{1} << 30});
    out.resize(before + room);
    const std::size_t given = std::min<std::size_t>(packed.size(), 1 << 30);
    stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(packed.data()));
    stream.avail_in = static_cast<uInt>(given);
    stream.next_out = reinterpret_cast<Bytef*>(out.data() + before);
    stream.avail_out = static_cast<uInt>(room);
    status = inflate(&stream, Z_NO_FLUSH);
    packed.remove_prefix(given - stream.avail_in);
    out.resize(before + room - stream.avail_out);
    if (status == Z_STREAM_END && !packed.empty()) status = inflateReset(&stream);  // another member follows
  }
  check(status != Z_BUF_ERROR, file, ": truncated; gzip's data end after ", out.size(), " bytes unpacked");
  check(status == Z_OK || status == Z_STREAM_END, file, ": gzip's data are damaged after ", out.size(), " bytes unpacked (", stream.msg ? stream.msg : "no reason", ")");
  return out;
}

}  // namespace

Tensor parse_idx(std::string_view content, const std::string& file, DType dtype) {
  std::string unpacked;
  if (content.starts_with("\x1f\x8b")) {  // gzip's first bytes
    const Header header = read_header(unpack(content, longest_header, file), file);
    const std::size_t size = size_of_file(header);
    check(size / densest <= content.size(), file, ": its header claims ", size, " bytes, more than its ", content.size(), " of gzip can hold");
    unpacked = unpack(content, size + 1, file);  // a byte more shows whether it goes on
    content = unpacked;
  }
  const Header header = read_header(content, file);
  const std::string_view data = content.substr(header.bytes());
  const Shape shape = shape_within(file, header.sizes, header.kind, data.size());
  const std::size_t bytes = static_cast<std::size_t>(shape.numel()) * size_of(header.kind);
  check(data.size() == bytes, file, ": a shape of ", shape, " takes ", bytes, " bytes; the file goes on");
  return decode(file, data, shape, header.kind, dtype, std::endian::big);
}

Tensor load_idx(const std::filesystem::path& path, DType dtype) { return parse_idx(read_file(path), path.string(), dtype); }

}  // namespace optnet
