// Sessions of past dials, so that the next one resumes (RFC 8446, section 2.2).
#pragma once
#include <cstdint>
#include <deque>
#include <map>
#include <string>

#include "tlsd/openssl.hh"

namespace tlsd {

/// When it may be resumed no longer (seconds since the epoch).
std::int64_t end_of(const SSL_SESSION* session);

class SessionStore {
 public:
  /// Keeps the newest few for `place`; at most 512 places, the least recently filled goes first.
  void put(const std::string& place, SslSession session);
  /// A session to resume with, or null. TLS 1.3 tickets are given out once (RFC 8446, appendix C.4).
  SslSession take(const std::string& place);

 private:
  struct Kept {
    std::deque<SslSession> sessions;
    std::uint64_t filled = 0;
  };
  void make_room();
  std::map<std::string, Kept, std::less<>> places_;
  std::uint64_t clock_ = 0;
};

}  // namespace tlsd
