#include "tlsd/session.hh"

#include <sys/socket.h>
#include <uv.h>

#include <algorithm>

#include "tlsd/fault.hh"
#include "tlsd/socket_bio.hh"

namespace tlsd {
namespace {
using ipc::Io;

constexpr std::size_t most_at_once = 64 * 1024;  // four records: what fits into the second-level cache
constexpr std::size_t record = SSL3_RT_MAX_PLAIN_LENGTH;
constexpr std::size_t read_ahead = 64 * 1024;
constexpr int most_records = 64;  // in one call: they may be nearly empty
// How many bytes of ciphertext one call may take: twice the data that the last one brought. A flood of keys
// and tickets, each of which costs far more than its bytes, gets the least.
constexpr std::size_t least_credit = 4 * 1024;
constexpr std::size_t most_credit = 2 * read_ahead;

/// Gives back what no part of a record lies in. Before 3.0.14 OpenSSL itself did not look for a record of
/// which only the header was there, or of which a message was left (CVE-2024-4741).
void release_buffers(SSL* ssl) {
  if (is_between_records(ssl)) SSL_free_buffers(ssl);
}

bool is_in_kernel(SSL* ssl) {
  return BIO_get_ktls_send(SSL_get_wbio(ssl)) != 0 || BIO_get_ktls_recv(SSL_get_rbio(ssl)) != 0;
}

/// TLS 1.2 can be given to the kernel by OpenSSL's own BIO only.
bool put_on_socket(SSL* ssl, int socket, bool kernel) {
  if (kernel) return SSL_set_fd(ssl, socket) == 1;
  auto* bio = socket_bio(socket).release();
  if (bio != nullptr) SSL_set_bio(ssl, bio, bio);
  return bio != nullptr;
}
}  // namespace

ipc::Result<std::unique_ptr<Session>> Session::make(ipc::Fd socket, std::shared_ptr<Context> context,
                                                    std::string peer) {
  ERR_clear_error();
  Ssl ssl{SSL_new(context->raw())};
  const bool client = context->role() == Role::client;
  auto facts = std::make_unique<Facts>();
  facts->context = std::move(context);
  facts->peer = std::move(peer);
  const auto& settings = facts->context->settings();
  facts->records.wanted = settings.ktls != Ktls::off && attach_ktls(socket.borrow());
  if (!ssl || !put_on_socket(ssl.get(), socket.borrow(), facts->records.wanted))
    return ipc::fail(ipc::Word::internal, "SSL_new: " + take_reason());
  if (facts->records.wanted) {
    prepare_ktls(ssl.get());
    tell_secrets(*facts->context);
  } else {
    SSL_set_read_ahead(ssl.get(), 1);  // one call for a whole flight, not two for each record
  }
  SSL_clear_mode(ssl.get(), SSL_MODE_AUTO_RETRY);  // what is no data ends a call
  if (client) {
    SSL_set_connect_state(ssl.get());
  } else {
    SSL_set_accept_state(ssl.get());
  }
  return std::make_unique<Session>(std::move(socket), std::move(ssl), std::move(facts));
}

Session::Session(ipc::Fd socket, Ssl ssl, std::unique_ptr<Facts> facts)
    : socket_{std::move(socket)}, facts_{std::move(facts)}, ssl_{std::move(ssl)}, credit_{least_credit} {
  SSL_set_app_data(ssl_.get(), facts_.get());
}

Session::~Session() {
  // OpenSSL forgets the session of a connection that was freed without a recorded shutdown.
  if (!broken_) SSL_set_shutdown(ssl_.get(), SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
  SSL_set_quiet_shutdown(ssl_.get(), 1);
}

/// Sorts what an OpenSSL call returned.
Io Session::outcome(int returned, int& wants) {
  wants = 0;
  if (returned == 1) return Io::done;
  const int error = SSL_get_error(ssl_.get(), returned);
  if (error == SSL_ERROR_WANT_READ) wants = UV_READABLE;
  if (error == SSL_ERROR_WANT_WRITE) wants = UV_WRITABLE;
  if (wants != 0) return Io::again;
  broken_ = broken_ || error != SSL_ERROR_ZERO_RETURN;
  return Io::closed;
}

Io Session::shake_hands() {
  ERR_clear_error();
  give_credit(ssl_.get(), read_ahead);
  const auto io = outcome(SSL_do_handshake(ssl_.get()), wants_);
  holds_more_ = io == Io::done && SSL_has_pending(ssl_.get()) == 1;
  return io;
}

Io Session::look_for_first_word() {
  char byte = 0;
  std::size_t size = 0;
  ERR_clear_error();
  give_credit(ssl_.get(), least_credit);
  const auto io = outcome(SSL_peek_ex(ssl_.get(), &byte, 1, &size), wants_);
  // An end in order is a word, too: whoever reads will see it.
  const bool has_spoken = io == Io::done || (io == Io::closed && !broken_);
  holds_more_ = holds_more_ || has_spoken;
  return has_spoken || facts_->got_ticket ? Io::done : io;
}

ipc::Fd Session::take_socket() && {
  SSL_set_bio(ssl_.get(), nullptr, nullptr);
  return std::move(socket_);
}

void Session::begin_relay() {
  SSL_set_msg_callback(ssl_.get(), nullptr);
  if (is_in_kernel(ssl_.get())) return;  // one direction only: OpenSSL reads record by record
  release_buffers(ssl_.get());           // the handshake's, if nothing is left in it
  if (facts_->records.wanted) put_on_socket(ssl_.get(), borrow(), false);
  SSL_set_read_ahead(ssl_.get(), 1);
  facts_->psk.reset();  // offered, and wiped
  SSL_set_default_read_buffer_len(ssl_.get(), read_ahead);
}

ipc::Transfer Session::read(std::span<char> buffer) {
  buffer = buffer.first(std::min(buffer.size(), most_at_once));
  std::size_t total = 0;
  auto io = Io::done;
  give_credit(ssl_.get(), credit_);
  bool drained = false;
  for (int records = 0; io == Io::done && !drained && total < buffer.size() && records < most_records;
       ++records) {
    std::size_t size = 0;
    ERR_clear_error();
    io = outcome(SSL_read_ex(ssl_.get(), buffer.data() + total, buffer.size() - total, &size), read_wants_);
    total += size;
    drained = is_drained(io, total);
  }
  was_answered_ = was_answered_ && total == 0;
  credit_ = std::clamp(2 * total, least_credit, most_credit);
  // The end is told by the next call.
  holds_more_ = io == Io::closed ? total > 0 : io == Io::done && SSL_has_pending(ssl_.get()) == 1;
  if (io == Io::closed && broken_)
    note_fault();  // now: nothing is left of the reason when the next call asks
  // A ticket has made room to write, for nothing.
  if (drained || (io == Io::again && total == 0)) release_buffers(ssl_.get());
  if (total > 0) return {.size = total, .drained = drained};
  return {.io = io, .broken = io == Io::closed && broken_};
}

/// Whether a message was read whole and nothing is behind it. Where nobody answers, more will be there by the
/// time it has been passed on: asking again is then cheaper than a turn of the loop.
bool Session::is_drained(Io io, std::size_t total) const {
  if (!was_answered_ || total == 0 || total >= record) return false;
  return io == Io::again || (io == Io::done && ran_dry(ssl_.get()) && SSL_has_pending(ssl_.get()) == 0);
}

ipc::Transfer Session::write(std::string_view bytes) {
  bytes = bytes.substr(0, most_at_once);
  give_credit(ssl_.get(), least_credit);  // half a message that is no data is read to its end first
  std::size_t total = 0;
  while (total < bytes.size()) {
    std::size_t size = 0;
    ERR_clear_error();
    if (bytes.size() > record) hold_back(ssl_.get(), bytes.size() - total > record);
    const auto io =
        outcome(SSL_write_ex(ssl_.get(), bytes.data() + total, bytes.size() - total, &size), write_wants_);
    total += size;
    was_answered_ = was_answered_ || size > 0;
    if (io == Io::done) continue;
    if (total > 0) return {.size = total};
    if (io == Io::closed) note_fault();
    return {.io = io, .broken = io == Io::closed};
  }
  return {.size = total};
}

/// The first fault is the one that tells why.
void Session::note_fault() {
  if (fault_) return;
  fault_ = std::make_unique<ipc::Error>(fault_after_handshake(*this));
  if (teller_) teller_(*fault_);
}

/// The peer's new keys that could not be answered yet: before that OpenSSL says no close_notify. (A message
/// of which only a part has come is not waited for: the rest may never come.)
Io Session::finish_message() {
  if (SSL_in_init(ssl_.get()) == 0) return Io::done;
  give_credit(ssl_.get(), least_credit);
  const auto io = outcome(SSL_do_handshake(ssl_.get()), write_wants_);
  if (io == Io::closed) note_fault();
  holds_more_ = holds_more_ || io == Io::closed;
  return io;
}

Io Session::finish() {
  if (finished_) return Io::done;
  if (broken_) return Io::closed;
  ERR_clear_error();
  if (const auto io = finish_message(); io == Io::closed || write_wants_ == UV_WRITABLE) return io;
  hold_back(ssl_.get(), true);  // close_notify goes with the FIN
  const int returned = SSL_shutdown(ssl_.get());
  const int error = returned < 0 ? SSL_get_error(ssl_.get(), returned) : SSL_ERROR_NONE;
  ERR_clear_error();
  write_wants_ = error == SSL_ERROR_WANT_WRITE ? UV_WRITABLE : 0;
  if (write_wants_ != 0) return Io::again;
  release_buffers(ssl_.get());  // the other direction may stay open for long
  finished_ = true;
  ::shutdown(borrow(), SHUT_WR);
  return Io::done;
}

void Session::make_abrupt() {
  const linger at_once{.l_onoff = 1, .l_linger = 0};
  ::setsockopt(borrow(), SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
}

int Session::events(bool to_read, bool to_write) const {
  const int reads = read_wants_ != 0 ? read_wants_ : UV_READABLE;
  const int writes = write_wants_ != 0 ? write_wants_ : UV_WRITABLE;
  return (to_read ? reads : 0) | (to_write ? writes : 0);
}
}  // namespace tlsd
