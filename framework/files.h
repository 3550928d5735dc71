// Data from files: arrays of NumPy (npy) and of MNIST (idx), tables (CSV), pictures (PNG, JPEG). Each reader treats its
// input as hostile: it throws Error naming the file and the fault, and takes no memory that the file does not back.
// load_ reads a file; parse_ reads the content of one, and `file` names it in errors. Checkpoints are in io.h.
#pragma once

#include "framework/tensor.h"

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace optnet {

// ---- npy.cpp: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html ---------------------------

/// The array of an npy file, of f4, f8, i8, and of i4, i2, i1, u1 and bool, which become int64. Column-major ones are
/// transposed.
Tensor load_npy(const std::filesystem::path& path);
Tensor parse_npy(std::string_view content, const std::string& file);
/// Throws Error if the file cannot be written; an existing file then stays as it was.
void save_npy(const std::filesystem::path& path, const Tensor& x);

// ---- idx.cpp: http://yann.lecun.com/exdb/mnist -----------------------------------------------------------------

/// The array of an idx file, as it is or packed by gzip. Bytes stay 0 ... 255: divide by 255 for pictures, ask for int64
/// for labels. Error for a value that the dtype cannot hold.
Tensor load_idx(const std::filesystem::path& path, DType dtype = float32);
Tensor parse_idx(std::string_view content, const std::string& file, DType dtype = float32);

// ---- csv.cpp: RFC 4180 -----------------------------------------------------------------------------------------

struct CSVOptions {
  bool header = false;          // the first row names the columns
  char separator = ',';
  bool missing_as_nan = false;  // an empty field becomes NaN; otherwise it is an error
  DType dtype = float32;
};
struct Table {
  Tensor values;                     // [rows, columns]
  std::vector<std::string> columns;  // their names, if there is a header
};
/// Numbers in rows of equal length. Fields may be in quotes; spaces around them and empty lines are skipped.
Table load_csv(const std::filesystem::path& path, const CSVOptions& options = {});
Table parse_csv(std::string_view content, const std::string& file, const CSVOptions& options = {});

// ---- image.cpp: by stb_image -----------------------------------------------------------------------------------

/// A PNG or JPEG of at most 2^26 pixels as float32 [channels, height, width] in 0 ... 1: one channel if it is grey, else
/// red, green, blue. Transparency is dropped; 16 bits a channel become 8.
Tensor load_image(const std::filesystem::path& path);
Tensor parse_image(std::string_view content, const std::string& file);
/// Writes [1 or 3, height, width] in 0 ... 1 as a PNG of 8 bits a channel.
void save_png(const std::filesystem::path& path, const Tensor& image);

}  // namespace optnet
