// ./mnist_train: classifies the images of MNIST or Fashion-MNIST, by usual networks and by ones that end in a QP
// (mnist_model.h). Here is how a network is judged and what is shown; the loop is fit()'s.
#include "examples/mnist_data.h"
#include "examples/mnist_model.h"
#include "examples/trainer.h"

#include <nlohmann/json.hpp>

#include <cmath>
#include <cstdio>
#include <iomanip>

using namespace mnist;

namespace {

constexpr const char* program = "mnist_train";
const std::vector<std::pair<std::string, std::string>> models{{"lenet", "LeNet"}, {"mlp", "MLP"}, {"optnet", "OptNet"}, {"lenet-optnet", "LeNet + OptNet"}};

struct Settings : trainer::Settings {
  std::filesystem::path data = "/usr/share/datasets/fashion-mnist";
  std::int64_t images = 1'000'000;
  std::vector<trainer::Flag> flags;
};

void read_settings(Settings& s, int argc, char** argv) {
  s.model = "lenet", s.batch = 128;
  s.flags = {trainer::choice("model", s.model, {"mlp", "lenet", "optnet", "lenet-optnet"}, "the network; optnet's last layer is a QP (lenet)"),
             trainer::path("data", "DIR", s.data, "folder of idx files, as they are or with .gz (Debian's Fashion-MNIST, " + s.data.string() + ")"),
             trainer::whole_or_all("images", s.images, s.images, "training images at most (all)"),
             trainer::whole("epochs", s.epochs, 1, 100'000, "passes over the training images (15; optnet: 20)"),
             trainer::whole("batch", s.batch, 2, 1'000'000, "images a step (128)"),
             trainer::positive("lr", s.lr, "Adam's learning rate at first; it falls to 0 along a cosine (0.001; optnet: 0.01, lenet-optnet: 0.003)")};
  for (trainer::Flag& flag : trainer::common(s, "mnist_run")) s.flags.push_back(std::move(flag));
  trainer::read(argc, argv, program, "Classifies images of 28 x 28 pixels in ten classes.", s.flags, s);
  if (s.epochs == 0) s.epochs = s.model == "optnet" ? 20 : 15;
  if (s.lr == 0) s.lr = s.model == "optnet" ? 0.01 : s.model == "lenet-optnet" ? 0.003 : 0.001;
}

struct Score {
  std::int64_t wrong = 0;
  double loss = 0;
  Tensor logits;
};

std::int64_t count_wrong(const Tensor& logits, const Tensor& labels) {
  return labels.size(0) - static_cast<std::int64_t>(sum(equal(argmax(logits), labels)).item());
}

/// A QP that has no solution, or none in numbers as large, is a sign of diverged parameters.
Var logits_of(const Data& data, const Sequential& net, const Tensor& images) try {
  return net(data.scaled(images));
} catch (const Error& error) {
  const std::string what = error.what();
  if (!what.starts_with("argmin: ")) throw;
  throw Diverged("with these parameters the network's QP cannot be solved: " + what.substr(0, what.rfind("; mend the problem")));
}

/// In evaluation's mode; training's is on again at the end.
Score evaluate(const Data& data, Sequential& net, const Dataset& images) {
  net.eval();
  Random unused;
  std::vector<Tensor> logits;
  for (const auto& [x, y] : Batches(images, 500, unused, {.shuffle = false})) logits.push_back(logits_of(data, net, x).value());
  net.train();
  Score score{.logits = concat(logits, 0)};
  score.wrong = count_wrong(score.logits, images.y);
  score.loss = cross_entropy(score.logits, images.y).item();
  return score;
}

double share(std::int64_t part, std::int64_t whole) { return static_cast<double>(part) / static_cast<double>(whole); }

/// Of 5,000 validation images, errors closer than half a percent tell nothing; of such equals the later is the better, as the rate
/// has fallen further.
Judgement judge(const Data& data, Sequential& net, const Epoch& epoch) {
  const Score validation = evaluate(data, net, data.validation), test = evaluate(data, net, data.test);
  const double train_error = epoch.sums.at("wrong") / static_cast<double>(epoch.examples);
  const double validation_error = share(validation.wrong, data.validation.size());
  std::ostringstream text;
  text << std::fixed << std::setprecision(2) << "wrong " << 100 * train_error << "% in training, " << 100 * validation_error << "% in validation";
  return {{std::round(200 * validation_error), -static_cast<double>(epoch.number)},
          {{"train_error", train_error}, {"validation_error", validation_error}, {"validation_loss", validation.loss},
           {"test_error", share(test.wrong, data.test.size())}}, text.str()};
}

/// A model's line in the table at the end.
std::string row(const std::string& title, const nlohmann::ordered_json& best, const nlohmann::ordered_json& end) {
  char text[200];
  std::snprintf(text, sizeof text, "%-14s %6s %7s  %16.2f%%  %16.2f%%  %8.1f", title.c_str(), best.at("seed").dump().c_str(), best.at("epochs").dump().c_str(),
                100 * best.at("train_error").get<double>(), 100 * (1 - end.at("test_accuracy").get<double>()), end.at("train_seconds").get<double>());
  return text;
}
constexpr const char* head = "model            seed  epochs  wrong in training  wrong in the test   seconds";

int train(int argc, char** argv) {
  Settings s;
  read_settings(s, argc, argv);
  set_threads(s.threads);
  Data data;
  try {
    data = load(s.data, s.images);
  } catch (const Error& error) {
    throw trainer::Usage("--data: " + std::string(error.what()));
  }
  trainer::demand(data.train.size() % s.batch != 1 || !s.model.ends_with("optnet"), "--batch: ", data.train.size(), " images in batches of ", s.batch,
                  " leave a last batch of one image, which cannot be normalised; choose another --batch or --images");
  seed(s.seed);
  Sequential net = network(s.model);
  Adam adam(net.parameters(), {.lr = s.lr});
  trainer::make_folder(s.out);
  RunFiles files(s.out, s.model == "lenet" ? "" : "." + s.model);
  Metadata settings = trainer::settings_of(s.flags);
  settings["data_fingerprint"] = data.fingerprint;

  const auto loss = [&](const Dataset& batch, Epoch& epoch) {
    const Var logits = logits_of(data, net, batch.x);
    epoch.sums["wrong"] += static_cast<double>(count_wrong(logits.value(), batch.y));
    return cross_entropy(logits, batch.y);
  };
  const auto finish = [&] { return Metrics{{"test_accuracy", share(data.test.size() - evaluate(data, net, data.test).wrong, data.test.size())}}; };
  const Fit what{.state = net.state(), .optimizer = adam, .train = data.train, .batch = s.batch, .epochs = s.epochs, .seed = s.seed, .prefetch = 2,
                 .loss = loss, .rate = [&](std::int64_t step, std::int64_t steps) { return cosine_decay(s.lr, step, steps); },
                 .judge = [&](const Epoch& epoch) { return judge(data, net, epoch); }, .finish = finish,
                 .files = files, .resume = s.resume, .settings = settings, .notes = trainer::files_of(s.flags), .model = s.model,
                 .describe = {{"seed", s.seed}}, .unit = "images",
                 .plots = {{"Cross entropy", "epoch", "loss", true, {{"loss", {}, true}, {"validation_loss", {}}}},
                           {"Images taken for another class", "epoch", "share", false, {{"train_error", {}, true}, {"test_error", {}}}}},
                 .models = models};
  return trainer::train(program, s, what, [&] {
    const Score test = evaluate(data, net, data.test);
    const std::string name = std::map(models.begin(), models.end()).at(s.model);
    draw_mistakes(files.claim(files.path("mistakes", ".png")), name + " - " + grouped(test.wrong) + " of " + grouped(data.test.size()) + " test images wrong", data, test.logits);
    trainer::print_table(program, s, models, head, row);
  });
}

}  // namespace

int main(int argc, char** argv) {
  return trainer::run(program, argv, [&] { return train(argc, argv); });
}
