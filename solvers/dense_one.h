// Small dense linear algebra of one problem, in packs along its rows: a row of a matrix is `ld` packs, which hold neighbouring
// entries. For work of which each problem has its own amount: packs of problems would do the work of the largest for each, as
// often as the slowest asks.
//
// GFLOP/s reached on one core of which dgemm takes 52 (AVX-512, Zen 4):
//                          n = 10    20    40    60   100
//     cholesky_upper          2.7    10    19    28    36
//     LAPACK's dpotrf         1.3   3.3   5.9   8.6    14
#pragma once

#include "solvers/dense.h"

#include <array>

namespace optnet::dense {

constexpr int pivots = Pack::lanes < 4 ? Pack::lanes : 4;  // rows eliminated at a time; one pack holds their entries

inline double* entries(Pack* x) { return reinterpret_cast<double*>(x); }
inline const double* entries(const Pack* x) { return reinterpret_cast<const double*>(x); }

/// Packs that hold `columns` entries; and the same for the rows of a matrix, off the powers of two.
inline int packs_for(int columns) { return (columns + Pack::lanes - 1) / Pack::lanes; }
inline int row_packs(int columns) { return packs_for(columns) % 8 == 0 ? packs_for(columns) + 1 : packs_for(columns); }

/// n, up to whole groups of pivots.
inline int whole_pivots(int n) { return (n + pivots - 1) / pivots * pivots; }

/// t into entries j ... j+pivots-1 of a vector, of which `x` is the pack that holds them.
inline void put(const double (&t)[pivots], int j, Pack& x) {
  const Pack lane = lane_numbers();
  for (int c = 0; c < pivots; ++c) x = select(lane == Pack(j % Pack::lanes + c), Pack(t[c]), x);
}

/// Packs i ... i+R-1 of rows j ... j+pivots-1, less what the rows above contribute: U_kj U_ki, summed over k < j.
template <int R>
void subtract_above(Pack* U, int ld, int j, int i) {
  const Pack* x[R];
  const double* y[pivots];
  for (int r = 0; r < R; ++r) x[r] = U + i + r;
  for (int c = 0; c < pivots; ++c) y[c] = entries(U) + j + c;
  Pack acc[R][pivots];
  accumulate<R, pivots>(acc, x, y, j, ld, ld * Pack::lanes);
  for (int c = 0; c < pivots; ++c)
    for (int r = 0; r < R; ++r) U[(j + c) * ld + i + r] -= acc[r][c];
}

/// subtract_above for packs i ... end-1.
inline void subtract_above(Pack* U, int ld, int j, int i, int end) {
  constexpr int R = Pack::lanes >= 8 ? 4 : 2;  // 4 x 4 sums take 16 registers of 32, 2 x 4 sums 8 of 16
  for (; i + R <= end; i += R) subtract_above<R>(U, ld, j, i);
  if constexpr (R == 4) {
    if (end - i == 3) return subtract_above<3>(U, ld, j, i);
    if (end - i == 2) return subtract_above<2>(U, ld, j, i);
  }
  if (end - i == 1) subtract_above<1>(U, ld, j, i);
}

/// inverse on the diagonal of rows j ... j+pivots-1, and 0 before it. Whole packs: an entry stored alone would have to reach memory
/// before the pack can be read.
inline void put_pivots(Pack* const (&row)[pivots], int first, int j, const double (&inverse)[pivots]) {
  const Pack lane = lane_numbers();
  for (int c = 0; c < pivots; ++c) {
    const Pack at = j + c - first * Pack::lanes;
    row[c][first] = select(lane > at, row[c][first], select(lane == at, Pack(inverse[c]), Pack(0.0)));
  }
}

/// The block of pivots alone: u [e][c] above the diagonal, and 1 / the diagonal. A chain of divisions; roots are not in it.
inline void factor_pivots(Pack* const (&row)[pivots], int j, const double (&diagonal)[pivots], double (&u)[pivots][pivots], double (&inverse)[pivots]) {
  double a[pivots][pivots], over_pivot[pivots][pivots], reciprocal[pivots];
#pragma GCC unroll 4
  for (int c = 0; c < pivots; ++c) {
#pragma GCC unroll 4
    for (int e = 0; e <= c; ++e) {
      a[e][c] = entries(row[e])[j + c];
#pragma GCC unroll 4
      for (int k = 0; k < e; ++k) a[e][c] -= over_pivot[k][e] * a[k][c];
      if (e < c) over_pivot[e][c] = a[e][c] * reciprocal[e], u[e][c] = a[e][c] * inverse[e];
    }
    reciprocal[c] = a[c][c] > 1e-15 * diagonal[c] ? 1 / a[c][c] : 0;  // see inverse_root
    inverse[c] = sqrt(reciprocal[c]);
  }
}

/// In place: the upper triangle of A's first n rows becomes U, A = U'U, with 1/U_ii on the diagonal and 0 before it; columns
/// n ... columns-1 become U'^-1 times what they were. n is a multiple of `pivots`. The first `done` rows and columns, whole
/// packs of them, are U already.  A [n, ld packs]
inline void cholesky_upper(int n, int columns, Pack* A, int ld, int done = 0) {
  const int end = packs_for(columns);
  for (int j = 0; j < n; j += pivots) {
    const int first = (j < done ? done : j) / Pack::lanes, ahead = end - first < 2 ? end : first + 2;
    Pack* row[pivots];
    double u[pivots][pivots], inverse[pivots], diagonal[pivots];
    for (int c = 0; c < pivots; ++c) row[c] = A + (j + c) * ld, diagonal[c] = entries(row[c])[j + c];
    if (j) subtract_above(A, ld, j, first, ahead);
    if (j < done)
      for (int c = 0; c < pivots; ++c)
        for (int e = 0; e <= c; ++e) (e < c ? u[e][c] : inverse[c]) = entries(row[e])[j + c];
    else
      factor_pivots(row, j, diagonal, u, inverse);
    if (j) subtract_above(A, ld, j, ahead, end);  // computed while those divisions wait for each other
    for (int i = first; i < end; ++i) {
      Pack x[pivots];
#pragma GCC unroll 4
      for (int c = 0; c < pivots; ++c) {
        x[c] = row[c][i];
#pragma GCC unroll 4
        for (int e = 0; e < c; ++e) x[c] -= Pack(u[e][c]) * x[e];
        x[c] *= Pack(inverse[c]);
        row[c][i] = x[c];
      }
    }
    if (j >= done) put_pivots(row, first, j, inverse);
  }
}

/// In place: x = U'^-1 x.  x [ld packs]
inline void solve_upper_transposed(int n, const Pack* U, int ld, Pack* x) {
  const int end = packs_for(n);
  for (int j = 0; j < n; j += pivots) {
    const int first = j / Pack::lanes;
    const Pack* row[pivots];
    double t[pivots];
    for (int c = 0; c < pivots; ++c) {
      row[c] = U + (j + c) * ld, t[c] = entries(x)[j + c];
      for (int e = 0; e < c; ++e) t[c] -= entries(row[e])[j + c] * t[e];
      t[c] *= entries(row[c])[j + c];
    }
    for (int i = first; i < end; ++i)
      for (int c = 0; c < pivots; ++c) x[i] -= row[c][i] * Pack(t[c]);
    put(t, j, x[first]);
  }
}

/// In place: x = U^-1 x. Every entry waits for those after it: the freshest of them come last, and 1/U_ii is multiplied in ahead.
inline void solve_upper(int n, const Pack* U, int ld, Pack* x) {
  const int end = packs_for(n);
  const Pack lane = lane_numbers();
  for (int j = n - pivots; j >= 0; j -= pivots) {
    const int first = j / Pack::lanes;
    const Pack* row[pivots];
    double t[pivots];
    Pack dot[pivots], fresh = select(lane < Pack(j % Pack::lanes + pivots), Pack(0.0), x[first]);
    for (int c = 0; c < pivots; ++c) row[c] = U + (j + c) * ld, t[c] = entries(x)[j + c], dot[c] = 0.0;
    for (int i = end - 1; i > first; --i)
      for (int c = 0; c < pivots; ++c) dot[c] += row[c][i] * x[i];
    for (int c = 0; c < pivots; ++c) dot[c] += row[c][first] * fresh;
    fresh = x[first];
    for (int c = pivots - 1; c >= 0; --c) {
      const double* u = entries(row[c]) + j;
      t[c] = (t[c] - sum_of_lanes(dot[c])) * u[c];
      for (int e = pivots - 1; e > c; --e) t[c] -= u[e] * u[c] * t[e];
      fresh = select(lane == Pack(j % Pack::lanes + c), Pack(t[c]), fresh);
    }
    x[first] = fresh;
  }
}

/// combine_rows for W packs.
template <int W>
void combine_packs(int width, int count, const int* index, const double* x, const Pack* M, int ld, Pack* out) {
  if constexpr (W > 1)
    if (width < W) return combine_packs<W - 1>(width, count, index, x, M, ld, out);
  Pack::Vector sum[W] = {};
  for (int a = 0; a < count; ++a) {
    const Pack* row = M + index[a] * ld;
    const Pack factor = x[a];
    for (int c = 0; c < W; ++c) sum[c] += factor.v * row[c].v;
  }
  for (int c = 0; c < W; ++c) out[c] = Pack(sum[c]);
}

/// out = sum over a of x_a times row index_a of M.  M [, ld packs], out [packs]
inline void combine_rows(int count, const int* index, const double* x, int packs, const Pack* M, int ld, Pack* out) {
  constexpr int most = 8;  // sums in registers; as equal shares as can be, since a single one would wait for itself
  const int shares = (packs + most - 1) / most;
  for (int i = 0, s = 0; s < shares; ++s) {
    const int width = (packs - i) / (shares - s);
    combine_packs<most>(width, count, index, x, M + i, ld, out + i);
    i += width;
  }
}

// Rows of a matrix of plain numbers, as it was given: n entries next to each other, wherever they begin.

/// out[r] = row r times x.
template <std::size_t R>
void multiply_rows(const std::array<const double*, R>& row, int n, const double* x, double* out) {
  Pack::Vector sum[R] = {};
  int k = 0;
  for (; k + Pack::lanes <= n; k += Pack::lanes)
    for (std::size_t r = 0; r < R; ++r) sum[r] += load(row[r] + k).v * load(x + k).v;
  for (std::size_t r = 0; r < R; ++r) {
    out[r] = sum_of_lanes(Pack(sum[r]));
    for (int i = k; i < n; ++i) out[r] += row[r][i] * x[i];
  }
}

/// x += the sum over r of y[r] times row r.
template <std::size_t R>
void add_rows(const std::array<const double*, R>& row, int n, const double* y, double* x) {
  int k = 0;
  for (; k + Pack::lanes <= n; k += Pack::lanes) {
    Pack sum = load(x + k);
    for (std::size_t r = 0; r < R; ++r) sum += Pack(y[r]) * load(row[r] + k);
    store(sum, x + k);
  }
  for (; k < n; ++k)
    for (std::size_t r = 0; r < R; ++r) x[k] += y[r] * row[r][k];
}

}  // namespace optnet::dense
