// The C interface from C and from Python, against a scripted router.
#include <criterion/criterion.h>
#include <unistd.h>

#include <thread>

#include "tests/e2e/scripted.hh"

namespace {
std::string library() { return kit::binary("../lib/libipc.so"); }

kit::Command python(const char* what) {
  return {.args = {"python3", kit::source_dir() + "/tests/e2e/capi.py", library(), what, "pong"}};
}

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool sanitized = true;
#elif defined(__has_feature)
constexpr bool sanitized = __has_feature(address_sanitizer) || __has_feature(thread_sanitizer);
#else
constexpr bool sanitized = false;
#endif
}  // namespace

Test(capi, a_c_program_connects_and_talks_in_messages) {
  const kit::Scripted scripted;
  std::string params;
  std::jthread router{[&] {
    auto wire = scripted.accept();
    const auto service = kit::take_over(wire, &params);
    kit::send_all(service.borrow(), kit::receive_exactly(service.borrow(), 11));
  }};
  const auto outcome = kit::run({.args = {kit::binary("ipc-c-test"), "connect", "pong"}});
  cr_assert_eq(outcome.status, 0, "%s", outcome.error.c_str());
  cr_assert_eq(outcome.output, "path direct\nlabel peer.port 9\nlabel scheme tcp\nmessage 7 hello\n");
  cr_assert_eq(params, R"({"service":"pong","labels":{"trace":"c"},"ktls":true})");
}

Test(capi, a_c_program_serves) {
  const kit::Scripted scripted;
  std::string answer;
  std::jthread router{[&] {
    auto wire = scripted.accept();
    kit::accept_registration(wire);
    const auto caller = kit::send_accepted(wire, R"(,"first":["Zm9v","YmFy"])");
    kit::send_all(caller.borrow(), std::string_view("\x02\0\0\0\x02\x09hi", 8));
    answer = kit::receive_all(caller.borrow());
  }};
  const auto outcome = kit::run({.args = {kit::binary("ipc-c-test"), "serve", "pong"}});
  router.join();
  cr_assert_eq(outcome.status, 0, "%s", outcome.error.c_str());
  cr_assert_eq(outcome.output, "uid 7\nfirst foo\nfirst bar\nmessage 9 hi\n");
  cr_assert_eq(answer, std::string_view("\x02\0\0\0\x02\x09hi", 8));
}

Test(capi, a_c_program_is_told_the_errno_and_the_sentence) {
  const kit::Scripted scripted{false};
  const auto alone =
      kit::run({.args = {kit::binary("ipc-c-test"), "connect", "pong"}, .env = {"IPC_NETWORKD="}});
  cr_assert_eq(alone.status, 1);
  cr_assert(alone.error.find("Connection refused: no router answers at ") != std::string::npos, "%s",
            alone.error.c_str());
  cr_assert(alone.error.find("(NO_ROUTER)") != std::string::npos);
}

Test(capi, python_connects_through_ctypes) {
  if (sanitized || !kit::installed("python3"))
    cr_skip_test("a sanitized library cannot be loaded by python3");
  const kit::Scripted scripted;
  std::jthread router{[&] {
    auto wire = scripted.accept();
    kit::pong(kit::take_over(wire).borrow());
  }};
  const auto outcome = kit::run(python("connect"));
  cr_assert_eq(outcome.output, "inheritable False\nanswer pong\n", "%s", outcome.error.c_str());
}

Test(capi, python_serves_through_ctypes) {
  if (sanitized || !kit::installed("python3"))
    cr_skip_test("a sanitized library cannot be loaded by python3");
  const kit::Scripted scripted;
  std::string heard;
  std::jthread router{[&] {
    auto wire = scripted.accept();
    kit::accept_registration(wire);
    heard = kit::receive_all(kit::send_accepted(wire).borrow());
  }};
  const auto outcome = kit::run(python("serve"));
  router.join();
  cr_assert_eq(outcome.output, "uid 7\n", "%s", outcome.error.c_str());
  cr_assert_eq(heard, "hello from python");
}

Test(capi, python_is_told_why_it_was_refused) {
  if (sanitized || !kit::installed("python3"))
    cr_skip_test("a sanitized library cannot be loaded by python3");
  const kit::Scripted scripted;
  std::jthread router{[&] {
    auto wire = scripted.accept();
    wire.refuse(wire.receive(), {ipc::Word::denied, "out pong is denied by default"});
  }};
  const auto outcome = kit::run(python("connect"));
  cr_assert_eq(outcome.status, 1);
  cr_assert_eq(outcome.error, "EACCES DENIED: out pong is denied by default\n");
}
