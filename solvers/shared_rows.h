// What the search for active rows has in common where a batch shares Q, G and A: R, and if limits are shared too, a centre: the
// rows B that are active for q = 0. The solutions of a batch lie around it, and seen from there (K28) they differ in few rows.
#pragma once

#include "solvers/active_rows.h"
#include "solvers/batch.h"

#include <vector>

namespace optnet {

class SharedRows {
 public:
  /// R [rows, ldR], both triangles.
  SharedRows(const Sizes& sizes, const double* R, int ldR)
      : k_(sizes.rows()), R_(at(k_ * dense::row_packs(k_)), Pack(0.0)), unit_(at(dense::packs_for(k_)), Pack(0.0)) {
    double largest = 0;
    for (int i = 0; i < k_; ++i) std::copy_n(R + i * ldR, k_, row(R_, i)), largest = std::max(largest, R[i * ldR + i]);
    for (int i = 0; i < k_; ++i) row(unit_, 0)[i] = unit(root(R[i * ldR + i], largest));
    if (path(sizes).in_float) to_float();
  }

  /// sign(i) of the rows of B.
  template <class Sign>
  void set_centre(const Sign& sign) {
    held_.assign(at(dense::packs_for<FloatPack>(k_)), FloatPack(0.0f));
    for (int i = 0; i < k_; ++i)
      if (sign(i) != 0) B_.push_back(i), row(held_, 0)[i] = static_cast<float>(sign(i));
    if (B_.empty()) return;
    if (R_in_float_.empty()) to_float();
    form_M();
  }

  const Pack* R() const { return R_.data(); }
  /// Null where it is not searched in float.
  const FloatPack* R_in_float() const { return R_in_float_.empty() ? nullptr : R_in_float_.data(); }
  /// M and `held` are null if there is none.
  View<FloatPack> centre() const {
    if (B_.empty()) return {};
    return {M_.data(), held_.data(), B_.data(), static_cast<int>(B_.size())};
  }

 private:
  template <class P>
  using Packs = std::vector<P, BackendMemory<P>>;

  static std::size_t at(int i) { return static_cast<std::size_t>(i); }
  template <class S>
  S* row(Packs<PackOf<S>>& matrix, int i) const {
    return dense::entries(matrix.data() + i * dense::row_packs<PackOf<S>>(k_));
  }
  void to_float() {
    R_in_float_.resize(at(k_ * dense::row_packs<FloatPack>(k_)));
    ListedRows::to_float(k_, R_.data(), unit_.data(), R_in_float_.data());
  }

  /// -M is what is left of the rows below after the elimination of B, with the columns of I for the rows of B,
  ///     [ R_BB  I  R_BI ]
  ///     [  .    0   0   ]
  ///     [  .    .  R_II ]    the last two blocks in the order of R's rows.
  void form_M() {
    const int b = static_cast<int>(B_.size()), n = dense::packs_for(b) * Pack::lanes, size = n + dense::whole_pivots(k_), ld = dense::row_packs(size);
    Packs<Pack> A(at(size * ld), Pack(0.0)), V(at(n * ld));
    const float* held = row(held_, 0);
    const double* unit = row(unit_, 0);
    const auto entry = [&](int i, int j) -> double& { return dense::entries(A.data() + i * ld)[j]; };
    const auto R = [&](int i, int j) { return row(R_, i)[j] * unit[i] * unit[j]; };
    for (int a = 0; a < b; ++a) {
      const int i = B_[at(a)];
      for (int c = a; c < b; ++c) entry(a, c) = R(i, B_[at(c)]);
      for (int j = 0; j < k_; ++j) entry(a, n + j) = held[j] != 0 ? i == j : R(i, j);
    }
    for (int a = b; a < n; ++a) entry(a, a) = 1;
    for (int i = 0; i < k_; ++i)
      for (int j = i; held[i] == 0 && j < k_; ++j)
        if (held[j] == 0) entry(n + i, n + j) = R(i, j);
    dense::ldl_upper(n, size, A.data(), V.data(), ld);
    for (int j = n; j < size; j += dense::pivots) dense::subtract_products(n, V.data(), A.data(), ld, j, j / Pack::lanes, ld);
    M_.assign(at(k_ * dense::row_packs<FloatPack>(k_)), FloatPack(0.0f));
    for (int i = 0; i < k_; ++i)
      for (int j = 0; j < k_; ++j) row(M_, i)[j] = static_cast<float>(-entry(n + std::min(i, j), n + std::max(i, j)));
  }

  const int k_;
  Packs<Pack> R_, unit_;
  Packs<FloatPack> R_in_float_, held_, M_;
  std::vector<int> B_;
};

}  // namespace optnet
