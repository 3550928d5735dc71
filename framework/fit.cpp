// The loop of a trainer, its records and its checkpoints.
#include "framework/fit.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <iomanip>
#include <iostream>

namespace optnet {

// ---- files --------------------------------------------------------------------------------------------------------

RunFiles::RunFiles(std::filesystem::path folder, std::string suffix) : folder_(std::move(folder)), suffix_(std::move(suffix)) {
  std::error_code error;  // a folder that cannot be looked into is an error once something is written
  for (int number = 1; number == 1 || std::filesystem::exists(old_, error); ++number) old_ = folder_ / ("old." + std::to_string(number));
}

const std::filesystem::path& RunFiles::claim(const std::filesystem::path& file) {
  if (!claimed_.insert(file).second) return file;
  remove_unfinished(file);
  std::error_code error;
  if (all_kept_ || kept_.contains(file) || !std::filesystem::exists(file, error)) return file;
  if (std::filesystem::create_directory(old_, error))
    std::cout << "what an earlier run left in " << folder_.string() << " moves to " << old_.string() << std::endl;
  std::filesystem::rename(file, old_ / file.filename(), error);
  check(!error, "fit: cannot move an earlier run's ", file.string(), " into ", old_.string(), ": ", error.message(), " (is the folder writable?)");
  return file;
}

using json = nlohmann::ordered_json;

namespace {

std::vector<json> parse_records(const std::string& lines) {
  std::vector<json> out;
  std::istringstream in(lines);
  for (std::string line; std::getline(in, line);)
    if (json record = json::parse(line, nullptr, false); record.is_object() && record.contains("event")) out.push_back(std::move(record));
  return out;
}

}  // namespace

std::vector<json> read_records(const std::filesystem::path& path) {
  return std::filesystem::exists(path) ? parse_records(read_file(path)) : std::vector<json>{};
}

// ---- the run ------------------------------------------------------------------------------------------------------

namespace {

using Clock = std::chrono::steady_clock;

double since(Clock::time_point begin) { return std::chrono::duration<double>(Clock::now() - begin).count(); }

void add(json& record, const Metrics& metrics) {
  for (const auto& [name, value] : metrics) std::visit([&, &name = name](const auto& x) { record[name] = x; }, value);
}

/// A text as CSV quotes it.
std::string quoted(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) out += c == '"' ? std::string("\"\"") : std::string(1, c);
  return out + "\"";
}

/// The epochs' records as a table: a column for each name that occurs, empty where a record lacks it.
std::string csv(const std::vector<json>& records) {
  json columns = json::object();
  std::ostringstream out;
  for (const json& record : records)
    if (record["event"] == "epoch") columns.update(record);
  columns.erase("event");
  const auto row = [&](const auto& cell) {
    const char* between = "";
    for (const auto& [name, ignored] : columns.items()) out << std::exchange(between, ",") << cell(name);
    out << '\n';
  };
  row([](const std::string& name) { return name; });
  for (const json& record : records)
    if (record["event"] == "epoch")
      row([&](const std::string& name) {
        if (!record.contains(name)) return std::string();
        return record[name].is_string() ? quoted(record[name]) : record[name].dump();
      });
  return out.str();
}

/// Adds a model's curves to the plots, each as `wanted` has it: by the name of its number in the records.
void add_curves(std::vector<Plot>& plots, const std::vector<Plot>& wanted, const std::string& title, int color, const std::vector<json>& records) {
  for (std::size_t i = 0; i < wanted.size(); ++i)
    for (const Curve& curve : wanted[i].curves) {
      std::string name = curve.name;
      std::replace(name.begin(), name.end(), '_', ' ');
      if (!title.empty()) name = wanted[i].curves.size() == 1 ? title : title + ", " + name;
      Curve drawn{name, {}, curve.dashed, title.empty() ? curve.color : color};
      for (const json& record : records)
        if (record["event"] == "epoch" && record.contains(curve.name) && record[curve.name].is_number()) drawn.y.push_back(record[curve.name]);
      if (!drawn.y.empty()) plots[i].curves.push_back(drawn);
    }
}

/// A run under way.
class Run {
 public:
  explicit Run(const Fit& what)
      : what_(what), batches_((what.train.size() + what.batch - 1) / what.batch), steps_(what.epochs * batches_), log_(metrics_of(what.model)) {
    order_ = {what.seed, std::uint64_t{1} << 61};  // a part of the seed's stream that initial parameters do not reach
    if (!what.resume.empty()) restore();
  }

