// The rule language: what parses to what, and what is refused where and with which remedy.
#include "tests/unit/policy_kit.hh"

using namespace plumberd;
using namespace plumberd::testing;

namespace {
void expect_error(std::string_view rule, std::size_t column, std::string_view part) {
  const auto error = error_of(rule);
  cr_expect(error.starts_with(std::to_string(column) + ": "), "%s: %s", std::string(rule).c_str(),
            error.c_str());
  cr_expect(error.find(part) != error.npos, "%s: %s", std::string(rule).c_str(), error.c_str());
}
}  // namespace

Test(rules, the_four_columns_are_read) {
  const auto rule = parsed("allow  in\tauthd   tls:example.com");
  cr_assert(rule.action == Action::allow && rule.direction == Direction::in);
  cr_assert(rule.service == "authd" && rule.peer.size() == 1);
  cr_assert(rule.peer[0].scheme == "tls" && rule.peer[0].host == Selector::Host::name);
  cr_assert(rule.peer[0].value == "example.com" && rule.peer[0].port == 0);
  cr_assert(rule.text == "allow in authd tls:example.com");
}

Test(rules, a_star_as_peer_has_no_selectors) {
  cr_assert(parsed("deny in * *").peer.empty());
  cr_assert(parsed("audit serve *.shop *").service == "*.shop");
}

Test(rules, hosts_are_names_suffixes_networks_or_any) {
  cr_assert(parsed("allow out * tcp").peer[0].host == Selector::Host::any);
  cr_assert(parsed("allow out * tcp:*:80").peer[0].port == 80);
  const auto suffix = parsed("allow out * tls:*.Example.COM:443").peer[0];
  cr_assert(suffix.host == Selector::Host::suffix && suffix.value == ".example.com" && suffix.port == 443);
  const auto v4 = parsed("allow in * tcp:10.0.0.0/8").peer[0];
  cr_assert(v4.host == Selector::Host::network && v4.prefix_bits == 8 && !v4.network.v6);
  const auto v6 = parsed("deny out * udp:[2001:db8::/32]:53").peer[0];
  cr_assert(v6.prefix_bits == 32 && v6.network.v6 && v6.port == 53);
  cr_assert(parsed("deny out * udp:[::1]").peer[0].prefix_bits == 128);
}

Test(rules, values_are_percent_decoded) {
  cr_assert(parsed("allow out * exe:/opt/my%20app%2cv2").peer[0].value == "/opt/my app,v2");
  cr_assert(parsed("allow local * unix:/run/100%25").peer[0].value == "/run/100%");
  expect_error("allow out * user:a%2", 18, "two hex digits");
  expect_error("allow out * user:a%00b", 18, "two hex digits");
}

Test(rules, numbers_are_ids_without_the_user_database) {
  cr_assert(parsed("allow out * user:1000").peer[0].id == 1000U);
  cr_assert(!parsed("allow out * group:wheel").peer[0].id.has_value());
  expect_error("allow out * user:4294967295", 18, "4294967294");
}

Test(rules, all_selectors_of_a_list_are_kept) {
  const auto rule =
      parsed("allow out pong tls:h:9000,user:alice,exe:/usr/bin/x,unit:a.service,user-unit:b,as:k");
  cr_assert_eq(rule.peer.size(), 6);
  cr_assert(rule.peer[4].kind == Selector::Kind::user_unit && rule.peer[4].value == "b.service");
  cr_assert(rule.peer[5].kind == Selector::Kind::as_identity && rule.peer[5].value == "k");
}

Test(rules, unix_paths_may_cover_a_subtree) {
  const auto tree = parsed("allow local * unix:/run/app/*").peer[0];
  cr_assert(tree.subtree && tree.value == "/run/app");
  cr_assert(parsed("allow local * unix:/*").peer[0].value.empty());
  expect_error("allow local * unix:run/app", 20, "absolute path");
  expect_error("allow local * unix:/run/../app", 20, "absolute path");
  expect_error("allow local * unix", 15, "unix:/PATH");
}

