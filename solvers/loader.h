// Loader: problems of a batch, one a lane, into a team's memory; as they were given, or equilibrated.
#pragma once

#include "solvers/batch.h"
#include "solvers/equilibrate.h"

#include <cmath>

namespace optnet {

template <class T, class E>
class Loader {
 public:
  Loader(const Batch& batch, const std::int64_t* elements, Workspace<T>& memory) : batch_(batch), elements_(elements), memory_(memory) {}

  /// As given. Matrices of plain numbers (E = double) are used in place, others copied into packs.
  Problem<T, E> load() {
    const auto& f = batch_.field;
    Problem<T, E> problem = vectors();
    if constexpr (std::is_same_v<E, double>) {
      problem.Q = batch_.Q_dense ? in_place(f.Q) : nullptr, problem.A = in_place(f.A), problem.G = in_place(f.G);
    } else {
      const Matrices<E> own = copies();
      problem.Q = own.Q, problem.A = own.A, problem.G = own.G;
    }
    give_G(problem);
    return problem;
  }

  /// What the active set's backward pass asks for: G, in packs if rows are masked, and A where no factor holds it.
  Problem<T, E> load_rows() {
    Problem<T, E> problem{batch_};
    if constexpr (std::is_same_v<E, double>) {
      problem.A = in_place(batch_.field.A), problem.G = in_place(batch_.field.G);
    } else {
      if (!batch_.Q_dense) problem.A = matrix(batch_.field.A, batch_.p * batch_.n);
      if (path(batch_).masked) problem.G = matrix(batch_.field.G, batch_.m * batch_.n);
    }
    give_G(problem);
    return problem;
  }

  /// Equilibrated. `shared` holds the batch's matrices and their scaling where they are shared; otherwise `kept`
  /// [Scaling::size()] receives the scaling, or gives it if `known`.
  Problem<T, E> load_scaled(const SharedMatrices& shared, T* kept, bool known) {
    Problem<T, E> problem = vectors();
    const Scaling<T> scaling(kept, batch_);
    T* diagonal = const_cast<T*>(problem.Q_diagonal);  // this loader's own, as all vectors are
    if constexpr (std::is_same_v<E, T>) {
      if (!batch_.shared) {
        Matrices<E> own = copies();
        own.Q_diagonal = diagonal;
        if (known)
          scale(batch_, own, scaling);
        else
          equilibrate(batch_, own, scaling, Scaling<T>(memory_.take(Scaling<T>::size(batch_)), batch_));
        problem.Q = own.Q, problem.A = own.A, problem.G = own.G;
      }
    }
    if (batch_.shared) {
      const auto use = [](const std::vector<double>& x) { return x.empty() ? nullptr : reinterpret_cast<const E*>(x.data()); };
      problem.Q = use(shared.Q), problem.A = use(shared.A), problem.G = use(shared.G);
      for (std::size_t i = 0; i + 2 < static_cast<std::size_t>(Scaling<T>::size(batch_)); ++i) kept[i] = shared.scaling[i];
      for (int i = 0; diagonal && i < batch_.n; ++i) diagonal[i] *= scaling.D[i] * scaling.D[i];
    }
    scale_vectors(problem, scaling);
    return problem;
  }

  /// Copies of the matrices, and nothing of those that are absent.
  Matrices<T> copies() {
    const auto& f = batch_.field;
    return {symmetric(batch_.Q_dense ? matrix(f.Q, batch_.n * batch_.n) : nullptr), nullptr, matrix(f.A, batch_.p * batch_.n),
            matrix(f.G, batch_.m * batch_.n)};
  }

  /// Whether the matrices that were copied hold finite numbers only; all others were checked by read().
  bool finite() const { return finite_; }

 private:
  /// All but the matrices.
  Problem<T, E> vectors() {
    const auto& f = batch_.field;
    Problem<T, E> problem{batch_};
    problem.q = vector(f.q, batch_.n);
    problem.b = vector(f.b, batch_.p);
    if (!batch_.Q_dense) problem.Q_diagonal = vector(f.Q ? f.Q : Field{&zero_, 0, 0}, batch_.n);
    problem.Q_margin = batch_.dtype == float32 ? 1e-6 : 1e-9;
    problem.row_memory = memory_.take(batch_.rows());
    load_sides(problem);
    return problem;
  }

  void give_G(Problem<T, E>& problem) const {
    const Field& G = batch_.field.G;
    for (int l = 0; G && l < lanes_of<T>; ++l) problem.given_G[l] = G.data + elements_[l] * G.element;
  }
  const double* in_place(const Field& field) const { return field ? field.data + elements_[0] * field.element : nullptr; }

