// The small examples, run as a person runs them, from the repository's root: what they print is true, what they refuse they
// say, and they stay small. (The larger ones: sudoku_program_test.cpp, control_test.cpp.)
#include "tests/test.h"

#include <cstdlib>
#include <map>

using Catch::Matchers::StartsWith;
namespace fs = std::filesystem;

namespace {

std::vector<fs::path> small_examples() {
  std::vector<fs::path> out;
  for (const auto& entry : fs::directory_iterator("examples/small")) out.push_back(entry.path());
  return out;
}

std::string run_well(const std::string& command) {
  const Scratch folder;
  const Outcome got = run(folder, command);
  INFO(command << "\n" << got.out << got.err);
  REQUIRE(got.code == 0);
  REQUIRE(got.err.empty());
  return got.out;
}

/// The numbers that stand between `label` and the end of its line, whatever else stands there.
std::vector<double> numbers_after(const std::string& label, const std::string& text) {
  const std::size_t at = text.find(label);
  INFO(text);
  REQUIRE(at != std::string::npos);
  std::istringstream words(text.substr(at + label.size(), text.find('\n', at + label.size()) - at - label.size()));
  std::vector<double> out;
  for (std::string word; words >> word;) {
    char* end = nullptr;
    const double number = std::strtod(word.c_str(), &end);
    if (*end == '\0') out.push_back(number);
  }
  return out;
}

/// The numbers that stand first after each `label`.
std::vector<double> each_after(const std::string& label, const std::string& text) {
  std::vector<double> out;
  for (std::size_t at = text.find(label); at != std::string::npos; at = text.find(label, at + 1))
    out.push_back(std::strtod(text.c_str() + at + label.size(), nullptr));
  return out;
}

/// `count` characters in a file, by `f` of their number.
template <class F>
std::string text_file(const Scratch& folder, int count, const F& f) {
  std::string text;
  for (int i = 0; i < count; ++i) text += f(i);
  write_file(folder / "text", text);
  return folder / "text";
}

constexpr const char* tiny_transformer = "./char_transformer --context 16 --batch 8 --text ";

}  // namespace

TEST_CASE("small examples stay small, say what they teach, and are shown in the documents", "[examples]") {
  const std::string documents = read_file("README.md") + read_file("docs/quick_tour.md");
  CHECK(small_examples().size() >= 7);
  for (const fs::path& file : small_examples()) {
    INFO(file);
    const std::string text = read_file(file), name = file.stem();
    const bool larger = name == "char_transformer" || name == "portfolio";
    CHECK(std::count(text.begin(), text.end(), '\n') < (larger ? 120 : 60));
    std::istringstream lines(text);
    for (std::string line; std::getline(lines, line);) CHECK(line.size() <= 150);
    CHECK_THAT(text, StartsWith("// ") && Contains("Prints"));
    CHECK_THAT(documents, Contains("examples/small/" + name + ".cpp"));
  }
}

TEST_CASE("flags are read, and whatever is no flag or no value is refused in words", "[examples]") {
  std::int64_t steps = 3;
  std::uint64_t seed = 4;
  std::string file = "a";
  const auto read = [&](std::vector<std::string> words) {
    words.insert(words.begin(), "program");
    std::vector<char*> argv;
    for (std::string& word : words) argv.push_back(word.data());
    read_flags(static_cast<int>(argv.size()), argv.data(), {{"--steps", &steps}, {"--seed", &seed}, {"--file", &file}});
  };
  read({"--seed", "18446744073709551615", "--file", "-x"});
  CHECK(steps == 3);
  CHECK(seed == 18446744073709551615u);
  CHECK(file == "-x");
  CHECK(error_of([&] { read({"--help"}); }) ==
        "unknown argument '--help'; the flags and what they are without being given: --steps 3 --seed 18446744073709551615 --file -x");
  CHECK(error_of([&] { read({"--steps"}); }) == "--steps: needs a value; got none");
  for (const char* wrong : {"", "x", "-1", "1.5", "3 ", "9223372036854775808"})
    CHECK(error_of([&] { read({"--steps", wrong}); }) == std::string("--steps: needs a whole number of 0 or more; got '") + wrong + "'");
  CHECK(error_of([&] { read({"--file", ""}); }) == "--file: needs a text; got none");
}

