#include "plumberd/lookup_door.hh"

#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <algorithm>

#include "ipc/name.hh"

namespace plumberd {
namespace {
constexpr int accepts_per_turn = 64;
// Existing clients send at most 8191 (0.7) and 9,999 (v1) bytes.
constexpr std::size_t largest_lookup = 16'384;
constexpr ipc::Milliseconds first_look{1};
constexpr ipc::Milliseconds longest_pause{1'000};
constexpr std::size_t cut_by_glibc = 8191;
constexpr std::size_t cut_by_musl = 1023;

bool was_cut(std::string_view payload, ipc::Framing framing) {
  return framing == ipc::Framing::ipc07 && (payload.size() == cut_by_glibc || payload.size() == cut_by_musl);
}

/// The last entry whose first word is the name, as a directive; blanks are single ones in v1.
std::string last_entry(std::string_view entries, std::string_view name) {
  std::string found;
  while (!entries.empty()) {
    const auto end = std::min(entries.find(';'), entries.size());
    const auto entry = entries.substr(0, end);
    entries.remove_prefix(std::min(end + 1, entries.size()));
    if (entry.size() > name.size() && entry.starts_with(name) && entry[name.size()] == ' ') found = entry;
  }
  return found;
}

/// Whether the client has read everything, or never will.
bool is_read(int socket) {
  int unread = 0;
  return ::ioctl(socket, SIOCOUTQ, &unread) != 0 || unread == 0 || ipc::is_hung_up(socket);
}

/// A socket whose other end is closed: the client of 0.7 takes any error for "ask the local service instead".
ipc::Result<ipc::Fd> closed_socket() {
  auto pair = TRY(ipc::socket_pair(SOCK_STREAM));
  TRY(ipc::set_blocking(pair.first.borrow(), true));
  return std::move(pair.first);
}
}  // namespace

ipc::Result<Lookup> parse_lookup(std::string_view payload, ipc::Framing framing) {
  if (payload.find('\0') != payload.npos)
    return ipc::fail(ipc::Word::bad_request, "the lookup contains a NUL byte");
  const auto end = payload.find(';');
  if (end == payload.npos)
    return ipc::fail(ipc::Word::bad_request, "the lookup is not of the form NAME;DIRECTIVES");
  Lookup lookup{.service = std::string(payload.substr(0, end)),
                .networkd = std::string(payload.substr(end + 1))};
  if (was_cut(payload, framing)) {
    const auto last = lookup.networkd.rfind(';');
    lookup.networkd.resize(last == std::string::npos ? 0 : last);
  }
  if (framing == ipc::Framing::ipc1) lookup.networkd = last_entry(lookup.networkd, lookup.service);
  return lookup;
}

struct LookupDoor::Client {
  ipc::StrangerFd socket;
  std::shared_ptr<Identity> identity;
  Accounts::Ticket connection;
  Accounts::Ticket pending;
  Accounts::Unread unread;
  ipc::FrameReader reader{ipc::Framing::ipc07};
  ipc::Poll poll;
  ipc::Timer deadline;
  std::shared_ptr<Request> request;
  std::shared_ptr<bool> alive = std::make_shared<bool>(true);
  Client(Accounts& accounts, uid_t uid) : unread{accounts, uid} {}
  ~Client() {
    *alive = false;
    if (request) request->cancel();
  }
};

LookupDoor::LookupDoor(Router& router, ipc::Fd listener, ipc::Framing framing)
    : router_{router},
      framing_{framing},
      acceptor_{router.loop,      router.log,
                "a lookup door",  std::move(listener),
                accepts_per_turn, [this](ipc::StrangerFd socket) { admit(std::move(socket)); }} {}

LookupDoor::~LookupDoor() = default;

void LookupDoor::admit(ipc::StrangerFd socket) {
  auto identity = Identity::of_peer(socket.borrow());
  if (!identity) return;
  auto ticket = router_.accounts.open_connection(identity->uid(), router_.config->limits);
  if (!ticket) return tell_07(socket.borrow(), ticket.error());
  auto client = std::make_unique<Client>(router_.accounts, identity->uid());
  client->socket = std::move(socket);
  client->identity = std::make_shared<Identity>(std::move(*identity));
  client->connection = std::move(*ticket);
  client->reader = ipc::FrameReader{framing_, largest_lookup};
  auto* raw = client.get();
  raw->poll = ipc::Poll{router_.loop, raw->socket.borrow(), UV_READABLE, [this, raw](int) { read(*raw); }};
  raw->deadline =
      ipc::Timer{router_.loop, router_.config->limits.request_timeout, [this, raw] { end(*raw); }};
  clients_.push_back(std::move(client));
}

void LookupDoor::end(Client& client) {
  client.poll.stop();
  std::erase_if(clients_, [&](const auto& entry) { return entry.get() == &client; });
}

/// One lookup a connection. Bytes behind it are nobody's and are not read.
void LookupDoor::read(Client& client) {
  std::array<char, 16'384> buffer;
  const auto received = ipc::receive_without_fds(client.socket.borrow(), buffer);
  if (!received || received->io == ipc::Io::closed) return end(client);
  if (received->io == ipc::Io::again) return;
  client.reader.feed({buffer.data(), received->size});
  const auto frame = client.reader.next();
  if (!frame) return answer(client, std::unexpected(frame.error()));
  if (!*frame) return;
  client.poll.stop();
  if (framing_ == ipc::Framing::ipc07 && (*frame)->type != static_cast<std::uint8_t>(ipc::FrameType::lookup))
    return answer(client, ipc::fail(ipc::Word::bad_request, "the message is no lookup"));
  look_up(client, (*frame)->payload);
}

void LookupDoor::look_up(Client& client, std::string_view payload) {
  auto lookup = parse_lookup(payload, framing_);
  if (!lookup) return answer(client, std::unexpected(std::move(lookup).error()));
  auto ticket =
      router_.accounts.begin_request(client.identity->uid(), router_.config->limits, router_.loop.now());
  if (!ticket) return answer(client, std::unexpected(std::move(ticket).error()));
  client.pending = std::move(*ticket);
  if (!client.unread.may_grow())
    return answer(client, ipc::fail(ipc::Word::busy, "read the descriptors that were sent already"));
  client.deadline.stop();  // the request keeps its own
  Ask ask{.service = std::move(lookup->service),
          .networkd = std::move(lookup->networkd),
          .framing = std::string(ipc::to_string(framing_))};
  const auto done = [this, &client, alive = client.alive](ipc::Result<Connection> outcome, const Decision&) {
    if (*alive) answer(client, std::move(outcome));
  };
  const auto alive = client.alive;
  auto request = Request::start(router_, std::move(ask), Asker{client.identity}, done);
  if (!*alive) return;
  client.request = std::move(request);
  watch_for_hangup(client);
}

/// A client that is gone needs no dial any more; one that only ended its own side waits for the answer.
void LookupDoor::watch_for_hangup(Client& client) {
  client.poll = ipc::Poll{router_.loop, client.socket.borrow(), UV_DISCONNECT, [this, &client](int) {
                            ipc::is_hung_up(client.socket.borrow()) ? end(client) : client.poll.stop();
                          }};
}

void LookupDoor::answer(Client& client, ipc::Result<Connection> outcome) {
  client.request.reset();
  auto fd = outcome ? local_end(std::move(*outcome)) : std::unexpected(std::move(outcome).error());
  framing_ == ipc::Framing::ipc07 ? answer_07(client, fd) : answer_1(client, fd);
  client.poll.stop();
  client.pending = {};
  wait_until_read(client, first_look);
}

/// Descriptors that nobody reads stay counted against the client, who may not have any number of them.
void LookupDoor::wait_until_read(Client& client, ipc::Milliseconds pause) {
  if (client.unread.count() == 0 || is_read(client.socket.borrow())) return end(client);
  client.deadline = ipc::Timer{router_.loop, pause, [this, &client, pause] {
                                 wait_until_read(client, std::min(pause * 4, longest_pause));
                               }};
}

/// What these programs may be given: a UNIX socket. Behind a socket of another kind the helper relays whole
/// messages.
ipc::Result<ipc::Fd> LookupDoor::local_end(Connection connection) {
  if (connection.via == nullptr || ipc::domain_of(connection.fd.borrow()) == AF_UNIX)
    return std::move(connection.fd);
  auto pair = TRY(ipc::socket_pair(SOCK_STREAM));
  TRY(ipc::set_blocking(pair.first.borrow(), true));
  connection.via->relay(std::move(connection.fd), std::move(pair.second), ipc::to_string(framing_));
  return std::move(pair.first);
}

/// An error as existing programs can bear it: one write, more than two bytes, with a NUL at the end. v1 has
/// none.
void LookupDoor::tell_07(int socket, const ipc::Error& error) const {
  if (framing_ != ipc::Framing::ipc07) return;
  const auto text = std::string(ipc::to_string(error.word)) + ": " + ipc::printable(error.text) + '\0';
  ipc::send_with_fds(socket, ipc::frame_07(ipc::FrameType::error, 0, text), {});
}

/// OK and the descriptor must never be read together: a descriptor on the first write too makes the kernel
/// end the read there.
void LookupDoor::answer_07(Client& client, const ipc::Result<ipc::Fd>& fd) {
  const bool refused = !fd && (fd.error().word == ipc::Word::denied || fd.error().word == ipc::Word::auth);
  auto stand_in = refused ? closed_socket() : ipc::Result<ipc::Fd>{};
  const int raw = fd ? fd->borrow() : (refused && stand_in ? stand_in->borrow() : -1);
  if (raw < 0) return tell_07(client.socket.borrow(), fd.error());
  const auto ok = ipc::frame_07(ipc::FrameType::lookup, 3, "ok");
  client.unread.set(2);
  const auto sent = ipc::send_with_fds(client.socket.borrow(), ok, {&raw, 1});
  if (sent && *sent == ipc::Io::done)
    ipc::send_with_fds(client.socket.borrow(), std::string_view{"\0", 1}, {&raw, 1});
}

/// v1: raw "ok" with the descriptor; any failure is a closed connection.
void LookupDoor::answer_1(Client& client, const ipc::Result<ipc::Fd>& fd) {
  if (!fd) return;
  const int raw = fd->borrow();
  client.unread.set(1);
  ipc::send_with_fds(client.socket.borrow(), "ok", {&raw, 1});
}
}  // namespace plumberd
