#include "tokenizer/token_table.h"

#include <bit>
#include <cstring>

#include "base/error.h"

namespace preheat::tokenizer {

using base::ErrorKind;
using base::MakeError;

static_assert(std::endian::native == std::endian::little, "images are little-endian and used in place");

namespace {

constexpr char kMagic[8] = {'P', 'H', 'T', 'O', 'K', 'E', 'N', 'S'};
constexpr uint32_t kVersion = 1;
constexpr uint64_t kIdMask = TokenTable::kMostIds - 1;
constexpr uint64_t kLaneFactor = 0x9E3779B97F4A7C15u;  // odd, so that multiplying loses nothing

uint64_t Mix(uint64_t hash, uint64_t word) {
  hash = (hash ^ word) * 0x9E3779B97F4A7C15u;
  return hash ^ (hash >> 32);
}

uint64_t Load(const char* at, size_t bytes) {
  uint64_t word = 0;
  std::memcpy(&word, at, bytes);
  return word;
}

// Bytes that occur in no valid UTF-8 text need no token.
bool OccursInUtf8(int byte) {
  return byte != 0xC0 && byte != 0xC1 && byte < 0xF5;
}

}  // namespace

uint64_t HashBytes(std::string_view bytes) {
  uint64_t hash = bytes.size() * 0xC2B2AE3D27D4EB4Fu;
  const char* at = bytes.data();
  size_t left = bytes.size();
  for (; left >= 8; left -= 8, at += 8) hash = Mix(hash, Load(at, 8));
  if (left >= 4) {
    hash = Mix(hash, Load(at, 4) | Load(at + left - 4, 4) << 32);
  } else if (left > 0) {
    hash = Mix(hash, Load(at, 1) | Load(at + left / 2, 1) << 8 | Load(at + left - 1, 1) << 16);
  }
  return (hash ^ (hash >> 29)) * 0xBF58476D1CE4E5B9u;
}

uint64_t TokenTable::Checksum(std::string_view image) {
  constexpr size_t kStart = offsetof(Header, checksum) + sizeof(Header::checksum);
  uint64_t lanes[4] = {1, 2, 3, 4};
  const char* at = image.data() + kStart;
  const char* end = image.data() + image.size();
  for (; end - at >= 32; at += 32) {
    for (int lane = 0; lane < 4; ++lane) lanes[lane] = (lanes[lane] ^ Load(at + 8 * lane, 8)) * kLaneFactor;
  }
  for (; end - at >= 8; at += 8) lanes[0] = (lanes[0] ^ Load(at, 8)) * kLaneFactor;
  if (at < end) lanes[0] = (lanes[0] ^ Load(at, static_cast<size_t>(end - at))) * kLaneFactor;
  // Multiplying carries upwards only: bring the high bits, which every change reaches, into the whole sum.
  uint64_t sum = image.size();
  for (const uint64_t lane : lanes) sum = (sum ^ std::rotl(lane, 31)) * kLaneFactor;
  return sum;
}

uint64_t TokenTable::LayOut(const std::byte* image, const Header& h) {
  uint64_t at = sizeof(Header);
  const auto section = [&](auto** member, uint64_t count) {
    // Integers, because `image` is null where only the size is wanted.
    *member =
        reinterpret_cast<std::remove_reference_t<decltype(*member)>>(reinterpret_cast<uintptr_t>(image) + at);
    at = (at + count * sizeof(**member) + 7) / 8 * 8;  // counts are 32 bits: no overflow
  };
  image_ = image;
  section(&merge_keys_, h.merge_slots);
  section(&vocabulary_slots_, h.vocabulary_slots);
  section(&merge_ranks_, h.merge_slots);
  section(&byte_ids_, 256);
  section(&token_offsets_, uint64_t{h.id_limit} + 1);
  section(&added_, h.added_count);
  section(&patterns_, h.pattern_count);
  section(&token_flags_, h.id_limit);
  section(&text_, h.text_bytes);
  section(&arena_, h.arena_bytes);
  return at;
}

TokenTable TokenTable::FromImage(std::string_view image, std::string_view source_name) {
  constexpr std::string_view kAdvice = "build the artifact again";
  const auto corrupt = [&](std::string_view what) {
    return MakeError(ErrorKind::kCorrupt, "{}: tokenizer tables: {}; {}", source_name, what, kAdvice);
  };
  if (image.size() < sizeof(Header)) throw corrupt(fmt::format("cut off after {} bytes", image.size()));
  Header header;
  std::memcpy(&header, image.data(), sizeof(header));
  if (std::memcmp(header.magic, kMagic, sizeof(kMagic)) != 0)
    throw corrupt("they do not begin with PHTOKENS");
  if (header.version > kVersion) {
    throw MakeError(ErrorKind::kIncompatible,
                    "{}: tokenizer tables of version {}, this preheat reads up to {}; {}", source_name,
                    header.version, kVersion, kAdvice);
  }
  if (header.version != kVersion || header.header_bytes != sizeof(Header))
    throw corrupt("a header of another size");
  if (header.image_bytes != image.size()) {
    throw corrupt(fmt::format("{} bytes, where {} belong", image.size(), header.image_bytes));
  }
  if (header.checksum != Checksum(image)) throw corrupt("the checksum differs");

  TokenTable table;
  const auto* bytes = reinterpret_cast<const std::byte*>(image.data());
  if (reinterpret_cast<uintptr_t>(bytes) % alignof(Header) != 0) {
    table.storage_.resize((image.size() + 7) / 8);
    std::memcpy(table.storage_.data(), image.data(), image.size());
    bytes = reinterpret_cast<const std::byte*>(table.storage_.data());
  }
  if (table.LayOut(bytes, header) != image.size()) throw corrupt("sections that do not fill the image");
  if (const std::string fault = table.FindFault(); !fault.empty()) throw corrupt(fault);
  return table;
}

std::string TokenTable::FindFault() const {
  const Header& h = header();
  if (h.id_limit == 0 || h.id_limit > kMostIds || h.ignore_merges > 1) return "absurd counts";
  if (h.bos_id != kNoToken && h.bos_id >= h.id_limit) return "a BOS that is no token";

  // Branch-free, for speed: a field above the limit makes the difference negative.
  const uint64_t last_id = h.id_limit - 1;
  uint64_t beyond = 0;
  uint64_t count = 0;
  for (uint32_t i = 0; i < h.merge_slots; ++i) {
    const uint64_t key = merge_keys_[i];
    count += key >> 63;
    beyond |= (last_id - ((key >> 42) & kIdMask)) | (last_id - ((key >> 21) & kIdMask)) |
              (last_id - (key & kIdMask));
  }
  if (beyond >> 63 != 0) return "a merge of ids that are no tokens";
  // One free slot ends every search.
  if (count != h.merge_count || count >= h.merge_slots) return "a wrong number of merges";

  count = 0;
  for (uint32_t i = 0; i < h.vocabulary_slots; ++i) {
    const uint64_t low = vocabulary_slots_[i] & 0xFFFFFFFFu;
    count += low != 0;
    beyond |= last_id + 1 - low;
  }
  if (beyond >> 63 != 0) return "a vocabulary id that is no token";
  if (count != h.vocabulary_count || count >= h.vocabulary_slots)
    return "a wrong number of vocabulary entries";

  for (int byte = 0; byte < 256; ++byte) {
    const bool none = byte_ids_[byte] == kNoToken && !OccursInUtf8(byte);
    if (!none && byte_ids_[byte] >= h.id_limit) return "a byte without a token";
  }
  uint32_t descending = token_offsets_[0];
  uint8_t flags = 0;
  for (uint32_t id = 0; id < h.id_limit; ++id) {
    descending |= token_offsets_[id + 1] < token_offsets_[id];
    flags |= token_flags_[id];
  }
  if (descending != 0 || token_offsets_[h.id_limit] > h.arena_bytes) return "token bytes outside the image";
  if (flags > (kPresent | kSpecial)) return "unknown token flags";

  const auto text_fits = [&](uint32_t offset, uint32_t bytes) {
    return uint64_t{offset} + bytes <= h.text_bytes;
  };
  if (h.added_first_count > h.added_count) return "absurd counts";
  for (uint32_t i = 0; i < h.added_count; ++i) {
    const AddedRecord& record = added_[i];
    if (record.id >= h.id_limit || record.special > 1) return "an added token that is no token";
    if (record.text_bytes == 0 || !text_fits(record.text_offset, record.text_bytes)) {
      return "an added token outside the image";
    }
    const bool first_of_part = i == 0 || i == h.added_first_count;
    if (!first_of_part && AddedContent(added_[i - 1]) >= AddedContent(record))
      return "added tokens out of order";
  }
  for (uint32_t i = 0; i < h.pattern_count; ++i) {
    if (!text_fits(patterns_[i].text_offset, patterns_[i].text_bytes)) return "a pattern outside the image";
  }
  return {};
}

std::string TokenTable::ToImage() const {
  std::string image(reinterpret_cast<const char*>(image_), header().image_bytes);
  const uint64_t checksum = Checksum(image);
  std::memcpy(image.data() + offsetof(Header, checksum), &checksum, sizeof(checksum));
  return image;
}

std::optional<uint32_t> TokenTable::bos_id() const {
  return header().bos_id == kNoToken ? std::nullopt : std::optional(header().bos_id);
}

uint32_t TokenTable::FindToken(std::string_view bytes) const {
  return FindToken(bytes, HashBytes(bytes));
}

uint32_t TokenTable::FindToken(std::string_view bytes, uint64_t hash) const {
  const uint32_t slots = header().vocabulary_slots;
  for (uint32_t slot = FirstSlot(hash, slots);; slot = slot + 1 == slots ? 0 : slot + 1) {
    const uint64_t entry = vocabulary_slots_[slot];
    const auto low = static_cast<uint32_t>(entry);
    if (low == 0) return kNoToken;
    if (entry >> 32 == (hash & 0xFFFFFFFFu) && TokenBytes(low - 1) == bytes) return low - 1;
  }
}

std::optional<TokenTable::Merge> TokenTable::FindMerge(uint32_t left, uint32_t right) const {
  const uint64_t pair = MergePair(left, right);
  const uint32_t slots = header().merge_slots;
  for (uint32_t slot = FirstSlot(HashPair(pair), slots);; slot = slot + 1 == slots ? 0 : slot + 1) {
    const uint64_t key = merge_keys_[slot];
    if (key >> 63 == 0) return std::nullopt;
    if ((key & ~kIdMask) == pair) return Merge{merge_ranks_[slot], static_cast<uint32_t>(key & kIdMask)};
  }
}

std::span<const TokenTable::AddedRecord> TokenTable::added(bool normalized) const {
  const std::span<const AddedRecord> all(added_, header().added_count);
  return normalized ? all.subspan(header().added_first_count) : all.first(header().added_first_count);
}

std::vector<std::string_view> TokenTable::patterns() const {
  std::vector<std::string_view> patterns;
  for (uint32_t i = 0; i < header().pattern_count; ++i) {
    patterns.emplace_back(text_ + patterns_[i].text_offset, patterns_[i].text_bytes);
  }
  return patterns;
}

}  // namespace preheat::tokenizer
