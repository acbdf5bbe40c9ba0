// The floor: what the least possible broker with a helper process costs. A client's datagram goes through the
// broker to the helper, which connects and sends the socket back the same way. No configuration, rules,
// names, deadlines, limits or log, and no answer but success: whatever a real router does comes on top of
// this.
//
//   bench floor PATH [--options 1 | --duties 1] [--spares N] [--helper COMMAND]
//
// Clients send "127.0.0.1:PORT" to the SOCK_SEQPACKET socket PATH. With `options` the helper sets those of a
// handed-over socket. With `duties` both make, beyond that, every system call without which plumberd could
// not do what it promises: a connect that blocks nobody else, the label of the local end, a check of what the
// helper sent, an event line. `helper` is a command for the shell that takes the helper's place: descriptor 3
// is its end of the channel. With `spares` the broker gives away connections that it has made beforehand.
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>

#include "tests/bench/bench.hh"

namespace bench {
namespace {

ipc::Fd receive_fd(int socket, Job& job) {
  iovec part{.iov_base = &job, .iov_len = sizeof job};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  if (must(::recvmsg(socket, &message, MSG_CMSG_CLOEXEC), "recvmsg") == 0) std::exit(0);
  int fd = -1;
  std::memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof fd);
  return ipc::Fd{fd};
}

void set(int fd, int level, int option, int value) {
  must(::setsockopt(fd, level, option, &value, sizeof value), "setsockopt");
}

/// The options that a handed-over socket of plumberd carries.
void set_options(int fd) {
  set(fd, IPPROTO_TCP, TCP_NODELAY, 1);
  set(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
  set(fd, IPPROTO_TCP, TCP_KEEPIDLE, 60);
  set(fd, IPPROTO_TCP, TCP_KEEPINTVL, 10);
  set(fd, IPPROTO_TCP, TCP_KEEPCNT, 6);
}

sockaddr_in address_of(const char* text) {
  const char* colon = std::strrchr(text, ':');
  if (!colon) die("request without a port");
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<std::uint16_t>(std::atoi(colon + 1)));
  ::inet_pton(AF_INET, std::string(text, colon).c_str(), &address.sin_addr);
  return address;
}

ipc::Fd connect_to(const char* text) {
  const auto address = address_of(text);
  ipc::Fd fd{must(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket")};
  must(::connect(fd.borrow(), reinterpret_cast<const sockaddr*>(&address), sizeof address), "connect");
  return fd;
}

/// As a helper with other dials under way has to, and with the local end, which becomes a label.
ipc::Fd connect_dutifully(const char* text) {
  auto address = address_of(text);
  ipc::Fd fd{must(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), "socket")};
  const int status = ::connect(fd.borrow(), reinterpret_cast<const sockaddr*>(&address), sizeof address);
  if (status < 0 && errno != EINPROGRESS) die("connect");
  pollfd state{.fd = fd.borrow(), .events = POLLOUT, .revents = 0};
  must(::poll(&state, 1, -1), "poll");
  socklen_t size = sizeof address;
  must(::getsockname(fd.borrow(), reinterpret_cast<sockaddr*>(&address), &size), "getsockname");
  return fd;
}

/// What a router makes sure of, and sets right, before it hands on what a helper sent; and what it records.
void check_and_record(int fd) {
  int type = 0, off = 0;
  socklen_t size = sizeof type;
  must(::getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size), "getsockopt");
  sockaddr_in peer{};
  size = sizeof peer;
  must(::getpeername(fd, reinterpret_cast<sockaddr*>(&peer), &size), "getpeername");
  must(::ioctl(fd, FIONBIO, &off), "ioctl");
  static constexpr std::string_view line =
      "2000-01-01T00:00:00.000+00:00 allow out service=tcp://127.0.0.1:12345 uid=0 pid=12345 "
      "peer=tcp:127.0.0.1:12345 reason=own path=direct id=12345 generation=1 ms=0.123\n";
  must(::write(STDERR_FILENO, line.data(), line.size()), "write");
}

/// How much the floor does of what plumberd does.
struct Work {
  bool options = false;
  bool duties = false;
  std::size_t spares = 0;
};

void wait_for(int epoll) {
  epoll_event event{};
  must(::epoll_wait(epoll, &event, 1, -1), "epoll_wait");
}

[[noreturn]] void run_helper(int channel, const Work& work) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  const ipc::Fd epoll{must(::epoll_create1(0), "epoll")};
  epoll_event event{.events = EPOLLIN, .data = {}};
  must(::epoll_ctl(epoll.borrow(), EPOLL_CTL_ADD, channel, &event), "epoll_ctl");
  for (Job job;;) {
    if (work.duties) wait_for(epoll.borrow());
    const auto size = must(::recv(channel, &job, sizeof job - 1, 0), "recv");
    if (size == 0) std::exit(0);
    reinterpret_cast<char*>(&job)[size] = '\0';
    const auto fd = work.duties ? connect_dutifully(job.text) : connect_to(job.text);
    if (work.options || work.duties) set_options(fd.borrow());
    send_fd(channel, &job.client, sizeof job.client, fd.borrow());
  }
}

