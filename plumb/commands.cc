#include <algorithm>
#include <array>

#include "plumb/command.hh"

namespace plumb {
namespace {
constexpr std::array table{
    Command{"connect", "connect to a service and carry bytes, or run a program on the connection",
            "SERVICE|URI [--fdpass] [-- COMMAND [ARGUMENT...]]",
            "echo ping | plumb connect pong\n"
            "ssh -o ProxyCommand='plumb connect --fdpass %h' -o ProxyUseFdpass=yes host",
            &run_connect},
    Command{"serve", "offer a service; each connection runs a program on descriptors 0 and 1",
            "NAME [--shared] [--max N] [--idle SECONDS] -- COMMAND [ARGUMENT...]",
            "plumb serve pong -- sed -u 's/^.*$/pong/'", &run_serve},
    Command{"ping",
            "ask for a service, say how and how fast it was reached, and close; or ask the router itself",
            "[SERVICE|URI]", "plumb ping pong", &run_ping},
    Command{"ls", "list the services that you may reach", "", "plumb ls", &run_list},
    Command{"status", "show the router: listeners, helpers, services, limits", "", "plumb status --json",
            &run_status},
    Command{"explain", "say how a request would be routed and judged, without connecting",
            "SERVICE|URI [--networkd VALUE] [--as SELECTORS] [--in --from SCHEME:HOST]",
            "plumb explain pong --networkd 'pong tcp://192.0.2.1/pong' --as user:alice", &run_explain},
    Command{"rules", "list the rules with how often each decided", "", "plumb rules", &run_rules},
    Command{"reload", "load the configuration anew, all of it or nothing", "[--confirm SECONDS]",
            "plumb reload --confirm 60    # back to the old rules unless `plumb confirm` comes in time",
            &run_reload},
    Command{"confirm", "keep what `reload --confirm` loaded", "", "plumb confirm", &run_confirm},
    Command{"events", "show decisions: those of the past, or with -f those to come as well",
            "[--since ID|TIME] [--count N] [-f]", "plumb events --count 10 -f", &run_events},
    Command{"metrics", "print the router's counters for Prometheus", "", "plumb metrics", &run_metrics},
    Command{
        "ca", "make a certification authority, issue certificates, revoke them",
        "init|issue|revoke [NAME] [--client] [--server] [--name NAME]... [--days N] [--dir DIR] [--force]",
        "plumb ca init\nplumb ca issue web.example.com\nplumb ca revoke web.example.com\n"
        "plumb ca revoke    # nobody: the list is good for another year",
        &run_ca},
    Command{"psk", "draw a pre-shared key, as a line of a psk_file", "new [IDENTITY]",
            "(umask 077; plumb psk new alice >>/etc/plumberd/psk)", &run_psk},
    Command{"version", "print the version", "", "plumb version", &run_version},
};
}  // namespace

std::span<const Command> commands() { return table; }

const Command* find_command(std::string_view name) {
  const auto* const found = std::ranges::find(table, name, &Command::name);
  return found == table.end() ? nullptr : found;
}
}  // namespace plumb
