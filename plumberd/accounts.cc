#include "plumberd/accounts.hh"

#include <algorithm>
#include <cmath>

namespace plumberd {
namespace {
constexpr std::uint64_t soon_ms = 50;  // requests under way are answered in milliseconds

std::uint64_t ms_to_next_token(double tokens, double rate) {
  return static_cast<std::uint64_t>(std::ceil((1 - tokens) * 1000 / rate));
}
}  // namespace

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
  if (account.connections == 0 && account.pending == 0 && account.tokens < 0) accounts_.erase(found);
}

ipc::Result<Accounts::Ticket> Accounts::open_connection(uid_t uid, const Limits& limits) {
  auto& account = accounts_[uid];
  if (account.connections >= limits.connections)
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
