// The classifier of images, run as a person runs it, on small data made here: each class has a bright square of its own place.
#include "tests/test.h"

#include "examples/mnist_data.h"
#include "framework/fit.h"

#include <nlohmann/json.hpp>

#include <zlib.h>

#include <fstream>
#include <regex>

namespace fs = std::filesystem;

namespace {

std::string header(std::initializer_list<std::int64_t> sizes) {
  std::string out{'\0', '\0', '\x08', static_cast<char>(sizes.size())};
  for (std::int64_t size : sizes)
    for (int shift = 24; shift >= 0; shift -= 8) out += static_cast<char>(size >> shift & 255);
  return out;
}

void write(const fs::path& path, const std::string& content) {
  if (path.extension() != ".gz") return write_file(path, content);
  const gzFile out = gzopen(path.c_str(), "wb");
  gzwrite(out, content.data(), static_cast<unsigned>(content.size()));
  gzclose(out);
}

/// The images and labels of a part, "train" or "t10k". `packed` is ".gz" or nothing.
void make_part(const fs::path& folder, const std::string& part, std::int64_t count, std::uint64_t seed, const std::string& packed) {
  Random random{seed, 0};
  std::string images = header({count, 28, 28}), labels = header({count});
  for (std::int64_t i = 0; i < count; ++i) {
    const std::int64_t label = random.below(10);
    labels += static_cast<char>(label);
    for (int y = 0; y < 28; ++y)
      for (int x = 0; x < 28; ++x) {
        const bool inside = y / 7 == label / 4 && x / 7 == label % 4;
        images += static_cast<char>((inside ? 150 : 0) + random.below(100));
      }
  }
  write(folder / (part + "-images-idx3-ubyte" + packed), images);
  write(folder / (part + "-labels-idx1-ubyte" + packed), labels);
}

struct Images : Scratch {
  Images() {
    fs::create_directory(path / "data");
    make_part(path / "data", "train", 360, 1, ".gz");
    make_part(path / "data", "t10k", 100, 2, "");
  }
  Outcome train(const std::string& flags, const std::string& out = "run") const {
    return run(*this, "./mnist_train --data " + *this / "data" + " --batch 32 --out " + *this / out + " " + flags);
  }
};

}  // namespace

TEST_CASE("each network of mnist_train learns, and leaves records, parameters and pictures", "[mnist][program]") {
  const Images folder;
  for (const std::string model : {"lenet", "mlp", "optnet", "lenet-optnet"}) {
    const Outcome outcome = folder.train("--epochs 4 --lr 0.003 --model " + model);
    INFO(model << ": " << outcome.err);
    REQUIRE(outcome.code == 0);
    const auto records = read_records(folder.path / "run/metrics.jsonl");
    REQUIRE(records.size() == 5);
    CHECK(records[4].dump().starts_with(R"({"event":"final","model":")" + model + R"(","test_accuracy":)"));
    CHECK(records[4].size() == 4);
    CHECK(records[4]["test_accuracy"] > 0.8);
    CHECK(records[4]["test_accuracy"] <= 1);
    CHECK(records[4]["test_accuracy"].dump().size() <= 4);  // of 100 images: 0.93, not 0.9299999999999999
    CHECK(records[4]["train_seconds"].is_number_float());
    const std::string suffix = model == "lenet" ? "" : "." + model;
    for (const std::string name : {"model", "last"}) CHECK(fs::exists(folder.path / ("run/" + name + suffix + ".safetensors")));
    CHECK(load_safetensors(folder.path / ("run/model" + suffix + ".safetensors")).metadata.at("model") == model);
    CHECK(read_file(folder.path / ("run/mistakes" + suffix + ".png")).starts_with("\x89PNG"));
    CHECK(fs::exists(folder.path / ("run/metrics." + model + ".csv")));
    if (model == "lenet-optnet") CHECK_THAT(outcome.out, Contains("LeNet  ") && Contains("MLP  ") && Contains("OptNet  ") && Contains("LeNet + OptNet  "));
  }
}

TEST_CASE("a run of mnist_train depends on the seed, not on the threads", "[mnist][program]") {
  const Images folder;
  REQUIRE(folder.train("--model lenet-optnet --epochs 1 --threads 1", "a").code == 0);
  REQUIRE(folder.train("--model lenet-optnet --epochs 1 --threads 2", "b").code == 0);
  REQUIRE(folder.train("--model lenet-optnet --epochs 1 --seed 18446744073709551615", "c").code == 0);
  const auto model = [&](const std::string& run) { return read_file(folder.path / run / "model.lenet-optnet.safetensors"); };
  CHECK(model("a") == model("b"));
  CHECK(model("a") != model("c"));
  CHECK(read_records(folder.path / "c/metrics.jsonl")[0]["seed"].dump() == "18446744073709551615");
}

TEST_CASE("mnist_train goes on only with the run and the data of its checkpoint", "[mnist][program]") {
  const Images folder;
  REQUIRE(folder.train("--model optnet --epochs 1 --images 98").code == 0);
  const std::string model = read_file(folder.path / "run/model.optnet.safetensors");
  const std::string resume = "./mnist_train --resume " + folder / "run/last.optnet.safetensors";
  REQUIRE(run(folder, resume).code == 0);
  CHECK_THAT(run(folder, resume + " --images all").err, Contains("--images: 'all' contradicts") && Contains("whose run has '98'"));
  CHECK(read_file(folder.path / "run/model.optnet.safetensors") == model);
  CHECK_THAT(run(folder, resume + " --batch 5").err, Contains("--batch: '5' contradicts") && Contains("'32'"));
  fs::rename(folder.path / "data", folder.path / "moved");
  CHECK(run(folder, resume).code == 2);
  CHECK(run(folder, resume + " --data " + folder / "moved").code == 0);
  make_part(folder.path / "moved", "t10k", 100, 3, "");
  CHECK_THAT(run(folder, resume + " --data " + folder / "moved").err, Contains("it is of another run: its 'data_fingerprint' is '360 images, "));
}

