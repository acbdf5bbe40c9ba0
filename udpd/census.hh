// How many sockets there are on a port, asked of the kernel (sock_diag(7)): those handed over are nobody's we
// know of.
#pragma once
#include <cstdint>
#include <unordered_map>

#include "ipc/error.hh"
#include "udpd/peer.hh"

namespace udpd {

/// Whether somebody else's socket takes datagrams from everybody at `at` (or at any address), beside ours.
bool is_shared(const Peer& at);
/// Whether a socket at `local` is connected to `peer`.
bool is_connected(const Peer& local, const Peer& peer);

/// The connected sockets of one port. Counts what it is told about and looks again where a limit would bind:
/// flows end without a word.
class Census {
 public:
  Census(std::uint16_t port, bool v6) : port_{port}, v6_{v6} {}
  /// A socket was handed over.
  void note(const ipc::Address& peer) {
    ++total_;
    ++by_prefix_[prefix_of(peer)];
  }
  std::size_t total() const { return total_; }
  std::size_t of_prefix(const ipc::Address& peer) const;
  /// Asks the kernel, at most once in `pause_ms`. `now` in milliseconds of a steady clock.
  void look_again(std::uint64_t now);
  static constexpr std::uint64_t pause_ms = 250;

 private:
  std::uint16_t port_;
  bool v6_;
  std::uint64_t looked_at_ = 0;
  std::size_t total_ = 0;
  std::unordered_map<ipc::Address, std::size_t, PeerHash> by_prefix_;
};

}  // namespace udpd
