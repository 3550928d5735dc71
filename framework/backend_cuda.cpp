// The GPU's side of the waist: memory from CUDA's stream-ordered pool, and dense linear algebra by cuBLAS and
// cuSOLVER. Only host calls stand here, so the C++ compiler builds it; the kernels are in the .cu files. All work
// goes to the default stream, in order; what reads results back waits for it.
#include "framework/backend.h"

#include <cublas_v2.h>
#include <cuda_runtime_api.h>
#include <cusolverDn.h>

#include <algorithm>
#include <limits>
#include <vector>

namespace optnet {
namespace {

void check_cuda(const char* call, cudaError_t status) {
  if (status == cudaSuccess) return;
  cudaGetLastError();  // else the next launch would report this one again
  fail("cuda: ", call, " failed: ", cudaGetErrorString(status), " (", cudaGetErrorName(status), ")");
}

void check_cublas(const char* call, cublasStatus_t status) {
  check(status == CUBLAS_STATUS_SUCCESS, "cuda: ", call, " failed: ", cublasGetStatusString(status));
}

void check_cusolver(const char* call, cusolverStatus_t status) {
  check(status == CUSOLVER_STATUS_SUCCESS, "cuda: ", call, " failed: cusolverStatus_t ", static_cast<int>(status));
}

/// Why there is no GPU to use, or "".
std::string reason_unavailable() {
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status == cudaSuccess && count > 0) return "";
  cudaGetLastError();
  return status == cudaSuccess ? "no GPU found" : cudaGetErrorString(status);
}

/// Every call below is column-major, where a row-major matrix is its own transpose: C = A B becomes C' = B' A', and
/// a lower triangle an upper one.
class CudaBackend : public Backend {
 public:
  CudaBackend() {
    const std::string reason = reason_unavailable();
    check(reason.empty(), "device: CUDA cannot be used here (stay on Device::cpu, or check the driver with nvidia-smi): ", reason);
    int device = 0;
    cudaMemPool_t pool = nullptr;
    check_cuda("cudaGetDevice", cudaGetDevice(&device));
    check_cuda("cudaDeviceGetDefaultMemPool", cudaDeviceGetDefaultMemPool(&pool, device));
    auto keep = std::numeric_limits<std::uint64_t>::max();  // freed memory stays in the pool: the next step wants it again
    check_cuda("cudaMemPoolSetAttribute", cudaMemPoolSetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &keep));
    check_cublas("cublasCreate", cublasCreate(&cublas_));
    check_cusolver("cusolverDnCreate", cusolverDnCreate(&cusolver_));
  }

  void* allocate(std::size_t bytes) const override {
    void* memory = nullptr;
    const cudaError_t status = cudaMallocAsync(&memory, bytes ? bytes : 1, nullptr);
    if (status == cudaErrorMemoryAllocation) {
      cudaGetLastError();
      std::size_t left = 0, total = 0;
      cudaMemGetInfo(&left, &total);
      fail("cuda: out of memory: ", bytes, " bytes asked for; the GPU has ", left, " bytes free of ", total);
    }
    check_cuda("cudaMallocAsync", status);
    return memory;
  }
  // When static tensors go, at the program's end, CUDA may have gone before them: nothing to report then.
  void free(void* memory, std::size_t) const noexcept override { static_cast<void>(cudaFreeAsync(memory, nullptr)); }

