#include "ipc/address.hh"

#include <arpa/inet.h>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <span>

namespace ipc {
namespace {
bool prefix_equal(std::span<const std::uint8_t> a, std::span<const std::uint8_t> b, unsigned bits) {
  const auto whole = bits / 8;
  if (!std::equal(a.begin(), a.begin() + whole, b.begin())) return false;
  if (bits % 8 == 0) return true;
  const auto mask = static_cast<std::uint8_t>(0xff << (8 - bits % 8));
  return (a[whole] & mask) == (b[whole] & mask);
}

Address v4_at(const Address& address, std::size_t offset) {
  Address inner;
  std::copy_n(address.bytes.begin() + offset, 4, inner.bytes.begin());
  return inner;
}

bool starts_with(const Address& address, std::initializer_list<std::uint8_t> prefix) {
  return std::equal(prefix.begin(), prefix.end(), address.bytes.begin());
}

std::string_view special_v4(const Address& a) {
  if (a.bytes[0] == 127) return "loopback";
  if (a.bytes[0] == 0) return "unspecified";
  if (a.bytes[0] == 169 && a.bytes[1] == 254) return "link-local";
  if (a.bytes[0] >= 224 && a.bytes[0] < 240) return "multicast";
  const bool all_ones = std::all_of(a.bytes.begin(), a.bytes.begin() + 4, [](auto b) { return b == 255; });
  return all_ones ? "broadcast" : "";
}

std::string_view special_v6(const Address& a) {
  if (a.bytes[0] == 0xff) return "multicast";
  if (a.bytes[0] == 0xfe && (a.bytes[1] & 0xc0) == 0x80) return "link-local";
  const bool zero15 = std::all_of(a.bytes.begin(), a.bytes.begin() + 15, [](auto b) { return b == 0; });
  if (zero15 && a.bytes[15] == 1) return "loopback";
  return zero15 && a.bytes[15] == 0 ? "unspecified" : "";
}
}  // namespace

std::optional<Address> parse_address(std::string_view text) {
  char buffer[INET6_ADDRSTRLEN] = {};
  if (text.empty() || text.size() >= sizeof buffer) return std::nullopt;
  text.copy(buffer, text.size());
  Address address;
  address.v6 = text.find(':') != text.npos;
  if (::inet_pton(address.v6 ? AF_INET6 : AF_INET, buffer, address.bytes.data()) != 1) return std::nullopt;
  return address;
}

std::string to_string(const Address& address) {
  char buffer[INET6_ADDRSTRLEN] = {};
  if (address.v6) return ::inet_ntop(AF_INET6, address.bytes.data(), buffer, sizeof buffer);
  char* end = buffer;  // by hand: several times a dial, and inet_ntop goes through sprintf
  for (std::size_t i = 0; i < 4; ++i) {
    if (i > 0) *end++ = '.';
    end = std::to_chars(end, buffer + sizeof buffer, address.bytes[i]).ptr;
  }
  return {buffer, end};
}

Address embedded(const Address& address) {
  if (!address.v6) return address;
  if (starts_with(address, {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff})) return v4_at(address, 12);
  if (starts_with(address, {0, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0})) return v4_at(address, 12);
  if (starts_with(address, {0x20, 0x02})) return v4_at(address, 2);
  return address;
}

bool in_network(const Address& address, const Address& network, unsigned bits) {
  const Address actual = network.v6 ? address : embedded(address);
  return actual.v6 == network.v6 && prefix_equal(actual.bytes, network.bytes, bits);
}

std::string_view special_range(const Address& address) {
  const Address actual = embedded(address);
  return actual.v6 ? special_v6(actual) : special_v4(actual);
}

std::optional<std::pair<Address, std::uint16_t>> from_sockaddr(const sockaddr* address) {
  Address result;
  if (address->sa_family == AF_INET) {
    const auto* in = reinterpret_cast<const sockaddr_in*>(address);
    std::memcpy(result.bytes.data(), &in->sin_addr, 4);
    return std::pair{result, ntohs(in->sin_port)};
  }
  if (address->sa_family != AF_INET6) return std::nullopt;
  const auto* in6 = reinterpret_cast<const sockaddr_in6*>(address);
  result.v6 = true;
  std::memcpy(result.bytes.data(), &in6->sin6_addr, 16);
  return std::pair{result, ntohs(in6->sin6_port)};
}

socklen_t to_sockaddr(const Address& address, std::uint16_t port, sockaddr_storage& out) {
  std::memset(&out, 0, sizeof out);
  if (!address.v6) {
    auto* in = reinterpret_cast<sockaddr_in*>(&out);
    in->sin_family = AF_INET;
    in->sin_port = htons(port);
    std::memcpy(&in->sin_addr, address.bytes.data(), 4);
    return sizeof *in;
  }
  auto* in6 = reinterpret_cast<sockaddr_in6*>(&out);
  in6->sin6_family = AF_INET6;
  in6->sin6_port = htons(port);
  std::memcpy(&in6->sin6_addr, address.bytes.data(), 16);
  return sizeof *in6;
}
}  // namespace ipc
