#include "plumberd/rule_table.hh"

#include <algorithm>
#include <cstring>

namespace plumberd {
namespace {
std::uint32_t as_number(const ipc::Address& address) {
  const auto& b = address.bytes;
  return std::uint32_t{b[0]} << 24 | std::uint32_t{b[1]} << 16 | std::uint32_t{b[2]} << 8 | b[3];
}
}  // namespace

char* RuleTable::room(std::size_t size) {
  constexpr std::size_t block = 65536;
  if (size > block_left_) {
    block_left_ = std::max(block, size);
    blocks_.push_back(std::make_unique_for_overwrite<char[]>(block_left_));
    block_next_ = blocks_.back().get();
  }
  block_left_ -= size;
  return std::exchange(block_next_, block_next_ + size);
}

std::uint8_t RuleTable::scheme_index(std::string_view scheme) {
  const auto found = std::ranges::find(schemes_, scheme);
  const auto index = static_cast<std::uint8_t>(found - schemes_.begin());
  if (found == schemes_.end()) schemes_.emplace_back(scheme);
  return index;
}

const std::string* RuleTable::file(std::string_view name) {
  if (!files_.empty() && files_.back() == name) return &files_.back();
  const auto found = std::ranges::find(files_, name);
  return found != files_.end() ? &*found : &files_.emplace_back(name);
}

CompactSelector RuleTable::compact(const Selector& selector, const ParsedRule& parsed, std::string& extra) {
  CompactSelector made{};
  made.kind = selector.kind;
  made.host = selector.host;
  made.subtree = selector.subtree;
  made.has_id = selector.id.has_value();
  made.number = selector.id.value_or(0);
  made.port = selector.port;
  made.prefix_bits = selector.prefix_bits;
  if (selector.kind == Selector::Kind::endpoint) made.scheme = scheme_index(selector.scheme);
  if (selector.host == Selector::Host::network) {
    made.v6 = selector.network.v6 ? 1 : 0;
    made.number = made.v6 ? static_cast<std::uint32_t>(networks_.size()) : as_number(selector.network);
    if (made.v6) networks_.push_back(selector.network);
  }
  auto at = parsed.text.find(selector.value, parsed.text.rfind(' ') + 1);
  if (at == std::string::npos) {
    at = parsed.text.size() + extra.size();
    extra += selector.value;
  }
  made.value_offset = static_cast<std::uint16_t>(at);
  made.value_size = static_cast<std::uint16_t>(selector.value.size());
  return made;
}

void RuleTable::add(const ParsedRule& parsed) {
  Rule rule;
  rule.file_ = file(parsed.file);
  rule.line_ = parsed.line;
  rule.action_ = parsed.action;
  rule.direction_ = parsed.direction;
  rule.service_offset_ =
      static_cast<std::uint8_t>(to_string(parsed.action).size() + to_string(parsed.direction).size() + 2);
  rule.service_size_ = static_cast<std::uint8_t>(parsed.service.size());
  rule.first_selector_ = static_cast<std::uint32_t>(selectors_.size());
  rule.selector_count_ = static_cast<std::uint8_t>(parsed.peer.size());
  std::string extra;
  for (const auto& selector : parsed.peer) selectors_.push_back(compact(selector, parsed, extra));
  char* text = room(parsed.text.size() + extra.size());
  std::memcpy(text, parsed.text.data(), parsed.text.size());
  std::memcpy(text + parsed.text.size(), extra.data(), extra.size());
  rule.text_ = text;
  rule.text_size_ = static_cast<std::uint16_t>(parsed.text.size());
  rules_.push_back(rule);
}

void RuleTable::shrink() {
  rules_.shrink_to_fit();
  selectors_.shrink_to_fit();
  networks_.shrink_to_fit();
}

ipc::Address RuleTable::network(const CompactSelector& selector) const {
  if (selector.v6 != 0) return networks_[selector.number];
  ipc::Address address;
  for (unsigned i = 0; i < 4; ++i)
    address.bytes[i] = static_cast<std::uint8_t>(selector.number >> (24 - 8 * i));
  return address;
}

std::size_t RuleTable::overhead() const {
  return rules_.capacity() * sizeof(Rule) + selectors_.capacity() * sizeof(CompactSelector) +
         networks_.capacity() * sizeof(ipc::Address);
}

std::string Rule::at() const { return *file_ + ":" + std::to_string(line_); }
}  // namespace plumberd
