// The [[listen]]s: which are open, where, by which helper.
#pragma once
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "plumberd/helpers.hh"

namespace plumberd {

class Listeners {
 public:
  explicit Listeners(ipc::Loop& loop) : loop_{loop} {}
  using Done = std::function<void(ipc::Result<>)>;
  /// Opens what `config` asks for and is not open yet, then calls back. `commit` afterwards closes what it no
  /// longer asks for; after an error `restore` opens again what had to make room for another helper.
  void prepare(const Config& config, const HelperSet& helpers, Done done);
  void commit();
  void restore();
  /// What an inbound connection is judged by: ours, whatever its helper says of it.
  struct Bound {
    Listen listen;
    std::string scheme{};
    std::uint16_t port = 0;
  };
  const Bound* find(std::uint64_t id) const;

  struct Entry {
    std::string uri, actual, service;
  };
  std::vector<Entry> entries() const;

 private:
  struct Open : Bound {
    std::string settings{};
    std::string actual{};
    std::vector<Helper*> workers{};  ///< of one helper; who does not share ports leaves all to the first
    bool wanted = true;
    ipc::Timer again{};
    bool away = false;    ///< closed, so that its successor can listen there
    bool shared = false;  ///< by several workers
    bool fresh = true;    ///< opened by the preparation under way
  };
  struct Preparation;
  void open_one(const Config& config, const Listen& listen, const HelperSet& helpers,
                const std::shared_ptr<Preparation>& preparation);
  static bool has_successor(const Open& open, const Config& config, const HelperSet& helpers);
  void make_room(const Config& config, const HelperSet& helpers);
  Helper::Share share_for(const Listen& listen, const std::vector<Helper*>& workers) const;
  void opened(std::uint64_t id, const ipc::Result<Helper::Listened>& outcome, Preparation& preparation);
  static void join(std::uint64_t id, const Open& open);
  static void close(std::uint64_t id, const Open& open);
  void reopen(std::uint64_t id, const Open& open);
  void settle(const std::shared_ptr<Preparation>& preparation);
  ipc::Loop& loop_;
  std::map<std::uint64_t, Open> open_;
  std::uint64_t next_id_ = 1;
};

}  // namespace plumberd
