#include "tests/e2e/host.hh"

#include <criterion/criterion.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>

namespace kit {
namespace {
std::vector<std::string> command_line(const TempDir& dir, const std::vector<std::string>& arguments,
                                      std::string_view config) {
  std::vector<std::string> words{binary("plumberd"), "--rundir", dir / "run"};
  if (!config.empty()) write_file(dir / "plumberd.toml", config);
  words.insert(words.end(), {"--config", config.empty() ? "/dev/null" : dir / "plumberd.toml"});
  words.insert(words.end(), arguments.begin(), arguments.end());
  return words;
}
}  // namespace

Host::Host(std::vector<std::string> arguments, std::string_view config)
    : router_{command_line(dir_, arguments, config)} {
  router_.wait_for_error("ready in ");
}

void Host::open_to_all() const {
  ::chmod(dir_.path().c_str(), 0755);
  ::chmod(rundir().c_str(), 01777);
}

Wire Host::door_as(unsigned uid) const {
  open_to_all();
  if (::seteuid(uid) != 0) give_up("cannot become another user");
  auto wire = door();
  if (::seteuid(0) != 0) give_up("cannot become root again");
  ::prctl(PR_SET_DUMPABLE, 1);  // LeakSanitizer traces us at the end
  return wire;
}

std::int64_t Host::sessions() const { return status().result()["sessions"].integer_or(-1); }

std::uint16_t Host::port() const {
  auto wire = door();
  auto answer = wire.call("status", "{}");
  const std::string actual{(*answer.result()["listeners"].begin())["actual"].string_or("")};
  return static_cast<std::uint16_t>(std::stoul(actual.substr(actual.rfind(':') + 1)));
}

std::string Host::uri(std::string_view service) const {
  return "tcp://127.0.0.1:" + std::to_string(port()) + "/" + std::string(service);
}

Wire::Datagram Host::status() const {
  auto wire = door();
  return wire.call("status", "{}");
}

pid_t Host::helper(std::string_view name) const {
  auto answer = status();
  const auto helpers = answer.result()["helpers"];
  for (const auto helper : helpers)
    if (helper["name"].string_or("") == name && helper["pid"].integer_or(0) > 0)
      return static_cast<pid_t>(helper["pid"].integer_or(0));
  give_up("the helper " + std::string(name) + " does not run");
}

Offer::Offer(const Host& host, std::string_view service, bool shared) : wire_{host.door()} {
  std::string params;
  ipc::JsonWriter{params}.object().add("service", service).add("shared", shared).end();
  auto answer = wire_.call("serve", params);
  answer.result();
}

std::pair<ipc::Fd, ipc::Labels> Offer::accept() {
  auto datagram = wire_.receive();
  cr_assert(datagram.message && datagram.message->method == "accepted");
  auto labels = datagram.message->params["labels"].labels();
  return {datagram.take_fd(), std::move(labels)};
}

std::string ask(std::string_view service, std::string_view networkd) {
  std::string params;
  ipc::JsonWriter json{params};
  json.object().add("service", service);
  if (!networkd.empty()) json.add("networkd", networkd);
  json.end();
  return params;
}

void expect_joined(int a, int b) {
  send_all(a, "there");
  cr_assert_eq(receive_exactly(b, 5), "there");
  send_all(b, "back");
  cr_assert_eq(receive_exactly(a, 4), "back");
}
}  // namespace kit