  Fitted train() try {
    const Interrupt interrupt;  // until all is written
    Progress progress(steps_, step_number());
    while (epoch_.number <= what_.epochs) {
      const Clock::time_point begin = Clock::now();
      const std::int64_t examples_before = epoch_.examples;  // of this epoch, by an earlier run
      const auto pace = [&] { return std::round(static_cast<double>(epoch_.examples - examples_before) / since(begin)); };
      Random random = order_;  // a copy: an epoch that is resumed draws its order once more
      const Batches batches(what_.train, what_.batch, random, {.augment = what_.augment, .prefetch = what_.prefetch});
      for (Batches::Iterator at(batches, batch_), end = batches.end(); at != end; ++at) {
        step(*at);
        progress.show(step_number(), [&] { return line(pace(), shares()); });
        if (interrupt) return stop(false);
        if (since(saved_) > 60) save();
      }
      order_ = random;
      const std::string text = finish_epoch(pace());
      save();
      progress.line(text + "  " + progress.time_left(step_number()));
    }
    return stop(true);
  } catch (const Diverged& error) {
    const std::string best = best_epoch_ ? " (the best parameters until then are in " + what_.files.path("model", ".safetensors").string() + ")" : "";
    throw Diverged("training diverged in epoch " + std::to_string(epoch_.number) + ": " + error.what() + best);
  }

 private:
  std::filesystem::path metrics_of(const std::string& model) const { return what_.files.folder() / ("metrics" + (model.empty() ? "" : "." + model) + ".jsonl"); }
  /// A file of all models in the folder, which never moves aside.
  const std::filesystem::path& shared(const std::filesystem::path& file) const { return what_.files.keep(file), what_.files.claim(file); }
  std::int64_t step_number() const { return (epoch_.number - 1) * batches_ + batch_; }
  double seconds() const { return seconds_before_ + since(begin_); }

  void step(const Dataset& batch) {
    Tape tape;
    const Var loss = what_.loss(batch, epoch_);
    if (!std::isfinite(loss.item())) throw Diverged("the loss is not finite");
    if (what_.rate) what_.optimizer.lr = what_.rate(step_number(), steps_);
    what_.optimizer.step(tape.gradients(loss));
    loss_ += loss.item() * static_cast<double>(batch.size());
    epoch_.examples += batch.size();
    epoch_.loss = loss_ / static_cast<double>(epoch_.examples);
    ++batch_;
  }

  /// The epoch's sums as shares of its examples: "wrong 1.25%".
  std::string shares() const {
    std::ostringstream out;
    for (const auto& [name, sum] : epoch_.sums)
      out << (out.tellp() ? "  " : "") << name << ' ' << std::fixed << std::setprecision(2) << 100 * sum / static_cast<double>(epoch_.examples) << '%';
    return out.str();
  }
  std::string line(double pace, const std::string& text) const {
    std::ostringstream out;
    out << "epoch " << std::setw(static_cast<int>(std::to_string(what_.epochs).size())) << epoch_.number << '/' << what_.epochs << std::fixed
        << std::setprecision(5) << "  loss " << epoch_.loss << (text.empty() ? "" : "  ") << text << "  " << grouped(static_cast<std::int64_t>(pace)) << ' '
        << what_.unit << "/s";
    return out.str();
  }

