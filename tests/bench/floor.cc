// The floor: what the least possible broker with a helper process costs. A client's datagram goes through the
// broker to the helper, which connects and sends the socket back the same way. No configuration, rules,
// names, deadlines, limits or log, and no answer but success: whatever a real router does comes on top of
// this.
//
//   bench floor PATH [--options 1]     clients send "127.0.0.1:PORT" to the SOCK_SEQPACKET socket PATH
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "tests/bench/bench.hh"

namespace bench {
namespace {

/// What travels between broker and helper: whose request it is, then its text.
struct Job {
  int client = -1;
  char text[256] = {};
};

/// One datagram and, unless negative, one descriptor.
void send_fd(int socket, const void* bytes, std::size_t size, int fd) {
  iovec part{.iov_base = const_cast<void*>(bytes), .iov_len = size};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof fd)] = {};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  auto* header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof fd);
  std::memcpy(CMSG_DATA(header), &fd, sizeof fd);
  must(::sendmsg(socket, &message, MSG_NOSIGNAL), "sendmsg");
}

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

ipc::Fd connect_to(char* text) {
  char* colon = std::strrchr(text, ':');
  if (!colon) die("request without a port");
  *colon = '\0';
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<std::uint16_t>(std::atoi(colon + 1)));
  ::inet_pton(AF_INET, text, &address.sin_addr);
  ipc::Fd fd{must(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket")};
  must(::connect(fd.borrow(), reinterpret_cast<const sockaddr*>(&address), sizeof address), "connect");
  return fd;
}

[[noreturn]] void run_helper(int channel, bool with_options) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  for (Job job;;) {
    const auto size = must(::recv(channel, &job, sizeof job - 1, 0), "recv");
    if (size == 0) std::exit(0);
    reinterpret_cast<char*>(&job)[size] = '\0';
    const auto fd = connect_to(job.text);
    if (with_options) set_options(fd.borrow());
    send_fd(channel, &job.client, sizeof job.client, fd.borrow());
  }
}

class Broker {
 public:
  Broker(ipc::Fd listener, ipc::Fd helper)
      : listener_{std::move(listener)},
        helper_{std::move(helper)},
        epoll_{must(::epoll_create1(0), "epoll")} {
    watch(listener_.borrow());
    watch(helper_.borrow());
  }

  [[noreturn]] void run() {
    for (;;) {
      epoll_event ready[64];
      const int count = ::epoll_wait(epoll_.borrow(), ready, 64, -1);
      for (int i = 0; i < count; ++i) serve(ready[i].data.fd);
    }
  }

 private:
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
    const auto whole = offsetof(Job, text) + static_cast<std::size_t>(size);
    must(::send(helper_.borrow(), &job, whole, MSG_NOSIGNAL), "send");
  }

  ipc::Fd listener_;
  ipc::Fd helper_;
  ipc::Fd epoll_;
};

}  // namespace

int floor_main(const std::vector<std::string>& words) {
  const Arguments arguments{words};
  if (arguments.plain.empty()) die("usage: bench floor PATH [--options 1]");
  auto listener = listen_unix(arguments.plain[0], SOCK_SEQPACKET);
  int pair[2];
  must(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), "socketpair");
  ipc::Fd ours{pair[0]};
  ipc::Fd theirs{pair[1]};
  if (must(::fork(), "fork") == 0) {
    ours = {};
    run_helper(theirs.borrow(), arguments.number("options", 0) != 0);
  }
  theirs = {};
  std::puts("ready");
  std::fflush(stdout);
  Broker{std::move(listener), std::move(ours)}.run();
}

}  // namespace bench
