#include "plumb/decision.hh"

#include <algorithm>

#include "ipc/error.hh"
#include "ipc/name.hh"
#include "plumb/output.hh"

namespace plumb {
namespace {
std::string shown(ipc::JsonView text) { return ipc::printable(text.string_or("")); }

std::string in_brackets(const std::string& at) { return at.empty() ? at : "[" + at + "]"; }

std::string who(ipc::JsonView decision) {
  const auto client = decision["client"];
  if (!client["uid"].integer())
    return decision["direction"].string_or("") == "in" ? shown(decision["peer"]) : "";
  auto text = user_name(*client["uid"].integer()) + " (uid " + std::to_string(*client["uid"].integer());
  if (client["pid"].integer_or(0) > 0) text += ", pid " + std::to_string(*client["pid"].integer());
  for (const char* fact : {"exe", "unit"})
    if (client[fact].is_string()) text += ", " + shown(client[fact]);
  return text + ")";
}

std::vector<std::string> step_row(std::size_t number, ipc::JsonView step) {
  const auto from = shown(step["from"]);
  const auto to = shown(step["to"]);
  const bool is_change =
      step["kind"].string_or("").find("rule") == std::string::npos && shown(step["kind"]) != "undecided";
  const auto change = from.empty() || to.empty() ? from + to : from + (is_change ? " -> " : ": ") + to;
  return {"  " + std::to_string(number) + ".", shown(step["kind"]), change, in_brackets(shown(step["at"]))};
}

std::string steps_of(ipc::JsonView decision) {
  std::vector<std::vector<std::string>> rows;
  const auto steps = decision["steps"];
  if (!steps.is_array()) return {};
  for (const auto step : steps) rows.push_back(step_row(rows.size() + 1, step));
  return aligned(rows);
}

/// Who the other host is, by what TLS authenticated.
std::string proved(ipc::JsonView decision) {
  std::string text;
  const auto labels = decision["proved"].labels();
  for (const auto& [name, value] : labels) text += ", " + ipc::printable(name) + " " + ipc::printable(value);
  return text;
}

std::string reason(ipc::JsonView decision) {
  const auto rule = decision["rule"];
  if (rule.is_object()) return "by \"" + shown(rule["text"]) + "\" " + in_brackets(shown(rule["at"]));
  return shown(decision["reason"]);
}

void add_line(std::string& text, std::string_view name, const std::string& value) {
  constexpr std::size_t width = 9;
  if (value.empty()) return;
  text += std::string(name) + std::string(width - std::min(width, name.size()), ' ') + value + "\n";
}
}  // namespace

std::string decision_as_list(ipc::JsonView decision) {
  std::string text;
  add_line(text, "request", shown(decision["direction"]) + " " + shown(decision["asked"]));
  add_line(text, "client", who(decision));
  text += steps_of(decision);
  const auto audited = decision["would_deny"];
  add_line(text, "opens", shown(decision["opened"]));
  add_line(text, "peer", shown(decision["direction"]) == "in" ? "" : shown(decision["peer"]));
  add_line(text, "verdict", shown(decision["verdict"]) + " " + reason(decision));
  if (audited.is_object())
    add_line(text, "audit",
             "would deny: \"" + shown(audited["text"]) + "\" " + in_brackets(shown(audited["at"])));
  add_line(text, "helper", shown(decision["helper"]));
  if (decision["code"].is_string())
    add_line(text, "error", shown(decision["code"]) + ": " + shown(decision["message"]));
  return text;
}

std::string decision_as_line(ipc::JsonView decision) {
  const bool failed = decision["code"].is_string();
  const auto verdict = decision["verdict"].string_or("");
  const auto asked = shown(decision["asked"]);
  const auto opened = shown(decision["opened"]);
  auto text = std::to_string(decision["id"].integer_or(0)) + " " + shown(decision["time"]) + " ";
  text += (failed && verdict != "deny" ? "fail" : std::string(verdict)) + " " + shown(decision["direction"]) +
          (asked.empty() ? "" : " " + asked);
  if (opened != asked && !opened.empty()) text += " -> " + opened;
  if (const auto client = who(decision); !client.empty()) text += ", " + client;
  if (shown(decision["direction"]) != "in" && decision["peer"].is_string())
    text += ", to " + shown(decision["peer"]);
  if (decision["path"].is_string()) text += ", " + shown(decision["path"]);
  text += proved(decision);
  if (const auto why = reason(decision); !why.empty()) text += ", " + why;
  if (failed && verdict != "deny") text += ", " + shown(decision["code"]) + ": " + shown(decision["message"]);
  return text;
}

int exit_status_of_decision(ipc::JsonView decision) {
  if (const auto word = ipc::word_from(decision["code"].string_or(""))) return exit_status_of(*word);
  return decision["verdict"].string_or("") == "deny" ? exit_status_of(ipc::Word::denied) : 0;
}
}  // namespace plumb
