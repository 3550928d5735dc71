// Portfolios by decision-focused learning: a forecast that is trained for what is done with it, not for its own error.
// Mean returns are a polynomial of the features; the forecast mu(x) is linear, hence wrong. The portfolio, on the simplex, is
//     z(mu) = argmax mu'z - risk / 2 z'S z.
// In two stages the forecast is fitted to returns r by least squares, then used. End to end it goes on from there, trained by
// gradients through the QP to what is wanted: the utility r'z - risk / 2 z'S z. Prints the utility on new days of a
// clairvoyant who knows the mean returns, how far both stay below it (their regret), and the gain, the difference: means over
// seeds +- standard errors. Where the linear forecast is right (degree 1) least squares wins; where it is wrong it loses.
// The method: Donti, Amos and Kolter 2017; the kind of data: Elmachtoub and Grigas 2022.
#include "optnet.h"

#include <cmath>
#include <iomanip>
#include <iostream>

using namespace optnet;

constexpr std::int64_t assets = 10, features = 5, factors = 3;
constexpr double risk = 1;

/// Days: their features, and the mean and the actual return of each asset.  x [N, features + 1], the last one 1; [N, assets]
struct Days {
  Tensor x, mean, returns;
};

/// How returns come about: mean (1 + x'B / 3)^degree, and what comes on top has covariance S = L L' + I / 4.
struct Market {
  std::int64_t degree;
  Tensor B, L, S;

  Market(std::int64_t degree_, Random& random)
      : degree(degree_), B(normal(random, {features, assets}, 0, 1 / std::sqrt(static_cast<double>(features)), float64)),
        L(normal(random, {assets, factors}, 0, 0.5, float64)), S(matmul(L, L, {.transpose_b = true}) + 0.25 * eye(assets, float64)) {}

  Days draw(std::int64_t n, Random& random) const {
    const Tensor x = normal(random, {n, features}, 0, 1, float64), f = normal(random, {n, factors}, 0, 1, float64);
    const Tensor mean = pow(1 + matmul(x, B) / 3, static_cast<double>(degree));
    const Tensor noise = matmul(f, L, {.transpose_b = true}) + normal(random, {n, assets}, 0, 0.5, float64);
    return {concat({x, ones({n, 1}, float64)}, 1), mean, mean + noise};
  }
};

Var portfolio(const Var& mu, const Market& market) {
  return argmin({.Q = risk * market.S, .q = -mu, .A = ones({1, assets}, float64), .b = ones({1}, float64), .lower = 0.0});
}

/// The utility of portfolios z [N, assets] at returns r, a day on average.
Var utility(const Var& z, const Tensor& r, const Market& market) {
  return mean(sum(r * z, {1})) - risk / 2 * mean(sum(matmul(z, market.S) * z, {1}));
}

/// Least squares: (x'x)^-1 x'r.
Tensor two_stage(const Days& days) {
  return solve(matmul(days.x, days.x, {.transpose_a = true}), matmul(days.x, days.returns, {.transpose_a = true}));
}

Tensor end_to_end(const Tensor& begin, const Days& days, const Market& market, std::int64_t epochs, Random& random) {
  Param w(begin);
  Adam adam({{"w", w}});
  for (std::int64_t epoch = 0; epoch < epochs; ++epoch) {
    adam.lr = cosine_decay(0.02, epoch, epochs);
    for (const auto& [x, r] : Batches({days.x, days.returns}, 100, random)) {
      Tape tape;
      adam.step(tape.gradients(-utility(portfolio(matmul(x, w), market), r, market)));
    }
  }
  return w.value();
}

/// "1.234 +- 0.056": the mean and its standard error.
std::string text_of(const std::vector<double>& x) {
  const Tensor all = from({std::ssize(x)}, x);
  std::ostringstream out;
  out << std::fixed << std::setprecision(4) << std::setw(9) << mean(all).item() << " +- "
      << std::sqrt(var(all).item() / static_cast<double>(x.size()));
  return out.str();
}

int main(int argc, char** argv) try {
  spin_briefly(argv);
  std::int64_t seeds = 10, epochs = 50, days = 1000;
  read_flags(argc, argv, {{"--seeds", &seeds}, {"--epochs", &epochs}, {"--days", &days}});
  check(seeds >= 2, "--seeds: a standard error needs at least 2; got ", seeds);
  check(days > features, "--days: least squares of ", features + 1, " weights an asset needs as many days; got ", days);

  std::cout << "degree  clairvoyant           two stages: regret    end to end: regret    gain\n";
  for (const std::int64_t degree : {1, 2, 4, 6}) {
    std::vector<double> best, two, end, gain;
    for (std::int64_t seed = 0; seed < seeds; ++seed) {
      Random random{static_cast<std::uint64_t>(seed)};
      const Market market(degree, random);
      const Days train = market.draw(days, random), test = market.draw(2000, random);
      const auto utility_of = [&](const Tensor& mu) { return utility(portfolio(mu, market), test.mean, market).item(); };
      const Tensor w = two_stage(train);
      best.push_back(utility_of(test.mean));
      two.push_back(best.back() - utility_of(matmul(test.x, w)));
      end.push_back(best.back() - utility_of(matmul(test.x, end_to_end(w, train, market, epochs, random))));
      gain.push_back(two.back() - end.back());
    }
    std::cout << std::setw(6) << degree;
    for (const auto& column : {best, two, end, gain}) std::cout << "  " << text_of(column);
    std::cout << std::endl;
  }
  flush_output();
} catch (const Error& error) {
  std::cerr << "portfolio: " << error.what() << '\n';
  return 2;
}
