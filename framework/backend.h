// The waist: all that a device must provide besides running kernels (kernel.h). Memory, copies and dense
// linear algebra; everything above is blind to the device. Implementations: backend_cpu.cpp (OpenBLAS,
// LAPACKE) and backend_cuda.cpp (cuBLAS; in builds made with `make CUDA=1`).
#pragma once

#include "framework/dtype.h"

#include <cstddef>
#include <cstdint>
#include <ostream>

namespace optnet {

enum class Device : std::uint8_t { cpu, cuda };
inline std::ostream& operator<<(std::ostream& out, Device d) { return out << (d == Device::cpu ? "cpu" : "cuda"); }

/// C[i] = op(A[i]) op(B[i]) for i = 0 ... batch-1, row-major: op(A) is [m, k], op(B) is [k, n], C is [m, n].
/// A stride is the distance in elements from one matrix of the batch to the next; 0 shares one matrix. A leading dimension
/// is the distance from row to row of a matrix in memory; 0 for rows that touch.
struct Gemm {
  std::int64_t batch = 1, m = 0, n = 0, k = 0;
  bool transpose_a = false, transpose_b = false;
  std::int64_t stride_a = 0, stride_b = 0;
  std::int64_t ld_a = 0, ld_b = 0, ld_c = 0;
  bool accumulate = false;  // C += instead of C =

  std::int64_t row_a() const { return ld_a ? ld_a : transpose_a ? m : k; }
  std::int64_t row_b() const { return ld_b ? ld_b : transpose_b ? k : n; }
  std::int64_t row_c() const { return ld_c ? ld_c : n; }
};

class Backend {
 public:
  virtual ~Backend() = default;
  virtual void* allocate(std::size_t bytes) const = 0;
  virtual void free(void* memory, std::size_t bytes) const noexcept = 0;  // as many as were allocated
  virtual void copy(void* to, const void* from, std::size_t bytes) const = 0;  // both on the device
  virtual void copy_from_host(void* to, const void* from, std::size_t bytes) const = 0;
  virtual void copy_to_host(void* to, const void* from, std::size_t bytes) const = 0;
  virtual void gemm(DType, const Gemm&, const void* a, const void* b, void* c) const = 0;
  /// In place: the lower triangle of each symmetric positive definite [n, n] matrix becomes L, A = L L'; the
  /// upper one becomes 0. Throws Error naming the matrix and the column that is not positive.
  virtual void cholesky(DType, std::int64_t batch, std::int64_t n, void* a) const = 0;
  /// In place: B[i] = L[i]^-1 B[i], or L[i]'^-1 B[i] with `transpose`. L [n, n] lower triangular, B [n, columns].
  virtual void solve_lower(DType, std::int64_t batch, std::int64_t n, std::int64_t columns, bool transpose,
                           const void* l, void* b) const = 0;
  /// In place: each [n, n] matrix A, stored by columns, becomes L (of unit diagonal) and U of P A = L U; `pivots`
  /// [batch, n], on the device, are LAPACK's. Throws Error naming the matrix and the column without a pivot.
  virtual void lu(DType, std::int64_t batch, std::int64_t n, void* a, int* pivots) const = 0;
  /// In place: B[i] = A[i]^-1 B[i], or A[i]'^-1 B[i] with `transpose`, after lu(). B [n, columns], stored by columns.
  virtual void solve_lu(DType, std::int64_t batch, std::int64_t n, std::int64_t columns, bool transpose, const void* lu,
                        const int* pivots, void* b) const = 0;
};

/// The backend of a device; an error with the remedy where the build or the machine lacks it.
const Backend& backend(Device);
bool available(Device);

/// Threads for large tensors and batches; at first OMP_NUM_THREADS, else as many as there are cores. Results never depend on it.
int threads();
void set_threads(int count);

/// Memory on a device: owned, uninitialised, written by kernels before a Tensor takes it over and freezes it.
class Buffer {
 public:
  Buffer(std::size_t bytes, Device device) : bytes_(bytes), device_(device), data_(backend(device).allocate(bytes)) {}
  Buffer(Buffer&& other) noexcept : bytes_(other.bytes_), device_(other.device_), data_(other.data_) {
    other.data_ = nullptr;
  }
  Buffer& operator=(Buffer&&) = delete;
  ~Buffer() {
    if (data_) backend(device_).free(data_, bytes_);
  }

  std::size_t bytes() const { return bytes_; }
  Device device() const { return device_; }
  void* data() { return data_; }
  const void* data() const { return data_; }

 private:
  std::size_t bytes_;
  Device device_;
  void* data_;
};

}  // namespace optnet
