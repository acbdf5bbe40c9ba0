// The kit's own promises, since every other end-to-end test leans on them.
#include "tests/e2e/kit.hh"

#include <criterion/criterion.h>
#include <signal.h>
#include <unistd.h>

Test(kit, a_program_is_run_to_its_end_with_input_output_and_status) {
  const auto outcome =
      kit::run({.args = {"sh", "-c", "cat; echo oops >&2; exit $CODE"}, .env = {"CODE=3"}}, "hello");
  cr_assert_eq(outcome.status, 3);
  cr_assert_eq(outcome.output, "hello");
  cr_assert_eq(outcome.error, "oops\n");
}

Test(kit, lines_of_a_running_program_are_waited_for) {
  kit::Process process{{"sh", "-c", "sleep 0.1; echo ready >&2; exec sleep 100"}};
  process.wait_for_error("ready\n");
  process.kill();
}

Test(kit, a_process_dies_with_its_owner) {
  pid_t pid = 0;
  {
    const kit::Process process{{"sleep", "100"}};
    pid = process.pid();
    cr_assert(process.is_running());
  }
  cr_assert_eq(::kill(pid, 0), -1);
}

Test(kit, tcp_servers_answer_and_leave_no_descriptor) {
  const auto before = kit::open_fds();
  {
    kit::TcpServer server{kit::pong};
    const auto socket = kit::connect_tcp(server.port());
    kit::send_all(socket.borrow(), "ping\n");
    cr_assert_eq(kit::receive_exactly(socket.borrow(), 5), "pong\n");
    cr_assert(kit::holds_socket(::getpid(), kit::inode_of(socket.borrow())));
  }
  cr_assert_eq(kit::open_fds(), before);
}

Test(kit, the_wire_carries_calls_and_keeps_notifications) {
  kit::TempDir dir;
  const auto listener = kit::listen_unix(dir / "door", SOCK_SEQPACKET);
  kit::Wire client{dir / "door"};
  kit::Wire router{kit::accept_from(listener)};
  router.notify("event", "{}");
  client.send(R"({"jsonrpc":"2.0","id":"x","method":"list"})");
  router.answer(router.receive(), R"({"services":[]})");
  cr_assert_eq(client.receive().message->method, "event");
  cr_assert(client.receive().result()["services"].is_array());
}
