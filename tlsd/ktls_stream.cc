#include "tlsd/ktls_stream.hh"

#include <linux/tls.h>
#include <openssl/ssl.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstring>

namespace tlsd {
namespace {
using ipc::Io;
using ipc::Transfer;

constexpr int most_control_records = 16;  // in one call: who sends more of them waits for his turn

/// One record or a part of it; `type` is 23 for data (RFC 8446, section 5.1).
ssize_t receive(int socket, std::span<char> buffer, unsigned char& type) {
  iovec part{.iov_base = buffer.data(), .iov_len = buffer.size()};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(1)> control{};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  ssize_t count = -1;
  do count = ::recvmsg(socket, &message, MSG_DONTWAIT);
  while (count < 0 && errno == EINTR);
  const auto* header = count > 0 ? CMSG_FIRSTHDR(&message) : nullptr;
  type = SSL3_RT_APPLICATION_DATA;
  if (header != nullptr && header->cmsg_level == SOL_TLS && header->cmsg_type == TLS_GET_RECORD_TYPE)
    type = *CMSG_DATA(header);
  return count;
}

ssize_t send_alert(int socket, std::array<unsigned char, 2> alert) {
  iovec part{.iov_base = alert.data(), .iov_len = alert.size()};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(1)> control{};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = CMSG_LEN(1);
  auto* header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_TLS;
  header->cmsg_type = TLS_SET_RECORD_TYPE;
  header->cmsg_len = CMSG_LEN(1);
  *CMSG_DATA(header) = SSL3_RT_ALERT;
  return ::sendmsg(socket, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
}
}  // namespace

Transfer KtlsStream::read(std::span<char> buffer) {
  if (has_ended_) return {.io = Io::closed};
  for (int i = 0; i < most_control_records; ++i) {
    unsigned char type = 0;
    const auto count = receive(borrow(), buffer, type);
    if (count < 0 && errno == EAGAIN) return {.io = Io::again};
    if (count < 0) return broke("failed: " + ipc::errno_text(errno));
    if (count == 0) return broke("ended without TLS's close_notify: it may be truncated");
    const auto size = static_cast<std::size_t>(count);
    if (type == SSL3_RT_APPLICATION_DATA) return {.size = size};
    if (const auto outcome = control(type, {buffer.data(), size})) return *outcome;
  }
  return {.io = Io::again};
}

/// Alerts and what comes after a handshake. Nothing when the record is of no interest.
std::optional<Transfer> KtlsStream::control(unsigned char type, std::string_view record) {
  const auto first = static_cast<unsigned char>(record.front());
  if (type == SSL3_RT_HANDSHAKE && first == SSL3_MT_NEWSESSION_TICKET) return std::nullopt;
  if (type == SSL3_RT_HANDSHAKE && first == SSL3_MT_KEY_UPDATE)
    return broke("changed its keys, which cannot be followed in the kernel; set ktls = \"off\" for it");
  has_ended_ = type == SSL3_RT_ALERT && record.size() == 2 && record[1] == SSL_AD_CLOSE_NOTIFY;
  if (has_ended_) return Transfer{.io = Io::closed};
  if (type == SSL3_RT_ALERT && record.size() == 2)
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
  if (send_alert(borrow(), {SSL3_AL_WARNING, SSL_AD_CLOSE_NOTIFY}) < 0)
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
