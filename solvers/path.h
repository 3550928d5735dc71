// What kind of problem it is, and which way it goes: the one place where that is chosen. What was measured is in
// docs/solver.md.
#pragma once

#include <cstdint>

namespace optnet {

/// The sizes of a QP and what kinds of rows and sides it has.
struct Sizes {
  int n = 0, p = 0, m = 0;                         // variables, equalities, rows of G
  bool bounds = false, low = false, high = false;  // whether C begins with I; whether rows have low and high sides
  bool Q_given = false, Q_dense = false;
  bool shared = false;                             // whether the batch shares all of Q, G and A
  bool centred = false;                            // whether no parameter but q comes with a batch axis

  int rows() const { return n * bounds + m; }
  int sides() const { return rows() * (low + high); }
  int high_side() const { return rows() * low; }  // low sides come first, then the high ones
  friend bool operator==(const Sizes&, const Sizes&) = default;
};

/// Which rows of C stand beside A in the linear system (kkt.h).
enum class Carry : std::uint8_t { none, G, all, A };  // A: what is kept of `all` for solves, the rows of C left out

struct Path {
  bool packs, copies, active_set, masked, in_float, centre;
  Carry carry;
};

/// The whole choice, by sizes and by what is shared, never by numbers or by the batch around: so an answer is the same anywhere.
///
///     n + p <= 256                          packs      several problems a register, a pack's matrices still in cache;
///                                                      beyond, one problem a thread, factored by LAPACK
///     packs, and Q, G or A not shared       copies     matrices are copied into packs, checked and made symmetric on the way
///     0 < rows <= 4n, 4096; p < n; Q given  active_set guessed first: R [rows, rows] costs no more than a few steps of the
///                                                      interior point, which solves all that is left, and all else
///     packs, rows <= 16                     masked     the guess by packs of problems, else problem by problem:
///     rows > 64                             in_float   first in float, where factorisations cost half, then in double
///     only q an element's own, rows <= n-p  centre     in float, from the solution for q = 0, around which the others lie; where
///                                                      rows are more, which start succeeds would depend on what is shared
///     0 < m <= 2n                           carry G    the interior point's G beside A, which costs more than G'WG in H
///                                                      where m is large, and keeps more digits
///
/// (QPOptions can forbid the active set, and qp_cpu.cpp leaves it where Q turns out badly conditioned.)
inline Path path(const Sizes& s) {
  const bool packs = s.n + s.p <= 256;
  return {.packs = packs,
          .copies = packs && !s.shared,
          .active_set = s.Q_given && s.rows() > 0 && s.rows() <= 4 * s.n && s.rows() <= 4096 && s.p < s.n,
          .masked = packs && s.rows() <= 16,
          .in_float = s.rows() > 64,
          .centre = packs && s.centred && s.rows() > 16 && s.rows() <= s.n - s.p,
          .carry = s.m > 0 && s.m <= 2 * s.n ? Carry::G : Carry::none};
}

}  // namespace optnet
