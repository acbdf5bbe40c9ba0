// Route and judge in one place: what a live request does before it connects is what `explain` prints.
#pragma once
#include <functional>
#include <memory>

#include "plumberd/decision.hh"
#include "plumberd/identity.hh"
#include "plumberd/unix_connect.hh"

namespace plumberd {

/// What somebody wants.
struct Ask {
  std::string service{};
  std::string uri{};       ///< instead of a service
  std::string networkd{};  ///< the client's IPC_NETWORKD
  std::string framing = "bytes";
  ipc::Labels claims{};
  unsigned hops = 1;
  bool transit = false;  ///< to other hosts only: what is here was judged `in` under its own name
  bool ktls = false;     ///< the client may be given a socket of path "ktls"
  bool onward = false;   ///< it is a helper's relay that can be given a socket of that kind
};

/// Whose facts are judged: a live client's, gathered as rules ask for them, or given ones (explain as,
/// transit: no user).
class Asker {
 public:
  explicit Asker(std::shared_ptr<Identity> identity) : identity_{std::move(identity)} {}
  explicit Asker(Facts facts) : facts_{std::move(facts)} {}
  Verdict judge(const RuleSet& rules, const Question& question);
  Decision::Who who() const { return identity_ ? identity_->who() : Decision::Who{}; }
  bool is_owner() const { return identity_ ? identity_->is_owner() : facts_.is_owner; }
  const Facts& facts() const { return identity_ ? identity_->facts() : facts_; }
  std::optional<uid_t> uid() const { return facts().uid; }

 private:
  std::shared_ptr<Identity> identity_;
  Facts facts_;
};

/// The verdict on one target before anything is opened.
struct Judged {
  bool allowed = false;
  bool resolve = false;                    ///< the helper must resolve and ask about the addresses
  std::vector<std::string> addresses{};    ///< literals and localhost: those that may be dialled
  std::optional<ipc::Address> recorded{};  ///< that of them which the decision is about
};

/// Judges `target` and records rule or reason in `decision`.
Judged judge_target(const Config& config, const Target& target, Asker& asker, Decision& decision);

/// Judges the addresses that a name resolved to: those that may be dialled, in order. The last verdict is
/// recorded.
std::vector<std::string> judge_addresses(const Config& config, const Target& target,
                                         const std::vector<std::string>& addresses, Asker& asker,
                                         Decision& decision);

/// Where `ask` goes; of a transit only what is at other hosts.
ipc::Result<Routed> route_of(const Config& config, const Ask& ask,
                             std::function<bool(std::string_view)> is_local);

/// Whether the target is a UNIX path by the word of a client that is not the router's own user or root.
bool is_strangers_path(const Target& target, const Asker& asker);
/// A client's own word leads no further than it says: where it goes by a link that somebody else may have
/// made, the end is judged, too. Records what it was.
bool judge_end(const Config& config, const Target& target, const RealPath& real, Asker& asker,
               Decision& decision);
/// Whether whoever listens on an unguarded name may offer it (`serve`); a denial is recorded, and of whom.
bool owner_may_serve(const Config& config, std::string_view service, Asker owner, Decision& decision);

/// The question that rules are asked about a target.
Question question_of(const Target& target);

}  // namespace plumberd
