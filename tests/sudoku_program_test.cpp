// The Sudoku example's two programs, run as a person runs them, from the repository's root.
#include "tests/test.h"

#include "examples/sudoku.h"
#include "examples/sudoku_picture.h"
#include "framework/train.h"

#include <nlohmann/json.hpp>

#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <fstream>
#include <thread>

using namespace sudoku;
using Catch::Matchers::StartsWith;
namespace fs = std::filesystem;

namespace {

/// Records without what a clock says.
std::vector<nlohmann::ordered_json> timeless(const std::string& file) {
  auto out = read_records(file);
  for (auto& record : out) record.erase("train_seconds"), record.erase("boards_per_second");
  return out;
}

/// The same parameters, optimiser state and metrics, bit for bit.
bool same_run(const Scratch& folder, const std::string& a, const std::string& b) {
  const Checkpoint last_a = load_safetensors(folder / a + "/last.safetensors"), last_b = load_safetensors(folder / b + "/last.safetensors");
  if (last_a.tensors.size() != last_b.tensors.size()) return false;
  for (const auto& [name, x] : last_a.tensors)
    if (!last_b.tensors.contains(name) || !same_bits(x, last_b.tensors.at(name))) return false;
  return read_file(folder / a + "/model.safetensors") == read_file(folder / b + "/model.safetensors") &&
         timeless(folder / a + "/metrics.jsonl") == timeless(folder / b + "/metrics.jsonl");
}

constexpr const char* small = "./sudoku_train --boards 600 --epochs 2 ";

/// Starts a long run, sends the signal once it has finished an epoch, and returns its exit code.
int interrupt(const Scratch& folder, const std::string& out, int signal, const std::string& flags) {
  const pid_t child = ::fork();
  if (child == 0) {
    ::execl("/bin/sh", "sh", "-c", ("exec ./sudoku_train " + flags + " --out " + folder / out + " >" + folder / out + ".txt 2>&1").c_str(), nullptr);
    ::_exit(127);
  }
  for (int i = 0; i < 2000 && (!fs::exists(folder / out + "/metrics.jsonl") || fs::file_size(folder / out + "/metrics.jsonl") == 0); ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  ::kill(child, signal);
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

}  // namespace

// ---- sudoku_train ----------------------------------------------------------------------------------------------

TEST_CASE("a training run writes its metrics, parameters and pictures", "[sudoku][program]") {
  const Scratch folder;
  const Outcome qp = run(folder, "./sudoku_train --boards 600 --epochs 1 --out " + folder / "new/run");
  INFO(qp.err);
  REQUIRE(qp.code == 0);
  for (const char* name : {"metrics.jsonl", "model.safetensors", "last.safetensors", "boards.png"}) CHECK(fs::file_size(folder / "new/run/" + name) > 0);
  const auto metrics = read_records(folder / "new/run/metrics.jsonl");
  REQUIRE(metrics.size() == 2);
  const std::string text = read_file(folder / "new/run/metrics.jsonl"), last = text.substr(text.find('\n') + 1);
  CHECK_THAT(last, StartsWith(R"({"event":"final","model":"optnet","seed":0,"epochs":1,"test_boards":60,"test_boards_wrong":)"));
  CHECK(metrics[1].size() == 7);
  CHECK(metrics[1]["train_seconds"].is_number_float());
  CHECK(qp.out.find('\r') == std::string::npos);
  CHECK_THAT(qp.out, Contains("epoch 1/1") && Contains("boards/s") && Contains("left"));

  const Outcome mlp = run(folder, "./sudoku_train --model mlp --boards 600 --epochs 2 --out " + folder / "new/run");
  REQUIRE(mlp.code == 0);
  CHECK_THAT(mlp.out, Contains("OptNet ") && Contains("MLP "));  // the table
  CHECK(read_records(folder / "new/run/metrics.jsonl").back()["model"] == "mlp");
  CHECK(read_records(folder / "new/run/metrics.optnet.jsonl").back()["model"] == "optnet");
  CHECK(load_safetensors(folder / "new/run/model.safetensors").metadata.at("model") == "optnet");
}

TEST_CASE("one seed fixes a run, whatever the number of threads", "[sudoku][program]") {
  const Scratch folder;
  REQUIRE(run(folder, small + ("--seed 5 --threads 1 --out " + folder / "a")).code == 0);
  REQUIRE(run(folder, small + ("--seed 5 --threads 2 --out " + folder / "b")).code == 0);
  REQUIRE(run(folder, small + ("--seed 6 --threads 2 --out " + folder / "c")).code == 0);
  CHECK(same_run(folder, "a", "b"));
  CHECK_FALSE(same_run(folder, "a", "c"));
}

TEST_CASE("a run that Ctrl-C stopped goes on bit for bit", "[sudoku][program]") {
  const Scratch folder;
  const std::string flags = "--boards 1000 --epochs 3 --batch 20 --split grids --threads 1";
  REQUIRE(run(folder, "./sudoku_train " + flags + " --out " + folder / "whole").code == 0);
  REQUIRE(interrupt(folder, "parts", SIGINT, flags) == 130);
  CHECK_THAT(read_file(folder / "parts.txt"), Contains("to go on: ./sudoku_train --resume " + folder / "parts/last.safetensors"));
  for (const char* name : {"metrics.jsonl", "model.safetensors", "last.safetensors", "boards.png"}) CHECK(fs::exists(folder / "parts/" + name));
  CHECK(read_records(folder / "parts/metrics.jsonl").back()["event"] == "epoch");
  const Outcome resumed = run(folder, "./sudoku_train --resume " + folder / "parts/last.safetensors");
  INFO(resumed.err);
  REQUIRE(resumed.code == 0);
  CHECK(same_run(folder, "whole", "parts"));
  CHECK(read_records(folder / "parts/metrics.jsonl").size() == 4);

  REQUIRE(interrupt(folder, "term", SIGTERM, flags) == 130);
  const Outcome refused = run(folder, "./sudoku_train --seed 3 --resume " + folder / "term/last.safetensors");
  CHECK(refused.code == 2);
  CHECK_THAT(refused.err, Contains("--seed") && Contains("'3' contradicts") && Contains("'0'"));
}

TEST_CASE("a run does not cost an earlier one its files", "[sudoku][program]") {
  const Scratch folder;
  const std::string flags = "./sudoku_train --model mlp --out " + folder / "run ";
  REQUIRE(run(folder, flags + "--boards 600 --epochs 1").code == 0);
  const std::string model = read_file(folder / "run/model.mlp.safetensors"), metrics = read_file(folder / "run/metrics.mlp.jsonl");
  run(folder, "timeout -s INT 1 " + flags + "--boards 1000000 --batch 1");  // stopped before its first epoch's end
  CHECK(read_file(folder / "run/model.mlp.safetensors") == model);
  CHECK(read_file(folder / "run/metrics.mlp.jsonl") == metrics);
  CHECK(read_file(folder / "run/metrics.jsonl") == metrics);
  const Outcome second = run(folder, flags + "--boards 600 --epochs 1 --seed 1");
  CHECK(second.code == 0);
  CHECK_THAT(second.out, Contains("what an earlier run left in " + folder / "run moves to " + folder / "run/old."));
  CHECK(read_file(folder / "run/model.mlp.safetensors") != model);
  int kept = 0;
  for (const auto& entry : fs::recursive_directory_iterator(folder / "run"))
    if (entry.path().filename() == "model.mlp.safetensors") kept += read_file(entry.path()) == model;
  CHECK(kept == 1);
}

TEST_CASE("a folder that cannot be written into is refused, and what is in it stays", "[sudoku][program]") {
  const Scratch folder;
  REQUIRE(run(folder, "./sudoku_train --boards 100 --epochs 1 --out " + folder / "run").code == 0);
  const std::string last = read_file(folder / "run/last.safetensors");
  fs::copy("sudoku_train", folder / "sudoku_train");
  fs::permissions(folder.path, fs::perms(0755));
  fs::permissions(folder / "run", fs::perms(0555));
  const std::string nobody = ::geteuid() == 0 ? "setpriv --reuid 65534 --regid 65534 --clear-groups " : "";  // root may write anywhere
  const std::string program = nobody + folder / "sudoku_train" + " ";
  for (const std::string& flags : {"--resume " + folder / "run/last.safetensors", "--out " + folder / "run/new"}) {
    const Outcome outcome = run(folder, program + flags);
    CHECK(outcome.code == 2);
    CHECK_THAT(outcome.err, Contains("--out: cannot write into '" + folder / "run") && Contains("give a folder that is there, or can be made, and is writable"));
  }
  fs::permissions(folder / "run", fs::perms(0755));
  CHECK(read_file(folder / "run/last.safetensors") == last);
}

TEST_CASE("training that diverges ends in advice", "[sudoku][program]") {
  const Scratch folder;
  REQUIRE(run(folder, "./sudoku_train --boards 100 --epochs 1 --lr 1.5 --out " + folder / "run").code == 0);
  Checkpoint last = load_safetensors(folder / "run/last.safetensors");
  auto state = nlohmann::json::parse(last.metadata.at("state"));
  state["epoch"] = 1, state["best"] = 0;
  last.metadata["state"] = state.dump();
  last.tensors["model.rules.A"] = full({40, 64}, std::nan(""));  // as a step that is too long leaves it
  save_safetensors(folder / "run/last.safetensors", last.tensors, last.metadata);
  const Outcome outcome = run(folder, "./sudoku_train --resume " + folder / "run/last.safetensors");
  CHECK(outcome.code == 1);
  CHECK_THAT(outcome.err, Contains("training diverged in epoch 1: ") && Contains("try a smaller --lr than 1.5") && !Contains("argmin"));
}

TEST_CASE("output that is lost is an error", "[sudoku][program]") {
  const Scratch folder;
  const std::string train = "./sudoku_train --boards 100 --epochs 1 --out " + folder / "run";
  for (const std::string& command : {train, std::string("./sudoku_train --help"), "./sudoku_solve 0020300000040100 --model " + folder / "run/model.safetensors"}) {
    const Outcome lost = run(folder, command + " >/dev/full");
    INFO(command);
    CHECK(lost.code != 0);
    CHECK_THAT(lost.err, Contains("standard output cannot be written (is the disk full?)"));
  }
  CHECK(fs::exists(folder / "run/model.safetensors"));
}

TEST_CASE("threads that wait do not spin for long, unless they are told to", "[sudoku][program]") {
  const Scratch folder;
  const std::string show = "OMP_DISPLAY_ENV=verbose ./sudoku_train --help";
  CHECK_THAT(run(folder, show).err, Contains("GOMP_SPINCOUNT = '1000'") || Contains("KMP_BLOCKTIME='0"));
  CHECK_THAT(run(folder, "GOMP_SPINCOUNT=7 " + show).err, !Contains("GOMP_SPINCOUNT = '1000'") && !Contains("KMP_BLOCKTIME='0"));
}

TEST_CASE("people can train on their own puzzles", "[sudoku][program]") {
  const Scratch folder;
  Random random{3, 0};
  std::ofstream file(folder / "mine.txt");
  for (const Puzzle& puzzle : make_puzzles(random, 200)) file << to_string(puzzle.givens) << '\n';
  file.close();
  CHECK(run(folder, "./sudoku_train --epochs 1 --puzzles " + folder / "mine.txt" + " --out " + folder / "run").code == 0);
  CHECK(read_records(folder / "run/metrics.jsonl").back()["test_boards"] == 20);
  CHECK(run(folder, "cat " + folder / "mine.txt" + " | ./sudoku_train --epochs 1 --puzzles - --out " + folder / "piped").code == 0);
  CHECK(same_run(folder, "run", "piped"));

  // A run is resumed from any folder, and its puzzles may have moved.
  const std::string train = (fs::current_path() / "sudoku_train").string(), resume = " --resume " + folder / "run/last.safetensors";
  REQUIRE(run(folder, "cd " + folder / "" + " && " + train + " --epochs 1 --puzzles mine.txt --out run").code == 0);
  CHECK(run(folder, train + resume).code == 0);
  fs::rename(folder / "mine.txt", folder / "moved.txt");
  CHECK(run(folder, train + resume).code == 2);
  CHECK(run(folder, train + resume + " --puzzles " + folder / "moved.txt").code == 0);
  fs::rename(folder / "moved.txt", folder / "mine.txt");
  std::ofstream(folder / "mine.txt", std::ios::app) << "12341234\n";
  const Outcome bad = run(folder, "./sudoku_train --puzzles " + folder / "mine.txt" + " --out " + folder / "run");
  CHECK(bad.code == 2);
  CHECK_THAT(bad.err, Contains("mine.txt: line 201: "));
  CHECK(run(folder, "./sudoku_train --puzzles " + folder / "mine.txt" + " --out " + folder / "none").code == 2);
  CHECK_FALSE(fs::exists(folder / "none"));
}

TEST_CASE("a bad flag is refused by name, with its value and the remedy", "[sudoku][program]") {
  const Scratch folder;
  std::ofstream(folder / "damaged") << "no tensors at all";
  const struct { std::string flags, named, said; } cases[] = {
      {"--model resnet", "--model", "must be optnet, mlp or conv; got 'resnet'"},
      {"--epochs 0", "--epochs", "whole number from 1"},
      {"--epochs 1.5", "--epochs", "got '1.5'"},
      {"--batch -3", "--batch", "got '-3'"},
      {"--lr -0.1", "--lr", "must be a positive number from 1e-12 to 1e6, such as 0.1; got '-0.1'"},
      {"--lr nan", "--lr", "got 'nan'"},
      {"--lr inf", "--lr", "got 'inf'"},
      {"--eps 0", "--eps", "must be a positive number"},
      {"--model mlp --eps 0.1", "--eps", "only the model optnet"},
      {"--seed x", "--seed", "got 'x'"},
      {"--threads 0", "--threads", "from 1 to 1024"},
      {"--boards 19", "--boards", "from 20"},
      {"--split boxes", "--split", "must be puzzles or grids; got 'boxes'"},
      {"--puzzles ''", "--puzzles", "must be a file"},
      {"--puzzles /nowhere/p.txt", "--puzzles", "/nowhere/p.txt: there is no such file"},
      {"--boards 100 --puzzles /nowhere/p.txt", "--boards", "leave one of the two out"},
      {"--resume /nowhere/last.safetensors", "--resume", "there is no such file"},
      {"--resume " + folder / "damaged", "--resume", "not a safetensors file"},
      {"--out " + folder / "damaged/run", "--out", "writable"},
      {"--epochs", "--epochs", "missing"},
      {"--rate 3", "--rate", "not expected"},
  };
  for (const auto& [flags, named, said] : cases) {
    const std::string out = flags.starts_with("--out") ? "" : "--out " + folder / "run ";
    const Outcome outcome = run(folder, "./sudoku_train " + out + flags);
    INFO(flags << ": " << outcome.err);
    CHECK(outcome.code == 2);
    CHECK_THAT(outcome.err, Contains(named) && Contains(said));
  }
  CHECK(run(folder, "./sudoku_train --help").code == 0);
}

TEST_CASE("a checkpoint that was tampered with is refused", "[sudoku][program]") {
  const Scratch folder;
  REQUIRE(run(folder, "./sudoku_train --boards 100 --epochs 1 --out " + folder / "run").code == 0);
  const Checkpoint whole = load_safetensors(folder / "run/last.safetensors");
  const auto refuses = [&](const Checkpoint& changed, const std::string& said) {
    save_safetensors(folder / "run/changed.safetensors", changed.tensors, changed.metadata);
    const Outcome outcome = run(folder, "./sudoku_train --resume " + folder / "run/changed.safetensors");
    INFO(outcome.err);
    CHECK(outcome.code == 2);
    CHECK_THAT(outcome.err, Contains("--resume") && Contains(said));
  };
  Checkpoint changed = whole;
  changed.tensors.erase("model.rules.A");
  refuses(changed, "rules.A");
  changed = whole;
  changed.metadata["state"] = "{";
  refuses(changed, "not a checkpoint of this trainer: its state is damaged");
  for (const char* part : {"state", "metrics"}) {
    changed = whole;
    changed.metadata.erase(part);
    refuses(changed, "not a checkpoint of this trainer");
  }
  for (const auto& [name, value] : {std::pair("batch", "99"), std::pair("epoch", "-1"), std::pair("epoch", "1e300"), std::pair("best", "7")}) {
    auto state = nlohmann::json::parse(whole.metadata.at("state"));
    state[name] = nlohmann::json::parse(value);
    changed = whole;
    changed.metadata["state"] = state.dump();
    refuses(changed, std::string("not a checkpoint of this trainer: '") + name + "' is");
  }
  changed = whole;
  changed.metadata["seed"] = "4";
  refuses(changed, "it is of another run: its 'puzzles_fingerprint' is '");
  changed = whole;
  changed.metadata.erase("lr");
  refuses(changed, "'lr'");
  const std::string bytes = read_file(folder / "run/last.safetensors");
  std::ofstream(folder / "run/cut.safetensors", std::ios::binary) << bytes.substr(0, bytes.size() - 100);
  CHECK(run(folder, "./sudoku_train --resume " + folder / "run/cut.safetensors").code == 2);
}

// ---- sudoku_solve ----------------------------------------------------------------------------------------------

TEST_CASE("sudoku_solve answers, and says which answers are wrong", "[sudoku][program]") {
  const Scratch folder;
  const Outcome missing = run(folder, "./sudoku_solve 0020300000040100 --model " + folder / "none");
  CHECK(missing.code != 0);
  CHECK_THAT(missing.err, Contains("run ./sudoku_train first"));

  REQUIRE(run(folder, "./sudoku_train --boards 2000 --epochs 10 --batch 20 --out " + folder / "run").code == 0);
  CHECK_THAT(read_file(folder / "run/metrics.jsonl"), Contains(R"("test_boards":200,"test_boards_wrong":0,)"));  // it has learned the rules
  const std::string solve = "./sudoku_solve --model " + folder / "run/model.safetensors ";
  const Outcome good = run(folder, solve + "0020300000040100");
  CHECK(good.code == 0);
  CHECK(good.out == "1423324123144132\n");
  CHECK(good.err.empty());

  std::ofstream(folder / "two") << "0020300000040100\n1100000000000000\n";
  const Outcome two = run(folder, solve + folder / "two");
  CHECK(two.code == 1);
  CHECK(std::count(two.out.begin(), two.out.end(), '\n') == 2);
  CHECK_THAT(two.err, Contains("puzzle 2, 1100000000000000: the puzzle has no solution") && Contains("1 of 2 answers"));

  const Outcome piped = run(folder, "echo 0020300000040100 | " + solve + "-");
  CHECK(piped.code == 0);
  CHECK(piped.out == good.out);
  CHECK_THAT(run(folder, "./sudoku_solve 0020300000040100 --model " + folder / "run/last.safetensors").err, Contains("give the model.safetensors beside it"));

  const std::string endless(300, '1');
  for (const char* bad : {"123", "12345678901234567", "1235000000000000", "/nowhere/puzzles.txt", endless.c_str()}) {
    const Outcome outcome = run(folder, solve + bad);
    INFO(outcome.err);
    CHECK(outcome.code == 2);
    CHECK_THAT(outcome.err, Contains("PUZZLE|FILE") && Contains(bad));
  }
  CHECK(run(folder, "./sudoku_solve").code == 2);
  std::ofstream(folder / "damaged") << "{}";
  const Outcome damaged = run(folder, "./sudoku_solve 0020300000040100 --model " + folder / "damaged");
  CHECK(damaged.code == 2);
  CHECK_THAT(damaged.err, Contains("not a safetensors file"));
}
