// Where requests go: the order of redirects, directive, routes, local services and the default route.
#include <criterion/criterion.h>

#include "plumberd/route.hh"
#include "plumberd/uri_pattern.hh"

using namespace plumberd;

namespace {
/// A configuration by hand, one line a part.
struct Map {
  Config config{};
  std::vector<std::string> here{};

  Map& local(std::string_view name) { return here.emplace_back(name), *this; }
  Map& redirect(std::string_view from, std::string_view to) {
    const bool by_uri = from.find("://") != from.npos;
    config.redirects.push_back({std::string(from), std::string(to), by_uri, "f:1"});
    return *this;
  }
  Map& route(std::string_view name, std::vector<std::string> targets) {
    config.routes[std::string(name)] = Route{.targets = std::move(targets), .at = "f:2"};
    return *this;
  }
  Map& pin(std::string_view name) { return config.pinned.emplace_back(name), *this; }

  RouteQuestion question() const {
    return {
        .is_local = [this](std::string_view name) { return std::ranges::find(here, name) != here.end(); }};
  }
  /// Targets as "KIND service uri" joined by "; ", or the error's word.
  std::string go(const RouteQuestion& asked) const {
    const auto routed = plumberd::route(config, asked);
    if (!routed) return std::string(to_string(routed.error().word));
    std::string said;
    for (const auto& t : routed->targets) {
      const auto kind = t.kind == Target::Kind::local  ? "local"
                        : t.kind == Target::Kind::path ? "path"
                                                       : "uri";
      said += (said.empty() ? "" : "; ") + std::string(kind) + " " + t.service +
              (t.uri.raw.empty() ? "" : " " + t.uri.raw) + (t.by_client ? " client" : "");
    }
    return said;
  }
  std::string ask(std::string_view service, std::string_view networkd = {}) const {
    auto asked = question();
    asked.service = service;
    asked.networkd = networkd;
    return go(asked);
  }
  std::string ask_uri(std::string_view uri) const {
    auto asked = question();
    asked.uri = uri;
    return go(asked);
  }
  std::string outside(std::string_view service, bool transit = false) const {
    auto asked = question();
    asked.service = service;
    asked.networkd = "pong tcp://evil:1";
    asked.from_outside = true;
    asked.transit = transit;
    return go(asked);
  }
};
}  // namespace

Test(route, a_local_service_is_found_by_its_name) {
  cr_assert_eq(Map{}.local("pong").ask("pong"), "local pong");
  cr_assert_eq(Map{}.ask("pong"), "UNKNOWN_SERVICE");
}

Test(route, redirects_come_before_everything) {
  Map map;
  map.local("authd")
      .redirect("authd", "next")
      .route("authd", {"tcp://r/authd"})
      .route("next", {"tcp://n/next"});
  cr_assert_eq(map.ask("authd", "authd tcp://evil/authd"), "uri next tcp://n/next");
}

Test(route, a_redirected_name_goes_on_without_the_directive) {
  Map map;
  map.redirect("a", "b").local("b");
  cr_assert_eq(map.ask("a", "a tcp://x/a; b tcp://evil/b"), "local b");
}

Test(route, the_directive_comes_before_routes_and_local_services) {
  Map map;
  map.local("pong").route("pong", {"tcp://r/pong"});
  cr_assert_eq(map.ask("pong", "pong tcp://d/pong"), "uri pong tcp://d/pong client");
  cr_assert_eq(map.ask("pong", "ping tcp://d/pong"), "uri pong tcp://r/pong");
}

Test(route, pinned_names_ignore_directives) {
  Map map;
  map.local("pong").pin("pong");
  cr_assert_eq(map.ask("pong", "pong tcp://d/pong"), "local pong");
  auto asked = map.question();
  asked.service = "pong";
  asked.networkd = "pong tls://a:topsecret@d/pong";
  const auto routed = plumberd::route(map.config, asked);
  cr_assert_eq(routed->steps.size(), 2);
  cr_assert(routed->steps[0].kind == "pinned" && routed->steps[0].to == "tls://a:***@d/pong");
}

Test(route, exact_routes_come_before_suffixes_and_the_longest_suffix_first) {
  Map map;
  map.route("db.a.shop", {"tcp://exact/x"})
      .route("*.a.shop", {"tcp://long/x"})
      .route("*.shop", {"tcp://short/x"});
  cr_assert_eq(map.ask("db.a.shop"), "uri x tcp://exact/x");
  cr_assert_eq(map.ask("web.a.shop"), "uri x tcp://long/x");
  cr_assert_eq(map.ask("a.shop"), "uri x tcp://short/x");
  cr_assert_eq(map.ask("shop"), "UNKNOWN_SERVICE");
}

Test(route, the_default_route_comes_last) {
  Map map;
  map.local("here").route("*", {"tcp://gate/{service}"});
  cr_assert_eq(map.ask("here"), "local here");
  cr_assert_eq(map.ask("x.y"), "uri x.y tcp://gate/x.y");
}

