#include "ipc/service.hh"

#include <poll.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <algorithm>

#include "ipc/base64.hh"
#include "ipc/door.hh"
#include "ipc/name.hh"
#include "ipc/rundir.hh"

namespace ipc {
namespace {
using namespace std::chrono_literals;
using Kind = rpc::Message::Kind;

constexpr Milliseconds shortest_pause = 10ms;
constexpr Milliseconds longest_pause = 1s;
/// A router that answers at all answers a registration within this.
constexpr Milliseconds registration_time = 10s;
/// While others wait for `accept`, a full backlog must not hold it up.
constexpr Milliseconds reconnect_time = 50ms;

std::uint32_t random_number() {
  std::uint32_t number = 0;
  if (::getrandom(&number, sizeof number, GRND_NONBLOCK) != sizeof number)
    number = static_cast<std::uint32_t>(std::chrono::steady_clock::now().time_since_epoch().count());
  return number;
}

/// 10 ms, 20 ms, ... 1 s, of which each service takes a random part, so that a thousand do not come back at
/// once.
Milliseconds pause_before(unsigned attempt) {
  const auto longest = std::min(shortest_pause * (1 << std::min(attempt, 7U)), longest_pause);
  const auto spread = static_cast<std::uint32_t>((longest - shortest_pause).count()) + 1;
  return shortest_pause + Milliseconds{random_number() % spread};
}

Result<Fd> new_timer() {
  Fd timer{::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK)};
  if (!timer) return fail_errno("timerfd_create");
  return timer;
}

std::vector<std::string> datagrams(JsonView first) {
  std::vector<std::string> all;
  for (const auto& text : first.strings())
    if (auto bytes = base64_decode(text)) all.push_back(std::move(*bytes));
  return all;
}
}  // namespace

struct Service::Body {
  enum class State : std::uint8_t { waiting, registering, registered };

  std::string name;
  ServeOptions options;
  Fd events{};  ///< epoll: the door and the timer
  Fd timer{};   ///< the next attempt, or the end of our patience with one
  std::optional<Door> door{};
  std::string request_id{};
  State state = State::waiting;
  unsigned attempts = 0;

  Result<> open();
  Result<> watch(int fd) const;
  void set_timer(Milliseconds after) const;
  void drop_door();
  Result<> start(Milliseconds patience);
  Result<> start_if_due();
  Result<> restart();
  Result<std::optional<Caller>> step();
  Result<std::optional<Caller>> handle(Door::Incoming incoming);
  Result<> settle(const rpc::Message& answer);
};

Result<> Service::Body::open() {
  events = Fd{::epoll_create1(EPOLL_CLOEXEC)};
  if (!events) return fail_errno("epoll_create1");
  timer = TRY(new_timer());
  return watch(timer.borrow());
}

Result<> Service::Body::watch(int fd) const {
  epoll_event interest{.events = EPOLLIN, .data = {.fd = fd}};
  if (::epoll_ctl(events.borrow(), EPOLL_CTL_ADD, fd, &interest) != 0) return fail_errno("epoll_ctl");
  return {};
}

void Service::Body::set_timer(Milliseconds after) const {
  const auto ms = after.count();
  const itimerspec once{.it_interval = {},
                        .it_value = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1'000'000}};
  ::timerfd_settime(timer.borrow(), 0, &once, nullptr);
}

/// The next attempt comes by the timer.
void Service::Body::drop_door() {
  // A child between fork and exec may hold a copy, and epoll(7) watches descriptions, not descriptors.
  if (door) ::epoll_ctl(events.borrow(), EPOLL_CTL_DEL, door->borrow(), nullptr);
  door.reset();
  state = State::waiting;
  set_timer(pause_before(attempts++));
}

/// Connects and asks; the answer comes later, through `handle`.
Result<> Service::Body::start(Milliseconds patience) {
  auto router = find_router(options.rundir, Deadline{patience});
  door = TRY(std::move(router.door));
  options.rundir = std::move(router.rundir);  // a service stays where it was first offered
  TRY(watch(door->borrow()));
  std::string params;
  JsonWriter writer{params};
  writer.object().add("service", name);
  if (options.shared) writer.add("shared", true);
  if (options.ktls) writer.add("ktls", true);
  writer.end();
  request_id = TRY(door->request("serve", params, Deadline{patience}));
  state = State::registering;
  set_timer(registration_time);
  return {};
}

Result<> Service::Body::start_if_due() {
  std::uint64_t expirations = 0;
  if (::read(timer.borrow(), &expirations, sizeof expirations) < 0) return {};
  if (state == State::registering)
    drop_door();
  else if (state == State::waiting)
    return restart();
  return {};
}

Result<> Service::Body::restart() {
  const auto started = start(reconnect_time);
  if (started) return {};
  drop_door();
  if (started.error().word == Word::no_router || started.error().word == Word::timeout) return {};
  return started;
}

Result<> Service::Body::settle(const rpc::Message& answer) {
  if (answer.kind == Kind::result) {
    state = State::registered;
    attempts = 0;
    set_timer(0ms);
    return {};
  }
  drop_door();
  return std::unexpected(answer.failure);
}

Result<std::optional<Caller>> Service::Body::handle(Door::Incoming incoming) {
  const auto& message = incoming.message;
  const bool is_answer = message.kind == Kind::result || message.kind == Kind::error;
  if (is_answer && state == State::registering && (message.id == request_id || message.id.empty())) {
    TRY(settle(message));
    return std::nullopt;
  }
  if (message.kind != Kind::notification || message.method != "accepted") return std::nullopt;
  auto fd = incoming.take_fd();
  if (!fd) return fail(Word::busy, "a connection was lost: " + fd.error().text);
  return Caller{std::move(*fd), message.params["labels"].labels(), datagrams(message.params["first"])};
}

/// Does what can be done at once.
Result<std::optional<Caller>> Service::Body::step() {
  TRY(start_if_due());
  if (!door) return std::nullopt;
  auto incoming = door->try_receive();
  if (incoming && !*incoming) return std::nullopt;
  if (incoming) return handle(std::move(**incoming));
  if (incoming.error().word ==
      Word::bad_request)  // cut for want of descriptors: this one is lost, others follow
    return fail(Word::busy, "a connection was lost: " + incoming.error().text);
  drop_door();
  return std::nullopt;
}

Service::Service(std::unique_ptr<Body> body) : body_{std::move(body)} {}
Service::Service(Service&&) noexcept = default;
Service& Service::operator=(Service&&) noexcept = default;
Service::~Service() = default;

int Service::pollable() const { return body_->events.borrow(); }
bool Service::is_registered() const { return body_->state == Body::State::registered; }
const std::string& Service::name() const { return body_->name; }

Result<Service> Service::serve(std::string_view name, const ServeOptions& options) {
  TRY(check_service_name(name));
  const Deadline deadline{options.timeout};
  auto body = std::make_unique<Body>(Body{.name = std::string(name), .options = options});
  TRY(body->open());
  TRY(body->start(deadline.left(-1ms)));
  while (body->state == Body::State::registering) {
    auto answer = TRY(body->door->receive(deadline));
    TRY(body->handle(std::move(answer)));
  }
  return Service{std::move(body)};
}

Result<Caller> Service::accept(Milliseconds timeout) {
  const Deadline deadline{timeout};
  for (;;) {
    if (auto caller = TRY(body_->step())) return std::move(*caller);
    const auto ready = wait_ready(body_->events.borrow(), POLLIN, deadline);
    if (!ready && ready.error().word == Word::timeout) return fail(Word::timeout, "no connection came");
    TRY(ready);
  }
}
}  // namespace ipc
