// ./qp_solve as a person runs it, from the repository's root; the figures it computes of its own; and, where the data are
// at hand, the Maros-Meszaros problems.
#include "tests/random_qp.h"
#include "tests/test.h"

#include "examples/qp_check.h"

#include <nlohmann/json.hpp>

#include <cstdlib>
#include <fstream>

using Catch::Matchers::StartsWith;
using nlohmann::json;
using Values = std::vector<double>;

namespace {

constexpr double inf = std::numeric_limits<double>::infinity();

Tensor matrix(std::int64_t rows, const Values& x) { return from({rows, static_cast<std::int64_t>(x.size()) / rows}, x); }

/// minimise 1/2 |z|^2 - 3 z_1 - z_2 with z_1 + z_2 <= 2: z = (2, 0), lambda = 1.
NamedTensors small_problem() { return {{"Q", eye(2, float64)}, {"q", list({-3, -1})}, {"G", matrix(1, {1, 1})}, {"upper_g", list({2})}}; }

/// qp_solve on files of these names and contents, and its records.
struct Solved : Outcome {
  std::vector<json> records;
};
Solved solve_files(const Scratch& folder, const std::vector<std::pair<std::string, NamedTensors>>& files, const std::string& flags = "") {
  std::string command = "./qp_solve " + flags;
  for (const auto& [name, tensors] : files) {
    if (!tensors.empty()) save_safetensors(folder / name, tensors);
    command.append(" ").append(folder / name);
  }
  Solved solved{run(folder, command), {}};
  std::istringstream lines(solved.out);
  for (std::string line; std::getline(lines, line);) solved.records.push_back(json::parse(line));
  return solved;
}
Solved solve_one(const Scratch& folder, const NamedTensors& tensors, const std::string& flags = "") {
  return solve_files(folder, {{"problem.safetensors", tensors}}, flags);
}

NamedTensors with(NamedTensors tensors, const NamedTensors& more) {
  for (const auto& [name, x] : more) tensors[name] = x;
  return tensors;
}

void check_near(const json& record, const char* name, const Values& expected) {
  const Values got = record.at(name).get<Values>();
  INFO(name << " of " << record);
  REQUIRE(got.size() == expected.size());
  for (std::size_t i = 0; i < got.size(); ++i) CHECK(got[i] == Approx(expected[i]).margin(1e-7));
}

/// Strictly convex, with every field: equality, two-sided rows, bounds, a fixed variable, absent sides.
NamedTensors full_problem(Random& random, const std::string& Q_form) {
  const std::int64_t n = 6;
  const Tensor L = normal(random, {n, n}, 0, 1, float64);
  const Tensor Q = Q_form == "dense" ? matmul(L, L, {.transpose_b = true}) + eye(n, float64) : Q_form == "diagonal" ? uniform(random, {n}, 1, 2, float64) : full({}, 2, float64);
  const Tensor width = list({0.1, 1e30, 2});
  return {{"Q", Q}, {"q", normal(random, {n}, 0, 3, float64)},
          {"A", normal(random, {1, n}, 0, 1, float64)}, {"b", full({1}, 0.1, float64)},
          {"G", normal(random, {3, n}, 0, 1, float64)}, {"lower_g", list({-0.1, -0.2, -1e30})}, {"upper_g", width},
          {"lower", list({-1, -1e30, -0.3, 0.25, -1, -2})}, {"upper", list({1, 0.5, 1e30, 0.25, 1, 2})}};
}

}  // namespace

TEST_CASE("qp_solve prints a solved problem's figures, and its solution if asked", "[qp_solve][program]") {
  const Scratch folder;
  const Solved plain = solve_one(folder, small_problem()), whole = solve_one(folder, small_problem(), "--solution");
  CHECK(plain.code == 0);
  CHECK(plain.err.empty());
  REQUIRE(plain.records.size() == 1);
  const json& record = plain.records[0];
  for (const char* name : {"file", "element", "status", "objective", "primal_residual", "dual_residual", "gap", "iterations", "seconds"}) CHECK(record.contains(name));
  CHECK(record.size() == 9);
  CHECK(record["file"] == folder / "problem.safetensors");
  CHECK(record["status"] == "solved");
  CHECK(record["objective"].get<double>() == Approx(-4).epsilon(1e-9));
  for (const char* name : {"primal_residual", "dual_residual", "gap"}) CHECK(record[name].get<double>() <= 1e-8);
  CHECK(record["seconds"].get<double>() > 0);

  REQUIRE(whole.records.size() == 1);
  check_near(whole.records[0], "z", {2, 0});
  check_near(whole.records[0], "lambda", {1});
  check_near(whole.records[0], "nu", {});
  for (const char* name : {"dual_lower", "dual_upper"}) check_near(whole.records[0], name, {0, 0});
  check_near(whole.records[0], "dual_lower_g", {0});
}

