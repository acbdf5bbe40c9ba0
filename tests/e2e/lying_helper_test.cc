// A helper that lies (tests/helpers/liard.py): whatever it says, the client is told so, nobody else notices,
// and the router keeps nothing.
#include <criterion/criterion.h>

#include "tests/e2e/host.hh"

using kit::Host;

namespace {
std::string liar(std::string_view argument = {}) {
  std::string text = "[helpers.lie]\nschemes = [\"lie\"]\nexec = [\"python3\", \"" + kit::source_dir() +
                     "/tests/helpers/liard.py\"";
  if (!argument.empty()) text += ", '" + std::string(argument) + "'";
  return text + "]\n[limits]\nrequest_timeout = \"3s\"\n";
}

kit::Wire::Datagram tell(kit::Wire& client, std::string_view what) {
  return client.call("connect", kit::ask("x", "x lie://" + std::string(what) + "/"));
}

void expect_error(kit::Wire& client, std::string_view what, std::string_view word,
                  std::string_view sentence) {
  const auto answer = tell(client, what);
  cr_assert_eq(answer.word(), word, "%s: %s", std::string(what).c_str(), answer.text.c_str());
  const auto& text = answer.message->failure.text;
  cr_assert_neq(text.find(sentence), std::string::npos, "%s: %s", std::string(what).c_str(), text.c_str());
}

/// The helper still tells the truth when it wants to, and what came through is usable.
void expect_truth(kit::Wire& client, std::string_view what = "nothing") {
  auto answer = tell(client, what);
  const auto fd = answer.take_fd();
  cr_assert_eq(kit::receive_exactly(fd.borrow(), 7), "honest\n");
}

/// Once it is (again) there: a start may take longer than a request.
void await_truth(kit::Wire& client) {
  cr_assert(kit::eventually([&] { return tell(client, "nothing").word().empty(); }));
}

struct Lie {
  const char* what;
  const char* word;
  const char* sentence;
};
}  // namespace

Test(lying_helper, about_a_descriptor_is_named_to_the_client_and_leaves_nothing_behind) {
  Host host{{}, liar()};
  auto client = host.door();
  await_truth(client);
  const auto before = kit::open_fds(host.router().pid());
  constexpr Lie lies[] = {
      {"no-fd", "INTERNAL", "descriptor 0 did not come with the message"},
      {"no-fd-named", "INTERNAL", "names no descriptor"},
      {"another-fd", "INTERNAL", "descriptor 7 did not come with the message"},
      {"negative-fd", "INTERNAL", "descriptor -1 did not come with the message"},
      {"file", "INTERNAL", "it is no socket"},
      {"pipe", "INTERNAL", "it is no socket"},
      {"listening", "INTERNAL", "it is not connected"},
      {"unconnected", "INTERNAL", "it is not connected"},
      {"netlink", "INTERNAL", "of another family or type"},
      {"reset", "INTERNAL", "it is not connected"},
  };
  for (const auto& lie : lies) {
    expect_error(client, lie.what, lie.word, "the helper lie answered a dial wrongly: ");
    expect_error(client, lie.what, lie.word, lie.sentence);
  }
  expect_truth(client);
  cr_assert(kit::eventually([&] { return kit::open_fds(host.router().pid()) <= before; }));
}

Test(lying_helper, that_left_its_timeouts_on_a_socket_does_not_pass_them_on) {
  Host host{{}, liar()};
  auto client = host.door();
  await_truth(client);
  const auto fd = tell(client, "careless").take_fd();
  for (const int option : {SO_RCVTIMEO, SO_SNDTIMEO}) {
    timeval left{.tv_sec = 1, .tv_usec = 0};
    socklen_t size = sizeof left;
    cr_assert_eq(::getsockopt(fd.borrow(), SOL_SOCKET, option, &left, &size), 0);
    cr_assert(left.tv_sec == 0 && left.tv_usec == 0);
  }
}

Test(lying_helper, about_a_message_is_named_to_the_client_and_leaves_nothing_behind) {
  Host host{{}, liar()};
  auto client = host.door();
  await_truth(client);
  const auto before = kit::open_fds(host.router().pid());
  constexpr Lie lies[] = {
      {"no-object", "INTERNAL", "names no descriptor"},
      {"error-without-data", "INTERNAL", "a word\\x0aof\\x1b[31m mine"},
      {"unknown-word", "INTERNAL", "who knows"},
      {"path", "INTERNAL", "path is none of direct, ktls, ktls-relay, relay"},
      {"unasked-path", "INTERNAL", "path is ktls, for a client that did not ask for it"},
      {"wrong-id", "TIMEOUT", "the helper lie did not answer"},
      {"garbage", "TIMEOUT", "the helper lie did not answer"},
      {"silence", "TIMEOUT", "the helper lie did not answer"},
      {"too-long", "TIMEOUT", "the helper lie did not answer"},
      {"too-many", "TIMEOUT", "the helper lie did not answer"},
  };
  for (const auto& lie : lies) expect_error(client, lie.what, lie.word, lie.sentence);
  expect_truth(client, "same-twice");
  expect_truth(client);
  cr_assert(kit::eventually([&] { return kit::open_fds(host.router().pid()) <= before; }));
}

