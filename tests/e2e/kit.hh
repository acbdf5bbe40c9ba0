// What every end-to-end test needs: scratch directories, programs under supervision, waiting without
// sleeping, small far ends. A helper that cannot do its work fails the test that called it, with a sentence.
//
//   kit::TempDir dir;
//   kit::Process router{{kit::binary("plumberd"), "--rundir", dir / "run"}};
//   kit::wait_for_socket(dir / "run/plumberd", SOCK_SEQPACKET);
//   kit::Wire door{dir / "run/plumberd"};
//   auto answer = door.call("connect", R"({"service":"pong"})");
#pragma once
#include <sys/socket.h>
#include <sys/types.h>

#include <chrono>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "ipc/fd.hh"
#include "ipc/rpc.hh"

namespace kit {
using namespace std::chrono_literals;
using Milliseconds = std::chrono::milliseconds;

/// Generous: a test that works needs none of it; sanitizers and a busy machine may.
constexpr Milliseconds patience = 20s;

/// A point in time up to which waits go on; poll(2) timeouts follow from it.
class Deadline {
 public:
  explicit Deadline(Milliseconds after = patience) : end_{std::chrono::steady_clock::now() + after} {}
  int poll_timeout() const;  ///< milliseconds left, at least 0
  bool passed() const { return poll_timeout() == 0; }

 private:
  std::chrono::steady_clock::time_point end_;
};

/// Fails the running test.
[[noreturn]] void give_up(const std::string& why);
/// The value, or a failed test that shows the error.
template <class T>
T must(ipc::Result<T> result) {
  if (!result) give_up(std::string(to_string(result.error().word)) + ": " + result.error().text);
  if constexpr (!std::is_void_v<T>) return std::move(*result);
}

/// A directory under /tmp (mode 0700, short enough for socket paths), removed with all in it.
class TempDir {
 public:
  TempDir();
  TempDir(const TempDir&) = delete;
  ~TempDir();
  const std::string& path() const { return path_; }
  std::string operator/(std::string_view name) const { return path_ + "/" + std::string(name); }

 private:
  std::string path_;
};

void write_file(const std::string& path, std::string_view text);
std::string read_file(const std::string& path);

/// A program of ours: in the directory $PLUMBERD_BIN, else beside the test program.
std::string binary(std::string_view name);
/// The top of the source tree: $PLUMBERD_SOURCE, else the nearest directory above the test program (or the
/// working directory) that holds a Makefile.
std::string source_dir();
/// Whether `name` is an executable on $PATH (for tests of what may not be installed).
bool installed(std::string_view name);

/// What a program is started with.
struct Command {
  std::vector<std::string> args;
  std::vector<std::string> env{};          ///< "NAME=VALUE" sets, "NAME" removes; the rest is inherited
  int input = -1;                          ///< its fd 0 (borrowed); -1: /dev/null
  int output = -1;                         ///< its fd 1 (borrowed); -1: captured
  std::vector<std::pair<int, int>> fds{};  ///< ours (borrowed) -> its number, from 3 up
  std::optional<unsigned> uid{};           ///< as this user, without groups (needs root)
  std::string directory{};                 ///< working directory
};

/// A child. It is killed and reaped at the latest with this object or with the test. Its output goes to
/// files, so that it never blocks on us.
class Process {
 public:
  explicit Process(const Command& command);
  Process(std::vector<std::string> args) : Process{Command{.args = std::move(args)}} {}
  Process(Process&&) noexcept;
  Process& operator=(Process&&) = delete;
  ~Process();
  pid_t pid() const { return pid_; }
  bool is_running() const;
  void signal(int number) const;
  /// Waits for the end; the exit status, or 128 + the signal that ended it.
  int wait(Milliseconds within = patience);
  /// SIGTERM, then `wait`.
  int stop();
  /// SIGKILL and reap.
  void kill();
  /// Waits until standard error (output) contains `text`; fails the test if the program ends before.
  void wait_for_error(std::string_view text, Milliseconds within = patience) const;
  void wait_for_output(std::string_view text, Milliseconds within = patience) const;
  std::string error() const;   ///< all of standard error so far
  std::string output() const;  ///< all of standard output so far

