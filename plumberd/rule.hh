// The rule language (plumberd.toml(5), "RULES"): one line in, one value out. Pure: no user database, no
// clock, no I/O.
#pragma once
#include <sys/types.h>

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "ipc/address.hh"
#include "ipc/error.hh"

namespace plumberd {

enum class Action : std::uint8_t { allow, deny, audit };
enum class Direction : std::uint8_t { out, in, local, serve };
constexpr std::size_t direction_count = 4;

std::string_view to_string(Action action);
std::string_view to_string(Direction direction);
std::optional<Direction> direction_from(std::string_view text);

/// One selector of the peer column; all selectors of a rule must hold.
struct Selector {
  enum class Kind : std::uint8_t {
    endpoint,
    unix_path,
    user,
    group,
    exe,
    unit,
    user_unit,
    cert,
    psk,
    as_identity
  };
  enum class Host : std::uint8_t { any, name, suffix, network };
  Kind kind = Kind::endpoint;
  Host host = Host::any;         ///< endpoint only
  bool subtree = false;          ///< unix:PATH/*
  std::uint16_t port = 0;        ///< endpoint only; 0: any
  std::uint8_t prefix_bits = 0;  ///< endpoint with Host::network
  ipc::Address network{};        ///< endpoint with Host::network
  std::string scheme{};          ///< endpoint only
  std::string value{};  ///< host name ("*.x" is kept as ".x"), path, user, group, unit, certificate name, ...
  std::optional<std::uint32_t> id{};  ///< user, group: the number; without one the fact is unknown: it
                                      ///< satisfies deny, never allow
  bool operator==(const Selector&) const = default;
};

/// A rule as parsed. RuleSet keeps it in a compact form: Rule, in judge.hh.
struct ParsedRule {
  Action action = Action::deny;
  Direction direction = Direction::in;
  std::string service{};         ///< "*", "name" or "*.name"
  std::vector<Selector> peer{};  ///< empty for "*"
  std::string text{};            ///< as written, blanks normalised
  std::string file{};            ///< where it stands: a file, or "command line"
  std::uint32_t line = 0;        ///< its line, or the number of the argument
};

/// A rule from its text, or BAD_REQUEST whose text is "what; remedy". `column` receives the 1-based place of
/// the error. `schemes` are the known ones. Names of users and groups are left unresolved (`id` empty unless
/// numeric).
ipc::Result<ParsedRule> parse_rule(std::string_view text, const std::vector<std::string>& schemes,
                                   std::size_t* column = nullptr);

}  // namespace plumberd
