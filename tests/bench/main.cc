// The benchmark kit's one program; tests/bench/run starts it in its parts and prints the table.
#include <unistd.h>

#include <cstdio>
#include <cstdlib>

#include "tests/bench/bench.hh"

namespace {

constexpr struct {
  std::string_view name;
  int (*run)(const std::vector<std::string>&);
} parts[] = {{"far", bench::far_main},   {"floor", bench::floor_main},  {"dial", bench::dial_main},
             {"bulk", bench::bulk_main}, {"after", bench::after_main},  {"idle", bench::idle_main},
             {"udp", bench::udp_main},   {"udpfar", bench::udpfar_main}};

}  // namespace

int main(int count, char** words) {
  const std::vector<std::string> rest(words + (count > 1 ? 2 : 1), words + count);
  for (const auto& part : parts) {
    if (count < 2 || part.name != words[1]) continue;
    if (part.name != "far" && part.name != "floor" && part.name != "udpfar")
      ::alarm(120);  // a client never outlives its run
    return part.run(rest);
  }
  std::fprintf(stderr, "usage: bench far|floor|dial|bulk|after|idle|udp|udpfar ...\n");
  return 2;
}
