// All helpers: which one speaks which scheme, kept in step with the configuration.
#pragma once
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "plumberd/helper.hh"

namespace plumberd {

class Helpers {
 public:
  Helpers(ipc::Loop& loop, Log& log, Helper::Hooks hooks)
      : loop_{loop}, log_{log}, hooks_{std::move(hooks)} {}
  /// Helpers whose entry is unchanged go on; others are set aside and made anew when first used. Applying the
  /// earlier configuration again takes them back.
  void apply(const Config& config);
  /// In a later turn of the loop: those set aside are released (they finish their relays).
  void release_unused();
  /// A worker of the helper for `scheme`; null when nobody serves it.
  Helper* for_scheme(std::string_view scheme);
  /// The same worker every time: the one that holds the listeners.
  Helper* first_for_scheme(std::string_view scheme);
  const std::string* name_for(std::string_view scheme) const;
  std::vector<const Helper*> all() const;
  void release_all();
  ipc::Loop& loop() { return loop_; }

 private:
  struct Pool {
    HelperSpec spec;
    std::vector<std::unique_ptr<Helper>> workers;
    std::size_t next = 0;
  };
  using Pools = std::vector<std::unique_ptr<Pool>>;
  static std::unique_ptr<Pool> take(Pools& pools, const HelperSpec& spec);
  Pool* pool_for(std::string_view scheme);
  ipc::Loop& loop_;
  Log& log_;
  Helper::Hooks hooks_;
  Pools pools_;
  Pools unused_;
};

/// What the helper is told for a dial or a listener: hop_timeout_ms, source, and the members of the profile.
/// JSON object text.
std::string helper_settings(const Config& config, std::string_view source, std::string_view profile);

}  // namespace plumberd
