// The lookup doors, spoken to as existing libipc programs do: one recv(2) is one message, the descriptor
// comes behind.
#include <criterion/criterion.h>
#include <sys/socket.h>

#include "ipc/frame.hh"
#include "tests/e2e/host.hh"

using ipc::Framing;
using kit::Host;
using kit::Offer;

namespace {
struct Answer {
  std::string text;  ///< of the first recv, whole
  ipc::Fd fd;
};

/// The steps of a 0.7 client: one recv of everything that is there, then, if it was two bytes long, recvmsg
/// of one byte with descriptors.
Answer look_up_07(const std::string& door, std::string_view payload) {
  const auto socket = kit::connect_unix(door);
  kit::send_all(socket.borrow(), ipc::frame_07(ipc::FrameType::lookup, 3, payload));
  std::string buffer(2'000'000, '\0');
  const auto size = ::recv(socket.borrow(), buffer.data(), buffer.size(), 0);
  cr_assert_geq(size, 0);
  Answer answer{.text = buffer.substr(0, static_cast<std::size_t>(size))};
  if (size != 8) return answer;
  cr_assert(kit::is_readable(socket.borrow()));
  std::array<char, 1> byte;
  auto received = kit::must(ipc::receive_with_fds(socket.borrow(), byte));
  cr_assert_eq(received.size, 1U);
  cr_assert_eq(received.fds.size(), 1U, "OK without a descriptor crashes the client");
  answer.fd = std::move(received.fds[0]);
  return answer;
}

bool is_error_text(const std::string& text) { return text.size() > 8 && text[0] == 1 && text.back() == '\0'; }
}  // namespace

Test(lookup_07, gives_ok_and_then_the_descriptor_never_both_in_one_read) {
  Host host;
  Offer offer{host, "pong"};
  for (int i = 0; i < 200; ++i) {
    const auto answer = look_up_07(host / "network", "pong;pong unix:///pong");
    cr_assert_eq(answer.text, ipc::frame_07(ipc::FrameType::lookup, 3, "ok"));
    const auto accepted = offer.accept();
    kit::expect_joined(answer.fd.borrow(), accepted.first.borrow());
  }
}

Test(lookup_07, without_an_entry_for_the_name_is_routed_like_any_other) {
  Host host;
  Offer offer{host, "pong"};
  cr_assert(look_up_07(host / "network", "pong;audio tcp://127.0.0.1:9/audio").fd);
  cr_assert(is_error_text(look_up_07(host / "network", "pongo;pong unix:///pong").text));
}

Test(lookup_07, that_is_denied_gets_a_socket_that_is_closed_already) {
  Host host{{"--deny", "out", "pong", "*"}};
  const auto answer = look_up_07(host / "network", "pong;pong tcp://127.0.0.1:9/pong");
  cr_assert(answer.fd, "an error would send the client to a local service");
  char byte;
  cr_assert_eq(::recv(answer.fd.borrow(), &byte, 1, 0), 0);
}

Test(lookup_07, errors_are_texts_that_end_with_a_nul) {
  Host host;
  for (const auto* payload : {"", ";", "pong", "../x;", "pong;pong tcp://127.0.0.1:1/pong", "pong;pong",
                              "network;network unix:///pong"})
    cr_assert(is_error_text(look_up_07(host / "network", payload).text), "%s", payload);
}

Test(lookup_07, across_a_network_keeps_messages_apart) {
  Host far{{"--listen", "tcp://127.0.0.1:0", "--allow", "in", "pong", "tcp:127.0.0.1"}};
  Host near;
  Offer offer{far, "pong"};
  const auto answer = look_up_07(near / "network", "pong;pong " + far.uri("pong"));
  cr_assert(answer.fd);
  const auto accepted = offer.accept();
  const auto message = ipc::frame_07(2, 42, "hello");
  kit::send_all(accepted.first.borrow(), message + message);
  for (int i = 0; i < 2; ++i) {
    std::array<char, 4096> buffer;
    const auto size = ::recv(answer.fd.borrow(), buffer.data(), buffer.size(), 0);
    cr_assert_eq(std::string(buffer.data(), static_cast<std::size_t>(size)), message,
                 "one read, one message");
  }
}

Test(lookup_07, of_a_megabyte_is_refused_without_reading_it) {
  Host host;
  const auto socket = kit::connect_unix(host / "network");
  const auto header = ipc::header_07(3, 3, 1'000'000);
  kit::send_all(socket.borrow(), {header.data(), header.size()});
  cr_assert(is_error_text(kit::receive_all(socket.borrow())));
}

Test(lookup_1, gives_ok_with_the_descriptor_in_the_same_message) {
  Host host;
  Offer offer{host, "pong"};
  const auto socket = kit::connect_unix(host / "ipc");
  kit::send_all(socket.borrow(), ipc::frame_1("pong;pong unix://pong"));
  cr_assert(kit::is_readable(socket.borrow()));
  std::array<char, 1500> buffer;
  const auto received = kit::must(ipc::receive_with_fds(socket.borrow(), buffer));
  cr_assert_eq(std::string_view(buffer.data(), received.size), "ok");
  cr_assert_eq(received.fds.size(), 1U);
  const auto accepted = offer.accept();
  kit::expect_joined(received.fds[0].borrow(), accepted.first.borrow());
}

Test(lookup_1, that_fails_is_closed_without_a_word) {
  Host host;
  const auto socket = kit::connect_unix(host / "ipc");
  kit::send_all(socket.borrow(), ipc::frame_1("nobody;"));
  cr_assert_eq(kit::receive_all(socket.borrow()), "");
}
