// plumb ca and plumb psk, and what tlsd makes of what they write.
#include <criterion/criterion.h>
#include <sys/stat.h>

#include <filesystem>
#include <thread>

#include "tests/e2e/tls_kit.hh"

using namespace kit;

namespace {
Outcome plumb(const TempDir& dir, std::vector<std::string> args) {
  args.insert(args.begin(), binary("plumb"));
  return run({.args = std::move(args), .directory = dir.path()});
}

mode_t mode_of(const std::string& path) {
  struct stat status {};
  return ::stat(path.c_str(), &status) == 0 ? status.st_mode & 0777 : 0;
}

/// An authority with certificates for localhost and a client.
struct Made {
  TempDir dir;
  std::string ca = dir / "plumb-ca/";
  Made() {
    cr_assert_eq(plumb(dir, {"ca", "init"}).status, 0);
    cr_assert_eq(plumb(dir, {"ca", "issue", "localhost", "--server", "--name", "127.0.0.1"}).status, 0);
    cr_assert_eq(plumb(dir, {"ca", "issue", "alice", "--client"}).status, 0);
  }
  std::string listener() const {
    return R"("service":"pong",)" + profile({{"certificate", ca + "localhost.pem"},
                                             {"private_key", ca + "localhost.key"},
                                             {"client_ca", ca + "ca.pem"},
                                             {"crl", ca + "ca.crl"}});
  }
  std::string dialler() const {
    return R"("judge":false,)" + profile({{"certificate", ca + "alice.pem"},
                                          {"private_key", ca + "alice.key"},
                                          {"ca", ca + "ca.pem"},
                                          {"crl", ca + "ca.crl"}});
  }
};

/// What OpenSSL says about the list.
std::string list_of(const Made& made, const char* question) {
  return run({.args = {"openssl", "crl", "-noout", question, "-in", made.ca + "ca.crl"}}).output;
}

std::string serial_of(const std::string& certificate) {
  const auto said = run({.args = {"openssl", "x509", "-noout", "-serial", "-in", certificate}}).output;
  return said.substr(said.find('=') + 1);
}
}  // namespace

Test(plumb_ca, keys_are_private_and_never_printed) {
  const Made made;
  for (const auto* key : {"ca.key", "localhost.key", "alice.key"}) cr_assert_eq(mode_of(made.ca + key), 0600);
  cr_assert_eq(mode_of(made.dir / "plumb-ca"), 0700);
  const auto issued = plumb(made.dir, {"ca", "issue", "bob"});
  cr_assert((issued.output + issued.error).find("PRIVATE") == std::string::npos);
  const auto again = plumb(made.dir, {"ca", "issue", "bob"});
  cr_assert_eq(again.status, 8);
  cr_assert(again.error.find("--force") != std::string::npos);
  cr_assert_eq(plumb(made.dir, {"ca", "init"}).status, 8);
  cr_assert_eq(plumb(made.dir, {"ca", "issue", "../evil"}).status, 2);
  cr_assert_eq(plumb(made.dir, {"ca", "issue"}).status, 2);
  cr_assert_eq(plumb(made.dir, {"ca", "destroy"}).status, 2);
}

Test(plumb_ca, what_it_issues_serves_both_ends_of_mutual_tls_until_it_is_revoked) {
  const Made made;
  ScriptedRouter listener{"tlsd"};
  const auto port = listener.listen_port("tls://127.0.0.1:0", made.listener());
  const auto uri = "tls://localhost:" + std::to_string(port);
  {
    ScriptedRouter dialler{"tlsd"};
    dialler.send_dial(1, uri, made.dialler());
    auto question = listener.answer();
    cr_assert(question.message->params["labels"].labels().at("cert.names") == "alice");
    listener.answer(question, R"({"token":1,"mode":"deliver"})");
    const auto service = listener.answer().take_fd();
    const auto client = dialler.answer().take_fd();
    send_all(client.borrow(), "hello");
    cr_assert(receive_exactly(service.borrow(), 5) == "hello");
  }
  cr_assert_eq(plumb(made.dir, {"ca", "revoke", "alice"}).status, 0);
  ScriptedRouter fresh{"tlsd"};
  const auto closed = fresh.listen_port("tls://127.0.0.1:0", made.listener());
  ScriptedRouter dialler{"tlsd"};
  const auto refused = dialler.dial("tls://localhost:" + std::to_string(closed), made.dialler());
  cr_assert(refused.word() == "AUTH", "%s", refused.text.c_str());
  cr_assert(fresh.expect("failed").text.find("was revoked") != std::string::npos);
}

