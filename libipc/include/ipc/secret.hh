// Secrets must not outlive what carried them.
#pragma once
#include <span>

namespace ipc {

/// Overwrites text that is about to be let go if it may hold the secret of a URI: if there is an '@' in it.
void wipe_secrets(std::span<char> text);

}  // namespace ipc
