// plumb ls, status, rules, metrics, version: what there is.
#include "ipc/name.hh"
#include "plumb/output.hh"

namespace plumb {
namespace {
using Rows = std::vector<std::vector<std::string>>;

std::string shown(ipc::JsonView value) {
  if (const auto text = value.string()) return ipc::printable(*text);
  if (const auto flag = value.boolean()) return *flag ? "yes" : "no";
  return value.exists() ? value.text() : "";
}

std::string joined(ipc::JsonView array) {
  std::string text;
  for (const auto& part : array.strings()) text += (text.empty() ? "" : ", ") + ipc::printable(part);
  return text;
}

/// A heading and the rows under it; nothing where there are none.
std::string section(const std::string& title, const Rows& rows) {
  return rows.empty() ? std::string{} : title + "\n" + aligned(rows);
}

Rows service_rows(ipc::JsonView services, const std::string& indent) {
  Rows rows;
  for (const auto service : services) {
    const auto owner = service["owner"].integer();
    rows.push_back({indent + shown(service["name"]), owner ? user_name(*owner) : shown(service["owner"]),
                    service["guarded"].boolean_or(false) ? "guarded" : "unguarded"});
  }
  return rows;
}

Rows listener_rows(ipc::JsonView listeners) {
  Rows rows;
  for (const auto listener : listeners) {
    const bool raw = listener["service"].is_string();
    rows.push_back({"  " + shown(listener["actual"]), raw ? "for " + shown(listener["service"]) : "hop"});
  }
  return rows;
}

Rows helper_rows(ipc::JsonView helpers) {
  Rows rows;
  for (const auto helper : helpers) {
    rows.push_back({"  " + shown(helper["name"]), joined(helper["schemes"]), shown(helper["state"]),
                    "pid " + shown(helper["pid"]), shown(helper["restarts"]) + " restarts"});
  }
  return rows;
}

Rows member_rows(ipc::JsonView object) {
  Rows rows;
  for (const auto& key : object.keys()) rows.push_back({"  " + key, shown(object[key])});
  return rows;
}

Rows list_rows(ipc::JsonView array) {
  Rows rows;
  for (const auto& text : array.strings()) rows.push_back({"  " + ipc::printable(text)});
  return rows;
}

std::string status_text(ipc::JsonView status) {
  const Rows head{{"version", shown(status["version"])},      {"pid", shown(status["pid"])},
                  {"run directory", shown(status["rundir"])}, {"generation", shown(status["generation"])},
                  {"rules", shown(status["rules"])},          {"connections", shown(status["sessions"])}};
  return aligned(head) + section("files", list_rows(status["files"])) +
         section("listeners", listener_rows(status["listeners"])) +
         section("helpers", helper_rows(status["helpers"])) +
         section("services", service_rows(status["services"], "  ")) +
         section("limits", member_rows(status["limits"])) + section("notes", list_rows(status["notes"]));
}

/// Asks, prints the result as JSON or by `print`, tells what went wrong.
template <class Print>
int show(const Request& request, std::string_view method, Print print) {
  const auto asked = ask_router(request, method, "{}");
  if (!asked.ok()) return fail_with(request, asked);
  const auto result = asked.answer->message.result;
  put(request.json ? result.text() + "\n" : print(result));
  return 0;
}

std::vector<std::string> rule_row(ipc::JsonView rule) {
  return {std::to_string(rule["hits"].integer_or(0)),
          rule["last"].is_string() ? shown(rule["last"]) : "never", shown(rule["at"]), shown(rule["text"])};
}
}  // namespace

int run_list(const Request& request) {
  return show(request, "list", [](ipc::JsonView result) {
    Rows rows{{"NAME", "OWNER", "GUARDED"}};
    for (auto& row : service_rows(result["services"], "")) {
      row[2] = row[2] == "guarded" ? "yes" : "no";
      rows.push_back(std::move(row));
    }
    return aligned(rows);
  });
}

int run_status(const Request& request) { return show(request, "status", status_text); }

int run_metrics(const Request& request) {
  return show(request, "metrics",
              [](ipc::JsonView result) { return std::string(result["text"].string_or("")); });
}

/// Rules come in as many messages as they need.
int run_rules(const Request& request) {
  Rows rows{{"HITS", "LAST", "AT", "RULE"}};
  std::string text;
  ipc::JsonWriter json{text};
  json.object().key("rules").array();
  for (std::int64_t offset = 0; offset >= 0;) {
    const auto asked = ask_router(request, "rules", "{\"offset\":" + std::to_string(offset) + "}");
    if (!asked.ok()) return fail_with(request, asked);
    const auto result = asked.answer->message.result;
    for (const auto rule : result["rules"]) {
      if (request.json)
        json.raw(rule.text());
      else
        rows.push_back(rule_row(rule));
    }
    const auto next = result["next"].integer_or(-1);
    offset = next > offset ? next : -1;
  }
  json.end().end();
  put(request.json ? text + "\n" : aligned(rows));
  return 0;
}

int run_version(const Request& request) {
  put_line(request.json ? "{\"version\":\"" PLUMBERD_VERSION "\"}" : "plumb " PLUMBERD_VERSION);
  return 0;
}
}  // namespace plumb
