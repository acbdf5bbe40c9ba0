// UNIX sockets by path in a client's directive: opened with the router's rights, so only where rules say, and
// no further than the path itself leads.
#include <criterion/criterion.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/e2e/host.hh"

using kit::ask;
using kit::Host;

namespace {
constexpr unsigned nobody = 65'534;
}

Test(unix_path, a_link_below_an_allowed_directory_opens_nothing_of_ours) {
  if (::geteuid() != 0) cr_skip("needs root");
  const kit::TempDir ours, theirs;
  const auto secret = kit::listen_unix(ours / "secret.sock");
  const auto open = kit::listen_unix(theirs / "open.sock");
  cr_assert_eq(::chmod(theirs.path().c_str(), 0777), 0);
  cr_assert_eq(::symlink((ours / "secret.sock").c_str(), (theirs / "link.sock").c_str()), 0);
  cr_assert_eq(::symlink(ours.path().c_str(), (theirs / "way").c_str()), 0);
  for (const auto* link : {"link.sock", "way"})
    cr_assert_eq(::lchown((theirs / link).c_str(), nobody, nobody), 0);
  const Host host{{"--allow", "local", "*", "unix:" + theirs.path() + "/*"}};
  host.open_to_all();
  auto door = host.door_as(nobody);
  const auto connect = [&](const std::string& path) {
    return door.call("connect", ask("x", "x unix://" + (theirs / path)));
  };
  cr_assert(connect("open.sock").take_fd());
  cr_assert_eq(connect("link.sock").word(), "DENIED");
  cr_assert_eq(connect("way/secret.sock").word(), "DENIED");
}

Test(unix_path, links_of_roots_are_followed_and_others_links_to_what_a_rule_names) {
  if (::geteuid() != 0) cr_skip("needs root");
  const kit::TempDir real, links;
  const auto service = kit::listen_unix(real / "a.sock");
  cr_assert_eq(::chmod(links.path().c_str(), 0755), 0);
  cr_assert_eq(::symlink(real.path().c_str(), (links / "run").c_str()), 0);
  const auto named = links / "run/a.sock";
  const auto connect = [&](std::vector<std::string> rules) {
    const Host host{std::move(rules)};
    host.open_to_all();
    auto door = host.door_as(nobody);
    const auto explained = door.call("explain", ask("x", "x unix://" + named));
    const auto answer = door.call("connect", ask("x", "x unix://" + named));
    cr_assert_eq(explained.result()["code"].string_or(""), answer.word(), "%s", explained.text.c_str());
    return answer.word();
  };
  cr_assert_eq(connect({"--allow", "local", "*", "unix:" + named}), "", "as /var/run leads to /run");
  cr_assert_eq(::lchown((links / "run").c_str(), nobody, nobody), 0);
  cr_assert_eq(connect({"--allow", "local", "*", "unix:" + named}), "DENIED",
               "anybody could have put it there");
  cr_assert_eq(connect({"--allow", "local", "*", "unix:" + named, "--allow", "local", "*",
                        "unix:" + (real / "a.sock")}),
               "");
}
