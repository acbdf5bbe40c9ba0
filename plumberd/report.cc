#include "plumberd/report.hh"

#include <algorithm>

#include "ipc/name.hh"
#include "ipc/uri.hh"

namespace plumberd {
namespace {
constexpr std::size_t most_reported = 1000;  // of each kind; more of them help nobody
constexpr std::size_t longest_line_shown = 160;

/// The line with the secrets of all URIs in it masked; where it is broken, rather too much than too little.
std::string without_secrets(std::string_view line) {
  const auto first = std::min(line.find("://"), line.size());
  std::string shown{line.substr(0, first)};
  for (auto rest = line.substr(first); !rest.empty();) {
    const auto next = std::min(rest.find("://", 1), rest.size());
    shown += ipc::mask_secrets(rest.substr(0, next));
    rest.remove_prefix(next);
  }
  return shown;
}

/// Of a long line the part around the error.
std::string part_shown(std::string_view line, std::size_t column) {
  constexpr std::size_t before = 60;
  if (line.size() <= longest_line_shown || column <= longest_line_shown - before)
    return ipc::printable(line, longest_line_shown);
  return "..." + ipc::printable(line.substr(std::min(line.size(), column - before)), longest_line_shown);
}
}  // namespace

SourceText::SourceText(std::string name, std::string text) : name_{std::move(name)}, text_{std::move(text)} {
  starts_.push_back(0);
  for (auto at = text_.find('\n'); at != text_.npos; at = text_.find('\n', at + 1)) starts_.push_back(at + 1);
}

SourceText::Position SourceText::position(std::size_t offset) const {
  const auto after = std::ranges::upper_bound(starts_, offset);
  const auto line = static_cast<std::size_t>(after - starts_.begin());
  return {line, offset - starts_[line - 1] + 1};
}

std::string_view SourceText::line(std::size_t number) const {
  const auto start = starts_[number - 1];
  auto line = std::string_view{text_}.substr(start);
  line = line.substr(0, line.find('\n'));
  if (line.ends_with('\r')) line.remove_suffix(1);
  return line;
}

std::string SourceText::at(std::size_t offset) const {
  return name_ + ":" + std::to_string(position(offset).line);
}

std::string Place::at() const {
  return source != nullptr ? source->at(offset) : "command line:" + std::to_string(argument);
}

void Report::add(const Place& place, std::string text, bool warning) {
  auto& count = warning ? warnings_ : errors_;
  if (++count > most_reported) return;
  if (place.source == nullptr) {
    diagnostics_.push_back({.file = "command line",
                            .line = place.argument,
                            .warning = warning,
                            .text = std::move(text),
                            .source = shown_argument(place.argument)});
    return;
  }
  const auto [line, column] = place.source->position(place.offset);
  diagnostics_.push_back({.file = place.source->name(),
                          .line = line,
                          .column = column,
                          .warning = warning,
                          .text = std::move(text),
                          .source = part_shown(without_secrets(place.source->line(line)), column)});
}

std::string Report::shown_argument(std::size_t number) const {
  if (number == 0 || number > arguments_.size()) return {};
  return part_shown(without_secrets(arguments_[number - 1]), 0);
}

void Report::file_error(std::string_view file, std::string text) {
  ++errors_;
  diagnostics_.push_back({.file = std::string(file), .text = std::move(text)});
}

std::vector<Diagnostic> Report::take() {
  std::vector<std::string> files;
  for (const auto& d : diagnostics_)
    if (std::ranges::find(files, d.file) == files.end()) files.push_back(d.file);
  const auto order = [&](const Diagnostic& d) {
    return std::tuple{std::ranges::find(files, d.file) - files.begin(), d.line, d.column};
  };
  std::ranges::stable_sort(diagnostics_, {}, order);
  return std::exchange(diagnostics_, {});
}

std::string Diagnostic::print() const {
  std::string place = file;
  if (line != 0) place += ":" + std::to_string(line);
  if (column != 0) place += ":" + std::to_string(column);
  std::string text_and_line = place + ": " + (warning ? "warning: " : "error: ") + text;
  if (!source.empty()) text_and_line += "\n    " + source;
  return text_and_line;
}
}  // namespace plumberd
