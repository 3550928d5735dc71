// ./bench: the QP solver measured on W1 to W7 of workloads.h, or on a problem of any size: forward and backward, against
// the speed of this machine's matrix product. `make bench` writes its rows to build/bench.json.
#include "benchmarks/workloads.h"
#include "framework/io.h"
#include "layers/layers.h"
#include "layers/optnet.h"

#include <CLI/CLI.hpp>
#include <cblas.h>
#include <nlohmann/json.hpp>

#include <cstdio>
#include <fstream>

namespace {

using namespace optnet;
using namespace optnet::benchmarks;
using nlohmann::ordered_json;

struct Settings {
  Workload size;
  std::uint64_t seed = 1;
  std::vector<int> threads;
  std::string json, dump;
  clockid_t clock = CLOCK_MONOTONIC;
  bool custom = false, layers = false, core_time = false;
};

constexpr const char* flops_explained =
    "GFLOP/s count the least work that any method does here which eliminates z, not the flops spent, so that fewer steps\n"
    "count as speed. Rows k = m + p; a of them hold with equality at the answer. For each element\n"
    "  forward    n^3/3 + n^2 k + n k^2   factor Q, R = [A G] Q^-1 [A G]': once for the whole batch where both are shared\n"
    "             2 n^2 + 4 n k + a^3/3   the right-hand side, z and the duals, one factorisation of the active rows\n"
    "             n a^2 + a^3/3           instead of all these where Q is diagonal: n free variables, a rows\n"
    "  backward   4 n^2 + 4 n a + 2 a^2   one solve with the factors, and 3 an entry of dQ, 3 of dG and dA\n"
    "Backward is memory traffic where dQ, dG and dA are an element's own: GB/s counts their bytes alone.\n";

/// The entries of the problem's matrices, whose gradients the backward pass writes.
double matrix_entries(const QP<Tensor>& qp) { return static_cast<double>(qp.Q.numel() + qp.G.numel() + qp.A.numel()); }

struct Flops {
  double forward, backward;  // of the batch
};

/// See flops_explained. `active` is the mean count of rows of G, or of bounds, that hold with equality.
Flops least_work(const Workload& w, const QP<Tensor>& qp, double active) {
  const double n = static_cast<double>(w.n), B = static_cast<double>(w.batch), p = static_cast<double>(w.p), k = static_cast<double>(w.m) + p;
  const double products = 3 * matrix_entries(qp) * (w.shared ? B : 1);  // shared ones are summed over the batch
  if (w.diagonal) {
    const double free = n - active, schur = free * p * p + p * p * p / 3;
    return {B * schur, B * (4 * n + 4 * n * p + 2 * p * p) + (w.p ? 3 * n * p * B : 0)};
  }
  const double a = active + p, form = n * n * n / 3 + n * n * k + n * k * k;
  return {form * (w.shared ? 1 : B) + B * (2 * n * n + 4 * n * k + a * a * a / 3), B * (4 * n * n + 4 * n * a + 2 * a * a) + products};
}

/// GFLOP/s of OpenBLAS's product of 512 x 512 matrices, one a thread; once the library has told it to use no threads of its own.
double dgemm_speed(int threads, clockid_t clock) {
  backend(Device::cpu);
  constexpr int n = 512;
  std::vector<std::vector<double>> memory(static_cast<std::size_t>(threads), std::vector<double>(3 * n * n, 0.5));
  const double ms = milliseconds(clock, [&] {
#pragma omp parallel for num_threads(threads)
    for (int t = 0; t < threads; ++t) {
      double* x = memory[static_cast<std::size_t>(t)].data();
      cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, n, n, n, 1, x, n, x + n * n, n, 0, x + 2 * n * n, n);
    }
  });
  return threads * 2e-6 * n * n * n / ms;
}

double active_rows(const Workload& w, const QPSolution& s) {
  const Tensor& duals = w.diagonal ? s.dual_lower : s.lambda;
  const double* dual = duals.defined() ? duals.data<double>() : nullptr;
  return static_cast<double>(std::count_if(dual, dual + duals.numel(), [](double x) { return x > 1e-9; })) / static_cast<double>(w.batch);
}

