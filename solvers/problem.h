// Problem: what one team solves, a QP (or a pack of QPs) in standard form,
//     minimise 1/2 z'Qz + q'z   subject to   A z = b,   low <= C z <= high,        (K1) of docs/optnet.md
// where the rows of C are I, if variables have bounds, and G. Each row has up to two sides: C z <= high and
// -C z <= -low. A side that is infinite in some element is masked: it counts nowhere.
#pragma once

#include "solvers/dense.h"
#include "solvers/path.h"
#include "solvers/qp.h"

namespace optnet {

/// E is the type of the matrices' entries: double where the batch shares Q, G and A, else T.
template <class T, class E>
struct Problem : Sizes {
  const E* Q = nullptr;                // [n, n], to be multiplied by Q_weight; or null if Q is diagonal
  T Q_weight = 1.0;
  const T* Q_diagonal = nullptr;       // [n], or null
  double Q_margin = 1e-9;              // how far below 0, relative to Q, rounding may take its eigenvalues
  const E* A = nullptr;                // [p, n]
  const E* G = nullptr;                // [m, n]
  const double* given_G[lanes_of<T>] = {};  // of each lane, as it was given
  const T *q = nullptr, *b = nullptr;  // [n], [p]
  const T *d = nullptr, *mask = nullptr;  // [sides]: -low and high, and 1 where they are finite, else 0
  T* row_memory = nullptr;             // [rows]: for sums over the two sides of a row

  /// f(i, (Q x)_i)
  template <class Team, class F>
  void multiply_Q(const Team& team, const T* x, const F& f) const {
    if (Q_diagonal)
      team.for_each(n, [&](int i) { f(i, Q_diagonal[i] * x[i]); });
    else
      dense::multiply(team, n, n, Q, n, x, [&](int i, const T& Qx) { f(i, Q_weight * Qx); });
  }

  /// f(i, (C x)_i) over all rows
  template <class Team, class F>
  void multiply_rows(const Team& team, const T* x, const F& f) const {
    if (bounds) team.for_each(n, [&](int i) { f(i, x[i]); });
    if (m) dense::multiply(team, m, n, G, n, x, [&](int i, const T& Gx) { f(n * bounds + i, Gx); });
  }

  /// f(i, (C' y)_i) over all variables, for y over all rows
  template <class Team, class F>
  void multiply_rows_transposed(const Team& team, const T* y, const F& f) const {
    if (m)
      dense::multiply_transposed(team, m, n, G, n, y + n * bounds, [&](int i, const T& Gy) { f(i, bounds ? y[i] + Gy : Gy); });
    else
      team.for_each(n, [&](int i) { f(i, bounds ? y[i] : T(0.0)); });
  }

  /// f(side, value): minus (C x)_i for the low side of row i, (C x)_i for its high side
  template <class Team, class F>
  void multiply_sides(const Team& team, const T* x, const F& f) const {
    multiply_rows(team, x, [&](int i, const T& Cx) {
      if (low) f(i, -Cx);
      if (high) f(high_side() + i, Cx);
    });
  }

  /// f(i, value_i): the transpose of multiply_sides, for y over all sides
  template <class Team, class F>
  void multiply_sides_transposed(const Team& team, const T* y, const F& f) const {
    if (!low) return multiply_rows_transposed(team, y, f);
    team.for_each(rows(), [&](int i) { row_memory[i] = high ? y[high_side() + i] - y[i] : -y[i]; });
    multiply_rows_transposed(team, row_memory, f);
  }
};

/// Where a method stands, and with what result: one problem, or a pack of them.
template <class T>
struct Iterate {
  T *z, *nu, *s, *lambda;  // [n], [p], [sides], [sides]
  QPStatus status[lanes_of<T>];
  int iterations[lanes_of<T>];
  T objective, primal_residual, dual_residual, gap;
};

/// Memory for one team, taken piece by piece before the loop begins and reused from problem to problem.
template <class T>
class Workspace {
 public:
  void reset() { used_ = 0; }
  T* take(int count) {
    if (blocks_.size() <= used_) blocks_.emplace_back();
    std::vector<T>& block = blocks_[used_++];
    if (block.size() < static_cast<std::size_t>(count)) block.resize(static_cast<std::size_t>(count));
    return block.data();
  }

 private:
  std::vector<std::vector<T>> blocks_;
  std::size_t used_ = 0;
};

}  // namespace optnet
