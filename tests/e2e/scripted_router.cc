#include "tests/e2e/scripted_router.hh"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>

#include "ipc/uri.hh"

namespace kit {
ScriptedRouter::ScriptedRouter(Command command) {
  auto [ours, theirs] = must(ipc::socket_pair(SOCK_SEQPACKET));
  command.env.emplace_back("PLUMBERD_HELPER_FD=3");
  command.fds.emplace_back(theirs.borrow(), 3);
  process_.emplace(command);
  wire_.emplace(std::move(ours));
  expect("hello");
  wire_->notify("configure", R"({"settings":{},"generation":1})");
  fds_at_rest_ = fds();
}

void ScriptedRouter::send_dial(int id, std::string_view uri, std::string_view more) {
  const auto number = std::to_string(id);
  auto params = R"({"id":)" + number + R"(,"uri":")" + std::string(uri) + '"';
  if (more.find("deadline_ms") == std::string_view::npos) params += R"(,"deadline_ms":10000)";
  if (more.find("settings") == std::string_view::npos) params += R"(,"settings":{})";
  params += "," + std::string(more) + "}";
  wire_->send(ipc::rpc::request(number, "dial", params));
}

Wire::Datagram ScriptedRouter::dial(std::string_view uri, std::string_view more) {
  send_dial(next_id_++, uri, more);
  return answer();
}

/// What a helper says of its own accord, now and then, is of interest to whoever waits for it only.
Wire::Datagram ScriptedRouter::next(std::string_view wanted) {
  for (;;) {
    auto datagram = wire_->receive();
    if (wanted == "relayed" || !datagram.message || datagram.message->method != "relayed") return datagram;
  }
}

Wire::Datagram ScriptedRouter::answer() {
  for (;;) {
    auto datagram = next();
    const auto method = datagram.message ? datagram.message->method : "";
    if (method != "log" && method != "failed") return datagram;
    logs_ += datagram.text + "\n";
  }
}

Wire::Datagram ScriptedRouter::listen(std::string_view uri, std::string_view more) {
  auto params = R"({"id":)" + std::to_string(next_id_++) + R"(,"uri":")" + std::string(uri) + '"';
  if (more.find("settings") == std::string_view::npos) params += R"(,"settings":{})";
  if (!more.empty()) params += "," + std::string(more);
  return wire_->call("listen", params + "}");
}

std::uint16_t ScriptedRouter::listen_port(std::string_view uri, std::string_view more, int id) {
  next_id_ = id;
  const auto answer = listen(uri, more);
  return *must(ipc::parse_uri(answer.result()["uri"].string_or(""))).port;
}

void ScriptedRouter::notify(std::string_view method, std::string_view params, std::span<const int> fds) {
  wire_->notify(method, params, fds);
}

Wire::Datagram ScriptedRouter::expect(std::string_view method) {
  auto datagram = next(method);
  if (!datagram.message || datagram.message->method != method)
    give_up("wanted " + std::string(method) + ", got " + datagram.text);
  return datagram;
}

bool ScriptedRouter::is_back_to_rest() {
  // The first message relay opens /dev/null for its barriers, once for the whole process.
  constexpr std::size_t kept = 1;
  return eventually([this] { return fds() <= fds_at_rest_ + kept; });
}

std::string hop_frame(std::string_view service, int hops) {
  return must(ipc::encode_hop({.service = std::string(service), .hops = hops}));
}

std::string receive_frame(int socket, Milliseconds within) {
  auto frame = receive_exactly(socket, ipc::header_size(ipc::Framing::ipc07), within);
  const auto header = ipc::decode_header(ipc::Framing::ipc07, frame);
  return frame + receive_exactly(socket, header->length, within);
}

bool is_fit_for_clients(int socket) {
  const auto option = [socket](int level, int name) {
    int value = -1;
    socklen_t size = sizeof value;
    ::getsockopt(socket, level, name, &value, &size);
    return value;
  };
  return (::fcntl(socket, F_GETFL) & O_NONBLOCK) == 0 && option(IPPROTO_TCP, TCP_NODELAY) == 1 &&
         option(SOL_SOCKET, SO_KEEPALIVE) == 1 && option(IPPROTO_TCP, TCP_KEEPIDLE) == 60 &&
         option(IPPROTO_TCP, TCP_KEEPINTVL) == 10 && option(IPPROTO_TCP, TCP_KEEPCNT) == 6;
}
}  // namespace kit
