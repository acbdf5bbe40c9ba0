// Configurations of any bytes: either a configuration or at least one error with its place, and nothing shown
// that a terminal would obey.
#include <algorithm>
#include <string>
#include <string_view>

#include "plumberd/config.hh"
#include "tests/fuzz/fuzz.hh"

FUZZ_TARGET(config)

namespace {
using namespace plumberd;

bool is_printable(std::string_view text) {
  return std::ranges::all_of(text, [](char c) { return c == '\n' || (c >= 0x20 && c < 0x7f); });
}

void check(const Diagnostic& diagnostic) {
  fuzz::require(!diagnostic.text.empty(), "a diagnostic says something");
  fuzz::require(diagnostic.line >= 1 && diagnostic.column >= 1, "a diagnostic has a place");
  fuzz::require(is_printable(diagnostic.print()), "what is shown is printable");
}
}  // namespace

int fuzz_config(const std::uint8_t* data, std::size_t size) {
  const std::string_view text{reinterpret_cast<const char*>(data), size};
  const auto loaded = load_text(text, "fuzz.toml", {}, Strictness::check);
  for (const auto& diagnostic : loaded.diagnostics) check(diagnostic);
  const bool error = std::ranges::any_of(loaded.diagnostics, [](const auto& d) { return !d.warning; });
  fuzz::require(error == (loaded.config == nullptr), "there is a configuration or there are errors");
  return 0;
}
