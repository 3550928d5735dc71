// The CPU's side of the waist: aligned memory, and dense linear algebra by OpenBLAS and LAPACKE. OpenBLAS runs
// single-threaded inside; threads are ours and share out whole matrices, or fixed blocks of rows, so that a
// result never depends on how many there are.
#include "framework/backend.h"

#include <cblas.h>
#include <lapacke.h>
#include <omp.h>
#include <sys/mman.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <exception>
#include <mutex>
#include <new>
#include <utility>
#include <vector>

extern "C" void openblas_set_num_threads(int);

namespace optnet {
namespace {

constexpr std::size_t huge_page = std::size_t{1} << 21;

/// A cache line, which is the widest vector register too; large blocks in huge pages, whose addresses a core can keep in mind:
/// streams of numbers gain a sixth.
constexpr std::align_val_t alignment_of(std::size_t size) { return std::align_val_t{size >= 2 * huge_page ? huge_page : 64}; }

void* system_block(std::size_t size) {
  void* const memory = ::operator new(size ? size : 1, alignment_of(size), std::nothrow);
#ifdef MADV_HUGEPAGE
  if (memory && size >= 2 * huge_page) madvise(memory, size, MADV_HUGEPAGE);  // where the system has none, nothing changes
#endif
  return memory;
}
void release(void* memory, std::size_t size) { ::operator delete(memory, alignment_of(size)); }

constexpr std::size_t least_kept = 1 << 16, most_kept = 1 << 30;  // bytes of a block, bytes in all
#if defined(__SANITIZE_ADDRESS__)  // which must see blocks go
constexpr bool keep_blocks = false;
#elif defined(__has_feature)
constexpr bool keep_blocks = !__has_feature(address_sanitizer);
#else
constexpr bool keep_blocks = true;
#endif

/// Large blocks that were freed and wait for the next of their size: the system gives memory page by page, which takes
/// longer than an addition of the numbers in it. Needs no destructor, as static tensors may go after it.
class FreedBlocks {
 public:
  /// The size of a block for so many bytes: one of eight from each power of two to the next, at most 1/8 too large.
  static std::size_t size_for(std::size_t bytes) {
    if (!keeps(bytes)) return bytes;
    const std::size_t step = std::bit_floor(bytes) / 8;
    return (bytes + step - 1) / step * step;
  }
  static bool keeps(std::size_t size) { return keep_blocks && size >= least_kept && size <= most_kept; }

  /// Null if none of this size is there.
  void* take(std::size_t size) {
    const std::lock_guard lock(mutex_);
    Block*& list = list_of(size);
    Block* const block = list;
    if (block) list = block->next, bytes_ -= size;
    return block;
  }

  void keep(void* memory, std::size_t size) {
    const std::lock_guard lock(mutex_);
    if (bytes_ + size > most_kept) clear();  // of sizes, perhaps, that nobody asks for any more
    Block*& list = list_of(size);
    list = ::new (memory) Block{list};
    bytes_ += size;
  }

 private:
  struct Block {  // the first bytes of a freed one
    Block* next;
  };

  Block*& list_of(std::size_t size) {
    const auto power = static_cast<std::size_t>(std::bit_width(size) - 1);
    return lists_[8 * (power - 16) + (size >> (power - 3)) - 8];
  }
  static std::size_t size_of_list(std::size_t i) { return (8 + i % 8) << (i / 8 + 13); }

  void clear() {
    for (std::size_t i = 0; i < std::size(lists_); ++i)
      while (lists_[i]) release(std::exchange(lists_[i], lists_[i]->next), size_of_list(i));
    bytes_ = 0;
  }