Test(route, the_name_opened_is_the_hops_and_of_raw_targets_the_one_asked) {
  Map map;
  map.redirect("old", "new").route("new", {"tcp://h:25"});
  cr_assert_eq(map.ask("pong", "pong tcp://h/authd"), "uri authd tcp://h/authd client");
  cr_assert_eq(map.ask("pong", "pong tcp://h:6379"), "uri pong tcp://h:6379 client");
  cr_assert_eq(map.ask("old"), "uri new tcp://h:25");
  cr_assert_eq(map.ask("pong", "pong new"), "uri new tcp://h:25");
}

Test(route, names_as_targets_go_round_again_without_the_directive) {
  Map map;
  map.local("pong").route("a", {"pong"});
  cr_assert_eq(map.ask("pong", "pong unix:///pong"), "local pong");
  cr_assert_eq(map.ask("pong", "pong pong"), "local pong");
  cr_assert_eq(map.ask("x", "x unix://pong"), "local pong");
  cr_assert_eq(map.ask("a"), "local pong");
}

Test(route, a_route_to_its_own_name_is_the_service_here) {
  Map map;
  map.local("pong").route("pong", {"unix:///pong", "tcp://h/pong"});
  cr_assert_eq(map.ask("pong"), "local pong; uri pong tcp://h/pong");
  cr_assert_eq(Map{}.route("pong", {"unix:///pong"}).ask("pong"), "UNKNOWN_SERVICE");
}

Test(route, lists_are_tried_in_order_and_dead_names_skipped) {
  Map map;
  map.route("db", {"tcp://a/db", "nowhere", "tcp://b/db", "here"}).local("here");
  cr_assert_eq(map.ask("db"), "uri db tcp://a/db; uri db tcp://b/db; local here");
  cr_assert_eq(Map{}.route("db", {"nowhere"}).ask("db"), "UNKNOWN_SERVICE");
}

Test(route, loops_end_after_eight_rounds) {
  Map map;
  map.redirect("a", "b").redirect("b", "a");
  cr_assert_eq(map.ask("a"), "LOOP");
  Map chain;
  for (int i = 0; i < 8; ++i) chain.redirect("n" + std::to_string(i), "n" + std::to_string(i + 1));
  chain.local("n8").local("n9");
  cr_assert_eq(chain.ask("n0"), "local n8");
  cr_assert_eq(chain.redirect("n8", "n9").ask("n0"), "LOOP");
}

Test(route, lists_that_branch_for_ever_are_bounded) {
  Map map;
  for (int i = 0; i < 8; ++i) {
    const auto next = "n" + std::to_string(i + 1);
    map.route("n" + std::to_string(i), {next, next, next, next, next, next});
  }
  map.local("n8");
  auto asked = map.question();
  asked.service = "n0";
  cr_assert(plumberd::route(map.config, asked)->targets.size() <= 128);
}

Test(route, uri_patterns_redirect_targets_whoever_named_them) {
  Map map;
  map.redirect("tls://old.example.com:*/*", "tls://new.example.com/{service}")
      .route("db", {"tls://old.example.com/db"});
  cr_assert_eq(map.ask("db"), "uri db tls://new.example.com/db");
  cr_assert_eq(map.ask("x", "x tls://OLD.example.com:77/y"), "uri y tls://new.example.com/y");
  cr_assert_eq(map.ask_uri("tls://me:secret@old.example.com/z"), "uri z tls://new.example.com/z");
  cr_assert_eq(map.ask_uri("tls://other.example.com/z"), "uri z tls://other.example.com/z client");
  map.redirect("tls://new.example.com/*", "tls://old.example.com/{service}");
  cr_assert_eq(map.ask("db"), "LOOP");
}

Test(route, uris_without_a_name_are_opened_as_star) {
  cr_assert_eq(Map{}.ask_uri("tcp://127.0.0.1:6379"), "uri * tcp://127.0.0.1:6379 client");
  cr_assert_eq(Map{}.local("pong").ask_uri("unix:///pong"), "local pong");
  cr_assert_eq(Map{}.ask_uri("unix:///run/x.sock"), "path * unix:///run/x.sock client");
  cr_assert_eq(Map{}.ask_uri("tcp://h"), "BAD_REQUEST");
}

Test(route, absolute_paths_are_the_clients_word_only_in_directives) {
  Map map;
  map.route("app", {"unix:///run/app/sock"});
  cr_assert_eq(map.ask("app"), "path app unix:///run/app/sock");
  cr_assert_eq(map.ask("x", "x unix:///run/app/sock"), "path x unix:///run/app/sock client");
}

