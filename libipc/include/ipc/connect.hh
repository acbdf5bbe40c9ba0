// Connecting by Happy Eyeballs (RFC 8305): the families interleaved, 250 ms apart, the first that answers
// wins.
#pragma once
#include <functional>
#include <optional>
#include <vector>

#include "ipc/address.hh"
#include "ipc/loop.hh"

namespace ipc {

struct Connected {
  Fd socket;  ///< TCP, non-blocking, CLOEXEC
  Address peer;
};

class Connector {
 public:
  using OnDone = std::function<void(Result<Connected>)>;
  /// What to connect to and from.
  struct Plan {
    std::vector<Address> addresses;  ///< in the order of preference; interleaved here
    std::uint16_t port = 0;
    std::optional<Address> source{};  ///< local address; the other family is then not tried
    std::string name{};               ///< what error sentences call the place
  };
  Connector(Loop& loop, Plan plan) : loop_{loop}, plan_{std::move(plan)} {}
  Connector(const Connector&) = delete;
  Connector& operator=(const Connector&) = delete;
  /// Tries the first address. When the kernel answers at once (loopback does), the result comes back without
  /// a turn of the loop; else nothing, and `on_done` is called once, later. UNREACHABLE names the last
  /// failure of the address tried first. There is no deadline in here: destroy the connector to give up.
  std::optional<Result<Connected>> start(OnDone on_done);

 private:
  struct Attempt {
    Fd socket;
    std::size_t index;
    Poll poll{};
  };
  std::optional<Result<Connected>> try_next();
  void go_on();
  void on_ready(int socket);
  void note_failure(std::size_t index, int code);
  std::unexpected<Error> failure() const;

  Loop& loop_;
  Plan plan_;
  OnDone on_done_;
  std::vector<Attempt> attempts_;
  Timer stagger_;
  std::size_t next_ = 0;
  std::size_t failed_index_ = 0;
  int failed_code_ = 0;
};

/// RFC 8305 section 4: the families take turns, beginning with that of the first address.
std::vector<Address> interleaved(const std::vector<Address>& addresses);

/// What a socket is given before somebody else has it: blocking, TCP_NODELAY, keep-alive 60 s / 10 s / 6. On
/// a socket that is no TCP socket only the first.
void prepare_for_handover(int socket);
/// The options alone; a listening socket hands them down to those it accepts.
void set_tcp_options(int socket);

}  // namespace ipc
