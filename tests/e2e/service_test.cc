// Services against a scripted router: the far side of the door is spoken raw by the test.
#include <criterion/criterion.h>
#include <stdlib.h>
#include <unistd.h>

#include <thread>

#include "ipc/service.hh"
#include "tests/e2e/scripted.hh"

using namespace std::chrono_literals;
using ipc::Word;
using kit::accept_registration, kit::Scripted;

Test(service, receives_connections_with_labels_and_first_datagrams) {
  const Scripted scripted;
  std::jthread router{[&] {
    auto wire = scripted.accept();
    accept_registration(wire);
    const auto caller1 = kit::send_accepted(wire, R"(,"first":["aGVsbG8=","","AAE="])");
    wire.notify("weather", "{}");
    const auto caller2 = kit::send_accepted(wire);
    wire.receive();
  }};
  {
    auto service = kit::must(ipc::Service::serve("pong"));
    const auto first = kit::must(service.accept(10s));
    cr_assert_eq(first.labels.at("client.uid"), "7");
    cr_assert_eq(first.first.size(), 3);
    cr_assert_eq(first.first[0], "hello");
    cr_assert_eq(first.first[2], std::string("\0\1", 2));
    cr_assert(kit::is_readable(service.pollable()));
    cr_assert(kit::must(service.accept(10s)).first.empty());
    cr_assert_eq(service.accept(0ms).error().word, Word::timeout);
  }
}

Test(service, a_refused_registration_is_an_error_with_its_word) {
  const Scripted scripted;
  std::jthread router{[&] {
    auto wire = scripted.accept();
    wire.refuse(wire.receive(), {Word::taken, "pong is offered by uid 3"});
  }};
  cr_assert_eq(ipc::Service::serve("pong").error().word, Word::taken);
  cr_assert_eq(ipc::Service::serve("../pong").error().word, Word::bad_request);
}

Test(service, registers_again_by_itself_when_the_router_restarts) {
  Scripted scripted;
  std::jthread first{[&] {
    auto wire = scripted.accept();
    accept_registration(wire);
  }};
  auto service = kit::must(ipc::Service::serve("pong"));
  const int pollable = service.pollable();
  first.join();
  const auto fds = kit::open_fds();
  scripted.vanish();
  cr_assert_eq(service.accept(100ms).error().word, Word::timeout);  // several attempts in vain
  cr_assert_not(service.is_registered());
  scripted.open();
  std::jthread second{[&] {
    auto wire = scripted.accept();
    accept_registration(wire);
    const auto caller3 = kit::send_accepted(wire);
    wire.receive();
  }};
  cr_assert_eq(kit::must(service.accept(10s)).labels.at("client.uid"), "7");
  cr_assert(service.is_registered());
  cr_assert_eq(service.pollable(), pollable);
  // The second router holds two in this process, once it is done with sending.
  cr_assert(kit::eventually([&] { return kit::open_fds() <= fds + 2; }));
  service = kit::must(ipc::Result<ipc::Service>{std::move(service)});
  { const auto gone = std::move(service); }
}

Test(service, hears_when_a_restarted_router_refuses_it_and_tries_again) {
  Scripted scripted;
  std::jthread router{[&] {
    {
      auto wire = scripted.accept();
      accept_registration(wire);
    }
    {
      auto wire = scripted.accept();
      wire.refuse(wire.receive(), {Word::taken, "pong is offered by uid 3"});
    }
    auto wire = scripted.accept();
    accept_registration(wire);
    const auto caller4 = kit::send_accepted(wire);
    wire.receive();
  }};
  {
    auto service = kit::must(ipc::Service::serve("pong"));
    cr_assert_eq(service.accept(10s).error().word, Word::taken);
    kit::must(service.accept(10s));
  }
}

Test(service, the_pollable_descriptor_tells_of_a_lost_router) {
  Scripted scripted;
  std::jthread router{[&] {
    auto wire = scripted.accept();
    accept_registration(wire);
  }};
  auto service = kit::must(ipc::Service::serve("pong"));
  cr_assert(kit::is_readable(service.pollable(), 10s));
  cr_assert_eq(service.accept(0ms).error().word, Word::timeout);
  cr_assert(kit::is_readable(service.pollable(), 10s));  // the timer of the next attempt
}
