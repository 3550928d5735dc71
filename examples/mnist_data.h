// Images of 28 x 28 pixels in ten classes: MNIST, Fashion-MNIST, and others in the same files.
#pragma once

#include "framework/data.h"
#include "framework/ops.h"

#include <filesystem>
#include <string>
#include <vector>

namespace mnist {

/// x [N, 1, 28, 28] in 0 ... 255, y [N] int64.
struct Data {
  optnet::Dataset train, validation, test;
  double mean = 0, deviation = 1;        // of the training images
  std::vector<std::string> names;        // of the classes
  std::string fingerprint;               // runs on equal data have equal ones

  /// Images as networks take them: less the training images' mean, over their deviation. A batch at a time, since memory that is
  /// touched for the first time costs more than the sums.
  optnet::Tensor scaled(const optnet::Tensor& images) const { return images * (1 / deviation) - mean / deviation; }
};

/// Reads train-images-idx3-ubyte, train-labels-idx1-ubyte and the same of t10k, each as it is or with .gz. The last twelfth of the
/// training images are for validation; of the others the first `most` are learned from. Throws Error that says what is wrong and
/// where data are to be had.
Data load(const std::filesystem::path& folder, std::int64_t most);

/// mistakes.png: up to 24 test images that were taken for another class, those that the network was surest of first.
/// logits [N, 10].
void draw_mistakes(const std::filesystem::path& png, const std::string& title, const Data& data, const optnet::Tensor& logits);

}  // namespace mnist
