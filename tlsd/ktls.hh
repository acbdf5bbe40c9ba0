// Kernel TLS (Linux, Documentation/networking/tls.rst): the kernel encrypts and decrypts records, tlsd only
// carries bytes.
#pragma once
#include <memory>
#include <string_view>

#include "ipc/stream.hh"
#include "tlsd/openssl.hh"

namespace tlsd {

class Session;

/// What the kernel must know to go on where OpenSSL stops in TLS 1.3, noted from the end of the handshake on:
/// OpenSSL 3.0 can hand that over in one direction only, so both are done here. (TLS 1.2 it hands over
/// itself.)
struct Records {
  bool wanted = false;          ///< the kernel can take over
  bool counting = false;        ///< our and their application keys are in use
  bool keys_changed = false;    ///< KeyUpdate: too late to take over
  int hello_requests = 0;       ///< that came before the handshake was done
  std::uint64_t sent = 0;       ///< records under our application key
  std::uint64_t received = 0;   ///< records under theirs
  std::string client_secret{};  ///< traffic secrets, hex; wiped
  std::string server_secret{};
  Records() = default;
  Records(const Records&) = delete;
  ~Records();
};

/// Attaches the kernel's TLS to a connected socket, which changes nothing yet. False where it has none; it is
/// then not asked again until `forget_ktls_probe`, since for root each question may start a modprobe.
bool attach_ktls(int socket);
void forget_ktls_probe();
/// Makes a connection note its Records, or go into the kernel by itself if it is TLS 1.2.
void prepare_ktls(SSL* ssl);
/// Takes what it is for from OpenSSL's key log.
void note_secret(Records& records, std::string_view line);

/// What two hosts agree by that the TLS of a connection may be left to their kernels once its hop is over
/// (docs/protocol.md, section 5.2).
constexpr std::string_view plumb_protocol = "plumb/1";
bool has_agreed(const Session& session);

/// True: the kernel has the keys of the session's socket, and what remains to be done is to take that. False
/// when this connection has to stay with OpenSSL (another version or cipher, bytes read ahead): then nothing
/// has changed. INTERNAL when the kernel took one key and refused the other: the connection is of no use any
/// more.
ipc::Result<bool> into_kernel(const Session& session);

}  // namespace tlsd
