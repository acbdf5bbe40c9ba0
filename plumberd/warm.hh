// Spare, already connected sockets of routes with `warm = N`: a dial that finds one needs no handshake.
#pragma once
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "plumberd/helper.hh"

namespace plumberd {

struct Router;
struct Target;

class WarmPools {
 public:
  explicit WarmPools(Router& router) : router_{router} {}
  /// Begins to fill the pools of the current configuration; sockets of the last one are closed.
  void refill();
  using Allowed = std::function<bool(const std::string& address)>;
  /// A live spare connection for the target's route whose address `allowed` admits, or none. Another is
  /// dialled in its place.
  std::optional<Dialled> take(const Config& config, const Target& target, const Allowed& allowed);
  std::size_t held() const;

 private:
  struct Spare {
    Dialled connection;
    std::string address;  ///< of the far end
    std::uint64_t since;  ///< loop time
  };
  struct Pool {
    std::string uri;  ///< of the route's first target, filled in
    unsigned wanted = 0;
    unsigned dialling = 0;
    std::uint64_t not_before = 0;  ///< loop time: after a failure
    std::deque<Spare> spares{};
  };
  void top_up();
  void top_up(const Route& route, Pool& pool);
  void top_up_soon(const Pool& pool);
  DialOrder order_for(const Route& route, const ipc::Uri& uri) const;
  void dial_one(const Route& route, Pool& pool);
  void filled(std::uint64_t generation, const Route* route, ipc::Result<Dialled> outcome);
  Router& router_;
  std::uint64_t generation_ = 0;
  std::map<const Route*, Pool> pools_;  ///< of the configuration of this generation
  ipc::Timer sweep_;
  ipc::Timer later_;
};

}  // namespace plumberd