TEST_CASE("qp_solve takes all forms of a problem", "[qp_solve][program]") {
  const Scratch folder;
  const auto z = [&](const NamedTensors& tensors, const Values& expected) {
    const Solved solved = solve_one(folder, tensors, "--solution");
    INFO(solved.out << solved.err);
    REQUIRE(solved.code == 0);
    check_near(solved.records.at(0), "z", expected);
  };
  NamedTensors named_h = small_problem();
  named_h.erase("upper_g"), named_h["h"] = list({2});
  z(named_h, {2, 0});
  const NamedTensors far{{"lower", list({-1e30, -9.9999999e19})}, {"upper", list({2e20, 1e30})}, {"lower_g", full({1}, -1e30, float64)}};
  z(with(small_problem(), far), {2, 0});
  z(with(small_problem(), {{"lower", list({-inf, -1})}, {"upper", full({}, inf, float64)}}), {2, 0});
  z(with(small_problem(), {{"Q", full({}, 1, float64)}}), {2, 0});
  z(with(small_problem(), {{"Q", list({1, 2})}}), {2, 0});
  z(with(small_problem(), {{"lower_g", list({1.5})}, {"q", list({1, 1})}}), {0.75, 0.75});        // the lower side of a row
  z(with(small_problem(), {{"lower_g", list({1.5})}, {"upper_g", list({1e30})}, {"q", list({1, 1})}}), {0.75, 0.75});
  z(with(small_problem(), {{"lower_g", list({1})}, {"upper_g", list({1})}}), {1.5, -0.5});         // both are one
  z({{"Q", eye(2, float64)}, {"q", list({-3, -1})}, {"A", zeros({0, 2}, float64)}, {"b", zeros({0}, float64)}, {"G", zeros({0, 2}, float64)},
     {"lower_g", zeros({0}, float64)}, {"upper_g", zeros({0}, float64)}}, {3, 1});                   // no rows at all
  z({{"q", list({1, -1})}, {"lower", list({0, 0})}, {"upper", list({1, 1})}}, {0, 1});             // a linear program
  z(with(small_problem(), {{"q", list({-3, -1}).to(float32)}}), {2, 0});                           // mixed: in float64
}

TEST_CASE("qp_solve solves a file in float32 to that accuracy", "[qp_solve][program]") {
  const Scratch folder;
  NamedTensors single = small_problem();
  for (auto& [name, x] : single) x = x.to(float32);
  const Solved solved = solve_one(folder, single);
  REQUIRE(solved.code == 0);
  CHECK(solved.records.at(0)["objective"].get<double>() == Approx(-4).epsilon(1e-6));
  CHECK(solved.records.at(0)["primal_residual"].get<double>() <= 1e-6);
}

TEST_CASE("qp_solve says of each problem without a solution why, and exits with 1", "[qp_solve][program]") {
  const Scratch folder;
  const NamedTensors crossing = with(small_problem(), {{"lower", list({2, 1})}});
  const NamedTensors unbounded{{"Q", matrix(2, {1, 0, 0, 0})}, {"q", list({0, -1})}, {"lower", list({0, 0})}};
  const Solved solved = solve_files(folder, {{"good", small_problem()}, {"crossing", crossing}, {"unbounded", unbounded}}, "--check-gradient");
  CHECK(solved.code == 1);
  REQUIRE(solved.records.size() == 3);
  CHECK(solved.records[0]["status"] == "solved");
  CHECK(solved.records[1]["status"] == "primal_infeasible");
  CHECK(solved.records[2]["status"] == "dual_infeasible");
  for (int i : {1, 2}) {
    CHECK(solved.records[i]["objective"].is_null());
    CHECK(solved.records[i]["gradient_error"].is_null());
    CHECK_THAT(solved.records[i]["gradient_reason"].get<std::string>(), Contains("infeasible"));
  }
  const NamedTensors indefinite = with(small_problem(), {{"Q", matrix(2, {1, 0, 0, -1})}});
  CHECK(solve_one(folder, indefinite).records.at(0)["status"] == "numerical");
}