 private:
  void wait_for(const ipc::Fd& file, std::string_view text, Milliseconds within) const;
  pid_t pid_ = -1;
  ipc::Fd pidfd_;
  ipc::Fd output_;
  ipc::Fd error_;
  std::string name_;
};

/// A program run to its end with `input` on its standard input.
struct Outcome {
  int status;
  std::string output;
  std::string error;
};
Outcome run(Command command, std::string_view input = {}, Milliseconds within = patience);

/// What Prometheus' own checker says of `metrics`, where it is installed.
void must_please_promtool(std::string_view metrics);

/// Waits until `path` accepts connections of `type`.
void wait_for_socket(const std::string& path, int type = SOCK_STREAM, Milliseconds within = patience);
/// Waits until `path` exists (inotify).
void wait_for_file(const std::string& path, Milliseconds within = patience);
/// For what announces itself by nothing: asks again every few milliseconds. False when the time is over.
bool eventually(const std::function<bool()>& is_so, Milliseconds within = patience);

/// Blocking sockets, as clients hold them.
ipc::Fd connect_unix(const std::string& path, int type = SOCK_STREAM);
ipc::Fd connect_tcp(std::uint16_t port, const char* address = "127.0.0.1");
ipc::Fd listen_unix(const std::string& path, int type = SOCK_STREAM);
ipc::Fd listen_tcp(const char* address = "127.0.0.1");
ipc::Fd accept_from(const ipc::Fd& listener, Milliseconds within = patience);
std::uint16_t port_of(int socket);
/// A TCP port that nobody listens on (just now).
std::uint16_t free_port();
/// A TCP socket connected to `listener` whose close(2) waits 30 s for a peer that does not read.
ipc::Fd lingering(const ipc::Fd& listener);
bool is_readable(int fd, Milliseconds within = patience);
void send_all(int socket, std::string_view bytes);
/// Exactly `size` bytes; fails the test at an early end.
std::string receive_exactly(int socket, std::size_t size, Milliseconds within = patience);
/// Everything until the other side ends.
std::string receive_all(int socket, Milliseconds within = patience);

/// Descriptors that `pid` (default: we) holds.
std::size_t open_fds(pid_t pid = 0);
/// Identifies a socket across processes (st_ino); for `holds_socket`.
std::uint64_t inode_of(int fd);
bool holds_socket(pid_t pid, std::uint64_t inode);
/// All processes below `pid`.
std::vector<pid_t> descendants(pid_t pid);

/// A TCP server on loopback; `serve` runs in a thread per connection and borrows the socket.
class TcpServer {
 public:
  using Serve = std::function<void(int socket)>;
  explicit TcpServer(Serve serve, const char* address = "127.0.0.1");
  TcpServer(const TcpServer&) = delete;
  ~TcpServer();
  std::uint16_t port() const { return port_; }
  int connections() const;

 private:
  void accept_all();
  Serve serve_;
  ipc::Fd listener_;
  ipc::Fd stop_;
  std::uint16_t port_;
  mutable std::mutex lock_;
  std::vector<ipc::Fd> sockets_;
  std::vector<std::thread> threads_;
  std::thread acceptor_;
};
void echo(int socket);  ///< sends back what comes, until the end
void pong(int socket);  ///< "pong\n" for each line

/// One end of a native door or a helper channel, raw: datagrams of JSON with descriptors. Either side of it.
class Wire {
 public:
  struct Datagram {
    std::string text{};
    std::vector<ipc::Fd> fds{};
    std::optional<ipc::rpc::Message> message{};  ///< absent when the text is no message of ours
    bool closed = false;
    ipc::JsonView result() const;  ///< fails the test unless it is a result
    /// The word of an error, "" for anything else.
    std::string word() const;
    ipc::Fd take_fd(std::string_view member = "fd");  ///< of the result or the params
  };
  explicit Wire(ipc::Fd socket) : socket_{std::move(socket)} {}
  explicit Wire(const std::string& door) : socket_{connect_unix(door, SOCK_SEQPACKET)} {}
  void send(std::string_view text, std::span<const int> fds = {});
  Datagram receive(Milliseconds within = patience);
  /// Sends a request with a fresh id and waits for its answer; notifications meanwhile are kept for
  /// `receive`.
  Datagram call(std::string_view method, std::string_view params, std::span<const int> fds = {});
  void answer(const Datagram& request, std::string_view result, std::span<const int> fds = {});
  void refuse(const Datagram& request, const ipc::Error& failure);
  void notify(std::string_view method, std::string_view params, std::span<const int> fds = {});
  int borrow() const { return socket_.borrow(); }
  void close() { socket_ = ipc::Fd{}; }

 private:
  Datagram next(const Deadline& deadline);
  ipc::Fd socket_;
  std::vector<Datagram> kept_;
  int next_id_ = 1;
};

}  // namespace kit
