// What QPOptions promise beyond an answer: a warm start saves iterations and changes nothing else, wherever it comes from;
// verbose says what is going on and changes nothing at all.
#include "tests/random_qp.h"
#include "tests/test.h"

#include "benchmarks/workloads.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <limits>
#include <numeric>

namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();
using benchmarks::Workload;
using Catch::Matchers::StartsWith;
using Start = std::shared_ptr<const QPSolution>;

Start start_at(QPSolution s) { return std::make_shared<const QPSolution>(std::move(s)); }
QPOptions tight(bool active_set, Start start = nullptr) {
  return {.tolerance = 1e-12, .active_set = active_set, .on_failure = OnFailure::report, .differentiable = true, .warm_start = std::move(start)};
}

constexpr std::array parts{&QPSolution::z,          &QPSolution::nu,         &QPSolution::lambda,
                           &QPSolution::dual_lower, &QPSolution::dual_upper, &QPSolution::dual_lower_g};

/// The largest difference of z or a dual.
double largest_difference(const QPSolution& a, const QPSolution& b) {
  double largest = 0;
  for (const auto part : parts)
    if ((a.*part).defined()) largest = std::max(largest, max_difference(a.*part, b.*part));
  return largest;
}
bool same_bits(const QPSolution& a, const QPSolution& b) {
  return a.status == b.status && a.iterations == b.iterations &&
         std::all_of(parts.begin(), parts.end(), [&](auto part) { return !(a.*part).defined() || ::same_bits(a.*part, b.*part); });
}

/// Element e of a batch's solution, without a batch axis.
QPSolution alone(const QPSolution& s, std::int64_t e) {
  QPSolution out;
  for (const auto part : parts)
    if (const Tensor& x = s.*part; x.defined()) out.*part = slice(x, 0, e, e + 1).reshape({x.size(1)});
  out.status = {s.status[static_cast<std::size_t>(e)]}, out.iterations = {s.iterations[static_cast<std::size_t>(e)]};
  return out;
}

/// A training-like trajectory, and how many of a cold solve's iterations a warm one may take.
struct Trajectory {
  Workload form;
  bool active_set;
  double at_most;
};
std::int64_t sum_of(const std::vector<int>& x) { return std::accumulate(x.begin(), x.end(), std::int64_t{0}); }

/// Problems of these rows within bounds; elements in `wrong` have a row that no z within the bounds satisfies.
QP<Tensor> bounded_problem(std::int64_t rows, const std::set<std::int64_t>& wrong = {}) {
  const Workload form{"", 12, rows, 2, 6};
  QP<Tensor> qp = benchmarks::problem(form, 5);
  std::vector<double> h = values(qp.h);
  for (std::int64_t e : wrong) h[static_cast<std::size_t>(e * rows + 1)] = -1e3;
  qp.h = from(qp.h.shape(), h), qp.lower = number(-5), qp.upper = number(5);
  return qp;
}

/// What is written to standard error in this scope, by whoever in the process.
class StandardError {
 public:
  StandardError() : before_(::dup(2)) {
    std::fflush(stderr);
    const int file = ::open(path().c_str(), O_CREAT | O_WRONLY, 0600);
    if (before_ < 0 || file < 0 || ::dup2(file, 2) < 0) fail("cannot redirect standard error to ", path());
    ::close(file);
  }
  ~StandardError() {
    std::fflush(stderr);
    ::dup2(before_, 2), ::close(before_);
  }
  std::vector<std::string> lines() const {
    std::fflush(stderr);
    std::vector<std::string> out;
    std::istringstream text(read_file(path()));
    for (std::string line; std::getline(text, line);) out.push_back(line);
    return out;
  }

 private:
  std::string path() const { return folder_ / "stderr"; }
  Scratch folder_;
  int before_;
};

}  // namespace

