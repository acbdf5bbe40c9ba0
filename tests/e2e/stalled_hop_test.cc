// A far host that stalls in the hop, at whatever byte: its client is told so in time, with a word, at every
// door.
#include <criterion/criterion.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>

#include "tests/e2e/host.hh"
#include "tests/e2e/tls_bench.hh"

using namespace kit;

namespace {
/// A TCP server that reads the hop, answers `bytes`, and then waits for the other side to end, or ends.
TcpServer::Serve answers(std::string bytes, bool ends = false) {
  return [bytes, ends](int socket) {
    receive_frame(socket);
    send_all(socket, bytes);
    if (!ends) receive_all(socket);
  };
}

/// Beginnings of answers that nothing follows.
std::vector<std::string> beginnings() {
  const auto ok = ipc::hop_ok();
  const auto refusal = ipc::frame_07(ipc::FrameType::error, 0, "DENIED: no");
  return {"", ok.substr(0, 1), ok.substr(0, 5), ok.substr(0, 7), refusal.substr(0, 6), refusal.substr(0, 12)};
}

std::string limits(std::string_view hop, std::string_view request = "10s") {
  return "[limits]\nhop_timeout = \"" + std::string(hop) + "\"\nrequest_timeout = \"" + std::string(request) +
         "\"\n";
}

std::string place(const TcpServer& server, std::string_view scheme = "tcp") {
  return std::string(scheme) + "://127.0.0.1:" + std::to_string(server.port()) + "/pong";
}

/// The whole answer of a 0.7 lookup.
std::string look_up(const Host& host, const std::string& uri) {
  const auto socket = connect_unix(host / "network");
  send_all(socket.borrow(), ipc::frame_07(ipc::FrameType::lookup, 3, "pong;pong " + uri));
  return receive_all(socket.borrow());
}
}  // namespace

Test(stalled_hop, is_a_timeout_wherever_it_stalls) {
  const Host host{{}, limits("300ms")};
  auto client = host.door();
  for (const auto& beginning : beginnings()) {
    const TcpServer far{answers(beginning)};
    const auto answer = client.call("connect", ask("pong", "pong " + place(far)));
    cr_assert_eq(answer.word(), "TIMEOUT", "%zu bytes: %s", beginning.size(), answer.text.c_str());
    cr_assert_neq(answer.message->failure.text.find("127.0.0.1"), std::string::npos, "%s",
                  answer.text.c_str());
  }
}

Test(stalled_hop, and_a_connection_that_is_reset_behind_it_is_no_fault_of_the_helper) {
  const Host host;
  auto client = host.door();
  std::atomic<int> moment = 0;
  const TcpServer far{[&](int socket) {
    receive_frame(socket);
    send_all(socket, ipc::hop_ok());
    ::usleep(static_cast<unsigned>(moment++ % 100) * 10);  // any moment will do
    const sockaddr nobody{.sa_family = AF_UNSPEC, .sa_data = {}};
    ::connect(socket, &nobody, sizeof nobody);  // resets
  }};
  for (int i = 0; i < 300; ++i) {
    const auto answer = client.call("connect", ask("pong", "pong " + place(far)));
    cr_assert(answer.word().empty() || answer.word() == "UNREACHABLE", "%s", answer.text.c_str());
  }
}

Test(stalled_hop, that_ends_within_the_answer_is_unreachable) {
  const Host host{{}, limits("20s", "30s")};
  auto client = host.door();
  for (const auto& beginning : beginnings()) {
    const TcpServer far{answers(beginning, true)};
    const auto answer = client.call("connect", ask("pong", "pong " + place(far)));
    cr_assert_eq(answer.word(), "UNREACHABLE", "%zu bytes: %s", beginning.size(), answer.text.c_str());
  }
}

Test(stalled_hop, of_a_client_that_does_not_wait_is_an_event) {
  const Host host;
  const TcpServer far{answers("")};
  {
    auto client = host.door();
    client.send(R"({"jsonrpc":"2.0","id":1,"method":"connect","params":)" +
                ask("pong", "pong " + place(far)) + "}");
    client.send(R"({"jsonrpc":"2.0","id":2,"method":"list","params":{}})");
    cr_assert_eq(client.receive().message->id, "2");  // the first was read
  }
  cr_assert(eventually([&] {
    auto client = host.door();
    client.send(R"({"jsonrpc":"2.0","id":1,"method":"events","params":{"follow":false}})");
    return client.receive().text.find("the client went away before it was answered") != std::string::npos;
  }));
}

