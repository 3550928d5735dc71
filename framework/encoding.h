// How files hold numbers: more kinds than a tensor's three, in either byte order, under sizes that may claim anything.
// What the readers of io.h and files.h share.
#pragma once

#include "framework/tensor.h"

#include <bit>
#include <span>
#include <string_view>

namespace optnet {

/// The number types that are read from files; a tensor holds and writes f64, f32 and i64.
enum class Stored : std::uint8_t { f64, f32, f16, bf16, i64, i32, i16, i8, u8, boolean };

std::size_t size_of(Stored);
/// The dtype that holds every value of a kind: float64 for f64, float32 for f32, f16 and bf16, int64 for the others.
DType dtype_for(Stored);

/// The shape of `sizes`. Error, in the name of `where`, unless it has at most eight axes and its numbers fit into the
/// `available` bytes of the file: to be asked before memory is taken for them.
Shape shape_within(const std::string& where, std::span<const std::uint64_t> sizes, Stored, std::uint64_t available);

/// The numbers in `bytes`, which are as many as the shape takes. Error for a value that the dtype cannot hold: a
/// floating-point number in int64, a whole one that would be rounded, a finite one that would become infinite.
Tensor decode(const std::string& where, std::string_view bytes, const Shape&, Stored, DType, std::endian = std::endian::little);

}  // namespace optnet
