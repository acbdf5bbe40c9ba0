#include "tests/e2e/hostile.hh"

#include <criterion/criterion.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <sstream>

namespace kit {
namespace {
double cpu_of(pid_t pid) {
  std::istringstream text{read_file("/proc/" + std::to_string(pid) + "/schedstat")};
  double nanoseconds = 0;
  text >> nanoseconds;
  return nanoseconds / 1e6;
}
}  // namespace

Vitals vitals_of(pid_t pid) {
  std::istringstream text{read_file("/proc/" + std::to_string(pid) + "/statm")};
  std::size_t all = 0, resident = 0;
  text >> all >> resident;
  return {.fds = open_fds(pid), .memory_kib = resident * 4};
}

double cpu_while(pid_t pid, Milliseconds span) {
  const double before = cpu_of(pid);
  ::poll(nullptr, 0, static_cast<int>(span.count()));
  return cpu_of(pid) - before;
}

void limit_descriptors(pid_t pid, std::size_t limit) {
  rlimit now{};
  if (::prlimit(pid, RLIMIT_NOFILE, nullptr, &now) != 0) give_up("prlimit: " + ipc::errno_text(errno));
  now.rlim_cur = limit;
  if (::prlimit(pid, RLIMIT_NOFILE, &now, nullptr) != 0) give_up("prlimit: " + ipc::errno_text(errno));
}

void leave_no_descriptors(pid_t pid) {
  std::size_t lowest = 0;
  const auto is_open = [pid](std::size_t number) {
    struct stat status {};
    const auto path = "/proc/" + std::to_string(pid) + "/fd/" + std::to_string(number);
    return ::lstat(path.c_str(), &status) == 0;
  };
  while (is_open(lowest)) ++lowest;
  limit_descriptors(pid, lowest);
}

void free_memory_at_once() {
  const char* given = std::getenv("ASAN_OPTIONS");
  const auto options = std::string(given != nullptr ? given : "") + ":quarantine_size_mb=1";
  ::setenv("ASAN_OPTIONS", options.c_str(), 1);
}

int send_with_copies(int socket, std::string_view bytes, int fd, std::size_t copies) {
  std::vector<char> control(CMSG_SPACE(copies * sizeof(int)));
  iovec part{const_cast<char*>(bytes.data()), bytes.size()};
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  header.msg_control = control.data();
  header.msg_controllen = control.size();
  cmsghdr* rights = CMSG_FIRSTHDR(&header);
  rights->cmsg_level = SOL_SOCKET;
  rights->cmsg_type = SCM_RIGHTS;
  rights->cmsg_len = CMSG_LEN(copies * sizeof(int));
  for (std::size_t i = 0; i < copies; ++i) std::memcpy(CMSG_DATA(rights) + i * sizeof(int), &fd, sizeof fd);
  return ::sendmsg(socket, &header, MSG_NOSIGNAL) >= 0 ? 0 : errno;
}

void expect_well(const Host& host, std::size_t fds_before) {
  const pid_t pid = host.router_pid();
  {
    auto door = host.door();
    cr_assert_eq(door.call("ping", "{}").word(), "");
  }
  cr_assert(eventually([&] { return open_fds(pid) <= fds_before; }), "descriptors: %zu before, %zu now",
            fds_before, open_fds(pid));
  const double cpu = cpu_while(pid, 300ms);
  cr_assert_lt(cpu, 30.0, "an idle router took %.1f ms of CPU in 300 ms", cpu);
}

std::size_t warmed_up(const Host& host) {
  const TcpServer server{pong};
  auto door = host.door();
  const auto uri = R"({"uri":"tcp://127.0.0.1:)" + std::to_string(server.port()) + R"("})";
  cr_assert(door.call("connect", uri).take_fd());
  door.close();
  const pid_t pid = host.router_pid();
  std::size_t last = 0;
  // The session's end is seen a turn of the loop later.
  eventually([&] { return std::exchange(last, open_fds(pid)) == open_fds(pid) && host.sessions() <= 1; });
  return open_fds(pid);
}
}  // namespace kit
