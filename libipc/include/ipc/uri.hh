// URIs of targets, parsed strictly (RFC 3986; split first, percent-decode after).
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "ipc/address.hh"
#include "ipc/error.hh"

namespace ipc {

/// The port of a hop where the URI names none.
constexpr std::uint16_t default_hop_port = 9000;

struct Uri {
  std::string scheme{};              ///< lower case
  std::string user{};                ///< decoded; the identity of tls://
  std::string secret{};              ///< decoded; never printed
  std::string host{};                ///< decoded, lower case, IPv6 without brackets
  std::optional<Address> address{};  ///< where the host is a literal
  std::optional<std::uint16_t> port{};
  std::string
      service{};       ///< the one path segment of tcp, tls, udp; of unix:///NAME and unix://NAME; empty: raw
  std::string path{};  ///< absolute path of unix:///a/b
  std::string type{};  ///< unix only: "", "stream", "dgram", "seqpacket"
  std::string raw{};   ///< as it was given
  std::string warning{};  ///< set where the legacy form A@B:HOST:PORT was understood

  bool is_unix() const { return scheme == "unix"; }
  /// The port that will be dialled; 9000 for a hop without one.
  std::uint16_t port_or_default() const { return port.value_or(default_hop_port); }
  /// localhost and *.localhost (RFC 6761): loopback without a resolver.
  bool is_localhost() const;
};

/// Parses a target URI. tcp, tls, dtls, udp and unix obey the contract's grammar; URIs of other schemes are
/// split as far as RFC 3986 goes and are given to their helper as they are. BAD_REQUEST says what is wrong,
/// without any secret.
Result<Uri> parse_uri(std::string_view text);
/// For a scheme of somebody else whose helper makes hops: takes the service from the path, under the rules of
/// tcp. BAD_REQUEST where the path is none or the URI goes on behind it.
Result<> name_service(Uri& uri);

/// The URI with any secret as `***`: the only form that may be shown or logged.
std::string to_string(const Uri& uri);
/// The same for text that may not parse: whatever stands between the first ':' of an authority and its last
/// '@' is hidden.
std::string mask_secrets(std::string_view text);

}  // namespace ipc
