// Other people's QP solvers and ours on the problems of one file, in turns, each on one core: the peers that are C or C++.
// benchmarks/peers.py fetches their released packages, compiles this against them, and runs it on every workload:
//     peers PROBLEMS.safetensors --seconds 5 --answers ANSWERS.safetensors
// prints an object a line: peer, pass, ms of the whole batch (of this thread on its core, the least of all turns), and
// max_difference of z from ours.
// A peer may come in several set-ups (its one-call form, its work space kept, warm or cold): the fastest one counts.
#include "benchmarks/peer_solvers.h"
#include "framework/io.h"

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <cstdio>
#include <functional>
#include <memory>

namespace {

using namespace optnet;
using namespace optnet::benchmarks;

QP<Tensor> load(const std::string& path) {
  QP<Tensor> qp;
  const NamedTensors tensors = load_safetensors(path).tensors;
  for (std::size_t i = 0; i < qp_field_names.size(); ++i)
    if (const auto found = tensors.find(qp_field_names[i]); found != tensors.end()) *fields(qp)[i] = found->second;
  return qp;
}

/// One measurement: run() returns its milliseconds; the least is kept, with the difference from our z.
struct Entry {
  std::string peer, pass;
  std::function<double()> run;
  std::vector<double> z;
  double ms = INFINITY;
};

double solve_all(Peer& peer, const Problems& all, std::vector<double>& z) {
  const Stopwatch watch{CLOCK_THREAD_CPUTIME_ID};
  peer.begin();
  for (std::size_t e = 0; e < all.element.size(); ++e) std::copy_n(peer.solve(e), all.n, z.data() + e * static_cast<std::size_t>(all.n));
  return watch.ms();
}

#ifdef HAVE_PROXQP
/// Each backward pass is timed by itself, after its forward pass.
double backward_all(ProxQP& peer, const Problems& all) {
  double sum = 0;
  VectorXd seed(all.n + all.p + all.m + (all.bounds ? all.n : 0));
  peer.begin();
  for (std::size_t e = 0; e < all.element.size(); ++e) {
    peer.solve(e);
    seed.setZero(), seed.head(all.n).setOnes();
    const Stopwatch watch{CLOCK_THREAD_CPUTIME_ID};
    peer.backward(seed);
    sum += watch.ms();
  }
  return sum;
}
#endif

std::vector<Entry> entries(const QP<Tensor>& qp, const Problems& all, std::vector<std::unique_ptr<Peer>>& peers) {
  std::vector<Entry> out;
  out.push_back({"optnet", "forward", [&qp] {
                   const Stopwatch watch{CLOCK_THREAD_CPUTIME_ID};
                   solve(qp, {.threads = 1});
                   return watch.ms();
                 }});
  const auto add = [&](const char* name, std::unique_ptr<Peer> peer) {
    auto z = std::make_shared<std::vector<double>>(static_cast<std::size_t>(all.n * all.count));
    out.push_back({name, "forward", [&all, peer = peer.get(), z] { return solve_all(*peer, all, *z); }});
    out.back().run();
    out.back().z = *z;
    peers.push_back(std::move(peer));
  };
#ifdef HAVE_EIQUADPROG
  add("eiquadprog", std::make_unique<Eiquadprog>(all));
  add("eiquadprog", std::make_unique<EiquadprogPlain>(all));
#endif
#ifdef HAVE_DAQP
  for (auto way : {Daqp::Way::one_call, Daqp::Way::kept, Daqp::Way::warm}) add("DAQP", std::make_unique<Daqp>(all, way));
#endif
#ifdef HAVE_PIQP
  add("PIQP", std::make_unique<Piqp>(all));
#endif
  out.push_back({"optnet", "backward", [&qp, kept = solve(qp, {.threads = 1, .differentiable = true}), seed = ones(qp.q.shape(), float64)] {
                   const Stopwatch watch{CLOCK_THREAD_CPUTIME_ID};
                   vjp(qp, kept, {.z = seed});
                   return watch.ms();
                 }});
#ifdef HAVE_PROXQP
  for (bool guess : {true, false}) add("ProxQP", std::make_unique<ProxQP>(all, guess));
  auto prox = std::make_unique<ProxQP>(all, false);
  if (!all.bounds) out.push_back({"ProxQP", "backward", [&all, peer = prox.get()] { return backward_all(*peer, all); }});  // it differentiates rows only
  peers.push_back(std::move(prox));
#endif
  return out;
}

void run(const std::string& path, double seconds, const std::string& answers) {
  set_threads(1);
  const QP<Tensor> qp = load(path);
  const Problems all = convert(qp);
  const Tensor z = solve(qp, {.threads = 1}).z;
  if (!answers.empty()) save_safetensors(answers, {{"z", z}});
  std::vector<std::unique_ptr<Peer>> peers;
  std::vector<Entry> rows = entries(qp, all, peers);
  const Stopwatch clock;
  for (int turn = 0; turn < 3 || clock.ms() < 1e3 * seconds; ++turn)
    for (Entry& row : rows)
      for (int run = 0; run < 3; ++run) row.ms = std::min(row.ms, row.run());  // the first after another finds caches full of his data
  for (const Entry& row : rows) {
    double difference = 0;
    for (std::size_t i = 0; i < row.z.size(); ++i) difference = std::max(difference, std::abs(row.z[i] - z.data<double>()[i]));
    std::puts(nlohmann::ordered_json{{"peer", row.peer}, {"pass", row.pass}, {"ms", row.ms}, {"max_difference", difference}}.dump().c_str());
  }
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"Times QP solvers on the problems of a file.", "peers"};
  std::string problems, answers;
  double seconds = 5;
  app.add_option("problems", problems, "made by ./bench --dump")->required()->check(CLI::ExistingFile);
  app.add_option("--seconds", seconds, "to spend")->capture_default_str();
  app.add_option("--answers", answers, "writes our z to this safetensors file");
  CLI11_PARSE(app, argc, argv);
  try {
    run(problems, seconds, answers);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "peers: %s\n", error.what());
    return 1;
  }
}
