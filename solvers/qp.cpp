// The public face of the solver: checks shapes and numbers, runs the batch on its device, and says what failed.
#include "solvers/qp.h"

#include "solvers/batch.h"

#include <bit>
#include <cmath>
#include <limits>

namespace optnet {

const char* name(QPStatus status) {
  constexpr const char* names[] = {"solved", "primal_infeasible", "dual_infeasible", "max_iterations", "numerical"};
  return names[static_cast<int>(status)];
}

namespace {

// ---- reading ------------------------------------------------------------------------------------------------------

/// The size of the batch axis that a field of `rank` axes with `own` axes of its own has: 1 if none.
std::int64_t batch_axis(const Tensor& x, int own) { return x.rank() > own ? x.size(0) : 1; }

void join_batch(Batch& batch, const char* field, const Tensor& x, int own) {
  if (x.rank() <= own) return;
  batch.batched = true;
  if (&x != &batch.data.q) batch.centred = false;
  const std::int64_t size = x.size(0);
  check(size > 0, "argmin: the batch must not be empty; got ", field, ' ', x.shape());
  check(batch.count == 1 || size == 1 || size == batch.count, "argmin: batch sizes must agree; got ", field, ' ', x.shape(),
        " with a batch of ", batch.count);
  batch.count = std::max(batch.count, size);
}

/// A vector that broadcasts to [count, size].
Field read_vector(Batch& batch, const char* field, const Tensor& x, std::int64_t size) {
  if (!x.defined()) return {};
  check(x.rank() <= 2 && (x.rank() == 0 || x.size(-1) == size || x.size(-1) == 1), "argmin: ", field, " must broadcast to [batch, ", size,
        "]; got ", x.shape());
  join_batch(batch, field, x, 1);
  const std::int64_t own = x.rank() == 0 ? 1 : x.size(-1);
  return {x.data<double>(), batch_axis(x, 1) > 1 ? own : 0, own == 1 ? 0 : 1};
}

Field read_matrix(Batch& batch, const char* field, const Tensor& x, const char* rows) {
  if (!x.defined()) return {};
  check((x.rank() == 2 || x.rank() == 3) && x.size(-1) == batch.n, "argmin: ", field, " must be [", rows, ", n] or [batch, ", rows,
        ", n] with n = ", batch.n, " from q; got ", x.shape());
  join_batch(batch, field, x, 2);
  return {x.data<double>(), batch_axis(x, 2) > 1 ? x.size(-1) * x.size(-2) : 0, 1};
}

/// z'Qz sees only the symmetric part of Q, and so does everything from here on.
Tensor symmetric(const Tensor& Q) {
  const std::int64_t n = Q.size(-1), count = Q.numel() / (n * n);
  Buffer out(static_cast<std::size_t>(Q.numel()) * sizeof(double), Device::cpu);
  const double* q = Q.data<double>();
  double* y = static_cast<double*>(out.data());
  bool differs = false;
  for (std::int64_t e = 0; e < count; ++e, q += n * n, y += n * n)
    for (std::int64_t i = 0; i < n; ++i)
      for (std::int64_t j = 0; j < n; ++j) y[i * n + j] = 0.5 * q[i * n + j] + 0.5 * q[j * n + i], differs |= q[i * n + j] != q[j * n + i];
  return differs ? Tensor(Q.shape(), float64, std::move(out)) : Q;
}

/// [] and [B, 1, 1] multiply I, [n] and [B, 1, n] are diagonals, [n, n] and [B, n, n] dense.
Field read_Q(Batch& batch, Tensor& Q) {
  if (!Q.defined()) return {};
  const std::int64_t n = batch.n, columns = Q.rank() > 0 ? Q.size(-1) : 1, rows = Q.rank() > 1 ? Q.size(-2) : 1;
  check(Q.rank() <= 3 && (columns == n || columns == 1) && (rows == columns || rows == 1), "argmin: Q must be [n, n], [n] (diagonal), [] "
        "(multiple of I), or per element [batch, n, n], [batch, 1, n], [batch, 1, 1], with n = ", n, " from q; got ", Q.shape());
  join_batch(batch, "Q", Q, 2);
  batch.Q_dense = rows > 1;
  return {Q.data<double>(), batch_axis(Q, 2) > 1 ? rows * columns : 0, columns == 1 ? 0 : 1};
}

bool all_finite(const double* x, std::int64_t count) {
  constexpr std::uint64_t exponent = 0x7ff0'0000'0000'0000;  // all ones in infinities and NaN, and nothing else
  bool found = false;
  for (std::int64_t i = 0; i < count; ++i) found |= (std::bit_cast<std::uint64_t>(x[i]) & exponent) == exponent;
  return !found;
}

/// Numbers must be finite, but for sides that are absent: -inf in lower and lower_g, inf in upper and h.
void check_numbers(const Batch& batch, std::size_t field) {
  constexpr double infinity = std::numeric_limits<double>::infinity();
  constexpr double allowed[] = {0, 0, 0, infinity, 0, 0, -infinity, infinity, -infinity};
  constexpr int own_axes[] = {2, 1, 2, 1, 2, 1, 1, 1, 1};
  const Tensor& x = *fields(batch.data)[field];
  if (!x.defined() || all_finite(x.data<double>(), x.numel())) return;
  const double* values = x.data<double>();
  for (std::int64_t i = 0; i < x.numel(); ++i) {
    if (std::isfinite(values[i]) || values[i] == allowed[field]) continue;
    const std::int64_t elements = batch_axis(x, own_axes[field]);
    fail("argmin: ", qp_field_names[field], " must be finite", allowed[field] < 0 ? " or -inf" : allowed[field] > 0 ? " or inf" : "", "; got ",
         values[i], " in problem ", i / (x.numel() / elements), " of ", batch.count);
  }
}
bool is_matrix(const Batch& batch, std::size_t field) { return (field == 0 && batch.Q_dense) || field == 2 || field == 4; }

}  // namespace

Batch read(const QP<Tensor>& qp) {
  check(qp.q.defined() && (qp.q.rank() == 1 || qp.q.rank() == 2) && qp.q.size(-1) > 0, "argmin: q must be [n] or [batch, n] with n > 0; got ", qp.q.shape());
  check(qp.G.defined() == (qp.h.defined() || qp.lower_g.defined()), "argmin: G goes with h, lower_g or both; got ",
        qp.G.defined() ? "only G" : "no G");
  check(qp.A.defined() == qp.b.defined(), "argmin: A and b go together; got only ", qp.A.defined() ? "A" : "b");
  Batch batch;
  batch.dtype = qp.q.dtype();
  batch.centred = true;
  const auto given = fields(qp);
  const auto kept = fields(batch.data);
  for (std::size_t i = 0; i < given.size(); ++i) {
    const Tensor& x = *given[i];
    if (!x.defined()) continue;
    check(is_floating(x.dtype()) && x.dtype() == batch.dtype, "argmin: all parameters must be float32, or all float64 (convert with to()); got ",
          qp_field_names[i], ' ', x.dtype(), " with q ", batch.dtype);
    check(x.device() == Device::cpu, "argmin: has no CUDA code yet (move to the CPU with to(Device::cpu)); got ", qp_field_names[i], " on ", x.device());
    *kept[i] = x.to(float64);
  }
  QP<Tensor>& data = batch.data;
  batch.n = static_cast<int>(data.q.size(-1));
  batch.field.q = read_vector(batch, "q", data.q, batch.n);
  batch.field.Q = read_Q(batch, data.Q);
  batch.field.G = read_matrix(batch, "G", data.G, "m");
  batch.field.A = read_matrix(batch, "A", data.A, "p");
  batch.m = data.G.defined() ? static_cast<int>(data.G.size(-2)) : 0;
  batch.p = data.A.defined() ? static_cast<int>(data.A.size(-2)) : 0;
  batch.field.h = read_vector(batch, "h", data.h, batch.m);
  batch.field.b = read_vector(batch, "b", data.b, batch.p);
  batch.field.lower = read_vector(batch, "lower", data.lower, batch.n);
  batch.field.upper = read_vector(batch, "upper", data.upper, batch.n);
  batch.field.lower_g = read_vector(batch, "lower_g", data.lower_g, batch.m);
  batch.bounds = data.lower.defined() || data.upper.defined();
  batch.low = data.lower.defined() || data.lower_g.defined();
  batch.high = data.upper.defined() || data.h.defined();
  batch.Q_given = data.Q.defined();
  batch.shared = batch.field.Q.element == 0 && batch.field.G.element == 0 && batch.field.A.element == 0;
  for (std::size_t i = 0; i < given.size(); ++i)
    if (!is_matrix(batch, i) || !path(batch).copies) check_numbers(batch, i);
  if (batch.Q_dense && !path(batch).copies) data.Q = symmetric(data.Q), batch.field.Q.data = data.Q.data<double>();
  return batch;
}

void check_matrices(const Batch& batch) {
  for (std::size_t i = 0; i < qp_field_names.size(); ++i)
    if (is_matrix(batch, i)) check_numbers(batch, i);
}

namespace {

// ---- reporting ----------------------------------------------------------------------------------------------------

/// The column at which Q's factorisation meets a negative pivot, or -1: for the message only.
std::int64_t indefinite_column(const Batch& batch, std::int64_t e) {
  if (!batch.field.Q) return -1;
  const std::int64_t n = batch.n;
  const auto Q = [&](std::int64_t i, std::int64_t j) {
    return batch.Q_dense ? 0.5 * batch.field.Q(e, i * n + j) + 0.5 * batch.field.Q(e, j * n + i) : i == j ? batch.field.Q(e, i) : 0;
  };
  double size = 1e-300;
  for (std::int64_t i = 0; i < n; ++i) size = std::max(size, std::abs(Q(i, i)));
  const double margin = (batch.dtype == float32 ? 1e-6 : 1e-9) * size;
  std::vector<double> L(static_cast<std::size_t>(n * n));
  const auto at = [&](std::int64_t i, std::int64_t j) -> double& { return L[static_cast<std::size_t>(i * n + j)]; };
  for (std::int64_t j = 0; j < n; ++j)
    for (std::int64_t i = j; i < n; ++i) {
      double s = Q(i, j) + (i == j ? margin : 0);
      for (std::int64_t k = 0; k < j; ++k) s -= at(i, k) * at(j, k);
      if (i == j && s < 0) return j;
      at(i, j) = i == j ? std::sqrt(std::max(s, 1e-300)) : s / at(j, j);
    }
  return -1;
}

std::string reason(const Batch& batch, const QPSolution& solution, std::int64_t e) {
  std::ostringstream out;
  const auto i = static_cast<std::size_t>(e);
  if (const std::int64_t column = solution.status[i] == QPStatus::numerical ? indefinite_column(batch, e) : -1; column >= 0)
    out << "Q must be positive semidefinite; factorisation failed for problem " << e << " of " << batch.count << " at column " << column;
  else if (solution.status[i] == QPStatus::primal_infeasible) out << "primal infeasible: no z satisfies its constraints";
  else if (solution.status[i] == QPStatus::dual_infeasible) out << "dual infeasible: its objective falls without bound";
  else out << name(solution.status[i]) << " after " << solution.iterations[i] << " iterations, residuals " << solution.primal_residual[i]
           << " and " << solution.dual_residual[i] << ", gap " << solution.gap[i];
  return out.str();
}

void raise_failures(const Batch& batch, const QPSolution& solution) {
  std::ostringstream out;
  std::int64_t failed = 0;
  for (std::int64_t e = 0; e < batch.count; ++e) {
    if (solution.status[static_cast<std::size_t>(e)] == QPStatus::solved) continue;
    if (++failed <= 5) out << (failed > 1 ? ", " : "") << e << " (" << reason(batch, solution, e) << ')';
  }
  if (failed == 0) return;
  fail("argmin: ", failed, " of ", batch.count, " problems not solved: ", out.str(), failed > 5 ? ", ..." : "",
       "; mend the problem, or pass .on_failure = OnFailure::report to get statuses instead");
}

/// An earlier solution, to begin at; absent duals are 0, and so is all of an element that was not solved.
Iterates read_start(const Batch& batch, const QPSolution& earlier) {
  const std::int64_t n = batch.n, p = batch.p, k = batch.sides();
  check(earlier.status.size() == static_cast<std::size_t>(batch.count), "argmin: warm_start must be a solution of this problem's shape; got one of ",
        earlier.status.size(), " problems for ", batch.count);
  const auto zeros = [&](std::int64_t size) { return Numbers(static_cast<std::size_t>(batch.count * size)); };
  Iterates start{zeros(n), zeros(p), {}, zeros(k)};
  const auto copy = [&](const char* what, const Tensor& x, std::int64_t width, std::int64_t first, std::int64_t size, Numbers& out) {
    if (!x.defined()) return;
    check(x.numel() == batch.count * size, "argmin: warm_start must be a solution of this problem's shape; got ", what, ' ', x.shape(),
          " for [", batch.count, ", ", size, "]");
    const std::vector<double> values = x.to(float64).to_vector<double>();
    for (std::int64_t e = 0; e < batch.count; ++e)
      for (std::int64_t i = 0; i < size && earlier.status[static_cast<std::size_t>(e)] == QPStatus::solved; ++i) {
        const double value = values[static_cast<std::size_t>(e * size + i)];
        check(std::isfinite(value), "argmin: warm_start must be finite; got ", what, ' ', value, " in problem ", e, " of ", batch.count);
        out[static_cast<std::size_t>(e * width + first + i)] = value;
      }
  };
  const SideBlocks side(batch);
  copy("z", earlier.z, n, 0, n, start.z), copy("nu", earlier.nu, p, 0, p, start.nu);
  if (batch.field.lower) copy("dual_lower", earlier.dual_lower, k, side.lower, n, start.lambda);
  if (batch.field.upper) copy("dual_upper", earlier.dual_upper, k, side.upper, n, start.lambda);
  if (batch.field.lower_g) copy("dual_lower_g", earlier.dual_lower_g, k, side.lower_g, batch.m, start.lambda);
  if (batch.field.h) copy("lambda", earlier.lambda, k, side.h, batch.m, start.lambda);
  return start;
}

/// An answer that the batch's dtype cannot hold is none: float32 data may have one beyond float32.
void drop_overflow(const Batch& batch, Iterates& at, QPSolution& solution) {
  if (batch.dtype != float32) return;
  const std::int64_t n = batch.n, p = batch.p, k = batch.sides();
  for (std::int64_t e = 0; e < batch.count; ++e) {
    bool fits = true;
    for (auto [x, width] : {std::pair{&at.z, n}, {&at.nu, p}, {&at.lambda, k}})
      for (std::int64_t i = e * width; i < (e + 1) * width; ++i) fits &= std::abs((*x)[static_cast<std::size_t>(i)]) <= std::numeric_limits<float>::max();
    if (fits) continue;
    solution.status[static_cast<std::size_t>(e)] = QPStatus::numerical;
    std::fill_n(at.z.data() + e * n, n, 0), std::fill_n(at.nu.data() + e * p, p, 0);
    std::fill_n(at.lambda.data() + e * k, k, 0), std::fill_n(at.s.data() + e * k, k, 1);
  }
}

/// Columns first ... first + size - 1 of x [count, width] as a tensor in the batch's dtype.
Tensor columns(const Batch& batch, const Numbers& x, std::int64_t width, std::int64_t first, std::int64_t size) {
  Buffer out(static_cast<std::size_t>(batch.count * size) * sizeof(double), Device::cpu);
  double* y = static_cast<double*>(out.data());
  for (std::int64_t e = 0; e < batch.count; ++e) std::copy_n(x.data() + e * width + first, size, y + e * size);
  return Tensor(batch.batched ? Shape{batch.count, size} : Shape{size}, float64, std::move(out)).to(batch.dtype);
}

}  // namespace

QPSolution solve(const QP<Tensor>& qp, const QPOptions& options) {
  check(options.tolerance > 0 && options.tolerance < 1, "argmin: tolerance must lie in (0, 1); got ", options.tolerance);
  check(options.max_iterations > 0, "argmin: max_iterations must be positive; got ", options.max_iterations);
  check(options.regularization >= 0 && options.regularization < 1, "argmin: regularization must lie in [0, 1); got ", options.regularization);
  check(options.threads >= 0 && options.threads <= 1024, "argmin: threads must lie in [0, 1024], 0 for as many as threads() says; got ", options.threads);
  const Batch batch = read(qp);
  const auto count = static_cast<std::size_t>(batch.count);
  const std::int64_t n = batch.n, p = batch.p, k = batch.sides();

  QPSolution solution;
  solution.status.resize(count), solution.iterations.resize(count);
  solution.objective.resize(count), solution.primal_residual.resize(count), solution.dual_residual.resize(count), solution.gap.resize(count);
  const auto zeros = [&](std::int64_t size) { return Numbers(count * static_cast<std::size_t>(size)); };
  Iterates at{zeros(n), zeros(p), zeros(k), zeros(k)};
  auto factors = std::make_shared<QPFactors>();
  const Iterates start = options.warm_start ? read_start(batch, *options.warm_start) : Iterates{};
  if (!solve_cpu(batch, options, start, at, solution, *factors)) check_matrices(batch);
  drop_overflow(batch, at, solution);
  if (options.on_failure == OnFailure::raise) raise_failures(batch, solution);

  solution.z = columns(batch, at.z, n, 0, n);
  if (batch.field.b) solution.nu = columns(batch, at.nu, p, 0, p);
  const SideBlocks side(batch);
  if (batch.field.lower) solution.dual_lower = columns(batch, at.lambda, k, side.lower, n);
  if (batch.field.upper) solution.dual_upper = columns(batch, at.lambda, k, side.upper, n);
  if (batch.field.lower_g) solution.dual_lower_g = columns(batch, at.lambda, k, side.lower_g, batch.m);
  if (batch.field.h) solution.lambda = columns(batch, at.lambda, k, side.h, batch.m);
  if (options.differentiable) {
    // The products of (K21) need the solution in full precision.
    factors->solution = std::move(at), factors->sizes = batch, factors->threads = options.threads;
    solution.factors = std::move(factors);
  }
  return solution;
}

}  // namespace optnet
