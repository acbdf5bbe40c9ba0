#include "plumberd/rule_keys.hh"

namespace plumberd {
namespace {
using Selects = Selector::Kind;

// Text is hashed from its end or from its start one byte at a time, so that one pass gives the hashes of all
// its suffixes or prefixes on the way.
constexpr std::uint64_t seed = 0x9e3779b97f4a7c15, factor = 0x00000100000001b3;
constexpr std::uint64_t step(std::uint64_t hash, char c) {
  return (hash ^ static_cast<unsigned char>(c)) * factor;
}
constexpr std::uint64_t as_subtree(std::uint64_t hash) { return ~hash; }  // told apart from the exact form

std::uint64_t backwards(std::string_view text) {
  std::uint64_t hash = seed;
  for (auto c = text.rbegin(); c != text.rend(); ++c) hash = step(hash, *c);
  return hash;
}
std::uint64_t forwards(std::string_view text) {
  std::uint64_t hash = seed;
  for (const char c : text) hash = step(hash, c);
  return hash;
}

/// Keys of a dotted name: the exact one and that of each ".suffix".
void add_name(std::string_view name, Dimension dimension, Probe& probe) {
  std::uint64_t hash = seed;
  for (auto c = name.rbegin(); c != name.rend(); ++c) {
    hash = step(hash, *c);
    if (*c == '.') probe.keys.push_back({dimension, as_subtree(hash)});
  }
  probe.keys.push_back({dimension, hash});
}

/// Keys of a path: the exact one and that of each directory above.
void add_path(std::string_view path, Probe& probe) {
  std::uint64_t hash = seed;
  for (const char c : path) {
    if (c == '/') probe.keys.push_back({Dimension::path, as_subtree(hash)});
    hash = step(hash, c);
  }
  probe.keys.push_back({Dimension::path, hash});
}

void add_fact(const std::optional<std::string>& fact, Dimension dimension, Probe& probe) {
  if (fact) {
    probe.keys.push_back({dimension, forwards(*fact)});
  } else {
    probe.open |= mask_of(dimension);
  }
}

void add_client(const Facts& facts, Probe& probe) {
  if (facts.uid) {
    probe.keys.push_back({Dimension::user, *facts.uid});
  } else {
    probe.open |= mask_of(Dimension::user);
  }
  if (!facts.groups) probe.open |= mask_of(Dimension::group);
  if (facts.groups)
    for (const auto gid : *facts.groups) probe.keys.push_back({Dimension::group, gid});
  add_fact(facts.exe, Dimension::exe, probe);
  add_fact(facts.unit, Dimension::unit, probe);
  add_fact(facts.user_unit, Dimension::user_unit, probe);
}

void add_remote(const Facts& facts, Probe& probe) {
  for (const auto& name : facts.cert_names) {
    add_name(name, Dimension::host, probe);
    probe.keys.push_back({Dimension::certificate, forwards(name)});
  }
  if (!facts.psk_identity.empty()) probe.keys.push_back({Dimension::psk, forwards(facts.psk_identity)});
}

void add_address(const ipc::Address* address, Probe& probe) {
  if (address == nullptr) {
    probe.open |= mask_of(Dimension::network);
    return;
  }
  const auto actual = ipc::embedded(*address);
  probe.network = NetworkKey{actual, static_cast<std::uint8_t>(actual.v6 ? 128 : 32)};
}

std::optional<Dimension> text_dimension(Selects kind) {
  switch (kind) {
    case Selects::exe:
      return Dimension::exe;
    case Selects::unit:
      return Dimension::unit;
    case Selects::user_unit:
      return Dimension::user_unit;
    case Selects::cert:
      return Dimension::certificate;
    case Selects::psk:
      return Dimension::psk;
    case Selects::as_identity:
      return Dimension::identity;
    default:
      return std::nullopt;
  }
}

/// The key of a selector whose value is one word or number; nothing for endpoints and paths.
std::optional<Key> plain_key(const RuleTable& table, const Rule& rule, const CompactSelector& selector) {
  if (selector.kind == Selects::user || selector.kind == Selects::group) {
    if (!selector.has_id) return std::nullopt;
    return Key{selector.kind == Selects::user ? Dimension::user : Dimension::group, selector.number};
  }
  const auto dimension = text_dimension(selector.kind);
  if (!dimension) return std::nullopt;
  return Key{*dimension, forwards(table.value(rule, selector))};
}

void add_endpoint(const RuleTable& table, const Rule& rule, const CompactSelector& selector, RuleKeys& keys) {
  const auto value = table.value(rule, selector);
  if (selector.port != 0) keys.keys.push_back({Dimension::port, selector.port});
  if (selector.host == Selector::Host::name) keys.keys.push_back({Dimension::host, backwards(value)});
  if (selector.host == Selector::Host::suffix)
    keys.keys.push_back({Dimension::host, as_subtree(backwards(value))});
  if (selector.host == Selector::Host::network)
    keys.network = NetworkKey{table.network(selector), selector.prefix_bits};
}

void cover_endpoint(const RuleTable& table, const Rule& rule, const CompactSelector& selector, Probe& probe) {
  const auto value = table.value(rule, selector);
  if (selector.port != 0) probe.keys.push_back({Dimension::port, selector.port});
  if (selector.host == Selector::Host::name) add_name(value, Dimension::host, probe);
  if (selector.host == Selector::Host::suffix) add_name(value, Dimension::host, probe);
  if (selector.host == Selector::Host::network)
    probe.network = NetworkKey{table.network(selector), selector.prefix_bits};
}
}  // namespace

RuleKeys keys_of(const RuleTable& table, const Rule& rule) {
  RuleKeys keys;
  const auto service = rule.service();
  if (service.starts_with("*.")) {
    keys.keys.push_back({Dimension::service, as_subtree(backwards(service.substr(1)))});
  } else if (service != "*") {
    keys.keys.push_back({Dimension::service, backwards(service)});
  }
  for (const auto& selector : table.selectors(rule)) {
    const auto value = table.value(rule, selector);
    if (const auto key = plain_key(table, rule, selector)) keys.keys.push_back(*key);
    if (selector.kind == Selects::endpoint) add_endpoint(table, rule, selector, keys);
    if (selector.kind == Selects::unix_path)
      keys.keys.push_back(
          {Dimension::path, selector.subtree ? as_subtree(forwards(value)) : forwards(value)});
  }
  return keys;
}

void probe_question(const Question& question, const Facts& facts, Probe& probe) {
  add_name(question.service, Dimension::service, probe);
  if (question.port != 0) probe.keys.push_back({Dimension::port, question.port});
  if (facts.is_local) add_client(facts, probe);
  if (question.direction == Direction::in) add_remote(facts, probe);
  if (question.direction == Direction::out) {
    add_name(question.host, Dimension::host, probe);
    if (!question.identity.empty()) probe.keys.push_back({Dimension::identity, forwards(question.identity)});
  }
  if (question.direction == Direction::local) add_path(question.unix_path, probe);
  if (question.direction == Direction::in || question.direction == Direction::out)
    add_address(question.address, probe);
}

void probe_cover(const RuleTable& table, const Rule& rule, Probe& probe) {
  const auto service = rule.service();
  if (service != "*")  // "*.a.b" has, from its end, the suffix forms of ".a.b": just those that cover it
    add_name(service.starts_with("*.") ? service.substr(1) : service, Dimension::service, probe);
  for (const auto& selector : table.selectors(rule)) {
    const auto value = table.value(rule, selector);
    if (const auto key = plain_key(table, rule, selector)) probe.keys.push_back(*key);
    if (selector.kind == Selects::endpoint) cover_endpoint(table, rule, selector, probe);
    if (selector.kind != Selects::unix_path) continue;
    add_path(value, probe);
    if (selector.subtree) probe.keys.push_back({Dimension::path, as_subtree(forwards(value))});
  }
}
}  // namespace plumberd
