// Redirects, routes, pinned names and listeners of a configuration.
#include <algorithm>

#include "ipc/json.hh"
#include "plumberd/draft.hh"
#include "plumberd/nearest.hh"
#include "plumberd/uri_pattern.hh"

namespace plumberd {
namespace {
bool known_scheme(Draft& draft, const std::string& scheme, const Place& place) {
  if (std::ranges::find(draft.schemes, scheme) != draft.schemes.end()) return true;
  const std::vector<std::string_view> known(draft.schemes.begin(), draft.schemes.end());
  draft.report.error(place, "unknown scheme " + quoted(scheme) + remedy_for(scheme, known) +
                                "; other schemes need a [helpers.NAME]");
  return false;
}

bool check_uri(Draft& draft, std::string_view text, const Place& place) {
  const auto uri = ipc::parse_uri(text);
  if (!uri) {
    draft.report.error(place, uri.error().text + "; see plumberd.toml(5), TARGETS");
    return false;
  }
  if (place.source == nullptr && !uri->secret.empty()) {
    draft.report.error(place, "a secret on the command line is there for all to read; write it into a file");
    return false;
  }
  if (!uri->warning.empty()) draft.report.warning(place, uri->warning);
  return known_scheme(draft, uri->scheme, place);
}

/// What was said first holds; saying it again is an error in one file, a warning across files.
bool is_again(Draft& draft, std::map<std::string, Place, std::less<>>& places, const std::string& name,
              std::string_view what, const Place& place) {
  const auto [first, added] = places.try_emplace(name, place);
  if (added) return false;
  const auto text = std::string(what) + " " + quoted(name) + " is given twice; the first, at " +
                    first->second.at() + ", holds: remove one";
  if (first->second.source == place.source) {
    draft.report.error(place, text);
  } else {
    draft.report.warning(place, text);
  }
  return true;
}

void read_named_redirects(Draft& draft, Fields redirects) {
  for (const auto& [name, to] : redirects.table().members) {
    redirects.take(name);
    if (auto text = misplaced(name, "[redirects]"); to.kind == Node::Kind::array && !text.empty()) {
      redirects.wrong(to, std::move(text));
      continue;
    }
    if (to.kind != Node::Kind::string) {
      redirects.wrong(to, "a redirect leads to one name or URI; write " + name + " = \"...\"");
      continue;
    }
    add_redirect(draft, {.from = name, .to = to.text}, redirects.place_of_key(name, to), redirects.place(to));
  }
}

void read_uri_redirect(Draft& draft, Fields redirect) {
  Redirect made{.by_uri = true};
  const auto* from = redirect.take("from");
  const auto* to = redirect.take("to");
  redirect.string("from", made.from);
  redirect.string("to", made.to);
  redirect.finish();
  if (from == nullptr || to == nullptr)
    return redirect.wrong(redirect.table(), "a [[redirect]] needs both from and to; add what is missing");
  add_redirect(draft, std::move(made), redirect.place(*from), redirect.place(*to));
}

/// Keys that only the helper understands, as members of its settings (udpd(8)).
class HelperKeys {
 public:
  explicit HelperKeys(Fields& fields) : fields_{fields} { writer_.object(); }
  void duration(std::string_view key) {
    std::chrono::milliseconds value{0};
    fields_.duration(key, value);
    if (value.count() != 0) writer_.add(std::string(key) + "_ms", std::int64_t{value.count()});
  }
  void integer(std::string_view key, unsigned least) {
    unsigned value = least;
    if (fields_.take(key) == nullptr) return;
    fields_.integer(key, value, least, 1'000'000);
    writer_.add(key, std::int64_t{value});
  }
  void boolean(std::string_view key) {
    bool value = false;
    fields_.boolean(key, value);
    if (value) writer_.add(key, true);
  }
  std::string members() {
    writer_.end();
    return text_.substr(1, text_.size() - 2);
  }