  /// Judges, records and begins the next epoch. Returns the line that stays.
  std::string finish_epoch(double pace) {
    const Judgement judgement = what_.judge ? what_.judge(epoch_) : Judgement{{epoch_.loss}, {}, shares()};
    for (double score : judgement.score)
      if (!std::isfinite(score)) throw Diverged("the score is not finite");
    if (best_epoch_ == 0 || judgement.score < best_score_) best_epoch_ = epoch_.number, best_score_ = judgement.score, best_ = values(what_.state);
    json record{{"event", "epoch"}};
    if (!what_.model.empty()) record["model"] = what_.model;
    add(record, what_.describe);
    record["epoch"] = epoch_.number, record["loss"] = epoch_.loss;
    add(record, judgement.metrics);
    record["best_epoch"] = best_epoch_, record[what_.unit + "_per_second"] = pace;
    write(record);
    const std::string text = line(pace, judgement.text);
    epoch_ = {.number = epoch_.number + 1};
    batch_ = 0, loss_ = 0;
    return text;
  }

  void write(const json& record) {
    what_.files.claim(log_.path());
    log_.add(record);
    if (log_.path() != metrics_of("")) write_file(shared(metrics_of("")), log_.lines());
    write_file(what_.files.claim(std::filesystem::path(log_.path()).replace_extension(".csv")), csv(parse_records(log_.lines())));
  }

  void save() {
    NamedTensors tensors;
    put(tensors, "model.", values(what_.state));
    put(tensors, "optimizer.", what_.optimizer.state());
    put(tensors, "best.", best_);
    const Random& random = default_random();
    const json state{{"epoch", epoch_.number},     {"batch", batch_},            {"examples", epoch_.examples}, {"loss", loss_},
                     {"sums", epoch_.sums},        {"seconds", seconds()},       {"order_seed", order_.seed},   {"order_next", order_.next},
                     {"random_seed", random.seed}, {"random_next", random.next}, {"best", best_epoch_},         {"best_score", best_score_}};
    Metadata metadata = what_.settings;
    metadata.insert(what_.notes.begin(), what_.notes.end());
    metadata["state"] = state.dump();
    metadata["metrics"] = log_.lines();
    save_safetensors(what_.files.claim(what_.files.path("last", ".safetensors")), tensors, metadata);
    if (std::exchange(best_saved_, best_epoch_) != best_epoch_) save_best();
    saved_ = Clock::now();
  }
  void save_best() {
    Metadata metadata = what_.settings;
    if (!what_.model.empty()) metadata["model"] = what_.model;
    save_safetensors(what_.files.claim(what_.files.path("model", ".safetensors")), best_, metadata);
  }

  void restore() try {
    const Checkpoint saved = load_safetensors(what_.resume);
    for (const auto& [name, value] : what_.settings)
      check(saved.metadata.contains(name) && saved.metadata.at(name) == value, what_.resume.string(), ": it is of another run: its '", name, "' is ",
            saved.metadata.contains(name) ? "'" + saved.metadata.at(name) + "'" : "not there", ", and here '", value, "'");
    restore_state(saved);
    log_ = Log(log_.path(), saved.metadata.at("metrics"));
    std::error_code error;
    if (!std::filesystem::equivalent(what_.resume.parent_path() / ".", what_.files.folder() / ".", error)) return;
    if (best_epoch_) what_.files.keep_all();
    else what_.files.keep(what_.files.path("last", ".safetensors"));
  } catch (const Error& error) {
    throw BadCheckpoint(error.what());
  } catch (const std::exception&) {  // a part is missing, or not what it should be
    throw BadCheckpoint(what_.resume.string() + ": not a checkpoint of this trainer: its state is damaged");
  }

