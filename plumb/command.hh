// What every command of plumb shares: what was asked, the table of commands, how results and failures are
// told.
#pragma once
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ipc/client.hh"
#include "ipc/door.hh"
#include "ipc/error.hh"
#include "ipc/json.hh"

namespace plumb {

/// The command line, taken apart.
struct Request {
  std::string command{};
  bool json = false;
  std::string rundir{};
  std::string subject{};                  ///< SERVICE, SERVICE|URI or NAME
  std::vector<std::string> program{};     ///< what follows "--"
  double timeout = 30;                    ///< seconds
  bool fdpass = false;                    ///< connect
  bool shared = false;                    ///< serve
  int max_children = 64;                  ///< serve
  double idle = 60;                       ///< serve: seconds; 0: no limit
  std::optional<std::string> networkd{};  ///< explain, connect, ping
  std::string as{};                       ///< explain
  bool inbound = false;                   ///< explain
  std::string from{};                     ///< explain
  int confirm_seconds = 0;                ///< reload
  std::string since{};                    ///< events
  int count = -1;                         ///< events
  bool follow = false;                    ///< events
  std::string action{};                   ///< ca: init, issue, revoke; psk: new
  std::string directory{};                ///< ca
  std::vector<std::string> names{};       ///< ca issue: further names
  int days = 0;                           ///< ca; 0: the default
  bool for_client = false;                ///< ca issue
  bool for_server = false;                ///< ca issue
  bool force = false;                     ///< ca issue

  ipc::Milliseconds patience() const { return ipc::Milliseconds{static_cast<std::int64_t>(timeout * 1000)}; }
  ipc::Milliseconds idle_limit() const { return ipc::Milliseconds{static_cast<std::int64_t>(idle * 1000)}; }
  /// A URI, not the name of a service.
  bool is_uri() const { return subject.find("://") != std::string::npos; }
};

/// One command. A later one is a line in commands.cc, its options in cli.cc, and a file with its `run`.
struct Command {
  std::string_view name;
  std::string_view summary;   ///< one line of `plumb --help`
  std::string_view synopsis;  ///< behind the name, as plumb(1) writes it
  std::string_view example;
  int (*run)(const Request& request);  ///< gives the exit status
};
std::span<const Command> commands();
const Command* find_command(std::string_view name);

int run_connect(const Request& request);
int run_serve(const Request& request);
int run_ping(const Request& request);
int run_list(const Request& request);
int run_status(const Request& request);
int run_explain(const Request& request);
int run_rules(const Request& request);
int run_reload(const Request& request);
int run_confirm(const Request& request);
int run_events(const Request& request);
int run_metrics(const Request& request);
int run_ca(const Request& request);
int run_psk(const Request& request);
int run_version(const Request& request);

}  // namespace plumb
