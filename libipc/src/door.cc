#include "ipc/door.hh"

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>

#include "ipc/name.hh"
#include "ipc/rundir.hh"

namespace ipc {
namespace {
using Kind = rpc::Message::Kind;

std::unexpected<Error> hung_up() { return fail(Word::no_router, "the router ended the connection"); }

bool answers(const rpc::Message& message, std::string_view id) {
  if (message.kind == Kind::result) return message.id == id;
  // What the router could not even decode it refuses without an id; only one request is under way.
  return message.kind == Kind::error && (message.id == id || message.id.empty());
}
}  // namespace

Result<Fd> Door::Incoming::take_fd() {
  const auto from = message.kind == Kind::result ? message.result : message.params;
  const auto index = from["fd"].integer_or(-1);
  if (index < 0 || static_cast<std::size_t>(index) >= fds.size())
    return fail(Word::internal,
                "the router's message came without its descriptor (is RLIMIT_NOFILE reached?)");
  return std::move(fds[static_cast<std::size_t>(index)]);
}

Door::Door(Fd socket)
    : socket_{std::move(socket)}, buffer_{std::make_unique_for_overwrite<char[]>(rpc::max_message)} {}

Result<Door> Door::open(const std::string& path, const Deadline& deadline) {
  auto socket = connect_unix(path, SOCK_SEQPACKET, deadline);
  if (!socket && socket.error().word == Word::no_router)
    return fail(Word::no_router, "no router answers at " + socket.error().text);
  if (!socket) return std::unexpected(std::move(socket).error());
  TRY(check_door_owner(socket->borrow(), path));
  return Door{std::move(*socket)};
}

Result<std::string> Door::request(std::string_view method, std::string_view params,
                                  const Deadline& deadline) {
  auto id = std::to_string(next_id_++);
  const auto text = rpc::request(id, method, params);
  if (text.size() > rpc::max_message)
    return fail(Word::bad_request, "the request is longer than the 65536 bytes that a router accepts");
  for (;;) {
    const auto io = TRY(send_with_fds(socket_.borrow(), text, {}));
    if (io == Io::done) return id;
    if (io == Io::closed) return hung_up();
    TRY(wait_ready(socket_.borrow(), POLLOUT, deadline));
  }
}

Result<std::optional<Door::Incoming>> Door::try_receive() {
  auto received = TRY(receive_with_fds(socket_.borrow(), {buffer_.get(), rpc::max_message}));
  if (received.io == Io::again) return std::nullopt;
  if (received.io == Io::closed) return hung_up();
  auto message = TRY(rpc::decode({buffer_.get(), received.size}));
  return Incoming{std::move(message), std::move(received.fds)};
}

Result<Door::Incoming> Door::receive(const Deadline& deadline) {
  for (;;) {
    TRY(wait_ready(socket_.borrow(), POLLIN, deadline));
    if (auto incoming = TRY(try_receive())) return std::move(*incoming);
  }
}

Result<Door::Incoming> Door::ask(std::string_view method, std::string_view params, const Deadline& deadline) {
  const auto id = TRY(request(method, params, deadline));
  for (;;) {
    auto incoming = receive(deadline);
    if (!incoming && incoming.error().word == Word::timeout)
      return fail(Word::timeout,
                  "the router does not answer \"" + std::string(method) + "\" within the deadline");
    if (!incoming || answers(incoming->message, id)) return incoming;
  }
}

Result<Door::Incoming> Door::call(std::string_view method, std::string_view params,
                                  const Deadline& deadline) {
  auto incoming = TRY(ask(method, params, deadline));
  if (incoming.message.kind == Kind::error) return std::unexpected(std::move(incoming.message.failure));
  return incoming;
}

namespace {
/// A user's router without XDG_RUNTIME_DIR is where nobody looks unasked.
Error with_place_of_own(Error error, const std::vector<std::string>& places) {
  const auto own = "/tmp/ipc-" + std::to_string(::geteuid());
  const bool was_asked = std::ranges::find(places, own) != places.end();
  if (error.word == Word::no_router && !was_asked &&
      Door::open(native_door(own), Deadline{Milliseconds{100}}))
    error.text += "; yours is in " + own + ": set IPC_RUNDIR=" + own;
  return error;
}
}  // namespace

Router find_router(std::string_view given, const Deadline& deadline) {
  const auto places = client_rundirs(given);
  for (const auto& place : places) {
    auto door = Door::open(native_door(place), deadline);
    if (door) return {place, std::move(door)};
    if (&place == &places.back())
      return {place, std::unexpected(with_place_of_own(std::move(door).error(), places))};
  }
  return {places.back(), fail(Word::no_router, "no run directory")};
}
}  // namespace ipc
