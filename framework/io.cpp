// safetensors: eight bytes of header length, a JSON header {"name": {"dtype", "shape", "data_offsets"}}, data.
// https://huggingface.co/docs/safetensors
#include "framework/io.h"

#include "framework/encoding.h"

#include <nlohmann/json.hpp>

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <set>

namespace optnet {
namespace {

using nlohmann::json;

constexpr std::uint64_t largest_header = 100'000'000;  // the format's own limit

const char* tag(DType t) { return t == float32 ? "F32" : t == float64 ? "F64" : "I64"; }

const std::map<std::string, Stored> kinds{{"F64", Stored::f64}, {"F32", Stored::f32}, {"F16", Stored::f16}, {"BF16", Stored::bf16}, {"I64", Stored::i64},
                                          {"I32", Stored::i32}, {"I16", Stored::i16}, {"I8", Stored::i8},   {"U8", Stored::u8},     {"BOOL", Stored::boolean}};

struct Entry {
  Tensor tensor;
  std::pair<std::uint64_t, std::uint64_t> span;  // of the data: where it begins and ends
};

/// One entry of the header, checked against the size of the data before anything is allocated.
Entry read_entry(const std::string& where, const json& entry, std::string_view data) {
  check(entry.is_object() && entry.contains("dtype") && entry.contains("shape") && entry.contains("data_offsets"), where,
        ": needs dtype, shape and data_offsets");
  const json &dtype = entry["dtype"], &sizes = entry["shape"], &offsets = entry["data_offsets"];
  const auto kind = kinds.find(dtype.is_string() ? dtype.get<std::string>() : "");
  check(kind != kinds.end(), where, ": dtype must be F64, F32, F16, BF16, I64, I32, I16, I8, U8 or BOOL; got ", dtype.dump());

  check(sizes.is_array() && sizes.size() <= Shape::max_rank, where, ": shape must be a list of at most ", Shape::max_rank,
        " sizes; got ", sizes.dump());
  std::vector<std::uint64_t> numbers;
  for (const json& size : sizes) {
    check(size.is_number_unsigned(), where, ": sizes must be whole and not negative; got ", sizes.dump());
    numbers.push_back(size.get<std::uint64_t>());
  }
  const Shape shape = shape_within(where, numbers, kind->second, data.size());
  check(offsets.is_array() && offsets.size() == 2 && offsets[0].is_number_unsigned() && offsets[1].is_number_unsigned(),
        where, ": data_offsets must be two whole numbers; got ", offsets.dump());
  const auto begin = offsets[0].get<std::uint64_t>(), end = offsets[1].get<std::uint64_t>();
  check(begin <= end && end <= data.size(), where, ": data_offsets ", offsets.dump(), " lie outside the file's ", data.size(),
        " bytes of data (is it truncated?)");
  const std::uint64_t bytes = static_cast<std::uint64_t>(shape.numel()) * size_of(kind->second);
  check(end - begin == bytes, where, ": ", kind->first, shape, " takes ", bytes, " bytes; data_offsets give ", end - begin);
  return {decode(where, data.substr(begin, bytes), shape, kind->second, dtype_for(kind->second)), {begin, end}};
}

}  // namespace

void save_safetensors(const std::filesystem::path& path, const NamedTensors& tensors, const Metadata& metadata) {
  json header = json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  std::uint64_t end = 0;
  for (const auto& [name, x] : tensors) {
    check(x.defined(), "save_safetensors: '", name, "' is absent; leave it out");
    check(name != "__metadata__", "save_safetensors: '__metadata__' is reserved and cannot name a tensor");
    const std::uint64_t begin = end;
    end += static_cast<std::uint64_t>(x.numel()) * size_of(x.dtype());
    header[name] = {{"dtype", tag(x.dtype())}, {"shape", std::vector<std::int64_t>(x.shape().begin(), x.shape().end())}, {"data_offsets", {begin, end}}};
  }
  std::string text;
  try {
    text = header.dump();
  } catch (const json::exception& error) {
    fail("save_safetensors: names and metadata must be UTF-8 (", error.what(), ")");
  }
  text.resize((text.size() + 7) / 8 * 8, ' ');  // so that the data are aligned
  const std::uint64_t length = text.size();
  std::string content(reinterpret_cast<const char*>(&length), sizeof length);  // little-endian, as the format asks
  content += text;
  content.reserve(content.size() + end);
  for (const auto& [name, x] : tensors) {
    const Tensor host = x.to(Device::cpu);
    content.append(static_cast<const char*>(host.raw()), static_cast<std::size_t>(x.numel()) * size_of(x.dtype()));
  }
  write_file(path, content);
}

Checkpoint load_safetensors(const std::filesystem::path& path) { return parse_safetensors(read_file(path), path.string()); }

Checkpoint parse_safetensors(std::string_view content, const std::string& file) {
  std::uint64_t length = 0;
  check(content.size() >= sizeof length, file, ": not a safetensors file; it has ", content.size(), " bytes, the header alone takes 8");
  std::memcpy(&length, content.data(), sizeof length);
  check(length <= largest_header && length <= content.size() - sizeof length, file, ": not a safetensors file, or truncated; its header claims ",
        length, " of ", content.size(), " bytes");
  // A duplicate name would silently win over the first, so names are watched while the text is parsed.
  std::set<std::string> seen;
  std::string twice;
  const json header = json::parse(content.data() + sizeof length, content.data() + sizeof length + length,
      [&](int depth, json::parse_event_t event, json& value) {
        if (depth == 1 && event == json::parse_event_t::key) {
          const auto name = value.get<std::string>();
          if (!seen.insert(name).second) twice = name;
        }
        check(depth <= 4, file, ": not a safetensors file; its header is nested too deeply");
        return true;
      }, false);
  check(!header.is_discarded() && header.is_object(), file, ": not a safetensors file; its header is no JSON object");
  check(twice.empty(), file, ": '", twice, "' is there twice");

  const std::string_view data = content.substr(sizeof length + length);
  Checkpoint out;
  std::uint64_t used = 0;  // counted as they are read, so that tensors which overlap cannot take more memory than the file
  std::set<std::pair<std::uint64_t, std::uint64_t>> spans;
  for (const auto& [name, entry] : header.items()) {
    if (name != "__metadata__") {
      const auto [x, span] = read_entry(file + ": '" + name + "'", entry, data);
      used += span.second - span.first;
      check(used <= data.size(), file, ": '", name, "' overlaps another tensor");
      spans.insert(span);
      out.tensors[name] = x;
      continue;
    }
    check(entry.is_object(), file, ": __metadata__ must be an object of strings");
    for (const auto& [key, value] : entry.items()) {
      check(value.is_string(), file, ": __metadata__ must hold strings; '", key, "' is ", value.dump());
      out.metadata[key] = value.get<std::string>();
    }
  }
  std::uint64_t end = 0;
  for (const auto& [first, last] : spans) {
    check(first == end, file, ": tensors must follow one another; one ends at byte ", end, " of the data, the next begins at ", first);
    end = last;
  }
  check(end == data.size(), file, ": it has ", data.size(), " bytes of data, of which its tensors take ", end);
  return out;
}

NamedTensors values(const std::vector<NamedParam>& params) {
  check_names("values", params);
  NamedTensors out;
  for (const auto& [name, param] : params) out[name] = param.value();
  return out;
}

void assign(const std::vector<NamedParam>& params, const NamedTensors& tensors) {
  check_names("assign", params);
  const NamedTensors now = values(params);
  for (const auto& [name, x] : tensors) check(now.contains(name), "assign: the model has no parameter '", name, "'");
  check_forms("assign: parameter", tensors, now);
  for (auto [name, param] : params) param.set(tensors.at(name).to(param.value().device()));
}

namespace {
constexpr const char* unfinished = ".tmp";  // what a temporary name adds, and the number of the process that writes
}

void write_file(const std::filesystem::path& path, const std::function<bool(const std::string& temporary)>& write) {
  const std::filesystem::path temporary = path.string() + unfinished + std::to_string(::getpid());
  std::error_code error;
  bool written = false;
  try {
    written = write(temporary.string());
  } catch (...) {
    std::filesystem::remove(temporary, error);
    throw;
  }
  if (written) std::filesystem::rename(temporary, path, error);
  if (!written || error) {
    const std::string reason = error ? error.message() : std::strerror(errno);
    std::filesystem::remove(temporary, error);
    fail("cannot write ", path.string(), ": ", reason, " (is the folder there and writable, and the disk not full?)");
  }
}

void remove_unfinished(const std::filesystem::path& path) {
  std::error_code error;
  const std::string name = path.filename().string() + unfinished;
  for (const auto& entry : std::filesystem::directory_iterator(path.parent_path() / ".", error)) {
    const std::string other = entry.path().filename().string();
    if (!other.starts_with(name)) continue;
    const auto process = static_cast<pid_t>(std::strtol(other.c_str() + name.size(), nullptr, 10));
    if (::kill(process, 0) != 0 && errno == ESRCH) std::filesystem::remove(entry.path(), error);
  }
}

void put(NamedTensors& all, const std::string& prefix, const NamedTensors& tensors) {
  for (const auto& [name, tensor] : tensors) all[prefix + name] = tensor;
}

NamedTensors take(const NamedTensors& all, const std::string& prefix) {
  NamedTensors out;
  for (const auto& [name, tensor] : all)
    if (name.starts_with(prefix)) out[name.substr(prefix.size())] = tensor;
  return out;
}

void write_file(const std::filesystem::path& path, std::string_view content) {
  write_file(path, [&](const std::string& temporary) {
    std::ofstream out(temporary, std::ios::binary);
    out.write(content.data(), static_cast<std::streamsize>(content.size()));
    out.close();
    return static_cast<bool>(out);
  });
}

std::string read_file(const std::filesystem::path& path) {
  std::error_code error;
  check(std::filesystem::exists(path, error), path.string(), ": there is no such file");
  check(std::filesystem::is_regular_file(path, error), path.string(), ": not a file");
  std::ifstream in(path, std::ios::binary);
  check(in.is_open(), path.string(), ": cannot be opened (", std::strerror(errno), ")");
  std::string content;
  try {
    in.exceptions(std::ios::badbit);
    for (std::size_t room = std::filesystem::file_size(path) + 1; in; room = std::max<std::size_t>(content.size(), 4096)) {  // 1 more shows the end
      const std::size_t before = content.size();
      content.resize(before + room);
      in.read(content.data() + before, static_cast<std::streamsize>(room));
      content.resize(before + static_cast<std::size_t>(in.gcount()));
    }
    return content;
  } catch (const std::ios_base::failure& failure) {  // the disk's, say
    fail(path.string(), ": cannot be read (", failure.code().message(), ")");
  }
}

}  // namespace optnet
