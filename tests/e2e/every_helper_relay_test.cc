// Relays of any helper, and its end: the same conversation with ours and with the one in Python
// (docs/protocol.md, sections 4 and 6.3).
#include <criterion/criterion.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <csignal>

#include "tests/e2e/scripted_router.hh"

using namespace kit;
using ipc::Framing;

namespace {
std::vector<std::pair<std::string, Command>> every_helper() {
  std::vector<std::pair<std::string, Command>> kinds{{"tcp", {.args = {binary("tcpd")}}}};
  if (installed("python3"))
    kinds.emplace_back("loop", Command{.args = {"python3", source_dir() + "/tests/helpers/loopd.py"}});
  return kinds;
}

struct Ends {
  ipc::Fd network;  ///< the far end of a TCP connection
  ipc::Fd program;  ///< what a local program would hold
};

/// A relay between a TCP connection and a socketpair, as a lookup door orders it.
Ends start_relay(ScriptedRouter& router, std::string_view framing) {
  const auto listener = listen_tcp();
  auto far = connect_tcp(port_of(listener.borrow()));
  const auto near = accept_from(listener);
  auto [program, inner] = must(ipc::socket_pair(SOCK_STREAM));
  must(ipc::set_blocking(program.borrow(), true));
  const std::array fds{near.borrow(), inner.borrow()};
  router.notify("relay", R"({"a":0,"b":1,"framing":")" + std::string(framing) + R"("})", fds);
  return {std::move(far), std::move(program)};
}

/// What one read of an existing program takes, once `size` bytes are there (of a long message the kernel may
/// show a part first).
std::string one_read(int socket, std::size_t size = 0) {
  cr_assert(is_readable(socket));
  cr_assert(eventually([&] {
    int there = 0;
    ::ioctl(socket, FIONREAD, &there);
    return static_cast<std::size_t>(there) >= size;
  }));
  std::string buffer(2'000'000, '\0');
  const auto got = ::recv(socket, buffer.data(), buffer.size(), 0);
  cr_assert_geq(got, 0);
  buffer.resize(static_cast<std::size_t>(got));
  return buffer;
}
}  // namespace

Test(every_helper, relays_bytes_with_half_closes) {
  for (const auto& [scheme, command] : every_helper()) {
    ScriptedRouter router{command};
    auto ends = start_relay(router, "bytes");
    send_all(ends.network.borrow(), "question");
    ::shutdown(ends.network.borrow(), SHUT_WR);
    cr_assert_eq(receive_all(ends.program.borrow()), "question");
    send_all(ends.program.borrow(), std::string(1'000'000, 'x'));
    ends.program = {};
    cr_assert_eq(receive_all(ends.network.borrow()).size(), 1'000'000U);
    cr_assert(router.is_back_to_rest(), "%s", scheme.c_str());
  }
}

