// What programs that train share: the log, the line of progress, pictures; and fit(), which holds them together.
#include "tests/test.h"

#include "framework/files.h"
#include "framework/fit.h"

#include <nlohmann/json.hpp>

#include <malloc.h>
#include <sys/resource.h>

#include <csignal>
#include <cstdlib>
#include <fstream>
#include <iostream>

namespace fs = std::filesystem;

namespace {

/// While one is in scope, files cannot grow beyond `bytes`: writing more fails as on a full disk.
class FullDisk {
 public:
  explicit FullDisk(rlim_t bytes) : handler_(std::signal(SIGXFSZ, SIG_IGN)) {
    ::getrlimit(RLIMIT_FSIZE, &before_);
    const rlimit little{bytes, before_.rlim_max};
    ::setrlimit(RLIMIT_FSIZE, &little);
  }
  FullDisk(const FullDisk&) = delete;
  ~FullDisk() {
    ::setrlimit(RLIMIT_FSIZE, &before_);
    std::signal(SIGXFSZ, handler_);
  }

 private:
  rlimit before_{};
  void (*handler_)(int);
};

}  // namespace

TEST_CASE("a log is whole after every record", "[train]") {
  const Scratch folder;
  Log log(folder / "log.jsonl", "{\"old\":1}\n");
  log.add({{"event", "epoch"}, {"loss", 0.5}});
  CHECK(read_file(folder / "log.jsonl") == "{\"old\":1}\n{\"event\":\"epoch\",\"loss\":0.5}\n");
  Log again(folder / "log.jsonl");  // another run: until its first record the old ones stay
  CHECK_FALSE(read_file(folder / "log.jsonl").empty());
  CHECK_THROWS_AS(Log("/nowhere/log.jsonl").add({{"event", "epoch"}}), Error);
}

TEST_CASE("a line of progress fits the window, and always shows the time left", "[train]") {
  const std::string text = "epoch 12/12  loss 0.00012  wrong 100.00%  17,234 boards/s", time = "1:20:00 left";
  const std::string wide = Progress::fit(0.5, text, time, 200), usual = Progress::fit(0.5, text, time, 79);
  CHECK(wide == "##########..........  " + text + "  " + time);
  CHECK(usual == "###...  " + text + "  " + time);
  CHECK(usual.size() <= 79);
  CHECK(Progress::fit(0.5, text, time, 40) == text.substr(0, 26) + "  " + time);
  CHECK_THAT(Progress::fit(0.5, text, time, 5), Contains(time));
}

TEST_CASE("large numbers are grouped", "[train]") {
  CHECK(grouped(7) == "7");
  CHECK(grouped(1000) == "1,000");
  CHECK(grouped(-123) == "-123");
  CHECK(grouped(1234567) == "1,234,567");
}

TEST_CASE("curves cannot cost a run: without gnuplot there is a reason instead", "[train]") {
  const Scratch folder;
  const std::vector<Plot> plots{{"it's", "epoch", "%", true, {{"a", {1, 0.1, 0.01}, false, 0}}}};
  const std::string path = std::getenv("PATH");
  ::setenv("PATH", (folder / "empty").c_str(), 1);
  CHECK_THAT(draw_plots(folder / "curves.png", plots), Contains("gnuplot is not installed"));
  ::setenv("PATH", path.c_str(), 1);
  CHECK_FALSE(fs::exists(folder / "curves.png"));
  if (draw_plots(folder / "curves.png", plots).empty()) CHECK(read_file(folder / "curves.png").starts_with("\x89PNG"));
}

