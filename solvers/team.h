// Who runs a loop. The solver is written as loops over independent items, each followed by an implied barrier;
// a team says how they are shared out. On the CPU one thread runs them in order (its lanes are problems); a
// CUDA thread block would share them among its threads; the tests run them in a shuffled order, which gives
// another answer if items depend on each other.
#pragma once

#include "solvers/pack.h"

namespace optnet {

struct OneThread {
  template <class F>
  void for_each(int n, const F& f) const {
    for (int i = 0; i < n; ++i) f(i);
  }

  /// f(0) + ... + f(n-1); largest and smallest of f(i), starting from `start`.
  template <class T, class F>
  T sum(int n, const F& f) const {
    T total = 0.0;
    for (int i = 0; i < n; ++i) total += f(i);
    return total;
  }
  template <class T, class F>
  T largest(int n, T start, const F& f) const {
    for (int i = 0; i < n; ++i) start = max(f(i), start);
    return start;
  }
  template <class T, class F>
  T smallest(int n, T start, const F& f) const {
    for (int i = 0; i < n; ++i) start = min(f(i), start);
    return start;
  }
};

}  // namespace optnet
