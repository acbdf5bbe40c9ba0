#include "udpd/exchange.hh"

#include <sys/random.h>

#include <algorithm>
#include <array>
#include <cerrno>

namespace udpd {
namespace {
// Short enough that two losses in a row are made good within half a second.
constexpr std::array<int, 6> pauses{100, 100, 200, 400, 800, 1000};
/// Without any reply the port may be at fault: a flow of an earlier dial may still own it at the far side.
constexpr int tries_per_port = 4;
/// Nobody honest needs more: a cookie is good for at least 30 seconds.
constexpr int most_cookies = 8;
/// Far more than a receive queue holds: only to be sure of an end.
constexpr int most_leftovers = 100'000;

ipc::Milliseconds pause_after(int tries) {
  const auto index = std::clamp<std::size_t>(static_cast<std::size_t>(tries), 1, pauses.size()) - 1;
  return ipc::Milliseconds{pauses[index]};
}

std::unexpected<ipc::Error> no_router(const std::string& host) {
  return ipc::fail(ipc::Word::unreachable,
                   host + " answered the hop with something else: no router listens there");
}
}  // namespace

Exchange::Exchange(ipc::Loop& loop, Plan plan, Handlers handlers)
    : loop_{loop}, plan_{std::move(plan)}, handlers_{std::move(handlers)} {}

Exchange::~Exchange() {
  if (!ended_ && cookies_ > 0 && plan_.socket) say(Kind::gone);
}

void Exchange::start() {
  if (auto opened = open(); !opened) return end(std::move(opened));
  say_hello();
}

ipc::Result<> Exchange::open() {
  if (!plan_.socket) plan_.socket = TRY(dial_socket(plan_.peer, plan_.options));
  if (::getrandom(nonce_.data(), nonce_.size(), 0) != static_cast<ssize_t>(nonce_.size()))
    return ipc::fail_errno("getrandom");
  poll_ = ipc::Poll{loop_, plan_.socket.borrow(), UV_READABLE, [this](int) { on_ready(); }};
  return {};
}

void Exchange::tick() {
  if (garbage_) return end(no_router(plan_.host));
  if (cookies_ > 0 || tries_ % tries_per_port != 0) return say_hello();
  poll_.stop();
  plan_.socket = {};
  start();
}

void Exchange::say_hello() {
  ++tries_;
  retry_ = ipc::Timer{loop_, pause_after(tries_), [this] { tick(); }};
  say(Kind::hello);
}

void Exchange::say(Kind kind) {
  const auto bytes = encode({.kind = kind,
                             .nonce = nonce_,
                             .cookie = cookie_,
                             .frame = kind == Kind::hello ? plan_.frame : std::string_view{}});
  // An ICMP error shows when we read; what is lost is sent again.
  const std::string_view one{bytes};
  send(Outlet{.socket = plan_.socket.borrow()}, {&one, 1});
}

void Exchange::on_ready() {
  std::array<char, longest_datagram + 1> buffer;
  const auto size = ::recv(plan_.socket.borrow(), buffer.data(), buffer.size(), MSG_DONTWAIT);
  if (size < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (size < 0) return lose(errno);
  hear({buffer.data(), static_cast<std::size_t>(size)});
}

void Exchange::hear(std::string_view datagram) {
  const auto found = decode(datagram);
  const bool speaks_hop = found && (found->kind == Kind::cookie || found->kind == Kind::answer);
  // Before the router speaks it may be anybody; later it is only a datagram that went astray.
  if (!speaks_hop) garbage_ = garbage_ || cookies_ == 0;
  if (!speaks_hop || found->nonce != nonce_) return;
  garbage_ = false;
  if (found->kind == Kind::cookie) return on_cookie(found->cookie);
  on_answer(found->frame);
}

void Exchange::on_cookie(const Cookie& cookie) {
  if (cookie == cookie_ || cookies_ == most_cookies) return;  // both our hello and its answer may come twice
  cookie_ = cookie;
  tries_ = 0;
  if (++cookies_ == 1) handlers_.on_alive(*this);
  say_hello();
}

void Exchange::on_answer(std::string_view bytes) {
  const auto frame = whole_frame(bytes);
  if (!frame) return end(no_router(plan_.host));
  if (auto accepted = ipc::decode_hop_answer(*frame, plan_.host); !accepted) return end(std::move(accepted));
  on_accepted();
}

/// The far side is silent until `done`: all that lies in the socket now is of the hop.
void Exchange::on_accepted() {
  if (auto kept = keep_hop_out(plan_.socket.borrow()); !kept) return end(std::move(kept));
  for (int i = 0; i < most_leftovers; ++i) {
    const auto size = ::recv(plan_.socket.borrow(), nullptr, 0, MSG_DONTWAIT);
    if (size < 0 && errno == EAGAIN) break;
  }
  say(Kind::done);
  end({});
}

void Exchange::lose(int code) {
  const auto word = code == EACCES || code == EPERM ? ipc::Word::denied : ipc::Word::unreachable;
  end(ipc::fail(word,
                "cannot reach " + plan_.host + " (" + place(plan_.peer) + "): " + ipc::errno_text(code)));
}

/// May destroy this object.
void Exchange::end(ipc::Result<> outcome) {
  ended_ = true;
  poll_.stop();
  retry_.stop();
  const auto tell = std::move(handlers_.on_end);
  tell(*this, std::move(outcome));
}
}  // namespace udpd
