// Messages of errors that no other test provokes, each in full; and a look through the sources for messages that no test knows.
#include "tests/test.h"

#include "framework/files.h"
#include "framework/kernel.h"

#include <algorithm>
#include <cctype>
#include <functional>
#include <map>

namespace {

struct Fault {
  std::function<void()> provoke;
  std::string message;
};

void check_all(const std::vector<Fault>& faults) {
  for (const auto& [provoke, message] : faults) CHECK(error_of(provoke) == message);
}

/// The texts of string literals in a piece of C++, neighbours joined, escapes as they are written: all, or the longest of each
/// call of check and fail.
class Texts {
 public:
  explicit Texts(const std::string& code) : code_(code) {}

  std::vector<std::string> all() {
    std::vector<std::string> out;
    while (at_ < code_.size())
      if (std::string text; next(text)) out.push_back(text);
    return out;
  }

  std::vector<std::string> of_errors() {
    std::vector<std::string> out;
    for (std::string ignored; at_ < code_.size();) {
      const std::size_t opening = begins("check(") ? 6 : begins("fail(") ? 5 : 0;
      if (opening == 0) {
        next(ignored);
        continue;
      }
      at_ += opening;
      std::string longest;
      for (int depth = 1; at_ < code_.size() && depth > 0;) {
        depth += (code_[at_] == '(') - (code_[at_] == ')');
        if (std::string text; next(text) && text.size() > longest.size()) longest = text;
      }
      if (!longest.empty()) out.push_back(longest);
    }
    return out;
  }

 private:
  static bool is_word(char c) { return std::isalnum(static_cast<unsigned char>(c)) || c == '_'; }
  bool begins(const char* word) const { return code_.compare(at_, std::strlen(word), word) == 0 && (at_ == 0 || !is_word(code_[at_ - 1])); }

  /// Steps over a comment, a character, a text or any one other sign. True for a text.
  bool next(std::string& text) {
    if (begins("//")) at_ = std::min(code_.find('\n', at_), code_.size());
    else if (code_[at_] == '\'' && (at_ == 0 || !is_word(code_[at_ - 1]))) skip_quoted('\'');
    else if (begins("R\"")) return raw(text);
    else if (code_[at_] == '"') return quoted(text);
    else ++at_;
    return false;
  }
  std::string skip_quoted(char quote) {
    const std::size_t first = ++at_;
    for (; at_ < code_.size() && code_[at_] != quote; ++at_) at_ += code_[at_] == '\\';
    return code_.substr(first, at_++ - first);
  }
  bool quoted(std::string& text) {
    text.clear();
    while (at_ < code_.size() && code_[at_] == '"') {
      text += skip_quoted('"');
      at_ = std::min(code_.find_first_not_of(" \n", at_), code_.size());
    }
    return true;
  }
  bool raw(std::string& text) {
    const std::size_t bracket = code_.find('(', at_);
    const std::string end = ")" + code_.substr(at_ + 2, bracket - at_ - 2) + "\"";
    text = code_.substr(bracket + 1, code_.find(end, bracket) - bracket - 1);
    at_ = bracket + 1 + text.size() + end.size();
    return true;
  }

  const std::string code_;
  std::size_t at_ = 0;
};

/// How a message begins, as far as tests must repeat it.
std::string beginning(const std::string& text) {
  const std::size_t first = std::min(text.find_first_not_of("': ;,)("), text.size());
  const std::string out = text.substr(first, 36);
  return out.substr(0, out.find_last_not_of(' ') + 1);
}

}  // namespace

TEST_CASE("ops and layers name what they refuse", "[errors]") {
  const Tensor x = ones({2, 3}), absent;
  check_all({
      {[&] { Tensor(Shape{2, 3}, float32, Buffer(8, Device::cpu)); }, "tensor: float32[2, 3] takes 24 bytes; got a buffer of 8"},
      {[&] { diag(ones({})); }, "diag: needs vectors, at least one axis (use reshape); got []"},
      {[&] { layer_norm(x, ones({3}), zeros({3}), 0); }, "layer_norm: eps must be positive; got 0"},
      {[&] { cross_entropy(x, from({2}, std::vector<std::int64_t>{1, 1}), {.class_weights = from({3}, {1.f, 0.f, 1.f})}); },
       "cross_entropy: the weights of the batch's labels must not all be 0; got [1, 0, 1]  [3] float32"},
      {[&] { BatchNorm2d(3, {.momentum = 1.5}); }, "BatchNorm: the momentum must lie in [0, 1]; got 1.5"},
      {[&] { LayerNorm(Shape{}); }, "LayerNorm: the shape must not be empty; got []"},
      {[&] { total_variation(ones({2, 0}), ones({})); }, "total_variation: input must be [..., n]; got [2, 0]"},
      {[&] { total_variation(ones({2, 3}), ones({}), ones({2, 4})); }, "total_variation: needs y [..., n] and D [k, n]; got [2, 3] and [2, 4]"},
      {[&] { save_safetensors("/tmp/x", {{"__metadata__", x}}); }, "save_safetensors: '__metadata__' is reserved and cannot name a tensor"},
      {[&] { parallel_for(Device::cuda, 1, 1, [](std::int64_t) {}); }, "kernel: this build has no CUDA; build with make CUDA=1"},
      {[&] { read_file("/proc/self/mem"); }, "/proc/self/mem: cannot be read (Input/output error)"},
  });
  if (available(Device::cuda)) return;
  const std::string no_gpu = error_of([&] { x.to(Device::cuda); });
  CHECK((no_gpu == "device: this build has no CUDA; build with make CUDA=1" || no_gpu.starts_with("device: CUDA cannot be used here")));
}

