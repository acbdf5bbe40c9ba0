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
  std::size_t queued_messages = 1024;          ///< that the peer has not made room for
  std::size_t queued_bytes = 4 * 1024 * 1024;  ///< of those messages
  std::size_t unread_fds = 64;  ///< sent and not read: they count against our RLIMIT_NOFILE (ETOOMANYREFS)
  bool takes_fds = true;        ///< false: descriptors that come along are closed unseen
  /// False: while messages are queued nothing is read, so that who does not read is not answered either. Only
  /// for one side of a connection: two that wait for each other would wait for ever.
  bool reads_while_queued = true;
};

class Channel {
 public:
  /// A message with the descriptors that came with it.
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
  Channel(Loop& loop, StrangerFd socket, Handlers handlers, ChannelLimits limits = {});
  Channel(const Channel&) = delete;
  ~Channel();

  /// `params` is JSON text; `fds` are borrowed. `on_answer` is called once: the answer, the peer's error,
  /// TIMEOUT after `deadline`, BAD_REQUEST for a call of more than 64 KiB, or the reason why the channel
  /// ended. Returns the number that `forget` takes.
  std::uint64_t call(std::string_view method, std::string_view params, std::span<const int> fds,
                     Milliseconds deadline, OnAnswer on_answer);
  /// The answer, should it still come, is dropped and its descriptors are closed.
  void forget(std::uint64_t call);
  /// BUSY: the descriptors cannot be sent now, and nothing was. BAD_REQUEST: more than 64 KiB. A channel that
  /// is closed says nothing.
  Result<> notify(std::string_view method, std::string_view params, std::span<const int> fds = {});
  /// What cannot be sent (more than 64 KiB; BUSY, as above) is replaced by a refusal that says so.
  void answer(std::string_view id, std::string_view result, std::span<const int> fds = {});
  void refuse(std::string_view id, const Error& failure, std::string_view extra = {}, int code = -32000);
  /// Whether another descriptor may be sent: false while `unread_fds` of them lie unread at the peer.
  bool has_room_for_fd() { return fds_sent_ < limits_.unread_fds || unread_fds() < limits_.unread_fds; }
  /// At most so many of the descriptors sent lie unread at the peer.
  std::size_t unread_fds();
  /// Ends it: no handler is called any more; calls under way fail with `reason`.
  void close(const Error& reason);
  bool is_open() const { return static_cast<bool>(socket_); }
  std::size_t queued_messages() const { return queue_.size(); }
  std::size_t queued_bytes() const { return queued_bytes_; }
  int borrow() const { return socket_.borrow(); }

 private:
  struct Queued {
    std::string text;
    std::vector<Fd> fds;
    std::string without_fds;  ///< what is sent when the descriptors cannot be; empty: nothing
  };
  struct Call {
    std::string method;
    OnAnswer on_answer;
    Timer deadline;
  };
  void on_ready(int events);
  void read_some();
  bool read_one();
  void dispatch(std::string_view text, std::vector<Fd> fds);
  void deliver(Incoming incoming);
  void settle(Incoming incoming);
  Result<> send(std::string text, std::span<const int> fds, std::string_view id = {});
  Result<> enqueue(std::string text, std::span<const int> fds, std::string_view id);
  Result<Io> send_next();
  void flush();
  void update_interest();
  void note_sent(std::size_t fds);
  bool is_held_up() const { return !queue_.empty() && !limits_.reads_while_queued; }
  void end_soon(Error reason);
  void end(const Error& reason);

  Loop& loop_;
  StrangerFd socket_;
  Handlers handlers_;
  ChannelLimits limits_;
  Poll poll_;
  std::list<Queued> queue_;  ///< nearly always empty, and then it holds no memory
  std::size_t queued_bytes_ = 0;
  std::unordered_map<std::uint64_t, Call> calls_;
  std::uint64_t next_call_ = 1;
  std::size_t most_fds_ = 1;                                    ///< in one message
  std::size_t fds_sent_ = 0;                                    ///< since all of them were known to be read
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);  ///< handlers may destroy us
};

}  // namespace ipc
