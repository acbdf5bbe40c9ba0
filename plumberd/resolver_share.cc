#include "plumberd/resolver_share.hh"

namespace plumberd {
namespace {
constexpr unsigned most_places = 16;           // of the 64 names that a helper resolves at once
constexpr std::uint64_t patience_ms = 30'000;  // two servers, asked three times each: resolv.conf(5)
}  // namespace

ResolverShare::Place& ResolverShare::Place::operator=(Place&& from) noexcept {
  give_back();
  share_ = std::exchange(from.share_, nullptr);
  uid_ = from.uid_;
  return *this;
}

void ResolverShare::Place::give_back() {
  if (auto* share = std::exchange(share_, nullptr)) share->give_back(uid_);
}

ResolverShare::Place ResolverShare::take(uid_t uid) {
  auto& user = users_[uid];
  if (user.taken >= most_places) return {};
  ++user.taken;
  return Place{this, uid};
}

ResolverShare::Turn ResolverShare::wait(uid_t uid, Go go) {
  constexpr std::size_t many = 4096;  // more than may wait: most were given up
  auto turn = std::make_shared<Go>(std::move(go));
  auto& waiting = users_[uid].waiting;
  if (waiting.size() >= many) std::erase_if(waiting, [](const auto& other) { return other.expired(); });
  waiting.push_back(turn);
  return turn;
}

void ResolverShare::give_back(uid_t uid) {
  auto& user = users_[uid];
  --user.taken;
  if (!user.waiting.empty()) return loop_.post([this, uid] { serve(uid); });  // never inside of the caller
  if (user.taken == 0) users_.erase(uid);
}

void ResolverShare::serve(uid_t uid) {
  const auto found = users_.find(uid);
  while (found != users_.end() && !found->second.waiting.empty() && found->second.taken < most_places) {
    const auto turn = found->second.waiting.front().lock();
    found->second.waiting.pop_front();
    if (!turn) continue;
    ++found->second.taken;
    (*turn)(Place{this, uid});
    return loop_.post([this, uid] { serve(uid); });  // whoever was called may have changed everything
  }
  if (found != users_.end() && found->second.taken == 0 && found->second.waiting.empty()) users_.erase(found);
}

void ResolverShare::abandon(Place place) {
  if (!place) return;
  abandoned_.emplace_back(loop_.now() + patience_ms, std::move(place));
  if (!sweep_) let_go();
}

void ResolverShare::let_go() {
  sweep_.stop();
  while (!abandoned_.empty() && abandoned_.front().first <= loop_.now()) abandoned_.pop_front();
  if (abandoned_.empty()) return;
  const ipc::Milliseconds left{abandoned_.front().first - loop_.now()};
  sweep_ = ipc::Timer{loop_, left, [this] { let_go(); }};
}
}  // namespace plumberd