TEST_CASE("each small example refuses bad arguments with exit code 2 and its name", "[examples]") {
  for (const fs::path& file : small_examples()) {
    const Scratch folder;
    const std::string name = file.stem();
    for (const char* wrong : {" 7", " --nonsense 7", name == "spiral" || name == "portfolio" ? " --epochs -1" : " --steps many"}) {
      const Outcome got = run(folder, "./" + name + wrong);
      INFO(name << wrong << '\n' << got.err);
      CHECK(got.code == 2);
      CHECK(got.out.empty());
      CHECK_THAT(got.err, StartsWith(name + ": ") && Contains("argument '") || StartsWith(name + ": --"));
    }
  }
  const Scratch folder;
  CHECK_THAT(run(folder, "./char_transformer --text nowhere.txt").err, Contains("--text: there is no 'nowhere.txt'; name a file"));
  CHECK_THAT(run(folder, "./char_transformer --text LICENSE --context 300").err, Contains("a tenth of it must be longer than --context 300"));
  for (const char* batch : {"0", "999999999999"})
    CHECK_THAT(run(folder, std::string("./char_transformer --text LICENSE --batch ") + batch).err, Contains(std::string("--batch: must be 1 to 10000; got ") + batch));
  CHECK_THAT(run(folder, "./portfolio --seeds 1").err, Contains("needs at least 2; got 1"));
  for (const char* days : {"0", "5"})
    CHECK_THAT(run(folder, std::string("./portfolio --days ") + days).err, Contains(std::string("--days: least squares of 6 weights an asset needs as many days; got ") + days));
  const Outcome unwritable = run(folder, "./custom_layer --steps 999999999 --file " + folder / "none/layer.safetensors");  // before training
  CHECK(unwritable.code == 2);
  CHECK(unwritable.out.empty());
  CHECK_THAT(unwritable.err, StartsWith("custom_layer: cannot write " + folder / "none/layer.safetensors"));
}

TEST_CASE("output of a small example that is lost is an error", "[examples]") {
  for (const fs::path& file : small_examples()) {
    const Scratch folder;
    const std::string name = file.stem();
    const std::map<std::string, std::string> short_run{{"spiral", " --epochs 0"}, {"portfolio", " --seeds 2 --epochs 0 --days 20"},
                                                       {"custom_layer", " --steps 0 --file " + folder / "layer"}};
    const Outcome lost = run(folder, "./" + name + (short_run.contains(name) ? short_run.at(name) : " --steps 0") + " >/dev/full");
    CHECK(lost.code == 2);
    CHECK(lost.err == name + ": standard output cannot be written (is the disk full?)\n");
  }
}

TEST_CASE("small examples print the same whatever the number of threads", "[examples]") {
  const Scratch folder;
  const std::string tail = " --file " + folder / "layer.safetensors";
  for (const std::string& command : {std::string("./spiral --epochs 2"), "./custom_layer --steps 30" + tail, std::string("./custom_op --steps 30"),
                                     std::string("./projections --steps 30"), std::string("./portfolio --seeds 2 --epochs 2 --days 150"),
                                     tiny_transformer + std::string("LICENSE --steps 5")})
    CHECK(run_well("OMP_NUM_THREADS=1 " + command) == run_well("OMP_NUM_THREADS=3 " + command));
}

TEST_CASE("linear regression: descent ends where least squares are, near the truth", "[examples]") {
  const std::string text = run_well("./linear_regression");
  for (const char* name : {"w1", "w2", "w3"}) {
    const std::vector<double> row = numbers_after(name, text);
    REQUIRE(row.size() == 3);
    CHECK(std::abs(row[0] - row[1]) <= 2e-6);
    CHECK(std::abs(row[1] - row[2]) < 0.08);  // 4 deviations of 0.2 / sqrt(100)
    CHECK(row[1] != row[2]);
  }
  CHECK(numbers_after("w1", run_well("./linear_regression --steps 1"))[0] != numbers_after("w1", text)[0]);
}

TEST_CASE("spiral: 99 of 100 new points are told right, and the map has all three arms", "[examples]") {
  const std::string text = run_well("./spiral --epochs 12"), untrained = run_well("./spiral --epochs 0");
  CHECK(numbers_after("right on new points:", text)[0] >= 0.99);
  CHECK(numbers_after("right on new points:", untrained)[0] < 0.7);
  const std::string map = text.substr(text.find("\n\n") + 2);
  CHECK(map.size() == 30 * 61);
  for (const char arm : {'.', 'o', '#'}) CHECK(std::count(map.begin(), map.end(), arm) > 300);
}

