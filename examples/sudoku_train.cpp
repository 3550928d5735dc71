// ./sudoku_train: learns 4x4 Sudoku from solved puzzles, by a network that is one QP (sudoku_model.h) or by a
// perceptron. This file is the loop; what a run keeps, writes and reports is in sudoku_run.h.
#include "examples/sudoku_run.h"

#include <chrono>
#include <cmath>
#include <iomanip>
#include <iostream>

using namespace sudoku;

namespace {

using Clock = std::chrono::steady_clock;
double since(Clock::time_point begin) { return std::chrono::duration<double>(Clock::now() - begin).count(); }

std::string status(const Run& run, double pace) {
  std::ostringstream out;
  out << "epoch " << run.at.epoch + 1 << '/' << run.settings.epochs << std::fixed << std::setprecision(5) << "  loss "
      << run.at.loss / static_cast<double>(run.at.boards) << std::setprecision(2) << "  wrong "
      << 100.0 * static_cast<double>(run.at.wrong) / static_cast<double>(run.at.boards) << "%  " << grouped(static_cast<std::int64_t>(pace)) << " boards/s";
  return out.str();
}

/// Trains until all epochs are done (true) or Ctrl-C stops it (false).
bool train(Run& run, const Interrupt& interrupt) try {
  auto& [settings, data, network, adam, at, best, log, files] = run;
  const std::int64_t batches_an_epoch = (data.train.size() + settings.batch - 1) / settings.batch;
  const std::int64_t steps = settings.epochs * batches_an_epoch, earlier = at.epoch * batches_an_epoch + at.batch;
  const double seconds_before = at.seconds;
  const auto begin = Clock::now();
  Progress progress(steps, earlier);

  while (at.epoch < settings.epochs) {
    const auto epoch_begin = Clock::now();
    const std::int64_t boards_before = at.boards;
    Random random = at.order;  // a copy: an epoch that is resumed draws its order once more
    const Batches batches(data.train, settings.batch, random);
    while (at.batch < batches.count()) {
      const std::int64_t step = at.epoch * batches_an_epoch + at.batch;
      const auto [puzzles, solutions] = batches[at.batch];
      Tape tape;
      const Var z = network(puzzles);
      const Var loss = mse(z, solutions);
      adam.lr = cosine_decay(settings.lr, step, steps);
      adam.step(tape.gradients(loss));

      if (!std::isfinite(loss.item())) throw Unsolvable("the loss is not finite");
      ++at.batch;
      at.boards += puzzles.size(0);
      at.loss += loss.item() * static_cast<double>(puzzles.size(0));
      at.wrong += count_wrong(z.value(), solutions);
      at.seconds = seconds_before + since(begin);
      progress.show(step + 1, status(run, static_cast<double>(at.boards - boards_before) / since(epoch_begin)));
      if (interrupt) return false;
    }
    const std::string line = run.finish_epoch(since(epoch_begin));
    at.order = random;
    at.seconds = seconds_before + since(begin);
    run.save();
    progress.line(line + "  " + progress.time_left(at.epoch * batches_an_epoch));
  }
  return true;
} catch (const Unsolvable& error) {
  const bool best = run.best.epoch > 0;
  fail("training diverged in epoch ", run.at.epoch + 1, ": ", error.what(), "; try a smaller --lr than ", run.settings.lr,
       best ? " (the best parameters until then are in " + run.settings.file("model", ".safetensors").string() + ")" : "");
}

}  // namespace

int main(int argc, char** argv) try {
  spin_briefly(argv);
  const Settings settings = read_settings(argc, argv);
  set_threads(settings.threads);
  Run run(settings);
  const Interrupt interrupt;  // until all is written
  const bool finished = train(run, interrupt);
  run.save();
  run.report(finished);
  flush_output();
  if (finished) return 0;
  std::cout << "stopped in epoch " << run.at.epoch + 1 << " after batch " << run.at.batch << "; to go on: ./sudoku_train --resume "
            << settings.file("last", ".safetensors").string() << std::endl;
  return 130;  // what a shell reports for a program that Ctrl-C ended
} catch (const Usage& error) {
  std::cerr << "sudoku_train: " << error.what() << "\nsudoku_train --help lists the flags\n";
  return 2;
} catch (const std::exception& error) {
  std::cerr << "sudoku_train: " << error.what() << "\n";
  return 1;
}