  T* vector(const Field& field, int size) {
    T* out = memory_.take(size);
    for (int l = 0; l < lanes_of<T>; ++l)
      for (int i = 0; i < size; ++i) set_lane(out[i], l, field(elements_[l], i));
    return out;
  }

  T* matrix(const Field& field, int size) {
    if (!field) return nullptr;
    const double* rows[lanes_of<T>];
    for (int l = 0; l < lanes_of<T>; ++l) rows[l] = field.data + elements_[l] * field.element;
    T* out = memory_.take(size);
    finite_ &= interleave(rows, size, out);
    return out;
  }

  /// z'Qz sees only the symmetric part of Q. (read() saw to that of matrices used in place.)
  T* symmetric(T* Q) const {
    constexpr int tile = 8;  // rows at a time: a column's entries are far apart
    for (int first = 0; Q && first < batch_.n; first += tile)
      for (int j = 0; j < batch_.n; ++j)
        for (int i = std::max(first, j + 1); i < std::min(first + tile, batch_.n); ++i)
          Q[i * batch_.n + j] = Q[j * batch_.n + i] = 0.5 * Q[i * batch_.n + j] + 0.5 * Q[j * batch_.n + i];
    return Q;
  }

  /// d and mask: -low and high of every row, and whether they are finite.
  void load_sides(Problem<T, E>& problem) {
    T* d = memory_.take(batch_.sides());
    T* mask = memory_.take(batch_.sides());
    int at = 0;
    const auto block = [&](const Field& field, int size, double sign) {
      for (int l = 0; l < lanes_of<T>; ++l)
        for (int i = 0; i < size; ++i) {
          const bool finite = field && std::isfinite(field(elements_[l], i));
          set_lane(d[at + i], l, finite ? sign * field(elements_[l], i) : 0);
          set_lane(mask[at + i], l, finite ? 1 : 0);
        }
      at += size;
    };
    const int bounds = batch_.n * batch_.bounds;
    if (batch_.low) block(batch_.field.lower, bounds, -1), block(batch_.field.lower_g, batch_.m, -1);
    if (batch_.high) block(batch_.field.upper, bounds, 1), block(batch_.field.h, batch_.m, 1);
    problem.d = d;
    problem.mask = mask;
  }

  /// q, b and d by (K29). r is the size of the limits, if they are all large or all small; c brings the objective's largest
  /// coefficient to about 1.
  void scale_vectors(Problem<T, E>& problem, const Scaling<T>& by) const {
    T *q = const_cast<T*>(problem.q), *b = const_cast<T*>(problem.b), *d = const_cast<T*>(problem.d), *diagonal = const_cast<T*>(problem.Q_diagonal);
    T least = 1e300, most = 0.0, size = 0.0;
    const auto limit = [&](T& x, const T& factor) { x *= factor, most = max(most, abs(x)), least = min(least, select(x == T(0.0), T(1e300), abs(x))); };
    for (int i = 0; i < batch_.p; ++i) limit(b[i], by.E[i]);
    for (int i = 0; i < batch_.sides(); ++i) limit(d[i], by.row(batch_, i % batch_.rows()));
    const T r = *by.r = detail::each_lane(select(most > T(0.0), max(min(most, T(1.0)), select(least < T(1e300), least, T(0.0))), T(1.0)), detail::power);
    for (int i = 0; i < batch_.n; ++i) q[i] *= by.D[i] / r, size = max(size, abs(q[i]));
    for (int i = 0; diagonal && i < batch_.n; ++i) size = max(size, abs(diagonal[i]));
    for (int i = 0; problem.Q && i < batch_.n; ++i) size = max(size, abs(T(problem.Q[i * batch_.n + i])));  // where Q's largest entry is
    const T c = *by.c = 1.0 / detail::each_lane(size, detail::power);
    problem.Q_weight = c;
    for (int i = 0; i < batch_.n; ++i) q[i] *= c;
    for (int i = 0; diagonal && i < batch_.n; ++i) diagonal[i] *= c;
    for (int i = 0; i < batch_.p; ++i) b[i] = b[i] / r;
    for (int i = 0; i < batch_.sides(); ++i) d[i] = d[i] / r;
  }

  static constexpr double zero_ = 0;
  const Batch& batch_;
  const std::int64_t* elements_;
  Workspace<T>& memory_;
  bool finite_ = true;
};

}  // namespace optnet
