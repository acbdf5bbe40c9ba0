#include "ipc/error.hh"

#include <array>
#include <cerrno>
#include <cstring>

namespace ipc {
namespace {
struct Row {
  Word word;
  std::string_view text;
  int error_number;
  int exit_status;
};
// In the order of the enumeration, so that a word is its own index.
constexpr std::array rows{
    Row{Word::denied, "DENIED", EACCES, 1},
    Row{Word::bad_request, "BAD_REQUEST", EINVAL, 2},
    Row{Word::unknown_service, "UNKNOWN_SERVICE", ENOENT, 3},
    Row{Word::no_router, "NO_ROUTER", ECONNREFUSED, 4},
    Row{Word::unreachable, "UNREACHABLE", EHOSTUNREACH, 5},
    Row{Word::timeout, "TIMEOUT", ETIMEDOUT, 5},
    Row{Word::auth, "AUTH", EPERM, 6},
    Row{Word::no_helper, "NO_HELPER", EPROTONOSUPPORT, 7},
    Row{Word::loop, "LOOP", ELOOP, 7},
    Row{Word::busy, "BUSY", EAGAIN, 8},
    Row{Word::taken, "TAKEN", EADDRINUSE, 8},
    Row{Word::internal, "INTERNAL", EIO, 9},
};
const Row& row(Word word) { return rows[static_cast<std::size_t>(word)]; }
}  // namespace

std::string_view to_string(Word word) { return row(word).text; }
int errno_of(Word word) { return row(word).error_number; }
int exit_status_of(Word word) { return row(word).exit_status; }

std::optional<Word> word_from(std::string_view text) {
  for (const auto& r : rows)
    if (r.text == text && r.word != Word::no_router) return r.word;
  return std::nullopt;
}

std::string errno_text(int code) {
  std::array<char, 128> buffer{};
  return ::strerror_r(code, buffer.data(), buffer.size());
}

std::unexpected<Error> fail_errno(std::string_view what, int code) {
  const int number = code < 0 ? errno : code;
  return fail(Word::internal, std::string(what) + ": " + errno_text(number));
}
}  // namespace ipc