 private:
  Fields& fields_;
  std::string text_{};
  ipc::JsonWriter writer_{text_};
};

void refuse_udp_keys(Fields& fields, std::initializer_list<std::string_view> keys) {
  for (const auto key : keys)
    if (const auto* node = fields.take(key))
      fields.wrong(*node, quoted(key) + " is for udp:// only; remove it");
}

/// What cannot be kept warm gets no spares, which is no error.
void check_warm(Draft& draft, Fields& fields, const Route& route, const std::string& name) {
  const auto* warm = fields.take("warm");
  if (warm == nullptr || route.warm == 0 || route.targets.empty()) return;
  const auto& target = route.targets.front();
  const auto place = fields.place(*warm);
  if (!target.starts_with("tcp://") && !target.starts_with("tls://"))
    draft.report.warning(place,
                         "only tcp:// and tls:// can be kept warm, and of a list its first; remove it");
  else if (name.starts_with('*') && target.find("{service}") != target.npos)
    draft.report.warning(place,
                         "a target with {service} can be kept warm for one name only; give that a route");
}

Route route_from(Draft& draft, const Document& document, const Node& node, const std::string& name) {
  Route route;
  if (node.kind == Node::Kind::string) route.targets.push_back(node.text);
  if (node.kind != Node::Kind::table) return route;
  Fields fields{document, node, "the route of " + name, draft.report};
  fields.strings("target", route.targets, true);
  fields.integer("warm", route.warm, 0, 1024);
  std::chrono::milliseconds timeout{0};
  fields.duration("timeout", timeout);
  if (timeout.count() != 0) route.timeout = timeout;
  fields.string("source", route.source);
  fields.string("profile", route.profile);
  HelperKeys own{fields};
  own.boolean("fragment");
  route.settings = own.members();
  fields.finish();
  check_warm(draft, fields, route, name);
  const auto is_udp = [](const std::string& target) { return target.starts_with("udp://"); };
  if (std::ranges::none_of(route.targets, is_udp)) refuse_udp_keys(fields, {"fragment"});
  if (!route.source.empty() && !ipc::parse_address(route.source))
    fields.wrong(*fields.take("source"), quoted(route.source) + " is no IP address; write one of this host");
  if (!route.profile.empty())
    draft.profiles_used.push_back({route.profile, fields.place(*fields.take("profile"))});
  return route;
}

/// A list of `rules` or `pinned` below [routes]. Names could be targets and so are only warned of; rules
/// could not.
bool is_misplaced(Draft& draft, Fields& routes, const std::string& name, const Node& node) {
  const auto text = misplaced(name, "[routes]");
  if (node.kind != Node::Kind::array || text.empty()) return false;
  const auto has_blank = [](const Node& item) { return item.text.find(' ') != item.text.npos; };
  const bool wrong = std::ranges::any_of(node.items, has_blank);
  const auto place = routes.place_of_key(name, node);
  if (wrong) {
    draft.report.error(place, text);
  } else {
    draft.report.warning(place, text + ", if no route was meant");
  }
  return wrong;
}

void read_route(Draft& draft, const Document& document, Fields& routes, const std::string& name,
                const Node& node) {
  if (is_misplaced(draft, routes, name, node)) return;
  auto route = route_from(draft, document, node, name);
  if (node.kind == Node::Kind::array)
    for (const auto& item : node.items) route.targets.push_back(item.text);
  if (route.targets.empty() || std::ranges::find(route.targets, "") != route.targets.end())
    return routes.wrong(node, "a route leads to a URI, a name or a list of them; write " + name +
                                  " = \"tcp://HOST/SERVICE\"");
  add_route(draft, name, std::move(route), routes.place_of_key(name, node));
}
}  // namespace

bool check_target(Draft& draft, std::string_view target, const Place& place) {
  const auto example = filled_in(target, "service");
  if (example.find("://") != example.npos) return check_uri(draft, example, place);
  const auto ok = ipc::check_service_name(example);
  if (!ok) draft.report.error(place, ok.error().text + "; write a name or SCHEME://HOST/SERVICE");
  return ok.has_value();
}

void add_redirect(Draft& draft, Redirect redirect, const Place& place, const Place& to) {
  if (redirect.by_uri) {
    if (const auto ok = check_uri_pattern(redirect.from); !ok)
      return draft.report.error(place, ok.error().text);
    const auto scheme = redirect.from.substr(0, redirect.from.find("://"));
    if (scheme.find('*') == scheme.npos && !known_scheme(draft, scheme, place)) return;
  } else if (const auto ok = ipc::check_service_name(redirect.from); !ok) {
    return draft.report.error(place, ok.error().text + "; a redirect is from one exact name");
  }
  if (!check_target(draft, redirect.to, to)) return;
  if (is_again(draft, draft.redirects_from, redirect.from, "redirect of", place)) return;
  redirect.at = place.at();
  draft.config.redirects.push_back(std::move(redirect));
  draft.redirect_places.push_back(place);
}

void add_route(Draft& draft, const std::string& name, Route route, const Place& place) {
  if (const auto ok = ipc::check_service_pattern(name); !ok)
    return draft.report.error(place, ok.error().text + "; a route is for a name, \"*.name\" or \"*\"");
  bool good = true;
  for (const auto& target : route.targets) good = check_target(draft, target, place) && good;
  if (!good || is_again(draft, draft.route_places, name, "route", place)) return;
  route.at = place.at();
  draft.config.routes.emplace(name, std::move(route));
}

void read_routing(Draft& draft, const Document& document, Fields& root) {
  const auto before = draft.config.pinned.size();
  root.strings("pinned", draft.config.pinned);
  const auto* pinned = root.take("pinned");
  for (auto i = before; i < draft.config.pinned.size(); ++i)
    if (const auto ok = ipc::check_service_pattern(draft.config.pinned[i]); !ok)
      root.wrong(pinned->items[i - before], ok.error().text + "; pin a name, \"*.name\" or \"*\"");
  if (const auto* redirects = root.take("redirects"))
    read_named_redirects(draft, {document, *redirects, "[redirects]", draft.report});
  if (const auto* list = root.take("redirect"))
    for (const auto& item : list->kind == Node::Kind::array ? list->items : std::vector{*list})
      read_uri_redirect(draft, {document, item, "[[redirect]]", draft.report});
  const auto* routes = root.take("routes");
  if (routes == nullptr) return;
  Fields fields{document, *routes, "[routes]", draft.report};
  for (const auto& [name, node] : fields.table().members) read_route(draft, document, fields, name, node);
}

namespace {
/// Our own helper has the scheme, and so it is known what its listeners need.
bool is_built_in(const Draft& draft, const std::string& scheme) {
  const bool ours = scheme == "tcp" || scheme == "tls" || scheme == "udp";
  const auto replaces = [&](const HelperSpec& helper) {
    return std::ranges::find(helper.schemes, scheme) != helper.schemes.end() ||
           (helper.name == scheme + "d" && !helper.exec.empty());
  };
  return ours && std::ranges::none_of(draft.config.helpers, replaces);
}

bool can_be_bound(Draft& draft, const ipc::Uri& uri, const Listen& listen, const Place& place) {
  if (!is_built_in(draft, uri.scheme)) return true;
  if (!uri.address && !uri.is_localhost())
    draft.report.error(place, quoted(uri.host) +
                                  " is a name, and a listener has an address; write one of this "
                                  "host, localhost, or 0.0.0.0 or [::] for all");
  else if (uri.scheme == "tls" && listen.profile.empty())
    draft.report.error(place,
                       "a tls listener needs a certificate or a key; write profile = \"NAME\" in its "
                       "[[listen]], and a [tls.NAME]");
  else
    return true;
  return false;
}
}  // namespace

void add_listen(Draft& draft, Listen listen, const Place& place) {
  const auto uri = ipc::parse_uri(listen.uri);
  if (!uri) return draft.report.error(place, uri.error().text + "; a listener is SCHEME://ADDRESS:PORT");
  if (!known_scheme(draft, uri->scheme, place)) return;
  if (uri->is_unix())
    return draft.report.error(place,
                              "plumberd serves UNIX sockets in its run directory by itself; remove this");
  if (!uri->service.empty() || !uri->user.empty())
    return draft.report.error(place, quoted(ipc::mask_secrets(listen.uri)) +
                                         " names a user or service; a listener is SCHEME://ADDRESS:PORT, and "
                                         "service = \"NAME\" makes it raw");
  const bool is_free = listen.service.empty() || listen.service == ipc::metrics_service;
  if (const auto ok = ipc::check_service_name(listen.service); !is_free && !ok)
    return draft.report.error(place, ok.error().text + "; write the name of a service");
  if (listen.transit && !listen.service.empty())
    return draft.report.error(place, "transit is for hops, and a listener with a service is raw; remove one");
  if (!can_be_bound(draft, *uri, listen, place)) return;
  const bool any_port = uri->port == std::uint16_t{0};
  if (!any_port && is_again(draft, draft.listen_places, listen.uri, "listener", place)) return;
  listen.at = place.at();
  draft.config.listens.push_back(std::move(listen));
}

namespace {
std::string listen_settings(Fields& fields, bool is_udp) {
  HelperKeys own{fields};
  own.duration("relay_idle");
  own.integer("flows", 1);
  own.integer("flows_per_prefix", 1);
  own.integer("direct_flows", 0);
  own.boolean("fragment");
  if (!is_udp) refuse_udp_keys(fields, {"flows", "flows_per_prefix", "direct_flows", "fragment"});
  return own.members();
}
}  // namespace

void read_listens(Draft& draft, const Document& document, Fields& root) {
  const auto* list = root.take("listen");
  if (list == nullptr) return;
  for (const auto& item : list->kind == Node::Kind::array ? list->items : std::vector{*list}) {
    Fields fields{document, item, "[[listen]]", draft.report};
    Listen listen;
    fields.string("uri", listen.uri);
    fields.string("service", listen.service);
    fields.string("profile", listen.profile);
    fields.boolean("transit", listen.transit);
    listen.settings = listen_settings(fields, listen.uri.starts_with("udp://"));
    fields.finish();
    const auto* uri = fields.take("uri");
    if (uri == nullptr) {
      fields.wrong(item, "a [[listen]] needs a uri; write uri = \"tcp://0.0.0.0:9000\"");
      continue;
    }
    if (!listen.profile.empty())
      draft.profiles_used.push_back({listen.profile, fields.place(*fields.take("profile")), true});
    if (!listen.uri.empty()) add_listen(draft, std::move(listen), fields.place(*uri));
  }
}
}  // namespace plumberd