  std::mutex mutex_;
  std::size_t bytes_ = 0;
  Block* lists_[8 * 14 + 1] = {};  // from 2^16 to 2^30 bytes
};

constinit FreedBlocks freed;

template <class T>
void gemm_one(const Gemm& g, std::int64_t first, std::int64_t rows, const T* a, const T* b, T* c) {
  const auto ta = g.transpose_a ? CblasTrans : CblasNoTrans, tb = g.transpose_b ? CblasTrans : CblasNoTrans;
  const int m = static_cast<int>(rows), n = static_cast<int>(g.n), k = static_cast<int>(g.k);
  const int lda = static_cast<int>(g.row_a()), ldb = static_cast<int>(g.row_b()), ldc = static_cast<int>(g.row_c());
  const T beta = g.accumulate ? 1 : 0;
  a += g.transpose_a ? first : first * lda;
  c += first * ldc;
  if constexpr (std::is_same_v<T, float>)
    cblas_sgemm(CblasRowMajor, ta, tb, m, n, k, 1, a, lda, b, ldb, beta, c, ldc);
  else
    cblas_dgemm(CblasRowMajor, ta, tb, m, n, k, 1, a, lda, b, ldb, beta, c, ldc);
}

template <class T>
void gemm_all(const Gemm& g, const T* a, const T* b, T* c) {
  constexpr std::int64_t block = 64;  // rows a task: fixed, so that the split never depends on the threads
  const std::int64_t blocks = (g.m + block - 1) / block;
  const bool parallel = 2 * g.batch * g.m * g.n * g.k > 1'000'000 && g.batch * blocks > 1 && threads() > 1;
#pragma omp parallel for collapse(2) schedule(static) num_threads(threads()) if (parallel)
  for (std::int64_t i = 0; i < g.batch; ++i)
    for (std::int64_t j = 0; j < blocks; ++j)
      gemm_one(g, j * block, std::min(block, g.m - j * block), a + i * g.stride_a, b + i * g.stride_b, c + i * g.m * g.row_c());
}

template <class T>
int cholesky_one(std::int64_t n, T* a) {
  const int size = static_cast<int>(n);
  int info;
  if constexpr (std::is_same_v<T, float>)
    info = LAPACKE_spotrf_work(LAPACK_ROW_MAJOR, 'L', size, a, size);
  else
    info = LAPACKE_dpotrf_work(LAPACK_ROW_MAJOR, 'L', size, a, size);
  for (std::int64_t i = 0; i < n; ++i) {
    std::fill(a + i * n + i + 1, a + (i + 1) * n, T(0));
    if (info == 0 && !(a[i * n + i] > 0)) info = static_cast<int>(i) + 1;  // NaN, which OpenBLAS lets pass
  }
  return info;
}

template <class T>
void solve_lower_one(std::int64_t n, std::int64_t columns, bool transpose, const T* l, T* b) {
  const auto t = transpose ? CblasTrans : CblasNoTrans;
  const int rows = static_cast<int>(n), cols = static_cast<int>(columns);
  if constexpr (std::is_same_v<T, float>)
    cblas_strsm(CblasRowMajor, CblasLeft, CblasLower, t, CblasNonUnit, rows, cols, 1, l, rows, b, cols);
  else
    cblas_dtrsm(CblasRowMajor, CblasLeft, CblasLower, t, CblasNonUnit, rows, cols, 1, l, rows, b, cols);
}

/// The column without a pivot, or -1.
template <class T>
std::int64_t lu_one(std::int64_t n, T* a, int* pivots) {
  const int size = static_cast<int>(n);
  if constexpr (std::is_same_v<T, float>)
    LAPACKE_sgetrf_work(LAPACK_COL_MAJOR, size, size, a, size, pivots);
  else
    LAPACKE_dgetrf_work(LAPACK_COL_MAJOR, size, size, a, size, pivots);
  for (std::int64_t i = 0; i < n; ++i)
    if (a[i * n + i] == 0) return i;
  return -1;
}

template <class T>
void solve_lu_one(std::int64_t n, std::int64_t columns, bool transpose, const T* lu, const int* pivots, T* b) {
  const char t = transpose ? 'T' : 'N';
  const int size = static_cast<int>(n), cols = static_cast<int>(columns);
  if constexpr (std::is_same_v<T, float>)
    LAPACKE_sgetrs_work(LAPACK_COL_MAJOR, t, size, cols, lu, size, pivots, b, size);
  else
    LAPACKE_dgetrs_work(LAPACK_COL_MAJOR, t, size, cols, lu, size, pivots, b, size);
}

class CpuBackend : public Backend {
 public:
  CpuBackend() { openblas_set_num_threads(1); }

  void* allocate(std::size_t bytes) const override {
    const std::size_t size = FreedBlocks::size_for(bytes);
    void* memory = FreedBlocks::keeps(size) ? freed.take(size) : nullptr;
    if (!memory) memory = system_block(size);
    check(memory != nullptr, "cpu: out of memory: ", bytes, " bytes asked for");
    return memory;
  }
  void free(void* memory, std::size_t bytes) const noexcept override {
    const std::size_t size = FreedBlocks::size_for(bytes);
    if (FreedBlocks::keeps(size)) return freed.keep(memory, size);
    release(memory, size);
  }
  void copy(void* to, const void* from, std::size_t bytes) const override { std::memcpy(to, from, bytes); }
  void copy_from_host(void* to, const void* from, std::size_t bytes) const override { std::memcpy(to, from, bytes); }
  void copy_to_host(void* to, const void* from, std::size_t bytes) const override { std::memcpy(to, from, bytes); }

