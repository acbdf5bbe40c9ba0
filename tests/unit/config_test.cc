// Loading: what configuration becomes, and what is wrong with it, all in one pass.
#include <fcntl.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "plumberd/fields.hh"
#include "tests/unit/config_kit.hh"

using namespace config_kit;

Test(config, an_empty_file_is_the_defaults) {
  const auto config = good("");
  cr_assert(config->rules->rules().empty() && config->denied_detail);
  cr_assert(config->rules->default_of(Direction::in) == Default::deny);
  cr_assert(config->rules->default_of(Direction::out) == Default::own);
  cr_assert_eq(config->limits.connections, 4096);
  cr_assert_eq(config->limits.request_timeout.count(), 10'000);
}

Test(config, rules_keep_their_order_and_places) {
  const auto config =
      good("# rules\nrules = [\n  \"allow in authd tls:example.com\", # one\n\n  'deny in * *',\n]\n");
  const auto rules = config->rules->rules();
  cr_assert_eq(rules.size(), 2);
  cr_assert_eq(rules[0].at(), "p.toml:3");
  cr_assert_eq(rules[1].at(), "p.toml:5");
  cr_assert(rules[1].text() == "deny in * *");
}

Test(config, rules_in_any_form_of_toml_are_the_same) {
  for (const auto* toml :
       {"rules = ['allow in a *','deny in b *']", "\"rules\" = ['allow in a *', \"deny in b *\"]",
        "rules=[\"\"\"allow in a *\"\"\", 'deny in b *'] # x",
        "rules = [ # x ]\n\"allow in\\u0020a *\",\n'deny in b *'\n,]"})
    cr_assert_eq(good(toml)->rules->rules().size(), 2, "%s", toml);
}

Test(config, arguments_come_before_the_file) {
  const auto config = good("rules = ['deny in * *']\n[redirects]\nx = 'y'",
                           arguments({{Kind::allow, {"in", "authd", "tls:example.com"}},
                                      {Kind::deny, {"in", "pong", "*"}},
                                      {Kind::redirect, {"a", "b"}},
                                      {Kind::route, {"far", "tcp://h/far"}},
                                      {Kind::listen, {"tcp://127.0.0.1:0"}}}));
  cr_assert_eq(config->rules->rules()[0].at(), "command line:1");
  cr_assert_eq(config->rules->rules()[2].at(), "p.toml:1");
  cr_assert_eq(config->redirects[0].at, "command line:3");
  cr_assert_eq(config->redirects[1].from, "x");
  cr_assert_eq(config->routes.at("far").at, "command line:4");
  cr_assert_eq(config->listens[0].uri, "tcp://127.0.0.1:0");
}

Test(config, every_part_is_read) {
  const auto config = good(R"(
pinned = ["authd", "*.shop"]
[defaults]
out = "allow"
denied_detail = "word"
[redirects]
authd = "nextversion-authd"
"db.shop" = "tcp://h/db"
[[redirect]]
from = "tls://old.example.com:*/*"
to = "tls://new.example.com/{service}"
[routes]
one = "tls://auth.example.com/authd"
two = ["tcp://a/db", "tcp://b/db"]
"*.far" = { target = "tor://x.onion/{service}", warm = 4, timeout = "5s", source = "10.0.0.2", profile = "corp" }
[[listen]]
uri = "tls://0.0.0.0:9000"
service = "web"
profile = "corp"
[[listen]]
uri = "tcp://127.0.0.1:9001"
transit = true
[tls.corp]
certificate = "/dev/null"
private_key = "/dev/zero"
ca = "/dev"
versions = ["1.3"]
ktls = "direct"
handshake_timeout = "3s"
workers = 2
[helpers.tor]
exec = ["/usr/libexec/plumberd/tord", "-v"]
schemes = ["tor"]
user = "root"
environment = { HOME = "/" }
[helpers.tlsd]
workers = 3
[limits]
requests_per_second = 5
hop_timeout = "250ms"
[admin]
users = ["root", "0"]
[[test]]
direction = "out"
service = "pong"
expect = "allow"
)");
  cr_assert_eq(config->pinned.size(), 2);
  cr_assert(!config->denied_detail && config->rules->default_of(Direction::out) == Default::allow);
  cr_assert_eq(config->redirects.size(), 3);
  cr_assert(config->redirects[2].by_uri && config->redirects[2].at == "p.toml:10");
  const auto& far = config->routes.at("*.far");
  cr_assert(far.warm == 4 && far.timeout == std::chrono::seconds(5) && far.profile == "corp");
  cr_assert_eq(config->routes.at("two").targets.size(), 2);
  cr_assert(config->listens.size() == 2 && config->listens[0].service == "web" && config->listens[1].transit);
  cr_assert_eq(
      config->profiles.at("corp"),
      R"({"certificate":"/dev/null","private_key":"/dev/zero","ca":["/dev"],"versions":["1.3"],"ktls":"direct",)"
      R"("handshake_timeout_ms":3000,"workers":2})");
  cr_assert(config->helpers.size() == 2 && config->helpers[0].environment.at("HOME") == "/");
  cr_assert(config->limits.requests_per_second == 5 && config->limits.hop_timeout.count() == 250);
}

Test(config, what_only_a_helper_understands_becomes_its_settings) {
  const auto config = good(R"([routes]
names = { target = "udp://192.0.2.53:53", fragment = true }
[[listen]]
uri = "udp://127.0.0.1:9000"
flows = 100
flows_per_prefix = 10
direct_flows = 0
relay_idle = "90s"
fragment = true
[[listen]]
uri = "tcp://127.0.0.1:9000"
relay_idle = "1h"
)");
  cr_assert_eq(config->routes.at("names").settings, R"("fragment":true)");
  cr_assert_eq(config->listens[0].settings,
               R"("relay_idle_ms":90000,"flows":100,"flows_per_prefix":10,"direct_flows":0,"fragment":true)");
  cr_assert_eq(config->listens[1].settings, R"("relay_idle_ms":3600000)");
  refused(
      "[[listen]]\nuri = \"tcp://127.0.0.1:9000\"\nflows = 5\n[routes]\na = { target = \"tcp://h/a\", "
      "fragment = true }\n[[listen]]\nuri = \"udp://127.0.0.1:9000\"\nflows = 0\n",
      {"p.toml:3:9: error: \"flows\" is for udp:// only; remove it",
       "\"fragment\" is for udp:// only; remove it",
       "p.toml:8:9: error: \"flows\" must be a number of 1 to"});
}

Test(config, all_errors_are_reported_in_one_pass_with_place_line_and_remedy) {
  refused(
      "rules = [\n  \"alow in a *\",\n  \"deny in * *\",\n  \"allow in b tls:x.example\",\n]\n"
      "frobnicate = 1\n[limits]\nconections = 5\n[redirects]\na = \"b\"\nb = \"a\"\n"
      "[[test]]\ndirection = \"out\"\nservice = \"x\"\nexpect = \"deny\"\n",
      {"p.toml:2:4: error: \"alow\" is no action; did you mean \"allow\"?\n      \"alow in a *\",",
       "p.toml:4:4: error: is never reached: rule at p.toml:3 \"deny in * *\"",
       "p.toml:6:1: error: unknown key \"frobnicate\"",
       "p.toml:8:1: error: unknown key \"conections\" in [limits]; did you mean \"connections\"?",
       "p.toml:10:1: error: redirect loop: a -> b -> a",
       "p.toml:12:1: error: test failed: expected deny, but it is allow: default of out is own"});
}

Test(config, syntax_errors_have_their_place_and_rules_are_checked_all_the_same) {
  refused("rules = [\n\"deny in * *\",\n\"bad\",\n]\nx = = 1\n",
          {"p.toml:3:5: error: a rule has four words", "p.toml:5:"});
  refused("a = 1\na = 2\n", {"p.toml:2:", "already exists"});
  refused(std::string(200'000, '['), {"nested too deeply"});
  refused("a" + std::string(200'000, '.') + "b = 1", {"nested too deeply"});
  refused("a = \"\xff\xfe", {"p.toml:1:"});
}

Test(config, fifty_megabytes_are_loaded_as_rules_and_refused_as_anything_else) {
  std::string rules = "rules = [\n", routes = "[routes]\n";
  for (int i = 0; rules.size() < 50'000'000; ++i)
    rules += "'allow out a" + std::to_string(i) + std::string(900, ' ') + "*',\n";
  cr_assert(good(rules + "]\n")->rules->rules().size() > 50'000);
  for (int i = 0; routes.size() < 50'000'000; ++i) routes += "a" + std::to_string(i) + " = 'tcp://h/a'\n";
  refused(routes, {"p.toml:1:1: error: more than 8 MiB beside the rules"});
  refused(std::string(50'000'000, '\xff'), {"more than 8 MiB"});
}

Test(config, unknown_users_groups_and_schemes_are_named) {
  const auto* toml = "rules = ['allow out a user:no-such-user', 'deny out b group:no-such-group']\n";
  refused(toml, {"there is no user \"no-such-user\"", "there is no group \"no-such-group\""});
  const auto booted = loaded(toml, {}, Strictness::boot);
  cr_assert(booted.config != nullptr && booted.config->warnings.size() == 2);
  refused("rules = ['allow out a tpc:h']", {"p.toml:1:23: error: \"tpc\"", "did you mean \"tcp\"?"});
  refused("[routes]\na = 'gopher://h/x'", {"unknown scheme \"gopher\"", "[helpers.NAME]"});
  good("rules = ['allow out a tor:h']\n[helpers.t]\nexec = '/bin/t'\nschemes = ['tor']");
}

Test(config, a_user_database_that_is_down_keeps_no_router_from_starting) {
  const auto* toml =
      "rules = ['deny out a user:no-such-user']\n[[test]]\nas='user:no-such-user'\ndirection='out'\n"
      "service='a'\nexpect='deny'\n[[test]]\ndirection='out'\nservice='a'\nexpect='allow'\n";
  refused(toml, {"there is no user", "this [[test]] cannot be", "test failed"});
  const auto booted = loaded(toml, {}, Strictness::boot);
  cr_assert(booted.config != nullptr && booted.config->warnings.size() == 3, "%s", printed(booted).c_str());
}

Test(config, no_number_of_warnings_drowns_an_error) {
  std::string toml = "rules = [";
  for (int i = 0; i < 1500; ++i) toml += "'allow out s" + std::to_string(i) + " user:no-such-user',\n";
  cr_assert(loaded(toml + "]\n", {}, Strictness::boot).config != nullptr);
  cr_assert(loaded(toml + "'x']\n", {}, Strictness::boot).config == nullptr);
}

Test(config, hidden_rules_are_errors_in_one_source_and_warnings_across) {
  refused("rules = ['allow out * tcp', 'deny out a tcp:h:80']",
          {"p.toml:1:30: error: is never reached: rule at p.toml:1"});
  const auto result = loaded("rules = ['deny in a *']", arguments({{Kind::deny, {"in", "*", "*"}}}));
  cr_assert(result.config != nullptr);
  cr_assert(printed(result).find("p.toml:1:11: warning: is never reached: rule at command line:1") !=
            std::string::npos);
}

Test(config, redirect_loops_are_shown_whole) {
  refused("[redirects]\na = 'b'\nb = 'unix:///c'\nc = 'a'\n", {"redirect loop: a -> b -> c -> a"});
  refused("", {"command line:1: error: redirect loop: a -> a; break it"},
          arguments({{Kind::redirect, {"a", "a"}}}));
  good("[redirects]\na = 'b'\nb = 'tcp://h/a'\n");
}

Test(config, loops_of_uri_redirects_are_errors_too_and_chains_are_none) {
  const auto redirect = [](std::string_view from, std::string_view to) {
    return "[[redirect]]\nfrom = \"" + std::string(from) + "\"\nto = \"" + std::string(to) + "\"\n";
  };
  refused(redirect("tls://a.example.com/*", "tls://a.example.com/{service}"),
          {"p.toml:2:8: error: redirect loop: tls://a.example.com/* -> tls://a.example.com/*; break it"});
  refused(redirect("tls://a/*", "tls://b/{service}") + redirect("tls://b/*", "tls://a/y"),
          {"redirect loop: tls://a/* -> tls://b/* -> tls://a/*"});
  refused("[redirects]\nx = \"tls://a/x\"\n" + redirect("tls://a/x", "x"),
          {"redirect loop: tls://a/x -> x -> tls://a/x"});
  good(redirect("tls://a/*", "tls://b/{service}") + redirect("tls://b/x", "tls://c/x"));
  good(redirect("tls://a/*", "tls://a:9001/{service}"));
}

Test(config, loops_of_routes_are_errors_too_and_the_service_of_its_own_name_is_none) {
  refused("[routes]\na = 'b'\nb = 'unix:///a'\n", {"p.toml:2:1: error: loop: a -> b -> a; break it"});
  refused("[redirects]\na = 'b'\n[routes]\nb = 'c'\nc = 'a'\n", {"loop: a -> b -> c -> a; break it"});
  good("[routes]\na = 'unix:///a'\nb = 'b'\nc = ['d', 'tcp://h/c']\nd = 'c'\n");
  good("[redirects]\na = 'b'\n[routes]\na = 'b'\nb = 'tcp://h/a'\n");
}

Test(config, of_a_long_line_the_part_around_the_error_is_shown) {
  std::string rules = "rules = [";
  for (int i = 0; i < 50; ++i) rules += "\"allow out n" + std::to_string(i) + " *\", ";
  refused(rules + "\"alow out bad *\", \"allow out last *\"]\n", {"\n    ...", "\"alow out bad *\""});
}

Test(config, pins_are_written_as_people_write_them) {
  const std::string base64 = "/" + std::string(42, 'A') + "=";
  good("[tls.a]\npins = ['sha256/" + base64 + "', 'sha256//" + base64 + "', '" + std::string(64, 'a') + "']");
  refused("[tls.a]\npins = ['sha1//" + base64 + "', '" + base64 + "']", {"sha256//BASE64"});
}

Test(config, pins_that_keep_nobody_out_of_a_listener_are_warned_of) {
  const auto pins = "pins = ['" + std::string(64, 'a') + "']\n";
  const std::string listen = "[[listen]]\nuri = 'tls://127.0.0.1:9'\nprofile = 'a'\n[tls.a]\n";
  const auto idle = loaded(listen + pins);
  cr_assert(idle.config && idle.config->warnings.size() == 1, "%s", printed(idle).c_str());
  cr_assert(printed(idle).find("p.toml:3:11: warning: the pins of [tls.a] keep nobody out") == 0, "%s",
            printed(idle).c_str());
  cr_assert_eq(loaded(listen + pins + "client_ca = '/x'\n").config->warnings.size(), 0);
  cr_assert_eq(loaded("[routes]\na = { target = 'tls://h:9', profile = 'a' }\n[tls.a]\n" + pins)
                   .config->warnings.size(),
               0);
}

Test(config, routes_that_cannot_be_kept_warm_are_warned_of) {
  const auto warnings = [](const std::string& name, const std::string& target) {
    return loaded("[routes]\n'" + name + "' = { target = '" + target + "', warm = 2 }")
        .config->warnings.size();
  };
  cr_assert_eq(warnings("a", "udp://h/a"), 1);
  cr_assert_eq(warnings("*.a", "tcp://h/{service}"), 1);
  cr_assert_eq(warnings("*.a", "tcp://h/a"), 0);
  cr_assert_eq(warnings("a", "tcp://h/{service}"), 0);
}

Test(config, profiles_that_can_never_work_are_refused) {
  refused("[tls.a]\nverify = 'pins'\n[tls.b]\nverify = 'pins'\npins = []",
          {"p.toml:2:10: error: verify = \"pins\" needs \"pins\" beside it; add it", "p.toml:4:10"});
  for (const auto* word : {"request", "require"})
    refused(std::string("[tls.a]\nclient_auth = '") + word + "'",
            {"client_auth = \"" + std::string(word) + "\" needs \"client_ca\" beside it; add it"});
  good("[tls.a]\nclient_auth = 'none'");
  refused("[tls.a]\nalpn = ['h2', 'plumb/1']", {"\"plumb/1\" is reserved in \"alpn\"; remove it"});
  refused("[tls.a]\nalpn = ['']", {"has 1 to 255 bytes"});
  refused("[tls.a]\nalpn = ['" + std::string(256, 'x') + "']", {"has 1 to 255 bytes"});
  good("[tls.a]\nalpn = ['h2', '" + std::string(255, 'x') + "']");
}

Test(config, bad_values_are_refused_with_a_remedy) {
  refused("rules = 'deny in * *'", {"must be a list of strings"});
  refused("rules = [1, ['x']]", {"a rule is a string"});
  refused("[defaults]\nout = 'maybe'",
          {"p.toml:2:7: error: \"maybe\" is no default; known are allow, deny, own"});
  refused("[routes]\na = 'tcp://h'\nb = 5\n'c d' = 'x'\ne = []\nf = { warm = 1 }",
          {"p.toml:2:1", "p.toml:3:5", "p.toml:4:", "p.toml:5:5", "p.toml:6:5"});
  refused("[routes]\na = { target = 'tcp://h/a', timeout = '5 s', source = 'h', warm = -1 }",
          {"must be a time of 1ms to 24h", "is no IP address", "must be a number of 0 to 1024"});
  refused("[routes]\na = { target = 'tls://h/a', profile = 'crop' }\n[tls.corp]\n",
          {"there is no [tls.crop]; did you mean \"corp\"?"});
  refused(
      "[[listen]]\nuri = "
      "'tcp://0.0.0.0:9000/x'\n[[listen]]\nuri='tcp://[::]:1'\n[[listen]]\nuri='tcp://[::]:1'",
      {"names a user or service", "listener \"tcp://[::]:1\" is given twice; the first, at p.toml:4"});
  refused("[limits]\nconections = 1\n[x]\n", {"did you mean \"connections\"?", "unknown key \"x\""});
  refused("[tls.a]\ncertificate = '/x'\nversions = ['1.1']\npins = ['abc']\nverfy = 'full'",
          {"needs \"private_key\"", "\"1.1\" is no value of versions", "\"abc\" is no pin",
           "did you mean \"verify\"?"});
  refused(
      "[helpers.a]\nschemes = ['user', 'tor']\n[helpers.b]\nexec = ['/b']\nschemes = ['tor']\nworkers = 0",
      {"a helper needs exec", "\"user\" cannot be a scheme", "[helpers.a]'s already", "1 to 64"});
  refused("[[redirect]]\nfrom = 'tls://a:b@h/*'\nto = 'x'\n[[redirect]]\nfrom='tcp://h/*'",
          {"holds a secret", "needs both from and to"});
  refused("[[redirect]]\nfrom = 'tsl://h/*'\nto = 'x'", {"unknown scheme \"tsl\"; did you mean \"tls\"?"});
  refused("[[redirect]]\nfrom = 'tls://h/*'\nto = 'tsl://h/x'",
          {"p.toml:3:6: error: unknown scheme \"tsl\""});
  refused("[redirects]\na = 'tsl://h/x'", {"p.toml:2:5: error: unknown scheme \"tsl\""});
  refused("pinned = ['a', '..']", {"p.toml:1:16"});
  refused("[admin]\nusers = ['no-such-user']", {"p.toml:2:10"});
}

Test(config, tests_name_the_deciding_rule) {
  refused(
      "rules = [\n'allow out pong user:root',\n'deny out * *']\n[[test]]\nas = 'user:65534'\ndirection = "
      "'out'\n"
      "service = 'pong'\npeer = 'tls:h:9000'\nexpect = 'allow'",
      {"p.toml:4:1: error: test failed: expected allow, but it is deny: rule at p.toml:3 \"deny out * *\""});
  good(
      "rules = ['allow in authd tls:a.example', 'audit in authd tcp:192.0.2.0/24']\n"
      "[[test]]\ndirection='in'\nservice='authd'\npeer='tls:a.example'\nexpect='allow'\n"
      "[[test]]\ndirection='in'\nservice='authd'\npeer='tls:b.example'\nexpect='deny'\n"
      "[[test]]\ndirection='in'\nservice='authd'\npeer='tcp:192.0.2.5'\nexpect='audit'\n");
  refused(
      "[[test]]\ndirection='up'\n[[test]]\ndirection='out'\n[[test]]\ndirection='in'\nservice='x'\nexpect='"
      "deny'\nas='user:5'",
      {"needs a direction", "needs a service", "this [[test]] cannot be"});
}

Test(config, what_is_given_twice_is_said) {
  refused("", {"command line:2: error: route \"a\" is given twice"},
          arguments({{Kind::route, {"a", "tcp://h/a"}}, {Kind::route, {"a", "tcp://g/a"}}}));
  const auto result = loaded("[routes]\na = 'tcp://h/a'", arguments({{Kind::route, {"a", "tcp://g/a"}}}));
  cr_assert_eq(result.config->routes.at("a").targets[0], "tcp://g/a");
  cr_assert_eq(result.config->warnings.size(), 1);
}

Test(config, files_are_read_with_their_mode_checked) {
  const Directory directory;
  const auto file = directory.write("ok.toml", "rules = ['deny in a *']");
  cr_assert(load({.config = file}, Strictness::check).config->files[0] == file);
  const auto open = directory.write("open.toml", "", 0620);
  const auto result = load({.config = open}, Strictness::check);
  cr_assert(result.config == nullptr);
  cr_assert_eq(printed(result), open + ": error: can be written by its group or by others; chmod go-w it\n");
  cr_assert(load({.config = directory.path() + "/absent"}, Strictness::check).config == nullptr);
  cr_assert(load({.config = directory.path()}, Strictness::check).config == nullptr);
  cr_assert(load({.config = "/dev/null"}, Strictness::check).config != nullptr);
}

Test(config, default_files_are_read_in_name_order) {
  if (::geteuid() == 0 && ::seteuid(65534) != 0) cr_skip_test("needs to be another user than root");
  const Directory directory;
  ::setenv("XDG_CONFIG_HOME", directory.path().c_str(), 1);
  cr_assert(load({}, Strictness::check).config->files.empty());
  directory.write("plumberd/plumberd.toml", "rules = ['deny in a *']");
  directory.write("plumberd/plumberd.d/20.toml", "rules = ['deny in c *']");
  directory.write("plumberd/plumberd.d/10.toml", "rules = ['deny in b *', 'deny in a *']");
  directory.write("plumberd/plumberd.d/30.toml.bak", "nonsense");
  const auto result = load({}, Strictness::check);
  cr_assert(result.config != nullptr, "%s", printed(result).c_str());
  std::string services;
  for (const auto& rule : result.config->rules->rules()) services += rule.service();
  cr_assert_eq(services, "abac");
  cr_assert_eq(result.config->warnings.size(), 1);
  if (::getuid() == 0 && ::seteuid(0) == 0)
    ::prctl(PR_SET_DUMPABLE, 1);  // LeakSanitizer traces us at the end
}

Test(config, durations_have_a_unit) {
  cr_assert(parse_duration("250ms")->count() == 250 && parse_duration("24h")->count() == 86'400'000);
  for (const auto* bad : {"", "5", "s", "0s", "-1s", "5 s", "5d", "25h", "99999999999999999999s", "1.5s"})
    cr_assert(!parse_duration(bad), "%s", bad);
}