Test(stalled_hop, lasts_no_longer_than_the_request) {
  const Host host{{}, limits("60s", "1s")};
  auto client = host.door();
  const TcpServer far{answers("")};
  const auto answer = client.call("connect", ask("pong", "pong " + place(far)));
  cr_assert_eq(answer.word(), "TIMEOUT", "%s", answer.text.c_str());
}

Test(stalled_hop, on_a_dead_spare_connection_is_made_good_by_a_fresh_one) {
  std::atomic<int> connections = 0;
  const TcpServer far{[&](int socket) {
    const bool is_spare = connections++ == 0;
    std::array<char, 512> hop;
    if (::recv(socket, hop.data(), hop.size(), 0) <= 0) return;  // a spare that nobody used
    if (!is_spare) send_all(socket, ipc::hop_ok());
    receive_all(socket);
  }};
  const Host host{{}, "[routes]\npong = { target = \"" + place(far) + "\", warm = 1 }\n" + limits("300ms")};
  cr_assert(eventually([&] { return connections == 1; }));
  cr_assert(eventually([&] { return host.status().result()["warm"].integer_or(0) == 1; }));
  auto client = host.door();
  const auto answer = client.call("connect", ask("pong"));
  cr_assert_eq(answer.word(), "", "%s", answer.text.c_str());
}

Test(stalled_hop, on_a_warm_connection_is_a_timeout_too) {
  const TcpServer far{[](int socket) { receive_all(socket); }};
  const Host host{{}, "[routes]\npong = { target = \"" + place(far) + "\", warm = 1 }\n" + limits("300ms")};
  cr_assert(eventually([&] { return host.status().result()["warm"].integer_or(0) == 1; }));
  auto client = host.door();
  cr_assert_eq(client.call("connect", ask("pong")).word(), "TIMEOUT");
}

Test(stalled_hop, is_told_to_a_program_of_07_in_words_and_to_one_of_v1_by_the_end) {
  const Host host{{}, limits("300ms")};
  const TcpServer far{answers(ipc::hop_ok().substr(0, 3))};
  const auto text = look_up(host, place(far));
  cr_assert_neq(text.find("TIMEOUT: "), std::string::npos, "%zu bytes", text.size());
  const auto v1 = connect_unix(host / "ipc");
  send_all(v1.borrow(), ipc::frame_1("pong;pong " + place(far)));
  cr_assert_eq(receive_all(v1.borrow()), "");
}

Test(stalled_hop, behind_another_host_is_a_timeout) {
  const TcpServer far{answers("")};
  const Host middle{{"--allow", "in", "*", "tcp:127.0.0.1", "--allow", "out", "*", "tcp:127.0.0.1"},
                    "[routes]\npong = \"" + place(far) +
                        "\"\n[[listen]]\nuri = \"tcp://127.0.0.1:0\"\ntransit = true\n" + limits("300ms")};
  const Host near{{}, limits("10s", "15s")};
  auto client = near.door();
  const auto answer = client.call("connect", ask("pong", "pong " + middle.uri("pong")));
  cr_assert_eq(answer.word(), "TIMEOUT", "%s", answer.text.c_str());
  cr_assert(answer.message->failure.far);
}

Test(stalled_hop, after_a_tls_handshake_or_within_it_is_a_timeout) {
  for (const auto& beginning : beginnings()) {
    DialBench bench{{}, [&](TlsEnd& end) {
                      end.send(beginning);
                      end.receive_all();
                    }};
    const auto more = R"("service":"pong","judge":false,"settings":{"hop_timeout_ms":300,"ca":")" +
                      bench.ca.certificate() + "\"}";
    const auto answer = bench.router.dial(tls(bench.server.port(), "/pong"), more);
    cr_assert_eq(answer.word(), "TIMEOUT", "%zu bytes: %s", beginning.size(), answer.text.c_str());
  }
  const TcpServer mute{[](int socket) { receive_all(socket); }};
  const Host host{{}, limits("300ms", "1s")};
  auto client = host.door();
  const auto answer = client.call("connect", ask("pong", "pong " + place(mute, "tls")));
  cr_assert_eq(answer.word(), "TIMEOUT", "%s", answer.text.c_str());
}
