// Models exchanged with PyTorch: the same nets, under PyTorch's names, give the same outputs, gradients and running statistics
// to 1e-5 from the same file. tests/data holds small ones, written by tests/pytorch_models.py, which says what is in each file;
// where there is a PyTorch, models of ordinary sizes are written anew, and it reads what we saved.
#include "tests/test.h"

namespace {

Sequential mlp(std::int64_t inputs, std::int64_t hidden, std::int64_t outputs) {
  return Sequential{Linear{inputs, hidden, {.bias = false}}, BatchNorm1d{hidden}, ReLU{}, Linear{hidden, hidden}, LayerNorm{Shape{hidden}}, GELU{},
                    Linear{hidden, outputs}};
}

struct LeNet : Module {
  Conv2d conv1, conv2;
  Linear fc1, fc2, fc3;

  LeNet(std::int64_t channels1, std::int64_t channels2, std::int64_t hidden1, std::int64_t hidden2)
      : conv1(child("conv1", Conv2d{1, channels1, 5, {.padding = 2}})), conv2(child("conv2", Conv2d{channels1, channels2, 5})),
        fc1(child("fc1", Linear{channels2 * 25, hidden1})), fc2(child("fc2", Linear{hidden1, hidden2})), fc3(child("fc3", Linear{hidden2, 10})) {}

  Var operator()(const Var& x) const {
    const Var y = max_pool2d(relu(conv2(max_pool2d(relu(conv1(x)), 2))), 2);
    return fc3(relu(fc2(relu(fc1(Flatten{}(y))))));
  }
};

struct BasicBlock : Module {
  Conv2d conv1, conv2;
  BatchNorm2d bn1, bn2;
  std::optional<Sequential> downsample;

  BasicBlock(std::int64_t in, std::int64_t out, std::int64_t stride)
      : conv1(child("conv1", Conv2d{in, out, 3, {.stride = stride, .padding = 1, .bias = false}})),
        conv2(child("conv2", Conv2d{out, out, 3, {.padding = 1, .bias = false}})), bn1(child("bn1", BatchNorm2d{out})),
        bn2(child("bn2", BatchNorm2d{out})) {
    if (stride != 1 || in != out)
      downsample = child("downsample", Sequential{Conv2d{in, out, 1, {.stride = stride, .bias = false}}, BatchNorm2d{out}});
  }

  Var operator()(const Var& x) const { return relu(bn2(conv2(relu(bn1(conv1(x))))) + (downsample ? (*downsample)(x) : x)); }
};

struct ResNet : Module {
  Conv2d conv1;
  BatchNorm2d bn1;
  Sequential layer1, layer2;
  Linear fc;

  ResNet(std::int64_t channels1, std::int64_t channels2, std::int64_t window, std::int64_t classes)
      : conv1(child("conv1", Conv2d{3, channels1, window, {.stride = 2, .padding = window / 2, .bias = false}})),
        bn1(child("bn1", BatchNorm2d{channels1})),
        layer1(child("layer1", Sequential{BasicBlock{channels1, channels1, 1}, BasicBlock{channels1, channels1, 1}})),
        layer2(child("layer2", Sequential{BasicBlock{channels1, channels2, 2}, BasicBlock{channels2, channels2, 1}})),
        fc(child("fc", Linear{channels2, classes})) {}

  Var operator()(const Var& x) const {
    const Var y = layer2(layer1(max_pool2d(relu(bn1(conv1(x))), 3, {.stride = 2, .padding = 1})));
    return fc(mean(y, {2, 3}));
  }
};

/// The largest difference beside the largest number.
double relative(const Tensor& x, const Tensor& right) { return max_difference(x, right) / max(abs(right)).item(); }

/// Loads folder/name.safetensors, runs what PyTorch ran, compares, and saves the trained model and its outputs as name_ours.
template <class Net>
void compare(const std::filesystem::path& folder, const std::string& name, Net net, const std::filesystem::path& out) {
  INFO(name);
  net.load(folder / (name + ".safetensors"));
  const NamedTensors run = load_safetensors(folder / (name + "_run.safetensors")).tensors;
  const Tensor &x = run.at("x"), &labels = run.at("labels");
  net.eval();
  CHECK(relative(net(x).value(), run.at("eval")) < 1e-5);

  net.train();
  {
    Tape tape;
    const Var y = net(x), loss = cross_entropy(y, labels);
    const Gradients gradients = tape.gradients(loss);
    CHECK(relative(y.value(), run.at("train")) < 1e-5);
    CHECK(relative(loss.value(), run.at("loss")) < 1e-5);
    CHECK(take(run, "gradient.").size() == net.parameters().size());
    for (const auto& [key, param] : net.parameters()) {
      INFO("gradient of " << key);
      CHECK(relative(gradients[param], run.at("gradient." + key)) < 1e-5);
    }
    SGD{net.parameters(), {.lr = 0.1}}.step(gradients);
  }
  const NamedTensors ours = values(net.state()), theirs = take(run, "after.");
  CHECK(ours.size() == theirs.size());
  for (const auto& [key, value] : ours) {
    INFO("after a step: " << key);
    CHECK(relative(value, theirs.at(key)) < 1e-5);
  }

  net.eval();
  net.save(out / (name + "_ours.safetensors"));
  save_safetensors(out / (name + "_ours_run.safetensors"), {{"x", x}, {"eval", net(x).value()}});
}

}  // namespace

TEST_CASE("models that PyTorch saved give its outputs and gradients here, and learn as they do there", "[models]") {
  const Folder out;
  compare("tests/data", "mlp", mlp(12, 16, 5), out.path);
  compare("tests/data", "lenet", LeNet{2, 4, 12, 12}, out.path);
  compare("tests/data", "resnet", ResNet{4, 6, 3, 5}, out.path);
}

TEST_CASE("models of ordinary sizes go to PyTorch and come back", "[models]") {
  const std::string python = python_with("torch, safetensors.torch");
  if (python.empty()) return skip("no python3 with PyTorch and safetensors (make torch-venv installs them)");
  const Scratch folder;
  const auto ask = [&](const char* command) {
    const Outcome outcome = run(folder, python + " tests/pytorch_models.py " + command + " " + folder.path.string() + " full");
    INFO(outcome.err);
    REQUIRE(outcome.code == 0);
  };
  ask("write");
  compare(folder.path, "mlp", mlp(784, 128, 10), folder.path);
  compare(folder.path, "lenet", LeNet{6, 16, 120, 84}, folder.path);
  compare(folder.path, "resnet", ResNet{32, 64, 7, 10}, folder.path);
  ask("check");
}

TEST_CASE("a file that is not this model's is refused by name, and the model stays as it was", "[models]") {
  const LeNet net{2, 4, 12, 12};
  const NamedTensors before = values(net.state());
  const auto refusal = [&](const std::string& file) { return error_of([&] { LeNet(net).load("tests/data/" + file + ".safetensors"); }); };
  CHECK_THAT(refusal("mlp"), Contains("tests/data/mlp.safetensors: assign: the model has no parameter '0.weight'"));
  CHECK(error_of([] { LeNet(2, 4, 12, 13).load("tests/data/lenet.safetensors"); }) ==
        "tests/data/lenet.safetensors: assign: parameter 'fc2.bias' must be float32[13]; got float32[12]");
  CHECK(refusal("no_such") == "tests/data/no_such.safetensors: there is no such file");
  for (const auto& [name, x] : values(net.state())) CHECK(same_bits(x, before.at(name)));
}
