// plumb ca and plumb psk, and what tlsd makes of what they write.
#include <criterion/criterion.h>
#include <sys/stat.h>

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
  cr_assert(fresh.expect("log").text.find("was revoked") != std::string::npos);
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
