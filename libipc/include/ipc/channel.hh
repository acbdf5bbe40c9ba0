// One SOCK_SEQPACKET connection that speaks JSON-RPC with descriptors, on the loop: calls out, requests in,
// many under way.
#pragma once
#include <functional>
#include <list>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "ipc/loop.hh"
#include "ipc/rpc.hh"

namespace ipc {

/// Bounds of one channel; a peer that exceeds them loses the channel (or, for unread descriptors, gets BUSY).
struct ChannelLimits {
  std::size_t queued_messages = 1024;  ///< that the peer has not made room for
  std::size_t unread_fds = 64;  ///< sent and not read: they count against our RLIMIT_NOFILE (ETOOMANYREFS)
};

class Channel {
 public:
  /// A message with the descriptors that came with it. `fd(i)` takes the i-th.
  struct Incoming {
    rpc::Message message;
    std::vector<Fd> fds;
    /// The descriptor that a member such as `"fd": 0` points to; BAD_REQUEST when it does not.
    Result<Fd> take_fd(JsonView index);
  };
  struct Handlers {
    std::function<void(Incoming)> on_request;       ///< answer with `answer` or `refuse`, now or later
    std::function<void(Incoming)> on_notification;  ///< nothing is answered
    std::function<void(const Error&)> on_closed;    ///< once, last; destroying the channel here is fine
  };
  using OnAnswer = std::function<void(Result<Incoming>)>;

  /// Owns `socket`. Starts reading at once, in later turns of the loop.
  Channel(Loop& loop, Fd socket, Handlers handlers, ChannelLimits limits = {});
  Channel(const Channel&) = delete;
  ~Channel();

  /// `params` is JSON text; `fds` are borrowed. `on_answer` is called once: the answer, the peer's error,
  /// TIMEOUT after `deadline`, or `lost` when the channel ends. Returns the number that `forget` takes.
  std::uint64_t call(std::string_view method, std::string_view params, std::span<const int> fds,
                     Milliseconds deadline, OnAnswer on_answer);
  /// The answer, should it still come, is dropped and its descriptors are closed.
  void forget(std::uint64_t call);
  void notify(std::string_view method, std::string_view params, std::span<const int> fds = {});
  void answer(std::string_view id, std::string_view result, std::span<const int> fds = {});
  void refuse(std::string_view id, const Error& failure, std::string_view extra = {}, int code = -32000);
  /// Whether another descriptor may be sent: false while `unread_fds` of them lie unread at the peer.
  bool has_room_for_fd();
  /// Ends it: no handler is called any more; calls under way fail with `reason`.
  void close(const Error& reason);
  bool is_open() const { return static_cast<bool>(socket_); }
  std::size_t pending_calls() const { return calls_.size(); }
  int borrow() const { return socket_.borrow(); }

 private:
  struct Queued {
    std::string text;
    std::vector<Fd> fds;
  };
  struct Call {
    OnAnswer on_answer;
    Timer deadline;
  };
  void on_ready(int events);
  void read_some();
  bool read_one();
  void dispatch(std::string_view text, std::vector<Fd> fds);
  void deliver(Incoming incoming);
  void settle(Incoming incoming);
  void send(std::string text, std::span<const int> fds);
  void enqueue(std::string text, std::span<const int> fds);
  void flush();
  void end(const Error& reason);

  Loop& loop_;
  Fd socket_;
  Handlers handlers_;
  ChannelLimits limits_;
  Poll poll_;
  std::list<Queued> queue_;  ///< nearly always empty, and then it holds no memory
  std::unordered_map<std::uint64_t, Call> calls_;
  std::uint64_t next_call_ = 1;
  std::size_t fds_sent_ = 0;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);  ///< handlers may destroy us
};

}  // namespace ipc
