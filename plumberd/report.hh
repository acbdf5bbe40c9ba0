// Where configuration comes from and what is wrong with it.
#pragma once
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "plumberd/config.hh"

namespace plumberd {

/// A file's text, and its lines by offset.
class SourceText {
 public:
  SourceText(std::string name, std::string text);
  struct Position {
    std::size_t line = 1, column = 1;
  };
  Position position(std::size_t offset) const;
  std::string_view line(std::size_t number) const;
  /// "FILE:LINE".
  std::string at(std::size_t offset) const;
  const std::string& name() const { return name_; }
  std::string_view text() const { return text_; }

 private:
  std::string name_, text_;
  std::vector<std::size_t> starts_{};  // of lines
};

/// A place in a file, or an argument.
struct Place {
  const SourceText* source = nullptr;  ///< null: an argument
  std::size_t offset = 0;
  std::size_t argument = 0;  ///< its number, from 1
  std::string at() const;
};

/// Collects diagnostics; none stops the others.
class Report {
 public:
  void error(const Place& place, std::string text) { add(place, std::move(text), false); }
  void warning(const Place& place, std::string text) { add(place, std::move(text), true); }
  /// An error of a file that has no line, such as one that cannot be read.
  void file_error(std::string_view file, std::string text);
  /// The options as given, which are shown where one of them is wrong.
  void arguments(std::vector<std::string> shown) { arguments_ = std::move(shown); }
  bool any_error() const { return errors_ != 0; }
  /// All of them: files in the order of reading, each from top to bottom.
  std::vector<Diagnostic> take();

 private:
  void add(const Place& place, std::string text, bool warning);
  std::string shown_argument(std::size_t number) const;
  std::vector<Diagnostic> diagnostics_{};
  std::vector<std::string> arguments_{};
  std::size_t errors_ = 0, warnings_ = 0;
};

}  // namespace plumberd
