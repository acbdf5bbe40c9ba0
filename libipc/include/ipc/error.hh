// Errors are values: a word that programs act on, a sentence that people read, and where the decision came
// from.
#pragma once
#include <cstdint>
#include <expected>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace ipc {

/// Why a request failed; the words go over every wire as they are written here in capitals (docs/protocol.md,
/// "Errors").
enum class Word : std::uint8_t {
  denied,
  bad_request,
  unknown_service,
  no_router,
  unreachable,
  timeout,
  auth,
  no_helper,
  loop,
  busy,
  taken,
  internal
};

/// "DENIED", "BAD_REQUEST", ...; `no_router` is "NO_ROUTER" and never crosses a wire.
std::string_view to_string(Word word);
/// The inverse; nothing for words we do not know.
std::optional<Word> word_from(std::string_view text);
/// The errno that libipc reports for a word (EACCES for DENIED, ...).
int errno_of(Word word);
/// The exit status of `plumb` for a word (plumb(1), "EXIT STATUS").
int exit_status_of(Word word);

struct [[nodiscard]] Error {
  Word word = Word::internal;
  std::string text{};  ///< one sentence: what failed, on which input, why, what to do
  std::string rule{};  ///< text of the rule that decided, where it may be disclosed
  std::string at{};    ///< FILE:LINE of that rule
  bool far = false;    ///< the far side refused, not we
};

template <class T = void>
using Result = std::expected<T, Error>;

/// `return fail(Word::timeout, "...")` from any function that returns a Result.
inline std::unexpected<Error> fail(Word word, std::string text) {
  return std::unexpected(Error{.word = word, .text = std::move(text)});
}
/// "WHAT: strerror(code)" as INTERNAL; `code` defaults to errno.
std::unexpected<Error> fail_errno(std::string_view what, int code = -1);
/// strerror, thread safe.
std::string errno_text(int code);

}  // namespace ipc

/// Unwraps a Result or returns its error from the enclosing function. Not for coroutines.
#define TRY(expression)                                                       \
  __extension__({                                                             \
    auto try_result_ = (expression);                                          \
    if (!try_result_) return std::unexpected(std::move(try_result_).error()); \
    *std::move(try_result_);                                                  \
  })
