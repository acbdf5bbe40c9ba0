// plumb serve: a program for each connection.
#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>

#include "ipc/name.hh"
#include "ipc/service.hh"
#include "plumb/output.hh"
#include "plumb/program.hh"
#include "plumb/relay.hh"

namespace plumb {
namespace {
/// The signals that the loop hears through a descriptor instead.
ipc::Result<ipc::Fd> hear_signals() {
  ::signal(SIGCHLD, SIG_DFL);  // whoever started us may have had it ignored, and children would vanish
  sigset_t heard;
  ::sigemptyset(&heard);
  for (const int number : {SIGCHLD, SIGTERM, SIGINT}) ::sigaddset(&heard, number);
  if (::sigprocmask(SIG_BLOCK, &heard, nullptr) != 0) return ipc::fail_errno("sigprocmask");
  ipc::Fd signals{::signalfd(-1, &heard, SFD_CLOEXEC | SFD_NONBLOCK)};
  if (!signals) return ipc::fail_errno("signalfd");
  return signals;
}

/// True when it is time to end.
bool is_ending(const ipc::Fd& signals) {
  signalfd_siginfo news{};
  bool ending = false;
  while (::read(signals.borrow(), &news, sizeof news) == sizeof news)
    ending = ending || news.ssi_signo == SIGTERM || news.ssi_signo == SIGINT;
  return ending;
}

class Server {
 public:
  Server(const Request& request, ipc::Service service, ipc::Fd signals)
      : request_{request}, service_{std::move(service)}, signals_{std::move(signals)} {}

  /// Until SIGTERM or SIGINT; programs that run go on.
  int run() {
    for (;;) {
      const bool has_room = children_ < request_.max_children;
      const bool is_heard = has_room || may_warn();
      std::array<pollfd, 2> ready{
          {{signals_.borrow(), POLLIN, 0}, {is_heard ? service_.pollable() : -1, POLLIN, 0}}};
      if (::poll(ready.data(), ready.size(), -1) < 0) continue;
      if (ready[0].revents != 0 && is_ending(signals_)) return 0;
      reap();
      if (ready[1].revents == 0) continue;
      if (has_room)
        take_one();
      else
        warn();
    }
  }

 private:
  void reap() {
    while (::waitpid(-1, nullptr, WNOHANG) > 0) --children_;
  }

  bool may_warn() const { return std::chrono::steady_clock::now() >= next_warning_; }

  /// Somebody waits, perhaps for ever.
  void warn() {
    constexpr std::chrono::minutes pause{1};
    next_warning_ = std::chrono::steady_clock::now() + pause;
    complain(
        "all " + std::to_string(children_) + " programs of " + request_.subject +
        " are busy, further connections wait; --max allows more, and --idle ends those sooner that serve "
        "datagrams");
  }

  void take_one() {
    auto caller = service_.accept(ipc::Milliseconds{0});
    if (caller) return start(std::move(*caller));
    if (caller.error().word != ipc::Word::timeout)
      complain(std::string(to_string(caller.error().word)) + ": " + ipc::printable(caller.error().text));
  }

  /// In the child nothing is left but the connection: all else closes on exec.
  void start(ipc::Caller caller) {
    const pid_t child = ::fork();
    if (child < 0) return complain("fork: " + ipc::errno_text(errno));
    if (child > 0) {
      ++children_;
      return;
    }
    if (!caller.first.empty() || (request_.idle_limit().count() > 0 && is_datagram(caller.fd.borrow())))
      caller.fd = behind_relay(std::move(caller.fd), caller.first, request_.idle_limit());
    ::_exit(become(request_.program, environment_for(caller.labels, {"PLUMB_SERVICE=" + request_.subject}),
                   caller.fd.borrow()));
  }

  const Request& request_;
  ipc::Service service_;
  ipc::Fd signals_;
  int children_ = 0;
  std::chrono::steady_clock::time_point next_warning_{};
};
}  // namespace

int run_serve(const Request& request) {
  auto signals = hear_signals();
  if (!signals) return fail_with(request, signals.error());
  auto service = ipc::Service::serve(request.subject, {.rundir = request.rundir, .shared = request.shared});
  if (!service) return fail_with(request, service.error());
  if (request.json)
    put_line("{\"service\":\"" + request.subject + "\",\"state\":\"serving\"}");
  else
    complain("serving " + request.subject);
  return Server{request, std::move(*service), std::move(*signals)}.run();
}
}  // namespace plumb
