// Messages on sockets: every fragmentation, datagrams, limits, deadlines.
#include "ipc/message.hh"

#include <criterion/criterion.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <thread>

using namespace std::chrono_literals;
using ipc::Fd;
using ipc::Message;
using ipc::MessageSocket;

namespace {
std::pair<Fd, Fd> pair_of(int type) {
  int raw[2];
  cr_assert_eq(::socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, raw), 0);
  return {Fd{raw[0]}, Fd{raw[1]}};
}

void put(const Fd& socket, std::string_view bytes) {
  cr_assert_eq(::send(socket.borrow(), bytes.data(), bytes.size(), MSG_NOSIGNAL),
               static_cast<ssize_t>(bytes.size()));
}

std::string_view operator""_bytes(const char* text, std::size_t size) { return {text, size}; }

std::pair<Fd, Fd> udp_pair() {
  std::array<Fd, 2> ends{Fd{::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)},
                         Fd{::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)}};
  std::array<sockaddr_in, 2> names{};
  for (std::size_t i = 0; i < 2; ++i) {
    names[i].sin_family = AF_INET;
    names[i].sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof names[i];
    auto* name = reinterpret_cast<sockaddr*>(&names[i]);
    cr_assert_eq(::bind(ends[i].borrow(), name, size), 0);
    cr_assert_eq(::getsockname(ends[i].borrow(), name, &size), 0);
  }
  for (std::size_t i = 0; i < 2; ++i)
    cr_assert_eq(::connect(ends[i].borrow(), reinterpret_cast<sockaddr*>(&names[1 - i]), sizeof names[0]), 0);
  return {std::move(ends[0]), std::move(ends[1])};
}
}  // namespace

Test(message, goes_over_a_stream_as_the_documented_bytes) {
  auto [ours, theirs] = pair_of(SOCK_STREAM);
  MessageSocket socket{std::move(ours)};
  cr_assert(socket.send(Message{.user_type = 42, .payload = std::string("hello\0"_bytes)}));
  std::array<char, 64> seen{};
  cr_assert_eq(::read(theirs.borrow(), seen.data(), seen.size()), 12);
  cr_assert_eq(std::string_view(seen.data(), 12), "\x02\x00\x00\x00\x06\x2ahello\0"_bytes);
}

Test(message, split_after_each_byte_is_put_together) {
  auto [ours, theirs] = pair_of(SOCK_STREAM);
  MessageSocket socket{std::move(ours)};
  for (const char byte :
       "\x02\x00\x00\x00\x03\x07"
       "abc"_bytes) {
    cr_assert_not(socket.has_message());
    if (byte == 'c') break;
    put(theirs, {&byte, 1});
    cr_assert_eq(socket.receive(0ms).error().word, ipc::Word::timeout);
  }
  put(theirs, "c");
  const auto message = socket.receive(1s);
  cr_assert(message && *message);
  cr_assert_eq((*message)->user_type, 7);
  cr_assert_eq((*message)->payload, "abc");
}

Test(message, merged_ones_come_one_by_one_and_then_the_end) {
  auto [ours, theirs] = pair_of(SOCK_STREAM);
  MessageSocket socket{std::move(ours)};
  put(theirs, "\x02\0\0\0\x01\0a\x02\0\0\0\0\0\xc8\0\0\0\x02\xc9zz"_bytes);
  ::shutdown(theirs.borrow(), SHUT_WR);
  cr_assert_eq((*socket.receive(1s))->payload, "a");
  cr_assert(socket.has_message());
  cr_assert_eq((*socket.receive(1s))->payload, "");
  const auto third = (*socket.receive(1s)).value_or(Message{});
  cr_assert_eq(third.type, 200);
  cr_assert_eq(third.user_type, 201);
  cr_assert_not(*socket.receive(1s));
}

Test(message, a_stream_that_ends_within_one_says_so) {
  auto [ours, theirs] = pair_of(SOCK_STREAM);
  MessageSocket socket{std::move(ours)};
  put(theirs, "\x02\0\0\0\x09\0abc"_bytes);
  theirs = Fd{};
  cr_assert_eq(socket.receive(1s).error().word, ipc::Word::bad_request);
  cr_assert_eq(socket.receive(1s).error().word, ipc::Word::bad_request);
}

