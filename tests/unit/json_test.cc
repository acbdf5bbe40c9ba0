// JSON texts as they come over the wires: what is taken, what is refused and with which words.
#include "ipc/json.hh"

#include <criterion/criterion.h>

namespace {
ipc::JsonDocument parsed(std::string_view text) {
  auto document = ipc::JsonDocument::parse(text);
  cr_assert(document.has_value(), "%s", document ? "" : document.error().text.c_str());
  return std::move(*document);
}

void expect_refused(std::string_view text, std::string_view why) {
  const auto document = ipc::JsonDocument::parse(text);
  cr_assert(!document, "taken: %.*s", static_cast<int>(text.size()), text.data());
  cr_assert(document.error().word == ipc::Word::bad_request);
  cr_assert(document.error().text.find(why) != std::string::npos, "%s", document.error().text.c_str());
}

std::string nested(std::size_t levels) { return std::string(levels, '[') + std::string(levels, ']'); }
}  // namespace

Test(json, values_of_every_kind_are_read) {
  const auto document = parsed(R"( {"s": "text", "n": -12, "r": 2.5e3, "t": true, "f": false,
                                    "z": null, "a": [1, "two", [], {}], "o": {"k": "v", "n": 1}} )");
  const auto root = document.root();
  cr_assert(root["s"].string() == "text");
  cr_assert(root["n"].integer() == -12);
  cr_assert(root["r"].real() == 2500.0);
  cr_assert(!root["r"].integer());
  cr_assert(root["t"].boolean() == true);
  cr_assert(root["f"].boolean() == false);
  cr_assert(root["z"].is_null());
  cr_assert_eq(root["a"].size(), 4);
  cr_assert(root["a"].strings() == std::vector<std::string>{"two"});
  cr_assert(root["o"].labels() == (ipc::Labels{{"k", "v"}}));
  cr_assert(root["o"].keys() == (std::vector<std::string>{"k", "n"}));
  cr_assert(!root["missing"].exists());
  cr_assert(!root["s"]["deeper"].exists());
}

Test(json, what_stands_behind_a_container_is_found_too) {
  const auto document = parsed(R"({"a":[[1,[2]],{"b":{"c":[]}}],"last":7})");
  cr_assert(document.root()["last"].integer() == 7);
  std::size_t seen = 0;
  for (const auto element : document.root()["a"]) seen += element.is_array() ? 1U : 10U;
  cr_assert_eq(seen, 11);
}

Test(json, text_is_given_back_as_it_came_but_for_blanks) {
  const std::string text =
      R"({"id":12345678901234567890123,"e":1.50e+10,"s":"\"\\ü\u0001","a":[{},[],null,true]})";
  cr_assert_eq(parsed(text).root().text(), text);
  cr_assert_eq(parsed(" [ 1 , \"a\" ] ").root().text(), "[1,\"a\"]");
}

Test(json, escapes_become_the_bytes_that_they_stand_for) {
  const auto document = parsed(R"(["\"\\\/\b\f\n\r\t", "\u0041\u00e9\u20AC\ud83d\ude00", "x\u0041y"])");
  const auto strings = document.root().strings();
  cr_assert(strings ==
            (std::vector<std::string>{"\"\\/\b\f\n\r\t", "A\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80", "xAy"}));
}

Test(json, what_is_no_json_is_refused_with_its_place) {
  expect_refused("", "byte 0: the text ends too early");
  expect_refused("  ", "ends too early");
  expect_refused("{\"a\":1", "lacks ',' or '}'");
  expect_refused("[1,]", "byte 3: the text has no value here");
  expect_refused("{a:1}", "lacks a key");
  expect_refused("{\"a\" 1}", "lacks ':'");
  expect_refused("{\"a\":1,}", "lacks a key");
  expect_refused("tru", "none of true, false, null");
  expect_refused("1 2", "goes on behind its end");
  expect_refused("\"open", "ends within a string");
  expect_refused("\"a\nb\"", "control byte");
}

Test(json, numbers_have_the_form_of_rfc_8259) {
  for (const auto* text : {"0", "-0", "10", "1.5", "-1.5E-3", "1e5", "9223372036854775807"}) parsed(text);
  for (const auto* text : {"01", "+1", ".5", "-", "0x10", "1_0"})
    cr_assert(!ipc::JsonDocument::parse(text), "%s", text);
  expect_refused("1.", "ends with its point");
  expect_refused("1e", "without its exponent");
  expect_refused("1e999", "out of range");
  cr_assert(!parsed("9223372036854775808").root().integer());
}

Test(json, a_string_holds_valid_unicode_only) {
  expect_refused(R"("\u0000")", "NUL");
  expect_refused(std::string_view{"\"\0\"", 3}, "NUL");
  expect_refused(R"("\ud800")", "surrogate");
  expect_refused(R"("\ud800\u0041")", "surrogate");
  expect_refused(R"("\udc00")", "surrogate");
  expect_refused(R"("\u12")", "four hexadecimal digits");
  expect_refused(R"("\u12G4")", "four hexadecimal digits");
  expect_refused(R"("\q")", "none of JSON's");
  for (const auto* bytes :
       {"\x80", "\xc0\xaf", "\xe0\x80\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xff", "\xe2\x82"})
    expect_refused(std::string("\"") + bytes + "\"", "UTF-8");
}

Test(json, depth_members_and_repeated_keys_are_bounded) {
  parsed(nested(17));
  expect_refused(nested(18), "deeper than 16");
  expect_refused(nested(100'000), "deeper than 16");
  expect_refused(R"({"a":1,"b":[{"a":2}],"a":3})", "same key twice");
  expect_refused(R"({"a":1,"\u0061":2})", "same key twice");
  std::string many = "{";
  for (int i = 0; i < 257; ++i) many += (i ? ",\"" : "\"") + std::to_string(i) + "\":0";
  expect_refused(many + "}", "more than 256 members");
}

Test(json, the_writer_escapes_what_json_cannot_hold) {
  std::string text;
  ipc::JsonWriter{text}.object().add("a", "q\"\\\n\x01").add("b", "caf\xc3\xa9").add("c", "\xff").end();
  cr_assert_eq(text, "{\"a\":\"q\\\"\\\\\\u000a\\u0001\",\"b\":\"caf\xc3\xa9\",\"c\":\"\\\\xff\"}");
}

Test(json, a_long_text_is_as_exact_as_a_short_one) {
  std::string text, expected = "[\"a\"";
  ipc::JsonWriter json{text};
  json.array().string("a");
  for (int i = 0; i < 1000; ++i) {
    json.string("12345");
    expected += ",\"12345\"";
  }
  json.end();
  cr_assert_eq(text, expected + "]");
}
