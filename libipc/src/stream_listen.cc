// Bound sockets, and accepting as long as there are descriptors for it.
#include <algorithm>
#include <cerrno>

#include "ipc/resolve.hh"
#include "stream_inbound.hh"

namespace ipc {
namespace {
constexpr int usual_backlog = 4096;  // the kernel cuts it to net.core.somaxconn
constexpr int short_backlog = 128;   // where newcomers would wait too long in a longer one
constexpr int accepts_per_turn = 8;  // to prepare a handshake is work, too
constexpr Milliseconds breath{100};  // until accepting is tried again when descriptors were out
constexpr Milliseconds moment{5};    // the same when there is too much to do
constexpr std::size_t most_inbounds = 1024;

void set(int socket, int level, int name, int value) {
  ::setsockopt(socket, level, name, &value, sizeof value);
}

bool is_unspecified(const Address& address) { return special_range(address) == "unspecified"; }

bool lacks_resources(int code) {
  return code == EMFILE || code == ENFILE || code == ENOBUFS || code == ENOMEM;
}
}  // namespace

StreamListener::StreamListener(StreamScheme& scheme, Helper& helper, ListenRequest request)
    : scheme_{scheme}, helper_{helper}, request_{std::move(request)}, backlog_{usual_backlog} {}

StreamListener::~StreamListener() { scheme_.drop_all_of(*this); }

Result<> StreamListener::open() {
  context_ = TRY(scheme_.listener_context(helper_, request_));
  const auto addresses = addresses_without_resolver(request_.uri);
  if (addresses.empty())
    return fail(Word::bad_request,
                "cannot listen on " + request_.uri.host + ": give an address or localhost");
  port_ = request_.uri.port_or_default();
  const bool is_any_port = port_ == 0;
  for (const auto& address : addresses) {
    auto bound = bind_one(address);
    // localhost: a machine without IPv6 has only the first. (Of a port that the kernel chose for the first,
    // somebody may have the second.)
    const bool may_lack =
        !sockets_.empty() && (bound.has_value() || bound.error().word == Word::unreachable || is_any_port);
    if (!bound && !may_lack) return bound;
  }
  for (std::size_t i = 0; i < sockets_.size(); ++i)
    sockets_[i].poll =
        Poll{helper_.loop(), sockets_[i].fd.borrow(), UV_READABLE, [this, i](int) { on_ready(i); }};
  return {};
}

Result<> StreamListener::bind_one(const Address& address) {
  const auto refuse = [&](const char* what) {
    const int code = errno;
    const auto word = code == EADDRINUSE ? Word::taken : code == EACCES ? Word::denied : Word::unreachable;
    return fail(word, std::string("cannot ") + what + " " + place(to_string(address), port_) + ": " +
                          errno_text(code));
  };
  Fd fd{::socket(address.v6 ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
  if (!fd) return refuse("open a socket for");
  if (address.v6) set(fd.borrow(), IPPROTO_IPV6, IPV6_V6ONLY, 1);
  set(fd.borrow(), SOL_SOCKET, SO_REUSEADDR, 1);
  set_tcp_options(fd.borrow());
  if (request_.share == Share::join) set(fd.borrow(), SOL_SOCKET, SO_REUSEPORT, 1);
  sockaddr_storage storage;
  const auto size = to_sockaddr(address, port_, storage);
  if (::bind(fd.borrow(), reinterpret_cast<const sockaddr*>(&storage), size) != 0) return refuse("bind");
  // Only now: the first must learn that somebody else has the port.
  if (request_.share == Share::first) set(fd.borrow(), SOL_SOCKET, SO_REUSEPORT, 1);
  if (::listen(fd.borrow(), backlog_) != 0) return refuse("listen on");
  if (const auto actual = local_end(fd.borrow())) port_ = actual->second;
  sockets_.push_back({std::move(fd), address});
  return {};
}

std::string StreamListener::uri() const {
  std::string text = request_.uri.scheme + "://" + place(request_.uri.host, port_);
  return request_.uri.service.empty() ? text : text + "/" + request_.uri.service;
}

void StreamListener::on_ready(std::size_t index) {
  for (int i = 0; i < accepts_per_turn; ++i) {
    if (scheme_.is_overloaded()) {
      set_backlog(short_backlog);
      return pause(moment);
    }
    if (!accept_one(sockets_[index])) return;
  }
}

bool StreamListener::accept_one(const Socket& from) {
  sockaddr_storage storage;
  socklen_t size = sizeof storage;
  auto* address = reinterpret_cast<sockaddr*>(&storage);
  Fd socket{::accept4(from.fd.borrow(), address, &size, SOCK_CLOEXEC | SOCK_NONBLOCK)};
  if (!socket) {
    const int code = errno;
    if (lacks_resources(code)) pause_for_lack(code);
    if (code == EAGAIN) set_backlog(usual_backlog);
    // Any other error is of the one connection (accept(2)): the next may be fine.
    return code != EAGAIN && !paused_;
  }
  was_told_ = false;
  Endpoints ends{.peer = from_sockaddr(address), .local = local_of(from, socket.borrow())};
  auto inbound = std::make_unique<Inbound>(scheme_, helper_, *this, std::move(ends));
  scheme_.make_room();
  scheme_.admit(std::move(inbound), std::move(socket));
  return true;
}

std::optional<std::pair<Address, std::uint16_t>> StreamListener::local_of(const Socket& from,
                                                                          int socket) const {
  if (is_unspecified(from.address)) return local_end(socket);
  return std::pair{from.address, port_};
}

/// What does not fit is not refused: the peer's kernel asks again.
void StreamListener::set_backlog(int most) {
  if (std::exchange(backlog_, most) == most) return;
  for (const auto& socket : sockets_) ::listen(socket.fd.borrow(), most);
}

void StreamListener::pause_for_lack(int code) {
  if (!std::exchange(was_told_, true)) helper_.log("warn", uri() + ": accepting pauses: " + errno_text(code));
  pause(breath);
}

void StreamListener::pause(Milliseconds how_long) {
  for (auto& socket : sockets_) socket.poll.change(0);
  paused_ = Timer{helper_.loop(), how_long, [this] { resume(); }};
}

void StreamListener::resume() {
  paused_.stop();
  for (auto& socket : sockets_) socket.poll.change(UV_READABLE);
}

// --- the scheme's side: the connections that are neither handed over nor refused yet

StreamScheme::StreamScheme() = default;
StreamScheme::~StreamScheme() = default;

Result<std::unique_ptr<Listener>> StreamScheme::listen(Helper& helper, ListenRequest request) {
  auto listener = std::make_unique<StreamListener>(*this, helper, std::move(request));
  TRY(listener->open());
  return listener;
}

Result<std::shared_ptr<void>> StreamScheme::listener_context(Helper&, const ListenRequest&) {
  return nullptr;
}

Progress StreamScheme::after_accept(Helper&, Fd socket, const std::shared_ptr<void>&, OnEstablished) {
  return Established{socket_stream(std::move(socket))};
}

void StreamScheme::admit(std::unique_ptr<Inbound> inbound, Fd socket) {
  auto& here = *inbound;
  here.place = inbounds_.insert(inbounds_.end(), std::move(inbound));
  here.begin(std::move(socket));
}

/// At the bound the oldest that keeps us waiting goes: newcomers get their chance however many dawdle. (Those
/// that we keep waiting are few: we stop to accept.)
void StreamScheme::make_room() {
  if (inbounds_.size() < most_inbounds) return;
  const auto oldest =
      std::ranges::find_if(inbounds_, [](const auto& inbound) { return inbound->waits_for_peer(); });
  if (oldest != inbounds_.end()) drop(**oldest);
}

/// Who waits for the router is out of the bound, for the time: it has bounds and deadlines of its own.
void StreamScheme::set_aside(Inbound& inbound) { asking_.splice(asking_.end(), inbounds_, inbound.place); }
void StreamScheme::take_back(Inbound& inbound) { inbounds_.splice(inbounds_.end(), asking_, inbound.place); }

/// As many in a second; the rest is counted.
void StreamScheme::tell_failed(Helper& helper, const Failure& failure) {
  constexpr unsigned most_failures = 20;
  constexpr std::uint64_t period = 1000;
  const auto now = helper.loop().now();
  if (now - failures_since_ >= period) {
    if (failures_ > most_failures)
      helper.log("warn", std::to_string(failures_ - most_failures) + " more connections came to nothing");
    failures_since_ = now;
    failures_ = 0;
  }
  if (++failures_ <= most_failures) helper.tell_failed(failure);
}

void StreamScheme::drop(Inbound& inbound) {
  (inbound.waits_for_router() ? asking_ : inbounds_).erase(inbound.place);
}

void StreamScheme::drop_all_of(const StreamListener& listener) {
  for (auto* list : {&inbounds_, &asking_})
    list->remove_if([&](const auto& inbound) { return inbound->is_of(listener); });
}
}  // namespace ipc
