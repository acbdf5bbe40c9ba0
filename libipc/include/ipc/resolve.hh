// Names to addresses: asynchronous getaddrinfo(3); literals and localhost without it.
#pragma once
#include <functional>
#include <memory>
#include <vector>

#include "ipc/address.hh"
#include "ipc/loop.hh"
#include "ipc/uri.hh"

namespace ipc {

/// The most addresses of one name that are looked at.
constexpr std::size_t most_addresses = 32;

/// What needs no resolver: the literal of the URI, or both loopbacks for localhost (RFC 6761). Empty for
/// names.
std::vector<Address> addresses_without_resolver(const Uri& uri);

/// One name being resolved. Destroying it forgets the answer.
class Resolution {
 public:
  /// In RFC 6724 order, without duplicates, at most 32; UNREACHABLE when the name has none.
  using OnAnswer = std::function<void(Result<std::vector<Address>>)>;
  Resolution() = default;
  Resolution(Loop& loop, const std::string& host, OnAnswer on_answer);
  Resolution(Resolution&&) noexcept = default;
  Resolution& operator=(Resolution&& from) noexcept;
  ~Resolution() { forget(); }
  /// Resolutions of this process that the resolver still works on, forgotten ones included.
  static int under_way();

 private:
  struct Request;
  void forget();
  std::shared_ptr<Request> request_;
};

}  // namespace ipc
