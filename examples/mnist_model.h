// The networks of ./mnist_train: images [B, 1, 28, 28] -> logits [B, 10].
#pragma once

#include <cmath>

#include "layers/images.h"
#include "layers/layers.h"
#include "layers/norm.h"
#include "layers/optnet.h"

namespace mnist {

using namespace optnet;

/// One hidden layer of 600.
inline Sequential perceptron() { return Sequential{Flatten{}, Linear{784, 600}, ReLU{}, Linear{600, 10}}; }

/// LeCun et al. 1998, as it is built since: ReLU, largest values of 2 x 2 pixels, no gaps between the channels' connections.
inline Sequential lenet() {
  return Sequential{Conv2d{1, 20, 5}, ReLU{}, MaxPool2d{2}, Conv2d{20, 50, 5}, ReLU{}, MaxPool2d{2}, Flatten{}, Linear{800, 500}, ReLU{}, Dropout{}, Linear{500, 10}};
}

/// The paper's layer for MNIST (Amos and Kolter 2017, section 4): a QP in 10 variables with 200 inequalities, all learned; its
/// solution is the logits. They start with room for sure answers: s0 = 10, where G z <= 1 would keep all of them alike.
inline Sequential qp() {
  OptNet layer({.variables = 10, .inequalities = 200});
  layer.log_s0.set(full({200}, std::log(10)));
  return Sequential{BatchNorm1d{10}, layer};
}

/// Any of them, under the name that --model gives it.
inline Sequential network(const std::string& name) {
  if (name == "mlp") return perceptron();
  if (name == "lenet") return lenet();
  if (name == "optnet") return Sequential{Flatten{}, Linear{784, 600}, ReLU{}, BatchNorm1d{600}, Linear{600, 10}, qp()};
  if (name == "lenet-optnet") return Sequential{lenet(), qp()};
  fail("the model must be mlp, lenet, optnet or lenet-optnet; got '", name, "'");
}

}  // namespace mnist