TEST_CASE("qp_solve prints a line for each element of a batch, each as if alone", "[qp_solve][program]") {
  const Scratch folder;
  const NamedTensors batch = with(small_problem(), {{"q", matrix(3, {-3, -1, -1, -3, 0, 0})}, {"lower", matrix(3, {-5, -5, -5, -5, 3, 3})}});
  const Solved solved = solve_one(folder, batch, "--solution");
  CHECK(solved.code == 1);
  REQUIRE(solved.records.size() == 3);
  for (int e : {0, 1, 2}) CHECK(solved.records[static_cast<std::size_t>(e)]["element"] == e);
  check_near(solved.records[0], "z", {2, 0});
  check_near(solved.records[1], "z", {0, 2});
  CHECK(solved.records[2]["status"] == "primal_infeasible");

  json alone = solve_one(folder, with(small_problem(), {{"q", list({-1, -3})}, {"lower", list({-5, -5})}}), "--solution").records.at(0), inside = solved.records[1];
  for (json* record : {&alone, &inside}) record->erase("element"), record->erase("seconds");
  CHECK(alone == inside);
}

TEST_CASE("records of qp_solve that are lost are an error, even if all is solved", "[qp_solve][program]") {
  const Scratch folder;
  save_safetensors(folder / "problem", small_problem());
  const Outcome lost = run(folder, "./qp_solve " + folder / "problem" + " >/dev/full");
  CHECK(lost.code == 2);
  CHECK(lost.err == "qp_solve: standard output cannot be written (is the disk full?)\n");
}

TEST_CASE("qp_solve refuses a bad file in one clear line, and goes on with the others", "[qp_solve][program]") {
  const Scratch folder;
  std::ofstream(folder / "damaged") << "no tensors at all";
  save_safetensors(folder / "whole", small_problem());
  const std::string bytes = read_file(folder / "whole");
  std::ofstream(folder / "cut", std::ios::binary) << bytes.substr(0, bytes.size() - 8);
  const struct { std::string name; NamedTensors tensors; std::string said; } cases[] = {
      {"none", {}, "there is no such file"},
      {"damaged", {}, "not a safetensors file"},
      {"cut", {}, "truncated"},
      {"unknown", with(small_problem(), {{"bounds", list({1, 2})}}), "'bounds' is no part of a problem; its tensors are Q, q,"},
      {"twice", with(small_problem(), {{"h", list({2})}}), "'h' and 'upper_g' are two names"},
      {"no_q", {{"Q", eye(2, float64)}}, "there is no 'q'"},
      {"whole_numbers", with(small_problem(), {{"q", list({-3, -1}).to(int64)}}), "'q' must be float64 or float32; got int64"},
      {"shape", with(small_problem(), {{"upper_g", list({2, 2, 2})}}), "h must broadcast to [batch, 1]; got [3] (h: upper_g)"},
      {"columns", with(small_problem(), {{"G", matrix(1, {1, 1, 1})}}), "G must be [m, n]"},
      {"batches", with(small_problem(), {{"q", matrix(2, {1, 2, 3, 4})}, {"upper_g", matrix(3, {1, 2, 3})}}), "batch sizes must agree"},
      {"only_A", with(small_problem(), {{"A", matrix(1, {1, 1})}}), "A and b go together"},
      {"nan", with(small_problem(), {{"q", list({-3, std::nan("")})}}), "q must be finite"},
      {"nan_side", with(small_problem(), {{"upper", list({std::nan(""), 1})}}), "upper must be finite or inf; got nan"},
      {"wrong_side", with(small_problem(), {{"lower", list({1e30, 1})}}), "lower must be finite or -inf; got inf"},
  };
  for (const auto& [name, tensors, said] : cases) {
    const Solved solved = solve_files(folder, {{name, tensors}, {"good", small_problem()}});
    INFO(name << ": " << solved.err);
    CHECK(solved.code == 2);
    CHECK_THAT(solved.err, StartsWith("qp_solve: " + folder / name + ": ") && Contains(said));
    CHECK(std::count(solved.err.begin(), solved.err.end(), '\n') == 1);
    CHECK(solved.records.size() == 1);
  }
}