TEST_CASE("a picture that did not fit on the disk is an error, and the old one stays", "[train]") {
  const Scratch folder;
  const std::string path = std::getenv("PATH"), picture = folder / "picture.png";
  std::ofstream(picture) << "old";
  {
    const FullDisk full(30);
    CHECK_THROWS_WITH(save_png(picture, zeros({1, 64, 64})), Contains("cannot write " + picture));
  }
  CHECK(read_file(picture) == "old");

  fs::create_directory(folder / "bin");  // a gnuplot that does not notice
  std::ofstream(folder / "bin/gnuplot") << "#!/bin/sh\nhead -c 20 /dev/zero > \"$(sed -n \"s/^set output '\\(.*\\)'/\\1/p\")\"\n";
  fs::permissions(folder / "bin/gnuplot", fs::perms::owner_all);
  ::setenv("PATH", (folder / "bin:" + path).c_str(), 1);
  CHECK_THAT(draw_plots(picture, {}), Contains("incomplete (is the disk full?)"));
  ::setenv("PATH", path.c_str(), 1);
  CHECK(read_file(picture) == "old");
}

// ---- fit -------------------------------------------------------------------------------------------------------

namespace {

/// Standard output goes nowhere while one is in scope.
struct Quiet {
  std::ostringstream lost;
  std::streambuf* before = std::cout.rdbuf(lost.rdbuf());
  Quiet() = default;
  Quiet(const Quiet&) = delete;
  ~Quiet() { std::cout.rdbuf(before); }
};

/// A small regression with everything that draws random numbers: dropout, augmentation, order.
struct Task {
  Quiet quiet;
  Random random{3, 0};
  Tensor x = normal(random, {50, 4});
  Dataset data{x, sum(x * x, {1}, {.keepdims = true})};
  Sequential net;
  Adam adam;
  RunFiles files;
  Fit what;
  std::int64_t interrupt_at = -1, throw_at = -1, steps = 0;  // at which step of this process

  explicit Task(const fs::path& folder, std::uint64_t seed_ = 5)
      : net((seed(seed_), Sequential{Linear{4, 8}, BatchNorm1d{8}, Tanh{}, Dropout{0.2}, Linear{8, 1}})), adam(net.parameters(), {.lr = 0.01}), files(folder),
        what{.state = net.state(), .optimizer = adam, .train = data, .batch = 8, .epochs = 4, .seed = seed_, .loss = {}, .files = files,
             .settings = {{"seed", std::to_string(seed_)}}, .plots = {}} {
    what.augment = [](Dataset batch, Random& draw) { return Dataset{batch.x + 0.01 * normal(draw, batch.x.shape()), batch.y}; };
    what.prefetch = 2;
    what.loss = [this](const Dataset& batch, Epoch& epoch) {
      if (steps == interrupt_at) std::raise(SIGINT);
      if (steps++ == throw_at) throw std::runtime_error("power cut");
      const Var y = net(batch.x);
      epoch.sums["large"] += sum(greater(abs(y.value() - batch.y), number_like(1, batch.y)).to(float32)).item();
      return mse(y, batch.y);
    };
    what.rate = [](std::int64_t step, std::int64_t total) { return cosine_decay(0.01, step, total); };
  }
};

std::vector<nlohmann::ordered_json> timeless(const fs::path& metrics) {
  auto out = read_records(metrics);
  for (auto& record : out) record.erase("examples_per_second"), record.erase("train_seconds");
  return out;
}

void check_same_run(const fs::path& a, const fs::path& b) {
  const Checkpoint last_a = load_safetensors(a / "last.safetensors"), last_b = load_safetensors(b / "last.safetensors");
  REQUIRE(last_a.tensors.size() == last_b.tensors.size());
  for (const auto& [name, x] : last_a.tensors) CHECK(same_bits(x, last_b.tensors.at(name)));
  CHECK(read_file(a / "model.safetensors") == read_file(b / "model.safetensors"));
  CHECK(timeless(a / "metrics.jsonl") == timeless(b / "metrics.jsonl"));
}

}  // namespace