Test(plumb_ca, a_revocation_without_a_name_renews_the_list_and_keeps_what_is_on_it) {
  const Made made;
  const auto serial = serial_of(made.ca + "alice.pem");
  cr_assert_eq(plumb(made.dir, {"ca", "revoke", "alice"}).status, 0);
  const auto before = read_file(made.ca + "ca.crl");
  const auto renewed = plumb(made.dir, {"ca", "revoke"});
  cr_assert_eq(renewed.status, 0, "%s", renewed.error.c_str());
  cr_assert(renewed.output.find("ca.crl to the hosts") != std::string::npos, "%s", renewed.output.c_str());
  cr_assert(read_file(made.ca + "ca.crl") != before);
  cr_assert(list_of(made, "-text").find(serial) != std::string::npos, "%s", list_of(made, "-text").c_str());
  cr_assert_eq(plumb(made.dir, {"ca", "revoke", ""}).status, 2, "an empty variable of a script is no wish");
}

Test(plumb_ca, a_certificate_that_is_replaced_is_revoked) {
  const Made made;
  const auto replaced = serial_of(made.ca + "alice.pem");
  const auto issued = plumb(made.dir, {"ca", "issue", "alice", "--force"});
  cr_assert_eq(issued.status, 0, "%s", issued.error.c_str());
  cr_assert(issued.output.find("revoked the one that it replaces") != std::string::npos, "%s",
            issued.output.c_str());
  const auto list = list_of(made, "-text");
  cr_assert(list.find(replaced) != std::string::npos, "%s", list.c_str());
  cr_assert(list.find(serial_of(made.ca + "alice.pem")) == std::string::npos, "%s", list.c_str());
  write_file(made.ca + "bob.pem", "no certificate");
  cr_assert_eq(plumb(made.dir, {"ca", "issue", "bob", "--force"}).status, 0, "nothing there to revoke");
}

Test(plumb_ca, an_authority_whose_key_was_moved_away_is_not_replaced) {
  const Made made;
  std::filesystem::rename(made.ca + "ca.key", made.dir / "offline.key");
  const auto certificate = read_file(made.ca + "ca.pem"), list = read_file(made.ca + "ca.crl");
  const auto refused = plumb(made.dir, {"ca", "init"});
  cr_assert_eq(refused.status, 8, "%s", refused.error.c_str());
  cr_assert(refused.error.find("ca.pem exists") != std::string::npos, "%s", refused.error.c_str());
  cr_assert(read_file(made.ca + "ca.pem") == certificate && read_file(made.ca + "ca.crl") == list);
  std::filesystem::remove(made.ca + "ca.pem");
  cr_assert_eq(plumb(made.dir, {"ca", "init"}).status, 8, "its list is left");
}

Test(plumb_ca, a_key_whose_certificate_is_elsewhere_is_replaced_by_force_only) {
  const Made made;
  const auto key = read_file(made.ca + "alice.key");
  std::filesystem::remove(made.ca + "alice.pem");
  const auto refused = plumb(made.dir, {"ca", "issue", "alice"});
  cr_assert_eq(refused.status, 8, "%s", refused.error.c_str());
  cr_assert(refused.error.find("alice.key exists") != std::string::npos, "%s", refused.error.c_str());
  cr_assert(read_file(made.ca + "alice.key") == key);
  cr_assert_eq(plumb(made.dir, {"ca", "issue", "alice", "--force"}).status, 0);
  cr_assert(read_file(made.ca + "alice.key") != key);
}

