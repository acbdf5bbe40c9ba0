// A name is judged by what it resolves to, each address alone, and nothing that was not judged is handed
// over: DNS rebinding fails.
#include <criterion/criterion.h>

#include "tests/e2e/host.hh"

using kit::Host;

namespace {
/// A helper whose resolver answers a public address first and the loopback second; it reports what it was
/// allowed.
constexpr const char* script = R"(
import json, os, socket
channel = socket.socket(fileno=int(os.environ["PLUMBERD_HELPER_FD"]))
channel.setblocking(True)
def send(message): channel.send(json.dumps({"jsonrpc": "2.0", **message}).encode())
send({"method": "hello", "params": {"protocol": 1, "schemes": ["fake"]}})
dials = {}
while True:
    data = channel.recv(65536)
    if not data: break
    m = json.loads(data)
    if m.get("method") == "dial":
        dials["j%s" % m["id"]] = m["id"]
        send({"id": "j%s" % m["id"], "method": "judge", "params": {"dial": m["params"]["id"], "addresses": ["192.0.2.7", "127.0.0.1"]}})
    elif m.get("id") in dials:
        text = "may dial " + ",".join(m["result"]["allowed"])
        send({"id": dials[m["id"]], "error": {"code": -32000, "message": text, "data": {"code": "UNREACHABLE"}}})
)";

std::string config_with(const kit::TempDir& dir, const std::string& rules) {
  kit::write_file(dir / "fake.py", script);
  return "rules = [" + rules + "]\n[helpers.fake]\nexec = [\"/usr/bin/python3\", \"" + (dir / "fake.py") +
         "\"]\nschemes = [\"fake\"]\n";
}

std::string dial(const Host& host) {
  auto client = host.door();
  auto answer = client.call("connect", R"({"uri":"fake://rebind.example.com:80"})");
  return answer.word() + ": " + answer.message->failure.text;
}
}  // namespace

Test(rebinding, loopback_behind_a_name_is_refused_and_the_public_address_is_not) {
  const kit::TempDir dir;
  Host host{{}, config_with(dir, "\"allow out * fake:*.example.com\"")};
  const auto said = dial(host);
  cr_assert(said.ends_with("may dial 192.0.2.7"), "%s", said.c_str());
}

Test(rebinding, rule_that_names_the_address_admits_it) {
  const kit::TempDir dir;
  Host host{{}, config_with(dir, "\"allow out * fake:127.0.0.0/8\", \"deny out * *\"")};
  const auto said = dial(host);
  cr_assert(said.ends_with("may dial 127.0.0.1"), "%s", said.c_str());
}

Test(rebinding, denial_of_all_addresses_is_the_answer) {
  const kit::TempDir dir;
  Host host{{}, config_with(dir, "\"deny out * fake:192.0.2.0/24\", \"allow out * fake\"")};
  cr_assert(dial(host).starts_with("DENIED: "), "%s", dial(host).c_str());
}
