#include "tlsd/names.hh"

#include <openssl/evp.h>

#include <algorithm>
#include <ctime>

#include "ipc/address.hh"
#include "ipc/name.hh"

namespace tlsd {
namespace {
constexpr std::size_t most_names = 64;
constexpr std::size_t longest_text = 256;

std::string text_of_asn1(const ASN1_STRING* string) {
  return {reinterpret_cast<const char*>(ASN1_STRING_get0_data(string)),
          static_cast<std::size_t>(ASN1_STRING_length(string))};
}

/// A host name and nothing else: what is judged must not hold blanks, NULs, '@' or '*'.
bool is_host_name(std::string_view name) {
  const auto fits = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '.' || c == '_';
  };
  return !name.empty() && name.size() <= 253 && name.front() != '.' && name.back() != '.' &&
         std::ranges::all_of(name, fits);
}

std::string lower(std::string text) {
  for (char& c : text)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return text;
}

std::string address_text(const ASN1_OCTET_STRING* bytes) {
  ipc::Address address;
  const auto size = static_cast<std::size_t>(ASN1_STRING_length(bytes));
  if (size != 4 && size != 16) return {};
  address.v6 = size == 16;
  std::copy_n(ASN1_STRING_get0_data(bytes), size, address.bytes.begin());
  return ipc::to_string(address);
}

using Names = std::unique_ptr<GENERAL_NAMES, Release<GENERAL_NAMES_free>>;

GENERAL_NAMES* alternative_names(const X509* certificate) {
  return static_cast<GENERAL_NAMES*>(X509_get_ext_d2i(certificate, NID_subject_alt_name, nullptr, nullptr));
}

/// A DNS name in lower case or an address; empty for what is neither.
std::string text_of_alternative(const GENERAL_NAME* name) {
  if (name->type == GEN_IPADD) return address_text(name->d.iPAddress);
  return name->type == GEN_DNS ? lower(text_of_asn1(name->d.dNSName)) : "";
}

void add(std::vector<std::string>& names, std::string name) {
  if (!name.empty() && names.size() < most_names && std::ranges::find(names, name) == names.end())
    names.push_back(std::move(name));
}

/// In any other type of string the bytes of a name could be those of a quite different one.
bool has_a_byte_for_each_letter(const ASN1_STRING* string) {
  const int type = ASN1_STRING_type(string);
  return type == V_ASN1_PRINTABLESTRING || type == V_ASN1_UTF8STRING || type == V_ASN1_IA5STRING;
}

std::string common_name(const X509* certificate) {
  const auto* subject = X509_get_subject_name(certificate);
  const int at = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
  if (at < 0) return {};
  const auto* text = X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at));
  if (!has_a_byte_for_each_letter(text)) return {};
  auto name = lower(text_of_asn1(text));
  return is_host_name(name) ? name : "";
}

std::string text_of_name(const X509_NAME* name) {
  const Bio bio{BIO_new(BIO_s_mem())};
  X509_NAME_print_ex(bio.get(), name, 0, XN_FLAG_RFC2253 & ~ASN1_STRFLGS_ESC_MSB);
  return ipc::printable(text_of(bio.get()), longest_text);
}
}  // namespace

std::vector<std::string> names_in(const X509* certificate) {
  std::vector<std::string> names;
  const Names all{alternative_names(certificate)};
  for (int i = 0; i < sk_GENERAL_NAME_num(all.get()); ++i) {
    const auto* one = sk_GENERAL_NAME_value(all.get(), i);
    auto name = text_of_alternative(one);
    if (one->type != GEN_DNS || is_host_name(name)) add(names, std::move(name));
  }
  if (!all) add(names, common_name(certificate));
  return names;
}

std::string shown_names_in(const X509* certificate) {
  std::string text;
  const Names all{alternative_names(certificate)};
  for (int i = 0; i < sk_GENERAL_NAME_num(all.get()); ++i) {
    const auto name = text_of_alternative(sk_GENERAL_NAME_value(all.get(), i));
    if (!name.empty()) text += (text.empty() ? "" : ", ") + name;
  }
  return text.empty() ? "no name in subjectAltName" : ipc::printable(text, 160);
}

std::string subject_of(const X509* certificate) { return text_of_name(X509_get_subject_name(certificate)); }
std::string issuer_of(const X509* certificate) { return text_of_name(X509_get_issuer_name(certificate)); }

std::string fingerprint_of(const X509* certificate) {
  Pin digest{};
  unsigned size = 0;
  X509_digest(certificate, EVP_sha256(), digest.data(), &size);
  std::string text;
  constexpr std::string_view digits = "0123456789abcdef";
  for (const auto byte : digest) {
    text += digits[byte >> 4];
    text += digits[byte & 15];
  }
  return text;
}

std::string date_of(const ASN1_TIME* time) {
  std::tm parts{};
  if (ASN1_TIME_to_tm(time, &parts) != 1) return "an unreadable date";
  std::array<char, 32> text;
  const auto size = std::strftime(text.data(), text.size(), "%Y-%m-%d %H:%M UTC", &parts);
  return {text.data(), size};
}

Pin public_key_pin(const X509* certificate) {
  Pin pin{};
  unsigned char* bytes = nullptr;
  const int size = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(certificate), &bytes);
  if (size > 0) EVP_Digest(bytes, static_cast<std::size_t>(size), pin.data(), nullptr, EVP_sha256(), nullptr);
  OPENSSL_free(bytes);
  return pin;
}
}  // namespace tlsd
