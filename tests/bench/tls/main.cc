// The TLS kit's one program; tests/bench/tls.py starts it in its parts.
#include <unistd.h>

#include <cstdio>

#include "tests/bench/tls/tls.hh"

namespace {

constexpr struct {
  std::string_view name;
  int (*run)(const std::vector<std::string>&);
  bool is_client;
} parts[] = {{"far", bench::tls::far_main, false},  {"floor", bench::tls::floor_main, false},
             {"dial", bench::tls::dial_main, true}, {"bulk", bench::tls::bulk_main, true},
             {"once", bench::tls::once_main, true}, {"runs", bench::tls::runs_main, true}};

}  // namespace

int main(int count, char** words) {
  const std::vector<std::string> rest(words + (count > 1 ? 2 : 1), words + count);
  for (const auto& part : parts) {
    if (count < 2 || part.name != words[1]) continue;
    if (part.is_client) ::alarm(120);  // a client never outlives its run
    return part.run(rest);
  }
  std::fprintf(stderr, "usage: tls-bench far|floor|dial|bulk|once|runs ...\n");
  return 2;
}
