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

Test(unix_path, a_link_to_what_a_rule_names_is_opened) {
  if (::geteuid() != 0) cr_skip("needs root");
  const kit::TempDir real, links;
  const auto service = kit::listen_unix(real / "a.sock");
  cr_assert_eq(::chmod(links.path().c_str(), 0755), 0);
  cr_assert_eq(::symlink((real / "a.sock").c_str(), (links / "b.sock").c_str()), 0);
  const Host host{{"--allow", "local", "*", "unix:" + (links / "b.sock"), "--allow", "local", "*",
                   "unix:" + (real / "a.sock")}};
  host.open_to_all();
  auto door = host.door_as(nobody);
  cr_assert(door.call("connect", ask("x", "x unix://" + (links / "b.sock"))).take_fd());
}
