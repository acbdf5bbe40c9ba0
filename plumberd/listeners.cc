#include "plumberd/listeners.hh"

#include <algorithm>

#include "ipc/name.hh"

namespace plumberd {
namespace {
constexpr ipc::Milliseconds reopen_pause{200};

bool same(const Listen& a, const Listen& b) {
  return a.uri == b.uri && a.service == b.service && a.profile == b.profile && a.transit == b.transit;
}

std::string scheme_of(const std::string& uri) { return uri.substr(0, uri.find(':')); }

std::uint16_t port_of(const std::string& actual) {
  const auto uri = ipc::parse_uri(actual);
  return uri && uri->port ? *uri->port : std::uint16_t{0};
}
}  // namespace

struct Listeners::Preparation {
  Done done;
  std::size_t waiting = 1;  ///< one for the loop that starts them
  ipc::Result<> outcome{};
};

void Listeners::prepare(const Config& config, const HelperSet& helpers, Done done) {
  auto preparation = std::make_shared<Preparation>(Preparation{.done = std::move(done)});
  for (auto& [id, open] : open_) open.wanted = open.fresh = false;
  make_room(config, helpers);
  for (const auto& listen : config.listens) {
    const auto settings = helper_settings(config, "", listen.profile, listen.settings);
    const auto kept = std::ranges::find_if(open_, [&](const auto& entry) {
      return !entry.second.wanted && same(entry.second.listen, listen) && entry.second.settings == settings &&
             entry.second.workers == helpers.all_for_scheme(scheme_of(listen.uri));
    });
    if (kept != open_.end()) {
      kept->second.wanted = true;
    } else {
      open_one(config, listen, helpers, preparation);
    }
  }
  settle(preparation);
}

/// Whether its port is wanted by another helper, or by a listener of other settings.
bool Listeners::has_successor(const Open& open, const Config& config, const HelperSet& helpers) {
  if (open.workers != helpers.all_for_scheme(scheme_of(open.listen.uri))) return true;
  if (port_of(open.listen.uri) == 0) return false;
  return std::ranges::any_of(config.listens, [&](const Listen& listen) {
    return listen.uri == open.listen.uri &&
           !(same(open.listen, listen) &&
             open.settings == helper_settings(config, "", listen.profile, listen.settings));
  });
}

/// A port must be let go of before the one in its place can have it.
void Listeners::make_room(const Config& config, const HelperSet& helpers) {
  for (auto& [id, open] : open_) {
    if (!has_successor(open, config, helpers)) continue;
    close(id, open);
    open.away = true;
  }
}

void Listeners::restore() {
  for (auto& [id, open] : open_)
    if (std::exchange(open.away, false)) reopen(id, open);
}

/// A port that was shared until now is ours, although some of those who had it may not have closed it yet.
Helper::Share Listeners::share_for(const Listen& listen, const std::vector<Helper*>& workers) const {
  if (workers.size() < 2) return Helper::Share::no;
  const auto was_ours = [&](const auto& entry) {
    return entry.second.away && entry.second.shared && entry.second.listen.uri == listen.uri;
  };
  return std::ranges::any_of(open_, was_ours) ? Helper::Share::join : Helper::Share::first;
}

void Listeners::close(std::uint64_t id, const Open& open) {
  for (auto* worker : open.workers) worker->unlisten(id);
}

/// The other workers listen where the first does. One that cannot says so in the log, the rest goes on.
void Listeners::join(std::uint64_t id, const Open& open) {
  auto listen = open.listen;
  listen.uri = open.actual;
  for (std::size_t i = 1; i < open.workers.size(); ++i)
    open.workers[i]->listen(id, listen, open.settings, Helper::Share::join, [](const auto&) {});
}

/// On the port that it had, as soon as the would-be successor has closed it.
void Listeners::reopen(std::uint64_t id, const Open& open) {
  auto listen = open.listen;
  if (!open.actual.empty()) listen.uri = open.actual;
  open.workers.front()->listen(
      id, listen, open.settings, open.shared ? Helper::Share::join : Helper::Share::no,
      [this, id](const auto& outcome) {
        const auto found = open_.find(id);
        if (found == open_.end()) return;
        if (outcome && outcome->is_shared) join(id, found->second);
        if (outcome) return;
        found->second.again =
            ipc::Timer{loop_, reopen_pause, [this, id] { reopen(id, open_.find(id)->second); }};
      });
}

void Listeners::open_one(const Config& config, const Listen& listen, const HelperSet& helpers,
                         const std::shared_ptr<Preparation>& preparation) {
  auto workers = helpers.all_for_scheme(scheme_of(listen.uri));
  if (workers.empty()) {
    preparation->outcome =
        ipc::fail(ipc::Word::no_helper, listen.at + ": no helper speaks " + scheme_of(listen.uri));
    return;
  }
  const auto id = next_id_++;
  const auto settings = helper_settings(config, "", listen.profile, listen.settings);
  const auto share = share_for(listen, workers);
  auto* first = workers.front();
  open_[id] = Open{{.listen = listen, .scheme = scheme_of(listen.uri)}, settings, {}, std::move(workers)};
  ++preparation->waiting;
  first->listen(id, listen, settings, share, [this, id, preparation](const auto& outcome) {
    opened(id, outcome, *preparation);
    settle(preparation);
  });
}

void Listeners::opened(std::uint64_t id, const ipc::Result<Helper::Listened>& outcome,
                       Preparation& preparation) {
  const auto found = open_.find(id);
  if (found == open_.end()) return;
  auto& open = found->second;
  if (outcome) {
    open.actual = outcome->uri;
    open.port = port_of(outcome->uri);
    open.shared = outcome->is_shared;
    if (open.shared) join(id, open);
    return;
  }
  preparation.outcome =
      ipc::fail(outcome.error().word, open.listen.at + ": cannot listen on " +
                                          ipc::mask_secrets(open.listen.uri) + ": " + outcome.error().text);
  open_.erase(found);
}

void Listeners::settle(const std::shared_ptr<Preparation>& preparation) {
  if (--preparation->waiting > 0) return;
  if (!preparation->outcome) {  // take back what was opened, keep what was open
    for (auto i = open_.begin(); i != open_.end();) {
      if (i->second.fresh) close(i->first, i->second);
      i = i->second.fresh ? open_.erase(i) : std::next(i);
    }
  }
  auto done = std::move(preparation->done);
  done(preparation->outcome);
}

void Listeners::commit() {
  for (auto i = open_.begin(); i != open_.end();) {
    if (!i->second.wanted) close(i->first, i->second);
    i = i->second.wanted ? std::next(i) : open_.erase(i);
  }
}

const Listeners::Bound* Listeners::find(std::uint64_t id) const {
  const auto found = open_.find(id);
  return found == open_.end() ? nullptr : &found->second;
}

std::vector<Listeners::Entry> Listeners::entries() const {
  std::vector<Entry> entries;
  for (const auto& [id, open] : open_)
    entries.push_back({ipc::mask_secrets(open.listen.uri), open.actual, open.listen.service});
  return entries;
}
}  // namespace plumberd