[[noreturn]] void become(const std::string& command, ipc::Fd channel) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (channel.borrow() != job_channel) must(::dup2(channel.borrow(), job_channel), "dup2");
  ::fcntl(job_channel, F_SETFD, 0);
  ::execl("/bin/sh", "sh", "-c", ("exec " + command).c_str(), nullptr);
  die(command);
}

class Broker {
 public:
  Broker(ipc::Fd listener, ipc::Fd helper, const Work& work)
      : listener_{std::move(listener)},
        helper_{std::move(helper)},
        epoll_{must(::epoll_create1(0), "epoll")},
        work_{work} {
    watch(listener_.borrow());
    watch(helper_.borrow());
  }

  [[noreturn]] void run() {
    for (;;) {
      epoll_event ready[64];
      const bool is_full = target_.empty() || spares_.size() >= work_.spares;
      const int count = ::epoll_wait(epoll_.borrow(), ready, 64, is_full ? -1 : breath_ms);
      if (count == 0 || 2 * spares_.size() < work_.spares) top_up();
      for (int i = 0; i < count; ++i) serve(ready[i].data.fd);
    }
  }

 private:
  static constexpr int breath_ms = 3;  ///< the client goes first, as in plumberd

  void top_up() {
    while (!target_.empty() && spares_.size() < work_.spares) spares_.push_back(connect_to(target_.c_str()));
  }

  void watch(int fd) {
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.fd = fd;
    must(::epoll_ctl(epoll_.borrow(), EPOLL_CTL_ADD, fd, &event), "epoll_ctl");
  }

  void serve(int fd) {
    if (fd == listener_.borrow()) {
      watch(must(::accept4(fd, nullptr, nullptr, SOCK_CLOEXEC), "accept"));
    } else if (fd == helper_.borrow()) {
      Job job;
      const auto made = receive_fd(fd, job);
      if (work_.duties) check_and_record(made.borrow());
      send_fd(job.client, "ok", 2, made.borrow());
    } else {
      forward(fd);
    }
  }

  void forward(int client) {
    Job job{.client = client};
    const auto size = ::recv(client, job.text, sizeof job.text, 0);
    if (size <= 0) {
      ::close(client);
      return;
    }
    if (work_.spares > 0) return give_spare(client, {job.text, static_cast<std::size_t>(size)});
    const auto whole = offsetof(Job, text) + static_cast<std::size_t>(size);
    must(::send(helper_.borrow(), &job, whole, MSG_NOSIGNAL), "send");
  }

  void give_spare(int client, std::string_view target) {
    target_ = target;
    if (spares_.empty()) top_up();
    const auto spare = std::move(spares_.front());
    spares_.pop_front();
    pollfd state{.fd = spare.borrow(), .events = POLLIN | POLLRDHUP, .revents = 0};
    if (must(::poll(&state, 1, 0), "poll") != 0) die("a spare connection ended");
    send_fd(client, "ok", 2, spare.borrow());
  }

  ipc::Fd listener_;
  ipc::Fd helper_;
  ipc::Fd epoll_;
  Work work_;
  std::string target_;  ///< where spares lead; all ask for the same
  std::deque<ipc::Fd> spares_;
};

}  // namespace

int floor_main(const std::vector<std::string>& words) {
  const Arguments arguments{words};
  if (arguments.plain.empty()) die("usage: bench floor PATH [--options 1 | --duties 1] [--spares N]");
  const Work work{.options = arguments.number("options", 0) != 0,
                  .duties = arguments.number("duties", 0) != 0,
                  .spares = static_cast<std::size_t>(arguments.number("spares", 0))};
  auto listener = listen_unix(arguments.plain[0], SOCK_SEQPACKET);
  int pair[2];
  must(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), "socketpair");
  ipc::Fd ours{pair[0]};
  ipc::Fd theirs{pair[1]};
  if (must(::fork(), "fork") == 0) {
    ours = {};
    if (const auto command = arguments.text("helper"); !command.empty()) become(command, std::move(theirs));
    run_helper(theirs.borrow(), work);
  }
  theirs = {};
  std::puts("ready");
  std::fflush(stdout);
  Broker{std::move(listener), std::move(ours), work}.run();
}

}  // namespace bench
