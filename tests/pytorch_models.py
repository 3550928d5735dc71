"""PyTorch's side of models_test.cpp: an MLP, a LeNet and a ResNet, built as PyTorch's users build them.

    python3 tests/pytorch_models.py write FOLDER small    the files of tests/data/, which this made
    python3 tests/pytorch_models.py write FOLDER full     the same models in ordinary sizes
    python3 tests/pytorch_models.py check FOLDER full     what we saved after a step must load here, strictly, and do the same

NAME.safetensors is the model's state_dict() as it stands. NAME_run.safetensors holds an input and labels, the outputs in
evaluation, then of a step in training the outputs, the loss and its gradients, and the state after a step of SGD."""
import sys

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn.functional import cross_entropy, max_pool2d, relu


def mlp(inputs, hidden, outputs):
    return nn.Sequential(nn.Linear(inputs, hidden, bias=False), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.LayerNorm(hidden),
                         nn.GELU(), nn.Linear(hidden, outputs))


class LeNet(nn.Module):
    """LeCun et al. 1998, for 28 x 28 pixels, with today's activations."""

    def __init__(self, channels1, channels2, hidden1, hidden2):
        super().__init__()
        self.conv1 = nn.Conv2d(1, channels1, 5, padding=2)
        self.conv2 = nn.Conv2d(channels1, channels2, 5)
        self.fc1 = nn.Linear(channels2 * 25, hidden1)
        self.fc2 = nn.Linear(hidden1, hidden2)
        self.fc3 = nn.Linear(hidden2, 10)

    def forward(self, x):
        x = max_pool2d(relu(self.conv1(x)), 2)
        x = max_pool2d(relu(self.conv2(x)), 2)
        return self.fc3(relu(self.fc2(relu(self.fc1(x.flatten(1))))))


class BasicBlock(nn.Module):
    """torchvision's, with its names."""

    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x):
        y = self.bn2(self.conv2(relu(self.bn1(self.conv1(x)))))
        return relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet(nn.Module):
    """The same with two stages of two blocks."""

    def __init__(self, channels1, channels2, window, classes):
        super().__init__()
        self.conv1 = nn.Conv2d(3, channels1, window, stride=2, padding=window // 2, bias=False)
        self.bn1 = nn.BatchNorm2d(channels1)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.layer1 = nn.Sequential(BasicBlock(channels1, channels1, 1), BasicBlock(channels1, channels1, 1))
        self.layer2 = nn.Sequential(BasicBlock(channels1, channels2, 2), BasicBlock(channels2, channels2, 1))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels2, classes)

    def forward(self, x):
        x = self.layer2(self.layer1(self.maxpool(relu(self.bn1(self.conv1(x))))))
        return self.fc(self.avgpool(x).flatten(1))


MODELS = {
    "small": {"mlp": (lambda: mlp(12, 16, 5), (4, 12)),
              "lenet": (lambda: LeNet(2, 4, 12, 12), (3, 1, 28, 28)),
              "resnet": (lambda: ResNet(4, 6, 3, 5), (3, 3, 16, 16))},
    "full": {"mlp": (lambda: mlp(784, 128, 10), (16, 784)),
             "lenet": (lambda: LeNet(6, 16, 120, 84), (16, 1, 28, 28)),
             "resnet": (lambda: ResNet(32, 64, 7, 10), (16, 3, 64, 64))},
}


def with_prefix(prefix, tensors):
    return {prefix + name: x.detach().clone() for name, x in tensors}


def write(folder, name, build, shape):
    torch.manual_seed(0)
    model = build()
    for _ in range(3):  # running statistics that are not those of the beginning
        model(0.5 + 2 * torch.randn(16, *shape[1:]))
    save_file(model.state_dict(), f"{folder}/{name}.safetensors")

    x = torch.randn(shape)
    model.eval()
    run = {"x": x, "eval": model(x).detach()}
    classes = run["eval"].shape[1]
    run["labels"] = torch.randint(classes, shape[:1])
    model.train()
    y = model(x)
    loss = cross_entropy(y, run["labels"])
    loss.backward()
    run |= {"train": y.detach(), "loss": loss.detach()}
    run |= with_prefix("gradient.", ((key, p.grad) for key, p in model.named_parameters()))
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    run |= with_prefix("after.", model.state_dict().items())
    save_file(run, f"{folder}/{name}_run.safetensors")


def check(folder, name, build):
    model = build()
    model.load_state_dict(load_file(f"{folder}/{name}_ours.safetensors"), strict=True)
    run = load_file(f"{folder}/{name}_ours_run.safetensors")
    difference = (model.eval()(run["x"]) - run["eval"]).abs().max() / run["eval"].abs().max()
    assert difference < 1e-5, f"{name}: outputs of the model that optnet saved differ by {difference}"


command, folder, sizes = sys.argv[1:]
for name, (build, shape) in MODELS[sizes].items():
    write(folder, name, build, shape) if command == "write" else check(folder, name, build)
