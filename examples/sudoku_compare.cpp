// The models that were trained into one folder, side by side: curves.png and the table at the end of a run.
#include "examples/sudoku_run.h"

#include <nlohmann/json.hpp>

#include <cstdio>
#include <iostream>
#include <sstream>

namespace sudoku {
namespace {

using json = nlohmann::json;

/// The records of a run that say what they should; another program's are passed over.
std::vector<json> records(const std::filesystem::path& path) {
  std::vector<json> out;
  if (!std::filesystem::exists(path)) return out;
  std::istringstream in(read_file(path));
  for (std::string line; std::getline(in, line);)
    if (json record = json::parse(line, nullptr, false); record.is_object() && record.contains("event")) out.push_back(std::move(record));
  return out;
}

std::string share(const json& record, const std::string& part) {
  const auto wrong = record.at(part + "_wrong").get<std::int64_t>(), boards = record.at(part).get<std::int64_t>();
  char text[80];
  std::snprintf(text, sizeof text, "%s of %s (%.1f%%)", grouped(wrong).c_str(), grouped(boards).c_str(), 100.0 * static_cast<double>(wrong) / static_cast<double>(boards));
  return text;
}

void add_curves(std::vector<Plot>& plots, const std::string& name, int color, const std::vector<json>& run) {
  Curve loss{name, {}, false, color}, train{name + ", training", {}, true, color}, test{name + ", test", {}, false, color};
  for (const json& record : run) {
    if (record["event"] != "epoch") continue;
    const auto percent = [&](const std::string& part) { return 100 * record.at(part + "_wrong").get<double>() / record.at(part).get<double>(); };
    loss.y.push_back(record.at("loss"));
    train.y.push_back(percent("train_boards"));
    test.y.push_back(percent("test_boards"));
  }
  if (loss.y.empty()) return;
  plots[0].curves.push_back(loss);
  plots[1].curves.insert(plots[1].curves.end(), {train, test});
}

}  // namespace

void compare(const Settings& settings) {
  std::vector<Plot> plots{{"Mean squared error in training", "epoch", "loss", true, {}}, {"Boards with an error", "epoch", "%", false, {}}};
  int color = 0, rows = 0;
  for (const auto& [model, name] : {std::pair("optnet", "OptNet"), std::pair("mlp", "MLP")}) {
    const std::vector<json> run = records(settings.out / ("metrics." + std::string(model) + ".jsonl"));
    try {
      add_curves(plots, name, color++, run);
      if (run.size() < 2 || run.back()["event"] != "final") continue;
      const json &last = run[run.size() - 2], &end = run.back();
      if (rows++ == 0) std::printf("\n%-8s %6s %8s %7s  %26s  %24s  %8s\n", "model", "seed", "split", "epochs", "wrong in training", "wrong in the test", "seconds");
      std::printf("%-8s %6s %8s %7s  %26s  %24s  %8.1f\n", name, end.at("seed").dump().c_str(), last.at("split").get<std::string>().c_str(),
                  end.at("epochs").dump().c_str(), share(last, "train_boards").c_str(), share(end, "test_boards").c_str(), end.at("train_seconds").get<double>());
    } catch (const json::exception&) {
      std::cerr << "passing over " << model << "'s metrics in " << settings.out.string() << ": they are not those of a run\n";
    }
  }
  if (rows == 1) std::printf("\nTo compare: ./sudoku_train --model %s\n", settings.model == "optnet" ? "mlp" : "optnet");
  std::fflush(stdout);
  if (plots[0].curves.empty()) return;
  if (const std::string reason = draw_plots(settings.out / "curves.png", plots); !reason.empty()) std::cout << reason << "\n";
}

}  // namespace sudoku
