// The command line as tests run it, and what it prints.
#pragma once
#include <criterion/criterion.h>

#include "tests/e2e/scripted.hh"

namespace kit {

inline Command plumb(std::vector<std::string> args) {
  args.insert(args.begin(), binary("plumb"));
  return {.args = std::move(args)};
}

inline bool has(const std::string& text, std::string_view part) { return text.find(part) != text.npos; }

/// One JSON value with a newline behind, and nothing else.
inline ipc::JsonDocument json_of(const Outcome& outcome) {
  cr_assert(outcome.output.ends_with("\n"), "%s%s", outcome.output.c_str(), outcome.error.c_str());
  return must(ipc::JsonDocument::parse(outcome.output));
}

}  // namespace kit
