// The loop of a trainer, its records and its checkpoints.
#include "framework/fit.h"

#include <nlohmann/json.hpp>

#include <chrono>
#include <cmath>
#include <iomanip>
#include <iostream>

namespace optnet {

// ---- files --------------------------------------------------------------------------------------------------------

RunFiles::RunFiles(std::filesystem::path folder) : folder_(std::move(folder)) {
  for (int number = 1; number == 1 || std::filesystem::exists(old_); ++number) old_ = folder_ / ("old." + std::to_string(number));
}

const std::filesystem::path& RunFiles::claim(const std::filesystem::path& file) {
  if (!claimed_.insert(file).second || !std::filesystem::exists(file)) return file;
  if (std::filesystem::create_directory(old_)) std::cout << "what an earlier run left in " << folder_.string() << " moves to " << old_.string() << std::endl;
  std::filesystem::rename(file, old_ / file.filename());
  return file;
}

namespace {

using json = nlohmann::ordered_json;
using Clock = std::chrono::steady_clock;

double since(Clock::time_point begin) { return std::chrono::duration<double>(Clock::now() - begin).count(); }

void add(json& record, const Metrics& metrics) {
  for (const auto& [name, value] : metrics) std::visit([&, &name = name](const auto& x) { record[name] = x; }, value);
}

/// A run under way.
class Run {
 public:
  explicit Run(const Fit& what)
      : what_(what), batches_((what.train.size() + what.batch - 1) / what.batch), steps_(what.epochs * batches_),
        log_(file("metrics", ".jsonl")) {
    order_ = {what.seed, std::uint64_t{1} << 61};  // a part of the seed's stream that initial parameters do not reach
    if (!what.resume.empty()) restore(load_safetensors(what.resume));
  }

  Fitted train() {
    const Interrupt interrupt;  // until all is written
    Progress progress(steps_, (epoch_.number - 1) * batches_ + batch_);
    while (epoch_.number <= what_.epochs) {
      begin_ = Clock::now(), examples_before_ = epoch_.examples;
      Random random = order_;  // a copy: an epoch that is resumed draws its order once more
      const Batches batches(what_.train, what_.batch, random, what_.batches);
      for (Batches::Iterator at(batches, batch_), end = batches.end(); at != end; ++at) {
        step(*at);
        progress.show((epoch_.number - 1) * batches_ + batch_, running());
        if (interrupt) return stop(false);
        if (since(saved_) > 60) save();
      }
      order_ = random;
      const std::string line = finish_epoch();
      save();
      progress.line(line + "  " + progress.time_left((epoch_.number - 1) * batches_));
    }
    return stop(true);
  }

 private:
  std::filesystem::path file(const std::string& name, const std::string& extension) const { return what_.folder / (name + what_.suffix + extension); }

  void step(const Dataset& batch) {
    const Clock::time_point begin = Clock::now();
    Tape tape;
    const Var loss = what_.loss(batch, epoch_);
    if (!std::isfinite(loss.item())) throw Diverged("the loss is not finite");
    if (what_.rate) what_.optimizer.lr = what_.rate((epoch_.number - 1) * batches_ + batch_, steps_);
    what_.optimizer.step(tape.gradients(loss));
    loss_ += loss.item() * static_cast<double>(batch.size());
    epoch_.examples += batch.size();
    epoch_.loss = loss_ / static_cast<double>(epoch_.examples);
    ++batch_;
    seconds_ += since(begin);
  }

  std::string pace() const {
    return grouped(static_cast<std::int64_t>(static_cast<double>(epoch_.examples - examples_before_) / since(begin_))) + ' ' + what_.unit + "/s";
  }
  std::string head() const {
    std::ostringstream out;
    out << "epoch " << std::setw(static_cast<int>(std::to_string(what_.epochs).size())) << epoch_.number << '/' << what_.epochs << std::fixed
        << std::setprecision(5) << "  loss " << epoch_.loss;
    return out.str();
  }
  /// What the line of progress says within an epoch.
  std::string running() const {
    std::ostringstream out;
    out << head() << std::fixed << std::setprecision(2);
    for (const auto& [name, sum] : epoch_.sums) out << "  " << name << ' ' << 100 * sum / static_cast<double>(epoch_.examples) << '%';
    out << "  " << pace();
    return out.str();
  }