TEST_CASE("a warm start along a trajectory leads to the cold answer in fewer iterations", "[qp][options]") {
  const std::vector<Trajectory> trajectories{  // beside them, mean iterations when last measured: cold, warm
      {{"few rows", 20, 10, 5, 9}, true, 0.4},                                       // 3.4, 1.1
      {{"few rows, interior point", 20, 10, 5, 9}, false, 0.6},                      // 8.4, 4.0
      {{"n = m = 50", 50, 50, 0, 9}, true, 0.3},                                     // 7.7, 1.2
      {{"n = m = 50, interior point", 50, 50, 0, 9}, false, 0.6},                    // 10.4, 5.1
      {{"shared matrices", 50, 50, 10, 9, true}, true, 0.3},                         // 9.5, 1.3
      {{"shared matrices, interior point", 50, 50, 10, 9, true}, false, 0.6},        // 10.2, 4.9
      {{"Sudoku's form", 64, 64, 40, 9, false, true}, true, 0.6},                    // 4.7, 1.7
      {{"Sudoku's form, interior point", 64, 64, 40, 9, false, true}, false, 0.75},  // 9.1, 5.5
      {{"LAPACK's path", 260, 40, 0, 2}, true, 0.5},                                 // 4.9, 1.3
  };
  for (const auto& [form, active_set, at_most] : trajectories) {
    INFO(form.name);
    QP<Tensor> qp = benchmarks::problem(form, 1);
    Random random{2};
    Start last = start_at(solve(qp, tight(active_set)));
    std::int64_t cold_iterations = 0, warm_iterations = 0;
    for (int step = 0; step < 20; ++step) {
      qp.q = qp.q + 0.02 * normal(random, qp.q.shape(), 0, 1, float64);
      const QPSolution cold = solve(qp, tight(active_set));
      const Start warm = start_at(solve(qp, tight(active_set, last)));
      REQUIRE(std::count(warm->status.begin(), warm->status.end(), QPStatus::solved) == form.batch);
      CHECK(largest_difference(*warm, cold) < 1e-7);
      if (step % 5 == 4) {
        CHECK(worst_kkt(qp, *warm) < 1e-8);
        CHECK(same_bits(solve(::alone(qp, 1), tight(active_set, start_at(alone(*last, 1)))), alone(*warm, 1)));
        const QP<Tensor> g = gradient_of_sums(qp, cold), h = gradient_of_sums(qp, *warm);
        CHECK(max_difference(g.q, h.q) < 1e-5);
      }
      cold_iterations += sum_of(cold.iterations), warm_iterations += sum_of(warm->iterations);
      last = warm;
    }
    const double ratio = static_cast<double>(warm_iterations) / static_cast<double>(cold_iterations);
    CHECK(ratio < at_most);
  }
}

TEST_CASE("a warm start from a solution of another shape is refused by name", "[qp][options]") {
  const auto refusal = [](const QP<Tensor>& qp, const QPSolution& start) { return error_of([&] { solve(qp, {.warm_start = start_at(start)}); }); };
  const auto solution = [](std::int64_t n, std::int64_t m, std::int64_t p, std::int64_t batch) {
    return solve(benchmarks::problem({"", n, m, p, batch}, 1));
  };
  const QP<Tensor> qp = benchmarks::problem({"", 8, 6, 3, 4}, 1);
  const std::string rule = "argmin: warm_start must be a solution of this problem's shape; got ";
  CHECK(refusal(qp, solution(8, 6, 3, 5)) == rule + "one of 5 problems for 4");
  CHECK(refusal(qp, {}) == rule + "one of 0 problems for 4");
  CHECK(refusal(qp, solution(7, 6, 3, 4)) == rule + "z [4, 7] for [4, 8]");
  CHECK(refusal(qp, solution(8, 5, 3, 4)) == rule + "lambda [4, 5] for [4, 6]");
  CHECK(refusal(qp, solution(8, 6, 2, 4)) == rule + "nu [4, 2] for [4, 3]");
  QPSolution broken = solve(qp);
  broken.z = full({4, 8}, std::nan(""), float64);
  CHECK(refusal(qp, broken) == "argmin: warm_start must be finite; got z nan in problem 0 of 4");

  // What it lacks is 0.
  for (bool active_set : {true, false})
    for (std::int64_t m : {0, 6})
      for (std::int64_t p : {0, 3}) {
        const QPSolution warm = solve(qp, tight(active_set, start_at(solution(8, m, p, 4)))), cold = solve(qp, tight(active_set));
        CHECK(largest_difference(warm, cold) < 1e-7);
      }
}

