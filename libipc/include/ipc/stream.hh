// A connected byte stream as hops and relays see it: a plain socket here, a TLS session in tlsd.
#pragma once
#include <memory>
#include <optional>
#include <span>
#include <string_view>

#include "ipc/fd.hh"

namespace ipc {

/// What one read or write came to.
struct Transfer {
  Io io = Io::done;  ///< `again`: nothing now; `closed`: no more bytes will come, or none are taken any more
  std::size_t size = 0;  ///< bytes moved when `done`, at least 1
  bool broken = false;   ///< `closed` by a reset or an error, not in order
  bool drained = false;  ///< a read that left nothing behind: readiness will tell of more
};

/// Never blocks, whatever the blocking mode of its descriptor is.
class Stream {
 public:
  virtual ~Stream() = default;
  /// The descriptor to watch; stays the stream's.
  virtual int borrow() const = 0;
  virtual Transfer read(std::span<char> buffer) = 0;
  virtual Transfer write(std::string_view bytes) = 0;
  /// Says in order that no more bytes come from us (the other direction stays open). `again`: call it again
  /// when the stream takes bytes.
  virtual Io finish() = 0;
  /// Makes the coming close a reset, where the stream has such a thing: a cut stream must not look complete.
  virtual void make_abrupt() {}
  /// What to wait for in order to read, to write, or both: UV_READABLE, UV_WRITABLE and whatever else a
  /// `Poll` takes.
  virtual int events(bool to_read, bool to_write) const;
  /// What was reported of the descriptor, before anybody reads or writes because of it.
  virtual void note(int events) { static_cast<void>(events); }
  /// The descriptor's bytes are the stream's bytes: it may be spliced, and its readiness tells all.
  virtual bool is_plain() const { return false; }
  /// Why it broke, where the protocol was told more than a socket is.
  virtual std::optional<Error> fault() const { return std::nullopt; }
  /// The peer's end was closed, not only shut down for writing: it takes nothing any more.
  virtual bool hung_up() const { return is_hung_up(borrow()); }
  /// Bytes can be read although the descriptor may not be readable: a `read` now would not say `again`.
  virtual bool holds_more() const { return false; }
};

/// A connected stream socket, owned; becomes non-blocking, as splice(2) asks the descriptor.
class SocketStream final : public Stream {
 public:
  explicit SocketStream(Fd socket);
  int borrow() const override { return socket_.borrow(); }
  Transfer read(std::span<char> buffer) override;
  Transfer write(std::string_view bytes) override;
  Io finish() override;
  void make_abrupt() override;
  bool is_plain() const override { return true; }
  /// The socket itself; the stream is of no use afterwards.
  Fd take() && { return std::move(socket_).take(); }

 private:
  StrangerFd socket_;
  bool has_failed_ = false;  ///< an error that a write was told, and no read will be
};

std::unique_ptr<Stream> socket_stream(Fd socket);

}  // namespace ipc
