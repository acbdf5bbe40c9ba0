// The native door and the helper channel, spoken raw.
#include <algorithm>

#include "tests/e2e/kit.hh"

namespace kit {
namespace {
using Kind = ipc::rpc::Message::Kind;

std::string shown(const Wire::Datagram& datagram) {
  return datagram.closed ? "the end of the connection" : datagram.text;
}
}  // namespace

ipc::JsonView Wire::Datagram::result() const {
  if (!message || message->kind != Kind::result) give_up("no result, but " + shown(*this));
  return message->result;
}

std::string Wire::Datagram::word() const {
  if (!message || message->kind != Kind::error) return {};
  return std::string(to_string(message->failure.word));
}

ipc::Fd Wire::Datagram::take_fd(std::string_view member) {
  if (!message) give_up("no message, but " + shown(*this));
  const auto from = message->kind == Kind::result ? message->result : message->params;
  const auto index = from[member].integer_or(-1);
  if (index < 0 || static_cast<std::size_t>(index) >= fds.size())
    give_up("no descriptor with " + shown(*this));
  return std::move(fds[static_cast<std::size_t>(index)]);
}

void Wire::send(std::string_view text, std::span<const int> fds) {
  if (must(ipc::send_with_fds(socket_.borrow(), text, fds)) != ipc::Io::done)
    give_up("the other side takes no more messages");
}

Wire::Datagram Wire::next(const Deadline& deadline) {
  std::string buffer(ipc::rpc::max_message + 1, '\0');
  for (;;) {
    if (!is_readable(socket_.borrow(), Milliseconds{deadline.poll_timeout()})) give_up("no message comes");
    auto received = must(ipc::receive_with_fds(socket_.borrow(), buffer));
    if (received.io == ipc::Io::again) continue;
    Datagram datagram{.text = buffer.substr(0, received.size), .fds = std::move(received.fds)};
    datagram.closed = received.io == ipc::Io::closed;
    if (auto message = ipc::rpc::decode(datagram.text)) datagram.message = std::move(*message);
    return datagram;
  }
}

Wire::Datagram Wire::receive(Milliseconds within) {
  if (kept_.empty()) return next(Deadline{within});
  auto first = std::move(kept_.front());
  kept_.erase(kept_.begin());
  return first;
}

Wire::Datagram Wire::call(std::string_view method, std::string_view params, std::span<const int> fds) {
  const auto id = std::to_string(next_id_++);
  send(ipc::rpc::request(id, method, params), fds);
  const Deadline deadline;
  for (;;) {
    auto datagram = next(deadline);
    if (datagram.closed) return datagram;
    if (datagram.message && datagram.message->id == id && datagram.message->method.empty()) return datagram;
    kept_.push_back(std::move(datagram));
  }
}

void Wire::answer(const Datagram& request, std::string_view result, std::span<const int> fds) {
  if (!request.message) give_up("no request, but " + shown(request));
  send(ipc::rpc::result(request.message->id, result), fds);
}

void Wire::refuse(const Datagram& request, const ipc::Error& failure) {
  if (!request.message) give_up("no request, but " + shown(request));
  send(ipc::rpc::error(request.message->id, failure));
}

void Wire::notify(std::string_view method, std::string_view params, std::span<const int> fds) {
  send(ipc::rpc::notification(method, params), fds);
}
}  // namespace kit
