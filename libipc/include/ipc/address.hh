// IP addresses and CIDR ranges as values: what rules compare and helpers report.
#pragma once
#include <netinet/in.h>
#include <sys/socket.h>

#include <array>
#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace ipc {

/// An IPv4 or IPv6 address. IPv4-mapped, 64:ff9b::/96 (RFC 6052) and 6to4 (RFC 3056) addresses are judged as
/// the IPv4 address in them: see `embedded()`.
struct Address {
  bool v6 = false;
  std::array<std::uint8_t, 16> bytes{};  ///< network order; IPv4 uses the first four
  auto operator<=>(const Address&) const = default;
};

/// A plain dotted quad or an IPv6 literal without brackets; nothing else (no 127.1, no 0x7f.1, no scope id).
std::optional<Address> parse_address(std::string_view text);
std::string to_string(const Address& address);
/// The IPv4 address that an IPv6 one embeds, else the address itself.
Address embedded(const Address& address);
/// Whether `address` (after `embedded`) lies in `network`/`bits`.
bool in_network(const Address& address, const Address& network, unsigned bits);
/// "loopback", "link-local", "unspecified", "multicast", "broadcast" (RFC 6890), or empty: the ranges that a
/// *name* may not resolve to unless a rule allows the address.
std::string_view special_range(const Address& address);

/// Address and port of an AF_INET or AF_INET6 socket address; nothing for other families.
std::optional<std::pair<Address, std::uint16_t>> from_sockaddr(const sockaddr* address);
/// The inverse; returns the length to give to connect(2).
socklen_t to_sockaddr(const Address& address, std::uint16_t port, sockaddr_storage& out);

}  // namespace ipc