TEST_CASE("a warm start from a failed solution, or to a failing one, does no harm", "[qp][options]") {
  for (bool active_set : {true, false})
    for (std::int64_t rows : {3, 20}) {  // with the bounds 15 and 32: few and many
      INFO((active_set ? "active set, " : "interior point, ") << rows << " rows");
      const QP<Tensor> qp = bounded_problem(rows), broken = bounded_problem(rows, {1, 4});
      const QPSolution cold = solve(qp, tight(active_set)), failed = solve(broken, tight(active_set));
      QPOptions hasty = tight(active_set);
      hasty.max_iterations = 1;
      const QPSolution unfinished = solve(qp, hasty);
      CHECK(cold.status == std::vector(6, QPStatus::solved));
      CHECK(failed.status[1] == QPStatus::primal_infeasible);
      CHECK(failed.status[4] == QPStatus::primal_infeasible);
      CHECK(std::count(unfinished.status.begin(), unfinished.status.end(), QPStatus::max_iterations) > 0);
      for (const QPSolution& start : {failed, unfinished}) {
        const QPSolution warm = solve(qp, tight(active_set, start_at(start)));
        CHECK(warm.status == cold.status);
        CHECK(largest_difference(warm, cold) < 1e-7);
        CHECK(all_finite(gradient_of_sums(qp, warm)));
      }
      for (const QPSolution& start : {cold, failed, unfinished}) {
        const QPSolution warm = solve(broken, tight(active_set, start_at(start)));
        CHECK(warm.status == failed.status);
        CHECK(all_finite(warm));
        CHECK(all_finite(gradient_of_sums(broken, warm)));
        for (std::int64_t e = 0; e < 6; ++e) {
          const PlainQP one = element_of(broken, e);
          CHECK(error_of_claim(one, answer_of(warm, e, one), warm.status[static_cast<std::size_t>(e)]) < 1e-6);
        }
      }
    }
}

TEST_CASE("a warm start where the objective falls for ever, and back, does no harm", "[qp][options]") {
  const Tensor Q = list({1, 1, 1, 0});  // z_3 is bounded by its price alone
  const auto priced = [&](double price) {
    return QP<Tensor>{.Q = Q, .q = from({2, 4}, std::vector<double>{-1, 2, -3, 1, -1, 2, -3, price}), .lower = number(0)};
  };
  const std::vector<QPStatus> fine(2, QPStatus::solved), unbounded{QPStatus::solved, QPStatus::dual_infeasible};
  for (bool active_set : {true, false}) {
    const QPSolution cold = solve(priced(1), tight(active_set)), failed = solve(priced(-1), tight(active_set));
    CHECK(cold.status == fine);
    CHECK(failed.status == unbounded);
    const QPSolution warm = solve(priced(1), tight(active_set, start_at(failed))), back = solve(priced(-1), tight(active_set, start_at(cold)));
    CHECK(warm.status == fine);
    CHECK(largest_difference(warm, cold) < 1e-7);
    CHECK(back.status == unbounded);
    CHECK(all_finite(back));
  }
}

