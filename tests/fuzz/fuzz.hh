// Fuzz targets: each file here defines one, `int fuzz_NAME(data, size)`, and hands it to libFuzzer when built
// for it (`make fuzz-NAME`). The test program replays tests/fuzz/corpus/NAME/* through the same function.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>

namespace fuzz {

/// A property of every input; libFuzzer keeps the input for which it does not hold.
inline void require(bool holds, const char* property) {
  if (holds) return;
  std::fprintf(stderr, "property broken: %s\n", property);
  std::abort();
}

}  // namespace fuzz

#ifdef FUZZING
#define FUZZ_TARGET(name)                                                      \
  int fuzz_##name(const std::uint8_t* data, std::size_t size);                 \
  extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* d, std::size_t s); \
  extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* d, std::size_t s) { return fuzz_##name(d, s); }
#else
#define FUZZ_TARGET(name) int fuzz_##name(const std::uint8_t* data, std::size_t size);
#endif