Test(route, requests_from_outside_reach_redirects_and_local_services_only) {
  Map map;
  map.local("pong").redirect("alias", "pong").route("far", {"tcp://h/far"}).route("*", {"tcp://g/x"});
  map.redirect("away", "tcp://h/away")
      .redirect("app", "unix:///run/app/sock")
      .route("pong", {"tcp://h/pong"});
  cr_assert_eq(map.outside("pong"), "local pong");
  cr_assert_eq(map.outside("alias"), "local pong");
  cr_assert_eq(map.outside("far"), "UNKNOWN_SERVICE");
  cr_assert_eq(map.outside("away"), "UNKNOWN_SERVICE");
  cr_assert_eq(map.outside("app"), "path app unix:///run/app/sock");
}

Test(route, what_may_be_passed_on_keeps_its_name_here) {
  Map map;
  map.redirect("away", "tcp://h/x").redirect("alias", "away");
  cr_assert_eq(map.outside("away", true), "uri away tcp://h/x");
  cr_assert_eq(map.outside("alias", true), "uri away tcp://h/x");
}

Test(route, the_routers_own_figures_are_a_raw_listeners_to_ask_for_alone) {
  auto asked = Map{}.local("plumberd.metrics").question();
  asked.service = "plumberd.metrics";
  cr_assert_eq(Map{}.go(asked), "BAD_REQUEST");
  asked.from_outside = asked.by_listener = true;
  asked.is_local = [](std::string_view) { return true; };
  cr_assert_eq(Map{}.go(asked), "local plumberd.metrics");
}

Test(route, a_final_dot_makes_no_other_host) {
  const auto host = [](std::string_view uri) { return ipc::parse_uri(uri).value_or(ipc::Uri{}).host; };
  cr_assert_eq(host("tcp://Example.com.:80"), "example.com");
  cr_assert_eq(host("tcp://127.0.0.1.:80"), "127.0.0.1");
  cr_assert(ipc::parse_uri("tcp://localhost.:80")->is_localhost());
  for (const auto* uri :
       {"tcp://127.1.:80", "tcp://2130706433.:80", "tcp://.:80", "tcp://a..:80", "unix://pong."})
    cr_assert(!ipc::parse_uri(uri), "%s", uri);
  Map map;
  map.redirect("tcp://old.example.com/*", "new").local("new");
  cr_assert_eq(map.ask_uri("tcp://old.example.com./x"), "local new");
}

Test(route, bad_names_and_directives_are_refused) {
  cr_assert_eq(Map{}.ask("../etc"), "BAD_REQUEST");
  cr_assert_eq(Map{}.ask(""), "BAD_REQUEST");
  cr_assert_eq(Map{}.ask("network"), "BAD_REQUEST");
  cr_assert_eq(Map{}.local("pong").ask("pong", "pong"), "BAD_REQUEST");
  cr_assert_eq(Map{}.local("pong").ask("pong", "ping"), "local pong");
  cr_assert_eq(Map{}.local("pong").ask("pong", std::string_view("x y\0", 4)), "BAD_REQUEST");
  cr_assert_eq(Map{}.ask("pong", "pong ../x"), "BAD_REQUEST");
}

Test(route, steps_say_what_was_done_and_by_whose_word) {
  Map map;
  map.redirect("a", "b").route("b", {"tls://id:secret123@h/b"});
  auto asked = map.question();
  asked.service = "a";
  const auto routed = plumberd::route(map.config, asked);
  cr_assert_eq(routed->steps.size(), 2);
  cr_assert(routed->steps[0].kind == "redirect" && routed->steps[0].to == "b" &&
            routed->steps[0].at == "f:1");
  cr_assert(routed->steps[1].kind == "route" && routed->steps[1].to == "tls://id:***@h/b");
  cr_assert(routed->targets[0].route == &map.config.routes.at("b"));
}

Test(route, uri_patterns_match_within_components) {
  const auto covers = [](std::string_view pattern, std::string_view uri) {
    return uri_pattern_covers(pattern, *ipc::parse_uri(uri));
  };
  cr_assert(covers("tcp://*.example.com/*", "tcp://a.b.example.com/x"));
  cr_assert(covers("tcp://h/*", "tcp://h:9000/x"));
  cr_assert(!covers("tcp://h/*", "tcp://h:9001/x"));
  cr_assert(!covers("tcp://h:*/*", "tcp://h:25"));
  cr_assert(covers("tcp://h:*", "tcp://h:25"));
  cr_assert(covers("*://h:2*/db-*", "tls://h:25/db-1"));
  cr_assert(covers("tcp://[::1]:*", "tcp://[::1]:25"));
  cr_assert(covers("tls://[2001:db8::1]:*/*", "tls://[2001:0DB8:0::1]:25/x"));
  cr_assert(covers("tls://192.0.2.1/*", "tls://[::ffff:192.0.2.1]/x"));
  cr_assert(covers("tls://[::ffff:192.0.2.1]/*", "tls://192.0.2.1/x"));
  cr_assert(covers("unix:///run/*/sock", "unix:///run/app/sock"));
  cr_assert(!covers("unix:///run/*", "unix:///run/app/sock"));
  cr_assert(covers("tls://al*@h/*", "tls://alice@h/x"));
  cr_assert(!covers("tls://al*@h/*", "tls://bob@h/x"));
}