TEST_CASE("fit trains, records each epoch, and ends with the best parameters in place", "[train][fit]") {
  const Folder folder;
  Task task(folder.path);
  std::vector<NamedTensors> after;  // each epoch
  task.what.judge = [&](const Epoch& epoch) {
    CHECK(epoch.examples == 50);
    after.push_back(values(task.net.state()));
    return Judgement{{epoch.number == 3 ? -1.0 : 0.0, epoch.loss}, {{"share", epoch.sums.at("large") / 50}, {"note", std::string("n")}}, "fine"};
  };
  task.what.finish = [&] { return Metrics{{"seed", std::int64_t{5}}, {"accuracy", 0.5}}; };
  task.what.model = "small", task.what.describe = {{"seed", std::int64_t{5}}}, task.what.unit = "lines";
  const Fitted fitted = fit(task.what);
  CHECK(fitted.finished);
  CHECK(fitted.best == 3);
  CHECK(fitted.seconds > 0);
  REQUIRE(after.size() == 4);
  for (const auto& [name, x] : values(task.net.state())) CHECK(same_bits(x, after[2].at(name)));

  const Checkpoint model = load_safetensors(folder / "model.safetensors");
  CHECK(model.metadata == Metadata{{"seed", "5"}, {"model", "small"}});
  for (const auto& [name, x] : model.tensors) CHECK(same_bits(x, after[2].at(name)));
  const auto records = read_records(folder / "metrics.small.jsonl");
  REQUIRE(records.size() == 5);
  CHECK(records[1].dump().starts_with(R"({"event":"epoch","model":"small","seed":5,"epoch":2,"loss":)"));
  CHECK(records[1]["best_epoch"] == 2);
  CHECK(records[1].contains("lines_per_second"));
  CHECK(records[4].dump().starts_with(R"({"event":"final","model":"small","seed":5,"accuracy":0.5,"train_seconds":)"));
  CHECK(records[3]["loss"] < records[0]["loss"]);
  CHECK(read_file(folder / "metrics.jsonl") == read_file(folder / "metrics.small.jsonl"));
  std::ifstream csv(folder / "metrics.small.csv");
  std::string header, first;
  std::getline(csv, header), std::getline(csv, first);
  CHECK(header == "model,seed,epoch,loss,share,note,best_epoch,lines_per_second");
  CHECK(first.starts_with("\"small\",5,1,"));
}

TEST_CASE("an interrupted fit goes on bit for bit, wherever it was", "[train][fit]") {
  const Folder whole;
  CHECK(fit(Task(whole.path).what).finished);
  for (const int at : {0, 3, 6, 7, 13, 20, 27}) {  // 7 batches an epoch
    const Folder parts;
    Task first(parts.path);
    first.interrupt_at = at;
    const Fitted stopped = fit(first.what);
    CHECK_FALSE(stopped.finished);
    CHECK((stopped.epoch - 1) * 7 + stopped.batch == at + 1);
    seed(99);
    Task second(parts.path);
    second.what.resume = parts / "last.safetensors";
    CHECK(fit(second.what).finished);
    INFO("stopped at step " << at);
    check_same_run(whole.path, parts.path);
    CHECK_FALSE(fs::exists(parts / "old.1"));
  }
}

TEST_CASE("a fit that was cut off goes on from its last checkpoint, bit for bit", "[train][fit]") {
  const Folder whole, parts;
  CHECK(fit(Task(whole.path).what).finished);
  Task first(parts.path);
  first.throw_at = 17;
  CHECK_THROWS_WITH(fit(first.what), "power cut");
  for (const char* file : {"last.safetensors", "metrics.jsonl"}) std::ofstream(parts / (std::string(file) + ".tmp2000000000")) << "a part";  // of no process
  Task second(parts.path);
  second.what.resume = parts / "last.safetensors";
  CHECK(fit(second.what).finished);
  CHECK(second.steps == 14);  // from the end of the second epoch
  for (const auto& entry : fs::directory_iterator(parts.path)) CHECK(entry.path().string().find(".tmp") == std::string::npos);
  check_same_run(whole.path, parts.path);
}

TEST_CASE("a fit does not depend on the number of threads, and does on the seed", "[train][fit]") {
  const Folder one, two, other;
  {
    const Threads threads(1);
    fit(Task(one.path).what);
  }
  {
    const Threads threads(2);
    fit(Task(two.path).what);
  }
  fit(Task(other.path, 6).what);
  check_same_run(one.path, two.path);
  CHECK_FALSE(timeless(one / "metrics.jsonl") == timeless(other / "metrics.jsonl"));
}

