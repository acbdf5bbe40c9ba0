#include "plumberd/decision.hh"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <ctime>

#include "ipc/name.hh"

namespace plumberd {
namespace {
std::string_view to_string(Decision::Verdict verdict) {
  constexpr std::string_view names[] = {"none", "allow", "deny"};
  return names[static_cast<std::size_t>(verdict)];
}

}  // namespace

std::string rfc3339(std::chrono::system_clock::time_point time) {
  const auto since = time.time_since_epoch();
  const auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(since).count();
  const std::time_t seconds = ms / 1000;
  std::tm parts{};
  ::gmtime_r(&seconds, &parts);
  return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z", parts.tm_year + 1900, parts.tm_mon + 1,
                     parts.tm_mday, parts.tm_hour, parts.tm_min, parts.tm_sec, ms % 1000);
}

namespace {
/// "Z" or "+hh:mm": how far the local time is ahead of UTC.
std::optional<std::chrono::minutes> offset_of(std::string_view zone) {
  using std::chrono::minutes;
  if (zone == "Z" || zone == "z") return minutes{0};
  int hour = 0, minute = 0, end = 0;
  const std::string text{zone};
  if (zone.size() != 6 || std::sscanf(text.c_str() + 1, "%2d:%2d%n", &hour, &minute, &end) != 2 || end != 5)
    return std::nullopt;
  if (hour > 23 || minute > 59 || (zone[0] != '+' && zone[0] != '-')) return std::nullopt;
  return minutes{(hour * 60 + minute) * (zone[0] == '-' ? -1 : 1)};
}
}  // namespace

std::optional<std::chrono::system_clock::time_point> parse_rfc3339(std::string_view text) {
  std::tm parts{};
  const std::string whole{text};
  const char* rest = ::strptime(whole.c_str(), "%Y-%m-%dT%H:%M:%S", &parts);
  if (rest == nullptr || whole.size() < 19 || rest != whole.c_str() + 19) return std::nullopt;
  double fraction = 0;
  if (*rest == '.') {
    const auto* end = rest + 1 + std::strspn(rest + 1, "0123456789");
    if (end == rest + 1 || std::from_chars(rest, end, fraction).ec != std::errc{}) return std::nullopt;
    rest = end;
  }
  const auto offset = offset_of(rest);
  if (!offset) return std::nullopt;
  const auto since = std::chrono::duration<double>(fraction);
  return std::chrono::system_clock::from_time_t(::timegm(&parts)) - *offset +
         std::chrono::duration_cast<std::chrono::system_clock::duration>(since);
}

namespace {
void write_client(ipc::JsonWriter& json, const Decision::Who& who) {
  if (!who.known) return;
  json.key("client").object();
  json.add("uid", std::int64_t{who.uid}).add("gid", std::int64_t{who.gid}).add("pid", std::int64_t{who.pid});
  json.add_if("exe", who.exe).add_if("unit", who.unit);
  if (who.weak) json.add("weak", true);
  json.end();
}

void write_proved(ipc::JsonWriter& json, const ipc::Labels& proved) {
  if (proved.empty()) return;
  json.key("proved").object();
  for (const auto& [name, value] : proved) json.add(name, ipc::printable(value));
  json.end();
}

void write_steps(ipc::JsonWriter& json, const std::vector<Step>& steps) {
  json.key("steps").array();
  for (const auto& step : steps) {
    json.object()
        .add("kind", step.kind)
        .add("from", ipc::printable(step.from))
        .add("to", ipc::printable(step.to));
    json.add("at", step.at).end();
  }
  json.end();
}

void write_rule(ipc::JsonWriter& json, std::string_view key, const std::string& text, const std::string& at) {
  if (!text.empty()) json.key(key).object().add("text", text).add("at", at).end();
}

void write_outcome(ipc::JsonWriter& json, const Decision& d) {
  json.add("verdict", to_string(d.verdict));
  write_rule(json, "rule", d.rule, d.rule_at);
  write_rule(json, "would_deny", d.audited, d.audited_at);
  json.add_if("reason", d.reason).add_if("helper", d.helper).add_if("path", d.path);
  if (d.failed) json.add("code", ipc::to_string(d.error.word)).add("message", d.error.text);
  if (d.failed && d.error.far) json.add("far", true);
}

/// `name` with its blank and '=', and the value; one with blanks or quotes is quoted, its own quotes and
/// backslashes escaped.
void add_field(std::string& out, std::string_view name, std::string_view value) {
  if (value.empty()) return;
  out += name;
  if (std::ranges::none_of(value, [](char c) { return c == ' ' || c == '"'; }))
    return static_cast<void>(out += value);
  out += '"';
  for (const char c : value) {
    if (c == '"' || c == '\\') out += '\\';
    out += c;
  }
  out += '"';
}

void add_number(std::string& out, std::string_view name, std::uint64_t value) {
  const fmt::format_int digits{value};
  add_field(out, name, {digits.data(), digits.size()});
}

void add_rule_fields(std::string& out, const Decision& d) {
  add_field(out, " rule=", d.rule);
  add_field(out, " at=", d.rule_at);
  add_field(out, " would-deny=", d.audited);
  add_field(out, " audit-at=", d.audited_at);
  if (d.rule.empty()) add_field(out, " reason=", d.reason);
}
}  // namespace

