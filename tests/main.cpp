// Runs the tests, and watches the tape while they run: an op that was recorded anywhere and has no row in the table
// of ops_test.cpp fails a run of the whole suite. The last line counts the tests.
#define CATCH_CONFIG_RUNNER
#include "tests/test.h"

#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <iostream>

namespace {

std::set<std::string> recorded;  // names of ops; those that tests make up begin with "test:"
std::set<std::string> reasons;   // for skipping, already printed
bool skipped_this = false;
std::size_t passed = 0, failed = 0, skipped = 0;

struct Counter : Listener {
  using Listener::Listener;
  void testCaseStarting(const Catch::TestCaseInfo&) override { skipped_this = false; }
  void testCaseEnded(const Catch::TestCaseStats& stats) override {
    if (skipped_this && stats.totals.testCases.failed == 0) ++skipped;
  }
  void testRunEnded(const Catch::TestRunStats& stats) override {
    passed = stats.totals.testCases.passed + stats.totals.testCases.failedButOk - skipped;
    failed = stats.totals.testCases.failed;
  }
};
CATCH_REGISTER_LISTENER(Counter)

/// True unless an op was recorded without a row.
bool every_op_has_a_row() {
  bool complete = true;
  for (const std::string& op : recorded) {
    if (op.starts_with("test:") || ops_of_the_table().contains(op)) continue;
    std::cout << "FAILED: the op \"" << op << "\" was recorded but has no row in the table of tests/ops_test.cpp: add one\n";
    complete = false;
  }
  return complete;
}

}  // namespace

/// Under the address sanitizer an allocation beyond all memory fails as it does elsewhere, instead of ending the run.
extern "C" const char* __asan_default_options() { return "allocator_may_return_null=1"; }
extern "C" const char* __tsan_default_options() { return "allocator_may_return_null=1:ignore_noninstrumented_modules=1"; }

void skip(const std::string& reason) {
  skipped_this = true;
  if (reasons.insert(reason).second) std::cout << "skipped: " << reason << std::endl;
  SUCCEED("skipped: " << reason);
}

Folder::Folder() {
  std::string name = (std::filesystem::temp_directory_path() / "optnet_test.XXXXXX").string();
  if (!::mkdtemp(name.data())) fail("cannot make the folder ", name);
  path = name;
}

Outcome run(const Scratch& folder, const std::string& command) {
  const int status = std::system(("{ " + command + "; } >" + folder / "stdout" + " 2>" + folder / "stderr" + " </dev/null").c_str());
  return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, read_file(folder / "stdout"), read_file(folder / "stderr")};
}

std::string python_with(const std::string& modules) {
  for (const std::string python : {"build/venv/bin/python3", "python3"})
    if (std::system((python + " -c 'import " + modules + "' >/dev/null 2>&1").c_str()) == 0) return python;
  return "";
}

int main(int argc, char** argv) {
  Catch::Session session;
  if (const int wrong = session.applyCommandLine(argc, argv)) return wrong;
  const auto& options = session.configData();
  if (options.showHelp || options.listTests || options.listTags || options.listReporters) return session.run();

  Tape::observer = [](const char* op) { recorded.insert(op); };
  int result = session.run();
  if (options.testsOrTags.empty() && options.sectionsToRun.empty() && !every_op_has_a_row()) result = 1;
  std::cout << passed << " passed, " << failed << " failed";
  if (skipped) std::cout << ", " << skipped << " skipped";
  std::cout << std::endl;
  return result;
}