TEST_CASE("a warm start at sides that are gone, or beside rows that have become fixed, is still one", "[qp][options]") {
  for (std::int64_t rows : {10, 30}) {
    INFO(rows << " rows");
    QP<Tensor> qp = benchmarks::problem({"", 30, rows, 0, 6}, 5);
    const Start start = start_at(solve(qp, tight(true)));
    std::vector<double> h = values(qp.h), low(h.size(), -infinity);
    for (std::size_t i = 0; i < h.size(); i += 2) h[i] = infinity;              // half of the sides are gone
    for (std::size_t i = 1; i < h.size(); i += 8) low[i] = h[i] = h[i] - 0.5;  // and some rows fixed
    qp.h = from(qp.h.shape(), h), qp.lower_g = from(qp.h.shape(), low);
    const QPSolution cold = solve(qp, tight(true)), warm = solve(qp, tight(true, start));
    CHECK(largest_difference(cold, warm) < 1e-7);
    CHECK(worst_kkt(qp, warm) < 1e-8);
    CHECK(sum_of(warm.iterations) <= sum_of(cold.iterations) + 6);
  }
}

TEST_CASE("a warm start at nonsense leads to the answer too", "[qp][options]") {
  Generator r{std::mt19937_64{7}};
  for (bool active_set : {true, false})
    for (std::int64_t rows : {3, 20})
      for (double size : {1.0, 1e3, 1e6}) {
        INFO((active_set ? "active set, " : "interior point, ") << rows << " rows, numbers of size " << size);
        const QP<Tensor> qp = bounded_problem(rows);
        const QPSolution cold = solve(qp, tight(active_set));
        QPSolution start = cold;
        for (const auto part : parts)
          if ((start.*part).defined()) start.*part = r.normals((start.*part).shape(), size);
        const QPSolution warm = solve(qp, tight(active_set, start_at(start)));
        CHECK(warm.status == cold.status);
        CHECK(largest_difference(warm, cold) < 1e-7);
      }
}

TEST_CASE("verbose writes a line an iteration of each problem to standard error, and changes no bit of an answer", "[qp][options]") {
  const auto said = [](const QP<Tensor>& given, const QPOptions& options, QPSolution& s) {
    const StandardError captured;
    s = solve(given, options);
    return captured.lines();
  };
  for (bool active_set : {true, false})
    for (std::int64_t rows : {10, 30}) {
      INFO((active_set ? "active set, " : "interior point, ") << rows << " rows");
      const QP<Tensor> qp = benchmarks::problem({"", 30, rows, 2, 6}, 5);
      QPOptions loud = tight(active_set);
      loud.verbose = true;
      QPSolution quiet, same, single;
      CHECK(said(qp, tight(active_set), quiet).empty());
      CHECK_FALSE(said(qp, loud, same).empty());
      CHECK(same_bits(same, quiet));
      const QP<Tensor> g = gradient_of_sums(qp, quiet), h = gradient_of_sums(qp, same);
      for (std::size_t i = 0; i < qp_field_names.size(); ++i)
        if (fields(g)[i]->defined()) CHECK(::same_bits(*fields(g)[i], *fields(h)[i]));

      // One problem: an iteration a line, the interior point's below a line of names. A batch: the same of each.
      const std::vector<std::string> lines = said(::alone(qp, 2), loud, single), all = said(qp, loud, same);
      CHECK(single.iterations[0] > 1);
      REQUIRE(std::ssize(lines) == single.iterations[0] + !active_set);
      for (int i = 0; i < single.iterations[0]; ++i) {
        const std::string number = std::to_string(i + active_set), of_0 = active_set ? "problem 0, active set, step " + number + ": " : "      0     " + number + "  ";
        CHECK_THAT(lines[static_cast<std::size_t>(i + !active_set)], StartsWith(of_0));
      }
      for (std::int64_t e = 0; e < 6; ++e) {
        const std::string begin = active_set ? "problem " + std::to_string(e) + "," : "      " + std::to_string(e) + "  ";
        CHECK(std::count_if(all.begin(), all.end(), [&](const std::string& line) { return line.starts_with(begin); }) == same.iterations[static_cast<std::size_t>(e)]);
      }
    }
}
