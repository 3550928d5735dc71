// ./bench_framework: what the framework takes without its solver, on one core: the cost of an op, training steps, a convolution, an
// optimiser's step, beside the machine's own sgemm and memcpy. Rows of JSON; framework_peers.py sets PyTorch beside them.
#include "benchmarks/workloads.h"
#include "framework/data.h"
#include "framework/io.h"
#include "framework/optim.h"
#include "layers/images.h"
#include "layers/layers.h"

#include <CLI/CLI.hpp>
#include <cblas.h>
#include <nlohmann/json.hpp>

#include <cstdio>
#include <cstring>

namespace {

using namespace optnet;
using namespace optnet::benchmarks;
using nlohmann::ordered_json;

/// A step of a workload: of its whole batch, or of one example to warm up.
enum class Size { whole, one };
using Step = std::function<void(Size)>;

/// `make` prepares a step and its data. Flops and bytes are the least that a step takes, for the speed that it shows.
struct Job {
  std::string name;
  std::function<Step()> make;
  std::int64_t repeats = 1;  // a run is so many steps
  double flops = 0, bytes = 0;
};

/// A training step of a classifier into ten classes, batch 128: forward, cross entropy, backward, Adam.
Step training(const Sequential& net, Shape shape) {
  Random random{1};
  const Dataset whole{normal(random, shape), from({128}, std::vector<std::int64_t>(128, 3))};
  shape[0] = 1;
  const Dataset one{normal(random, shape), from({1}, {std::int64_t{3}})};
  return [=, adam = std::make_shared<Adam>(net.parameters())](Size size) {
    const auto& [x, y] = size == Size::whole ? whole : one;
    Tape tape;
    adam->step(tape.gradients(cross_entropy(net(x), y)));
  };
}

Step tiny_op() {
  Random random{1};
  return [a = Param(normal(random, {16})), b = Param(normal(random, {16}))](Size) {
    Tape tape;
    const Gradients gradients = tape.gradients(sum(Var(a) + Var(b)));
    check(gradients[a].numel() + gradients[b].numel() == 32, "bench_framework: two gradients of 16 numbers");
  };
}

Step mlp() { return training(Sequential{Linear{784, 600}, ReLU{}, Linear{600, 10}}, {128, 784}); }

/// LeNet in the form that Caffe made common: 20 and 50 channels, 500 hidden units.
Step lenet() {
  return training(Sequential{Conv2d{1, 20, 5}, MaxPool2d{2}, Conv2d{20, 50, 5}, MaxPool2d{2}, Flatten{}, Linear{800, 500}, ReLU{}, Linear{500, 10}},
                  {128, 1, 28, 28});
}

Step convolution() {
  Random random{1};
  return [net = Conv2d{64, 64, 3, {.padding = 1}}, x = Param(normal(random, {16, 64, 32, 32})), dy = normal(random, {16, 64, 32, 32})](Size) {
    Tape tape;
    const Gradients gradients = tape.gradients(sum(net(x) * Var(dy)));
    check(gradients[x].numel() == x.value().numel(), "bench_framework: the input's gradient");
  };
}

constexpr std::int64_t adam_size = 10'000'000;
Step adam_step() {
  Random random{1};
  const Param x(normal(random, {adam_size}));
  const auto gradients = [&] {
    Tape tape;
    return tape.gradients(sum(Var(x) * Var(normal(random, {adam_size}))));
  }();
  return [=, adam = std::make_shared<Adam>(std::vector<NamedParam>{{"x", x}})](Size) { adam->step(gradients); };
}

std::vector<Job> jobs() {
  // Products of a Linear layer or of a convolution: forward, by the weight and, but for the first layer, by the input.
  const double mlp_products = 2 * 784 * 600 + 3 * 600 * 10;
  const double lenet_products = 2 * 20 * 25 * 24 * 24 + 3 * 50 * 500 * 8 * 8 + 3 * (800 * 500 + 500 * 10);
  return {{.name = "tiny", .make = tiny_op, .repeats = 1000},
          {.name = "mlp", .make = mlp, .flops = 2 * 128 * mlp_products},
          {.name = "lenet", .make = lenet, .flops = 2 * 128 * lenet_products},
          {.name = "conv", .make = convolution, .flops = 2.0 * 16 * 3 * 64 * 64 * 9 * 32 * 32},
          {.name = "adam", .make = adam_step, .bytes = 7.0 * 4 * adam_size}};  // reads x, dx, m, v; writes x, m, v
}

/// What the machine can do: a product of 1024 x 1024 matrices by OpenBLAS, and a copy of as many bytes as Adam's parameters have.
std::vector<Job> limits() {
  constexpr int n = 1024;
  const auto sgemm = [] {
    return [a = std::vector<float>(n * n, 0.5f), b = std::vector<float>(n * n, 0.5f), c = std::make_shared<std::vector<float>>(n * n)](Size) {
      cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, n, n, n, 1, a.data(), n, b.data(), n, 0, c->data(), n);
    };
  };
  const auto copy = [] {
    const auto memory = [] { return std::make_shared<Buffer>(4 * adam_size, Device::cpu); };
    const auto from = memory(), to = memory();
    std::memset(from->data(), 1, from->bytes()), std::memset(to->data(), 1, to->bytes());
    return [=](Size) { std::memcpy(to->data(), from->data(), from->bytes()); };
  };
  return {{.name = "sgemm", .make = sgemm, .flops = 2.0 * n * n * n}, {.name = "memcpy", .make = copy, .bytes = 2.0 * 4 * adam_size}};
}