Test(every_helper, relays_messages_one_to_a_read_however_they_come) {
  const auto short_07 = ipc::frame_07(2, 42, "hello");
  const auto empty_07 = ipc::frame_07(2, 7, "");
  const auto long_07 = ipc::frame_07(2, 1, std::string(100'000, 'x'));
  for (const auto& [scheme, command] : every_helper()) {
    ScriptedRouter router{command};
    const auto ends = start_relay(router, "ipc07");
    send_all(ends.network.borrow(), short_07 + empty_07 + short_07);
    for (const auto* message : {&short_07, &empty_07, &short_07})
      cr_assert_eq(one_read(ends.program.borrow()), *message);
    for (const char byte : short_07) send_all(ends.network.borrow(), {&byte, 1});
    cr_assert_eq(one_read(ends.program.borrow()), short_07);
    send_all(ends.network.borrow(), long_07);
    cr_assert_eq(one_read(ends.program.borrow(), long_07.size()), long_07, "%s", scheme.c_str());
    send_all(ends.network.borrow(), short_07);
    cr_assert_eq(one_read(ends.program.borrow()), short_07);
    send_all(ends.program.borrow(), long_07);
    cr_assert_eq(receive_exactly(ends.network.borrow(), long_07.size()), long_07);
  }
}

Test(every_helper, never_sends_an_empty_message_to_a_v1_program_nor_a_part_to_any) {
  for (const auto& [scheme, command] : every_helper()) {
    ScriptedRouter router{command};
    auto ends = start_relay(router, "ipc1");
    send_all(ends.network.borrow(),
             ipc::frame_1("") + ipc::frame_1("a") + ipc::frame_1("") + ipc::frame_1("b"));
    cr_assert_eq(one_read(ends.program.borrow()), ipc::frame_1("a"));
    cr_assert_eq(one_read(ends.program.borrow()), ipc::frame_1("b"));
    send_all(ends.network.borrow(), ipc::frame_1("cut").substr(0, 5));
    ends.network = {};
    cr_assert_eq(one_read(ends.program.borrow()), "", "%s: a part was passed on", scheme.c_str());
    ends.program = {};
    auto garbage = start_relay(router, "ipc1");
    send_all(garbage.network.borrow(), "\xff\xff\xff\xff and so on");
    cr_assert_eq(one_read(garbage.program.borrow()), "");
    garbage = {};
    cr_assert(router.is_back_to_rest(), "%s", scheme.c_str());
  }
}

Test(every_helper, waits_for_the_answer_to_the_last_message_before_it_passes_the_end_on) {
  const auto question = ipc::frame_07(2, 1, "question"), answer = ipc::frame_07(2, 1, "answer");
  for (const auto& [scheme, command] : every_helper()) {
    ScriptedRouter router{command};
    auto ends = start_relay(router, "ipc07");
    send_all(ends.network.borrow(), question);
    ::shutdown(ends.network.borrow(), SHUT_WR);
    cr_assert_eq(one_read(ends.program.borrow()), question);
    send_all(ends.program.borrow(), answer);
    cr_assert_eq(receive_all(ends.network.borrow()), answer, "%s", scheme.c_str());
    cr_assert_eq(one_read(ends.program.borrow()), "");
    ends = {};
    cr_assert(router.is_back_to_rest(), "%s", scheme.c_str());
  }
}

Test(every_helper, joins_an_admitted_connection_to_the_service_it_is_given) {
  for (const auto& [scheme, command] : every_helper()) {
    ScriptedRouter router{command};
    const auto client = connect_tcp(router.listen_port(scheme + "://127.0.0.1:0"));
    send_all(client.borrow(), hop_frame("pong"));
    const auto [service, inner] = must(ipc::socket_pair(SOCK_STREAM));
    const int raw = inner.borrow();
    router.answer(router.expect("accepted"), R"({"token":"t","mode":"relay","fd":0})", {&raw, 1});
    cr_assert_eq(receive_frame(client.borrow()), ipc::hop_ok());
    send_all(client.borrow(), "to the service");
    cr_assert_eq(receive_exactly(service.borrow(), 14), "to the service", "%s", scheme.c_str());
  }
}

Test(every_helper, closes_its_listeners_with_the_channel_finishes_its_relays_and_exits) {
  for (const bool by_signal : {false, true})
    for (const auto& [scheme, command] : every_helper()) {
      ScriptedRouter router{command};
      const auto port = router.listen_port(scheme + "://127.0.0.1:0");
      const auto waiting = connect_tcp(port);
      auto ends = start_relay(router, "bytes");
      send_all(ends.network.borrow(), "before");
      cr_assert_eq(receive_exactly(ends.program.borrow(), 6), "before");
      by_signal ? router.helper().signal(SIGTERM) : router.close();
      char byte = 0;
      cr_assert(is_readable(waiting.borrow()));
      cr_assert_leq(::recv(waiting.borrow(), &byte, 1, 0), 0, "who had not been admitted is dropped");
      cr_assert(eventually([&] {
        const ipc::Fd probe{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
        sockaddr_in address{
            .sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
        return ::connect(probe.borrow(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0;
      }));
      send_all(ends.program.borrow(), "after");
      cr_assert_eq(receive_exactly(ends.network.borrow(), 5), "after", "%s", scheme.c_str());
      cr_assert(router.helper().is_running());
      ends = {};
      cr_assert_eq(router.helper().wait(), 0, "%s", router.helper().error().c_str());
    }
}
