// Requests under way finish under the generation they started with, through the helpers of that generation: a
// reload that changes or removes one fails nobody.
#include <criterion/criterion.h>
#include <sys/stat.h>

#include "tests/e2e/host.hh"

using kit::ask;
using kit::Host;

namespace {
/// A helper whose dials end when the test says so (tests/helpers/slowd.py).
class Slow {
 public:
  /// Its part of a configuration; `more` of its entry makes another helper of it.
  std::string entry(std::string_view more = {}) const {
    return "[helpers.slow]\nschemes = [\"slow\"]\nexec = [\"python3\", \"" + kit::source_dir() +
           "/tests/helpers/slowd.py\", \"" + (dir_ / "place") + "\"]\n" + std::string(more) + "\n";
  }
  /// The next dial that it makes: `+` sent there makes it succeed, `-` fail.
  ipc::Fd next_dial() { return kit::accept_from(place_); }

 private:
  kit::TempDir dir_;
  ipc::Fd place_ = kit::listen_unix(dir_ / "place");
};

void reload(const Host& host, const std::string& config) {
  host.write_config(config);
  auto door = host.door();
  const auto answer = door.call("reload", "{}");
  cr_assert_eq(answer.word(), "", "%s", answer.text.c_str());
}

void send_connect(kit::Wire& door, int id) {
  door.send(ipc::rpc::request(std::to_string(id), "connect", R"({"uri":"slow://x","decision":true})"));
}

pid_t pid_of_peer(const ipc::Fd& socket) {
  ucred peer{};
  socklen_t size = sizeof peer;
  cr_assert_eq(::getsockopt(socket.borrow(), SOL_SOCKET, SO_PEERCRED, &peer, &size), 0);
  return peer.pid;
}

bool is_gone(pid_t pid) {
  struct stat status {};
  return ::stat(("/proc/" + std::to_string(pid)).c_str(), &status) != 0;
}

/// The dial succeeded, decided by configuration `generation`, and leads to `far`.
void expect_joined(kit::Wire& client, const ipc::Fd& far, int generation) {
  auto answer = client.receive();
  cr_assert_eq(answer.result()["decision"]["generation"].integer_or(0), generation, "%s",
               answer.text.c_str());
  const auto fd = answer.take_fd();
  kit::expect_joined(fd.borrow(), far.borrow());
}
}  // namespace

Test(reload_helper, dials_through_a_removed_helper_finish_and_then_it_ends) {
  Slow slow;
  Host host{{}, slow.entry()};
  auto client = host.door();
  send_connect(client, 1);
  const auto far = slow.next_dial();
  const pid_t helper = pid_of_peer(far);
  reload(host, "");
  auto late = host.door();
  cr_assert_eq(late.call("connect", R"({"uri":"slow://x"})").word(), "NO_HELPER", "it is gone for new ones");
  cr_assert_not(is_gone(helper));
  kit::send_all(far.borrow(), "+");
  expect_joined(client, far, 1);
  cr_assert(kit::eventually([&] { return is_gone(helper); }), "nobody needs it any more");
}

Test(reload_helper, changed_one_finishes_its_dials_beside_its_successor) {
  Slow slow;
  Host host{{}, slow.entry()};
  auto client = host.door();
  send_connect(client, 1);
  const auto first = slow.next_dial();
  reload(host, slow.entry("environment = { ROUND = \"2\" }"));
  send_connect(client, 2);
  const auto second = slow.next_dial();
  cr_assert_neq(pid_of_peer(first), pid_of_peer(second));
  kit::send_all(second.borrow(), "+");
  expect_joined(client, second, 2);
  kit::send_all(first.borrow(), "+");
  expect_joined(client, first, 1);
  cr_assert(kit::eventually([&] { return is_gone(pid_of_peer(first)); }));
  cr_assert_not(is_gone(pid_of_peer(second)));
}

Test(reload_helper, removed_one_serves_the_next_target_of_a_request_under_way_too) {
  Slow slow;
  Host host{{}, slow.entry() + "[routes]\npong = [\"slow://a\", \"slow://b\"]\n"};
  auto client = host.door();
  client.send(ipc::rpc::request("1", "connect", R"({"service":"pong","decision":true})"));
  const auto first = slow.next_dial();
  reload(host, "");
  kit::send_all(first.borrow(), "-");
  const auto second = slow.next_dial();
  kit::send_all(second.borrow(), "+");
  expect_joined(client, second, 1);
}

Test(reload_helper, client_that_leaves_lets_a_removed_one_end) {
  Slow slow;
  Host host{{}, slow.entry()};
  auto client = host.door();
  send_connect(client, 1);
  const auto far = slow.next_dial();
  const pid_t helper = pid_of_peer(far);
  reload(host, "");
  client.close();
  cr_assert(kit::eventually([&] { return is_gone(helper); }));
}

Test(reload_helper, removed_one_that_never_answers_is_kept_no_longer_than_its_requests) {
  Slow slow;
  Host host{{}, slow.entry() + "[limits]\nrequest_timeout = \"4s\"\n"};
  auto client = host.door();
  send_connect(client, 1);
  const auto far = slow.next_dial();
  const pid_t helper = pid_of_peer(far);
  reload(host, "");
  cr_assert_eq(client.receive().word(), "TIMEOUT");
  cr_assert(kit::eventually([&] { return is_gone(helper); }));
}

Test(reload_helper, refused_reload_leaves_every_dial_and_helper_as_they_were) {
  Slow slow;
  Host host{{}, slow.entry()};
  auto client = host.door();
  send_connect(client, 1);
  const auto far = slow.next_dial();
  host.write_config("[[listen]]\nuri = \"tcp://127.0.0.1:" + std::to_string(kit::free_port()) +
                    "\"\n[[listen]]\nuri = \"tcp://192.0.2.1:1\"\n");
  auto door = host.door();
  cr_assert_eq(door.call("reload", "{}").word(), "BAD_REQUEST");
  kit::send_all(far.borrow(), "+");
  expect_joined(client, far, 1);
  send_connect(client, 2);
  const auto again = slow.next_dial();
  cr_assert_eq(pid_of_peer(again), pid_of_peer(far), "the same process");
  kit::send_all(again.borrow(), "+");
  expect_joined(client, again, 1);
}

Test(reload_helper, is_taken_back_while_it_finishes_its_dials) {
  Slow slow;
  Host host{{}, slow.entry()};
  auto client = host.door();
  send_connect(client, 1);
  const auto far = slow.next_dial();
  reload(host, "");
  reload(host, slow.entry());
  send_connect(client, 2);
  const auto again = slow.next_dial();
  cr_assert_eq(pid_of_peer(again), pid_of_peer(far));
  kit::send_all(again.borrow(), "+");
  expect_joined(client, again, 3);
  kit::send_all(far.borrow(), "+");
  expect_joined(client, far, 1);
}