struct Settings {
  std::string only, json;
  int threads = 1;
  bool memory = false, core_time = false;
};

ordered_json time_of(const Job& job, const Settings& settings) {
  const Step step = job.make();
  const double ms = milliseconds(settings.core_time ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, [&] {
    for (std::int64_t i = 0; i < job.repeats; ++i) step(Size::whole);
  }) / static_cast<double>(job.repeats);
  ordered_json row{{"workload", job.name}, {"threads", settings.threads}, {"ms", ms}};
  if (job.flops > 0) row["gflops"] = 1e-6 * job.flops / ms;
  if (job.bytes > 0) row["gigabytes_per_second"] = 1e-6 * job.bytes / ms;
  return row;
}

/// By how much resident memory grows, at its peak, in steps of the whole batch after one of a single example, which has brought in
/// code, parameters and the optimiser's state.
ordered_json memory_of(const Job& job, const Settings& settings) {
  const Step step = job.make();
  step(Size::one);
  forget_peak_memory();
  const double before = peak_memory();
  for (int i = 0; i < 5; ++i) step(Size::whole);
  return {{"workload", job.name}, {"threads", settings.threads}, {"megabytes", peak_memory() - before}};
}

Settings parse(int argc, char** argv) {
  Settings settings;
  CLI::App app{"Measures the framework without its solver: tiny, mlp, lenet, conv, adam, and the limits sgemm and memcpy.", "bench_framework"};
  app.add_option("--workload", settings.only, "only this one");
  app.add_option("--threads", settings.threads, "of the framework; OpenBLAS is given no threads of its own")->check(CLI::Range(1, 1024))->capture_default_str();
  app.add_flag("--memory", settings.memory, "peak memory of the workload's steps in place of their time; a process for each workload");
  app.add_flag("--core-time", settings.core_time, "time of one thread on its core, for a machine that others use too");
  app.add_option("--json", settings.json, "writes the rows to this file as well");
  try {
    app.parse(argc, argv);
    if (settings.memory && settings.only.empty()) throw CLI::ValidationError("--memory", "needs --workload");
    if (settings.core_time && settings.threads != 1) throw CLI::ValidationError("--core-time", "needs --threads 1");
  } catch (const CLI::ParseError& error) {
    std::exit(app.exit(error));
  }
  return settings;
}

void run(const Settings& settings) {
  set_threads(settings.threads);
  backend(Device::cpu);  // which tells OpenBLAS to use no threads
  std::vector<Job> all = jobs();
  for (const Job& limit : limits()) all.push_back(limit);
  std::string text;
  for (const Job& job : all) {
    if (!settings.only.empty() && job.name != settings.only) continue;
    const ordered_json row = settings.memory ? memory_of(job, settings) : time_of(job, settings);
    std::printf("%s\n", row.dump().c_str());
    std::fflush(stdout);
    text += (text.empty() ? "[\n " : ",\n ") + row.dump();
  }
  check(!text.empty(), "--workload is one of tiny, mlp, lenet, conv, adam, sgemm and memcpy; got ", settings.only);
  if (!settings.json.empty()) write_file(settings.json, std::string_view(text + "\n]\n"));
}

}  // namespace

int main(int argc, char** argv) {
  const Settings settings = parse(argc, argv);
  try {
    run(settings);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "bench_framework: %s\n", error.what());
    return 1;
  }
}