void print_row(const ordered_json& row, double gigabytes) {
  const double speed = row["gflops"], dgemm = row["dgemm_gflops"];
  std::printf("%-7s%-9s%5d%5d%5d%7d%4d%11.3f%9.2f%8.1f%7.0f%%", row["workload"].get<std::string>().c_str(), row["pass"].get<std::string>().c_str(),
              row["n"].get<int>(), row["m"].get<int>(), row["p"].get<int>(), row["batch"].get<int>(), row["threads"].get<int>(),
              row["ms"].get<double>(), speed, dgemm, 100 * speed / dgemm);
  if (row["pass"] == "forward")
    std::printf("%8.1f%10.1e\n", row["iterations"].get<double>(), row["max_residual"].get<double>());
  else if (gigabytes > 0)
    std::printf("%13.1f GB/s\n", gigabytes / row["ms"].get<double>() * 1e3);
  else
    std::printf("\n");
  std::fflush(stdout);
}

/// Two rows: the forward pass, and the backward pass for a random gradient of z.
void measure(const Workload& w, const Settings& settings, int threads, ordered_json& rows) {
  set_threads(threads);
  const clockid_t clock = settings.clock;
  const QP<Tensor> qp = problem(w, settings.seed);
  const double dgemm = dgemm_speed(threads, clock);  // beside each workload, as machines change their pace
  Random random{settings.seed + 1};
  const Tensor seed = normal(random, qp.q.shape(), 0, 1, float64);
  forget_peak_memory();
  const double before = peak_memory();
  QPSolution s = solve(qp, {.threads = threads});
  const double memory = peak_memory() - before;
  const double forward = milliseconds(clock, [&] { s = solve(qp, {.threads = threads}); });
  s = solve(qp, {.threads = threads, .differentiable = true});
  const double backward = milliseconds(clock, [&] { vjp(qp, s, {.z = seed}); });
  const Flops flops = least_work(w, qp, active_rows(w, s));
  double iterations = 0;
  for (int count : s.iterations) iterations += count / static_cast<double>(w.batch);
  for (const auto& [pass, ms, count] : {std::tuple{"forward", forward, flops.forward}, {"backward", backward, flops.backward}}) {
    rows.push_back({{"workload", w.name}, {"pass", pass}, {"n", w.n}, {"m", w.m}, {"p", w.p}, {"batch", w.batch}, {"threads", threads},
                    {"dtype", "float64"}, {"ms", ms}, {"gflops", 1e-6 * count / ms}, {"dgemm_gflops", dgemm}, {"iterations", iterations},
                    {"max_residual", largest_residual(w, qp, s)}});
    print_row(rows.back(), w.shared || w.diagonal ? 0 : 8e-9 * matrix_entries(qp));
  }
  if (w.name == "W1" || settings.custom)
    std::printf("       memory of the solve at its peak: %.1f MB, beside %.1f MB of problems\n", memory, 8e-6 * (matrix_entries(qp) + static_cast<double>(qp.q.numel() + qp.h.numel())));
}

/// Two rows each: a layer of QPs and a Linear layer of the same size, by way of the tape, as a network runs them.
void measure_layers(const Workload& w, const Settings& settings, int threads, ordered_json& rows) {
  set_threads(threads);
  const clockid_t clock = settings.clock;
  Random random{settings.seed};
  const Tensor x = normal(random, {w.batch, w.n}, 0, 1, float64);
  OptNet qp{{.variables = w.n, .inequalities = w.m, .equalities = w.p, .dtype = float64}};
  Linear linear{w.n, w.n, {.dtype = float64}};
  const auto layer = [&](const char* name, const auto& f) {
    const double forward = milliseconds(clock, [&] { Tape tape; f(); });
    Tape tape;
    const Var loss = sum(f());
    const double backward = milliseconds(clock, [&] { tape.gradients(loss); });
    for (const auto& [pass, ms] : {std::pair{"forward", forward}, {"backward", backward}}) {
      rows.push_back({{"workload", name}, {"pass", pass}, {"n", w.n}, {"m", w.m}, {"p", w.p}, {"batch", w.batch}, {"threads", threads}, {"dtype", "float64"}, {"ms", ms}});
      std::printf("%-8s%-9s%7lld%11.3f ms\n", name, pass, static_cast<long long>(w.batch), ms);
    }
  };
  layer("OptNet", [&] { return qp(x); });
  layer("Linear", [&] { return linear(x); });
}