  /// Judges, records and begins the next epoch. Returns the line that stays.
  std::string finish_epoch() {
    const double pace_of_training = static_cast<double>(epoch_.examples - examples_before_) / since(begin_);
    const std::string beginning = head(), end = pace();
    const Judgement judgement = what_.judge ? what_.judge(epoch_) : Judgement{{epoch_.loss}, {}, ""};
    if (best_epoch_ == 0 || judgement.score < best_score_) best_epoch_ = epoch_.number, best_score_ = judgement.score, best_ = values(what_.state);
    json record{{"event", "epoch"}};
    add(record, what_.describe);
    record["epoch"] = epoch_.number, record["loss"] = epoch_.loss;
    add(record, judgement.metrics);
    record["best_epoch"] = best_epoch_, record[what_.unit + "_per_second"] = std::round(pace_of_training);
    write(record);
    const std::int64_t next = epoch_.number + 1;
    epoch_ = {}, epoch_.number = next;
    batch_ = 0, loss_ = 0;
    return beginning + (judgement.text.empty() ? "" : "  " + judgement.text) + "  " + end;
  }

  void write(const json& record) {
    what_.files.claim(log_.path());
    log_.add(record);
    if (!what_.suffix.empty()) write_file(what_.folder / "metrics.jsonl", log_.lines());  // the latest run's, whichever its model
    write_file(what_.files.claim(file("metrics", ".csv")), csv());
  }

  std::vector<json> epochs() const {
    std::vector<json> out;
    std::istringstream in(log_.lines());
    for (std::string line; std::getline(in, line);)
      if (json record = json::parse(line); record.at("event") == "epoch") out.push_back(std::move(record));
    return out;
  }
  /// Their records as a table.
  std::string csv() const {
    std::ostringstream out;
    bool first = true;
    for (const json& record : epochs()) {
      const auto row = [&](const auto& text) {
        const char* between = "";
        for (const auto& [name, value] : record.items())
          if (name != "event") out << std::exchange(between, ",") << text(name, value);
        out << '\n';
      };
      if (std::exchange(first, false)) row([](const std::string& name, const json&) { return name; });
      row([](const std::string&, const json& value) { return value.dump(); });
    }
    return out.str();
  }

  void save() {
    NamedTensors tensors;
    put(tensors, "model.", values(what_.state));
    put(tensors, "optimizer.", what_.optimizer.state());
    put(tensors, "best.", best_);
    const Random& random = default_random();
    const json state{{"epoch", epoch_.number},     {"batch", batch_},          {"examples", epoch_.examples}, {"loss", loss_},
                     {"sums", epoch_.sums},        {"seconds", seconds_},      {"order_seed", order_.seed},   {"order_next", order_.next},
                     {"random_seed", random.seed}, {"random_next", random.next}, {"best", best_epoch_},       {"best_score", best_score_}};
    Metadata metadata = what_.settings;
    metadata["state"] = state.dump();
    metadata["metrics"] = log_.lines();
    save_safetensors(what_.files.claim(file("last", ".safetensors")), tensors, metadata);
    if (best_epoch_) save_safetensors(what_.files.claim(file("model", ".safetensors")), best_, what_.settings);
    saved_ = Clock::now();
  }

