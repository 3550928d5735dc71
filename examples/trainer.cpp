// Flags, and a run's beginning and end.
#include "examples/trainer.h"

#include "framework/backend.h"

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <charconv>
#include <cmath>
#include <iostream>

namespace trainer {

using optnet::check;

// ---- flags -----------------------------------------------------------------------------------------------------

namespace {

/// A whole text as a number in [low, high].
template <class T>
T number(const std::string& flag, const std::string& text, T low, T high, const std::string& rule) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  const bool read = error == std::errc{} && end == text.data() + text.size();
  demand(read && value >= low && value <= high, "--", flag, ": must be ", rule, "; got '", text, "'");  // NaN fails here too
  return value;
}

template <class T>
T whole_number(const std::string& flag, const std::string& text, T low, T high) {
  return number<T>(flag, text, low, high, "a whole number from " + std::to_string(low) + " to " + std::to_string(high));
}

/// The shortest text that reads back as the same number.
std::string shortest(double x) {
  char text[32];
  return {text, std::to_chars(text, text + sizeof text, x).ptr};
}

std::string joined(const std::vector<std::string>& words, const std::string& between, const std::string& last) {
  std::string out;
  for (std::size_t i = 0; i < words.size(); ++i) out += (i == 0 ? "" : i + 1 < words.size() ? between : last) + words[i];
  return out;
}

/// The flags that stand on the command line, as text.
std::map<std::string, std::string> parse(int argc, char** argv, const std::string& program, const std::string& about, const std::vector<Flag>& flags) {
  std::map<std::string, std::string> given;
  CLI::App app{about, program};
  for (const Flag& flag : flags)
    app.add_option_function<std::string>("--" + flag.name, [&given, name = flag.name](const std::string& text) { given[name] = text; }, flag.help)
        ->type_name(flag.value);
  try {
    app.parse(argc, argv);
  } catch (const CLI::CallForHelp& help) {
    const int code = app.exit(help);
    optnet::flush_output();
    std::exit(code);
  } catch (const CLI::ParseError& error) {
    throw Usage(error.what());
  }
  return given;
}

optnet::Metadata texts(const std::vector<Flag>& flags, bool moves) {
  optnet::Metadata out;
  for (const Flag& flag : flags)
    if (flag.text && flag.moves == moves) out[flag.name] = flag.text();
  return out;
}

/// Sets the flags as the run that a checkpoint holds had them.
void restore(const std::filesystem::path& file, const std::vector<Flag>& flags) try {
  const optnet::Metadata saved = optnet::load_safetensors(file).metadata;
  for (const Flag& flag : flags) {
    if (!flag.text) continue;
    check(saved.contains(flag.name), file.string(), ": not a checkpoint of this trainer: it does not say '", flag.name, "'");
    if (!flag.moves || !saved.at(flag.name).empty()) flag.set(saved.at(flag.name));
  }
} catch (const optnet::Error& error) {
  throw Usage(std::string("--resume: ") + error.what() + "; give the last.safetensors of a run, or start a new one without --resume");
}

}  // namespace

Flag whole(const std::string& name, std::int64_t& x, std::int64_t low, std::int64_t high, const std::string& help) {
  return {name, "N", help, [=, &x](const std::string& text) { x = whole_number(name, text, low, high); }, [&x] { return std::to_string(x); }};
}

Flag whole_or_all(const std::string& name, std::int64_t& x, std::int64_t all, const std::string& help) {
  const auto set = [=, &x](const std::string& text) { x = text == "all" ? all : whole_number<std::int64_t>(name, text, 1, all); };
  return {name, "N|all", help, set, [=, &x] { return x == all ? "all" : std::to_string(x); }};
}

Flag positive(const std::string& name, double& x, const std::string& help) {
  const auto set = [=, &x](const std::string& text) { x = number(name, text, 1e-12, 1e6, "a positive number from 1e-12 to 1e6, such as 0.1"); };
  return {name, "X", help, set, [&x] { return shortest(x); }};
}

Flag choice(const std::string& name, std::string& x, const std::vector<std::string>& choices, const std::string& help) {
  const auto set = [=, &x](const std::string& text) {
    demand(std::find(choices.begin(), choices.end(), text) != choices.end(), "--", name, ": must be ", joined(choices, ", ", " or "), "; got '", text, "'");
    x = text;
  };
  return {name, joined(choices, "|", "|"), help, set, [&x] { return x; }};
}

Flag path(const std::string& name, const std::string& value, std::filesystem::path& x, const std::string& help) {
  const auto set = [=, &x](const std::string& text) {
    demand(!text.empty(), "--", name, ": must be a ", value == "DIR" ? "folder" : "file", "; got ''");
    x = text == "-" ? std::filesystem::path(text) : std::filesystem::absolute(text);  // a run may be resumed from another folder
  };
  return {name, value, help, set, [&x] { return x.string(); }, true};
}

