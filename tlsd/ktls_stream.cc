#include "tlsd/ktls_stream.hh"

#include <openssl/ssl.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>

#include "ipc/tls_socket.hh"

namespace tlsd {
namespace {
using ipc::Io;
using ipc::Record;
using ipc::Transfer;

constexpr int most_control_records = 16;  // in one call: who sends more of them waits for his turn
// How much one call may take: twice what the last one brought. Where records are nearly empty, the kernel
// decrypts thousands of them for a large buffer.
constexpr std::size_t most_room = 64 * 1024;
}  // namespace

Transfer KtlsStream::read(std::span<char> buffer) {
  if (has_ended_) return {.io = Io::closed};
  buffer = buffer.first(std::min(buffer.size(), room_));
  for (int i = 0; i < most_control_records; ++i) {
    Record type{};
    const auto count = ipc::receive_record(borrow(), buffer, MSG_DONTWAIT, type);
    if (count < 0 && errno == EAGAIN) return {.io = Io::again};
    if (count < 0) return broke("failed: " + ipc::errno_text(errno));
    if (count == 0) return broke("ended without TLS's close_notify: it may be truncated");
    const auto size = static_cast<std::size_t>(count);
    if (type == Record::data) room_ = std::clamp(2 * size, largest_record, most_room);
    if (type == Record::data) return {.size = size};
    if (const auto outcome = control(type, {buffer.data(), size})) return *outcome;
  }
  return {.io = Io::again};
}

/// Alerts and what comes after a handshake. Nothing when the record is of no interest.
std::optional<Transfer> KtlsStream::control(Record type, std::string_view record) {
  const auto first = static_cast<unsigned char>(record.front());
  const bool is_of_interest = first != SSL3_MT_NEWSESSION_TICKET && first != SSL3_MT_HELLO_REQUEST;
  if (type == Record::handshake && !is_of_interest) return std::nullopt;
  if (type == Record::alert && ipc::is_user_canceled(record)) return std::nullopt;
  if (type == Record::handshake && first == SSL3_MT_KEY_UPDATE)
    return broke("changed its keys, which cannot be followed in the kernel; set ktls = \"off\" for it");
  if (type == Record::handshake && first == SSL3_MT_CLIENT_HELLO)
    return broke("was to be renegotiated, which is not done");
  has_ended_ = type == Record::alert && ipc::is_close_notify(record);
  if (has_ended_) return Transfer{.io = Io::closed};
  if (type == Record::alert && record.size() == 2)
    return broke(std::string("was ended by the alert ") + SSL_alert_desc_string_long(record[1]));
  return broke("sent a record that does not belong here");
}

Transfer KtlsStream::broke(const std::string& why) {
  if (!fault_) {
    fault_ =
        ipc::Error{.word = ipc::Word::unreachable, .text = "the TLS connection with " + peer_ + " " + why};
    if (teller_) teller_(*fault_);
  }
  return {.io = Io::closed, .broken = true};
}

Transfer KtlsStream::write(std::string_view bytes) {
  ssize_t count = -1;
  do count = ::send(borrow(), bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
  while (count < 0 && errno == EINTR);
  if (count >= 0) return {.size = static_cast<std::size_t>(count)};
  return errno == EAGAIN ? Transfer{.io = Io::again} : Transfer{.io = Io::closed, .broken = true};
}

Io KtlsStream::finish() {
  if (is_finished_) return Io::done;
  if (ipc::send_close_notify(borrow(), MSG_DONTWAIT) < 0)
    return errno == EAGAIN || errno == EINTR ? Io::again : Io::closed;
  is_finished_ = true;
  ::shutdown(borrow(), SHUT_WR);
  return Io::done;
}

void KtlsStream::make_abrupt() {
  const linger at_once{.l_onoff = 1, .l_linger = 0};
  ::setsockopt(borrow(), SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
}
}  // namespace tlsd
