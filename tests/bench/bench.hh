// What the parts of the benchmark kit share: clocks, plain sockets, and how to dial in each of the ways
// compared. The kit measures; it is no example of error handling: whatever goes wrong ends the run with a
// message.
#pragma once
#include <sys/types.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "ipc/fd.hh"

namespace bench {

/// Prints "bench: WHAT: strerror(errno)" and exits 1.
[[noreturn]] void die(std::string_view what);
/// `value` unless it is negative, which is the end of the run.
template <class T>
T must(T value, std::string_view what) {
  if (value < 0) die(what);
  return value;
}

std::int64_t now_ns();
/// Binds the calling thread, and those it starts, to one CPU; negative: no binding.
void pin(int cpu);
/// Middle of `values` at fraction `at` (0.5 is the median); 0 for none.
double quantile(std::vector<double> values, double at);

/// CPU time of processes and all their descendants, to the nanosecond: scheduler clocks, threads that ended
/// included, so that nothing hides between two ticks.
class CpuClock {
 public:
  explicit CpuClock(const std::vector<pid_t>& roots);
  /// Sum over all processes found at construction; with `self`, also of the caller.
  std::int64_t read(bool self) const;

 private:
  std::vector<clockid_t> clocks_;
};

/// How a connection is asked for.
struct Way {
  enum class Kind {
    tcp,      ///< connect(2) to 127.0.0.1:ADDRESS
    unix,     ///< connect(2) to the UNIX stream socket ADDRESS (a relay's front)
    session,  ///< one SOCK_SEQPACKET session with the broker at ADDRESS per dial: REQUEST out, fd in
    udp,      ///< a UDP socket connected to 127.0.0.1:ADDRESS
    apart,    ///< the same, the i-th to the i-th address from 127.1.0.0 on
    kept      ///< the same over one session that stays open
  };
  Kind kind = Kind::tcp;
  std::string address;
  std::string request;
};

/// Parses `KIND ADDRESS [REQUEST]` from the words of a command line.
Way way_from(const std::vector<std::string>& words);

/// One client that dials in one way; a kept session lives as long as it.
class Dialler {
 public:
  explicit Dialler(Way way);
  /// A connected, blocking socket, owned by the caller.
  ipc::Fd dial();
  /// So many; over a kept session all of them are under way at once.
  std::vector<ipc::Fd> dial(std::size_t count);

 private:
  ipc::Fd ask(int session);
  void put(int session);
  ipc::Fd take(int session);

  Way way_;
  ipc::Fd session_;
  int next_id_ = 1;  ///< requests under way need ids of their own
  std::uint32_t dialled_ = 0;
};

/// The first address of the way `apart`.
constexpr std::uint32_t first_apart = 0x7f010000;

/// Stream listener on 127.0.0.1, any port; what it accepts closes by reset, so that no run leaves TIME_WAIT
/// for the next one, unless `resets` is false.
ipc::Fd listen_tcp(std::uint16_t* port, bool resets = true);
/// AF_UNIX listener of `type` at `path`; an older socket there is replaced.
ipc::Fd listen_unix(const std::string& path, int type);

/// One byte out, one back: shows that the far end, not only a relay in front of it, is there. Returns what it
/// said.
char ping(int socket);
void write_all(int socket, const void* bytes, std::size_t size);
void read_all(int socket, void* bytes, std::size_t size);

/// First bytes of a connection to the far end: what is to be done on it.
struct Order {
  char what =
      'e';  ///< 'e': echo (a single byte, the rest of the order is not sent); 'u': upload, 'd': download
  char unused[3] = {};
  std::uint32_t chunk = 0;  ///< bytes per write
  std::uint64_t total = 0;  ///< bytes in all
};

/// What travels from the bare broker to its helper: whose request it is, then its text. The answer is the
/// first half, with the socket.
struct Job {
  int client = -1;
  char text[256] = {};
};
/// Where a helper that is a program of its own finds its end of the channel.
constexpr int job_channel = 3;
/// One datagram and, unless negative, one descriptor.
void send_fd(int socket, const void* bytes, std::size_t size, int fd);

// The kit's subcommands; `words` are their arguments.
int far_main(const std::vector<std::string>& words);
int floor_main(const std::vector<std::string>& words);
int dial_main(const std::vector<std::string>& words);
int bulk_main(const std::vector<std::string>& words);
int after_main(const std::vector<std::string>& words);
int idle_main(const std::vector<std::string>& words);
int udpfar_main(const std::vector<std::string>& words);
int udp_main(const std::vector<std::string>& words);

/// `--key value` pairs and plain words of a command line.
struct Arguments {
  explicit Arguments(const std::vector<std::string>& words);
  std::int64_t number(const std::string& key, std::int64_t otherwise) const;
  std::string text(const std::string& key) const;
  /// `--key 12,34` as process ids.
  std::vector<pid_t> pids(const std::string& key) const;

  std::vector<std::pair<std::string, std::string>> options;
  std::vector<std::string> plain;
};

}  // namespace bench
