// The rows of matrices in the table of ops_test.cpp: products, factorisations, diagonals and triangles.
#include "tests/op_rows.h"

void add_matmul(std::vector<Row>& rows) {
  const std::pair<Shape, Shape> batches[] = {{{}, {}}, {{3}, {3}}, {{3}, {}}, {{}, {3}}, {{2, 1}, {3}}, {{2, 3}, {1, 1}}, {{0}, {}}, {{2}, {0, 1}}};
  const auto with = [](Shape batch, std::int64_t rows, std::int64_t columns, bool transpose) {
    batch.push_back(transpose ? columns : rows);
    batch.push_back(transpose ? rows : columns);
    return batch;
  };
  for (const auto& [a, b] : batches)
    for (std::int64_t k : {4, 1, 0})
      for (bool ta : {false, true})
        for (bool tb : {false, true})
          rows.push_back({"matmul", std::string(ta ? "a'" : "a") + (tb ? "b'" : "b"),
                          [=](const Vars& v) { return matmul(v[0], v[1], {ta, tb}); }, {some(with(a, 2, k, ta)), some(with(b, k, 3, tb))},
                          [=](const auto& x) { return naive_matmul(x[0], x[1], {ta, tb}); }});
  rows.push_back({"matmul", "of a matrix and itself", [](const Vars& v) { return matmul(v[0], v[0], {.transpose_b = true}); }, {some({3, 2})}});
}

void add_factorisations(std::vector<Row>& rows) {
  const auto identity_like = [](const Var& x) { return Var(beside(eye(x.size(-1), float64), x)); };
  const std::pair<Shape, Shape> systems[] = {{{3, 3}, {3, 2}}, {{1, 1}, {1, 1}}, {{2, 4, 4}, {2, 4, 1}}, {{0, 2, 2}, {0, 2, 3}},
                                             {{2, 0, 0}, {2, 0, 1}}, {{2, 2}, {2, 0}}};
  for (const auto& [a, b] : systems) {
    rows.push_back({"cholesky", "of products",
                    [=](const Vars& v) { return cholesky(matmul(v[0], v[0], {.transpose_b = true}) + identity_like(v[0])); }, {some(a)}});
    rows.push_back({"cholesky", "of sums",
                    [=](const Vars& v) { return cholesky(v[0] + transpose(v[0]) + 20.0 * identity_like(v[0])); }, {some(a)}});
    for (bool transpose : {false, true})
      rows.push_back({"solve_lower", transpose ? "transposed" : "",
                      [=](const Vars& v) { return solve_lower(v[0], v[1], {transpose}); }, {some(a, 1, 2), some(b)}});
    rows.push_back({"solve_lower", "one constant",
                    [l = some(a, 1, 2)](const Vars& v) { return solve_lower(beside(l, v[0]), v[0]); }, {some(b)}});
    rows.push_back({"solve", "with pivots off the diagonal",
                    [=](const Vars& v) { return solve(flip(v[0] + 5.0 * identity_like(v[0]), -2), v[1]); }, {some(a), some(b)}});
    rows.push_back({"solve", "one constant",
                    [=, b = some(b)](const Vars& v) { return solve(v[0] + 5.0 * identity_like(v[0]), beside(b, v[0])); }, {some(a)}});
  }
  for (const auto& [a, b] : {std::pair{Shape{3}, Shape{2}}, {{1}, {1}}, {{2, 3}, {2, 4}}, {{2, 1, 3}, {4, 2}}, {{0}, {3}}})
    rows.push_back({"mul", "outer", [](const Vars& v) { return outer(v[0], v[1]); }, {some(a), some(b)}, [](const auto& x) {
                      Shape column = x[0].shape(), row(x[1].shape().begin(), x[1].shape().end() - 1);
                      column.push_back(1), row.push_back(1), row.push_back(x[1].size(-1));
                      return naive_matmul(x[0].reshape(column), x[1].reshape(row));
                    }});
}

void add_triangles(std::vector<Row>& rows) {
  for (const Shape& shape : {Shape{3}, Shape{1}, Shape{2, 3}, Shape{0}, Shape{2, 0}, Shape{0, 3}})
    rows.push_back({"diag", "", [](const Vars& v) { return diag(v[0]); }, {some(shape)}, [](const auto& x) {
                      Shape column = x[0].shape();
                      column.push_back(1);
                      return x[0].reshape(column) * eye(x[0].size(-1), float64);
                    }});
  for (const Shape& shape : {Shape{3, 3}, Shape{1, 1}, Shape{2, 4, 4}, Shape{0, 0}, Shape{0, 2, 2}})
    rows.push_back({"diagonal", "", [](const Vars& v) { return diagonal(v[0]); }, {some(shape)},
                    [](const auto& x) { return sum(x[0] * eye(x[0].size(-1), float64), {-1}); }});
  for (const Shape& shape : {Shape{3, 4}, Shape{2, 4, 3}, Shape{1, 1}, Shape{2, 0}, Shape{0, 2}})
    for (std::int64_t k : {0, 1, -2, 9, -9}) {
      const auto kept = [=](const Tensor& x, bool lower) {
        const Numbers in = x.to_vector<double>();
        return build(x.shape(), float64, [&](const auto& at) {
          const std::int64_t above = at[at.size() - 1] - at[at.size() - 2];
          return (lower ? above <= k : above >= k) ? in[place(x.shape(), at)] : 0.0;
        });
      };
      rows.push_back({"tril", "", [=](const Vars& v) { return tril(v[0], k); }, {some(shape)}, [=](const auto& x) { return kept(x[0], true); }});
      rows.push_back({"triu", "", [=](const Vars& v) { return triu(v[0], k); }, {some(shape)}, [=](const auto& x) { return kept(x[0], false); }});
    }
}
