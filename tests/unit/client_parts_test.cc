// The small parts under the client: base64, deadlines, run directories.
#include <criterion/criterion.h>
#include <stdlib.h>
#include <sys/socket.h>

#include <array>

#include "ipc/base64.hh"
#include "ipc/deadline.hh"
#include "ipc/rundir.hh"

using namespace std::chrono_literals;

Test(base64, is_that_of_rfc_4648) {
  constexpr std::array<std::pair<std::string_view, std::string_view>, 7> vectors{{{"", ""},
                                                                                  {"f", "Zg=="},
                                                                                  {"fo", "Zm8="},
                                                                                  {"foo", "Zm9v"},
                                                                                  {"foob", "Zm9vYg=="},
                                                                                  {"fooba", "Zm9vYmE="},
                                                                                  {"foobar", "Zm9vYmFy"}}};
  for (const auto& [bytes, text] : vectors) {
    cr_assert_eq(ipc::base64_encode(bytes), text);
    cr_assert_eq(ipc::base64_decode(text), bytes);
  }
}

Test(base64, carries_every_byte) {
  std::string bytes;
  for (int i = 0; i < 256; ++i) bytes += static_cast<char>(i);
  cr_assert_eq(ipc::base64_decode(ipc::base64_encode(bytes)), bytes);
}

Test(base64, refuses_what_it_would_not_write) {
  for (const auto* text :
       {"Zg", "Zg=", "Zg===", "Z===", "=", "====", "Zh==", "Zm9=", "Zm 9", "Zm9v\n", "Zm-v", "Zg==Zg=="})
    cr_assert_not(ipc::base64_decode(text), "%s", text);
}

Test(deadline, speaks_the_language_of_poll) {
  cr_assert_eq(ipc::Deadline::never().poll_timeout(), -1);
  cr_assert_not(ipc::Deadline::never().passed());
  cr_assert(ipc::Deadline{0ms}.passed());
  const int left = ipc::Deadline{1h}.poll_timeout();
  cr_assert(left > 3'590'000 && left <= 3'600'000);
}

Test(rundir, is_what_was_given_then_the_variable_then_the_usual_places) {
  using Places = std::vector<std::string>;
  ::unsetenv("IPC_RUNDIR");
  ::setenv("XDG_RUNTIME_DIR", "/run/user/7", 1);
  cr_assert(ipc::client_rundirs() == (Places{"/run/user/7/ipc", "/run/ipc"}));
  ::setenv("XDG_RUNTIME_DIR", "not/absolute", 1);
  cr_assert(ipc::client_rundirs() == Places{"/run/ipc"});
  ::setenv("IPC_RUNDIR", "", 1);
  cr_assert(ipc::client_rundirs() == Places{"/run/ipc"});
  ::setenv("IPC_RUNDIR", "/elsewhere", 1);
  cr_assert(ipc::client_rundirs() == Places{"/elsewhere"});
  cr_assert(ipc::client_rundirs("/given") == Places{"/given"});
}

Test(rundir, a_path_too_long_for_a_socket_is_refused_and_not_cut) {
  const auto socket = ipc::connect_unix("/tmp/" + std::string(103, 'x'), SOCK_STREAM, ipc::Deadline{1s});
  cr_assert_eq(socket.error().word, ipc::Word::bad_request);
}
