// tlsd: tls:// for plumberd.
#include <malloc.h>
#include <sys/prctl.h>

#include <cstdlib>
#include <cstring>
#include <new>

#include "tlsd/scheme.hh"

#if defined(__SANITIZE_ADDRESS__)
#define IS_WATCHED 1
#elif defined(__has_feature)
#define IS_WATCHED __has_feature(address_sanitizer)
#else
#define IS_WATCHED 0
#endif

#if !IS_WATCHED
/// What is let go is overwritten: secrets of URIs and lines of psk_files pass through messages and strings
/// that know nothing of them. (OpenSSL has its own memory, and wipes what is a key.)
void operator delete(void* memory) noexcept {
  if (memory != nullptr) ::explicit_bzero(memory, ::malloc_usable_size(memory));
  std::free(memory);
}
void operator delete(void* memory, std::size_t) noexcept { operator delete(memory); }
#endif

int main(int argc, char** argv) {
  // Keys are in this memory: no core files, nobody of the same user looks in. LeakSanitizer has to, though.
  if (!IS_WATCHED) ::prctl(PR_SET_DUMPABLE, 0);
  tlsd::TlsScheme tls;
  return ipc::helper_main(argc, argv, "connects to and listens on TLS for plumberd", tls);
}
