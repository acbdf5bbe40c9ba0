// Bad input at the doors: each message gets an error that says what is wrong, costs the others nothing, and
// leaves nothing behind.
#include <criterion/criterion.h>
#include <dirent.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "ipc/client.hh"
#include "ipc/frame.hh"
#include "ipc/service.hh"
#include "tests/e2e/hostile.hh"

using namespace std::chrono_literals;
using kit::ask;
using kit::Host;
using kit::Offer;

namespace {
std::string request(std::string_view method, std::string_view params) {
  return ipc::rpc::request("1", method, params);
}

std::string with_nul(std::string text) { return text.insert(text.size() / 2, 1, '\0'); }

std::string nested(std::size_t depth) {
  return R"({"jsonrpc":"2.0","id":1,"method":"ping","params":{"a":)" + std::string(depth, '[') +
         std::string(depth, ']') + "}}";
}

const std::vector<std::string>& twisted_messages() {
  static const std::vector<std::string> all{
      "{",
      "}",
      "[]",
      "null",
      "\"ping\"",
      "{}",
      with_nul(request("ping", "{}")),
      std::string(1000, '\0'),
      std::string(60'000, '\xff'),
      std::string(60'000, '['),
      std::string(60'000, '{'),
      "[" + request("ping", "{}") + "]",
      request("ping", "{}").substr(0, 20),
      request("ping", "{}") + request("ping", "{}"),
      nested(17),
      nested(500),
      nested(30'000),
      R"({"jsonrpc":"2.0","jsonrpc":"2.0","id":1,"method":"ping"})",
      R"({"jsonrpc":"2.0","id":1,"method":"ping","params":{"a":1,"a":2}})",
      R"({"jsonrpc":"2.0","id":1,"method":"ping","params":{"\u0061":1,"a":2}})",
      R"({"jsonrpc":"1.0","id":1,"method":"ping"})",
      R"({"id":1,"method":"ping"})",
      R"({"jsonrpc":"2.0","id":{},"method":"ping"})",
      R"({"jsonrpc":"2.0","id":1.5,"method":"ping"})",
      R"({"jsonrpc":"2.0","id":")" + std::string(200, 'x') + R"(","method":"ping"})",
      R"({"jsonrpc":"2.0","id":1,"method":7})",
      R"({"jsonrpc":"2.0","id":1,"method":""})",
      R"({"jsonrpc":"2.0","id":1,"method":"ping","params":[]})",
      R"({"jsonrpc":"2.0","id":1,"method":"ping","params":{"a":"\ud800"}})",
      R"({"jsonrpc":"2.0","id":1,"method":"ping","params":{"a":"\ude00"}})",
      R"({"jsonrpc":"2.0","id":1,"method":"ping","params":{"a":"\u0000"}})",
      R"({"jsonrpc":"2.0","id":1,"method":"ping","params":{"a":1e999}})",
      R"({"jsonrpc":"2.0","id":1,"method":"ping","params":{"a":29e307}})",
      "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"p\xc3\x28\"}",
      R"({"jsonrpc":"2.0","id":1})",
      R"({"jsonrpc":"2.0","id":1,"method":"\u001b[31mred"})",
      request("connect", "{}"),
      request("connect", R"({"service":7})"),
      request("connect", R"({"service":"a","uri":"tcp://b:1"})"),
      request("serve", "{}"),
      request("reload", R"({"confirm":-1})"),
      request("reload", R"({"confirm":9999999999})"),
  };
  return all;
}

const std::vector<std::string>& bad_names() {
  static const std::vector<std::string> all{"..",
                                            "../etc/passwd",
                                            "/",
                                            "a/b",
                                            ".",
                                            "a.",
                                            ".a",
                                            "a..b",
                                            "a b",
                                            "a\tb",
                                            "a\nb",
                                            "-a",
                                            "ipc",
                                            "network",
                                            "plumberd",
                                            "plumberd.x",
                                            "a.lock",
                                            "a;b",
                                            "a%2fb",
                                            "\xc3\xa9",
                                            "a*",
                                            "*",
                                            "unix:///a",
                                            "~",
                                            std::string(64, 'a'),
                                            std::string(4096, 'a'),
                                            std::string(50'000, '.')};
  return all;
}

std::size_t entries_of(const std::string& directory) {
  std::size_t count = 0;
  DIR* open = ::opendir(directory.c_str());
  while (::readdir(open) != nullptr) ++count;
  ::closedir(open);
  return count;
}
}  // namespace

Test(hostile_messages, that_are_twisted_are_bad_requests_and_the_connection_goes_on) {
  Host host;
  const auto before = kit::warmed_up(host);
  auto door = host.door();
  for (const auto& text : twisted_messages()) {
    door.send(text);
    const auto answer = door.receive();
    cr_assert(answer.word() == "BAD_REQUEST", "\"%s\" gets %s", text.substr(0, 80).c_str(),
              answer.text.c_str());
    for (const char c : answer.text) cr_assert(c >= 0x20 && c < 0x7f, "%s", answer.text.c_str());
  }
  cr_assert_eq(door.call("ping", "{}").word(), "");
  door.close();
  kit::expect_well(host, before);
}

Test(hostile_messages, of_65537_bytes_are_refused_and_the_next_is_heard) {
  Host host;
  auto door = host.door();
  door.send(std::string(65'537, ' '));
  cr_assert_eq(door.receive().word(), "BAD_REQUEST");
  auto longest = request("ping", "{}");
  longest.resize(65'536, ' ');
  door.send(longest);
  cr_assert_eq(door.receive().result()["version"].string_or(""), PLUMBERD_VERSION);
}

Test(hostile_messages, answers_to_questions_that_were_never_asked_are_ignored) {
  Host host;
  auto door = host.door();
  door.send(R"({"jsonrpc":"2.0","id":1,"result":{"fd":0}})");
  door.send(R"({"jsonrpc":"2.0","id":null,"error":{"code":-1,"message":"no"}})");
  door.send(R"({"jsonrpc":"2.0","method":"accepted","params":{"fd":0}})");
  cr_assert_eq(door.call("ping", "{}").word(), "");
}

Test(hostile_messages, with_descriptors_that_nobody_asked_for_leave_none_behind) {
  Host host;
  const auto before = kit::warmed_up(host);
  auto door = host.door();
  const ipc::Fd null{::open("/dev/null", O_RDONLY | O_CLOEXEC)};
  for (const std::size_t copies : {1U, 16U, 17U, 253U})
    for (int i = 0; i < 20; ++i) {
      const int code = kit::send_with_copies(door.borrow(), request("ping", "{}"), null.borrow(), copies);
      cr_assert(code == 0 || code == EPERM);  // EPERM: the kernel itself refuses (SO_PASSRIGHTS)
      if (code == 0) door.receive();
    }
  cr_assert_eq(door.call("ping", "{}").word(), "");
  door.close();
  kit::expect_well(host, before);
}

Test(hostile_messages, naming_no_service_never_reach_the_file_system) {
  Host host;
  const auto files = entries_of(host.rundir());
  auto door = host.door();
  for (const auto& name : bad_names())
    for (const auto* method : {"connect", "serve", "explain"}) {
      const auto answer = door.call(method, ask(name));
      const auto code = answer.message && answer.message->result.exists()
                            ? answer.message->result["code"].string_or("")
                            : std::string_view{};
      cr_assert(answer.word() == "BAD_REQUEST" || code == "BAD_REQUEST", "%s %s: %s", method, name.c_str(),
                answer.text.c_str());
      cr_assert_lt(answer.text.size(), 2048U);
    }
  cr_assert_eq(entries_of(host.rundir()), files);
}

Test(hostile_messages, with_malformed_uris_are_bad_requests_without_their_secrets) {
  Host host;
  auto door = host.door();
  for (const auto* uri : {"",
                          "tcp:",
                          "tcp:/",
                          "tcp://",
                          "tcp:///",
                          "tcp://:9",
                          "tcp://host",
                          "tcp://host:",
                          "tcp://host:/",
                          "tcp://host:0x50",
                          "tcp://host:65536",
                          "tcp://host:-1",
                          "tcp://host:99999999999999999999/x",
                          "tcp://127.1:9",
                          "tcp://0x7f.1:9",
                          "tcp://2130706433:9",
                          "tcp://1.2.3.4.5:9",
                          "tcp://256.1.1.1:9",
                          "tcp://::1:9",
                          "tcp://[::1:9",
                          "tcp://[fe80::1%25eth0]:9",
                          "tcp://[v1.x]:9",
                          "tcp://a..b:9",
                          "tcp://host:9/a/b",
                          "tcp://host:9/..",
                          "tcp://host:9/a?q=1",
                          "tcp://host:9/a#f",
                          "tcp://host:9/a%2fb",
                          "tcp://host:9/a%00b",
                          "tcp://host:9/a%0ab",
                          "tcp://ho st:9",
                          "tcp://host:9/ipc",
                          "tcp://user@host:9",
                          "tls://a:s3cr3t@host:x",
                          "tls://a:s3cr3t/y@host:9",
                          "tls://a:s3c?r3t@host:9/#",
                          "tls://a@s3cr3t:h:9:9",
                          "unix://",
                          "unix:///",
                          "unix:////",
                          "unix:///a/../b",
                          "unix:///a//b",
                          "unix:///a/b?type=raw",
                          "unix:///a/b?x=y",
                          "unix://a/b",
                          "unix:///a%2fb/c",
                          "unix:///plumberd",
                          "x",
                          "://",
                          "1tcp://h:1",
                          "tcp\t://h:1",
                          "%74cp://h:1"}) {
    std::string params;
    ipc::JsonWriter{params}.object().add("uri", uri).end();
    const auto answer = door.call("connect", params);
    cr_assert(answer.word() == "BAD_REQUEST", "%s: %s", uri, answer.text.c_str());
    for (const auto* part : {"s3cr3t", "s3c"})
      cr_assert(answer.text.find(part) == std::string::npos, "%s: %s", uri, answer.text.c_str());
  }
  cr_assert(host.router().error().find("s3c") == std::string::npos);
  std::string endless;
  ipc::JsonWriter{endless}.object().add("uri", "tcp://" + std::string(60'000, 'a') + ":9").end();
  cr_assert_eq(door.call("connect", endless).word(), "BAD_REQUEST");
}

Test(hostile_messages, cannot_make_one_to_a_helper_that_it_cannot_bear) {
  Host host;
  kit::warmed_up(host);
  const auto tcpd = host.helper("tcpd");
  kit::TcpServer server{kit::pong};
  const auto uri = "tcp://127.0.0.1:" + std::to_string(server.port());
  auto door = host.door();
  // What takes two bytes here takes six when it is written again.
  std::string newlines;
  for (int i = 0; i < 20'000; ++i) newlines += "\\n";
  const auto labels = R"({"a":")" + newlines + R"("})";
  cr_assert_eq(door.call("connect", R"({"uri":")" + uri + R"(","labels":)" + labels + "}").word(),
               "BAD_REQUEST");
  cr_assert(door.call("connect", R"({"uri":")" + uri + R"("})").take_fd());
  cr_assert_eq(host.helper("tcpd"), tcpd, "the helper lives on");
}

Test(hostile_messages, with_long_names_do_not_fill_the_memory_of_the_router) {
  kit::free_memory_at_once();
  Host host;
  auto door = host.door();
  const auto params = ask(std::string(60'000, 'a'));
  for (int i = 0; i < 100; ++i) door.call("connect", params);
  const auto before = kit::vitals_of(host.router_pid()).memory_kib;
  for (int i = 0; i < 1500; ++i) cr_assert_eq(door.call("connect", params).word(), "BAD_REQUEST");
  const auto after = kit::vitals_of(host.router_pid()).memory_kib;
  cr_assert_lt(after, before + 16 * 1024, "%zu KiB, then %zu KiB", before, after);
}

Test(hostile_networkd, of_a_megabyte_is_read_for_the_name_asked_and_refused_where_that_is_too_long) {
  Host host;
  ::setenv("IPC_RUNDIR", host.rundir().c_str(), 1);
  auto service = kit::must(ipc::Service::serve("pong"));
  std::string all;
  while (all.size() < 1024 * 1024) all += "other" + std::to_string(all.size()) + " tcp://127.0.0.1:9/x;";
  const auto good = all + "pong unix:///pong;" + all;
  cr_assert(kit::must(ipc::connect("pong", {.networkd = good})).fd);
  const auto bad = "pong tcp://" + std::string(1024 * 1024, 'a') + ":9/pong";
  cr_assert_eq(ipc::connect("pong", {.networkd = bad}).error().word, ipc::Word::bad_request);
  const auto nul = std::string("pong unix:///pong") + '\0' + ";";
  cr_assert_eq(ipc::connect("pong", {.networkd = nul}).error().word, ipc::Word::bad_request);
}

Test(hostile_networkd, that_is_malformed_for_the_name_asked_is_a_bad_request) {
  Host host;
  const Offer offer{host, "pong"};
  auto door = host.door();
  for (const auto* text :
       {"pong", "pong ", "pong a b", "pong tcp://", "pong ../x", "pong  ;", "pong unix:///a b"})
    cr_assert_eq(door.call("connect", ask("pong", text)).word(), "BAD_REQUEST", "%s", text);
  for (const auto* text : {";;;", "other", "other a b c;;pong unix:///pong", " \t;pong pong"})
    cr_assert_eq(door.call("connect", ask("pong", text)).word(), "", "%s", text);
}
