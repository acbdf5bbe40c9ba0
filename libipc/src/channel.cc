#include "ipc/channel.hh"

#include <linux/sockios.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <charconv>

#include "ipc/secret.hh"

namespace ipc {
namespace {
// Few enough to be fair to other clients.
constexpr int messages_per_turn = 16;

std::uint64_t number_of(std::string_view id) {
  std::uint64_t number = 0;
  std::from_chars(id.data(), id.data() + id.size(), number);
  return number;
}

/// One buffer serves every channel of the thread: a message is decoded before the next is read.
std::span<char> read_buffer() {
  static thread_local std::array<char, rpc::max_message> buffer;
  return buffer;
}
}  // namespace

Result<Fd> Channel::Incoming::take_fd(JsonView index) {
  const auto number = index.integer();
  if (!number) return fail(Word::bad_request, "the message names no descriptor");
  const bool there = *number >= 0 && static_cast<std::size_t>(*number) < fds.size() &&
                     fds[static_cast<std::size_t>(*number)];
  if (!there)
    return fail(Word::bad_request,
                "descriptor " + std::to_string(*number) + " did not come with the message");
  return std::move(fds[static_cast<std::size_t>(*number)]);
}

Channel::Channel(Loop& loop, StrangerFd socket, Handlers handlers, ChannelLimits limits)
    : loop_{loop}, socket_{std::move(socket)}, handlers_{std::move(handlers)}, limits_{limits} {
  poll_ = Poll{loop_, socket_.borrow(), UV_READABLE, [this](int events) { on_ready(events); }};
}

Channel::~Channel() {
  *alive_ = false;
  poll_.stop();
}

void Channel::on_ready(int events) {
  const auto alive = alive_;
  if ((events & UV_WRITABLE) != 0) flush();
  if (*alive && is_open() && (events & UV_READABLE) != 0) read_some();
}

// The loop is level triggered: what is left is announced again. So a second read, which costs as much as a
// turn of the loop and mostly finds nothing, is only tried where more answers are due.
void Channel::read_some() {
  const auto alive = alive_;
  for (int i = 0; i < messages_per_turn; ++i)
    if (!read_one() || !*alive || !is_open() || calls_.empty() || is_held_up()) return;
}

bool Channel::read_one() {
  const auto buffer = read_buffer();
  auto received = limits_.takes_fds ? receive_with_fds(socket_.borrow(), buffer)
                                    : receive_without_fds(socket_.borrow(), buffer);
  if (!received && received.error().word == Word::bad_request) {
    refuse({}, received.error(), {}, -32600);  // the next record may be a good one
    return true;
  }
  if (!received) {
    end(received.error());
    return false;
  }
  if (received->io == Io::again) return false;
  if (received->io == Io::closed) {
    end(Error{Word::unreachable, "the connection was closed"});
    return false;
  }
  dispatch({buffer.data(), received->size}, std::move(received->fds));
  wipe_secrets(buffer.first(received->size));
  return true;
}

void Channel::dispatch(std::string_view text, std::vector<Fd> fds) {
  std::string id;
  auto message = rpc::decode(text, &id);
  if (message) return deliver(Incoming{std::move(*message), std::move(fds)});
  const bool is_json = !id.empty();
  refuse(id, message.error(), {}, is_json ? -32600 : -32700);
}

void Channel::deliver(Incoming incoming) {
  using Kind = rpc::Message::Kind;
  switch (incoming.message.kind) {
    case Kind::request:
      return handlers_.on_request(std::move(incoming));
    case Kind::notification:
      if (handlers_.on_notification) handlers_.on_notification(std::move(incoming));
      return;
    default:
      return settle(std::move(incoming));
  }
}

void Channel::settle(Incoming incoming) {
  const auto found = calls_.find(number_of(incoming.message.id));
  if (found == calls_.end()) return;  // forgotten, timed out, or made up: its descriptors close here
  auto on_answer = std::move(found->second.on_answer);
  calls_.erase(found);
  if (incoming.message.kind == rpc::Message::Kind::error)
    return on_answer(std::unexpected(std::move(incoming.message.failure)));
  on_answer(std::move(incoming));
}

std::uint64_t Channel::call(std::string_view method, std::string_view params, std::span<const int> fds,
                            Milliseconds deadline, OnAnswer on_answer) {
  const auto number = next_call_++;
  const auto expire = [this, number] {
    auto late = calls_.extract(number);
    if (!late.empty())
      late.mapped().on_answer(fail(Word::timeout, late.mapped().method + " was not answered in time"));
  };
  calls_.emplace(number, Call{std::string(method), std::move(on_answer), Timer{loop_, deadline, expire}});
  const auto sent = send(rpc::request(std::to_string(number), method, params), fds);
  if (sent) return number;
  loop_.post([this, alive = alive_, number, why = sent.error()] {
    if (!*alive) return;
    auto unsent = calls_.extract(number);
    if (!unsent.empty()) unsent.mapped().on_answer(std::unexpected(why));
  });
  return number;
}

void Channel::forget(std::uint64_t call) { calls_.erase(call); }

Result<> Channel::notify(std::string_view method, std::string_view params, std::span<const int> fds) {
  return send(rpc::notification(method, params), fds);
}

void Channel::answer(std::string_view id, std::string_view result, std::span<const int> fds) {
  const auto sent = send(rpc::result(id, result), fds, id);
  if (!sent) refuse(id, sent.error());
}

void Channel::refuse(std::string_view id, const Error& failure, std::string_view extra, int code) {
  constexpr std::size_t longest_sentence = 4096;
  if (send(rpc::error(id, failure, extra, code), {})) return;
  auto shorter = failure;
  if (shorter.text.size() > longest_sentence) shorter.text.resize(longest_sentence);
  static_cast<void>(send(rpc::error(id, shorter, {}, code), {}));
}

/// The kernel tells how many bytes lie unread, and a message takes at least `least` of them: nobody who reads
/// on is held up.
std::size_t Channel::unread_fds() {
  constexpr std::size_t least = 512;  // sk_buff and shared info alone are more
  if (fds_sent_ == 0 || !is_open()) return 0;
  int unread = 0;
  if (::ioctl(socket_.borrow(), SIOCOUTQ, &unread) != 0) return fds_sent_;
  std::size_t queued = 0;
  for (const auto& message : queue_) queued += message.fds.size();
  const auto at_most = (static_cast<std::size_t>(unread) + least - 1) / least * most_fds_ + queued;
  fds_sent_ = std::min(fds_sent_, at_most);
  return fds_sent_;
}

Result<> Channel::send(std::string text, std::span<const int> fds, std::string_view id) {
  if (!is_open()) return {};
  if (text.size() > rpc::max_message)
    return fail(Word::bad_request, "a message of " + std::to_string(text.size()) + " bytes; at most " +
                                       std::to_string(rpc::max_message) + " may be sent");
  if (!queue_.empty()) return enqueue(std::move(text), fds, id);
  const auto sent = send_with_fds(socket_.borrow(), text, fds);
  if (sent && *sent == Io::again) return enqueue(std::move(text), fds, id);
  if (!sent && !fds.empty()) return std::unexpected(sent.error());
  note_sent(fds.size());
  wipe_secrets(text);
  if (sent && *sent == Io::done) return {};
  end_soon(sent ? Error{Word::unreachable, "the connection was closed"} : sent.error());
  return {};
}

void Channel::note_sent(std::size_t fds) {
  fds_sent_ += fds;
  most_fds_ = std::max(most_fds_, fds);
}

/// Never inside of the caller's hands: the loop will tell it.
void Channel::end_soon(Error reason) {
  loop_.post([this, alive = alive_, reason = std::move(reason)] {
    if (*alive && is_open()) end(reason);
  });
}

Result<> Channel::enqueue(std::string text, std::span<const int> fds, std::string_view id) {
  Queued queued{std::move(text), {}, {}};
  for (const int fd : fds) {
    auto copy = duplicate(fd);
    if (!copy) return fail(Word::busy, "out of descriptors: " + copy.error().text);
    queued.fds.push_back(std::move(*copy));
  }
  if (!fds.empty() && !id.empty())
    queued.without_fds = rpc::error(id, {Word::busy, "the descriptor could not be sent; read and retry"});
  note_sent(fds.size());
  queued_bytes_ += queued.text.size() + queued.without_fds.size();
  queue_.push_back(std::move(queued));
  update_interest();
  if (queue_.size() > limits_.queued_messages || queued_bytes_ > limits_.queued_bytes)
    end_soon(Error{Word::busy, "the peer does not read its messages"});
  return {};
}

Result<Io> Channel::send_next() {
  const auto& next = queue_.front();
  std::array<int, max_fds> raw{};
  for (std::size_t i = 0; i < next.fds.size(); ++i) raw[i] = next.fds[i].borrow();
  auto sent = send_with_fds(socket_.borrow(), next.text, std::span{raw}.first(next.fds.size()));
  if (sent || next.fds.empty()) return sent;
  return next.without_fds.empty() ? Io::done : send_with_fds(socket_.borrow(), next.without_fds, {});
}

void Channel::flush() {
  while (!queue_.empty()) {
    const auto sent = send_next();
    if (!sent) return end(sent.error());
    if (*sent == Io::again) return;
    if (*sent == Io::closed) return end(Error{Word::unreachable, "the connection was closed"});
    queued_bytes_ -= queue_.front().text.size() + queue_.front().without_fds.size();
    wipe_secrets(queue_.front().text);
    queue_.pop_front();
  }
  update_interest();
}

void Channel::update_interest() {
  const bool reads = queue_.empty() || limits_.reads_while_queued;
  poll_.change((reads ? UV_READABLE : 0) | (queue_.empty() ? 0 : UV_WRITABLE));
}

void Channel::end(const Error& reason) {
  if (!is_open()) return;
  const auto alive = alive_;
  auto on_closed = handlers_.on_closed;
  close(reason);
  if (*alive && on_closed) on_closed(reason);
}

void Channel::close(const Error& reason) {
  poll_.stop();
  socket_ = StrangerFd{};
  queue_.clear();
  queued_bytes_ = 0;
  const auto alive = alive_;
  auto calls = std::exchange(calls_, {});
  for (auto& [number, call] : calls) {
    call.on_answer(std::unexpected(reason));
    if (!*alive) return;
  }
}
}  // namespace ipc
