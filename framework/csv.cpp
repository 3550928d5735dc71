// CSV by RFC 4180, and what programs write beside it: other separators, spaces, empty lines, \r\n, a byte order mark.
#include "framework/files.h"

#include "framework/io.h"

#include <charconv>
#include <cmath>
#include <set>

namespace optnet {
namespace {

/// Text as an error shows it: its beginning, on one line.
struct Shown {
  std::string_view text;
  friend std::ostream& operator<<(std::ostream& out, const Shown& shown) {
    out << '\'';
    for (const char c : shown.text.substr(0, 40)) out << (static_cast<unsigned char>(c) < ' ' ? '?' : c);
    return out << (shown.text.size() > 40 ? "...'" : "'");
  }
};

/// Takes rows of fields from the front of a text.
class Rows {
 public:
  Rows(std::string_view text, const std::string& file, char separator) : rest_(text), file_(file), ends_{separator, '\r', '\n'} {
    if (rest_.starts_with("\xef\xbb\xbf")) rest_.remove_prefix(3);  // a byte order mark
  }

  /// The next row that is not empty; false at the end.
  bool next(std::vector<std::string>& fields) {
    while (!rest_.empty()) {
      line_ = next_line_;
      fields.clear();
      do fields.push_back(field());
      while (take(ends_[0]));
      const bool carriage = take('\r'), feed = take('\n');
      next_line_ += carriage || feed;
      if (fields.size() > 1 || !fields[0].empty()) return true;
    }
    return false;
  }

  /// Prints "file: line 3", where the row that was read last began.
  friend std::ostream& operator<<(std::ostream& out, const Rows& rows) { return out << rows.file_ << ": line " << rows.line_; }

 private:
  bool take(char c) {
    if (!rest_.starts_with(c)) return false;
    rest_.remove_prefix(1);
    return true;
  }
  void skip_spaces() {
    while (!rest_.empty() && rest_[0] != ends_[0] && (rest_[0] == ' ' || rest_[0] == '\t')) rest_.remove_prefix(1);
  }
  std::string field() {
    skip_spaces();
    if (take('"')) return quoted();
    const std::string_view text = rest_.substr(0, rest_.find_first_of(std::string_view(ends_, 3)));
    rest_.remove_prefix(text.size());
    return std::string(text.substr(0, text.find_last_not_of(" \t") + 1));
  }
  std::string quoted() {
    std::string out;
    while (!take('"') || rest_.starts_with('"')) {  // a quote in quotes is written twice
      check(!rest_.empty(), *this, ": a quote is never closed");
      next_line_ += rest_[0] == '\n';
      out += rest_[0];
      rest_.remove_prefix(1);
    }
    skip_spaces();
    check(rest_.empty() || std::string_view(ends_, 3).find(rest_[0]) != std::string_view::npos, *this, ": a field must end with its quote; got ",
          Shown{rest_}, " after it");
    return out;
  }

  std::string_view rest_;
  const std::string& file_;
  const char ends_[3];  // of a field: the separator, and the two characters that end a line
  std::int64_t line_ = 1, next_line_ = 1;
};

/// Where a field stands; printed only in an error.
struct Place {
  const Rows& rows;
  std::size_t field;
  bool may_be_header;
  friend std::ostream& operator<<(std::ostream& out, const Place& place) {
    return out << place.rows << ", field " << place.field + 1 << (place.may_be_header ? " (set header if this row names the columns)" : "");
  }
};

/// The number that a whole field is.
template <class T>
T number(std::string_view field, const CSVOptions& options, const Place& where) {
  if (field.empty() && options.missing_as_nan) return static_cast<T>(NAN);
  check(!field.empty(), where, ": is empty (missing_as_nan makes it NaN)");
  std::string_view text = field;
  if (text.starts_with('+') && !text.starts_with("+-")) text.remove_prefix(1);
  std::conditional_t<std::is_same_v<T, std::int64_t>, std::int64_t, double> x = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), x);
  check(error != std::errc::invalid_argument && end == text.data() + text.size(), where, ": needs a ", std::is_same_v<T, std::int64_t> ? "whole number" : "number",
        "; got ", Shown{field});
  check(error == std::errc() && (std::isinf(static_cast<T>(x)) == std::isinf(x)), where, ": ", options.dtype, " cannot hold ", Shown{field});
  return static_cast<T>(x);
}

template <class T>
Table read_table(Rows rows, const std::string& file, const CSVOptions& options) {
  Table out;
  std::vector<std::string> fields;
  if (options.header) {
    check(rows.next(out.columns), file, ": has no row; it should begin with the columns' names");
    std::set<std::string_view> seen;
    for (const std::string& name : out.columns) check(seen.insert(name).second, rows, ": two columns are named ", Shown{name});
  }
  std::vector<T> values;
  std::size_t width = out.columns.size();
  while (rows.next(fields)) {
    if (width == 0) width = fields.size();
    check(fields.size() == width, rows, ": rows must be equally long; got ", fields.size(), " fields after rows of ", width);
    for (std::size_t i = 0; i < width; ++i) values.push_back(number<T>(fields[i], options, Place{rows, i, values.size() < width && !options.header}));
  }
  check(width > 0, file, ": has no row");
  out.values = from({static_cast<std::int64_t>(values.size() / width), static_cast<std::int64_t>(width)}, values);
  return out;
}

}  // namespace

Table parse_csv(std::string_view content, const std::string& file, const CSVOptions& options) {
  check(std::string_view("\"\r\n").find(options.separator) == std::string_view::npos, "load_csv: the separator must not be a quote or the end of a line");
  check(is_floating(options.dtype) || !options.missing_as_nan, "load_csv: int64 has no NaN; ask for float32 or float64 with missing_as_nan");
  return dispatch(options.dtype, [&](auto t) { return read_table<decltype(t)>({content, file, options.separator}, file, options); });
}

Table load_csv(const std::filesystem::path& path, const CSVOptions& options) { return parse_csv(read_file(path), path.string(), options); }

}  // namespace optnet
