#include "ipc/secret.hh"

#include <cstring>

namespace ipc {
void wipe_secrets(std::span<char> text) {
  if (text.empty() || std::memchr(text.data(), '@', text.size()) == nullptr) return;
  ::explicit_bzero(text.data(), text.size());
}
}  // namespace ipc
