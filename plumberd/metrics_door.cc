#include "plumberd/metrics_door.hh"

#include <sys/socket.h>

#include <algorithm>
#include <array>

#include "ipc/name.hh"
#include "plumberd/identity.hh"
#include "plumberd/views.hh"

namespace plumberd {
namespace {
constexpr std::size_t most_scrapes = 16;
constexpr std::size_t longest_head = 8192;
constexpr ipc::Milliseconds scrape_deadline{5'000};
constexpr int accepts_per_turn = 16;

std::string answer(std::string_view status, std::string_view type, std::string_view body, bool with_body) {
  std::string text{"HTTP/1.0 "};
  text.append(status).append("\r\nContent-Type: ").append(type).append("\r\nContent-Length: ");
  text.append(std::to_string(body.size())).append("\r\nConnection: close\r\n\r\n");
  return with_body ? text.append(body) : text;
}
/// The figures name rules and where they stand: for operators, and for whom a rule names by this very
/// service.
bool may_scrape(const Config& config, Identity& identity) {
  if (is_operator(config, identity)) return true;
  const Question question{.direction = Direction::local, .service = ipc::metrics_service};
  const auto verdict = judge_as(*config.rules, question, identity);
  return verdict.kind == Verdict::Kind::allow && verdict.rule != nullptr &&
         verdict.rule->service() == ipc::metrics_service;
}

std::string http_refusal() {
  return answer(
      "403 Forbidden", "text/plain; charset=utf-8",
      "for root, the router's user, [admin], and whom a rule \"allow local plumberd.metrics ...\" names\n",
      true);
}
}  // namespace

std::string http_answer(std::string_view head, const std::string& metrics) {
  constexpr std::string_view plain = "text/plain; charset=utf-8";
  const auto method = head.substr(0, head.find(' '));
  auto rest = head.substr(std::min(method.size() + 1, head.size()));
  const auto path = rest.substr(0, rest.find_first_of(" ?\r\n"));
  if (method != "GET" && method != "HEAD")
    return answer("405 Method Not Allowed", plain, "GET /metrics\n", true);
  if (path != "/metrics" && path != "/")
    return answer("404 Not Found", plain, "GET /metrics\n", method == "GET");
  return answer("200 OK", "text/plain; version=0.0.4; charset=utf-8", metrics, method == "GET");
}

struct MetricsDoor::Scrape {
  ipc::StrangerFd socket;
  ipc::Poll poll;
  ipc::Timer deadline;
  std::string head;
  std::string answer;
  bool allowed = false;
};

MetricsDoor::MetricsDoor(Router& router, ipc::Fd listener)
    : router_{router},
      acceptor_{router.loop,        router.log,
                "the metrics door", std::move(listener),
                accepts_per_turn,   [this](ipc::StrangerFd socket) { admit(std::move(socket)); }} {}

MetricsDoor::~MetricsDoor() = default;

void MetricsDoor::admit(ipc::StrangerFd socket) {
  auto identity = Identity::of_peer(socket.borrow());
  if (!identity) return;
  if (scrapes_.size() >= most_scrapes) end(*scrapes_.front());
  auto scrape = std::make_unique<Scrape>();
  auto* raw = scrape.get();
  raw->allowed = may_scrape(*router_.config, *identity);
  raw->socket = std::move(socket);
  raw->poll = ipc::Poll{router_.loop, raw->socket.borrow(), UV_READABLE,
                        [this, raw](int) { raw->answer.empty() ? read(*raw) : write(*raw); }};
  raw->deadline = ipc::Timer{router_.loop, scrape_deadline, [this, raw] { end(*raw); }};
  scrapes_.push_back(std::move(scrape));
}

void MetricsDoor::end(Scrape& scrape) {
  std::erase_if(scrapes_, [&](const auto& entry) { return entry.get() == &scrape; });
}

void MetricsDoor::read(Scrape& scrape) {
  std::array<char, 2048> buffer;
  const auto received = ipc::receive_without_fds(scrape.socket.borrow(), buffer);
  if (!received || received->io == ipc::Io::closed) return end(scrape);
  if (received->io == ipc::Io::again) return;
  scrape.head.append(buffer.data(), received->size);
  if (scrape.head.size() > longest_head) return end(scrape);
  const bool whole =
      scrape.head.find("\r\n\r\n") != std::string::npos || scrape.head.find("\n\n") != std::string::npos;
  if (!whole) return;
  scrape.answer = scrape.allowed ? http_answer(scrape.head, metrics_text(router_)) : http_refusal();
  scrape.poll.change(UV_WRITABLE);
}

void MetricsDoor::write(Scrape& scrape) {
  std::size_t sent = 0;
  const auto io = ipc::send_with_fds(scrape.socket.borrow(), scrape.answer, {}, &sent);
  if (io && *io == ipc::Io::again) return;
  if (!io || *io == ipc::Io::closed || sent == scrape.answer.size()) return end(scrape);
  scrape.answer.erase(0, sent);
}
}  // namespace plumberd
