// Reloads as they happen: confirmed or not, while the file is being written, many at once, and by the names
// of people who come and go.
#include <criterion/criterion.h>
#include <stdio.h>

#include <atomic>
#include <thread>

#include "tests/e2e/host.hh"

using kit::ask;
using kit::Host;

namespace {
const std::string denies = "rules = [\"deny out pong *\"]\n";
const std::string allows = "rules = [\"allow out pong *\"]\n";
const std::string pong = ask("pong", "pong tcp://127.0.0.1:9");

std::string word_of_pong(const Host& host) {
  auto door = host.door();
  return door.call("connect", pong).word();
}

std::string reload(const Host& host, std::string_view params = "{}") {
  auto door = host.door();
  return door.call("reload", params).word();
}

/// As editors save a file: written beside it, then renamed over it.
void save(const Host& host, const std::string& text) {
  const auto beside = host.config_path() + "~";
  kit::write_file(beside, text);
  cr_assert_eq(::rename(beside.c_str(), host.config_path().c_str()), 0);
}
}  // namespace

Test(reload, that_is_confirmed_stays) {
  Host host{{}, denies};
  host.write_config(allows);
  cr_assert_eq(reload(host, R"({"confirm":60})"), "");
  auto door = host.door();
  cr_assert_eq(door.call("confirm", "{}").result()["generation"].integer_or(0), 2);
  cr_assert_eq(door.call("confirm", "{}").word(), "BAD_REQUEST", "nothing waits any more");
  cr_assert_eq(word_of_pong(host), "UNREACHABLE");
}

Test(reload, not_confirmed_twice_goes_back_to_the_configuration_before_both) {
  Host host{{}, denies};
  host.write_config(allows);
  cr_assert_eq(reload(host, R"({"confirm":86400})"), "");
  host.write_config("rules = [\"allow out pong *\", \"deny out other *\"]\n");
  cr_assert_eq(reload(host, R"({"confirm":1})"), "");
  cr_assert_eq(word_of_pong(host), "UNREACHABLE");
  cr_assert(kit::eventually([&] { return word_of_pong(host) == "DENIED"; }));
}

Test(reload, refused_while_another_waits_for_confirmation_changes_nothing_about_that) {
  Host host{{}, denies};
  host.write_config(allows);
  cr_assert_eq(reload(host, R"({"confirm":2})"), "");
  host.write_config("rules = [\"half a ru");
  cr_assert_eq(reload(host), "BAD_REQUEST");
  cr_assert_eq(word_of_pong(host), "UNREACHABLE");
  cr_assert(kit::eventually([&] { return word_of_pong(host) == "DENIED"; }));
}

Test(reload, while_an_editor_saves_sees_one_version_or_the_other) {
  Host host{{}, denies};
  std::atomic<bool> done = false;
  std::jthread editor{[&] {
    for (int i = 0; !done; ++i) save(host, i % 2 == 0 ? allows : denies);
  }};
  for (int i = 0; i < 50; ++i) {
    cr_assert_eq(reload(host), "");
    const auto word = word_of_pong(host);
    cr_assert(word == "DENIED" || word == "UNREACHABLE", "%s", word.c_str());
  }
  done = true;
}

Test(reload, while_the_file_is_written_in_place_is_whole_or_refused) {
  Host host{{}, denies};
  const auto many = [](std::string text) {
    text.insert(text.find('[') + 1, "\n");
    for (int i = 0; i < 2'000; ++i)
      text.insert(text.find('[') + 1, "\"deny out n" + std::to_string(i) + " *\",\n");
    return text;
  };
  const auto long_denial = many(denies), long_permission = many(allows);
  std::atomic<bool> done = false;
  std::jthread writer{[&] {
    for (int i = 0; !done; ++i) host.write_config(i % 2 == 0 ? long_permission : long_denial);
  }};
  for (int i = 0; i < 50; ++i) {
    reload(host);
    const auto word = word_of_pong(host);
    // A file that was just emptied is a configuration, too: it denies nothing of the owner's.
    cr_assert(word == "DENIED" || word == "UNREACHABLE", "%s", word.c_str());
  }
  done = true;
  writer.join();
  host.write_config(long_denial);
  cr_assert_eq(reload(host), "");
  cr_assert_eq(word_of_pong(host), "DENIED");
}

Test(reload, whose_tests_fail_is_refused_and_names_the_test_and_the_rule) {
  Host host{{}, denies};
  host.write_config(
      allows +
      "[[test]]\nas = \"user:root\"\ndirection = \"out\"\nservice = \"pong\"\npeer = \"tcp:h:1\"\n"
      "expect = \"deny\"\n");
  auto door = host.door();
  const auto refused = door.call("reload", "{}");
  cr_assert_eq(refused.word(), "BAD_REQUEST");
  const auto why = refused.message->error_data["errors"].at(0).string_or("");
  cr_assert_neq(why.find("plumberd.toml:2:1: error: test failed: expected deny, but it is allow: rule at "),
                why.npos, "%s", std::string(why).c_str());
  cr_assert_eq(word_of_pong(host), "DENIED");
}