TEST_CASE("a fit whose loss or score is not finite ends in an error that says where", "[train][fit]") {
  const Folder folder;
  Task task(folder.path);
  const auto loss = task.what.loss;
  task.what.loss = [&](const Dataset& batch, Epoch& epoch) { return loss(batch, epoch) * (task.steps > 10 ? std::nan("") : 1.0); };
  CHECK(error_of([&] { fit(task.what); }).starts_with("training diverged in epoch 2: the loss is not finite (the best parameters until then are in "));

  const Folder second;
  Task with_best(second.path);
  with_best.what.judge = [](const Epoch& epoch) { return Judgement{{epoch.number == 2 ? std::nan("") : 1.0}, {}, ""}; };
  CHECK(error_of([&] { fit(with_best.what); }) ==
        "training diverged in epoch 2: the score is not finite (the best parameters until then are in " + (second / "model.safetensors").string() + ")");
  CHECK(load_safetensors(second / "model.safetensors").tensors.size() == 9);
}

TEST_CASE("fit refuses a checkpoint that is damaged or of another run", "[train][fit]") {
  const Folder folder;
  fit(Task(folder.path).what);
  const Checkpoint good = load_safetensors(folder / "last.safetensors");
  const auto refuses = [&](const Checkpoint& changed, const std::string& said) {
    save_safetensors(folder / "changed.safetensors", changed.tensors, changed.metadata);
    Task task(folder.path);
    task.what.resume = folder / "changed.safetensors";
    CHECK_THROWS_AS(fit(task.what), BadCheckpoint);
    CHECK_THAT(error_of([&] { fit(task.what); }), Contains(said));
  };
  Checkpoint changed = good;
  changed.metadata["seed"] = "6";
  refuses(changed, "it is of another run: its 'seed' is '6', and here '5'");
  changed.metadata.erase("seed");
  refuses(changed, "its 'seed' is not there, and here '5'");
  for (const char* part : {"state", "metrics"}) {
    changed = good;
    changed.metadata.erase(part);
    refuses(changed, "not a checkpoint of this trainer: its state is damaged");
  }
  for (const auto& [name, value] : {std::pair("epoch", "0"), std::pair("epoch", "9"), std::pair("batch", "1"), std::pair("best", "5"), std::pair("examples", "1e3")}) {
    changed = good;
    auto state = nlohmann::json::parse(good.metadata.at("state"));
    state[name] = nlohmann::json::parse(value);
    changed.metadata["state"] = state.dump();
    refuses(changed, std::string("'") + name + "' is");
  }
  changed = good;
  changed.tensors["model.0.weight"] = zeros({4, 8});
  refuses(changed, "'0.weight' must be float32[8, 4]");
  Task missing(folder.path);
  missing.what.resume = folder / "nowhere.safetensors";
  CHECK_THAT(error_of([&] { fit(missing.what); }), Contains("nowhere.safetensors: there is no such file"));
}

TEST_CASE("what another run left moves aside, once and whole", "[train][fit]") {
  const Folder folder;
  fit(Task(folder.path).what);
  const std::string model = read_file(folder / "model.safetensors"), metrics = read_file(folder / "metrics.jsonl");
  fit(Task(folder.path, 6).what);
  CHECK(read_file(folder / "model.safetensors") != model);
  CHECK(read_file(folder / "old.1/model.safetensors") == model);
  CHECK(read_file(folder / "old.1/metrics.jsonl") == metrics);
  CHECK(fs::exists(folder / "old.1/metrics.csv"));
  CHECK(fs::exists(folder / "old.1/last.safetensors"));
}

TEST_CASE("what cannot move aside is an error that names it, and stays", "[train][fit]") {
  const Folder folder;
  fit(Task(folder.path).what);
  const std::string last = read_file(folder / "last.safetensors");
  Task second(folder.path, 6);
  std::ofstream(folder / "old.1") << "in the way";
  CHECK(error_of([&] { fit(second.what); }).starts_with("fit: cannot move an earlier run's " + (folder / "metrics.jsonl").string() + " into "));
  CHECK(read_file(folder / "last.safetensors") == last);
}

