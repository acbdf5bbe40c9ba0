// Sockets on which the kernel may speak TLS (path "ktls"), used as any other (docs/protocol.md, section 5.2).
#pragma once
#include <sys/types.h>

#include <cstdint>
#include <span>

#include "ipc/fd.hh"

namespace ipc {

/// Record types of TLS (RFC 8446, section 5.1).
enum class Record : std::uint8_t { alert = 21, handshake = 22, data = 23 };

/// Whether the kernel's TLS is attached to this socket. False for anything else, sockets or not.
bool is_kernel_tls(int socket);

/// recv(2) with `flags`, for any connected socket. 0 is an end in order: close_notify on the kernel's TLS,
/// again at each later call. ECONNRESET: the connection was cut, or the peer sent what cannot be taken
/// (an alert, KeyUpdate).
ssize_t read_bytes(int socket, std::span<char> buffer, int flags = 0);

/// Says in order that no more bytes come from us: close_notify where the kernel speaks TLS, and
/// shutdown(SHUT_WR). `flags`: MSG_DONTWAIT, then EAGAIN where there is no room for it yet. -1 with errno.
int end_bytes(int socket, int flags = 0);

/// close(2), after close_notify where the kernel speaks TLS: may wait as write(2) does. -1 with errno: the
/// socket is closed, and the other side has to take this for a cut.
int close_bytes(Fd socket);

/// One record of the kernel's TLS or a part of it, as recvmsg(2) with `flags` returns it, with its type.
ssize_t receive_record(int socket, std::span<char> buffer, int flags, Record& type);
/// close_notify as a record of its own, as sendmsg(2) with `flags` sends it.
ssize_t send_close_notify(int socket, int flags);
/// Whether these bytes of an alert record are close_notify.
bool is_close_notify(std::span<const char> alert);
/// Whether they are user_canceled, which says nothing: close_notify follows (RFC 8446, section 6.1).
bool is_user_canceled(std::span<const char> alert);

}  // namespace ipc
