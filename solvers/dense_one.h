// Small dense linear algebra of one problem, in packs along its rows: a row of a matrix is `ld` packs, which hold neighbouring
// entries. For work of which each problem has its own amount: packs of problems would do the work of the largest for each, as
// often as the slowest asks.
//
// GFLOP/s reached on one core of which dgemm takes 64 (AVX-512, Zen 5):
//                          n = 10    20    40    60   100
//     ldl_upper               3.6    14    31    50    71
//     in float                4.0    15    46    77   104
//     LAPACK's dpotrf         1.8   4.3   8.8    12    21
#pragma once

#include "solvers/dense.h"

#include <array>

namespace optnet::dense {

constexpr int pivots = Pack::lanes < 4 ? Pack::lanes : 4;  // rows eliminated at a time; one pack holds their entries

template <class S>
S* entries(PackOf<S>* x) {
  return reinterpret_cast<S*>(x);
}
template <class S>
const S* entries(const PackOf<S>* x) {
  return reinterpret_cast<const S*>(x);
}

/// Packs that hold `columns` entries; and the same for the rows of a matrix, off the powers of two.
template <class P = Pack>
int packs_for(int columns) {
  return (columns + P::lanes - 1) / P::lanes;
}
template <class P = Pack>
int row_packs(int columns) {
  return packs_for<P>(columns) % 8 == 0 ? packs_for<P>(columns) + 1 : packs_for<P>(columns);
}

/// n, up to whole groups of pivots.
inline int whole_pivots(int n) { return (n + pivots - 1) / pivots * pivots; }

/// t into entries j ... j+pivots-1 of a vector, of which `x` is the pack that holds them.
template <class S>
void put(const S (&t)[pivots], int j, PackOf<S>& x) {
  using P = PackOf<S>;
  const P lane = lane_numbers<P>();
  for (int c = 0; c < pivots; ++c) x = select(lane == P(j % P::lanes + c), P(t[c]), x);
}

/// Packs i ... i+R-1 of rows j ... j+pivots-1, less what rows 0 ... count-1 contribute: V_kj U_ki, summed over k.
template <int R, class P>
void subtract_products(int count, const P* V, P* U, int ld, int j, int i) {
  const P* x[R];
  const typename P::Scalar* y[pivots];
  for (int r = 0; r < R; ++r) x[r] = U + i + r;
  for (int c = 0; c < pivots; ++c) y[c] = entries(V) + j + c;
  P acc[R][pivots];
  accumulate<R, pivots>(acc, x, y, count, ld, ld * P::lanes);
  for (int c = 0; c < pivots; ++c)
    for (int r = 0; r < R; ++r) U[(j + c) * ld + i + r] -= acc[r][c];
}

/// subtract_products for packs i ... end-1.
template <class P>
void subtract_products(int count, const P* V, P* U, int ld, int j, int i, int end) {
  constexpr int R = register_bytes >= 64 ? 4 : 2;  // 4 x 4 sums take 16 registers of 32, 2 x 4 sums 8 of 16
  for (; i + R <= end; i += R) subtract_products<R>(count, V, U, ld, j, i);
  if constexpr (R == 4) {
    if (end - i == 3) return subtract_products<3>(count, V, U, ld, j, i);
    if (end - i == 2) return subtract_products<2>(count, V, U, ld, j, i);
  }
  if (end - i == 1) subtract_products<1>(count, V, U, ld, j, i);
}

/// inverse on the diagonal of rows j ... j+pivots-1, and 0 before it. Whole packs: an entry stored alone would have to reach memory
/// before the pack can be read.
template <class S>
void put_pivots(PackOf<S>* const (&row)[pivots], int first, int j, const S (&inverse)[pivots]) {
  using P = PackOf<S>;
  const P lane = lane_numbers<P>();
  for (int c = 0; c < pivots; ++c) {
    const P at = j + c - first * P::lanes;
    row[c][first] = select(lane > at, row[c][first], select(lane == at, P(inverse[c]), P(0)));
  }
}

/// The block of pivots alone: l [e][c] = U_ec above the diagonal, and 1 / D. A chain of divisions.
template <class S>
void factor_pivots(PackOf<S>* const (&row)[pivots], int j, const S (&diagonal)[pivots], S (&l)[pivots][pivots], S (&inverse)[pivots]) {
  constexpr S nothing = sizeof(S) == 8 ? 1e-15 : 5e-7;
  S a[pivots][pivots];
#pragma GCC unroll 4
  for (int c = 0; c < pivots; ++c) {
#pragma GCC unroll 4
    for (int e = 0; e <= c; ++e) {
      a[e][c] = entries(row[e])[j + c];
#pragma GCC unroll 4
      for (int k = 0; k < e; ++k) a[e][c] -= l[k][e] * a[k][c];
      if (e < c) l[e][c] = a[e][c] * inverse[e];
    }
    const S size = diagonal[c] < 0 ? -a[c][c] : a[c][c];  // a pivot has the sign of its diagonal entry, or is rounding
    inverse[c] = size > nothing * abs(diagonal[c]) ? 1 / a[c][c] : 0;  // see inverse_root
  }
}

/// A = U'DU, U's diagonal 1, for A positive definite, or quasi-definite in any order (Vanderbei 1995). In place: the upper triangle of
/// A's first n rows becomes U, with 1/D on the diagonal and 0 before it; columns n ... columns-1 become D^-1 U'^-1 times what they
/// were. V = DU. n is a multiple of `pivots`.  A, V [n, ld packs]
template <class P>
void ldl_upper(int n, int columns, P* A, P* V, int ld) {
  using S = typename P::Scalar;
  const int end = packs_for<P>(columns);
  for (int j = 0; j < n; j += pivots) {
    const int first = j / P::lanes, ahead = end - first < 2 ? end : first + 2;
    P* row[pivots];
    S l[pivots][pivots], inverse[pivots], diagonal[pivots];
    for (int c = 0; c < pivots; ++c) row[c] = A + (j + c) * ld, diagonal[c] = entries(row[c])[j + c];
    if (j) subtract_products(j, V, A, ld, j, first, ahead);
    factor_pivots(row, j, diagonal, l, inverse);
    if (j) subtract_products(j, V, A, ld, j, ahead, end);  // computed while those divisions wait for each other
    for (int i = first; i < end; ++i) {
      P x[pivots];
#pragma GCC unroll 4
      for (int c = 0; c < pivots; ++c) {
        x[c] = row[c][i];
#pragma GCC unroll 4
        for (int e = 0; e < c; ++e) x[c] -= P(l[e][c]) * x[e];
        V[(j + c) * ld + i] = x[c], row[c][i] = x[c] * P(inverse[c]);
      }
    }
    put_pivots(row, first, j, inverse);
  }
}

/// In place: x = D^-1 U'^-1 x.  x [ld packs]
inline void solve_upper_transposed(int n, const Pack* U, int ld, Pack* x) {
  const int end = packs_for(n);
  for (int j = 0; j < n; j += pivots) {
    const int first = j / Pack::lanes;
    const Pack* row[pivots];
    double t[pivots];
    for (int c = 0; c < pivots; ++c) {
      row[c] = U + (j + c) * ld, t[c] = entries(x)[j + c];
      for (int e = 0; e < c; ++e) t[c] -= entries(row[e])[j + c] * t[e];
    }
    for (int i = first; i < end; ++i)
      for (int c = 0; c < pivots; ++c) x[i] -= row[c][i] * Pack(t[c]);
    for (int c = 0; c < pivots; ++c) t[c] *= entries(row[c])[j + c];
    put(t, j, x[first]);
  }
}

/// In place: x = U^-1 x. Every entry waits for those after it: the freshest of them come last.
template <class P>
void solve_upper(int n, const P* U, int ld, P* x) {
  using S = typename P::Scalar;
  const int end = packs_for<P>(n);
  const P lane = lane_numbers<P>();
  for (int j = n - pivots; j >= 0; j -= pivots) {
    const int first = j / P::lanes;
    const P* row[pivots];
    S t[pivots];
    P dot[pivots], fresh = select(lane < P(j % P::lanes + pivots), P(0), x[first]);
    for (int c = 0; c < pivots; ++c) row[c] = U + (j + c) * ld, t[c] = entries(x)[j + c], dot[c] = 0.0;
    for (int i = end - 1; i > first; --i)
      for (int c = 0; c < pivots; ++c) dot[c] += row[c][i] * x[i];
    for (int c = 0; c < pivots; ++c) dot[c] += row[c][first] * fresh;
    fresh = x[first];
    for (int c = pivots - 1; c >= 0; --c) {
      t[c] -= sum_of_lanes(dot[c]);
      for (int e = pivots - 1; e > c; --e) t[c] -= entries(row[c])[j + e] * t[e];
      fresh = select(lane == P(j % P::lanes + c), P(t[c]), fresh);
    }
    x[first] = fresh;
  }
}

/// combine_rows for W packs.
template <int W, class P>
void combine_packs(int width, int count, const int* index, const typename P::Scalar* x, const P* M, int ld, P* out) {
  if constexpr (W > 1)
    if (width < W) return combine_packs<W - 1>(width, count, index, x, M, ld, out);
  typename P::Vector sum[W] = {};
  for (int a = 0; a < count; ++a) {
    const P* row = M + index[a] * ld;
    const P factor = x[a];
    for (int c = 0; c < W; ++c) sum[c] += factor.v * row[c].v;
  }
  for (int c = 0; c < W; ++c) out[c] = P(sum[c]);
}

/// out = sum over a of x_a times row index_a of M.  M [, ld packs], out [packs]
template <class P>
void combine_rows(int count, const int* index, const typename P::Scalar* x, int packs, const P* M, int ld, P* out) {
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