TEST_CASE("the table of a fit has a column for each name, also of records that differ", "[train][fit]") {
  const Folder folder;
  Task task(folder.path);
  task.what.epochs = 2;
  task.what.judge = [](const Epoch& epoch) {
    return Judgement{{epoch.loss}, {epoch.number == 1 ? Metric{"note", std::string("a \"b\", c")} : Metric{"share", 0.5}}, ""};
  };
  fit(task.what);
  std::ifstream csv(folder / "metrics.csv");
  std::string header, first, second;
  std::getline(csv, header), std::getline(csv, first), std::getline(csv, second);
  CHECK(header == "epoch,loss,note,best_epoch,examples_per_second,share");
  CHECK_THAT(first, Contains(R"(,"a ""b"", c",1,)"));
  CHECK(first.ends_with(','));
  CHECK(second.ends_with(",0.5"));
  CHECK(std::count(first.begin(), first.end(), ',') == 6);
  CHECK(std::count(second.begin(), second.end(), ',') == 5);
}

TEST_CASE("a full disk ends a fit with an error, and costs no checkpoint", "[train][fit]") {
  const Folder folder;
  Task first(folder.path);
  first.interrupt_at = 10;
  fit(first.what);
  const std::string last = read_file(folder / "last.safetensors");
  Task second(folder.path);
  second.what.resume = folder / "last.safetensors";
  {
    const FullDisk full(static_cast<rlim_t>(last.size() - 1));
    CHECK_THAT(error_of([&] { fit(second.what); }), Contains("cannot write " + folder.path.string()));
  }
  CHECK(read_file(folder / "last.safetensors") == last);
  for (const auto& entry : fs::directory_iterator(folder.path)) CHECK(entry.path().string().find(".tmp") == std::string::npos);
  Task third(folder.path);
  third.what.resume = folder / "last.safetensors";
  CHECK(fit(third.what).finished);
}

TEST_CASE("fit refuses what it cannot train, by name", "[train][fit]") {
  const Folder folder;
  Task task(folder.path);
  task.what.epochs = 0;
  CHECK(error_of([&] { fit(task.what); }) == "fit: needs epochs and a batch size of at least 1; got 0 and 8");
  std::ofstream(folder / "file") << "in the way";
  RunFiles nowhere(folder / "file/run");
  Fit elsewhere{.state = task.what.state, .optimizer = task.adam, .train = task.data, .loss = task.what.loss, .files = nowhere};
  CHECK(error_of([&] { fit(elsewhere); }) == "fit: cannot make the folder '" + (folder / "file/run").string() + "': Not a directory");
  task.what.epochs = 1, task.what.notes = {{"metrics", ""}};
  CHECK(error_of([&] { fit(task.what); }) == "fit: 'metrics' is what a checkpoint calls its own part; give the setting another name");
  task.what.notes = {}, task.what.loss = nullptr;
  CHECK(error_of([&] { fit(task.what); }) == "fit: needs a loss");
  task.what.train = {zeros({0, 4}), zeros({0, 1})};
  CHECK(error_of([&] { fit(task.what); }) == "fit: needs examples to train on; got none");
}

TEST_CASE("the memory of a long training run is flat", "[train][fit]") {
  const Folder folder;
  Task task(folder.path);
  std::vector<std::size_t> taken;  // after each epoch
  task.what.epochs = 40, task.what.prefetch = 0;
  task.what.judge = [&](const Epoch& epoch) {
    const auto memory = ::mallinfo2();
    taken.push_back(memory.uordblks + memory.hblkhd);
    return Judgement{{epoch.loss}, {}, ""};
  };
  fit(task.what);
  CHECK(taken[39] < taken[9] + 40'000);  // the log takes some; one step's tensors left behind each step would be 500,000
}
