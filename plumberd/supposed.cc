#include "plumberd/supposed.hh"

#include <algorithm>

#include "ipc/name.hh"
#include "plumberd/selector.hh"

namespace plumberd {
namespace {
using ipc::Result;
using Selects = Selector::Kind;

std::unexpected<ipc::Error> wrong(std::string text) {
  return ipc::fail(ipc::Word::bad_request, std::move(text));
}

Result<std::vector<Selector>> selectors_of(std::string_view text, Direction direction,
                                           const std::vector<std::string>& schemes) {
  std::vector<Selector> selectors;
  if (text.empty() || text == "*") return selectors;
  for (std::size_t at = 0; at <= text.size();) {
    const auto end = std::min(text.find(',', at), text.size());
    auto selector = parse_selector(text.substr(at, end - at), direction, schemes);
    if (!selector) return wrong(std::move(selector.error().text));
    selectors.push_back(std::move(*selector));
    at = end + 1;
  }
  return selectors;
}

class Supposing {
 public:
  Supposing(Supposed& made, uid_t owner, Principals& principals)
      : made_{made}, owner_{owner}, principals_{principals} {}

  /// Who asks: the local client, or what a remote one proved of itself.
  Result<> take_client(const Selector& selector) {
    auto& facts = made_.facts;
    switch (selector.kind) {
      case Selects::user:
        return take_user(selector.value);
      case Selects::group:
        return take_group(selector.value);
      case Selects::exe:
        facts.exe = selector.value;
        return {};
      case Selects::unit:
        facts.unit = selector.value;
        return {};
      case Selects::user_unit:
        facts.user_unit = selector.value;
        return {};
      case Selects::cert:
        facts.cert_names.push_back(selector.value);
        return {};
      case Selects::psk:
        facts.psk_identity = selector.value;
        return {};
      case Selects::as_identity:
        made_.identity = selector.value;
        return {};
      default:
        return wrong("SCHEME:HOST and unix: belong to the peer, not to who asks; move it to peer");
    }
  }

  Result<> take_peer(const Selector& selector) {
    if (selector.kind == Selects::unix_path) {
      if (selector.subtree) return wrong("a peer is one path; leave the * out");
      made_.unix_path = selector.value;
      return {};
    }
    if (selector.kind != Selects::endpoint) return take_client(selector);
    made_.scheme = selector.scheme;
    made_.port = selector.port;
    if (selector.host == Selector::Host::suffix)
      return wrong("a peer is one host; write a name or an address");
    if (selector.host == Selector::Host::network) return take_address(selector);
    if (made_.direction == Direction::in && !selector.value.empty())
      made_.facts.cert_names.push_back(selector.value);
    else
      made_.host = selector.value;
    return {};
  }

 private:
  Result<> take_address(const Selector& selector) {
    const unsigned whole = selector.network.v6 ? 128 : 32;
    if (selector.prefix_bits != whole) return wrong("a peer is one address; leave the prefix length out");
    made_.address = selector.network;
    if (made_.direction == Direction::out) made_.host = ipc::to_string(selector.network);
    return {};
  }

  Result<> take_user(const std::string& name) {
    const auto uid = principals_.user(name);
    if (!uid)
      return wrong("there is no user \"" + ipc::printable(name, 64) + "\"; create it or write a number");
    made_.facts.uid = *uid;
    made_.facts.is_owner = *uid == 0 || *uid == owner_;
    for (const auto gid : principals_.groups_of(name)) made_.facts.groups->push_back(gid);
    return {};
  }

  Result<> take_group(const std::string& name) {
    const auto gid = principals_.group(name);
    if (!gid)
      return wrong("there is no group \"" + ipc::printable(name, 64) + "\"; create it or write a number");
    made_.facts.groups->push_back(*gid);
    return {};
  }

  Supposed& made_;
  uid_t owner_;
  Principals& principals_;
};

/// Every fact looked up, nothing found.
Facts blank(Direction direction) {
  Facts facts;
  facts.is_local = direction != Direction::in;
  facts.asked.set();
  facts.asked.reset(static_cast<std::size_t>(Fact::address));
  facts.groups.emplace();
  facts.exe.emplace();
  facts.unit.emplace();
  facts.user_unit.emplace();
  return facts;
}
}  // namespace

Question Supposed::question() const {
  return {.direction = direction,
          .service = service,
          .scheme = scheme,
          .host = host,
          .address = address ? &*address : nullptr,
          .port = port,
          .host_is_name = !address && !host.empty(),
          .unix_path = unix_path,
          .identity = identity};
}

Result<Supposed> suppose(std::string_view as, Direction direction, std::string_view service,
                         std::string_view peer, const std::vector<std::string>& schemes, uid_t owner,
                         Principals& principals) {
  Supposed made{.direction = direction, .service = std::string(service), .facts = blank(direction)};
  if (service != "*" && service != ipc::metrics_service) TRY(ipc::check_service_name(service));
  Supposing supposing{made, owner, principals};
  const bool remote = direction == Direction::in;
  if (!remote || as != "user:root")  // the default says nothing of who is remote
    for (const auto& selector : TRY(selectors_of(as, direction, schemes)))
      if (auto ok = supposing.take_client(selector); !ok) return std::unexpected(std::move(ok).error());
  for (const auto& selector : TRY(selectors_of(peer, direction, schemes)))
    if (auto ok = supposing.take_peer(selector); !ok) return std::unexpected(std::move(ok).error());
  std::ranges::sort(*made.facts.groups);
  return made;
}
}  // namespace plumberd
