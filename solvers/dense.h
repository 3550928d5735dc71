// Small dense linear algebra on a team: products, gram matrices, Cholesky, triangular solves. Matrices are
// row-major with a leading dimension; their entries are the scalar T (double or Pack), or E = double where one
// matrix serves a pack of problems. Loops are tiled so that a tile stays in registers. Plain doubles, used for
// large problems, go to OpenBLAS and LAPACK.
//
// Flops: product 2mn; gram n^2 m (half of it symmetric); Cholesky n^3/3, and n^2 a carried row; solve n^2. GFLOP/s reached on one
// core of which dgemm takes 52 (AVX-512, Zen 4):
//                                             n = 10    20    40    60   100
//     cholesky, n rows carried, in packs          14    25    36    43    44
//     gram [n, n], in packs                       16    32    42    46    43
//     multiply, in packs                          37    43    29    28    25     (from n = 40 on by L2's speed)
// Kernels that have one problem's rows in a pack are in dense_one.h.
#pragma once

#include "solvers/team.h"

#include <cblas.h>
#include <lapacke.h>

#include <type_traits>
#include <vector>

namespace optnet::dense {

/// A leading dimension for rows of `columns` packs, off the powers of two, at which rows would share cache sets.
inline int leading_dimension(int columns) { return columns % 16 == 0 ? columns + 1 : columns; }

/// Whether the library does it: plain doubles, which are used for large problems.
template <class T, class E>
inline constexpr bool library = std::is_same_v<T, double> && std::is_same_v<E, double>;

// ---- register tiles -----------------------------------------------------------------------------------------------

/// acc[r][c] = sum_k X[r][k step] Y[c][k step]: the inner loop of everything cubic. 4 x 3 sums fill 12 of 16 registers
/// (as raw vectors: g++ 12 leaves arrays of structs in memory).
template <int R, int C, class T, class E>
[[gnu::noinline]] void accumulate(T (&acc)[R][C], const T* const (&X)[R], const E* const (&Y)[C], int count, int x_step = 1, int y_step = 1) {
  using V = decltype(raw(T{}));
  V sum[R][C] = {};
  for (int k = 0; k < count; ++k) {
    V y[C];
    for (int c = 0; c < C; ++c) y[c] = raw(T(Y[c][k * y_step])), stay_in_register(y[c]);
    for (int r = 0; r < R; ++r) {
      V x = raw(X[r][k * x_step]);
      stay_in_register(x);
      for (int c = 0; c < C; ++c) sum[r][c] += x * y[c];
    }
  }
  for (int r = 0; r < R; ++r)
    for (int c = 0; c < C; ++c) acc[r][c] = T(sum[r][c]);
}

/// Pointers to rows i, i+1, ...; past the last row they repeat it, and the tile's surplus results are dropped.
template <int R, class E>
inline void row_pointers(const E* (&out)[R], const E* M, int ld, int i, int rows) {
  for (int r = 0; r < R; ++r) out[r] = M + (i + r < rows ? i + r : rows - 1) * ld;
}

// ---- products -----------------------------------------------------------------------------------------------------

/// Sums at a time: one alone would wait for its own additions. Plain numbers come from a nearer cache than packs.
template <class T, class E>
constexpr int product_tile = std::is_same_v<T, E> ? 4 : 8;

/// sums[r] = sum_k M[r][k step] x[k]: accumulate() for one vector, where it is called.
template <int R, class T, class E>
inline void sums_of_products(T (&sums)[R], const E* const (&M)[R], const T* x, int count, int step = 1) {
  decltype(raw(T{})) sum[R] = {};
  for (int k = 0; k < count; ++k)
    for (int r = 0; r < R; ++r) sum[r] += raw(T(M[r][k * step])) * raw(x[k]);
  for (int r = 0; r < R; ++r) sums[r] = T(sum[r]);
}

/// f(i, sum_k M[i between + k step] x[k]) for i < count, k < depth.
template <class T, class E, class Team, class F>
[[gnu::always_inline]] inline void products(const Team& team, int count, int depth, const E* M, int between, int step, const T* x, const F& f) {
  constexpr int tile = product_tile<T, E>;
  team.for_each((count + tile - 1) / tile, [&](int block) {
    const int i = block * tile;
    const E* from[tile];
    row_pointers(from, M, between, i, count);
    T sums[tile];
    sums_of_products(sums, from, x, depth, step);
    for (int r = 0; r < tile && i + r < count; ++r) f(i + r, sums[r]);
  });
}

/// f(i, (M x)_i) for each row i. M [rows, columns] with leading dimension ld.
template <class T, class E, class Team, class F>
void multiply(const Team& team, int rows, int columns, const E* M, int ld, const T* x, const F& f) {
  products(team, rows, columns, M, ld, 1, x, f);
}

/// f(k, (M' x)_k) for each column k.
template <class T, class E, class Team, class F>
void multiply_transposed(const Team& team, int rows, int columns, const E* M, int ld, const T* x, const F& f) {
  products(team, columns, rows, M, 1, ld, x, f);
}

/// max |x_i|, and the sum of x_i y_i.
template <class T, class Team>
T norm(const Team& team, int count, const T* x) {
  return team.template largest<T>(count, T(0.0), [&](int i) { return abs(x[i]); });
}
template <class T, class Team>
T dot(const Team& team, int count, const T* x, const T* y) {
  return team.template sum<T>(count, [&](int i) { return x[i] * y[i]; });
}

/// X = diag(w) M.  M, X [rows, columns]
template <class T, class E, class Team>
void scale_rows(const Team& team, int rows, int columns, const E* M, const T* w, T* X) {
  team.for_each(rows, [&](int i) {
    for (int k = 0; k < columns; ++k) X[i * columns + k] = w[i] * M[i * columns + k];
  });
}

/// X = M diag(w).
template <class T, class E, class Team>
void scale_columns(const Team& team, int rows, int columns, const E* M, const T* w, T* X) {
  team.for_each(rows, [&](int i) {
    for (int k = 0; k < columns; ++k) X[i * columns + k] = w[k] * M[i * columns + k];
  });
}

/// How the operands of gram() lie: the inner axis runs along their rows (X M'), or down their columns (X' M).
enum class Inner { along_rows, down_columns };

/// What a product does to the matrix it comes to.
enum class Onto { replace, add, subtract };
template <class T>
inline void apply(T& h, const T& product, Onto onto) {
  h = onto == Onto::replace ? product : onto == Onto::add ? h + product : h - product;
}

/// X M' or X' M onto H, lower triangle only, for a product that is symmetric.  H [n, n], `count` the inner size
template <Inner inner, class T, class E, class Team>
void gram(const Team& team, int n, int count, const T* X, int ldx, const E* M, int ldm, T* H, int ldh, Onto onto) {
  constexpr bool rows = inner == Inner::along_rows;
  if (count == 0 && onto != Onto::replace) return;
  if constexpr (library<T, E>) {  // no routine forms half of such a product; blocks of rows waste little
    for (int i = 0, size; i < n; i += size) {
      size = n - i < 64 ? n - i : 64;
      cblas_dgemm(CblasRowMajor, rows ? CblasNoTrans : CblasTrans, rows ? CblasTrans : CblasNoTrans, size, i + size, count,
                  onto == Onto::subtract ? -1 : 1, X + i * (rows ? ldx : 1), ldx, M, ldm, onto == Onto::replace ? 0 : 1, H + i * ldh, ldh);
    }
    return;
  }
  constexpr int R = 4, C = 3;
  team.for_each((n + R - 1) / R, [&](int block) {
    const int i = block * R, last = i + R < n ? i + R : n;
    const T* x[R];
    row_pointers(x, X, rows ? ldx : 1, i, n);
    for (int j = 0; j < last; j += C) {
      const E* y[C];
      row_pointers(y, M, rows ? ldm : 1, j, n);
      T acc[R][C];
      accumulate<R, C>(acc, x, y, count, rows ? 1 : ldx, rows ? 1 : ldm);
      for (int r = 0; r < R && i + r < n; ++r)
        for (int c = 0; c < C && j + c <= i + r; ++c) apply(H[(i + r) * ldh + j + c], acc[r][c], onto);
    }
  });
}

// ---- Cholesky -----------------------------------------------------------------------------------------------------

/// 1 / the root of a pivot. One of about 0, in proportion to the diagonal entry it came from, belongs to a row
/// that depends on those before it: an infinite pivot takes that row out of the solve, without a branch.
template <class T>
inline T inverse_root(const T& pivot, const T& diagonal) {
  return select(pivot > 1e-15 * diagonal, 1.0 / sqrt(max(pivot, T(1e-300))), T(0.0));
}

/// One column block of width C of the left-looking factorisation, on rows j ... rows-1.
template <int C, class T, class Team>
void factor_columns(const Team& team, int rows, int j, T* A, int ld, T& lowest) {
  T *d[C], inverse[C];
  for (int c = 0; c < C; ++c) d[c] = A + (j + c) * ld;
  team.for_each(1, [&](int) {  // the diagonal block
    const T* rows_above[C];
    for (int c = 0; c < C; ++c) rows_above[c] = d[c];
    T acc[C][C];
    accumulate<C, C>(acc, rows_above, rows_above, j);
    for (int c = 0; c < C; ++c)
      for (int e = 0; e <= c; ++e) {
        const T a = d[c][j + e];
        T s = a - acc[c][e];
        for (int k = 0; k < e; ++k) s -= d[c][j + k] * d[e][j + k];
        d[c][j + e] = e < c ? s * d[e][j + e] : inverse_root(s, a);
        if (e == c) lowest = min(s, lowest);
      }
  });
  for (int c = 0; c < C; ++c) inverse[c] = d[c][j + c];
  constexpr int R = 4;
  const int first = j + C;
  team.for_each((rows - first + R - 1) / R, [&](int block) {  // the rows below, R at a time
    const int i = first + block * R;
    const T *X[R], *Y[C];
    row_pointers(X, static_cast<const T*>(A), ld, i, rows);
    for (int c = 0; c < C; ++c) Y[c] = d[c];
    T acc[R][C];
    accumulate<R, C>(acc, X, Y, j);
    for (int r = 0; r < R && i + r < rows; ++r)
      for (int c = 0; c < C; ++c) {
        T s = A[(i + r) * ld + j + c] - acc[r][c];
        for (int e = 0; e < c; ++e) s -= A[(i + r) * ld + j + e] * d[c][j + e];
        A[(i + r) * ld + j + c] = s * inverse[c];
      }
  });
}

/// The same by LAPACK; false, and A as it was, if a pivot is not positive. The unused upper triangle holds a copy.
inline bool library_cholesky(int rows, int n, double* A, int ld) {
  for (int i = 0; i < n; ++i)
    for (int k = 0; k < i; ++k) A[k * ld + i] = A[i * ld + k];
  thread_local std::vector<double> diagonal;  // grows once
  diagonal.resize(static_cast<std::size_t>(n));
  for (int i = 0; i < n; ++i) diagonal[i] = A[i * ld + i];
  if (LAPACKE_dpotrf_work(LAPACK_COL_MAJOR, 'U', n, A, ld) != 0) {  // the same memory, without a copy
    for (int i = 0; i < n; ++i) {
      for (int k = 0; k < i; ++k) A[i * ld + k] = A[k * ld + i];
      A[i * ld + i] = diagonal[i];
    }
    return false;
  }
  if (rows > n) cblas_dtrsm(CblasRowMajor, CblasRight, CblasLower, CblasTrans, CblasNonUnit, rows - n, n, 1, A, ld, A + n * ld, ld);
  for (int i = 0; i < n; ++i) A[i * ld + i] = 1 / A[i * ld + i];
  return true;
}

/// In place: the lower triangle of A's first n rows becomes L, A = L L', with 1/L_ii on the diagonal; the rows
/// below them, n ... rows-1, become A L'^-1. Left-looking: a column block is finished when it is reached.
/// Returns the lowest pivot: negative if A is not positive semidefinite.
template <class T, class Team>
T cholesky(const Team& team, int rows, int n, T* A, int ld) {
  constexpr int C = 3;
  T lowest = 1e300;
  int j = 0;
  if constexpr (std::is_same_v<T, double>)
    if (library_cholesky(rows, n, A, ld)) return 0.0;
  for (; j + C <= n; j += C) factor_columns<C>(team, rows, j, A, ld, lowest);
  for (; j < n; ++j) factor_columns<1>(team, rows, j, A, ld, lowest);
  return lowest;
}

// ---- triangular solves --------------------------------------------------------------------------------------------

constexpr int solve_block = 4;

/// In place: x = L^-1 x, with 1/L_ii stored on the diagonal. Row by row, as L lies in memory.
template <class T, class E, class Team>
void solve_lower(const Team& team, int n, const E* L, int ld, T* x) {
  for (int j = 0; j < n; j += solve_block)
    team.for_each(1, [&](int) {
      const E* row[solve_block];
      row_pointers(row, L, ld, j, n);
      T sums[solve_block];
      sums_of_products(sums, row, static_cast<const T*>(x), j);
      for (int c = 0; c < solve_block && j + c < n; ++c) {
        T s = x[j + c] - sums[c];
        for (int e = 0; e < c; ++e) s -= row[c][j + e] * x[j + e];
        x[j + c] = s * row[c][j + c];
      }
    });
}

/// In place: x = L'^-1 x.
template <class T, class E, class Team>
void solve_lower_transposed(const Team& team, int n, const E* L, int ld, T* x) {
  for (int j = (n - 1) / solve_block * solve_block; j >= 0; j -= solve_block) {
    const int width = n - j < solve_block ? n - j : solve_block;
    team.for_each(1, [&](int) {
      for (int c = width - 1; c >= 0; --c) {
        T s = x[j + c];
        for (int e = c + 1; e < width; ++e) s -= L[(j + e) * ld + j + c] * x[j + e];
        x[j + c] = s * L[(j + c) * ld + j + c];
      }
    });
    team.for_each(j, [&](int i) {
      T s = x[i];
      for (int c = 0; c < width; ++c) s -= L[(j + c) * ld + i] * x[j + c];
      x[i] = s;
    });
  }
}

}  // namespace optnet::dense
