#include "ipc/json.hh"

#include <string_view>

#include "tests/fuzz/fuzz.hh"

FUZZ_TARGET(json)

namespace {
void any_bytes_can_be_written(std::string_view input) {
  std::string text;
  ipc::JsonWriter{text}.object().add("a", input).end();
  const auto back = ipc::JsonDocument::parse(text);
  const bool has_nul = input.find('\0') != input.npos;
  fuzz::require(back.has_value() != has_nul, "what is written can be read, but for NUL bytes");
  if (!back) return;
  std::string again;
  ipc::JsonWriter{again}.object().add("a", *back->root()["a"].string()).end();
  fuzz::require(again == text, "what was read is written as before");
}
}  // namespace

int fuzz_json(const std::uint8_t* data, std::size_t size) {
  const std::string_view input{reinterpret_cast<const char*>(data), size};
  any_bytes_can_be_written(input);
  const auto document = ipc::JsonDocument::parse(input);
  if (!document) {
    fuzz::require(!document.error().text.empty(), "an error has a sentence");
    return 0;
  }
  const auto text = document->root().text();
  const auto again = ipc::JsonDocument::parse(text);
  fuzz::require(again.has_value(), "what was accepted is accepted when written again");
  // Numbers that are no 64-bit integers are read fast, not to the last digit.
  const bool exact = input.find_first_of("0123456789") == input.npos;
  fuzz::require(!exact || again->root().text() == text, "and is the same");
  return 0;
}