  void restore_state(const Checkpoint& saved) {
    const json state = json::parse(saved.metadata.at("state"));
    const auto whole = [&](const char* name, std::int64_t least, std::int64_t most) {
      const auto value = state.at(name).is_number_integer() ? state.at(name).get<std::int64_t>() : -1;
      check(value >= least && value <= most, what_.resume.string(), ": not a checkpoint of this trainer: '", name, "' is ", state.at(name).dump(),
            ", which none of its runs has");
      return value;
    };
    epoch_.number = whole("epoch", 1, what_.epochs + 1);
    batch_ = whole("batch", 0, epoch_.number <= what_.epochs ? batches_ : 0);
    epoch_.examples = whole("examples", 0, std::min(batch_ * what_.batch, what_.train.size()));
    epoch_.sums = state.at("sums").get<std::map<std::string, double>>();
    loss_ = state.at("loss"), seconds_before_ = state.at("seconds");
    if (epoch_.examples) epoch_.loss = loss_ / static_cast<double>(epoch_.examples);
    order_ = {state.at("order_seed"), state.at("order_next")};
    default_random() = {state.at("random_seed"), state.at("random_next")};
    best_epoch_ = whole("best", 0, epoch_.number - 1);
    best_score_ = state.at("best_score").get<std::vector<double>>(), best_ = take(saved.tensors, "best.");
    if (best_epoch_) assign(what_.state, best_);  // checks their names and shapes
    assign(what_.state, take(saved.tensors, "model."));
    what_.optimizer.load_state(take(saved.tensors, "optimizer."));
  }

  /// The end of the last epoch, or of the part that was.
  Fitted stop(bool finished) {
    const Fitted out{finished, epoch_.number, batch_, best_epoch_, seconds()};
    save();
    if (best_epoch_ == 0) return out;
    assign(what_.state, best_);
    if (finished) {
      json record{{"event", "final"}};
      if (!what_.model.empty()) record["model"] = what_.model;
      if (what_.finish) add(record, what_.finish());
      record["train_seconds"] = std::round(out.seconds * 1000) / 1000;
      write(record);
    }
    draw();
    return out;
  }

  void draw() const {
    std::vector<Plot> plots = what_.plots;
    for (Plot& plot : plots) plot.curves.clear();
    int color = 0;
    if (what_.models.empty()) add_curves(plots, what_.plots, "", color, parse_records(log_.lines()));
    for (const auto& [model, title] : what_.models) add_curves(plots, what_.plots, title, color++, read_records(metrics_of(model)));
    if (plots.empty()) return;
    if (const std::string reason = draw_plots(shared(what_.files.folder() / "curves.png"), plots); !reason.empty()) std::cout << reason << "\n";
  }

  const Fit& what_;
  const std::int64_t batches_, steps_;                // batches an epoch; steps in all
  Epoch epoch_;                                       // the one under way
  std::int64_t batch_ = 0;                            // batches of it that are done
  double loss_ = 0;                                   // summed over its examples
  Random order_;                                      // from which its order is drawn
  std::int64_t best_epoch_ = 0, best_saved_ = 0;      // 0: none yet
  std::vector<double> best_score_;
  NamedTensors best_;
  Log log_;
  double seconds_before_ = 0;                         // of training, by an earlier run
  Clock::time_point begin_ = Clock::now(), saved_ = begin_;
};

}  // namespace

Fitted fit(const Fit& what) {
  check(what.epochs > 0 && what.batch > 0, "fit: needs epochs and a batch size of at least 1; got ", what.epochs, " and ", what.batch);
  check(what.train.x.defined() && what.train.size() > 0, "fit: needs examples to train on; got none");
  check(what.loss != nullptr, "fit: needs a loss");
  for (const char* own : {"state", "metrics"})
    check(!what.settings.contains(own) && !what.notes.contains(own), "fit: '", own, "' is what a checkpoint calls its own part; give the setting another name");
  std::error_code error;
  std::filesystem::create_directories(what.files.folder(), error);
  check(!error, "fit: cannot make the folder '", what.files.folder().string(), "': ", error.message());
  return Run(what).train();
}

}  // namespace optnet
