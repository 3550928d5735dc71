// Waiting, flags, progress, log, interruption, curves.
#include "framework/train.h"

#include "framework/io.h"

#include <nlohmann/json.hpp>

#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <iomanip>
#include <iostream>

namespace optnet {

// ---- the process -----------------------------------------------------------------------------------------------

void spin_briefly(char** argv) {
  for (const char* name : {"GOMP_SPINCOUNT", "KMP_BLOCKTIME", "OMP_WAIT_POLICY"})
    if (std::getenv(name)) return;
  ::setenv("GOMP_SPINCOUNT", "1000", 1);  // g++'s OpenMP
  ::setenv("KMP_BLOCKTIME", "0", 1);      // clang's
  std::error_code error;
  const auto program = std::filesystem::read_symlink("/proc/self/exe", error);
  if (!error) ::execv(program.c_str(), argv);  // returns only if it fails; then all works, at worst slowly
}

namespace {

void read_flag(const std::string& name, const std::string& text, std::string* value) {
  check(!text.empty(), name, ": needs a text; got none");
  *value = text;
}

template <class T>
void read_flag(const std::string& name, const std::string& text, T* value) {
  const char* const end = text.data() + text.size();
  T number = 0;
  const auto [at, error] = std::from_chars(text.data(), end, number);
  check(error == std::errc{} && at == end && number >= 0, name, ": needs a whole number of 0 or more; got '", text, "'");
  *value = number;
}

}  // namespace

void read_flags(int argc, char** argv, const std::vector<std::pair<std::string, Flag>>& flags) {
  for (int i = 1; i < argc; i += 2) {
    const std::string given = argv[i];
    const auto known = std::find_if(flags.begin(), flags.end(), [&](const auto& flag) { return flag.first == given; });
    if (known == flags.end()) {
      std::ostringstream defaults;
      for (const auto& [name, flag] : flags) std::visit([&, &name = name](auto* value) { defaults << ' ' << name << ' ' << *value; }, flag);
      fail("unknown argument '", given, "'; the flags and what they are without being given:", defaults.str());
    }
    check(i + 1 < argc, given, ": needs a value; got none");
    std::visit([&](auto* value) { read_flag(given, argv[i + 1], value); }, known->second);
  }
}

bool on_terminal() {
  const char* const kind = std::getenv("TERM");
  return isatty(STDOUT_FILENO) && !(kind && std::string(kind) == "dumb");
}

void flush_output() {
  std::cout.flush();
  check(std::cout.good() && std::fflush(stdout) == 0 && !std::ferror(stdout), "standard output cannot be written (is the disk full?)");
}

// ---- progress --------------------------------------------------------------------------------------------------

Progress::Progress(std::int64_t total, std::int64_t done)
    : total_(std::max<std::int64_t>(total, 1)), first_(done), terminal_(on_terminal()), begin_(Clock::now()), shown_(begin_) {}

std::string Progress::time_left(std::int64_t done) const {
  if (done <= first_) return "";
  const std::chrono::duration<double> elapsed = Clock::now() - begin_;
  const auto left = std::llround(elapsed.count() * static_cast<double>(total_ - done) / static_cast<double>(done - first_));
  if (left < 60) return std::to_string(left) + " s left";
  std::ostringstream out;
  if (left >= 3600) out << left / 3600 << ':' << std::setw(2);
  out << std::setfill('0') << left / 60 % 60 << ':' << std::setw(2) << left % 60 << " left";
  return out.str();
}

std::string Progress::fit(double share, const std::string& text, const std::string& time, std::size_t columns) {
  const std::size_t taken = time.size() + 2, room = columns > taken ? columns - taken : 0;  // for bar and text
  if (text.size() + 7 > room) return text.substr(0, room) + "  " + time;
  const std::size_t bar = std::min<std::size_t>(room - text.size() - 2, 20), filled = static_cast<std::size_t>(share * static_cast<double>(bar));
  return std::string(filled, '#') + std::string(bar - filled, '.') + "  " + text + "  " + time;
}

void Progress::show(std::int64_t done, const std::function<std::string()>& text) {
  const auto now = Clock::now();
  if (now - shown_ < (terminal_ ? std::chrono::milliseconds(100) : std::chrono::seconds(10))) return;
  shown_ = now;
  const double share = static_cast<double>(done) / static_cast<double>(total_);
  if (!terminal_) return line(fit(share, text(), time_left(done), std::string::npos));
  winsize window{};
  const bool known = ioctl(STDOUT_FILENO, TIOCGWINSZ, &window) == 0 && window.ws_col > 1;
  // A line as long as the window would wrap, and \r would then leave its first part standing.
  std::cout << "\r\033[K" << fit(share, text(), time_left(done), (known ? window.ws_col : 80u) - 1) << std::flush;
  standing_ = true;
}

void Progress::clear() {
  if (standing_) std::cout << "\r\033[K" << std::flush;
  standing_ = false;
}

void Progress::line(const std::string& text) {
  clear();
  std::cout << text << std::endl;
}

std::string grouped(std::int64_t number) {
  std::string out = std::to_string(number);
  for (auto at = std::ssize(out) - 3; at > (number < 0 ? 1 : 0); at -= 3) out.insert(static_cast<std::size_t>(at), 1, ',');
  return out;
}

// ---- log -------------------------------------------------------------------------------------------------------

void Log::add(const nlohmann::ordered_json& record) {
  lines_ += record.dump() + "\n";
  write_file(path_, lines_);
}

// ---- interruption ----------------------------------------------------------------------------------------------

namespace {

constexpr int signals[] = {SIGINT, SIGTERM, SIGHUP};
volatile std::sig_atomic_t interrupt_flag = 0;
int interrupts = 0;  // those in scope: the outermost installs the handlers and takes them away
extern "C" void raise_flag(int) { interrupt_flag = 1; }

}  // namespace

Interrupt::Interrupt() {
  if (interrupts++ > 0) return;
  interrupt_flag = 0;
  struct sigaction action {};
  action.sa_handler = raise_flag;
  action.sa_flags = static_cast<int>(SA_RESETHAND) | SA_RESTART;  // caught once; writes that it meets go on
  for (int signal : signals) {
    struct sigaction before {};
    sigaction(signal, nullptr, &before);
    if (signal != SIGHUP || before.sa_handler != SIG_IGN) sigaction(signal, &action, nullptr);  // nohup has it ignored
  }
}

Interrupt::~Interrupt() {
  if (--interrupts > 0) return;
  for (int signal : signals)
    if (std::signal(signal, SIG_DFL) == SIG_IGN) std::signal(signal, SIG_IGN);
}

Interrupt::operator bool() const { return interrupt_flag != 0; }

// ---- curves ----------------------------------------------------------------------------------------------------

namespace {

/// A string in gnuplot's single quotes, in which only the quote itself is special.
std::string quoted(const std::string& text) {
  std::string out = "'";
  for (char c : text) out += c == '\'' ? std::string("''") : std::string(1, c);
  return out + "'";
}

void write_plot(std::ostream& out, const Plot& plot) {
  static const char* colors[] = {"#1f6feb", "#d1495b", "#2e933c", "#8e5bd0"};
  for (std::size_t i = 0; i < plot.curves.size(); ++i) {
    out << "$curve" << i << " << EOD\n";
    for (std::size_t x = 0; x < plot.curves[i].y.size(); ++x) out << x + 1 << ' ' << plot.curves[i].y[x] << '\n';
    out << "EOD\n";
  }
  out << "set title " << quoted(plot.title) << "\nset xlabel " << quoted(plot.x_label) << "\nset ylabel " << quoted(plot.y_label)
      << (plot.log_y ? "\nset logscale y\nset yrange [*:*]\n" : "\nunset logscale y\nset yrange [0:*]\n") << "plot ";
  for (std::size_t i = 0; i < plot.curves.size(); ++i) {
    const Curve& curve = plot.curves[i];
    out << (i ? ", " : "") << "$curve" << i << " with lines lw 2.5 dt " << (curve.dashed ? "(8,6)" : "1") << " lc rgb '" << colors[curve.color % 4]
        << "' title " << quoted(curve.name);
  }
  out << "\n";
}

}  // namespace

std::string draw_plots(const std::filesystem::path& png, const std::vector<Plot>& plots) {
  std::string reason;
  const auto write = [&](const std::string& temporary) {
    std::ostringstream script;
    script << "set terminal pngcairo noenhanced size " << 720 * plots.size() << ",520 font 'sans,12'\nset output " << quoted(temporary)
           << "\nset multiplot layout 1," << plots.size()
           << "\nset key outside bottom center horizontal\nset grid lt 1 lw 1 lc rgb '#dddddd'\nset border 3 lc rgb '#555555'\nset tics nomirror\nset format y '%g'\n";
    for (const Plot& plot : plots) write_plot(script, plot);
    script << "unset multiplot\n";
    auto* const before = std::signal(SIGPIPE, SIG_IGN);  // a shell without gnuplot may be gone before it is written to
    std::FILE* const gnuplot = ::popen("trap '' INT; exec gnuplot >/dev/null 2>&1", "w");  // Ctrl-C is for the program, not for its picture
    if (gnuplot) std::fputs(script.str().c_str(), gnuplot);
    const int status = gnuplot ? ::pclose(gnuplot) : -1;
    std::signal(SIGPIPE, before);
    const bool missing = WIFEXITED(status) && WEXITSTATUS(status) == 127;
    if (missing) reason = "gnuplot is not installed (Debian: apt-get install gnuplot-nox)";
    else if (status != 0) reason = "gnuplot failed";
    else if (!read_file(temporary).ends_with("IEND\xae\x42\x60\x82")) reason = "gnuplot left it incomplete (is the disk full?)";
    return reason.empty();
  };
  try {
    write_file(png, write);
  } catch (const Error& error) {
    return "no " + png.string() + ": " + (reason.empty() ? error.what() : reason);
  }
  return "";
}

}  // namespace optnet