std::vector<Flag> common(Settings& s, const std::string& default_out) {
  s.out = default_out;
  const auto seed = [&s](const std::string& text) { s.seed = whole_number<std::uint64_t>("seed", text, 0, UINT64_MAX); };
  const auto threads = [&s](const std::string& text) { s.threads = static_cast<int>(whole_number<std::int64_t>("threads", text, 1, 1024)); };
  const auto out = [&s](const std::string& text) {
    demand(!text.empty(), "--out: must be a folder; got ''");
    s.out = text;
  };
  return {{"seed", "N", "fixes data, initial parameters and order, whatever the number of threads (0)", seed, [&s] { return std::to_string(s.seed); }},
          {"threads", "N", "OMP_NUM_THREADS, else as many as there are cores", threads},
          {"out", "DIR", "folder for metrics, parameters and pictures (" + default_out + ", or that of --resume's file); another run's move to old.1 in it", out},
          {"resume", "FILE", "go on from a run's last.safetensors", [&s](const std::string& text) { s.resume = text; }}};
}

optnet::Metadata settings_of(const std::vector<Flag>& flags) { return texts(flags, false); }
optnet::Metadata files_of(const std::vector<Flag>& flags) { return texts(flags, true); }

std::set<std::string> read(int argc, char** argv, const std::string& program, const std::string& about, const std::vector<Flag>& flags, Settings& s) {
  const std::map<std::string, std::string> given = parse(argc, argv, program, about, flags);
  const bool resumes = given.contains("resume");
  if (resumes) {
    restore(given.at("resume"), flags);
    s.out = std::filesystem::path(given.at("resume")).parent_path();
    if (s.out.empty()) s.out = ".";
  }
  std::set<std::string> names;
  for (const Flag& flag : flags) {
    if (!given.contains(flag.name)) continue;
    const std::string& text = given.at(flag.name);
    const std::string saved = flag.text ? flag.text() : "";
    flag.set(text);
    demand(!resumes || !flag.text || flag.moves || flag.text() == saved, "--", flag.name, ": '", text, "' contradicts ", resumes ? given.at("resume") : "",
           ", whose run has '", saved, "'; leave the flag out, or start a new run without --resume");
    names.insert(flag.name);
  }
  if (s.threads == 0) s.threads = optnet::threads();
  return names;
}

// ---- the run ---------------------------------------------------------------------------------------------------

void make_folder(const std::filesystem::path& folder) try {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  optnet::write_file(folder / ".writable", "");
  std::filesystem::remove(folder / ".writable");
} catch (const optnet::Error&) {
  throw Usage("--out: cannot write into '" + folder.string() + "'; give a folder that is there, or can be made, and is writable");
}

int train(const std::string& program, const Settings& s, const optnet::Fit& what, const std::function<void()>& report) try {
  const optnet::Interrupt interrupt;  // until all is written
  const optnet::Fitted fitted = optnet::fit(what);
  if (fitted.best == 0) std::cout << "no epoch has ended yet: there are no metrics, model and pictures to write\n";
  else report();
  if (fitted.best) std::cout << "\nparameters, metrics and pictures are in " << s.out.string() << "\n";
  optnet::flush_output();
  if (fitted.finished) return 0;
  std::cout << "stopped in epoch " << fitted.epoch << " after batch " << fitted.batch << "; to go on: ./" << program << " --resume "
            << what.files.path("last", ".safetensors").string() << std::endl;
  return 130;
} catch (const optnet::Diverged& error) {
  optnet::fail(error.what(), "; try a smaller --lr than ", s.lr);
} catch (const optnet::BadCheckpoint& error) {
  throw Usage(std::string("--resume: ") + error.what() + "; give an undamaged last.safetensors, or start a new run without --resume");
}

void print_table(const std::string& program, const Settings& s, const std::vector<std::pair<std::string, std::string>>& models, const std::string& head, const Row& row) {
  std::ostringstream rows;
  int count = 0;
  for (const auto& [model, title] : models) try {
    const auto run = optnet::read_records(s.out / ("metrics." + model + ".jsonl"));
    if (run.size() < 2 || run.back()["event"] != "final") continue;
    const nlohmann::ordered_json& last = run[run.size() - 2];
    nlohmann::ordered_json best = run.at(last.at("best_epoch").get<std::size_t>() - 1);
    best["epochs"] = last.at("epoch");
    rows << row(title, best, run.back()) << '\n';
    ++count;
  } catch (const std::exception&) {
    std::cerr << "passing over " << model << "'s metrics in " << s.out.string() << ": they are not those of a run\n";
  }
  if (count) std::cout << '\n' << head << '\n' << rows.str();
  if (count == 1) std::cout << "\nTo compare: ./" << program << " --model " << (s.model == models[0].first ? models[1] : models[0]).first << '\n';
}

int run(const std::string& program, char** argv, const std::function<int()>& body) try {
  optnet::spin_briefly(argv);
  return body();
} catch (const Usage& error) {
  std::cerr << program << ": " << error.what() << "\n" << program << " --help lists the flags\n";
  return 2;
} catch (const std::exception& error) {
  std::cerr << program << ": " << error.what() << "\n";
  return 1;
}

}  // namespace trainer