TEST_CASE("argmin and its gradient name what they refuse", "[errors][qp]") {
  const Tensor q = ones({2}, float64), one = full({}, 1, float64), G = ones({3, 2}, float64), h = ones({3}, float64);
  const QP<Tensor> qp{.Q = one, .q = q, .G = G, .h = h};
  const auto asked = [&](const QPOptions& options) { return [&qp, options] { solve(qp, options); }; };
  const auto refused = [](const QP<Tensor>& wrong) { return [wrong] { solve(wrong); }; };
  const QPSolution plain = solve(qp), s = solve(qp, {.differentiable = true});
  check_all({
      {refused({.Q = one, .q = zeros({0, 2}, float64)}), "argmin: the batch must not be empty; got q [0, 2]"},
      {refused({.Q = one, .q = ones({4, 2}, float64), .G = ones({3, 3, 2}, float64), .h = h}),
       "argmin: batch sizes must agree; got G [3, 3, 2] with a batch of 4"},
      {refused({.Q = ones({3, 3}, float64), .q = q}),
       "argmin: Q must be [n, n], [n] (diagonal), [] (multiple of I), or per element [batch, n, n], [batch, 1, n], [batch, 1, 1], "
       "with n = 2 from q; got [3, 3]"},
      {refused({.Q = one, .q = one}), "argmin: q must be [n] or [batch, n] with n > 0; got []"},
      {refused({.Q = one, .q = q, .G = G}), "argmin: G goes with h, lower_g or both; got only G"},
      {refused({.Q = one, .q = q, .b = h}), "argmin: A and b go together; got only b"},
      {refused({.Q = one, .q = q, .lower = zeros({})}),
       "argmin: all parameters must be float32, or all float64 (convert with to()); got lower float32 with q float64"},
      {refused({.Q = one, .q = q, .lower = one, .upper = full({}, 0, float64)}),
       "argmin: 1 of 1 problems not solved: 0 (primal infeasible: no z satisfies its constraints); "
       "mend the problem, or pass .on_failure = OnFailure::report to get statuses instead"},
      {asked({.tolerance = 0}), "argmin: tolerance must lie in (0, 1); got 0"},
      {asked({.max_iterations = 0}), "argmin: max_iterations must be positive; got 0"},
      {asked({.regularization = 1}), "argmin: regularization must lie in [0, 1); got 1"},
      {asked({.threads = -1}), "argmin: threads must lie in [0, 1024], 0 for as many as threads() says; got -1"},
      {[&] { vjp(qp, s, {.z = h}); }, "vjp: the seed of z must be [1, 2]; got [3]"},
      {[&] { vjp(qp, plain, {.z = q}); }, "vjp: the solution holds no factors; solve with .differentiable = true"},
      {[&] { vjp({.Q = one, .q = q}, s, {.z = q}); }, "vjp: the solution is of another problem; its sizes differ"},
  });
}

TEST_CASE("fit names what it refuses", "[errors]") {
  const Folder folder;
  RunFiles files{folder.path};
  const Linear net{2, 2};
  SGD sgd{net.parameters(), {.lr = 0.1}};
  const Fit good{.state = net.state(), .optimizer = sgd, .train = {ones({4, 2}), zeros({4}, int64)},
                 .loss = [&](const Dataset& batch, Epoch&) { return cross_entropy(net(batch.x), batch.y); }, .files = files};
  const auto changed = [&](const std::function<void(Fit&)>& change) {
    return [&good, change] {
      Fit fault = good;
      change(fault);
      fit(fault);
    };
  };
  save_safetensors(folder / "last.safetensors", {}, {{"rate", "0.5"}});
  check_all({
      {changed([](Fit& f) { f.batch = 0; }), "fit: needs epochs and a batch size of at least 1; got 10 and 0"},
      {changed([](Fit& f) { f.train = {}; }), "fit: needs examples to train on; got none"},
      {changed([](Fit& f) { f.loss = nullptr; }), "fit: needs a loss"},
      {changed([&](Fit& f) { f.resume = folder / "last.safetensors", f.settings = {{"rate", "0.1"}}; }),
       (folder / "last.safetensors").string() + ": it is of another run: its 'rate' is '0.5', and here '0.1'"},
  });
}

TEST_CASE("every error that the sources throw has its message in a test", "[errors][docs]") {
  // It takes a broken machine, a GPU or gigabytes to provoke these.
  const std::set<std::string> beyond_tests{"zlib cannot be started", "cannot be encoded", "cannot be opened (", "operands must be on one device (move one with to(device))",
                                           "argmin: has no CUDA code yet (move to the CPU with to(Device::cpu))", "max_pool2d: an image must have less than 2^31 entries"};
  const auto files_in = [](const char* folder) {
    std::map<std::string, std::string> out;
    for (const auto& entry : std::filesystem::directory_iterator(folder)) {
      const std::filesystem::path& file = entry.path();
      if (std::set<std::string>{".h", ".cpp", ".cu"}.contains(file.extension().string())) out[file.string()] = read_file(file);
    }
    return out;
  };
  std::string tested, thrown;
  for (const auto& [file, code] : files_in("tests"))
    for (const std::string& text : Texts(code).all()) tested += text + '\n';
  int count = 0;
  for (const char* folder : {"framework", "layers", "solvers"})
    for (const auto& [file, code] : files_in(folder)) {
      if (file == "framework/backend_cuda.cpp") continue;  // CUDA's own failures
      for (const std::string& text : Texts(code).of_errors()) {
        INFO(file << " throws \"" << text << "\": provoke it in a test; it is known by \"" << beginning(text) << '"');
        CHECK(tested.find(beginning(text)) != std::string::npos);
        thrown += text + '\n', ++count;
      }
    }
  CHECK(count > 230);
  for (const std::string& text : beyond_tests) CHECK(thrown.find(text) != std::string::npos);
}
