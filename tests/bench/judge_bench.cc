// How judging and loading grow with the number of rules: a generator of mixed rule sets, and the time of one
// verdict at 10, 1,000 and 100,000 of them.
//   judge-bench            the table
//   judge-bench toml N     the generated configuration itself, to load it by other means
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <random>
#include <string>
#include <vector>

#include <malloc.h>

#include "plumberd/config.hh"
#include "plumberd/rule_index.hh"

using namespace plumberd;
using Clock = std::chrono::steady_clock;

namespace {
std::string number(std::size_t i) { return std::to_string(i); }
std::string network(std::size_t i) { return "10." + number(i / 256 % 256) + "." + number(i % 256); }

/// Rule i of a mix in equal parts: exact names, suffixes, networks, users, and names of peers.
std::string rule(std::size_t i) {
  switch (i % 5) {
    case 0:
      return "allow out svc-" + number(i) + ".shop tcp:host-" + number(i) + ".example.com:9000";
    case 1:
      return "deny out *.zone-" + number(i) + ".corp *";
    case 2:
      return "allow out * tcp:" + network(i / 5) + ".0/24:" + number(1000 + i % 7);
    case 3:
      return "allow out app-" + number(i % 100) + " user:" + number(1000 + i);
    default:
      return "allow in svc-" + number(i) + ".shop tls:*.peer-" + number(i) + ".example.org";
  }
}

std::string toml(std::size_t count) {
  std::string text = "rules = [\n";
  for (std::size_t i = 0; i + 1 < count; ++i) text += "  \"" + rule(i) + "\",\n";
  return text + "  \"deny out * *\",\n]\n";
}

/// A question that owns its text; about one in five matches nothing but the last rule.
struct Query {
  std::string service, scheme = "tcp", host;
  ipc::Address address{};
  std::uint16_t port = 9000;
  Direction direction = Direction::out;
  Facts facts{};

  Query(std::size_t i, bool hit) {
    facts.uid = 5;
    const auto n = number(hit ? i : i + 10'000'000);
    service = "svc-" + n + ".shop";
    host = "host-" + n + ".example.com";
    address = *ipc::parse_address("203.0.113.9");
    if (i % 5 == 1) service = "db.zone-" + n + ".corp";
    if (i % 5 == 2) to_network(i);
    if (i % 5 == 3) service = "app-" + number(i % 100);
    if (i % 5 == 3) facts.uid = static_cast<uid_t>(hit ? 1000 + i : 7);
    if (i % 5 == 4) from_peer(n);
  }
  void to_network(std::size_t i) {
    host = network(i / 5) + ".77";
    address = *ipc::parse_address(host);
    port = static_cast<std::uint16_t>(1000 + i % 7);
  }
  void from_peer(const std::string& n) {
    direction = Direction::in;
    scheme = "tls";
    facts.is_local = false;
    facts.cert_names = {"node.peer-" + n + ".example.org"};
  }
  Question question() const {
    return {.direction = direction,
            .service = service,
            .scheme = scheme,
            .host = host,
            .address = &address,
            .port = port};
  }
};

double nanoseconds_since(Clock::time_point start) {
  return std::chrono::duration<double, std::nano>(Clock::now() - start).count();
}

double median(std::vector<double> values) {
  std::ranges::nth_element(values, values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2));
  return values[values.size() / 2];
}

struct Row {
  double load_ms = 0, judge_ns = 0, p99_ns = 0, naive_ns = 0, bytes_per_rule = 0;
};

using Judge = Verdict (*)(const RuleSet&, const Question&, const Facts&);

/// Nanoseconds of each verdict, the cost of the clock taken off.
std::vector<double> times(const RuleSet& rules, const std::vector<Query>& queries, Judge judge_by) {
  std::vector<double> empty, all;
  for (int i = 0; i < 1000; ++i) empty.push_back(nanoseconds_since(Clock::now()));
  const double clock = median(std::move(empty));
  for (const auto& query : queries) {
    const auto question = query.question();
    const auto start = Clock::now();
    const auto verdict = judge_by(rules, question, query.facts);
    all.push_back(nanoseconds_since(start) - clock);
    if (verdict.kind == Verdict::Kind::need) std::abort();
  }
  return all;
}

std::vector<Query> queries_for(std::size_t rules, std::size_t count) {
  std::mt19937 random{42};
  std::vector<Query> queries;
  for (std::size_t i = 0; i < count; ++i) queries.emplace_back(random() % rules, random() % 5 != 0);
  return queries;
}

Row measure(std::size_t count) {
  const auto text = toml(count);
  Row row;
  const auto start = Clock::now();
  const auto loaded = load_text(text, "bench.toml", {}, Strictness::check);
  row.load_ms = nanoseconds_since(start) / 1e6;
  for (const auto& diagnostic : loaded.diagnostics) std::cerr << diagnostic.print() << "\n";
  if (loaded.config == nullptr) std::exit(1);
  const auto& rules = *loaded.config->rules;
  row.bytes_per_rule =
      static_cast<double>(rules.table().overhead() + rules.index().bytes()) / static_cast<double>(count);
  auto all = times(rules, queries_for(count, 20'000), judge);
  all = times(rules, queries_for(count, 20'000), judge);
  row.judge_ns = median(all);
  std::ranges::sort(all);
  row.p99_ns = all[all.size() * 99 / 100];
  row.naive_ns = median(times(rules, queries_for(count, count > 10'000 ? 200 : 2000), judge_naively));
  return row;
}

/// What the process grew by for one loaded rule set, all of it: allocator, index, text.
double resident_kib() {
  ::malloc_trim(0);
  std::ifstream status{"/proc/self/statm"};
  long total = 0, resident = 0;
  status >> total >> resident;
  return static_cast<double>(resident) * 4;
}

void print_growth(std::size_t count) {
  auto text = toml(count);
  const auto text_kib = static_cast<double>(text.size()) / 1024;
  const double before = resident_kib();
  const auto loaded = load_text(text, "bench.toml", {}, Strictness::check);
  const double grown = resident_kib() - before;
  std::printf("resident memory for %zu rules: %.0f KiB, %.0f of it their text: %.0f bytes a rule beyond it\n",
              count, grown, text_kib, (grown - text_kib) * 1024 / static_cast<double>(count));
}
}  // namespace

int main(int count, char** words) {
  if (count == 3 && std::string_view{words[1]} == "toml") {
    std::cout << toml(std::strtoul(words[2], nullptr, 10));
    return 0;
  }
  print_growth(100'000);
  std::printf("%8s %10s %10s %10s %12s %12s\n", "rules", "load ms", "judge ns", "p99 ns", "naive ns",
              "bytes/rule");
  for (const std::size_t rules : {10UL, 1'000UL, 100'000UL}) {
    const auto row = measure(rules);
    std::printf("%8zu %10.1f %10.0f %10.0f %12.0f %12.1f\n", rules, row.load_ms, row.judge_ns, row.p99_ns,
                row.naive_ns, row.bytes_per_rule);
  }
}