TEST_CASE("qp_solve's flags do what they say, and bad ones are refused by name", "[qp_solve][program]") {
  const Scratch folder;
  Random random{3, 0};
  const NamedTensors problem = full_problem(random, "dense");
  const auto timeless = [&](const std::string& flags) {
    json record = solve_one(folder, problem, flags).records.at(0);
    record.erase("seconds");
    return record;
  };
  CHECK(timeless("--solution --threads 1") == timeless("--solution --threads 2"));
  CHECK(timeless("--check-gradient --seed 1") == timeless("--check-gradient --seed 1"));
  CHECK(timeless("--check-gradient --seed 1") != timeless("--check-gradient --seed 2"));
  const NamedTensors linear{{"q", list({1, -1})}, {"lower", list({0, 0})}, {"upper", list({1, 1})}};
  const Solved stopped = solve_one(folder, linear, "--max-iterations 1");
  CHECK(stopped.code == 1);
  CHECK(stopped.records.at(0)["status"] == "max_iterations");
  CHECK(solve_one(folder, linear, "--tolerance 1e-3").records.at(0)["iterations"] <= solve_one(folder, linear).records.at(0)["iterations"]);
  for (const auto& [flags, said] : std::vector<std::pair<std::string, std::string>>{
           {"--tolerance 0", "--tolerance: must lie between 0 and 1"}, {"--tolerance nan", "--tolerance"}, {"--tolerance x", "--tolerance"},
           {"--max-iterations 0", "--max-iterations: must be 1 or more; got 0"}, {"--max-iterations 1.5", "--max-iterations"},
           {"--threads -1", "--threads"}, {"--seed -1", "--seed"}, {"--speed 9", "--speed"}}) {
    const Solved solved = solve_one(folder, problem, flags);
    INFO(flags << ": " << solved.err);
    CHECK(solved.code == 2);
    CHECK(solved.records.empty());
    CHECK_THAT(solved.err, StartsWith("qp_solve: ") && Contains(said));
  }
  CHECK(run(folder, "./qp_solve").code == 2);
  CHECK(run(folder, "./qp_solve --help").code == 0);
}

TEST_CASE("qp_solve's implicit gradients are those of central differences, in every form of problem", "[qp_solve][program]") {
  const Scratch folder;
  Random random{11, 0};
  int checked = 0, count = 0;
  for (const char* form : {"dense", "diagonal", "multiple of I"})
    for (int i = 0; i < 8; ++i, ++count) {
      const Solved solved = solve_one(folder, full_problem(random, form), "--check-gradient --seed " + std::to_string(i));
      INFO(form << ' ' << i << ": " << solved.out << solved.err);
      REQUIRE(solved.code == 0);
      const json& record = solved.records.at(0);
      if (record["gradient_error"].is_null()) continue;  // some have a kink nearby
      CHECK(record["gradient_error"].get<double>() < 1e-6);
      ++checked;
    }
  CHECK(checked >= count - 2);

  const NamedTensors batch = with(small_problem(), {{"q", matrix(2, {-3, -1, -1, -3.5})}});
  for (const json& record : solve_one(folder, batch, "--check-gradient").records) CHECK(record["gradient_error"].get<double>() < 1e-8);
}

