// What rules are filed under and looked up by. A rule has a key for each selector that a hash can find; a
// question has every key under which a rule that matches it could be filed.
#pragma once
#include <cstdint>
#include <optional>

#include "plumberd/inline.hh"
#include "plumberd/rule_table.hh"

namespace plumberd {

/// The dimensions that rules differ in, those first that are known without asking and tell most.
enum class Dimension : std::uint8_t {
  service,
  host,
  identity,
  certificate,
  psk,
  path,
  network,
  user,
  port,
  group,
  unit,
  exe,
  user_unit
};
constexpr std::uint32_t mask_of(Dimension dimension) { return 1U << static_cast<unsigned>(dimension); }

/// Equal keys are the same place in the index; different ones may be, since what is found there is judged in
/// full anyway.
struct Key {
  Dimension dimension;
  std::uint64_t hash;
};

struct NetworkKey {
  ipc::Address address;
  std::uint8_t bits = 0;
};

/// The keys under which a rule may be filed: it is found by any one of them.
struct RuleKeys {
  Inline<Key, 8> keys{};
  std::optional<NetworkKey> network{};
};
RuleKeys keys_of(const RuleTable& table, const Rule& rule);

/// All keys under which rules for a question, or rules that cover another, can be filed.
struct Probe {
  Inline<Key, 32> keys{};
  std::uint32_t open = 0;  ///< mask of dimensions whose fact is not known: any rule filed there may match
  std::optional<NetworkKey> network{};
};
void probe_question(const Question& question, const Facts& facts, Probe& probe);
void probe_cover(const RuleTable& table, const Rule& rule, Probe& probe);

}  // namespace plumberd
