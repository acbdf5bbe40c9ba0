// Our end of the pair whose other end a client or service reads plain bytes from.
#pragma once
#include <memory>
#include <utility>

#include "ipc/stream.hh"

namespace tlsd {

/// A UNIX socket has no reset: a reader cannot tell a stream that was cut from one that was finished. But the
/// kernel does report ECONNRESET to the peer of a socket that is closed with bytes unread. So one byte is
/// always left unread here, already carried (at first one that was put there before the peer had its end),
/// and is eaten only when the stream ends in order: a cut, or the death of this process, is then an error at
/// the peer's side and never an end.
///
/// Readiness is therefore edge triggered, through an epoll descriptor of its own.
class PlainEnd final : public ipc::Stream {
 public:
  /// The peer's end (blocking) and ours.
  static ipc::Result<std::pair<ipc::Fd, std::unique_ptr<PlainEnd>>> make();
  PlainEnd(ipc::Fd socket, ipc::Fd edges) : socket_{std::move(socket)}, edges_{std::move(edges)} {}
  PlainEnd(const PlainEnd&) = delete;
  ~PlainEnd() override;
  int borrow() const override { return edges_.borrow(); }
  ipc::Transfer read(std::span<char> buffer) override;
  ipc::Transfer write(std::string_view bytes) override;
  ipc::Io finish() override;
  void make_abrupt() override { abrupt_ = true; }
  int events(bool to_read, bool to_write) const override;
  bool hung_up() const override { return ipc::is_hung_up(socket_.borrow()); }
  bool holds_more() const override { return may_hold_more_ && (ended_ || unread() > carried_); }

 private:
  std::size_t unread() const;
  ipc::Transfer take(std::span<char> buffer, std::size_t fresh);
  void take_edges();

  ipc::Fd socket_;
  ipc::Fd edges_;
  std::size_t carried_ = 1;  ///< bytes at the head of the queue that were carried already: 0 or 1
  bool ended_ = false;       ///< what is queued now is the last
  bool rested_ = true;       ///< the last read found nothing: an edge has told of what there is now
  bool may_hold_more_ = false;
  bool waits_to_write_ = false;
  bool abrupt_ = false;
};

}  // namespace tlsd
