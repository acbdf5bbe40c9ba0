// What tests of bad input share: the vital signs of a daemon, and messages that no library of ours would
// send.
#pragma once
#include <span>
#include <string>
#include <string_view>

#include "tests/e2e/host.hh"

namespace kit {

/// What a process holds at this moment.
struct Vitals {
  std::size_t fds = 0;
  std::size_t memory_kib = 0;  ///< resident
};
Vitals vitals_of(pid_t pid);
/// CPU time that the main thread of `pid` takes while `span` passes, in milliseconds.
double cpu_while(pid_t pid, Milliseconds span);
/// The soft RLIMIT_NOFILE of a running process.
void limit_descriptors(pid_t pid, std::size_t limit);
/// The same, so that it cannot open another one.
void leave_no_descriptors(pid_t pid);
/// A sanitizer keeps freed memory for a while; programs started from now on keep little, so that it can be
/// measured.
void free_memory_at_once();

/// One sendmsg(2) of `bytes` with any number of copies of `fd`; 0 or errno.
int send_with_copies(int socket, std::string_view bytes, int fd, std::size_t copies);

/// Fails the test unless the router answers, holds no more descriptors than `before`, and rests.
void expect_well(const Host& host, std::size_t fds_before);
/// `tcpd` runs (one dial was made); the router's descriptors at rest.
std::size_t warmed_up(const Host& host);

/// A TCP server for one behaviour: takes connections and says nothing.
inline void silent(int socket) { receive_all(socket); }

}  // namespace kit
