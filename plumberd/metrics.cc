// The Prometheus text format, 0.0.4.
#include <fmt/format.h>

#include <iterator>

#include "ipc/name.hh"
#include "plumberd/views.hh"

namespace plumberd {
namespace {
// The text has to fit one message of the native door: `rules` has the others.
constexpr std::size_t most_rules = 100;
constexpr std::size_t longest_rule = 160;

/// A label's value: quotes, backslashes and line ends escaped.
std::string escaped(std::string_view text) {
  std::string value;
  for (const char c : ipc::printable(text, longest_rule)) {
    if (c == '"' || c == '\\') value += '\\';
    value += c;
  }
  return value;
}

class Exposition {
 public:
  void family(std::string_view name, std::string_view type, std::string_view help) {
    name_ = name;
    put("# HELP {} {}\n# TYPE {} {}\n", name, help, name, type);
  }
  /// A sample of the family; `labels` as written between braces, `suffix` behind its name.
  void sample(std::string_view labels, auto value, std::string_view suffix = {}) {
    labels.empty() ? put("{}{} {}\n", name_, suffix, value)
                   : put("{}{}{{{}}} {}\n", name_, suffix, labels, value);
  }
  std::string text() const { return fmt::to_string(out_); }

 private:
  template <class... Args>
  void put(fmt::format_string<Args...> format, Args&&... args) {
    fmt::format_to(std::back_inserter(out_), format, std::forward<Args>(args)...);
  }
  fmt::memory_buffer out_;
  std::string_view name_;
};

void put_decisions(Exposition& out, const Stats& stats) {
  constexpr std::array verdicts{"none", "allow", "deny"};
  out.family("plumberd_requests_total", "counter", "Requests that came to a decision.");
  out.sample("", stats.requests());
  out.family("plumberd_decisions_total", "counter", "Decisions by direction and verdict.");
  for (std::size_t direction = 0; direction < direction_count; ++direction)
    for (std::size_t verdict = 0; verdict < verdicts.size(); ++verdict)
      out.sample(fmt::format("direction=\"{}\",verdict=\"{}\"", to_string(static_cast<Direction>(direction)),
                             verdicts[verdict]),
                 stats.decisions(static_cast<Direction>(direction), static_cast<Decision::Verdict>(verdict)));
  out.family("plumberd_handoffs_total", "counter", "Connections handed over, by path.");
  for (const auto& [path, count] : stats.paths()) out.sample("path=\"" + escaped(path) + "\"", count);
  out.family("plumberd_errors_total", "counter", "Failed requests by word.");
  for (const auto& [word, count] : stats.errors()) out.sample("word=\"" + word + "\"", count);
}

void put_rules(Exposition& out, const Stats& stats) {
  out.family("plumberd_rule_hits_total", "counter", "Decisions by rule, of the rules that decided most.");
  for (const auto& [text, at, count] : stats.most_hit(most_rules))
    out.sample("rule=\"" + escaped(text) + "\",at=\"" + escaped(at) + "\"", count);
}

void put_phases(Exposition& out, const Stats& stats) {
  constexpr std::array phases{"route", "judge", "dial"};
  out.family("plumberd_setup_seconds", "histogram", "Time to set a connection up, by phase.");
  for (std::size_t phase = 0; phase < phases.size(); ++phase) {
    const auto& histogram = stats.phases()[phase];
    const auto label = fmt::format("phase=\"{}\"", phases[phase]);
    std::uint64_t below = 0;
    for (std::size_t i = 0; i < Stats::bounds.size(); ++i)
      out.sample(fmt::format("{},le=\"{}\"", label, Stats::bounds[i]), below += histogram.counts[i],
                 "_bucket");
    out.sample(label + ",le=\"+Inf\"", histogram.total, "_bucket");
    out.sample(label, histogram.sum, "_sum");
    out.sample(label, histogram.total, "_count");
  }
}

void put_helpers(Exposition& out, const Router& router) {
  out.family("plumberd_helper_restarts_total", "counter", "Restarts of helpers.");
  std::size_t worker = 0;
  for (const auto* helper : router.helpers.current()->all())
    out.sample(fmt::format("helper=\"{}\",worker=\"{}\"", helper->spec().name, worker++), helper->restarts());
  out.family("plumberd_relayed_bytes_total", "counter",
             "Bytes that helpers carried themselves, from the network and to it.");
  for (const auto& [helper, bytes] : router.stats.relayed()) {
    out.sample("helper=\"" + helper + "\",direction=\"received\"", bytes.received);
    out.sample("helper=\"" + helper + "\",direction=\"sent\"", bytes.sent);
  }
}
}  // namespace

std::string metrics_text(const Router& router) {
  Exposition out;
  out.family("plumberd_build_info", "gauge", "The running version.");
  out.sample(fmt::format("version=\"{}\"", PLUMBERD_VERSION), 1);
  out.family("plumberd_generation", "gauge", "Generation of the configuration.");
  out.sample("", router.config->generation);
  put_decisions(out, router.stats);
  put_rules(out, router.stats);
  put_phases(out, router.stats);
  put_helpers(out, router);
  return out.text();
}
}  // namespace plumberd
