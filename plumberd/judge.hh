// The verdict: a pure function of the rules, the question and the facts at hand.
#pragma once
#include <array>
#include <bitset>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "plumberd/rule.hh"

namespace plumberd {

/// What may have to be looked up before a rule can be decided.
enum class Fact : std::uint8_t { groups, exe, unit, user_unit, address };  // the cheapest first

/// What is known of whoever asks. A fact is unasked, known, or unknowable (gone, unreadable): unknowable
/// satisfies deny, never allow.
struct Facts {
  bool is_local = true;        ///< a local client; remote peers have neither uid nor executable
  std::optional<uid_t> uid{};  ///< empty: unknowable
  bool is_owner = false;       ///< root or the router's own user: what the default "own" admits
  std::bitset<8> asked{};      ///< by Fact: looked up already, whether it was found or not
  std::optional<std::vector<gid_t>>
      groups{};  ///< all of the client's groups, the primary one included; sorted
  std::optional<std::string> exe{};
  std::optional<std::string> unit{};
  std::optional<std::string> user_unit{};
  std::vector<std::string> cert_names{};  ///< authenticated names of a remote peer (in)
  std::string psk_identity{};             ///< authenticated PSK identity of a remote peer (in)
  bool has(Fact fact) const { return asked[static_cast<std::size_t>(fact)]; }
};

/// What is asked. Views must outlive the call only.
struct Question {
  Direction direction = Direction::out;
  std::string_view service{};             ///< the name finally opened; "*" for a URI without a name
  std::string_view scheme{};              ///< out: of the target; in: of the listener
  std::string_view host{};                ///< out: host of the target as written, lower case; in: unused
  const ipc::Address* address = nullptr;  ///< out: the address dialled, once known; in: the peer's
  std::uint16_t port = 0;                 ///< out: the target's; in: the local listening port
  bool host_is_name =
      false;  ///< out: the host is a name that a resolver answers: special ranges are refused for it
  std::string_view unix_path{};  ///< local and out-by-path: the absolute path, where one is opened
  std::string_view identity{};   ///< out: the stored identity used (as:)
  bool by_client =
      false;  ///< unix_path or identity is the client's own word (its directive, its URI): a path
              ///< needs a rule that names it or the router's own user, an identity a rule with as:
};

/// A rule of a RuleSet, compact, valid as long as the set.
class Rule {
 public:
  Action action() const { return action_; }
  Direction direction() const { return direction_; }
  /// As written, blanks normalised.
  std::string_view text() const { return {text_, text_size_}; }
  std::string_view service() const { return text().substr(service_offset_, service_size_); }
  /// "FILE:LINE", or "command line:N".
  std::string at() const;

 private:
  friend class RuleTable;
  const char* text_ = nullptr;         // in the set's arena
  const std::string* file_ = nullptr;  // in the set's list of files
  std::uint32_t line_ = 0;
  std::uint32_t first_selector_ = 0;
  std::uint16_t text_size_ = 0;
  std::uint8_t selector_count_ = 0;
  std::uint8_t service_offset_ = 0;
  std::uint8_t service_size_ = 0;
  Action action_ = Action::deny;
  Direction direction_ = Direction::out;
};

struct Verdict {
  enum class Kind : std::uint8_t { allow, deny, need };
  Kind kind = Kind::deny;
  Fact need = Fact::groups;       ///< with Kind::need: look it up and ask again
  const Rule* rule = nullptr;     ///< the deciding rule; null: the direction's default or a special range
  const Rule* audited = nullptr;  ///< the audit rule that would have denied and let through instead
  std::string
      reason{};  ///< where no rule decided: "default of out is own", "loopback address for a name", ...
};

enum class Default : std::uint8_t { allow, deny, own };

struct RuleIndex;
class RuleTable;

/// Compiled rules, immutable, shared by snapshots; first match wins exactly as in file order. The index makes
/// judging fast at any number of rules.
class RuleSet {
 public:
  using Defaults = std::array<Default, direction_count>;  ///< by Direction
  /// `parsed` in the order in which they count.
  RuleSet(const std::vector<ParsedRule>& parsed, const Defaults& defaults);
  RuleSet(RuleTable&& table, const Defaults& defaults);
  RuleSet(const RuleSet&) = delete;
  RuleSet& operator=(const RuleSet&) = delete;
  ~RuleSet();
  /// All rules in order; a rule's place in it (`&rule - rules().data()`) numbers it for counters.
  std::span<const Rule> rules() const;
  Default default_of(Direction direction) const { return defaults_[static_cast<std::size_t>(direction)]; }
  const RuleTable& table() const { return *table_; }
  const RuleIndex& index() const { return *index_; }

 private:
  std::unique_ptr<const RuleTable> table_;
  std::unique_ptr<const RuleIndex> index_;
  Defaults defaults_;
};

/// First match wins, then the direction's default. Answers `need` when a fact that was not asked for yet
/// could change the outcome, with Fact::address only for a name whose address is not known yet. An allow rule
/// that does not name the special range by address is passed over for a name that resolved into one
/// (`host_is_name`), and so is one that does not name what `by_client` says must be named.
Verdict judge(const RuleSet& rules, const Question& question, const Facts& facts);
/// The same by a naive scan: what property tests compare `judge` with.
Verdict judge_naively(const RuleSet& rules, const Question& question, const Facts& facts);

/// One rule that was looked at, for `plumb explain`: why it did not match, or that it decided.
struct Considered {
  enum class Part : std::uint8_t { passed, undecided, decided };
  const Rule* rule;
  Part part;        ///< undecided: the address is needed, which is not known before it is dialled
  std::string why;  ///< "service matches, user: client is uid 1000, not alice (1001)"
};
/// The rules of the direction and service that nearly matched, in order, up to and including the deciding
/// one.
std::vector<Considered> consider(const RuleSet& rules, const Question& question, const Facts& facts);

}  // namespace plumberd
