// Guarded services: who offers which name, over which socket in the run directory, and the passing on of
// connections.
#pragma once
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "ipc/json.hh"
#include "ipc/loop.hh"
#include "plumberd/acceptor.hh"
#include "plumberd/rundir.hh"

namespace plumberd {

/// One native-door connection that offers names. The registry borrows it until `withdraw`.
class Offerer {
 public:
  virtual ~Offerer() = default;
  virtual uid_t uid() const = 0;
  /// Whether another descriptor may be sent now (a service that does not read must not fill our queues).
  virtual bool has_room() = 0;
  /// Whether it may be sent sockets of path "ktls" for this service.
  virtual bool takes_ktls(std::string_view service) const = 0;
  /// Sends `accepted`. `fd` is borrowed; `first` is JSON text of an array or empty. BUSY: it was not sent.
  virtual ipc::Result<> accepted(std::string_view service, int fd, const ipc::Labels& labels,
                                 std::string_view first) = 0;
};

class Registry {
 public:
  /// Called with each connection that a local client made to the service's socket.
  using OnLocal = std::function<void(const std::string& service, ipc::StrangerFd socket)>;
  Registry(ipc::Loop& loop, const RunDir& rundir, OnLocal on_local)
      : loop_{loop}, rundir_{rundir}, on_local_{std::move(on_local)} {}

  /// Binds RUNDIR/service and listens on it. TAKEN when somebody else offers the name or a live socket stands
  /// there.
  ipc::Result<> offer(const std::string& service, Offerer& offerer, bool shared);
  /// All names of this offerer; sockets without an offerer left are removed.
  void withdraw(Offerer& offerer);
  bool has(std::string_view service) const { return services_.contains(service); }
  /// Passes a connection on to one of the service's offerers, round-robin; BUSY when none of them reads.
  /// `ktls`: only to one that takes such sockets.
  ipc::Result<> deliver(std::string_view service, int fd, const ipc::Labels& labels,
                        std::string_view first = {}, bool ktls = false);
  /// Whether all offerers of the service take sockets of path "ktls".
  bool takes_ktls(std::string_view service) const;
  /// BUSY or UNKNOWN_SERVICE when `deliver` could not succeed now.
  ipc::Result<> check(std::string_view service);

  struct Entry {
    std::string name;
    uid_t owner;
    bool shared;
    std::size_t offerers;
    std::uint64_t delivered;
  };
  std::vector<Entry> entries() const;

 private:
  struct Service {
    ipc::Fd listener;
    ipc::Poll poll;
    ipc::Timer pause;
    bool shared = false;
    uid_t uid = 0;
    std::vector<Offerer*> offerers;
    std::size_t next = 0;
    std::uint64_t delivered = 0;
  };
  void start_listening(const std::string& name, Service& service);
  void accept_some(const std::string& name);
  void pause_accepting(const std::string& name, Service& service);
  Offerer* next_with_room(std::string_view name, Service& service, bool ktls);
  ipc::Loop& loop_;
  const RunDir& rundir_;
  OnLocal on_local_;
  std::map<std::string, Service, std::less<>> services_;
};

}  // namespace plumberd
