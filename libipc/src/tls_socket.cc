#include "ipc/tls_socket.hh"

#include <linux/tls.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <string_view>

namespace ipc {
namespace {
constexpr std::array<char, 2> close_notify{1, 0};  // warning, close_notify
constexpr char user_canceled = 90;
constexpr char new_session_ticket = 4;

/// A control message with the type of a record; as long as the msghdr it is put into.
class RecordType {
 public:
  explicit RecordType(msghdr& message) : message_{message} {
    message.msg_control = bytes_.data();
    message.msg_controllen = bytes_.size();
  }
  void set(Record type) {
    auto* header = CMSG_FIRSTHDR(&message_);
    header->cmsg_level = SOL_TLS;
    header->cmsg_type = TLS_SET_RECORD_TYPE;
    header->cmsg_len = CMSG_LEN(1);
    *CMSG_DATA(header) = static_cast<unsigned char>(type);
    message_.msg_controllen = CMSG_LEN(1);
  }
  Record get() const {
    const auto* header = CMSG_FIRSTHDR(&message_);
    if (header == nullptr || header->cmsg_level != SOL_TLS || header->cmsg_type != TLS_GET_RECORD_TYPE)
      return Record::data;
    return static_cast<Record>(*CMSG_DATA(header));
  }

 private:
  msghdr& message_;
  alignas(cmsghdr) std::array<char, CMSG_SPACE(1)> bytes_{};
};

template <class Call>
ssize_t without_interruption(Call call) {
  ssize_t count = -1;
  do count = call();
  while (count < 0 && errno == EINTR);
  return count;
}

/// What stands where no data was found. 0: the end, which stays there for later calls; 1: nothing of
/// interest, and it is gone; -1 with errno.
int look_at_control_record(int socket) {
  std::array<char, 256> record;
  Record type{};
  const auto size = receive_record(socket, record, MSG_PEEK | MSG_DONTWAIT, type);
  if (size <= 0 || type == Record::data) return size < 0 ? -1 : 1;
  const auto bytes = std::span{record}.first(static_cast<std::size_t>(size));
  if (type == Record::alert && is_close_notify(bytes)) return 0;
  const bool says_nothing = (type == Record::handshake && record.front() == new_session_ticket) ||
                            (type == Record::alert && is_user_canceled(bytes));
  if (says_nothing && receive_record(socket, record, MSG_DONTWAIT, type) > 0) return 1;
  errno = ECONNRESET;
  return -1;
}
}  // namespace

bool is_kernel_tls(int socket) {
  const int kept = errno;
  std::array<char, 16> name{};
  socklen_t size = name.size();
  const bool has_name = ::getsockopt(socket, IPPROTO_TCP, TCP_ULP, name.data(), &size) == 0;
  errno = kept;
  return has_name && std::string_view{name.data()} == "tls";
}

ssize_t receive_record(int socket, std::span<char> buffer, int flags, Record& type) {
  iovec part{.iov_base = buffer.data(), .iov_len = buffer.size()};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  const RecordType record{message};
  const auto count = without_interruption([&] { return ::recvmsg(socket, &message, flags); });
  type = count > 0 ? record.get() : Record::data;
  return count;
}

ssize_t send_close_notify(int socket, int flags) {
  auto alert = close_notify;
  iovec part{.iov_base = alert.data(), .iov_len = alert.size()};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  RecordType record{message};
  record.set(Record::alert);
  return without_interruption([&] { return ::sendmsg(socket, &message, flags | MSG_NOSIGNAL); });
}

bool is_close_notify(std::span<const char> alert) {
  return alert.size() == close_notify.size() && alert[1] == close_notify[1];
}

bool is_user_canceled(std::span<const char> alert) { return alert.size() == 2 && alert[1] == user_canceled; }

ssize_t read_bytes(int socket, std::span<char> buffer, int flags) {
  for (;;) {
    const auto count =
        without_interruption([&] { return ::recv(socket, buffer.data(), buffer.size(), flags); });
    // Plain reads are the fast way: they fail with EIO at a record that is no data, and leave it there.
    const bool at_control = count < 0 && errno == EIO;
    const bool at_end = count == 0 && !buffer.empty();
    if ((!at_control && !at_end) || !is_kernel_tls(socket)) return count;
    if (at_end) break;  // without close_notify
    const int found = look_at_control_record(socket);
    if (found <= 0) return found;
  }
  errno = ECONNRESET;
  return -1;
}

int end_bytes(int socket, int flags) {
  const bool said = !is_kernel_tls(socket) || send_close_notify(socket, flags) >= 0;
  if (!said && errno != EPIPE) return -1;  // EPIPE: it was said before
  return ::shutdown(socket, SHUT_WR);
}

int close_bytes(Fd socket) {
  const bool said = !is_kernel_tls(socket.borrow()) || send_close_notify(socket.borrow(), 0) >= 0;
  return said || errno == EPIPE ? 0 : -1;
}
}  // namespace ipc
