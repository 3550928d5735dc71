// Who may include whom, over all files and through all includes: a floor sees itself and those below, solvers never
// see the tape, and nothing includes itself by a detour.
#include "tests/test.h"

#include <map>
#include <regex>

namespace {

using Names = std::set<std::string>;

/// Each source file with the project's files it includes, as paths from the root.
const std::map<std::string, Names>& includes() {
  static const std::map<std::string, Names> all = [] {
    std::map<std::string, Names> out;
    const std::regex include(R"re((^|\n)\s*#\s*include\s*"([^"]+)")re");
    for (const char* folder : {"framework", "solvers", "layers", "examples", "examples/small", "benchmarks", "tests"}) {
      if (!std::filesystem::is_directory(folder)) continue;
      for (const auto& entry : std::filesystem::directory_iterator(folder)) {
        if (!Names{".h", ".cpp", ".cu"}.contains(entry.path().extension().string())) continue;
        const std::string text = read_file(entry.path());
        Names& mine = out[entry.path().string()];
        for (std::sregex_iterator it(text.begin(), text.end(), include), end; it != end; ++it) mine.insert((*it)[2]);
      }
    }
    return out;
  }();
  return all;
}

bool is_in(const std::string& path, const char* folder) { return path.starts_with(std::string(folder) + "/"); }

/// All files that `path` includes, directly or through others.
Names reached_from(const std::string& path) {
  Names reached;
  std::vector<std::string> open{path};
  while (!open.empty()) {
    const auto found = includes().find(open.back());
    open.pop_back();
    if (found == includes().end()) continue;
    for (const std::string& next : found->second)
      if (reached.insert(next).second) open.push_back(next);
  }
  return reached;
}

}  // namespace

TEST_CASE("folders include only folders below them", "[house]") {
  REQUIRE(includes().size() > 30);  // run from the repository's root
  for (const auto& [file, included] : includes())
    for (const std::string& name : included) {
      INFO(file << " includes " << name);
      if (is_in(file, "framework")) CHECK(is_in(name, "framework"));
      if (is_in(file, "solvers")) CHECK((is_in(name, "framework") || is_in(name, "solvers")));
      if (is_in(file, "layers")) CHECK((is_in(name, "framework") || is_in(name, "solvers") || is_in(name, "layers")));
      if (is_in(file, "examples") || is_in(file, "benchmarks")) CHECK_FALSE(is_in(name, "tests"));
    }
}

TEST_CASE("a file includes only files of its own floor or lower ones", "[house]") {
  const std::vector<Names> floors{
      {"error", "dtype", "shape", "backend", "backend_cpu", "backend_cuda"}, {"tensor", "kernel", "random"}, {"tape"},
      {"ops", "pointwise", "reduce", "softmax", "scan", "matmul", "index", "triangle", "conv", "conv_direct", "norm", "loss"},
      {"optim", "data", "encoding", "io", "files", "npy", "idx", "csv", "image", "gradcheck", "train", "fit"}};
  const auto floor_of = [&](const std::string& path) {
    if (is_in(path, "layers")) return 10;
    if (is_in(path, "solvers")) return 2;
    if (!is_in(path, "framework")) return 11;
    const std::string stem = std::filesystem::path(path).stem();
    for (std::size_t i = 0; i < floors.size(); ++i)
      if (floors[i].contains(stem)) return static_cast<int>(i);
    FAIL(path << " has no floor: give it one here and in docs/contributing.md");
    return -1;
  };
  int count = 0;
  for (const auto& [file, included] : includes()) {
    if (!is_in(file, "framework") && !is_in(file, "solvers") && !is_in(file, "layers")) continue;
    for (const std::string& name : included) {
      INFO(file << " includes " << name);
      CHECK(floor_of(name) <= floor_of(file));
      ++count;
    }
  }
  CHECK(count > 30);
}

TEST_CASE("solvers are usable alone: they see numbers, never the tape or an op", "[house]") {
  const Names allowed{"framework/error.h", "framework/dtype.h", "framework/shape.h", "framework/backend.h", "framework/kernel.h", "framework/tensor.h"};
  int count = 0;
  for (const auto& [file, included] : includes()) {
    if (!is_in(file, "solvers")) continue;
    for (const std::string& name : reached_from(file)) {
      INFO(file << " reaches " << name);
      CHECK((allowed.contains(name) || is_in(name, "solvers")));
      ++count;
    }
  }
  CHECK(count > 20);
}

TEST_CASE("a small example is one file that needs the public header alone", "[house]") {
  int count = 0;
  for (const auto& [file, included] : includes()) {
    if (!is_in(file, "examples/small")) continue;
    INFO(file);
    CHECK(included == Names{"optnet.h"});
    ++count;
  }
  CHECK(count >= 7);
}

TEST_CASE("no file includes itself by a detour", "[house]") {
  for (const auto& [file, included] : includes()) {
    INFO(file);
    CHECK_FALSE(reached_from(file).contains(file));
  }
}

TEST_CASE("every file that is included by a path from the root exists", "[house]") {
  for (const auto& [file, included] : includes())
    for (const std::string& name : included) {
      INFO(file << " includes " << name);
      CHECK(std::filesystem::exists(name));
    }
}
