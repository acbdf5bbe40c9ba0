// What a channel bears: peers that send too much, too long, too many descriptors, or do not read.
#include <criterion/criterion.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include "ipc/channel.hh"
#include "tests/e2e/kit.hh"

using namespace std::chrono_literals;
using ipc::Channel;
using ipc::ChannelLimits;

namespace {
/// A channel and its peer, and what the channel heard.
struct Pair {
  ipc::Loop loop;
  std::pair<ipc::Fd, ipc::Fd> sockets = kit::must(ipc::socket_pair(SOCK_SEQPACKET));
  kit::Wire peer{std::move(sockets.second)};
  std::vector<Channel::Incoming> heard{};
  std::optional<ipc::Error> closed{};
  std::optional<Channel> channel{};

  explicit Pair(ChannelLimits limits = {}) {
    channel.emplace(
        loop, ipc::StrangerFd{std::move(sockets.first), SOCK_SEQPACKET},
        Channel::Handlers{.on_request = [this](auto incoming) { heard.push_back(std::move(incoming)); },
                          .on_notification = {},
                          .on_closed = [this](const ipc::Error& why) { closed = why; }},
        limits);
  }
  ~Pair() { channel.reset(); }
  void turn() {
    int turns = 0;
    const auto count = [this, &turns] {
      if (++turns == 3) loop.stop();
    };
    const ipc::Timer timer{loop, 0ms, count, 1ms};
    loop.run();
  }
  void ask(std::string_view params, std::span<const int> fds = {}) {
    peer.send(ipc::rpc::request("1", "m", params), fds);
    turn();
  }
};

struct NoDescriptors {
  rlimit before{};
  NoDescriptors() {
    ::getrlimit(RLIMIT_NOFILE, &before);
    const auto lowest = ipc::Fd{::fcntl(0, F_DUPFD_CLOEXEC, 0)}.borrow();
    const rlimit now{static_cast<rlim_t>(lowest), before.rlim_max};
    ::setrlimit(RLIMIT_NOFILE, &now);
  }
  ~NoDescriptors() { ::setrlimit(RLIMIT_NOFILE, &before); }
};

ipc::Fd null_file() { return ipc::Fd{::open("/dev/null", O_RDONLY | O_CLOEXEC)}; }

}  // namespace

Test(channel, refuses_a_message_that_is_too_long_and_hears_the_next) {
  Pair pair;
  pair.peer.send(std::string(65'537, ' '));
  pair.ask("{}");
  pair.turn();
  cr_assert_eq(pair.peer.receive().word(), "BAD_REQUEST");
  cr_assert_eq(pair.heard.size(), 1U);
}

Test(channel, takes_a_message_whose_descriptors_it_has_no_numbers_for) {
  Pair pair;
  const auto file = null_file();
  const std::array fds{file.borrow(), file.borrow()};
  {
    const NoDescriptors none;
    pair.ask(R"({"fd":0})", fds);
  }
  cr_assert(!pair.closed);
  cr_assert_eq(pair.heard.size(), 1U);
  auto& incoming = pair.heard[0];
  cr_assert_eq(incoming.take_fd(incoming.message.params["fd"]).error().word, ipc::Word::bad_request);
}

Test(channel, closes_descriptors_of_strangers_without_waiting_for_their_data) {
  Pair pair{{.takes_fds = false}};
  const auto listener = kit::listen_tcp();
  const kit::Deadline soon{10s};
  for (int i = 0; i < 3; ++i) {
    auto socket = kit::lingering(listener);
    const int raw = socket.borrow();
    pair.peer.send(ipc::rpc::request("1", "m", "{}"), {&raw, 1});
    socket = ipc::Fd{::open("/dev/null", O_RDONLY)};
    pair.turn();
  }
  cr_assert_eq(pair.heard.size(), 3U);
  cr_assert(pair.heard[0].fds.empty());
  cr_assert(!soon.passed());
}

Test(channel, replaces_an_answer_that_is_too_long_by_a_refusal) {
  Pair pair;
  pair.channel->answer("7", "\"" + std::string(70'000, 'x') + "\"");
  const auto answer = pair.peer.receive();
  cr_assert_eq(answer.word(), "BAD_REQUEST");
  cr_assert_eq(answer.message->id, "7");
  pair.channel->refuse("8", {ipc::Word::denied, "no"}, "\"decision\":\"" + std::string(70'000, 'x') + "\"");
  cr_assert_eq(pair.peer.receive().word(), "DENIED");
  cr_assert(!pair.channel->notify("event", "\"" + std::string(70'000, 'x') + "\""));
}

Test(channel, fails_a_call_that_is_too_long_and_goes_on) {
  Pair pair;
  std::optional<ipc::Word> word;
  pair.channel->call("m", "\"" + std::string(70'000, 'x') + "\"", {}, 10s,
                     [&](auto answer) { word = answer.error().word; });
  cr_assert(!word, "never from inside of the call");
  cr_assert(kit::eventually([&] {
    pair.turn();
    return word.has_value();
  }));
  cr_assert_eq(*word, ipc::Word::bad_request);
  cr_assert(pair.channel->is_open());
}

Test(channel, ends_when_too_many_bytes_wait_for_a_peer_that_does_not_read) {
  Pair pair{{.queued_bytes = 1 << 20}};
  const auto long_text = "\"" + std::string(60'000, 'x') + "\"";
  int sent = 0;
  while (!pair.closed && sent < 1000) {
    static_cast<void>(pair.channel->notify("event", long_text));
    pair.turn();
    ++sent;
  }
  cr_assert(pair.closed && pair.closed->word == ipc::Word::busy);
  cr_assert_lt(sent, 40);
}

Test(channel, does_not_listen_to_who_does_not_read_when_told_so) {
  Pair pair{{.reads_while_queued = false}};
  const auto long_text = "\"" + std::string(60'000, 'x') + "\"";
  while (pair.channel->queued_messages() == 0) static_cast<void>(pair.channel->notify("event", long_text));
  pair.ask("{}");
  pair.turn();
  cr_assert(pair.heard.empty());
  for (bool came = false; !came;) {
    while (kit::is_readable(pair.peer.borrow(), 0ms)) pair.peer.receive();
    pair.turn();
    came = !pair.heard.empty();
  }
}

Test(channel, knows_how_many_descriptors_lie_unread) {
  Pair pair{{.unread_fds = 8}};
  const auto file = null_file();
  const int raw = file.borrow();
  while (pair.channel->has_room_for_fd()) pair.channel->answer("1", "{}", {&raw, 1});
  cr_assert_geq(pair.channel->unread_fds(), 8U);
  cr_assert_leq(pair.channel->unread_fds(), 10U);
  for (int i = 0; i < 8; ++i) pair.peer.receive();
  cr_assert(pair.channel->has_room_for_fd());
}

Test(channel, says_busy_when_descriptors_cannot_be_queued) {
  Pair pair;
  const auto file = null_file();
  const int raw = file.borrow();
  while (pair.channel->queued_messages() == 0)
    static_cast<void>(pair.channel->notify("event", "\"" + std::string(60'000, 'x') + "\""));
  {
    const NoDescriptors none;
    pair.channel->answer("7", R"({"fd":0})", {&raw, 1});
  }
  for (;;) {
    const auto next = pair.peer.receive();
    pair.turn();
    if (!next.message || next.message->id != "7") continue;
    cr_assert_eq(next.word(), "BUSY");
    return;
  }
}