TEST_CASE("Fashion-MNIST is known by its labels, whatever its folder is called", "[mnist]") {
  const Scratch folder;
  fs::create_directory(folder.path / "fashion");
  make_part(folder.path / "fashion", "train", 24, 1, "");
  make_part(folder.path / "fashion", "t10k", 2, 2, "");
  CHECK(mnist::load(folder.path / "fashion", 24).names[9] == "9");
  const fs::path debian = "/usr/share/datasets/fashion-mnist";
  if (!fs::exists(debian)) return skip("no " + debian.string() + " (sh tools/setup installs it)");
  fs::create_directory_symlink(debian, folder.path / "clothes");
  CHECK(mnist::load(folder.path / "clothes", 100).names == std::vector<std::string>{"t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot"});
}

TEST_CASE("the table of models shows both errors of the epoch that is kept", "[mnist][program]") {
  const Images folder;
  fs::create_directory(folder.path / "run");
  const auto epoch = [](int number, const char* error) {
    return R"({"event":"epoch","seed":7,"epoch":)" + std::to_string(number) + R"(,"train_error":)" + error + R"(,"best_epoch":2})" + "\n";
  };
  write_file(folder.path / "run/metrics.optnet.jsonl",
             epoch(1, "0.5") + epoch(2, "0.25") + epoch(3, "0.125") + R"({"event":"final","test_accuracy":0.75,"train_seconds":3.5})" + "\n");
  write_file(folder.path / "run/metrics.lenet.jsonl", epoch(1, "0.5") + R"({"event":"final","test_accuracy":0.75,"train_seconds":3.5})" + "\n");  // no epoch 2
  const Outcome outcome = folder.train("--model mlp --epochs 1");
  CHECK(std::regex_search(outcome.out, std::regex("OptNet +7 +3 +25.00% +25.00% +3.5\n")));
  CHECK_THAT(outcome.err, Contains("passing over lenet's metrics"));
}

TEST_CASE("a network of mnist_train whose QP can no longer be solved ends in advice about --lr", "[mnist][program]") {
  const Images folder;
  const Outcome outcome = folder.train("--model optnet --lr 1e5 --epochs 2");
  CHECK(outcome.code == 1);
  CHECK_THAT(outcome.err, Contains("mnist_train: training diverged in epoch ") && Contains("the network's QP cannot be solved: argmin: ") &&
                              Contains(" problems not solved: ") && Contains("; try a smaller --lr than 100000\n") && !Contains("OnFailure"));
}

TEST_CASE("mnist_train learns from all images unless told otherwise, and calls it so", "[mnist][program]") {
  const Images folder;
  REQUIRE(folder.train("--model mlp --epochs 1").code == 0);
  const std::string resume = "./mnist_train --resume " + folder / "run/last.mlp.safetensors";
  CHECK(run(folder, resume + " --images all").code == 0);
  CHECK_THAT(run(folder, resume + " --images 400").err, Contains("--images: '400' contradicts") && Contains("whose run has 'all'"));
}

TEST_CASE("mnist_train says what is wrong with a flag or with its data", "[mnist][program]") {
  const Images folder;
  const struct { std::string flags, said; } cases[] = {
      {"--model resnet", "--model: must be mlp, lenet, optnet or lenet-optnet; got 'resnet'"},
      {"--data ''", "--data: must be a folder; got ''"},
      {"--images 0", "--images: must be a whole number from 1"},
      {"--batch 1", "--batch: must be a whole number from 2"},
      {"--model optnet --images 97 --batch 32 --data " + folder / "data", "--batch: 97 images in batches of 32 leave a last batch of one image"},
      {"--lr nan", "--lr: must be a positive number from 1e-12 to 1e6, such as 0.1; got 'nan'"},
      {"--lr 1e30", "--lr: must be a positive number from 1e-12 to 1e6, such as 0.1; got '1e30'"},
      {"--resume /nowhere/last.safetensors", "there is no such file"},
  };
  for (const auto& [flags, said] : cases) {
    const Outcome outcome = run(folder, "./mnist_train --out " + folder / "run " + flags);
    CHECK(outcome.code == 2);
    CHECK_THAT(outcome.err, Contains(said));
  }
  CHECK(run(folder, "./mnist_train --help").code == 0);

  const auto refuses = [&](const std::string& said) {
    const Outcome outcome = folder.train("");
    CHECK(outcome.code == 2);
    CHECK_THAT(outcome.err, Contains("--data: ") && Contains(said));
  };
  const fs::path labels = folder.path / "data/t10k-labels-idx1-ubyte", images = folder.path / "data/t10k-images-idx3-ubyte";
  const std::string right = read_file(labels);
  write(labels, header({99}) + right.substr(8, 99));
  refuses("must hold a label for each image, [100]; got [99]");
  write(labels, header({100}) + right.substr(8, 99) + '\x0a');
  refuses("labels must be 0 to 9; number 99 is not");
  write(labels, right);
  write(images, header({100, 2, 2}) + std::string(400, ' '));
  refuses("must hold images of 28 x 28; got [100, 2, 2]");
  write(images, header({100, 28, 28}) + std::string(400, ' '));
  refuses("a shape of [100, 28, 28] takes more than the file's 400 bytes of data");
  fs::remove(images);
  refuses("there is no t10k-images-idx3-ubyte.gz (or without .gz) in '" + folder / "data" + "'; Fashion-MNIST is Debian's package");
}
