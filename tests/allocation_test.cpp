// What the solver takes from the heap: nothing in an iteration, and for a larger batch only the room for its answers. Every
// operator new of the tests passes through here, and is counted in its own thread.
#include "tests/test.h"

#include <atomic>
#include <cstdlib>
#include <new>
#include <random>
#include <thread>

// clang's sanitizers link an operator new of their own, and allow no other.
#ifdef __clang__
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define OPTNET_COUNTS_NOTHING
#endif
#endif

#ifndef OPTNET_COUNTS_NOTHING

namespace {

thread_local long allocations = 0, allocated_bytes = 0;
std::atomic<std::size_t> most_bytes = SIZE_MAX;  // of one allocation: more is refused

void* counted(std::size_t size, std::size_t alignment = alignof(std::max_align_t)) noexcept {
  if (size > most_bytes) return nullptr;
  ++allocations, allocated_bytes += static_cast<long>(size);
  size = (std::max<std::size_t>(size, 1) + alignment - 1) / alignment * alignment;
  return alignment > alignof(std::max_align_t) ? std::aligned_alloc(alignment, size) : std::malloc(size);
}
void* or_throw(void* memory) { return memory ? memory : throw std::bad_alloc(); }

}  // namespace

void* operator new(std::size_t size) { return or_throw(counted(size)); }
void* operator new[](std::size_t size) { return or_throw(counted(size)); }
void* operator new(std::size_t size, const std::nothrow_t&) noexcept { return counted(size); }
void* operator new[](std::size_t size, const std::nothrow_t&) noexcept { return counted(size); }
void* operator new(std::size_t size, std::align_val_t a) { return or_throw(counted(size, static_cast<std::size_t>(a))); }
void* operator new[](std::size_t size, std::align_val_t a) { return or_throw(counted(size, static_cast<std::size_t>(a))); }
void* operator new(std::size_t size, std::align_val_t a, const std::nothrow_t&) noexcept { return counted(size, static_cast<std::size_t>(a)); }
void* operator new[](std::size_t size, std::align_val_t a, const std::nothrow_t&) noexcept { return counted(size, static_cast<std::size_t>(a)); }
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete[](void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete[](void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete(void* memory, const std::nothrow_t&) noexcept { std::free(memory); }
void operator delete[](void* memory, const std::nothrow_t&) noexcept { std::free(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete[](void* memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t, std::align_val_t) noexcept { std::free(memory); }
void operator delete[](void* memory, std::size_t, std::align_val_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::align_val_t, const std::nothrow_t&) noexcept { std::free(memory); }
void operator delete[](void* memory, std::align_val_t, const std::nothrow_t&) noexcept { std::free(memory); }


namespace {

/// B problems of n variables and m rows, each with its own Q and G; or with shared ones.
QP<Tensor> random_problem(std::int64_t B, std::int64_t n, std::int64_t m, bool shared) {
  std::mt19937_64 engine{7};
  const auto normals = [&](const Shape& shape) {
    std::vector<double> x(static_cast<std::size_t>(shape.numel()));
    for (double& v : x) v = std::normal_distribution<double>()(engine);
    return from(shape, x);
  };
  const Tensor L = normals(shared ? Shape{n, n} : Shape{B, n, n});
  return {.Q = matmul(L, L, {.transpose_b = true}) + eye(n, float64), .q = 5 * normals({B, n}), .G = normals(shared ? Shape{m, n} : Shape{B, m, n}),
          .h = full({m}, 0.2, float64)};
}

struct Taken {
  long times, bytes;
  QPSolution solution;
};
/// What a second solve takes: the first fills the thread's workspace.
Taken taken_by(const QP<Tensor>& qp, QPOptions options) {
  options.threads = 1, options.on_failure = OnFailure::report;
  solve(qp, options);
  const long times = allocations, bytes = allocated_bytes;
  QPSolution solution = solve(qp, options);
  return {allocations - times, allocated_bytes - bytes, std::move(solution)};
}

}  // namespace

TEST_CASE("an iteration of the interior point allocates nothing", "[qp][allocation]") {
  for (bool shared : {false, true})
    for (auto [n, m] : {std::pair{10, 20}, {40, 10}, {300, 30}}) {  // in packs, and alone
      INFO("n " << n << ", m " << m << ", shared " << shared);
      const QP<Tensor> qp = random_problem(2, n, m, shared);
      const Taken three = taken_by(qp, {.tolerance = 1e-15, .max_iterations = 3, .active_set = false});
      const Taken ten = taken_by(qp, {.tolerance = 1e-15, .max_iterations = 10, .active_set = false});
      CHECK(three.solution.iterations[0] == 3);
      CHECK(ten.solution.iterations[0] > 6);
      CHECK(ten.times == three.times);
      CHECK(ten.bytes == three.bytes);
    }
}

TEST_CASE("a step of the active-set method allocates nothing", "[qp][allocation]") {
  for (auto [shared, n] : {std::pair{false, 15}, {true, 15}, {false, 30}, {true, 30}}) {  // few rows, and many
    const std::int64_t B = 32, m = n;
    const QP<Tensor> qp = random_problem(B, n, m, shared);
    std::set<long> times, bytes;
    std::set<int> steps;
    for (std::int64_t e = 0; e < B; ++e) {
      QP<Tensor> one = qp;
      one.q = slice(qp.q, 0, e, e + 1) * (e % 2 ? 1 : 0.03);  // few rows are active, or many
      if (!shared) one.Q = slice(qp.Q, 0, e, e + 1), one.G = slice(qp.G, 0, e, e + 1);
      const Taken taken = taken_by(one, {});
      times.insert(taken.times), bytes.insert(taken.bytes), steps.insert(taken.solution.iterations[0]);
    }
    CHECK(*steps.rbegin() >= *steps.begin() + 2);
    CHECK(times.size() == 1);
    CHECK(bytes.size() == 1);
  }
}

TEST_CASE("a larger batch takes room for its answers only", "[qp][allocation]") {
  for (bool active_set : {true, false}) {
    const std::int64_t n = 40, m = 40;
    const Taken small = taken_by(random_problem(32, n, m, false), {.active_set = active_set});
    const Taken large = taken_by(random_problem(96, n, m, false), {.active_set = active_set});
    const double numbers = static_cast<double>(large.bytes - small.bytes) / (64 * 8);  // a problem
    CHECK(numbers < 4 * (n + m) + 20);  // z, lambda and s, as they are found and as they are returned; Q and G hold n (n + m)
  }
}

TEST_CASE("running out of memory is an exception, on any number of threads, and harms no later solve", "[qp][allocation]") {
  const QP<Tensor> qp = random_problem(64, 60, 60, false);
  for (int count : {1, 2}) {
    bool refused = false;
    std::thread([&] {  // whose workspaces, and those of its team, are still empty
      most_bytes = 100'000;
      try {
        solve(qp, {.threads = count});
      } catch (const std::bad_alloc&) {
        refused = true;
      }
      most_bytes = SIZE_MAX;
      CHECK(solve(qp, {.threads = count}).status[0] == QPStatus::solved);
    }).join();
    CHECK(refused);
  }
}

#else

TEST_CASE("the solver's allocations are counted where the sanitizer lets them", "[qp][allocation]") { skip("allocations: clang's sanitizers count their own"); }

#endif