Test(plumb_ca, of_revocations_at_the_same_time_none_is_lost) {
  const Made made;
  constexpr int count = 12;
  const auto name = [](int i) { return "host" + std::to_string(i); };
  for (int i = 0; i < count; ++i) cr_assert_eq(plumb(made.dir, {"ca", "issue", name(i)}).status, 0);
  std::vector<std::unique_ptr<Process>> all;
  for (int i = 0; i < count; ++i)
    all.push_back(std::make_unique<Process>(
        Command{.args = {binary("plumb"), "ca", "revoke", name(i)}, .directory = made.dir.path()}));
  for (auto& process : all) cr_assert_eq(process->wait(), 0, "%s", process->error().c_str());
  const auto list = list_of(made, "-text");
  for (int i = 0; i < count; ++i) {
    const auto serial = serial_of(made.ca + name(i) + ".pem");
    cr_assert(list.find(serial) != std::string::npos, "%s is not on %s", serial.c_str(), list.c_str());
  }
}

Test(plumb_ca, an_identity_that_a_psk_file_cannot_hold_gets_no_key) {
  TempDir dir;
  const auto status = [&](const std::string& identity) {
    return plumb(dir, {"psk", "new", identity}).status;
  };
  for (const auto* identity : {"a:b", "#a", " a", "a ", "a\nb", "a\tb", "\xc3\xa4", ""})
    cr_assert_eq(status(identity), 2, "\"%s\"", identity);
  for (const auto* identity : {"a b", "a#", "\\x41"}) cr_assert_eq(status(identity), 0, "\"%s\"", identity);
  cr_assert_eq(status(std::string(128, 'a')), 0);
  cr_assert_eq(status(std::string(129, 'a')), 2);
}

Test(plumb_ca, a_directory_that_exists_keeps_its_mode_and_one_that_others_may_write_is_refused) {
  TempDir dir;
  const auto mine = dir / "mine", shared = dir / "shared";
  ::mkdir(mine.c_str(), 0755);
  ::mkdir(shared.c_str(), 0700);
  ::chmod(shared.c_str(), 01777);
  cr_assert_eq(plumb(dir, {"ca", "init", "--dir", mine}).status, 0);
  cr_assert_eq(mode_of(mine), 0755);
  const auto refused = plumb(dir, {"ca", "init", "--dir", shared});
  cr_assert_eq(refused.status, 2);
  cr_assert(refused.error.find("can be written by its group or by others") != std::string::npos, "%s",
            refused.error.c_str());
  cr_assert_eq(mode_of(shared), 0777);
}

Test(plumb_ca, a_drawn_key_is_a_line_of_a_psk_file) {
  TempDir dir;
  const auto drawn = plumb(dir, {"psk", "new", "alice"});
  cr_assert_eq(drawn.status, 0);
  cr_assert(drawn.output.starts_with("alice:"));
  cr_assert_eq(drawn.output.size(), 6U + 64 + 1);
  cr_assert(plumb(dir, {"psk", "new", "alice"}).output != drawn.output);
  write_file(dir / "psk", drawn.output);
  ::chmod((dir / "psk").c_str(), 0600);
  ScriptedRouter listener{"tlsd"};
  const auto port = listener.listen_port("tls://127.0.0.1:0",
                                         R"("service":"pong",)" + profile({{"psk_file", dir / "psk"}}));
  ScriptedRouter dialler{"tlsd"};
  dialler.send_dial(1, "tls://alice@localhost:" + std::to_string(port),
                    R"("judge":false,)" + profile({{"psk_file", dir / "psk"}}));
  auto question = listener.answer();
  cr_assert(question.message->params["labels"].labels().at("psk.identity") == "alice");
  listener.answer(question, R"({"token":1,"mode":"deliver"})");
  const auto service = listener.answer().take_fd();
  const auto client = dialler.answer().take_fd();
  cr_assert(client && service);
  // Neither side ever says the key.
  const auto secret = drawn.output.substr(6, 64);
  for (auto* router : {&listener, &dialler})
    cr_assert((router->logs() + router->helper().error() + router->helper().output()).find(secret) ==
              std::string::npos);
}
