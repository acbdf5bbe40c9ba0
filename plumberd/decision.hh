// The record of how one request was routed and judged: the reply, the event log and `plumb explain` print
// this object.
#pragma once
#include <sys/types.h>

#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include "ipc/error.hh"
#include "ipc/json.hh"
#include "plumberd/judge.hh"
#include "plumberd/route.hh"

namespace plumberd {

struct Decision {
  enum class Verdict : std::uint8_t { none, allow, deny };
  std::uint64_t id = 0;
  std::chrono::system_clock::time_point time{};
  std::uint64_t generation = 0;
  Direction direction = Direction::out;
  std::string asked{}, opened{};
  struct Who {
    bool known = false;
    uid_t uid = 0;
    gid_t gid = 0;
    pid_t pid = 0;
    std::string exe{}, unit{};
    bool weak = false;  ///< the pid was not pinned by the kernel (no SO_PEERPIDFD)
  } client{};
  std::string peer{};    ///< remote side: "tcp:192.0.2.1:40000" (in) or the target's URI, masked (out)
  ipc::Labels proved{};  ///< what a helper authenticated of a remote peer: names, fingerprint, PSK identity
  std::string helper{};  ///< which helper was asked, or would be
  std::vector<Step> steps{};
  Verdict verdict = Verdict::none;
  std::string rule{}, rule_at{};        ///< the deciding rule; empty: `reason`
  std::string audited{}, audited_at{};  ///< an audit rule that would have denied
  std::string reason{};
  std::string path{};
  bool failed = false;
  ipc::Error error{};  ///< where it failed
  double ms_route = 0, ms_judge = 0, ms_dial = 0;
};

/// Takes the rule, the audit and the reason of `verdict` into the record. Where an address is needed first,
/// no rule has decided yet, and that counts as allowed.
void record(Decision& decision, const Verdict& verdict);
/// Adds a step for each rule that nearly matched, that waits for the address, or that decided.
void add_considered(Decision& decision, const std::vector<Considered>& considered);
/// RFC 3339 in UTC with milliseconds: "2026-01-31T12:00:00.000Z".
std::string rfc3339(std::chrono::system_clock::time_point time);
/// The time that an RFC 3339 text says, whatever its offset; nothing for any other text.
std::optional<std::chrono::system_clock::time_point> parse_rfc3339(std::string_view text);
/// The JSON object of docs/protocol.md, section 7.
std::string to_json(const Decision& decision);
/// One line of keyed fields, foreign bytes escaped.
std::string to_line(const Decision& decision);
/// The error that a denial is answered with; `disclose`: whether the rule may be shown.
ipc::Error denial(const Decision& decision, bool disclose);

}  // namespace plumberd
