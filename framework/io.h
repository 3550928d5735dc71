// Files: tensors by name in safetensors, the format that Python's safetensors and PyTorch read and write.
// Writing goes to a temporary name that is renamed at the end, so a file is whole or not there; reading treats
// its input as hostile.
#pragma once

#include "framework/optim.h"

#include <filesystem>
#include <functional>
#include <string_view>

namespace optnet {

using Metadata = std::map<std::string, std::string>;

struct Checkpoint {
  NamedTensors tensors;
  Metadata metadata;
};

/// Throws Error if the file cannot be written; an existing file then stays as it was.
void save_safetensors(const std::filesystem::path& path, const NamedTensors& tensors, const Metadata& metadata = {});
/// Throws Error naming the file and the fault: missing, truncated, oversized, malformed, an unsupported dtype. F16 and
/// BF16 become float32; I32, I16, I8, U8 and BOOL become int64.
Checkpoint load_safetensors(const std::filesystem::path& path);
/// The same of a file's content; `file` names it in errors.
Checkpoint parse_safetensors(std::string_view content, const std::string& file);

/// The parameters' values under their names.
NamedTensors values(const std::vector<NamedParam>& params);
/// Sets the parameters from the tensors. A missing or unknown name, or another shape or dtype, is an error that
/// leaves all of them untouched.
void assign(const std::vector<NamedParam>& params, const NamedTensors& tensors);

/// A checkpoint may hold several sets of tensors, each under a prefix such as "model.": adds one, and takes one out again.
void put(NamedTensors& all, const std::string& prefix, const NamedTensors& tensors);
NamedTensors take(const NamedTensors& all, const std::string& prefix);

/// Writes a whole file by way of a temporary name beside it. Throws Error, and leaves an old file as it was.
void write_file(const std::filesystem::path& path, std::string_view content);
/// The same for a writer that wants a file's name: `write` is given the temporary one and returns success.
void write_file(const std::filesystem::path& path, const std::function<bool(const std::string& temporary)>& write);
/// Removes what processes that are no more had written of a file under such names, as SIGKILL leaves it.
void remove_unfinished(const std::filesystem::path& path);
/// The content of a file; Error if it cannot be read.
std::string read_file(const std::filesystem::path& path);

}  // namespace optnet