Test(lying_helper, that_dies_or_closes_its_channel_fails_what_it_was_asked_and_is_started_again) {
  Host host{{}, liar()};
  auto client = host.door();
  await_truth(client);
  const auto before = kit::open_fds(host.router().pid());
  for (const auto* what : {"death", "deaf"}) {
    expect_error(client, what, "INTERNAL", "the helper lie went away while it dialled; try again");
    await_truth(client);
  }
  cr_assert(kit::eventually([&] { return kit::open_fds(host.router().pid()) <= before; }));
}

Test(lying_helper, may_not_speak_about_what_is_not_its_own) {
  Host host{{"--listen", "tcp://127.0.0.1:0", "--allow", "in", "pong", "*"}, liar()};
  auto client = host.door();
  const kit::Offer offer{host, "pong"};
  await_truth(client);
  expect_error(client, "judgement", "UNREACHABLE", "asked about the dial of somebody else: BAD_REQUEST");
  expect_error(client, "listener", "UNREACHABLE",
               "asked about the listeners of somebody else: BAD_REQUEST BAD_REQUEST BAD_REQUEST BAD_REQUEST");
  expect_truth(client, "token");
  host.router().wait_for_error("without a valid token");
}

Test(lying_helper, is_believed_no_number_of_relayed_bytes_that_falls_or_cannot_be) {
  Host host{{}, liar()};
  auto client = host.door();
  await_truth(client);
  expect_truth(client, "relayed");
  const auto answer = client.call("metrics", "{}");
  const auto metrics = answer.result()["text"].string_or("");
  for (const auto* line :
       {"{helper=\"lie\",direction=\"received\"} 1000\n", "{helper=\"lie\",direction=\"sent\"} 8\n"})
    cr_assert_neq(metrics.find(line), std::string::npos, "%s", std::string(metrics).c_str());
}

Test(lying_helper, that_floods_the_router_is_cut_short_in_the_log_and_delays_nobody) {
  Host host{{}, liar()};
  auto client = host.door();
  kit::Offer offer{host, "pong"};
  await_truth(client);
  client.send(
      R"({"jsonrpc":"2.0","id":"flood","method":"connect","params":{"service":"x","networkd":"x lie://flood/"}})");
  for (int i = 0; i < 20; ++i) {
    auto other = host.door();
    auto answer = other.call("connect", kit::ask("pong"));
    const auto fd = answer.take_fd();
    const auto accepted = offer.accept();
    kit::expect_joined(fd.borrow(), accepted.first.borrow());
  }
  auto answer = client.receive();
  cr_assert_eq(kit::receive_exactly(answer.take_fd().borrow(), 7), "honest\n");
  host.router().wait_for_error("says too much");
}

Test(lying_helper, that_is_silent_costs_other_clients_no_time) {
  kit::TcpServer server{kit::pong};
  Host host{{}, liar()};
  auto client = host.door();
  await_truth(client);
  for (int id = 0; id < 100; ++id)
    client.send(R"({"jsonrpc":"2.0","id":"s)" + std::to_string(id) +
                R"(","method":"connect","params":{"service":"x","networkd":"x lie://silence/"}})");
  auto other = host.door();
  auto answer = other.call("connect", kit::ask("y", "y tcp://127.0.0.1:" + std::to_string(server.port())));
  const auto fd = answer.take_fd();
  expect_truth(other);
  cr_assert_not(kit::is_readable(client.borrow(), kit::Milliseconds{0}), "nobody waited for the silent ones");
  for (int id = 0; id < 100; ++id) cr_assert_eq(client.receive().word(), "TIMEOUT");
}

Test(lying_helper, that_says_no_hello_of_ours_is_given_up_on_with_its_reason) {
  Host host{{}, liar(R"({"protocol":2,"schemes":["lie"]})")};
  auto client = host.door();
  cr_assert(kit::eventually([&] {
    const auto answer = tell(client, "nothing");
    cr_assert_eq(answer.word(), "NO_HELPER", "%s", answer.text.c_str());
    return answer.message->failure.text.find("speaks another protocol than 1") != std::string::npos;
  }));
}

Test(lying_helper, that_keeps_dying_does_not_keep_a_client_longer_than_its_request_may_last) {
  Host host{
      {},
      "[helpers.lie]\nschemes = [\"lie\"]\nexec = [\"/bin/false\"]\n[limits]\nrequest_timeout = \"300ms\"\n"};
  auto client = host.door();
  for (int i = 0; i < 8; ++i) {  // the pause has grown to more than ten times the request's time by then
    const auto answer = tell(client, "nothing");
    cr_assert_eq(answer.word(), "NO_HELPER", "%s", answer.text.c_str());
    cr_assert_neq(answer.message->failure.text.find("the helper lie "), std::string::npos, "%s",
                  answer.text.c_str());
  }
}
