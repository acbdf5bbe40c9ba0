#include "tests/e2e/scripted.hh"

#include <unistd.h>

namespace kit {
Scripted::Scripted(bool with_router) {
  ::setenv("IPC_RUNDIR", dir.path().c_str(), 1);
  ::unsetenv("IPC_NETWORKD");
  ::unsetenv("IPC_NETWORK");
  if (with_router) open();
}

void Scripted::vanish() {
  listener = ipc::Fd{};
  ::unlink((dir / "plumberd").c_str());
}

ipc::Fd take_over(Wire& wire, std::string* params) {
  auto [theirs, ours] = must(ipc::socket_pair(SOCK_STREAM));
  must(ipc::set_blocking(theirs.borrow(), true));
  must(ipc::set_blocking(ours.borrow(), true));
  const auto request = wire.receive();
  if (!request.message || request.message->method != "connect") give_up("no connect, but " + request.text);
  if (params != nullptr) *params = request.message->params.text();
  const int raw = theirs.borrow();
  wire.answer(request, R"({"fd":0,"path":"direct","labels":{"scheme":"tcp","peer.port":"9"}})", {&raw, 1});
  return std::move(ours);
}

void hand_over(Wire& wire, std::string* params) { const auto ours = take_over(wire, params); }

ipc::Fd send_accepted(Wire& wire, std::string_view more) {
  auto [theirs, ours] = must(ipc::socket_pair(SOCK_STREAM));
  must(ipc::set_blocking(theirs.borrow(), true));
  must(ipc::set_blocking(ours.borrow(), true));
  const int raw = theirs.borrow();
  const auto params = R"({"service":"pong","fd":0,"labels":{"client.uid":"7"})" + std::string(more) + "}";
  wire.notify("accepted", params, {&raw, 1});
  return std::move(ours);
}

void accept_registration(Wire& wire) {
  const auto request = wire.receive();
  const bool is_serve = request.message && request.message->method == "serve" &&
                        request.message->params["service"].string_or("") == "pong";
  if (!is_serve) give_up("no serve, but " + request.text);
  wire.answer(request, "{}");
}
}  // namespace kit