void parse(Settings& settings, int argc, char** argv) {
  CLI::App app{"Measures the batched QP solver on workloads W1 to W7, or, with any of --n --m --p --batch, on one of that size.", "bench"};
  Workload& size = settings.size;
  const auto positive = CLI::Range(std::int64_t{1}, std::int64_t{1} << 24);
  const auto count = CLI::Range(std::int64_t{0}, std::int64_t{1} << 24);
  std::vector<CLI::Option*> custom{
      app.add_option("--n", size.n, "variables")->check(positive)->capture_default_str(),
      app.add_option("--m", size.m, "rows of G")->check(count)->capture_default_str(),
      app.add_option("--p", size.p, "rows of A")->check(count)->capture_default_str(),
      app.add_option("--batch", size.batch, "problems")->check(positive)->capture_default_str(),
      app.add_flag("--shared", size.shared, "one Q, G, h, A and b for the batch; q an element's own"),
      app.add_flag("--diagonal", size.diagonal, "as W5: Q = 0.1 I, one A for the batch, z >= 0 in place of G"),
      app.add_flag("--layers", settings.layers, "an OptNet layer and a Linear layer n -> n instead, by way of the tape"),
  };
  CLI::Option* standard = app.add_option("--workload", size.name, "only this one of W1 to W7");
  app.add_option("--seed", settings.seed, "of the problems")->capture_default_str();
  app.add_option("--threads", settings.threads, "one or several counts (default: 1 and 2)")->check(CLI::Range(1, 1024));
  app.add_flag("--core-time", settings.core_time, "time of one thread on its core, for a machine that others use too");
  app.add_option("--json", settings.json, "writes the rows to this file");
  app.add_option("--dump", settings.dump, "writes the problems to this safetensors file, and measures nothing");
  try {
    app.parse(argc, argv);
    settings.custom = std::any_of(custom.begin(), custom.end(), [](const CLI::Option* o) { return o->count() > 0; });
    if (settings.custom && standard->count()) throw CLI::ValidationError("--workload", "has its own sizes");
    if (!settings.dump.empty() && !settings.custom && !standard->count()) throw CLI::ValidationError("--dump", "needs a size or --workload");
  } catch (const CLI::ParseError& error) {
    std::exit(app.exit(error));
  }
  if (size.diagonal) size.m = size.n;
  if (settings.core_time) settings.threads = {1}, settings.clock = CLOCK_THREAD_CPUTIME_ID;
  if (settings.threads.empty()) settings.threads = {1, 2};
}

std::vector<Workload> chosen(const Settings& settings) {
  if (settings.custom) return {settings.size};
  std::vector<Workload> all = standard_workloads();
  if (settings.size.name != "custom") std::erase_if(all, [&](const Workload& w) { return w.name != settings.size.name; });
  check(!all.empty(), "bench: --workload is one of W1 to W7; got ", settings.size.name);
  return all;
}

void dump(const Workload& w, const Settings& settings) {
  const QP<Tensor> qp = problem(w, settings.seed);
  NamedTensors tensors;
  for (std::size_t i = 0; i < qp_field_names.size(); ++i)
    if (const Tensor& x = *fields(qp)[i]; x.defined()) tensors[qp_field_names[i]] = x;
  save_safetensors(settings.dump, tensors, {{"workload", w.name}});
}

void run(const Settings& settings) {
  const std::vector<Workload> workloads = chosen(settings);
  if (!settings.dump.empty()) return dump(workloads.front(), settings);
  ordered_json rows = ordered_json::array();
  if (!settings.layers)
    std::printf("%s\n%-7s%-9s%5s%5s%5s%7s%4s%11s%9s%8s%8s%8s%10s\n", flops_explained, "", "pass", "n", "m", "p", "batch", "thr", "ms", "GFLOP/s", "dgemm", "share", "steps", "residual");
  for (int threads : settings.threads)
    for (const Workload& w : workloads) settings.layers ? measure_layers(w, settings, threads, rows) : measure(w, settings, threads, rows);
  if (settings.json.empty()) return;
  std::string text = "[";
  for (const auto& row : rows) text += (text.size() > 1 ? ",\n " : "\n ") + row.dump();
  write_file(settings.json, std::string_view(text + "\n]\n"));
}

}  // namespace

int main(int argc, char** argv) {
  Settings settings;
  parse(settings, argc, argv);
  try {
    run(settings);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "bench: %s\n", error.what());
    return 1;
  }
}
