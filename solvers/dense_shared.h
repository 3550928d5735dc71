// Cholesky and gram of one problem's matrices, for those that a batch shares. Each entry takes the same operations in the same
// order as in a pack of problems (dense.h), since an answer must be the same, to the last bit, whether its matrices are shared or
// its own. There all lanes would do the same work; here a pack holds one column of neighbouring rows.
#pragma once

#include "solvers/dense.h"

#include <vector>

namespace optnet {

/// One thread on one problem, its rows side by side in packs.
struct RowsInPacks : OneThread {};

namespace dense {

constexpr int group_rows = Pack::lanes;
inline int groups_of(int rows) { return (rows + group_rows - 1) / group_rows; }

/// Rows of M in groups, one to a lane; the last group repeats the last row.  out [groups, columns]
inline void pack_rows(int rows, int columns, const double* M, int ld, Pack* out) {
  for (int g = 0; g < groups_of(rows); ++g) {
    const double* from[group_rows];
    row_pointers(from, M, ld, g * group_rows, rows);
    interleave(from, columns, out + g * columns);
  }
}
inline void unpack_rows(int rows, int columns, const Pack* in, double* M, int ld) {
  for (int i = 0; i < rows; i += group_rows, in += columns) {
    double* to[group_rows];
    for (int l = 0; l < group_rows; ++l) to[l] = M + (i + l) * ld;
    if (i + group_rows <= rows) {
      deinterleave(in, columns, to);
    } else {
      for (int l = 0; i + l < rows; ++l)
        for (int k = 0; k < columns; ++k) to[l][k] = in[k][l];
    }
  }
}

template <Inner inner>
  requires(inner == Inner::along_rows)
void gram(const RowsInPacks&, int n, int count, const double* X, int ldx, const double* M, int ldm, double* H, int ldh, Onto onto) {
  if (count == 0 && onto != Onto::replace) return;
  constexpr int R = 2, C = 6;  // groups and columns at a time
  thread_local std::vector<Pack> memory;  // grows once
  memory.resize(static_cast<std::size_t>(groups_of(n) * count));
  pack_rows(n, count, X, ldx, memory.data());
  for (int i = 0; i < n; i += R * group_rows)
    for (int j = 0; j < n && j < i + R * group_rows; j += C) {
      const Pack* x[R];
      const double* y[C];
      row_pointers(x, static_cast<const Pack*>(memory.data()), count, i / group_rows, groups_of(n));
      row_pointers(y, M, ldm, j, n);
      Pack acc[R][C];
      accumulate<R, C>(acc, x, y, count);
      for (int r = 0; r < R * group_rows && i + r < n; ++r)
        for (int c = 0; c < C && j + c <= i + r; ++c) apply(H[(i + r) * ldh + j + c], acc[r / group_rows][c][r % group_rows], onto);
    }
}

/// Packs that hold C rows: 1, but where a register holds two doubles.
template <int C>
constexpr int packs_of = (C + group_rows - 1) / group_rows;

/// One column block of the factorisation, for all rows of the groups from that of row j on; what comes to stand above the diagonal
/// has no meaning. `row` [C, ld] and `lanes` [packs_of<C>, ld] are working memory: rows j ... j+C-1, apart and in packs.
template <int C>
void factor_columns(int groups, int j, Pack* A, int ld, double* row, Pack* lanes) {
  constexpr int P = packs_of<C>, G = group_rows;
  const double* y[C];
  const Pack* own[P];
  for (int k = 0; k < j + C; ++k) {
    for (int q = 0; q < P; ++q) lanes[q * ld + k] = 0.0;
    for (int c = 0; c < C; ++c) {
      row[c * ld + k] = A[(j + c) / G * ld + k][(j + c) % G];
      lanes[c / G * ld + k].set(c % G, row[c * ld + k]);
    }
  }
  for (int c = 0; c < C; ++c) y[c] = row + c * ld;
  for (int q = 0; q < P; ++q) own[q] = lanes + q * ld;
  Pack sums[P][C], x[P][C];
  accumulate<P, C>(sums, own, y, j);
  double u[C][C], inverse[C];
  for (int c = 0; c < C; ++c) {
    for (int q = 0; q < P; ++q) {
      x[q][c] = own[q][j + c] - sums[q][c];
      for (int e = 0; e < c; ++e) x[q][c] -= x[q][e] * Pack(u[c][e]);
    }
    inverse[c] = inverse_root(x[c / G][c], own[c / G][j + c])[c % G];
    for (int q = 0; q < P; ++q) x[q][c] *= Pack(inverse[c]);
    for (int r = c + 1; r < C; ++r) u[r][c] = x[r / G][c][r % G];
  }
  constexpr int R = 4;
  for (int g = j / group_rows; g < groups; g += R) {
    const Pack* above[R];
    row_pointers(above, static_cast<const Pack*>(A), ld, g, groups);
    Pack acc[R][C];
    accumulate<R, C>(acc, above, y, j);
    for (int r = 0; r < R && g + r < groups; ++r) {
      Pack* a = A + (g + r) * ld + j;
      for (int c = 0; c < C; ++c) {
        Pack s = a[c] - acc[r][c];
        for (int e = 0; e < c; ++e) s -= a[e] * Pack(u[c][e]);
        a[c] = s * Pack(inverse[c]);
      }
    }
  }
  for (int c = 0; c < C; ++c) A[(j + c) / group_rows * ld + j + c].set((j + c) % group_rows, inverse[c]);
}

inline void cholesky(const RowsInPacks&, int rows, int n, double* A, int ld) {
  constexpr int C = 3;
  thread_local std::vector<Pack> memory;  // grows once
  thread_local std::vector<double> row;
  const int groups = groups_of(rows);
  memory.resize(static_cast<std::size_t>((groups + packs_of<C>) * n));
  row.resize(static_cast<std::size_t>(C * n));
  Pack *packed = memory.data(), *lanes = packed + groups * n;
  pack_rows(rows, n, A, ld, packed);
  int j = 0;
  for (; j + C <= n; j += C) factor_columns<C>(groups, j, packed, n, row.data(), lanes);
  for (; j < n; ++j) factor_columns<1>(groups, j, packed, n, row.data(), lanes);
  unpack_rows(rows, n, packed, A, ld);
}

}  // namespace dense
}  // namespace optnet
