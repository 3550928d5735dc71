// The rows of the table of ops in ops_test.cpp, and what makes them.
#pragma once

#include "tests/naive.h"

using Vars = std::vector<Var>;

struct Row {
  std::string op, what;                                           // the name on the tape; which case of it
  std::function<Var(const Vars&)> f;
  std::vector<Tensor> inputs;                                     // float64
  std::function<Tensor(const std::vector<Tensor>&)> formula = {};  // the value by other means, if there are any
};

/// Uniform numbers, other ones for each call.
inline Tensor some(const Shape& shape, double low = -2, double high = 2) {
  static Random random{17};
  return uniform(random, shape, low, high, float64);
}

/// An index or labels, on the device of `x`.
inline Tensor whole(std::vector<std::int64_t> numbers, const Var& x) {
  return from({static_cast<std::int64_t>(numbers.size())}, numbers).to(x.value().device());
}

/// A constant, there too.
inline Tensor beside(const Tensor& constant, const Var& x) { return constant.to(x.value().device()); }

void add_matmul(std::vector<Row>& rows);  // matrix_rows.cpp
void add_factorisations(std::vector<Row>& rows);
void add_triangles(std::vector<Row>& rows);
