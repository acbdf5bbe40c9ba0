// The process around a helper: who started it, its limits and signals.
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <charconv>
#include <csignal>
#include <cstdio>
#include <cstdlib>

#include <fcntl.h>

#include "ipc/helper.hh"
#include "ipc/resolve.hh"

namespace ipc {
namespace {
constexpr const char* variable = "PLUMBERD_HELPER_FD";

void say(std::FILE* to, std::string_view text) { std::fwrite(text.data(), 1, text.size(), to); }

std::string schemes_of(const Scheme& scheme) {
  std::string text;
  for (const auto& name : scheme.schemes()) text += (text.empty() ? "" : ", ") + name;
  return text;
}

int usage(std::FILE* to, std::string_view name, std::string_view about, const Scheme& scheme) {
  std::string text = std::string(name) + ": " + std::string(about) + "\n\n";
  text += "plumberd starts this helper for URIs of the scheme " + schemes_of(scheme) +
          " and talks to it over the\n";
  text += std::string("SOCK_SEQPACKET socket whose number is in ") + variable +
          " (protocol.md, section 4, in share/doc/plumberd).\n";
  text += "It takes no arguments but --help and --version; settings come from plumberd.\n\n";
  text += "To make a connection by hand, run plumberd and ask it: plumb connect " + scheme.schemes().front() +
          "://HOST:PORT\n";
  say(to, text);
  return to == stdout ? 0 : exit_usage;
}

/// The channel that the router left us, or what is wrong with it.
Result<Fd> inherited_channel() {
  const char* text = ::secure_getenv(variable);
  if (text == nullptr) return fail(Word::bad_request, std::string(variable) + " is not set");
  const std::string_view digits{text};
  int number = -1;
  const auto [end, bad] = std::from_chars(digits.data(), digits.data() + digits.size(), number);
  if (bad != std::errc{} || end != digits.data() + digits.size() || number < 0)
    return fail(Word::bad_request, std::string(variable) + " is no descriptor number");
  if (domain_of(number) != AF_UNIX || type_of(number) != SOCK_SEQPACKET)
    return fail(Word::bad_request, std::string(variable) + " names no SOCK_SEQPACKET UNIX socket");
  ::fcntl(number, F_SETFD, FD_CLOEXEC);
  ::unsetenv(variable);
  return Fd{number};
}

void raise_descriptor_limit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
}

/// libuv resolves at most half as many names at once as it has threads, four by default: two dead name
/// servers would stop everybody. The threads come with the first name.
void allow_many_resolutions() { ::setenv("UV_THREADPOOL_SIZE", "128", 0); }

int serve(Fd channel, Scheme& scheme) {
  raise_descriptor_limit();
  allow_many_resolutions();
  std::signal(SIGPIPE, SIG_IGN);
  // The terminal's signals reach us with the router: what it does about them we learn from the channel.
  std::signal(SIGINT, SIG_IGN);
  std::signal(SIGHUP, SIG_IGN);
  Loop loop;
  {
    Helper helper{loop, std::move(channel), scheme};
    Signal terminate{loop, SIGTERM, [&] { helper.end(); }};
    loop.run();
  }
  // A resolver that still waits for its server would hold the process for its whole timeout.
  if (Resolution::under_way() > 0) ::_exit(0);
  return 0;
}
}  // namespace

int helper_main(int argc, char** argv, std::string_view about, Scheme& scheme) {
  const std::string_view path{argc > 0 ? argv[0] : "helper"};
  const auto name = path.substr(path.rfind('/') + 1);
  const std::string_view option{argc > 1 ? argv[1] : ""};
  if (option == "--help" || option == "-h") return usage(stdout, name, about, scheme);
  if (option == "--version") {
    say(stdout, std::string(name) + " " + PLUMBERD_VERSION + "\n");
    return 0;
  }
  if (argc > 1) {
    say(stderr, std::string(name) + ": no such argument: " + std::string(option) + "\n\n");
    return usage(stderr, name, about, scheme);
  }
  auto channel = inherited_channel();
  if (channel) return serve(std::move(*channel), scheme);
  say(stderr, std::string(name) + ": " + channel.error().text + "\n\n");
  return usage(stderr, name, about, scheme);
}
}  // namespace ipc
