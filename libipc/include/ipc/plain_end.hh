// Our end of the pair whose other end a client or service reads plain bytes from.
#pragma once
#include <memory>
#include <utility>

#include "ipc/stream.hh"

namespace ipc {

/// A UNIX socket has no reset: a reader cannot tell a stream that was cut from one that was finished. But the
/// kernel does report ECONNRESET to the peer of a socket that is closed with bytes unread. So one byte is
/// always left unread here, already carried (at first one that was put there before the peer had its end),
/// and is eaten only when the stream ends in order: a cut, or the death of this process, is then an error at
/// the peer's side and never an end.
///
/// It is therefore always readable, and watched for what changes.
///
/// Where the peer is not a program but the end of another relay (`Peer::relay`), that one is a PlainEnd as
/// well, and leaves a byte unread for us: then a cut is told in both directions.
class PlainEnd final : public Stream {
 public:
  enum class Peer : std::uint8_t { program, relay };
  /// The peer's end (blocking) and ours.
  static Result<std::pair<Fd, std::unique_ptr<PlainEnd>>> make(Peer peer = Peer::program);
  /// Owns `socket`, in whose queue a byte lies that was never sent by anybody.
  PlainEnd(Fd socket, Peer peer);
  PlainEnd(const PlainEnd&) = delete;
  ~PlainEnd() override;
  int borrow() const override { return socket_.borrow(); }
  Transfer read(std::span<char> buffer) override;
  Transfer write(std::string_view bytes) override;
  Io finish() override;
  void make_abrupt() override { abrupt_ = true; }
  int events(bool to_read, bool to_write) const override;
  void note(int events) override;
  bool holds_more() const override { return holds_more_; }

 private:
  Transfer take_message(std::span<char> buffer);
  Transfer take_queued(std::span<char> buffer);
  std::size_t unread() const;
  bool was_cut();
  void note_error(int code);
  /// Eats what was carried, but for `left` bytes. Whoever waits for an answer is woken for nothing by the
  /// memory that this frees (unix(7)'s sockets know one queue of waiters), so it is done after the answer, if
  /// there is one.
  void eat_but(std::size_t left);

  StrangerFd socket_;
  Peer peer_;
  std::size_t carried_ = 1;   ///< bytes at the head of the queue that were carried already
  bool ended_ = false;        ///< what is queued now is the last
  bool was_answered_ = true;  ///< what was read last: messages go to and fro
  bool holds_more_ = false;
  bool abrupt_ = false;
  bool is_cut_ = false;      ///< by the relay at the other end
  bool has_urgent_ = false;  ///< bytes sent with MSG_OOB have come: a read ends before each
};

}  // namespace ipc