Test(rules, selectors_belong_to_directions) {
  expect_error("allow in * user:alice", 12, "means nothing in \"in\" rules");
  expect_error("allow in * as:k", 12, "belongs to out");
  expect_error("allow out * cert:a.example", 13, "belongs to in");
  expect_error("allow out * psk:a", 13, "belongs to in");
  expect_error("allow out * unix:/run/x", 13, "belongs to local");
  expect_error("allow serve * unix:/run/x", 15, "belongs to local");
  expect_error("allow local * tcp:h", 15, "belongs to in and out");
  expect_error("allow serve * tcp", 15, "belongs to in and out");
}

Test(rules, names_of_peers_come_from_certificates_only) {
  expect_error("allow in * tcp:example.com", 16, "only tls authenticates one");
  expect_error("allow in * udp:*.example.com", 16, "only tls");
  cr_assert(parsed("allow in * tls:*.example.com").peer[0].value == ".example.com");
  cr_assert(parsed("allow in * cert:Example.com").peer[0].value == "example.com");
  expect_error("allow in * cert:*.example.com", 17, "write tls:*.example.com");
}

Test(rules, mistyped_words_get_a_suggestion) {
  expect_error("alow in * *", 1, "did you mean \"allow\"?");
  expect_error("allow inn * *", 7, "did you mean \"in\"?");
  expect_error("allow sideways * *", 7, "known are out, in, local, serve");
  expect_error("allow out * tsl:h", 13, "did you mean \"tls\"?");
  expect_error("allow out * usr:alice", 13, "did you mean \"user\"?");
  expect_error("allow out * example.com", 13, "write SCHEME:HOST, as in tcp:example.com");
  expect_error("allow out * gopher:h", 13, "is no scheme");
}

Test(rules, the_number_of_words_must_be_four) {
  expect_error("", 1, "0 are here");
  expect_error("allow in authd", 15, "3 are here");
  expect_error("allow in a b c d", 14, "quote the *");
  expect_error("allow in pong README.md", 15, "is no scheme");
}

Test(rules, services_are_checked_as_everywhere) {
  expect_error("allow in plumberd *", 10, "is reserved");
  expect_error("allow in a..b *", 10, "empty label");
  expect_error("allow in *.a.* *", 10, "write \"*\", a name or \"*.name\"");
  expect_error("allow in x*y *", 10, "quote the *");
}

Test(rules, malformed_endpoints_are_refused) {
  expect_error("allow out * tcp:", 17, "host is missing");
  expect_error("allow out * tcp:h:", 19, "is no port");
  expect_error("allow out * tcp:h:0", 19, "is no port");
  expect_error("allow out * tcp:h:65536", 19, "is no port");
  expect_error("allow out * tcp:127.1", 17, "plain dotted quad");
  expect_error("allow out * tcp:0x7f.1", 17, "plain dotted quad");
  expect_error("allow out * tcp:2130706433", 17, "plain dotted quad");
  expect_error("allow out * tcp:10.0.0.0/33", 17, "prefix length of 0 to 32; correct");
  expect_error("allow out * tcp://h:80", 17, "a peer is no URI; write tcp:h:80");
  expect_error("allow out * tls://me:secret@[::1]:80/web", 17, "write tls:[::1]:80");
  expect_error("allow out * tcp://", 17, "write tcp");
  expect_error("allow out * tcp:::1", 17, "brackets");
  expect_error("allow out * tcp:[::1", 17, "brackets");
  expect_error("allow out * tcp:[10.0.0.1]", 17, "brackets are for IPv6");
  expect_error("allow out * tcp:a_b!c", 17, "is no host");
  expect_error("allow out * tcp,", 17, "selector is missing");
  expect_error("allow out * tcp,*", 17, "stands alone");
}

Test(rules, addresses_that_embed_ipv4_are_written_as_that) {
  expect_error("deny out * tcp:[::ffff:127.0.0.1]", 16, "write 127.0.0.1");
  expect_error("deny out * tcp:[64:ff9b::/96]", 16, "judged as the IPv4 address");
  expect_error("deny out * tcp:[2002:7f00:1::]", 16, "write 127.0.0.1");
  cr_assert(parsed("deny out * tcp:[::/0]").peer[0].prefix_bits == 0);
}

Test(rules, foreign_bytes_are_never_repeated_raw) {
  cr_assert(error_of("allow out * \x1b[31m").find('\x1b') == std::string::npos);
  cr_assert(error_of("allow \xff\xfe * *").find('\xff') == std::string::npos);
  cr_assert(error_of(std::string(9000, 'x')).find("8192 bytes") != std::string::npos);
}
