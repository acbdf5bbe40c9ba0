// What a configuration that cannot work is refused with, and whether the remedy helps.
#include "tests/unit/config_kit.hh"

using namespace config_kit;

Test(config, a_listener_that_could_not_be_bound_is_refused) {
  const auto listener = [](const std::string& uri) { return "[[listen]]\nuri = '" + uri + "'\n"; };
  for (const auto* uri : {"tcp://myhost.example:9000", "udp://h:9000", "tls://h:9000"})
    refused(listener(uri), {"p.toml:2:7: error:", "is a name, and a listener has an address"});
  refused(listener("tls://[::]:9000"), {"write profile = \"NAME\""});
  refused("", {"a tls listener needs"}, arguments({{Kind::listen, {"tls://0.0.0.0:9000"}}}));
  good(listener("tcp://localhost:9000") + listener("udp://[::1]:9000"));
  good(listener("tls://h:1") + "[helpers.tlsd]\nexec = ['/opt/tlsd']");  // its own business
  good(listener("tor://h:1") + "[helpers.tord]\nexec = ['/opt/tord']\nschemes = ['tor']");
}

Test(config, programs_and_files_that_are_not_there_are_said_and_keep_no_router_from_starting) {
  const Directory directory;
  const auto with = [&](const std::string& text) {
    return load({.config = directory.write("p.toml", text)}, Strictness::check);
  };
  const auto helper = [&](const std::string& exec) {
    return with("[helpers.t]\nschemes = ['tor']\nexec = '" + exec + "'");
  };
  const auto plain = directory.write("plain", "", 0644), program = directory.write("program", "", 0755);
  for (const auto& exec :
       {directory.path() + "/missing", plain, directory.path(), std::string("no-such-program")}) {
    const auto checked = helper(exec);
    cr_expect(checked.config != nullptr && checked.config->warnings.size() == 1, "%s", exec.c_str());
    cr_expect(printed(checked).find("p.toml:3:8: warning: there is no program") != std::string::npos, "%s",
              printed(checked).c_str());
  }
  for (const auto& exec : {program, std::string("sh")})
    cr_expect(printed(helper(exec)).empty(), "%s", exec.c_str());
  const auto profile = with(
      "[tls.a]\ncertificate = '/x/y'\nprivate_key = '/'\nca = ['/dev', '/x/z']\ncrl = '/dev'\nkeylog = '/x'");
  cr_expect(profile.config != nullptr);
  for (const auto* part : {"p.toml:2:15: warning: \"/x/y\": No such file or directory",
                           "\"/\" is a directory; private_key takes files", "\"/x/z\": No such",
                           "p.toml:5:7: warning: \"/dev\" is a directory"})
    cr_expect(printed(profile).find(part) != std::string::npos, "no %s in %s", part,
              printed(profile).c_str());
}

Test(config, rules_and_pinned_names_below_a_table_are_told_where_they_belong) {
  const std::string_view expected = "move it before the first [table]";
  for (const auto* table : {"[routes]", "[redirects]", "[limits]", "[defaults]", "[tls.a]", "[[listen]]"})
    refused(std::string(table) + "\nrules = ['allow out * *']", {"p.toml:2:", expected});
  refused("[limits]\npinned = ['a']", {expected});
  const auto accepted = loaded("[routes]\npinned = ['a']");
  cr_assert(accepted.config != nullptr && printed(accepted).find(expected) != std::string::npos);
  good("[routes]\nrules = 'a'\npinned = { target = ['tcp://h/a'] }");
}

Test(config, known_keys_are_listed_once) {
  const auto text = printed(loaded("zzzzzzzz = 1\npinned = []"));
  const auto first = text.find("pinned");
  cr_assert(first != text.npos && text.find(", pinned", first + 1) == text.npos, "%s", text.c_str());
}

Test(config, arguments_are_checked_like_the_file) {
  refused("", {"command line:1: error: --allow takes three words", "quote the *"},
          arguments({{Kind::allow, {"in", "a", "b", "c"}}}));
  // One file, whatever its name, in the place of a *.
  for (const auto* file : {"Makefile", "tcpd", "users", "exe"})
    refused("",
            {"command line:1: error: \"" + std::string(file), "quote the *",
             "\n    --deny in pong " + std::string(file)},
            arguments({{Kind::deny, {"in", "pong", file}}}));
  const auto direction = printed(loaded("", arguments({{Kind::deny, {"inn", "pong", "*"}}})));
  cr_assert(direction.find("quote") == direction.npos, "%s", direction.c_str());
  refused("", {"\n    --listen tcp://h:1/x\n"},
          arguments({{Kind::allow, {"in", "a", "*"}}, {Kind::listen, {"tcp://h:1/x"}}}));
  refused(
      "", {"command line:2: error: a secret on the command line"},
      arguments({{Kind::route, {"a", "tcp://h/a"}}, {Kind::route, {"b", "tls://me:0123456789abcdef@h/b"}}}));
  refused("", {"is reserved"}, arguments({{Kind::redirect, {"plumberd", "x"}}}));
  const auto text = printed(loaded("", arguments({{Kind::route, {"b", "tls://me:topsecret@h/b"}}})));
  cr_assert(text.find("topsecret") == text.npos);
}
