// ./qp_solve: solves the quadratic programs in safetensors files and prints an object of JSON for each.
#include "examples/qp_check.h"
#include "examples/qp_gradient.h"
#include "framework/io.h"
#include "framework/ops.h"
#include "framework/train.h"

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <chrono>
#include <iostream>
#include <limits>

using namespace optnet;
using nlohmann::ordered_json;

namespace {

struct Settings {
  std::vector<std::string> files;
  QPOptions options{.on_failure = OnFailure::report};
  bool solution = false, check_gradient = false;
  std::int64_t seed = 0;
};

constexpr const char* description =
    "Solves quadratic programs, minimise 1/2 z'Qz + q'z subject to A z = b, lower_g <= G z <= upper_g, lower <= z <= upper, and prints "
    "an object of JSON for each, a line each.";
constexpr const char* format =
    "A file holds tensors Q, q, A, b, G, lower_g, upper_g (or h), lower, upper, float64 or float32; all but q may be absent. Q is [n, n], "
    "[n] (a diagonal) or []; any tensor may have a leading batch axis. Sides at 1e19 and beyond, either way, are none.\n"
    "Residuals are in the data as given, infinity norms: primal_residual |Az - b| and how far z is outside a side; dual_residual "
    "|Qz + q + A'nu + G'(lambda - dual_lower_g) + dual_upper - dual_lower| and how far a dual is below 0; gap: the sum of |slack times "
    "dual|. seconds: of solving, an element's share of its batch. Numbers that are not finite, and the objective of what has no solution, "
    "are null.\n"
    "gradient_error: of the gradient of c'z, c random, along a random direction in each tensor: the largest |implicit - difference| / "
    "max(1, |c z|, |implicit|, |difference|); null with a gradient_reason where there is no derivative.\n"
    "Exit code 0: all solved; 1: some not; 2: a file or a flag is bad, or output is lost.";

/// The field that a tensor's name means; null if none.
Tensor* field_of(QP<Tensor>& qp, const std::string& name) {
  for (std::size_t i = 0; i < qp_field_names.size(); ++i)
    if (name == qp_field_names[i] || (name == "upper_g" && fields(qp)[i] == &qp.h)) return fields(qp)[i];
  return nullptr;
}

/// The problem in a file: float32 if all its tensors are, else float64.
QP<Tensor> read_problem(const std::string& file) {
  const NamedTensors tensors = load_safetensors(file).tensors;
  const bool single = std::all_of(tensors.begin(), tensors.end(), [](const auto& entry) { return entry.second.dtype() == float32; });
  QP<Tensor> qp;
  for (const auto& [name, x] : tensors) {
    Tensor* field = field_of(qp, name);
    check(field, file, ": '", name, "' is no part of a problem; its tensors are Q, q, A, b, G, lower_g, upper_g (or h), lower, upper");
    check(!field->defined(), file, ": 'h' and 'upper_g' are two names of one tensor; give one");
    check(is_floating(x.dtype()), file, ": '", name, "' must be float64 or float32; got ", x.dtype());
    *field = x.to(single ? float32 : float64);
  }
  check(qp.q.defined(), file, ": there is no 'q', which says how many variables there are");
  for (Tensor* side : {&qp.lower, &qp.upper, &qp.lower_g, &qp.h}) {
    if (!side->defined()) continue;
    // 1e20 and 1e30 stand for infinity in many files, and some hold 1e20 less a row's constant.
    const Tensor infinite = number_like(std::numeric_limits<double>::infinity(), *side), far = number_like(1e19, *side);
    *side = where(greater_equal(*side, far), infinite, where(less_equal(*side, -far), -infinite, *side));
  }
  return qp;
}

ordered_json record(const std::string& file, const QP<Tensor>& qp, const QPSolution& solution, std::int64_t e, double seconds, const Settings& settings) {
  const QP<Tensor> problem = qp_check::element(qp, e);
  const qp_check::Answer at = qp_check::answer(problem, solution, e);
  const qp_check::Quality quality = qp_check::measure(problem, at);
  const QPStatus status = solution.status[static_cast<std::size_t>(e)];
  ordered_json out{{"file", file}, {"element", e}, {"status", name(status)}};
  const bool exists = status != QPStatus::primal_infeasible && status != QPStatus::dual_infeasible;
  out["objective"] = exists ? quality.objective : std::numeric_limits<double>::infinity();
  out["primal_residual"] = quality.primal_residual;
  out["dual_residual"] = quality.dual_residual;
  out["gap"] = quality.gap;
  out["iterations"] = solution.iterations[static_cast<std::size_t>(e)];
  out["seconds"] = seconds;
  if (settings.solution) {
    out["z"] = at.z, out["nu"] = at.nu, out["lambda"] = at.lambda;
    out["dual_lower"] = at.dual_lower, out["dual_upper"] = at.dual_upper, out["dual_lower_g"] = at.dual_lower_g;
  }
  if (settings.check_gradient) {
    const qp_check::GradientCheck gradient = qp_check::check_gradient(problem, settings.options, static_cast<std::uint64_t>(settings.seed));
    out["gradient_error"] = gradient.error;
    if (!gradient.reason.empty()) out["gradient_reason"] = gradient.reason;
  }
  return out;
}

/// Solves a file's problems and prints their records. True if all are solved.
bool solve_file(const std::string& file, const Settings& settings) {
  const QP<Tensor> qp = read_problem(file);
  const auto begin = std::chrono::steady_clock::now();
  QPSolution solution;
  try {
    solution = solve(qp, settings.options);
  } catch (const Error& error) {
    const std::string what = error.what();
    fail(file, ": ", what, what.find(" h ") != std::string::npos ? " (h: upper_g)" : "");
  }
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
  const auto count = static_cast<std::int64_t>(solution.status.size());
  for (std::int64_t e = 0; e < count; ++e)
    std::cout << record(file, qp, solution, e, took.count() / static_cast<double>(count), settings).dump(-1, ' ', false, ordered_json::error_handler_t::replace)
              << std::endl;
  return std::all_of(solution.status.begin(), solution.status.end(), [](QPStatus status) { return status == QPStatus::solved; });
}

/// The exit code. A bad file does not keep the others from being solved.
int solve_all(const Settings& settings) {
  int code = 0;
  for (const std::string& file : settings.files) {
    try {
      if (!solve_file(file, settings)) code = std::max(code, 1);
    } catch (const std::exception& error) {
      std::cerr << "qp_solve: " << error.what() << '\n';
      code = 2;
    }
  }
  return code;
}

void add_flags(CLI::App& app, Settings& settings) {
  app.add_option("FILE", settings.files, "problems in safetensors")->required();
  app.add_option("--tolerance", settings.options.tolerance, "on residuals and gap, times 1 + the size of the data (1e-9)")->type_name("X");
  app.add_option("--max-iterations", settings.options.max_iterations, "(200)")->type_name("N");
  app.add_option("--threads", settings.options.threads, "OMP_NUM_THREADS, else as many as there are cores; answers do not depend on it")->type_name("N");
  app.add_option("--seed", settings.seed, "of --check-gradient (0)")->type_name("N");
  app.add_flag("--solution", settings.solution, "print z and the duals nu, lambda, dual_lower, dual_upper, dual_lower_g too");
  app.add_flag("--check-gradient", settings.check_gradient, "print gradient_error too");
  app.add_flag("--verbose", settings.options.verbose, "a line an iteration on standard error");
  app.footer(format);
}

}  // namespace

int main(int argc, char** argv) {
  Settings settings;
  CLI::App app{description, "qp_solve"};
  add_flags(app, settings);
  try {
    app.parse(argc, argv);
    const QPOptions& options = settings.options;
    check(options.tolerance > 0 && options.tolerance < 1, "--tolerance: must lie between 0 and 1, such as 1e-9; got ", options.tolerance);
    check(options.max_iterations > 0, "--max-iterations: must be 1 or more; got ", options.max_iterations);
    check(options.threads >= 0 && options.threads <= 1024, "--threads: must be 1 to 1024, or 0 for all cores; got ", options.threads);
    check(settings.seed >= 0, "--seed: must not be negative; got ", settings.seed);
    if (options.threads) set_threads(options.threads);
    const int code = solve_all(settings);
    flush_output();
    return code;
  } catch (const CLI::CallForHelp& help) {
    return app.exit(help);
  } catch (const CLI::ParseError& error) {
    std::cerr << "qp_solve: " << error.what() << "; qp_solve --help tells more\n";
    return 2;
  } catch (const std::exception& error) {
    std::cerr << "qp_solve: " << error.what() << '\n';
    return 2;
  }
}