  void gemm(DType t, const Gemm& g, const void* a, const void* b, void* c) const override {
    if (g.m == 0 || g.n == 0 || g.batch == 0) return;
    if (g.k == 0) {  // an empty sum; BLAS wants leading dimensions of at least 1
      for (std::int64_t row = 0; row < g.batch * g.m && !g.accumulate; ++row)
        std::memset(static_cast<char*>(c) + static_cast<std::size_t>(row * g.row_c()) * size_of(t), 0, static_cast<std::size_t>(g.n) * size_of(t));
      return;
    }
    dispatch_floating("matmul", t, [&](auto x) {
      using T = decltype(x);
      gemm_all(g, static_cast<const T*>(a), static_cast<const T*>(b), static_cast<T*>(c));
    });
  }

  void cholesky(DType t, std::int64_t batch, std::int64_t n, void* a) const override {
    dispatch_floating("cholesky", t, [&](auto x) {
      using T = decltype(x);
      std::vector<int> info(static_cast<std::size_t>(batch));
#pragma omp parallel for schedule(static) num_threads(threads()) if (batch > 1 && batch * n * n * n > 1'000'000)
      for (std::int64_t i = 0; i < batch; ++i)
        info[static_cast<std::size_t>(i)] = n ? cholesky_one(n, static_cast<T*>(a) + i * n * n) : 0;
      for (std::int64_t i = 0; i < batch; ++i)
        check(info[static_cast<std::size_t>(i)] == 0, "cholesky: the matrix must be positive definite; matrix ", i,
              " of ", batch, " is not at column ", info[static_cast<std::size_t>(i)] - 1);
    });
  }

  void solve_lower(DType t, std::int64_t batch, std::int64_t n, std::int64_t columns, bool transpose, const void* l,
                   void* b) const override {
    if (n == 0 || columns == 0) return;
    dispatch_floating("solve_lower", t, [&](auto x) {
      using T = decltype(x);
#pragma omp parallel for schedule(static) num_threads(threads()) if (batch > 1 && batch * n * n * columns > 1'000'000)
      for (std::int64_t i = 0; i < batch; ++i)
        solve_lower_one(n, columns, transpose, static_cast<const T*>(l) + i * n * n, static_cast<T*>(b) + i * n * columns);
    });
  }

  void lu(DType t, std::int64_t batch, std::int64_t n, void* a, int* pivots) const override {
    if (n == 0) return;
    dispatch_floating("solve", t, [&](auto x) {
      using T = decltype(x);
      std::vector<std::int64_t> column(static_cast<std::size_t>(batch));
#pragma omp parallel for schedule(static) num_threads(threads()) if (batch > 1 && batch * n * n * n > 1'000'000)
      for (std::int64_t i = 0; i < batch; ++i)
        column[static_cast<std::size_t>(i)] = lu_one(n, static_cast<T*>(a) + i * n * n, pivots + i * n);
      for (std::int64_t i = 0; i < batch; ++i)
        check(column[static_cast<std::size_t>(i)] < 0, "solve: the matrix must not be singular; matrix ", i, " of ", batch,
              " has no pivot in column ", column[static_cast<std::size_t>(i)]);
    });
  }

  void solve_lu(DType t, std::int64_t batch, std::int64_t n, std::int64_t columns, bool transpose, const void* lu,
                const int* pivots, void* b) const override {
    if (n == 0 || columns == 0) return;
    dispatch_floating("solve", t, [&](auto x) {
      using T = decltype(x);
#pragma omp parallel for schedule(static) num_threads(threads()) if (batch > 1 && batch * n * n * columns > 1'000'000)
      for (std::int64_t i = 0; i < batch; ++i)
        solve_lu_one(n, columns, transpose, static_cast<const T*>(lu) + i * n * n, pivots + i * n, static_cast<T*>(b) + i * n * columns);
    });
  }
};

int thread_count = std::min(omp_get_max_threads(), 1024);

}  // namespace

int threads() { return thread_count; }

void set_threads(int count) {
  check(count >= 1 && count <= 1024, "set_threads: the number of threads must lie in [1, 1024]; got ", count);
  thread_count = count;
}

#ifdef OPTNET_CUDA
const Backend& cuda_backend();  // backend_cuda.cpp
bool cuda_available();
#endif

const Backend& backend(Device device) {
  static const CpuBackend cpu;
  if (device == Device::cpu) return cpu;
#ifdef OPTNET_CUDA
  return cuda_backend();
#else
  fail("device: this build has no CUDA; build with make CUDA=1");
#endif
}

bool available(Device device) {
#ifdef OPTNET_CUDA
  return device == Device::cpu || cuda_available();
#else
  return device == Device::cpu;
#endif
}

}  // namespace optnet
