#include "tlsd/socket_bio.hh"

#include <sys/socket.h>

#include <cerrno>

namespace tlsd {
namespace {
/// What the BIO's data pointer holds: no memory of its own.
struct State {
  int socket;
  bool more;
};
static_assert(sizeof(void*) >= sizeof(State));

State state_of(BIO* bio) {
  const auto bits = reinterpret_cast<std::uintptr_t>(BIO_get_data(bio));
  return {.socket = static_cast<int>(bits >> 1), .more = (bits & 1) != 0};
}

void set_state(BIO* bio, State state) {
  const auto bits = static_cast<std::uintptr_t>(state.socket) << 1 | (state.more ? 1U : 0U);
  BIO_set_data(bio, reinterpret_cast<void*>(bits));
}

bool may_retry() { return errno == EAGAIN || errno == EINTR; }

int put(BIO* bio, const char* bytes, int size) {
  const auto [socket, more] = state_of(bio);
  BIO_clear_retry_flags(bio);
  const auto count = ::send(socket, bytes, static_cast<std::size_t>(size),
                            MSG_DONTWAIT | MSG_NOSIGNAL | (more ? MSG_MORE : 0));
  if (count < 0 && may_retry()) BIO_set_retry_write(bio);
  return static_cast<int>(count);
}

int get(BIO* bio, char* bytes, int size) {
  BIO_clear_retry_flags(bio);
  const auto count = ::recv(state_of(bio).socket, bytes, static_cast<std::size_t>(size), MSG_DONTWAIT);
  if (count < 0 && may_retry()) BIO_set_retry_read(bio);
  if (count == 0) BIO_set_flags(bio, BIO_FLAGS_IN_EOF);
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
  set_state(bio.get(), {.socket = socket, .more = false});
  BIO_set_init(bio.get(), 1);
  return bio;
}

void hold_back(SSL* ssl, bool more) {
  auto* bio = SSL_get_wbio(ssl);
  if (BIO_method_type(bio) == BIO_TYPE_SOCKET) return;  // OpenSSL's own
  set_state(bio, {.socket = state_of(bio).socket, .more = more});
}
}  // namespace tlsd
