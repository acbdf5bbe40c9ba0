// A run directory whose router is the test itself, speaking the native door raw.
#pragma once
#include <cstdlib>

#include "tests/e2e/kit.hh"

namespace kit {

/// Points IPC_RUNDIR (of the test and what it starts) to a directory with the door of a scripted router.
struct Scripted {
  TempDir dir;
  ipc::Fd listener;
  explicit Scripted(bool with_router = true);
  void open() { listener = listen_unix(dir / "plumberd", SOCK_SEQPACKET); }
  /// As a router that ended.
  void vanish();
  Wire accept() const { return Wire{accept_from(listener)}; }
};

/// Answers the next request, a connect, with one end of a socket pair; gives the other.
ipc::Fd take_over(Wire& wire, std::string* params = nullptr);
/// The same, and closes the other end.
void hand_over(Wire& wire, std::string* params = nullptr);
/// Sends `accepted` for pong, with `more` members; gives the caller's end.
ipc::Fd send_accepted(Wire& wire, std::string_view more = "");
/// Answers the next request, which is to be `serve` pong.
void accept_registration(Wire& wire);

}  // namespace kit
