// The documents keep what they promise: they show code that compiles and link to what exists, equations are numbered
// alike in text and code, and every op is in the table of tests. (house_test.cpp: who may include whom.)
#include "tests/test.h"

#include "framework/io.h"

#include <regex>

namespace {

namespace fs = std::filesystem;

std::vector<fs::path> files_in(std::initializer_list<const char*> folders, const std::set<std::string>& extensions) {
  std::vector<fs::path> out;
  for (const char* folder : folders)
    for (const auto& entry : fs::directory_iterator(folder))
      if (extensions.contains(entry.path().extension().string())) out.push_back(entry.path());
  return out;
}

std::set<std::string> matches(const std::string& text, const char* pattern) {
  std::set<std::string> out;
  const std::regex regex(pattern);
  for (std::sregex_iterator it(text.begin(), text.end(), regex), end; it != end; ++it) out.insert((*it)[1]);
  return out;
}

std::string without_blanks(const std::string& text) { return std::regex_replace(text, std::regex("\\s+"), ""); }

}  // namespace

TEST_CASE("the code that README and the quick tour show is code of the examples", "[docs]") {
  const std::string tour = without_blanks(read_file("examples/quick_tour.cpp")), smallest = without_blanks(read_file("examples/small/linear_regression.cpp"));
  int blocks = 0;
  for (const char* document : {"README.md", "docs/quick_tour.md"}) {
    const std::string text = read_file(document);
    for (const std::string& block : matches(text, "```cpp\n([^`]*)```")) {
      INFO(document << " shows\n" << block);
      CHECK((tour + smallest).find(without_blanks(block)) != std::string::npos);
      ++blocks;
    }
  }
  CHECK(blocks >= 6);
}

TEST_CASE("links and pictures in the documents exist", "[docs]") {
  for (const fs::path& document : {fs::path("README.md"), fs::path("docs/quick_tour.md"), fs::path("docs/optnet.md"), fs::path("docs/results.md"), fs::path("docs/solver.md"), fs::path("docs/contributing.md")})
    for (const std::string& link : matches(read_file(document), "\\]\\(([^)# ]+)(?:#[^)]*)?\\)"))
      if (!link.starts_with("http")) {
        INFO(document << " links to " << link);
        CHECK(fs::exists(document.parent_path() / link));
      }
}

TEST_CASE("every numbered equation is cited in the code, and every citation exists", "[docs]") {
  std::set<std::string> cited;
  for (const fs::path& file : files_in({"solvers"}, {".h", ".cpp"})) cited.merge(matches(read_file(file), "\\((K[0-9]+)\\)"));
  CHECK(cited == matches(read_file("docs/optnet.md"), "\\((K[0-9]+)\\)"));
}

TEST_CASE("every op that the sources record has a row in the table of tests", "[docs]") {
  std::set<std::string> ops;
  for (const fs::path& file : files_in({"framework", "layers"}, {".cpp", ".cu"})) ops.merge(matches(read_file(file), "\\brecord\\(\\s*\"(\\w+)\""));
  CHECK(ops.size() > 25);
  for (const std::string& op : ops) {
    INFO("op " << op);
    CHECK(ops_of_the_table().contains(op));
  }
}
