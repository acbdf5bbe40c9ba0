// docs/protocol.md is what others implement from: its examples are what our encoders write, its words are
// ours.
#include <criterion/criterion.h>
#include <string.h>

#include <map>
#include <sstream>
#include <vector>

#include "ipc/hop.hh"
#include "ipc/rpc.hh"
#include "tests/e2e/kit.hh"

namespace {
std::string document() { return kit::read_file(kit::source_dir() + "/docs/protocol.md"); }

/// The lines between the heading that begins with `heading` and the next of its rank or a higher one.
std::vector<std::string> section(const std::string& heading) {
  std::istringstream lines{document()};
  std::vector<std::string> found;
  bool inside = false;
  const auto rank = heading.find(' ');
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with('#') && line.find(' ') <= rank) inside = line.starts_with(heading);
    if (inside) found.push_back(line);
  }
  cr_assert(!found.empty(), "docs/protocol.md has no section %s", heading.c_str());
  return found;
}

bool is_hex(const std::string& word) {
  return !word.empty() && word.size() % 2 == 0 && word.find_first_not_of("0123456789abcdef") == word.npos;
}

std::string bytes_of(const std::string& hex) {
  std::string bytes;
  for (std::size_t i = 0; i < hex.size(); i += 2)
    bytes += static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16));
  return bytes;
}

struct Example {
  std::string name;   ///< the first word of the line
  std::string bytes;  ///< of the words in hexadecimal
  std::string note;   ///< the rest
};

/// Indented lines of a name, then words in hexadecimal with single blanks between them, then a note.
std::vector<Example> examples(const std::string& heading) {
  std::vector<Example> found;
  for (const auto& line : section(heading)) {
    if (!line.starts_with("      ")) continue;
    std::istringstream words{line};
    Example example;
    words >> example.name;
    std::string word;
    while (words >> word && is_hex(word)) example.bytes += bytes_of(word);
    if (example.bytes.empty()) continue;
    if (words) std::getline(words, example.note);
    example.note = word + example.note;
    if (is_hex(word)) example.note.clear();
    found.push_back(std::move(example));
  }
  return found;
}

Example example(const std::string& heading, const std::string& name, std::size_t which = 0) {
  for (auto& candidate : examples(heading))
    if (candidate.name == name && which-- == 0) return candidate;
  kit::give_up("no example \"" + name + "\" in " + heading);
}

void expect_bytes(const Example& example, const std::string& expected) {
  cr_assert(example.bytes == expected, "the example \"%s %s\" is not what is sent", example.name.c_str(),
            example.note.c_str());
}

using ipc::frame_07;
using ipc::FrameType;
const std::string hop = "## 5. The hop";
const std::string frames = "## 6. The libipc frame";
const std::string lookups_07 = "### 6.1 ";
const std::string lookups_1 = "### 6.2 ";
}  // namespace

Test(protocol_document, hop_examples_are_what_is_sent) {
  const auto asked = example(hop, "dialler");
  expect_bytes(asked, kit::must(ipc::encode_hop({.service = "pong", .hops = 1})));
  cr_assert_eq(asked.bytes.substr(6), asked.note);
  expect_bytes(example(hop, "answer"), ipc::hop_ok());
  const auto refused = example(hop, "refusal");
  expect_bytes(refused,
               ipc::hop_refusal({.word = ipc::Word::denied, .text = "in pong is denied by default"}));
  cr_assert_eq(refused.bytes.substr(6), refused.note);
}

Test(protocol_document, frame_examples_are_what_is_sent) {
  using namespace std::string_literals;
  expect_bytes(example(frames, "0.7", 0), frame_07(FrameType::data, 42, "hello\0"s));
  expect_bytes(example(frames, "0.7", 1), frame_07(FrameType::data, 42, ""));
  expect_bytes(example(frames, "0.7", 2), frame_07(FrameType::server_close, 0, ""));
  expect_bytes(example(frames, "v1"), ipc::frame_1("hello"));
}

Test(protocol_document, lookup_examples_are_what_is_sent) {
  for (const std::size_t which : {0U, 1U}) {
    const auto lookup = example(lookups_07, "lookup", which);
    expect_bytes(lookup, frame_07(FrameType::lookup, 3, lookup.note));
  }
  expect_bytes(example(lookups_07, "ok"), frame_07(FrameType::lookup, 3, "ok"));
  expect_bytes(example(lookups_07, "socket"), std::string(1, '\0'));
  const auto error = example(lookups_07, "error");
  const auto text = error.note.substr(0, error.note.find(", and a NUL"));
  expect_bytes(error, frame_07(FrameType::error, 0, text + '\0'));
  const auto lookup = example(lookups_1, "lookup");
  expect_bytes(lookup, ipc::frame_1(lookup.note));
  expect_bytes(example(lookups_1, "ok"), "ok");
}

Test(protocol_document, messages_in_it_are_what_is_sent) {
  std::map<std::string, std::string> found;
  for (const auto& line : section("## 2. Messages")) {
    if (!line.starts_with("    {")) continue;
    const auto text = line.substr(4, line.rfind('}') - 3);
    for (const auto* member : {"method", "result", "error"})
      if (text.find('"' + std::string(member) + "\":") != text.npos) found[member] = text;
  }
  cr_assert_eq(found["method"], ipc::rpc::request("1", "connect", R"({"service":"pong"})"));
  cr_assert_eq(found["result"],
               ipc::rpc::result("1", R"({"fd":0,"path":"direct","labels":{"scheme":"tcp"}})"));
  cr_assert_eq(found["error"], ipc::rpc::error("1", {.word = ipc::Word::denied,
                                                     .text = R"(denied by "deny out * *")",
                                                     .rule = "deny out * *",
                                                     .at = "plumberd.toml:3"}));
  for (const auto& [member, text] : found) kit::must(ipc::rpc::decode(text));
}

Test(protocol_document, words_and_their_errno_are_all_there) {
  std::size_t words = 0;
  for (const auto& line : section("## 7. Labels")) {
    if (!line.starts_with("| `")) continue;
    const auto name = line.substr(3, line.find('`', 3) - 3);
    const auto word = ipc::word_from(name);
    if (!word) continue;
    ++words;
    const auto number = line.substr(line.rfind('|', line.size() - 2) + 2);
    const std::string expected = ::strerrorname_np(ipc::errno_of(*word));
    cr_assert_eq(number, expected + " |", "%s", name.c_str());
  }
  cr_assert_eq(words, static_cast<std::size_t>(ipc::Word::internal), "all but the one that crosses no wire");
}
