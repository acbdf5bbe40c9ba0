// All helpers: which one speaks which scheme, kept in step with the configuration.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "plumberd/helper.hh"

namespace plumberd {

/// The helpers of one configuration. A request keeps those it began with, as it keeps its configuration.
class HelperSet {
 public:
  /// A worker of the helper for `scheme`; null when nobody serves it.
  Helper* for_scheme(std::string_view scheme) const;
  /// All workers of the helper for `scheme`, in the same order every time; none when nobody serves it.
  std::vector<Helper*> all_for_scheme(std::string_view scheme) const;
  const std::string* name_for(std::string_view scheme) const;
  std::vector<const Helper*> all() const;

 private:
  friend class Helpers;
  struct Pool {
    HelperSpec spec;
    std::vector<std::unique_ptr<Helper>> workers{};
    std::size_t next = 0;
  };
  Pool* pool_for(std::string_view scheme) const;
  std::vector<std::shared_ptr<Pool>> pools_;
};

class Helpers {
 public:
  Helpers(ipc::Loop& loop, Log& log, Helper::Hooks hooks)
      : loop_{loop}, log_{log}, hooks_{std::move(hooks)} {}
  /// Those of `config`, which are told its settings: whose entry is unchanged goes on, the others are made
  /// anew and started when first used. Dials still go through the current ones.
  std::shared_ptr<const HelperSet> prepare(const Config& config);
  /// From now on these are in use. Of the last ones, those that no request under way needs any more are
  /// released: their processes finish their relays and exit.
  void adopt(std::shared_ptr<const HelperSet> next);
  /// What was prepared is not wanted: back to the settings of `config`, which is in use.
  void drop(const std::shared_ptr<const HelperSet>& unwanted, const Config& config);
  const std::shared_ptr<const HelperSet>& current() const { return current_; }
  void release_all();

 private:
  using Pool = HelperSet::Pool;
  std::shared_ptr<Pool> find(const HelperSpec& spec) const;
  void tell(const HelperSet& set);
  void retire(const HelperSet& set);
  void release_unused();
  ipc::Loop& loop_;
  Log& log_;
  Helper::Hooks hooks_;
  std::shared_ptr<const HelperSet> current_ = std::make_shared<HelperSet>();
  std::vector<std::shared_ptr<Pool>> retired_;  ///< of earlier configurations
  std::string settings_;                        ///< what all helpers were told last
  std::uint64_t generation_ = 0;
  ipc::Timer renewal_;  ///< of the workers' secrets
  ipc::Timer sweep_;
};

/// What the helper is told for a dial or a listener: hop_timeout_ms, source, `own`, which are members
/// already, and the members of the profile. JSON object text.
std::string helper_settings(const Config& config, std::string_view source, std::string_view profile,
                            std::string_view own);

}  // namespace plumberd
