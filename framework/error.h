// How optnet refuses bad input: check(condition, parts...) throws optnet::Error.
// A message reads "op: rule; what was given", so that it names the thing, the value and the remedy.
#pragma once

#include <sstream>
#include <stdexcept>
#include <string>

namespace optnet {

/// Every error that optnet raises on purpose.
struct Error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// Throws Error with all parts streamed together. The form for code that has already found the fault.
template <class... Parts>
[[noreturn]] void fail(const Parts&... parts) {
  std::ostringstream message;
  (message << ... << parts);
  throw Error(message.str());
}

/// Throws Error unless `condition` holds; the parts are formatted only then.
template <class... Parts>
void check(bool condition, const Parts&... parts) {
  if (!condition) [[unlikely]]
    fail(parts...);
}

}  // namespace optnet