  void restore(const Checkpoint& saved) try {
    for (const auto& [name, value] : what_.settings)
      check(saved.metadata.contains(name) && saved.metadata.at(name) == value, "it is of another run: its '", name, "' is ",
            saved.metadata.contains(name) ? "'" + saved.metadata.at(name) + "'" : "not there", ", and here '", value, "'");
    const json state = json::parse(saved.metadata.at("state"));
    const auto whole = [&](const char* name, std::int64_t least, std::int64_t most) {
      const auto value = state.at(name).is_number_integer() ? state.at(name).get<std::int64_t>() : -1;
      check(value >= least && value <= most, "not a checkpoint of this trainer: '", name, "' is ", state.at(name).dump(), ", which none of its runs has");
      return value;
    };
    epoch_.number = whole("epoch", 1, what_.epochs + 1);
    batch_ = whole("batch", 0, epoch_.number <= what_.epochs ? batches_ : 0);
    epoch_.examples = whole("examples", 0, std::min(batch_ * what_.batch, what_.train.size()));
    epoch_.sums = state.at("sums").get<std::map<std::string, double>>();
    loss_ = state.at("loss"), seconds_ = state.at("seconds");
    if (epoch_.examples) epoch_.loss = loss_ / static_cast<double>(epoch_.examples);
    order_ = {state.at("order_seed"), state.at("order_next")};
    default_random() = {state.at("random_seed"), state.at("random_next")};
    best_epoch_ = whole("best", 0, epoch_.number - 1);
    best_score_ = state.at("best_score").get<std::vector<double>>(), best_ = take(saved.tensors, "best.");
    if (best_epoch_) assign(what_.state, best_);  // checks their names and shapes
    assign(what_.state, take(saved.tensors, "model."));
    what_.optimizer.load_state(take(saved.tensors, "optimizer."));
    log_ = Log(log_.path(), saved.metadata.at("metrics"));
    std::error_code error;
    if (!std::filesystem::equivalent(what_.resume.parent_path() / ".", what_.folder / ".", error)) return;
    what_.files.keep(file("last", ".safetensors"));
    if (best_epoch_ == 0) return;
    for (const char* name : {"model", "metrics", "curves"})
      for (const char* extension : {".safetensors", ".jsonl", ".csv", ".png"}) what_.files.keep(file(name, extension));
  } catch (const Error& error) {
    throw BadCheckpoint(what_.resume.string() + ": " + error.what());
  } catch (const std::exception&) {  // a part is missing, or not what it should be
    throw BadCheckpoint(what_.resume.string() + ": not a checkpoint of this trainer: its state is damaged");
  }

  void draw() const {
    if (what_.plots.empty()) return;
    std::vector<Plot> plots = what_.plots;
    for (const json& record : epochs())
      for (Plot& plot : plots)
        for (Curve& curve : plot.curves)
          if (record.contains(curve.name)) curve.y.push_back(record.at(curve.name));
    if (const std::string reason = draw_plots(what_.files.claim(file("curves", ".png")), plots); !reason.empty()) std::cout << reason << "\n";
  }

  /// The end of the last epoch, or of the part that was.
  Fitted stop(bool finished) {
    save();
    if (best_epoch_) {
      assign(what_.state, best_);
      if (finished) {
        json record{{"event", "final"}};
        add(record, what_.describe);
        if (what_.finish) add(record, what_.finish());
        record["train_seconds"] = std::round(seconds_ * 1000) / 1000;
        write(record);
      }
      draw();
    }
    return {finished, epoch_.number - 1, best_epoch_, seconds_};
  }

  const Fit& what_;
  const std::int64_t batches_, steps_;  // batches an epoch; steps in all
  Epoch epoch_;                         // the one under way
  std::int64_t batch_ = 0;              // batches of it that are done
  double loss_ = 0, seconds_ = 0;       // summed over its examples; of training in all
  Random order_;                        // from which its order is drawn
  std::int64_t best_epoch_ = 0;         // 0: none yet
  std::vector<double> best_score_;
  NamedTensors best_;
  Log log_;
  Clock::time_point begin_, saved_ = Clock::now();  // of this part of the epoch; when last saved
  std::int64_t examples_before_ = 0;    // those of the epoch before this part of it
};

}  // namespace

Fitted fit(const Fit& what) {
  check(what.epochs > 0 && what.batch > 0, "fit: needs epochs and a batch size of at least 1; got ", what.epochs, " and ", what.batch);
  check(what.train.x.defined() && what.train.size() > 0, "fit: needs examples to train on; got none");
  check(what.loss != nullptr, "fit: needs a loss");
  check(!what.batches.drop_last, "fit: takes the last batch as it is; leave drop_last out");
  return Run(what).train();
}

}  // namespace optnet
