// [helpers.NAME]: programs that speak a scheme.
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <sstream>

#include "plumberd/draft.hh"
#include "plumberd/selector.hh"

namespace plumberd {
namespace {
bool is_ours(std::string_view name) {
  constexpr std::array<std::string_view, 3> ours{"tcpd", "tlsd", "udpd"};
  return std::ranges::find(ours, name) != ours.end();
}

bool is_scheme(std::string_view text) {
  const auto letter = [](char c) { return c >= 'a' && c <= 'z'; };
  if (text.empty() || text.size() > 32 || !letter(text[0])) return false;
  return std::ranges::all_of(
      text, [&](char c) { return letter(c) || (c >= '0' && c <= '9') || c == '+' || c == '-' || c == '.'; });
}

void take_schemes(Draft& draft, const HelperSpec& helper, const Place& place) {
  for (const auto& scheme : helper.schemes) {
    if (!is_scheme(scheme) || is_selector_word(scheme)) {
      draft.report.error(place, quoted(scheme) +
                                    " cannot be a scheme; write lower-case letters, digits, + - . "
                                    "and no word that rules use as a selector");
      continue;
    }
    const auto [owner, added] = draft.scheme_owners.try_emplace(scheme, helper.name);
    if (!added)
      draft.report.error(place, "scheme " + quoted(scheme) + " is [helpers." + owner->second +
                                    "]'s already; leave it to one of them");
    if (std::ranges::find(draft.schemes, scheme) == draft.schemes.end()) draft.schemes.push_back(scheme);
  }
}

void take_environment(Draft& draft, const Document& document, Fields& fields, HelperSpec& helper) {
  const auto* node = fields.take("environment");
  if (node == nullptr) return;
  Fields environment{document, *node, "environment", draft.report};
  for (const auto& [name, value] : environment.table().members) {
    if (name.empty() || name.find('=') != name.npos)
      environment.wrong(value, "an environment variable's name has no = in it; correct it");
    else
      environment.string(name, helper.environment[name]);
  }
}

bool is_program(const std::string& path) {
  struct stat status {};
  return ::stat(path.c_str(), &status) == 0 && S_ISREG(status.st_mode) && ::access(path.c_str(), X_OK) == 0;
}

/// What starting it would find: a path as it stands, a plain name in the helper's PATH.
bool can_be_run(const HelperSpec& helper) {
  const auto& program = helper.exec[0];
  if (program.find('/') != program.npos) return is_program(program);
  const auto own = helper.environment.find("PATH");
  const char* ours = ::getenv("PATH");
  std::istringstream path{own != helper.environment.end() ? own->second : ours != nullptr ? ours : ""};
  for (std::string directory; std::getline(path, directory, ':');)
    if (is_program(directory + "/" + program)) return true;
  return false;
}

/// It may be installed later, or stand on a file system that comes later: no error.
void check_program(Draft& draft, Fields& fields, const HelperSpec& helper) {
  if (!draft.looks_around || helper.exec.empty() || helper.exec[0].empty() || can_be_run(helper)) return;
  draft.report.warning(fields.place(*fields.take("exec")),
                       "there is no program " + quoted(helper.exec[0]) +
                           " that can be run (yet); install it, correct its path or chmod +x it");
}

void check_helper(Draft& draft, Fields& fields, const HelperSpec& helper, const Place& place) {
  const bool external = !is_ours(helper.name);
  if ((external || !helper.exec.empty()) && (helper.exec.empty() || helper.exec[0].empty()))
    fields.wrong(fields.table(), "a helper needs exec = [\"/path/of/program\", \"argument\"]; add it");
  if (external && helper.schemes.empty())
    fields.wrong(fields.table(), "a helper needs schemes = [\"...\"]; add those that it speaks");
  if (!helper.user.empty() && !draft.principals.user(helper.user))
    report_unknown(draft, "user", helper.user, fields.place(*fields.take("user")));
  const auto ok = ipc::check_service_name(helper.name);
  if (!ok || helper.name.find('.') != helper.name.npos)
    draft.report.error(place, quoted(helper.name) + " is no name for a helper; use A-Z a-z 0-9 _ -");
}
}  // namespace

void read_helpers(Draft& draft, const Document& document, Fields& root) {
  const auto* node = root.take("helpers");
  if (node == nullptr) return;
  Fields helpers{document, *node, "[helpers]", draft.report};
  for (const auto& [name, table] : helpers.table().members) {
    Fields fields{document, table, "[helpers." + name + "]", draft.report};
    const auto place = helpers.place_of_key(name, table);
    HelperSpec helper{.name = name, .at = place.at()};
    fields.strings("exec", helper.exec, true);
    fields.strings("schemes", helper.schemes);
    fields.string("user", helper.user);
    fields.integer("workers", helper.workers, 1, 64);
    fields.boolean("hop", helper.hop);
    take_environment(draft, document, fields, helper);
    fields.finish();
    check_helper(draft, fields, helper, place);
    check_program(draft, fields, helper);
    const auto [first, added] = draft.helper_places.try_emplace(name, place);
    if (!added)
      draft.report.error(place,
                         "[helpers." + name + "] stands at " + first->second.at() + " already; merge them");
    take_schemes(draft, helper, place);
    draft.config.helpers.push_back(std::move(helper));
  }
}
}  // namespace plumberd
