#include "ipc/frame.hh"

namespace ipc {
namespace {
// A buffer that once held a large message is given back rather than kept by an idle connection.
constexpr std::size_t kept_capacity = 4096;

void put_length(char* out, std::uint32_t length) {
  for (int i = 0; i < 4; ++i) out[i] = static_cast<char>(length >> (24 - 8 * i));
}

std::uint32_t length_at(const char* in) {
  std::uint32_t length = 0;
  for (int i = 0; i < 4; ++i) length = length << 8 | static_cast<unsigned char>(in[i]);
  return length;
}

std::string joined(std::string_view header, std::string_view payload) {
  std::string whole;
  whole.reserve(header.size() + payload.size());
  whole += header;
  whole += payload;
  return whole;
}
}  // namespace

std::string_view to_string(Framing framing) {
  switch (framing) {
    case Framing::ipc07:
      return "ipc07";
    case Framing::ipc1:
      return "ipc1";
    default:
      return "bytes";
  }
}

std::optional<Framing> framing_from(std::string_view text) {
  for (const auto framing : {Framing::bytes, Framing::ipc07, Framing::ipc1})
    if (text == to_string(framing)) return framing;
  return std::nullopt;
}

std::array<char, 6> header_07(std::uint8_t type, std::uint8_t user_type, std::uint32_t length) {
  std::array<char, 6> header{};
  header[0] = static_cast<char>(type);
  put_length(&header[1], length);
  header[5] = static_cast<char>(user_type);
  return header;
}

std::array<char, 4> header_1(std::uint32_t length) {
  std::array<char, 4> header{};
  put_length(header.data(), length);
  return header;
}

std::string frame_07(std::uint8_t type, std::uint8_t user_type, std::string_view payload) {
  const auto header = header_07(type, user_type, static_cast<std::uint32_t>(payload.size()));
  return joined({header.data(), header.size()}, payload);
}

std::string frame_07(FrameType type, std::uint8_t user_type, std::string_view payload) {
  return frame_07(static_cast<std::uint8_t>(type), user_type, payload);
}

std::string frame_1(std::string_view payload) {
  const auto header = header_1(static_cast<std::uint32_t>(payload.size()));
  return joined({header.data(), header.size()}, payload);
}

std::optional<FrameHeader> decode_header(Framing framing, std::string_view bytes) {
  if (bytes.size() < header_size(framing)) return std::nullopt;
  if (framing == Framing::ipc1) return FrameHeader{.length = length_at(bytes.data())};
  return FrameHeader{.type = static_cast<std::uint8_t>(bytes[0]),
                     .user_type = static_cast<std::uint8_t>(bytes[5]),
                     .length = length_at(bytes.data() + 1)};
}

void FrameReader::feed(std::string_view bytes) {
  discard_used();
  bytes_ += bytes;
}

void FrameReader::discard_used() {
  if (begin_ == 0) return;
  bytes_.erase(0, begin_);
  begin_ = 0;
  if (bytes_.empty() && bytes_.capacity() > kept_capacity) bytes_ = std::string{};
}

Result<std::optional<Frame>> FrameReader::next() {
  const auto rest = unread();
  const auto header = decode_header(framing_, rest);
  if (!header) {
    if (rest.empty()) discard_used();
    return std::nullopt;
  }
  if (header->length > largest_)
    return fail(Word::bad_request, "a message announces " + std::to_string(header->length) +
                                       " bytes; at most " + std::to_string(largest_) + " are accepted");
  const std::size_t size = header_size(framing_) + header->length;
  if (rest.size() < size) return std::nullopt;
  begin_ += size;
  const auto whole = rest.substr(0, size);
  return Frame{header->type, header->user_type, whole.substr(header_size(framing_)), whole};
}

std::size_t FrameReader::missing() const {
  const auto rest = unread();
  const auto header = decode_header(framing_, rest);
  if (!header) return header_size(framing_) - rest.size();
  if (header->length > largest_) return 0;
  const std::size_t size = header_size(framing_) + header->length;
  return rest.size() < size ? size - rest.size() : 0;
}
}  // namespace ipc
