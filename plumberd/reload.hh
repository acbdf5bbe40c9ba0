// New configurations, whole or not at all: read and indexed off the loop, installed on it, rolled back unless
// confirmed.
#pragma once
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "plumberd/router.hh"

namespace plumberd {

struct Reloaded {
  std::optional<ipc::Error> error{};
  std::vector<Diagnostic> diagnostics{};  ///< errors, or warnings of a success
  std::uint64_t generation = 0;
};

class Reloader {
 public:
  using Done = std::function<void(const Reloaded&)>;
  explicit Reloader(Router& router) : router_{router} {}
  Reloader(const Reloader&) = delete;
  ~Reloader() { *alive_ = false; }
  /// Installs the first configuration. Reloads that are asked for meanwhile wait.
  void begin(std::shared_ptr<Config> config, std::function<void(ipc::Result<>)> done);
  /// One at a time; further ones wait (at most 16). `confirm_seconds` 0: for good.
  void reload(unsigned confirm_seconds, Done done);
  /// Keeps what waits for confirmation; BAD_REQUEST when nothing does.
  ipc::Result<> confirm();

 private:
  struct Job;
  struct Wish {
    unsigned confirm_seconds;
    Done done;
  };
  void start_next();
  void loaded(Loaded outcome, Wish wish);
  void finish(const Wish& wish, Reloaded outcome);
  void roll_back();
  Router& router_;
  bool busy_ = false;
  std::deque<Wish> waiting_;
  std::shared_ptr<const Config> previous_;
  ipc::Timer rollback_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace plumberd