TEST_CASE("custom layer: it learns what the perceptron cannot, and a saved copy answers alike", "[examples]") {
  const Scratch folder;
  const std::string text = run_well("./custom_layer --steps 500 --file " + folder / "layer.safetensors");
  CHECK(numbers_after("error with the layer:", text)[0] < 1e-4);
  CHECK(numbers_after("error of the perceptron:", text)[0] > 0.05);
  CHECK(numbers_after("the copy is off by:", text) == std::vector<double>{0});
  CHECK_THAT(text, Contains("0.left") && Contains("Bilinear") && Contains("parameters: 241"));
  CHECK(load_safetensors(folder / "layer.safetensors").tensors.at("0.shift").shape() == Shape{16});
}

TEST_CASE("custom op: its gradient passes, and training through it brings the distributions together", "[examples]") {
  const std::string text = run_well("./custom_op --steps 200");
  CHECK_THAT(text, StartsWith("gradcheck: passed"));
  const std::vector<double> distances = each_after("distance ", text);
  REQUIRE(distances.size() == 2);
  CHECK(distances[0] > 0.8);
  CHECK(distances[1] < 0.3);
}

TEST_CASE("projections: the nearest points are right, and the hidden half-space is found", "[examples]") {
  const std::string text = run_well("./projections");
  CHECK(numbers_after("sum z = 1", text) == std::vector<double>{0.7, 0.3, 0});
  CHECK(numbers_after("0 <= z <= 0.6", text) == std::vector<double>{0.6, 0.5, 0});
  CHECK(numbers_after("z1 + z2 <= 1", text) == std::vector<double>{0.7, 0.3, -1});
  CHECK(numbers_after("d z1 / d x on the simplex", text) == std::vector<double>{0.5, -0.5, 0});
  for (const char* seed : {" --seed 0", " --seed 1", " --seed 2"}) {
    const std::string found = run_well(std::string("./projections") + seed);
    const std::vector<double> learned = numbers_after("learned g, h", found), truth = numbers_after("true g, h", found);
    REQUIRE(learned.size() == 4);
    for (std::size_t i = 0; i < 4; ++i) CHECK(std::abs(learned[i] - truth[i]) <= 1e-4);
  }
}

TEST_CASE("character transformer: it learns what repeats, and writes it; of noise it learns no more than there is", "[examples]") {
  const Scratch folder;
  const std::string rhyme = text_file(folder, 2000, [](int i) { return "what repeats is learned; "[i % 25]; });
  const std::string text = run_well(tiny_transformer + rhyme + " --steps 100");
  CHECK(each_after("on the last tenth ", text).front() > 2);
  CHECK(each_after("on the last tenth ", text).back() < 0.2);
  CHECK_THAT(text, Contains("what repeats is learned; what repeats"));
  // Were a position to see the next character, it would do better than ln 4.
  Random random{5};
  const std::string noise = text_file(folder, 4000, [&](int) { return "abcd"[random.below(4)]; });
  for (const double loss : each_after("on the last tenth ", run_well(tiny_transformer + noise + " --steps 100"))) CHECK(loss > std::log(4.0) - 0.02);
}

TEST_CASE("portfolio: end to end wins where the linear forecast is wrong, and not where it is right", "[examples]") {
  const std::string text = run_well("./portfolio --seeds 2 --epochs 25 --days 400");
  const auto row = [&](int degree) {
    const std::vector<double> numbers = numbers_after("\n     " + std::to_string(degree) + " ", text);  // best, two stages, end to end, gain; an error each
    REQUIRE(numbers.size() == 8);
    CHECK(numbers[6] == Approx(numbers[2] - numbers[4]).margin(2e-4));
    for (const std::size_t i : {0, 2, 4}) CHECK(numbers[i] > 0);  // nobody beats the clairvoyant
    return numbers;
  };
  CHECK(row(4)[4] < 0.6 * row(4)[2]);
  CHECK(row(6)[4] < 0.6 * row(6)[2]);
  CHECK(row(1)[6] < 0.002);
}
