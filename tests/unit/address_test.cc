#include "ipc/address.hh"

#include <criterion/criterion.h>

using namespace ipc;

Test(address, what_is_parsed_is_written_again) {
  for (const char* text :
       {"0.0.0.0", "127.0.0.1", "10.20.30.40", "255.255.255.255", "::", "::1", "2001:db8::7", "fe80::1"}) {
    const auto address = parse_address(text);
    cr_assert(address.has_value(), "%s", text);
    cr_assert(to_string(*address) == text, "%s", text);
  }
}

Test(address, a_socket_address_and_back) {
  for (const char* text : {"192.0.2.9", "2001:db8::9"}) {
    sockaddr_storage storage;
    to_sockaddr(*parse_address(text), 9000, storage);
    const auto back = from_sockaddr(reinterpret_cast<const sockaddr*>(&storage));
    cr_assert(back && to_string(back->first) == text && back->second == 9000);
  }
}

Test(address, nothing_but_plain_literals_is_an_address) {
  for (const char* text : {"", "127.1", "0x7f.0.0.1", "127.0.0.01", "1.2.3.4.5", "256.1.1.1", "[::1]",
                           "fe80::1%lo", "localhost", " 1.2.3.4"})
    cr_assert_not(parse_address(text).has_value(), "%s", text);
}
