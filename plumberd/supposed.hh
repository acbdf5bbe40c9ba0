// A client and a question out of thin air: what [[test]] entries and `plumb explain --as` suppose.
#pragma once
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "plumberd/judge.hh"
#include "plumberd/principals.hh"

namespace plumberd {

/// Owns what the question's views point to. All facts are known; those not given are known to be nothing.
struct Supposed {
  Direction direction = Direction::out;
  std::string service{}, scheme{}, host{}, unix_path{}, identity{};
  std::optional<ipc::Address> address{};
  std::uint16_t port = 0;
  Facts facts{};
  Question question() const;
};

/// From selectors as rules have them. `as` (user:alice,exe:/usr/bin/x) says who asks and with which stored
/// identity (as:), `peer` the other side: SCHEME:HOST[:PORT] for out, SCHEME:ADDRESS or tls:NAME (an
/// authenticated name) for in, unix:/PATH for local, empty or "*" for none. `user:` of root or of `owner`
/// counts as the router's own. BAD_REQUEST says "what; remedy".
ipc::Result<Supposed> suppose(std::string_view as, Direction direction, std::string_view service,
                              std::string_view peer, const std::vector<std::string>& schemes, uid_t owner,
                              Principals& principals);

}  // namespace plumberd
