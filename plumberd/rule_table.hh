// Rules in the least memory: 32 bytes each, 16 a selector, and their text once. Strings of selectors are
// views into the text of their rule.
#pragma once
#include <deque>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "plumberd/judge.hh"

namespace plumberd {

/// A selector whose value stands in the text of its rule, or right behind it where it was not written as it
/// is meant (percent-encoded, upper case).
struct CompactSelector {
  Selector::Kind kind : 4;
  Selector::Host host : 2;
  bool subtree : 1;
  bool has_id : 1;
  std::uint8_t scheme;  // index into RuleTable's schemes
  std::uint8_t prefix_bits;
  std::uint8_t v6;  // network only
  std::uint16_t port;
  std::uint16_t value_offset;  // from the rule's text
  std::uint16_t value_size;
  std::uint32_t number;  // user, group: the id; IPv4 network: the address; IPv6 network: index of it
};

class RuleTable {
 public:
  RuleTable() = default;
  RuleTable(RuleTable&&) = default;
  RuleTable& operator=(RuleTable&&) = default;

  /// Appends a rule. At most 2^24 rules, which the caller sees to.
  void add(const ParsedRule& parsed);
  void reserve(std::size_t rules) { rules_.reserve(rules); }
  /// Gives back what growing took.
  void shrink();

  std::span<const Rule> rules() const { return rules_; }
  std::span<const CompactSelector> selectors(const Rule& rule) const {
    return {selectors_.data() + rule.first_selector_, rule.selector_count_};
  }
  std::string_view value(const Rule& rule, const CompactSelector& selector) const {
    return {rule.text_ + selector.value_offset, selector.value_size};
  }
  std::string_view scheme(const CompactSelector& selector) const { return schemes_[selector.scheme]; }
  ipc::Address network(const CompactSelector& selector) const;
  /// Whether both stand in one file (or both on the command line).
  static bool same_source(const Rule& a, const Rule& b) { return a.file_ == b.file_; }
  /// Bytes held beyond the rules' text.
  std::size_t overhead() const;

 private:
  char* room(std::size_t size);
  CompactSelector compact(const Selector& selector, const ParsedRule& parsed, std::string& extra);
  std::uint8_t scheme_index(std::string_view scheme);
  const std::string* file(std::string_view name);

  std::vector<Rule> rules_{};
  std::vector<CompactSelector> selectors_{};
  std::vector<ipc::Address> networks_{};  // IPv6 only
  std::vector<std::string> schemes_{};
  std::deque<std::string> files_{};  // stable addresses
  std::vector<std::unique_ptr<char[]>> blocks_{};
  std::size_t block_left_ = 0;
  char* block_next_ = nullptr;
};

}  // namespace plumberd
