#include "tlsd/socket_bio.hh"

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>

namespace tlsd {
namespace {
/// What the BIO's data pointer holds: no memory of its own.
struct State {
  int socket;
  bool more;
  bool dry;
  std::uint32_t credit;
};
static_assert(sizeof(void*) == sizeof(std::uint64_t));

State state_of(BIO* bio) {
  const auto bits = reinterpret_cast<std::uint64_t>(BIO_get_data(bio));
  return {.socket = static_cast<int>((bits & 0xffffffff) >> 2),
          .more = (bits & 1) != 0,
          .dry = (bits & 2) != 0,
          .credit = static_cast<std::uint32_t>(bits >> 32)};
}

void set_state(BIO* bio, State state) {
  const auto bits = std::uint64_t{state.credit} << 32 |
                    std::uint64_t{static_cast<std::uint32_t>(state.socket)} << 2 | (state.dry ? 2U : 0U) |
                    (state.more ? 1U : 0U);
  BIO_set_data(bio, reinterpret_cast<void*>(bits));
}

/// The state of a BIO that is ours: OpenSSL's own has none.
BIO* ours(BIO* bio) { return BIO_method_type(bio) == BIO_TYPE_SOCKET ? nullptr : bio; }

bool may_retry() { return errno == EAGAIN || errno == EINTR; }

int put(BIO* bio, const char* bytes, int size) {
  const auto state = state_of(bio);
  BIO_clear_retry_flags(bio);
  const auto count = ::send(state.socket, bytes, static_cast<std::size_t>(size),
                            MSG_DONTWAIT | MSG_NOSIGNAL | (state.more ? MSG_MORE : 0));
  if (count < 0 && may_retry()) BIO_set_retry_write(bio);
  return static_cast<int>(count);
}

int get(BIO* bio, char* bytes, int size) {
  BIO_clear_retry_flags(bio);
  auto state = state_of(bio);
  const auto room = std::min(static_cast<std::uint32_t>(size), state.credit);
  const auto count = room > 0 ? ::recv(state.socket, bytes, room, MSG_DONTWAIT) : -1;
  if (room == 0 || (count < 0 && may_retry())) BIO_set_retry_read(bio);
  if (count == 0) BIO_set_flags(bio, BIO_FLAGS_IN_EOF);
  state.credit -= static_cast<std::uint32_t>(std::max<ssize_t>(count, 0));
  state.dry = room > 0 && count < static_cast<ssize_t>(room);
  set_state(bio, state);
  return static_cast<int>(count);
}

long control(BIO* bio, int what, long, void*) {
  if (what == BIO_CTRL_FLUSH) return 1;
  if (what == BIO_CTRL_EOF) return BIO_test_flags(bio, BIO_FLAGS_IN_EOF) != 0 ? 1 : 0;
  return 0;
}

const BIO_METHOD* method() {
  static BIO_METHOD* const made = [] {
    auto* fresh = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "plumberd socket");
    BIO_meth_set_write(fresh, put);
    BIO_meth_set_read(fresh, get);
    BIO_meth_set_ctrl(fresh, control);
    return fresh;
  }();
  return made;
}
}  // namespace

Bio socket_bio(int socket) {
  Bio bio{BIO_new(method())};
  if (!bio) return bio;
  set_state(bio.get(), {.socket = socket, .more = false, .dry = false, .credit = 0});
  BIO_set_init(bio.get(), 1);
  return bio;
}

void hold_back(SSL* ssl, bool more) {
  auto* bio = ours(SSL_get_wbio(ssl));
  if (bio == nullptr) return;
  auto state = state_of(bio);
  state.more = more;
  set_state(bio, state);
}

void give_credit(SSL* ssl, std::size_t bytes) {
  auto* bio = ours(SSL_get_rbio(ssl));
  if (bio == nullptr) return;
  auto state = state_of(bio);
  state.credit = static_cast<std::uint32_t>(bytes);
  set_state(bio, state);
}

bool ran_dry(SSL* ssl) {
  auto* bio = ours(SSL_get_rbio(ssl));
  return bio != nullptr && state_of(bio).dry;
}
}  // namespace tlsd
