#include "plumberd/registry.hh"

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>

namespace plumberd {
namespace {
constexpr int accepts_per_turn = 64;
constexpr std::ptrdiff_t most_names = 1024;  // of one user: each costs a listening socket
}  // namespace

ipc::Result<> Registry::offer(const std::string& name, Offerer& offerer, bool shared) {
  if (const auto found = services_.find(name); found != services_.end()) {
    auto& service = found->second;
    const bool own = std::ranges::find(service.offerers, &offerer) != service.offerers.end();
    if (own) return ipc::fail(ipc::Word::taken, name + " is offered by this connection already");
    if (!service.shared || !shared || service.uid != offerer.uid())
      return ipc::fail(ipc::Word::taken,
                       name + " is offered by uid " + std::to_string(service.uid) +
                           (service.shared ? " (shared within that uid)" : " (not shared)"));
    service.offerers.push_back(&offerer);
    return {};
  }
  const auto is_users = [&](const auto& entry) { return entry.second.uid == offerer.uid(); };
  if (std::ranges::count_if(services_, is_users) >= most_names)
    return ipc::fail(ipc::Word::busy, "uid " + std::to_string(offerer.uid()) + " offers " +
                                          std::to_string(most_names) + " names, its limit");
  auto listener = TRY(rundir_.bind(name, SOCK_STREAM));
  auto& service = services_[name];
  service.listener = std::move(listener);
  service.shared = shared;
  service.uid = offerer.uid();
  service.offerers.push_back(&offerer);
  start_listening(name, service);
  return {};
}

void Registry::start_listening(const std::string& name, Service& service) {
  service.poll =
      ipc::Poll{loop_, service.listener.borrow(), UV_READABLE, [this, name](int) { accept_some(name); }};
}

void Registry::accept_some(const std::string& name) {
  const auto found = services_.find(name);
  if (found == services_.end()) return;
  auto& service = found->second;
  for (int i = 0; i < accepts_per_turn; ++i) {
    if (!check(name)) return pause_accepting(name, service);
    ipc::StrangerFd socket;
    const bool plenty = accept_all(service.listener.borrow(), 1, [&](ipc::Fd one) {
      socket = ipc::StrangerFd{std::move(one), SOCK_STREAM};
    });
    if (!plenty) return pause_accepting(name, service);
    if (!socket) return;
    on_local_(name, std::move(socket));
  }
}

/// The kernel's backlog holds clients back while the service does not read, or while descriptors are short.
void Registry::pause_accepting(const std::string& name, Service& service) {
  service.poll.stop();
  service.pause = ipc::Timer{loop_, accept_pause, [this, name] {
                               const auto found = services_.find(name);
                               if (found != services_.end()) start_listening(name, found->second);
                             }};
}

void Registry::withdraw(Offerer& offerer) {
  for (auto i = services_.begin(); i != services_.end();) {
    std::erase(i->second.offerers, &offerer);
    if (!i->second.offerers.empty()) {
      ++i;
      continue;
    }
    i->second.poll.stop();
    rundir_.remove(i->first);
    i = services_.erase(i);
  }
}

Offerer* Registry::next_with_room(std::string_view name, Service& service, bool ktls) {
  for (std::size_t i = 0; i < service.offerers.size(); ++i) {
    auto* offerer = service.offerers[service.next++ % service.offerers.size()];
    if (offerer->has_room() && (!ktls || offerer->takes_ktls(name))) return offerer;
  }
  return nullptr;
}

bool Registry::takes_ktls(std::string_view name) const {
  const auto found = services_.find(name);
  return found != services_.end() &&
         std::ranges::all_of(found->second.offerers,
                             [name](const Offerer* offerer) { return offerer->takes_ktls(name); });
}

ipc::Result<> Registry::check(std::string_view name) {
  const auto found = services_.find(name);
  if (found == services_.end())
    return ipc::fail(ipc::Word::unknown_service, std::string(name) + " is not offered here any more");
  const auto has_room = [](Offerer* offerer) { return offerer->has_room(); };
  if (std::ranges::any_of(found->second.offerers, has_room)) return {};
  return ipc::fail(ipc::Word::busy, std::string(name) + " does not take its connections; retry later");
}

ipc::Result<> Registry::deliver(std::string_view name, int fd, const ipc::Labels& labels,
                                std::string_view first, bool ktls) {
  TRY(check(name));
  auto& service = services_.find(name)->second;
  auto* offerer = next_with_room(name, service, ktls);
  if (offerer == nullptr)
    return ipc::fail(ipc::Word::busy, std::string(name) + " takes no sockets of path ktls any more");
  TRY(offerer->accepted(name, fd, labels, first));
  ++service.delivered;
  return {};
}

std::vector<Registry::Entry> Registry::entries() const {
  std::vector<Entry> entries;
  for (const auto& [name, service] : services_)
    entries.push_back({name, service.uid, service.shared, service.offerers.size(), service.delivered});
  return entries;
}
}  // namespace plumberd
