// tlsd: tls:// for plumberd.
#include <sys/prctl.h>

#include "tlsd/scheme.hh"

namespace {
/// Keys are in this memory: no core files, nobody of the same user looks in. LeakSanitizer has to, though.
void keep_to_ourselves() {
#if defined(__SANITIZE_ADDRESS__)
  constexpr bool is_watched = true;
#elif defined(__has_feature)
  constexpr bool is_watched = __has_feature(address_sanitizer);
#else
  constexpr bool is_watched = false;
#endif
  if (!is_watched) ::prctl(PR_SET_DUMPABLE, 0);
}
}  // namespace

int main(int argc, char** argv) {
  keep_to_ourselves();
  tlsd::TlsScheme tls;
  return ipc::helper_main(argc, argv, "connects to and listens on TLS for plumberd", tls);
}
