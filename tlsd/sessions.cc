#include "tlsd/sessions.hh"

#include <algorithm>
#include <ctime>

namespace tlsd {
namespace {
constexpr std::size_t most_places = 512;
constexpr std::size_t most_per_place = 8;

bool is_usable(const SSL_SESSION* session) {
  return SSL_SESSION_is_resumable(session) == 1 && std::time(nullptr) < end_of(session);
}
}  // namespace

std::int64_t end_of(const SSL_SESSION* session) {
  return std::int64_t{SSL_SESSION_get_time(session)} + SSL_SESSION_get_timeout(session);
}

void SessionStore::put(const std::string& place, SslSession session) {
  if (!places_.contains(place) && places_.size() >= most_places) make_room();
  auto& kept = places_[place];
  kept.filled = ++clock_;
  kept.sessions.push_back(std::move(session));
  if (kept.sessions.size() > most_per_place) kept.sessions.pop_front();
}

SslSession SessionStore::take(const std::string& place) {
  const auto found = places_.find(place);
  if (found == places_.end()) return nullptr;
  auto& sessions = found->second.sessions;
  SslSession session;
  while (!sessions.empty() && !session) {
    session = std::move(sessions.back());
    sessions.pop_back();
    if (!is_usable(session.get())) session.reset();
  }
  // A TLS 1.2 session may serve many connections.
  if (session && SSL_SESSION_get_protocol_version(session.get()) < TLS1_3_VERSION) {
    SSL_SESSION_up_ref(session.get());
    sessions.emplace_back(session.get());
  }
  if (sessions.empty()) places_.erase(found);
  return session;
}

void SessionStore::make_room() {
  const auto oldest =
      std::ranges::min_element(places_, {}, [](const auto& entry) { return entry.second.filled; });
  places_.erase(oldest);
}
}  // namespace tlsd