  void copy(void* to, const void* from, std::size_t bytes) const override {
    if (bytes) check_cuda("cudaMemcpy on the GPU", cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice));
  }
  void copy_from_host(void* to, const void* from, std::size_t bytes) const override {
    if (bytes) check_cuda("cudaMemcpy to the GPU", cudaMemcpy(to, from, bytes, cudaMemcpyHostToDevice));
  }
  void copy_to_host(void* to, const void* from, std::size_t bytes) const override {
    if (bytes) check_cuda("cudaMemcpy from the GPU", cudaMemcpy(to, from, bytes, cudaMemcpyDeviceToHost));
  }

  void gemm(DType t, const Gemm& g, const void* a, const void* b, void* c) const override {
    if (g.m == 0 || g.n == 0 || g.batch == 0) return;
    if (g.k == 0) {  // an empty sum
      if (g.accumulate) return;
      const std::size_t row = static_cast<std::size_t>(g.n) * size_of(t), pitch = static_cast<std::size_t>(g.row_c()) * size_of(t);
      return check_cuda("cudaMemset2DAsync", cudaMemset2DAsync(c, pitch, 0, row, static_cast<std::size_t>(g.batch * g.m), nullptr));
    }
    dispatch_floating("matmul", t, [&](auto one) {
      using T = decltype(one);
      const auto ta = g.transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N, tb = g.transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N;
      const std::int64_t lda = g.row_a(), ldb = g.row_b(), ldc = g.row_c();
      const T *x = static_cast<const T*>(a), *y = static_cast<const T*>(b);
      T *z = static_cast<T*>(c), beta = g.accumulate ? 1 : 0;
      one = 1;
      if constexpr (std::is_same_v<T, float>)
        check_cublas("cublasSgemmStridedBatched", cublasSgemmStridedBatched_64(cublas_, tb, ta, g.n, g.m, g.k, &one, y, ldb,
                     g.stride_b, x, lda, g.stride_a, &beta, z, ldc, g.m * ldc, g.batch));
      else
        check_cublas("cublasDgemmStridedBatched", cublasDgemmStridedBatched_64(cublas_, tb, ta, g.n, g.m, g.k, &one, y, ldb,
                     g.stride_b, x, lda, g.stride_a, &beta, z, ldc, g.m * ldc, g.batch));
    });
  }

  void cholesky(DType t, std::int64_t batch, std::int64_t n, void* a) const override {
    if (batch == 0 || n == 0) return;
    check_counts("cholesky", batch, n);
    dispatch_floating("cholesky", t, [&](auto x) { factor(batch, n, static_cast<decltype(x)*>(a)); });
  }

  void solve_lower(DType t, std::int64_t batch, std::int64_t n, std::int64_t columns, bool transpose, const void* l,
                   void* b) const override {
    if (n == 0 || columns == 0) return;
    dispatch_floating("solve_lower", t, [&](auto one) {  // X = L^-1 B becomes X' = B' U^-1 with U = L'
      using T = decltype(one);
      one = 1;
      const auto op = transpose ? CUBLAS_OP_T : CUBLAS_OP_N;
      for (std::int64_t i = 0; i < batch; ++i) {
        const T* u = static_cast<const T*>(l) + i * n * n;
        T* x = static_cast<T*>(b) + i * n * columns;
        if constexpr (std::is_same_v<T, float>)
          check_cublas("cublasStrsm", cublasStrsm_64(cublas_, CUBLAS_SIDE_RIGHT, CUBLAS_FILL_MODE_UPPER, op,
                       CUBLAS_DIAG_NON_UNIT, columns, n, &one, u, n, x, columns));
        else
          check_cublas("cublasDtrsm", cublasDtrsm_64(cublas_, CUBLAS_SIDE_RIGHT, CUBLAS_FILL_MODE_UPPER, op,
                       CUBLAS_DIAG_NON_UNIT, columns, n, &one, u, n, x, columns));
      }
    });
  }

  void lu(DType t, std::int64_t batch, std::int64_t n, void* a, int* pivots) const override {
    if (batch == 0 || n == 0) return;
    check_counts("solve", batch, n);
    dispatch_floating("solve", t, [&](auto x) {
      using T = decltype(x);
      const Buffer matrices = addresses(batch, n * n, static_cast<T*>(a));
      Buffer info(static_cast<std::size_t>(batch) * sizeof(int), Device::cuda);
      T* const* list = static_cast<T* const*>(matrices.data());
      int *failed = static_cast<int*>(info.data()), size = static_cast<int>(n), count = static_cast<int>(batch);
      if constexpr (std::is_same_v<T, float>)
        check_cublas("cublasSgetrfBatched", cublasSgetrfBatched(cublas_, size, list, size, pivots, failed, count));
      else
        check_cublas("cublasDgetrfBatched", cublasDgetrfBatched(cublas_, size, list, size, pivots, failed, count));
      check_columns(info, batch, "solve: the matrix must not be singular", " has no pivot in column ");
    });
  }

  void solve_lu(DType t, std::int64_t batch, std::int64_t n, std::int64_t columns, bool transpose, const void* lu,
                const int* pivots, void* b) const override {
    if (batch == 0 || n == 0 || columns == 0) return;
    check_counts("solve", batch, std::max(n, columns));
    dispatch_floating("solve", t, [&](auto x) {
      using T = decltype(x);
      const Buffer matrices = addresses(batch, n * n, static_cast<const T*>(lu)), sides = addresses(batch, n * columns, static_cast<T*>(b));
      const T* const* list = static_cast<const T* const*>(matrices.data());
      T* const* solutions = static_cast<T* const*>(sides.data());
      const auto op = transpose ? CUBLAS_OP_T : CUBLAS_OP_N;
      int info = 0, size = static_cast<int>(n), cols = static_cast<int>(columns), count = static_cast<int>(batch);
      if constexpr (std::is_same_v<T, float>)
        check_cublas("cublasSgetrsBatched", cublasSgetrsBatched(cublas_, op, size, cols, list, size, pivots, solutions, size, &info, count));
      else
        check_cublas("cublasDgetrsBatched", cublasDgetrsBatched(cublas_, op, size, cols, list, size, pivots, solutions, size, &info, count));
    });
  }

 private:
  static void check_counts(const char* op, std::int64_t batch, std::int64_t n) {
    check(batch <= std::numeric_limits<int>::max() && n <= std::numeric_limits<int>::max(), op,
          ": at most 2^31 - 1 matrices and columns on a GPU; got ", batch, " and ", n);
  }

  /// Those of the matrices of a batch, in the GPU's memory, as cuBLAS and cuSOLVER take them.
  template <class T>
  Buffer addresses(std::int64_t batch, std::int64_t stride, T* first) const {
    std::vector<T*> each;
    for (std::int64_t i = 0; i < batch; ++i) each.push_back(first + i * stride);
    Buffer list(each.size() * sizeof(T*), Device::cuda);
    copy_from_host(list.data(), each.data(), list.bytes());
    return list;
  }

  /// Refuses what a factorisation could not do: `info` holds, for each matrix, 0 or the column counted from 1.
  void check_columns(const Buffer& info, std::int64_t batch, const char* rule, const char* what) const {
    std::vector<int> column(static_cast<std::size_t>(batch));
    copy_to_host(column.data(), info.data(), info.bytes());
    for (std::int64_t i = 0; i < batch; ++i)
      check(column[static_cast<std::size_t>(i)] == 0, rule, "; matrix ", i, " of ", batch, what, column[static_cast<std::size_t>(i)] - 1);
  }

  template <class T>
  void factor(std::int64_t batch, std::int64_t n, T* a) const {
    Buffer matrices = addresses(batch, n * n, a), info(static_cast<std::size_t>(batch) * sizeof(int), Device::cuda);
    T** list = static_cast<T**>(matrices.data());
    int *failed = static_cast<int*>(info.data()), size = static_cast<int>(n), count = static_cast<int>(batch);
    if constexpr (std::is_same_v<T, float>)
      check_cusolver("cusolverDnSpotrfBatched", cusolverDnSpotrfBatched(cusolver_, CUBLAS_FILL_MODE_UPPER, size, list, size, failed, count));
    else
      check_cusolver("cusolverDnDpotrfBatched", cusolverDnDpotrfBatched(cusolver_, CUBLAS_FILL_MODE_UPPER, size, list, size, failed, count));
    // What lies right of the diagonal in row i of all matrices is one block of a wide matrix, a row a problem.
    const std::size_t row = static_cast<std::size_t>(n) * sizeof(T);
    for (std::int64_t i = 0; i + 1 < n; ++i)
      check_cuda("cudaMemset2DAsync", cudaMemset2DAsync(a + i * n + i + 1, row * static_cast<std::size_t>(n), 0,
                 static_cast<std::size_t>(n - i - 1) * sizeof(T), static_cast<std::size_t>(batch), nullptr));
    check_columns(info, batch, "cholesky: the matrix must be positive definite", " is not at column ");
  }

  // Never destroyed, for the same reason that free() keeps silent.
  cublasHandle_t cublas_ = nullptr;
  cusolverDnHandle_t cusolver_ = nullptr;
};

}  // namespace

// Declared where they are used: backend_cpu.cpp and kernel.h.

const Backend& cuda_backend() {
  static const CudaBackend cuda;
  return cuda;
}

bool cuda_available() { return reason_unavailable().empty(); }

void check_launch() { check_cuda("a kernel's launch", cudaGetLastError()); }

}  // namespace optnet
