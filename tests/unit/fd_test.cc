// Descriptors that strangers send: whoever does not want them is not held up by them.
#include "ipc/fd.hh"

#include <criterion/criterion.h>

#include <cerrno>
#include <cstring>

#include "tests/e2e/kit.hh"

using namespace ipc;
using namespace std::chrono_literals;

namespace {
/// sendmsg(2) of as many descriptors as the kernel takes.
void send_fds(const Fd& socket, std::string_view bytes, std::span<const int> fds, int flags = 0) {
  alignas(cmsghdr) std::array<char, fds_room> control{};
  iovec part{const_cast<char*>(bytes.data()), bytes.size()};
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  header.msg_control = control.data();
  header.msg_controllen = CMSG_SPACE(fds.size_bytes());
  auto* rights = CMSG_FIRSTHDR(&header);
  rights->cmsg_level = SOL_SOCKET;
  rights->cmsg_type = SCM_RIGHTS;
  rights->cmsg_len = CMSG_LEN(fds.size_bytes());
  std::memcpy(CMSG_DATA(rights), fds.data(), fds.size_bytes());
  cr_assert_eq(::sendmsg(socket.borrow(), &header, MSG_NOSIGNAL | flags), static_cast<ssize_t>(bytes.size()));
}

/// A message whose last descriptor, of `count`, takes 30 s to close.
void send_trouble(const Fd& socket, std::string_view bytes, std::size_t count) {
  static const auto listener = kit::listen_tcp();
  const auto last = kit::lingering(listener);
  std::vector<int> fds(count, socket.borrow());
  fds.back() = last.borrow();
  send_fds(socket, bytes, fds);
}

/// The same with an urgent byte, which MSG_PEEK does not see, and within a socket within the message.
void send_hidden_trouble(const Fd& socket) {
  static const auto listener = kit::listen_tcp();
  const auto last = kit::lingering(listener);
  const int raw = last.borrow();
  send_fds(socket, "!", {&raw, 1}, MSG_OOB);
  const auto [inner, outer] = kit::must(socket_pair(SOCK_STREAM));
  send_trouble(outer, "x", 1);
  const int nested = inner.borrow();
  send_fds(socket, "x", {&nested, 1});
}

std::pair<Fd, Fd> pair(int type) { return kit::must(socket_pair(type)); }
constexpr std::size_t most = 253;
}  // namespace

Test(fd, a_reader_of_bytes_does_not_wait_for_descriptors_that_come_along) {
  const kit::Deadline soon{10s};
  for (const std::size_t count : {std::size_t{1}, most}) {
    const auto [ours, theirs] = pair(SOCK_STREAM);
    send_trouble(theirs, "ab", count);
    std::array<char, 10> buffer;
    iovec part{buffer.data(), buffer.size()};
    bool had_fds = false;
    cr_assert_eq(receive_bytes(ours.borrow(), {&part, 1}, MSG_PEEK, &had_fds), 2);
    cr_assert(had_fds);
    cr_assert_eq(receive_bytes(ours.borrow(), buffer), 2);
  }
  cr_assert(!soon.passed());
}

Test(fd, a_message_with_too_many_descriptors_is_refused_without_waiting) {
  const kit::Deadline soon{10s};
  const auto [ours, theirs] = pair(SOCK_SEQPACKET);
  std::array<char, 10> buffer;
  for (const std::size_t count : {max_fds + 1, most}) {
    send_trouble(theirs, "a", count);
    cr_assert_eq(receive_with_fds(ours.borrow(), buffer).error().word, Word::bad_request);
    send_trouble(theirs, "a", count);
    cr_assert_eq(receive_without_fds(ours.borrow(), buffer).error().word, Word::bad_request);
  }
  cr_assert(!soon.passed());
}

Test(fd, a_strangers_socket_closes_without_waiting_for_what_lies_unread_in_it) {
  const kit::Deadline soon{10s};
  for (const int type : {SOCK_STREAM, SOCK_SEQPACKET}) {
    auto [ours, theirs] = pair(type);
    if (type == SOCK_SEQPACKET) cr_assert_eq(::send(theirs.borrow(), "", 0, 0), 0);  // an end it is not
    for (const std::size_t count : {std::size_t{1}, std::size_t{2}, most})
      send_trouble(theirs, std::string(20'000, 'x'), count);
    const StrangerFd closed{std::move(ours), type};
  }
  cr_assert(!soon.passed());
}

Test(fd, nobody_waits_for_descriptors_behind_urgent_bytes_and_within_other_sockets) {
  const kit::Deadline soon{10s};
  {
    auto [ours, theirs] = pair(SOCK_STREAM);
    send_hidden_trouble(theirs);
    const StrangerFd closed{std::move(ours), SOCK_STREAM};
  }
  const auto [ours, theirs] = pair(SOCK_STREAM);
  take_urgent_inline(ours.borrow());
  send_hidden_trouble(theirs);
  std::array<char, 10> buffer;
  std::size_t got = 0;
  while (got < 2) got += static_cast<std::size_t>(receive_bytes(ours.borrow(), buffer));
  cr_assert(!soon.passed());
}

Test(fd, a_strangers_socket_that_closes_with_unread_bytes_is_a_reset_for_it) {
  auto [ours, theirs] = pair(SOCK_STREAM);
  kit::send_all(theirs.borrow(), "unread");
  { const StrangerFd closed{std::move(ours), SOCK_STREAM}; }
  kit::must(set_blocking(theirs.borrow(), true));
  char byte = 0;
  cr_assert(::recv(theirs.borrow(), &byte, 1, 0) < 0 && errno == ECONNRESET);
}

Test(fd, a_socket_that_is_given_on_is_as_it_was) {
  auto [ours, theirs] = pair(SOCK_STREAM);
  kit::send_all(theirs.borrow(), "first");
  const auto given = StrangerFd{std::move(ours), SOCK_STREAM}.take();
  kit::send_all(theirs.borrow(), "second");
  cr_assert_eq(kit::receive_exactly(given.borrow(), 11), "firstsecond");
}