void record(Decision& decision, const Verdict& verdict) {
  const bool open = verdict.kind == Verdict::Kind::need;
  const auto* rule = open ? nullptr : verdict.rule;
  decision.verdict = verdict.kind == Verdict::Kind::deny ? Decision::Verdict::deny : Decision::Verdict::allow;
  decision.rule = rule != nullptr ? std::string(rule->text()) : std::string{};
  decision.rule_at = rule != nullptr ? rule->at() : std::string{};
  decision.reason = open ? "the address, which is not known yet, decides" : verdict.reason;
  if (verdict.audited == nullptr) return;
  decision.audited = verdict.audited->text();
  decision.audited_at = verdict.audited->at();
}

void add_considered(Decision& decision, const std::vector<Considered>& considered) {
  constexpr std::array<std::string_view, 3> kinds{"rule-passed", "undecided", "rule"};
  for (const auto& seen : considered)
    decision.steps.push_back({std::string(kinds[static_cast<std::size_t>(seen.part)]),
                              std::string(seen.rule->text()), seen.why, seen.rule->at()});
}

std::string to_json(const Decision& d) {
  std::string text;
  ipc::JsonWriter json{text};
  json.object().add("id", static_cast<std::int64_t>(d.id)).add("time", rfc3339(d.time));
  json.add("generation", static_cast<std::int64_t>(d.generation)).add("direction", to_string(d.direction));
  json.add("asked", ipc::printable(d.asked)).add("opened", ipc::printable(d.opened));
  write_client(json, d.client);
  json.add_if("peer", ipc::printable(d.peer));
  write_proved(json, d.proved);
  write_steps(json, d.steps);
  write_outcome(json, d);
  json.key("ms").object().key("route").decimal(d.ms_route).key("judge").decimal(d.ms_judge);
  json.key("dial").decimal(d.ms_dial).end().end();
  return text;
}

// Written for every dial: appended to, not formatted.
std::string to_line(const Decision& d) {
  const auto word = d.verdict == Decision::Verdict::allow && d.failed ? "fail" : to_string(d.verdict);
  std::string out;
  out.reserve(256);
  ((out += word == "none" ? "fail" : word) += ' ') += to_string(d.direction);
  add_field(out, " service=", ipc::printable(d.asked));
  if (d.opened != d.asked) add_field(out, " opened=", ipc::printable(d.opened));
  if (d.client.known) add_number(out, " uid=", d.client.uid);
  if (d.client.known) add_number(out, " pid=", static_cast<std::uint64_t>(d.client.pid));
  add_field(out, " peer=", ipc::printable(d.peer));
  for (const auto& [name, value] : d.proved) add_field(out, " " + name + "=", ipc::printable(value));
  add_rule_fields(out, d);
  add_field(out, " path=", d.path);
  if (d.failed) add_field(out, " error=", ipc::to_string(d.error.word));
  if (d.failed && d.verdict != Decision::Verdict::deny)
    add_field(out, " message=", ipc::printable(d.error.text));
  add_number(out, " id=", d.id);
  add_number(out, " generation=", d.generation);
  const auto us = static_cast<std::uint64_t>((d.ms_route + d.ms_judge + d.ms_dial) * 1000);
  add_number(out, " ms=", us / 1000);
  const fmt::format_int thousandths{us % 1000 + 1000};
  (out += '.') += std::string_view(thousandths.data() + 1, 3);
  return out;
}

ipc::Error denial(const Decision& decision, bool disclose) {
  ipc::Error error{.word = ipc::Word::denied};
  const auto what = fmt::format("{} {}", to_string(decision.direction), ipc::printable(decision.opened));
  if (!disclose) {
    error.text = what + " is denied";
  } else if (decision.rule.empty()) {
    error.text = fmt::format("{} is denied: {}", what, decision.reason);
  } else {
    error.text = fmt::format("{} is denied by \"{}\" ({})", what, decision.rule, decision.rule_at);
    error.rule = decision.rule;
    error.at = decision.rule_at;
  }
  return error;
}
}  // namespace plumberd
