// The doors of existing libipc programs: `network` (0.7) and `ipc` (v1); docs/protocol.md, section 6.
#pragma once
#include <list>
#include <memory>

#include "ipc/frame.hh"
#include "plumberd/acceptor.hh"
#include "plumberd/request.hh"
#include "plumberd/router.hh"

namespace plumberd {

/// The name asked for and the directives that came with it.
struct Lookup {
  std::string service{};
  std::string networkd{};
};
/// Takes "NAME;DIRECTIVES" apart. 0.7 clients cut the text at 8191 (glibc) or 1023 bytes (musl): then the
/// last entry is discarded. In v1 the last entry of a name wins, elsewhere the first. Pure.
ipc::Result<Lookup> parse_lookup(std::string_view payload, ipc::Framing framing);

class LookupDoor {
 public:
  LookupDoor(Router& router, ipc::Fd listener, ipc::Framing framing);
  ~LookupDoor();

 private:
  struct Client;
  void admit(ipc::StrangerFd socket);
  void read(Client& client);
  void watch_for_hangup(Client& client);
  void look_up(Client& client, std::string_view payload);
  void answer(Client& client, ipc::Result<Connection> outcome);
  ipc::Result<ipc::Fd> local_end(Connection connection);
  void answer_07(Client& client, const ipc::Result<ipc::Fd>& fd);
  void tell_07(int socket, const ipc::Error& error) const;
  void answer_1(Client& client, const ipc::Result<ipc::Fd>& fd);
  void wait_until_read(Client& client, ipc::Milliseconds pause);
  void end(Client& client);
  Router& router_;
  ipc::Framing framing_;
  std::list<std::unique_ptr<Client>> clients_;
  Acceptor acceptor_;
};

}  // namespace plumberd