TEST_CASE("qp_solve gives no gradient error, but a reason, where there is no derivative", "[qp_solve][program]") {
  const Scratch folder;
  const auto reason = [&](const NamedTensors& tensors) {
    const Solved solved = solve_one(folder, tensors, "--check-gradient");
    INFO(solved.out << solved.err);
    CHECK(solved.code == 0);
    CHECK(solved.records.at(0)["gradient_error"].is_null());
    return solved.records.at(0).value("gradient_reason", "");
  };
  CHECK_THAT(reason({{"Q", eye(2, float64)}, {"q", list({0, 1})}, {"lower", list({0, 0})}}), Contains("active set changes"));       // weakly active
  CHECK_THAT(reason({{"q", list({0, 1})}, {"lower", list({0, 0})}, {"upper", list({1, 1})}}), Contains("not unique"));                // any z_1 will do
  const NamedTensors twice{{"A", matrix(2, {1, 1, 1, 1})}, {"b", list({1, 1})}};                                                       // moved rows contradict
  CHECK_THAT(reason(with({{"Q", eye(2, float64)}, {"q", list({0, 1})}}, twice)), Contains("no solution"));
}

TEST_CASE("an answer is measured in the data alone, whatever was said of it", "[qp_solve]") {
  const QP<Tensor> qp{.Q = matrix(2, {2, 1, 0, 4}), .q = list({1, 1}), .G = matrix(1, {1, 1}), .h = list({2}), .A = matrix(1, {1, -1}), .b = list({0}),
                      .lower = list({0, -inf}), .upper = full({}, 3, float64), .lower_g = list({1})};
  const QP<Tensor> alone = qp_check::element(qp, 0);
  CHECK(alone.upper.shape() == Shape{2});
  qp_check::Answer at{{4, -0.5}, {1}, {0.5}, {0.25, 0}, {0, 0}, {0}};
  const qp_check::Quality quality = qp_check::measure(alone, at);
  CHECK(quality.objective == Approx(16 - 1 + 0.5 + 4 - 0.5));     // Q's symmetric part is [2 .5; .5 4]
  CHECK(quality.primal_residual == Approx(4.5));                  // of A z = b; G z is 1.5 above h, z_1 1 above its bound
  CHECK(quality.dual_residual == Approx(7.75 + 1 + 1 + 0.5 - 0.25));
  CHECK(quality.gap == Approx(1.5 * 0.5 + 4 * 0.25));
  at.dual_upper = {0, -20};
  CHECK(qp_check::measure(alone, at).dual_residual == Approx(20));  // a negative dual counts
  at.dual_upper = {0, 0}, at.dual_lower = {0, 1};
  CHECK(qp_check::measure(alone, at).gap == inf);                    // so does one of a side that is not there
  at.z = {std::nan(""), 0};
  CHECK(std::isnan(qp_check::measure(alone, at).primal_residual));

  const QP<Tensor> batch{.Q = from({2, 1, 1}, {1., 3.}), .q = matrix(1, {1, 2}).to(float32), .lower = from({2, 1}, {0., 1.})};
  const QP<Tensor> second = qp_check::element(batch, 1);
  CHECK(text_of(second.Q) == text_of(matrix(1, {3})));
  CHECK(text_of(second.q) == text_of(list({1, 2})));
  CHECK(text_of(second.lower) == text_of(list({1, 1})));
}

TEST_CASE("all Maros-Meszaros problems given are solved with defaults, objective within 1e-6 relative of the reference", "[qp_solve][program]") {
  const char* given = std::getenv("OPTNET_DATA");
  const std::string data = std::string(given ? given : "../shared/data") + "/maros_meszaros/";
  if (!std::filesystem::exists(data + "reference.csv")) return skip("no " + data + "reference.csv; OPTNET_DATA names the folder of data");
  const Scratch folder;
  std::istringstream table(read_file(data + "reference.csv"));
  std::string line, command = "./qp_solve";
  std::getline(table, line);  // name,variables,equalities,inequalities,objective
  std::vector<double> objectives;
  while (std::getline(table, line)) {
    command += " '" + data + line.substr(0, line.find(',')) + ".safetensors'";
    objectives.push_back(std::stod(line.substr(line.rfind(',') + 1)));
  }
  const Outcome outcome = run(folder, command);
  CHECK(outcome.code == 0);
  std::istringstream lines(outcome.out);
  for (double objective : objectives) {
    REQUIRE(std::getline(lines, line));
    INFO(line << "\nreference " << objective);
    const json record = json::parse(line);
    CHECK(record["status"] == "solved");
    CHECK(std::abs(record["objective"].get<double>() - objective) <= 1e-6 * std::max(1.0, std::abs(objective)));
  }
}
