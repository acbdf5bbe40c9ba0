#include "plumberd/accounts.hh"

#include <sys/resource.h>

#include <algorithm>
#include <cmath>

namespace plumberd {
namespace {
constexpr unsigned most_following = 16;
constexpr std::uint64_t soon_ms = 50;  // requests under way are answered in milliseconds

std::uint64_t ms_to_next_token(double tokens, double rate) {
  return static_cast<std::uint64_t>(std::ceil((1 - tokens) * 1000 / rate));
}

unsigned descriptor_limit() {
  rlimit limit{};
  constexpr rlim_t most = 1U << 20;
  return ::getrlimit(RLIMIT_NOFILE, &limit) == 0 ? static_cast<unsigned>(std::min(limit.rlim_cur, most))
                                                 : 1024;
}
}  // namespace

std::size_t Tally::of(std::string_view name) const {
  const auto found = counts_->find(name);
  return found == counts_->end() ? 0 : found->second;
}

Tally::Mark Tally::add(std::string_view name) {
  auto place = counts_->emplace(name, 0).first;
  ++place->second;
  const auto forget = [counts = counts_, place](void*) {
    if (--place->second == 0) counts->erase(place);
  };
  return Mark{this, forget};
}

Accounts::Accounts()
    : most_connections_{std::max(descriptor_limit() / 2, 16U)},
      most_unread_fds_{std::max(descriptor_limit() / 4, 16U)} {}

void Accounts::Unread::set(std::size_t count) {
  if (count == count_) return;
  auto& account = accounts_.accounts_[uid_];
  account.unread_fds += count - count_;
  count_ = count;
  if (count == 0) accounts_.forget_if_idle(uid_);
}

bool Accounts::Unread::may_grow() const {
  const auto found = accounts_.accounts_.find(uid_);
  return found == accounts_.accounts_.end() || found->second.unread_fds < accounts_.most_unread_fds_;
}

Accounts::Ticket& Accounts::Ticket::operator=(Ticket&& from) noexcept {
  give_back();
  count_ = std::exchange(from.count_, nullptr);
  owner_ = from.owner_;
  uid_ = from.uid_;
  return *this;
}

void Accounts::Ticket::give_back() {
  if (count_ == nullptr) return;
  --*count_;
  count_ = nullptr;
  owner_->forget_if_idle(uid_);
}

/// A user whose bucket is in use is kept, or leaving and coming back would refill it.
void Accounts::forget_if_idle(uid_t uid) {
  const auto found = accounts_.find(uid);
  if (found == accounts_.end()) return;
  const auto& account = found->second;
  const bool holds = account.connections + account.pending + account.following + account.unread_fds > 0;
  if (!holds && account.tokens < 0) accounts_.erase(found);
}

ipc::Result<Accounts::Ticket> Accounts::open_connection(uid_t uid, const Limits& limits) {
  auto& account = accounts_[uid];
  if (account.connections >= std::min(limits.connections, most_connections_))
    return ipc::fail(ipc::Word::busy, "uid " + std::to_string(uid) + " has " +
                                          std::to_string(account.connections) +
                                          " connections open, its limit");
  ++account.connections;
  return Ticket{&account.connections, this, uid};
}

ipc::Result<Accounts::Ticket> Accounts::begin_request(uid_t uid, const Limits& limits, std::uint64_t now) {
  auto& account = accounts_[uid];
  if (account.pending >= limits.pending_requests)
    return ipc::fail(ipc::Word::busy, "uid " + std::to_string(uid) + " has " +
                                          std::to_string(account.pending) +
                                          " requests under way, its limit; retry when one is answered");
  TRY(take_token(account, limits, now));
  ++account.pending;
  return Ticket{&account.pending, this, uid};
}

ipc::Result<Accounts::Ticket> Accounts::follow_events(uid_t uid) {
  auto& account = accounts_[uid];
  if (account.following >= most_following)
    return ipc::fail(ipc::Word::busy, "uid " + std::to_string(uid) + " follows events " +
                                          std::to_string(most_following) + " times already, its limit");
  ++account.following;
  return Ticket{&account.following, this, uid};
}

/// A token bucket of one second's worth: a burst up to the rate, then the rate.
ipc::Result<> Accounts::take_token(Account& account, const Limits& limits, std::uint64_t now) {
  if (limits.requests_per_second == 0) return {};
  const double rate = limits.requests_per_second;
  const double earned = account.tokens < 0 ? rate : static_cast<double>(now - account.refilled) * rate / 1000;
  account.tokens = std::min(rate, std::max(account.tokens, 0.0) + earned);
  account.refilled = now;
  if (account.tokens < 1) {
    const auto wait = ms_to_next_token(account.tokens, rate);
    return ipc::fail(ipc::Word::busy, "more than " + std::to_string(limits.requests_per_second) +
                                          " requests per second; retry in " + std::to_string(wait) + " ms");
  }
  account.tokens -= 1;
  return {};
}

std::uint64_t Accounts::retry_after_ms(uid_t uid, const Limits& limits) const {
  const auto found = accounts_.find(uid);
  const bool by_rate = found != accounts_.end() && limits.requests_per_second > 0 &&
                       found->second.tokens >= 0 && found->second.tokens < 1;
  return by_rate ? ms_to_next_token(found->second.tokens, limits.requests_per_second) : soon_ms;
}
}  // namespace plumberd
