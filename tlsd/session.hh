// TLS on one socket: the handshake, and then a stream of plain bytes.
#pragma once
#include "ipc/stream.hh"
#include "tlsd/callbacks.hh"

namespace tlsd {

class Session final : public ipc::Stream {
 public:
  /// `socket` is connected and non-blocking. INTERNAL when OpenSSL has no memory.
  static ipc::Result<std::unique_ptr<Session>> make(ipc::Fd socket, std::shared_ptr<Context> context,
                                                    std::string peer);
  Session(ipc::Fd socket, Ssl ssl, std::unique_ptr<Facts> facts);
  Session(const Session&) = delete;
  ~Session() override;

  /// One step of the handshake: `done`, `again` (see `wants`), or `closed` (the error queue tells more).
  ipc::Io shake_hands();
  /// What the step that came to nothing waits for: UV_READABLE or UV_WRITABLE.
  int wants() const { return wants_; }
  /// Looks for the far side's first word after the handshake, without taking it: `done`: it accepted us.
  ipc::Io look_for_first_word();
  /// From here on bytes may be read ahead of their record.
  void begin_relay();
  /// The socket goes on without OpenSSL; the session is of no use afterwards.
  ipc::Fd take_socket() &&;
  SSL* raw() const { return ssl_.get(); }
  Facts& facts() { return *facts_; }
  const Facts& facts() const { return *facts_; }

  int borrow() const override { return socket_.borrow(); }
  ipc::Transfer read(std::span<char> buffer) override;
  ipc::Transfer write(std::string_view bytes) override;
  ipc::Io finish() override;
  void make_abrupt() override;
  int events(bool to_read, bool to_write) const override;
  bool holds_more() const override { return holds_more_; }
  std::optional<ipc::Error> fault() const override { return fault_ ? std::optional{*fault_} : std::nullopt; }
  /// Whom to tell, once, when the connection does not end in order.
  void tell_fault(std::function<void(const ipc::Error&)> teller) { teller_ = std::move(teller); }

 private:
  ipc::Io outcome(int returned, int& wants);
  bool is_drained(ipc::Io io, std::size_t total) const;
  void note_fault();
  ipc::Io finish_message();

  ipc::Fd socket_;
  std::unique_ptr<Facts> facts_;  // outlives ssl_, whose callbacks fill it
  Ssl ssl_;
  int wants_ = 0;
  int read_wants_ = 0;
  int write_wants_ = 0;
  std::size_t credit_;  ///< how many bytes of ciphertext the next `read` may take
  bool holds_more_ = false;
  bool was_answered_ = true;  ///< what was read last: messages go to and fro
  bool broken_ = false;
  bool finished_ = false;
  std::unique_ptr<ipc::Error> fault_;  // few have one, and thousands lie idle
  std::function<void(const ipc::Error&)> teller_;
};

}  // namespace tlsd
