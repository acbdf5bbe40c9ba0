// A connection whose records the kernel makes and opens.
#pragma once
#include <functional>

#include "ipc/stream.hh"
#include "ipc/tls_socket.hh"

namespace tlsd {

class KtlsStream final : public ipc::Stream {
 public:
  /// `socket` has its keys in both directions.
  KtlsStream(ipc::Fd socket, std::string peer) : socket_{std::move(socket)}, peer_{std::move(peer)} {}
  int borrow() const override { return socket_.borrow(); }
  ipc::Transfer read(std::span<char> buffer) override;
  ipc::Transfer write(std::string_view bytes) override;
  /// Sends close_notify: the kernel would send only the end of the TCP stream.
  ipc::Io finish() override;
  void make_abrupt() override;
  std::optional<ipc::Error> fault() const override { return fault_; }
  void tell_fault(std::function<void(const ipc::Error&)> teller) { teller_ = std::move(teller); }

 private:
  static constexpr std::size_t largest_record = 16 * 1024;  ///< a ticket must be read whole
  ipc::Transfer broke(const std::string& why);
  std::optional<ipc::Transfer> control(ipc::Record type, std::string_view record);

  ipc::Fd socket_;
  std::string peer_;
  std::size_t room_ = largest_record;  ///< in the next read
  std::optional<ipc::Error> fault_;
  std::function<void(const ipc::Error&)> teller_;
  bool has_ended_ = false;  ///< close_notify came
  bool is_finished_ = false;
};

}  // namespace tlsd