Test(message, an_announced_length_beyond_the_bound_ends_the_stream_after_what_was_good) {
  auto [ours, theirs] = pair_of(SOCK_STREAM);
  MessageSocket socket{std::move(ours), 10};
  put(theirs, "\x02\0\0\0\x01\0a\x02\x7f\xff\xff\xff\0"_bytes);
  cr_assert_eq((*socket.receive(1s))->payload, "a");
  cr_assert_eq(socket.receive(1s).error().word, ipc::Word::bad_request);
}

Test(message, megabytes_cross_a_socket_whose_buffer_is_smaller) {
  auto [ours, theirs] = pair_of(SOCK_STREAM);
  const std::string large(1'999'994, 'x');
  std::jthread sender{[&large, end = std::move(ours)]() mutable {
    MessageSocket socket{std::move(end)};
    cr_assert(socket.send(Message{.payload = large}));
  }};
  MessageSocket socket{std::move(theirs)};
  const auto message = socket.receive(20s);
  cr_assert(message && *message);
  cr_assert((*message)->payload == large);
}

Test(message, a_reader_that_never_reads_costs_a_timeout_and_then_the_stream) {
  auto [ours, theirs] = pair_of(SOCK_STREAM);
  MessageSocket socket{std::move(ours)};
  const Message large{.payload = std::string(1'000'000, 'x')};
  cr_assert_eq(socket.send(large, 20ms).error().word, ipc::Word::timeout);
  cr_assert_eq(socket.send(Message{}, 20ms).error().word, ipc::Word::timeout);
}

Test(message, to_a_closed_end_is_unreachable_without_a_signal) {
  auto [ours, theirs] = pair_of(SOCK_STREAM);
  theirs = Fd{};
  MessageSocket socket{std::move(ours)};
  cr_assert_eq(socket.send(Message{}).error().word, ipc::Word::unreachable);
}

Test(message, is_one_datagram_on_udp_and_too_large_names_the_limit) {
  auto [ours, theirs] = udp_pair();
  MessageSocket left{std::move(ours)};
  MessageSocket right{std::move(theirs)};
  cr_assert_eq(left.limit(), 65'501);
  cr_assert(left.send(Message{.user_type = 3, .payload = std::string(9000, 'u')}));
  cr_assert_eq((*right.receive(5s))->payload.size(), 9000);
  const auto refused = left.send(Message{.payload = std::string(65'502, 'u')});
  cr_assert_eq(refused.error().word, ipc::Word::bad_request);
  cr_assert(refused.error().text.find("65501") != std::string::npos);
}

Test(message, datagrams_that_are_none_are_refused_and_the_next_is_taken) {
  auto [ours, theirs] = udp_pair();
  MessageSocket socket{std::move(ours)};
  for (const auto bad :
       {""_bytes, "\x02\0"_bytes, "\x02\0\0\0\x04\0abc"_bytes, "\x02\0\0\0\x02\0abc"_bytes}) {
    put(theirs, bad);
    cr_assert_eq(socket.receive(5s).error().word, ipc::Word::bad_request);
  }
  put(theirs, "\x02\0\0\0\x03\0abc"_bytes);
  cr_assert_eq((*socket.receive(5s))->payload, "abc");
}

Test(message, seqpacket_ends_where_the_connection_ends) {
  auto [ours, theirs] = pair_of(SOCK_SEQPACKET);
  MessageSocket left{std::move(ours)};
  {
    MessageSocket right{std::move(theirs)};
    cr_assert(right.send(Message{.payload = std::string(100'000, 's')}));
  }
  cr_assert_eq((*left.receive(1s))->payload.size(), 100'000);
  cr_assert_not(*left.receive(1s));
}

Test(message, to_a_udp_port_that_nobody_has_is_unreachable_on_either_call) {
  auto [ours, theirs] = udp_pair();
  theirs = Fd{};
  MessageSocket socket{std::move(ours)};
  cr_assert(socket.send(Message{}));
  cr_assert_eq(socket.receive(5s).error().word, ipc::Word::unreachable);
}
