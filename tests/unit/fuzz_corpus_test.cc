// The corpus of every fuzz target, replayed: what once broke a parser is tried on every run.
#include <cstdint>

#include "tests/unit/source_tree.hh"

int fuzz_rules(const std::uint8_t* data, std::size_t size);
int fuzz_config(const std::uint8_t* data, std::size_t size);
int fuzz_frame(const std::uint8_t* data, std::size_t size);
int fuzz_hop(const std::uint8_t* data, std::size_t size);
int fuzz_json(const std::uint8_t* data, std::size_t size);
int fuzz_rpc(const std::uint8_t* data, std::size_t size);
int fuzz_uri(const std::uint8_t* data, std::size_t size);
int fuzz_name(const std::uint8_t* data, std::size_t size);
int fuzz_lookup(const std::uint8_t* data, std::size_t size);

namespace {
void replay(std::string_view name, int (*target)(const std::uint8_t*, std::size_t)) {
  int files = 0;
  for (const auto& file : testing::sorted_entries(testing::source_tree() / "tests/fuzz/corpus" / name)) {
    const auto input = testing::contents(file);
    target(reinterpret_cast<const std::uint8_t*>(input.data()), input.size());
    ++files;
  }
  cr_assert(files > 0);
}
}  // namespace

Test(fuzz_corpus, of_rules_breaks_nothing) { replay("rules", fuzz_rules); }
Test(fuzz_corpus, of_configurations_breaks_nothing) { replay("config", fuzz_config); }
Test(fuzz_corpus, of_frames_breaks_nothing) { replay("frame", fuzz_frame); }
Test(fuzz_corpus, of_hops_breaks_nothing) { replay("hop", fuzz_hop); }
Test(fuzz_corpus, of_JSON_breaks_nothing) { replay("json", fuzz_json); }
Test(fuzz_corpus, of_messages_breaks_nothing) { replay("rpc", fuzz_rpc); }
Test(fuzz_corpus, of_URIs_breaks_nothing) { replay("uri", fuzz_uri); }
Test(fuzz_corpus, of_names_breaks_nothing) { replay("name", fuzz_name); }
Test(fuzz_corpus, of_lookups_breaks_nothing) { replay("lookup", fuzz_lookup); }
