// What tests of udpd need: datagram sockets, hop datagrams written by hand, a link that loses, doubles and
// reorders.
#pragma once
#include <atomic>
#include <functional>
#include <map>

#include "tests/e2e/scripted_router.hh"
#include "udpd/hop_datagram.hh"

namespace kit {

/// Blocking UDP sockets on loopback: one that is bound, and one that is connected as well.
ipc::Fd udp_socket(const char* address = "127.0.0.1", std::uint16_t port = 0);
ipc::Fd udp_to(std::uint16_t port, const char* address = "127.0.0.1", const char* source = nullptr);
void send_datagram(int socket, std::string_view bytes);
/// The next datagram; nothing when none comes in time.
std::optional<std::string> receive_datagram(int socket, Milliseconds within = patience);
/// Nothing lies in the socket.
bool is_empty(int socket);

/// A hello for `service` with the nonce `number`.
std::string hello(std::string_view service, unsigned char number, const udpd::Cookie& cookie = {});
std::string hop_word(udpd::Kind kind, unsigned char number, const udpd::Cookie& cookie = {});
/// The decoded hop datagram; fails the test when none comes.
struct HopWord {
  std::string bytes;
  udpd::HopDatagram word;
};
HopWord receive_hop(int socket, Milliseconds within = patience);
/// Says hello, takes the cookie, says hello with it.
udpd::Cookie greet(int socket, std::string_view service, unsigned char number);
/// Until a listener for hops has read all that was sent to it so far.
void wait_until_read(std::uint16_t port, const char* address = "127.0.0.1");

/// The router's side of one inbound flow: answers `accepted` with a token, gives the service's socket.
struct Delivered {
  ipc::Fd socket;
  std::string path;
  std::vector<std::string> first;
};
void admit(ScriptedRouter& router, std::string_view token = "1");
Delivered delivered(ScriptedRouter& router);

/// Forwards between whoever sends to `port()` and a far port; `policy` says how many copies of a datagram go
/// on: 0 loses it, -1 holds it back until the next of its direction has passed.
class Link {
 public:
  enum class Way { there, back };
  using Policy = std::function<int(Way way, int index, std::string_view bytes)>;
  Link(std::uint16_t far, Policy policy, const char* address = "127.0.0.1");
  Link(const Link&) = delete;
  ~Link();
  std::uint16_t port() const { return port_of(front_.borrow()); }
  /// Sends everything again that ever passed or was lost, both ways.
  void replay();

 private:
  struct Passed {
    Way way;
    std::uint16_t client;
    std::string bytes;
  };
  void run();
  void pass(Way way, std::uint16_t client, std::string bytes);
  void put(const Passed& passed);
  std::uint16_t far_;
  Policy policy_;
  const char* address_;
  ipc::Fd front_;
  ipc::Fd stop_;
  std::mutex lock_;
  std::map<std::uint16_t, ipc::Fd> back_;  ///< by the client's port
  std::vector<Passed> all_;
  std::map<Way, std::vector<Passed>> held_;
  std::map<Way, int> counts_;
  std::thread thread_;
};

/// First hellos from ever another address of 127.0.0.0/8, as fast as they are answered.
class HelloFlood {
 public:
  explicit HelloFlood(std::uint16_t port);
  HelloFlood(const HelloFlood&) = delete;
  ~HelloFlood();
  int sources() const { return sources_; }  ///< so far

 private:
  void run();
  void send_from(std::uint32_t source);
  std::uint16_t port_;
  ipc::Fd socket_;
  std::string bytes_;
  std::atomic<int> sources_ = 0;
  std::atomic<bool> over_ = false;
  std::thread thread_;
};

}  // namespace kit
