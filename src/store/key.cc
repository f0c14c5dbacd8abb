#include "store/key.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "base/check.h"
#include "base/error.h"
#include "base/hash.h"

namespace preheat::store {
namespace {

using base::ErrorKind;
using base::MakeError;

bool IsLabel(std::string_view text) {
  return !text.empty() && std::ranges::all_of(text, [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '.' || c == '-';
  });
}

const KeyPart* FindPart(const std::vector<KeyPart>& parts, std::string_view label) {
  const auto found = std::ranges::find(parts, label, &KeyPart::label);
  return found == parts.end() ? nullptr : &*found;
}

// Control characters would let a value write over a terminal or fake a line.
std::string Printable(std::string_view value) {
  std::string text;
  for (char c : value) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte == 0x7f) {
      text += fmt::format("\\x{:02x}", byte);
    } else {
      text += c;
    }
  }
  return text;
}

}  // namespace

KeyBuilder& KeyBuilder::Add(std::string_view label, std::string_view value) {
  CHECK(IsLabel(label));
  CHECK(FindPart(parts_, label) == nullptr);
  parts_.push_back({std::string(label), std::string(value)});
  return *this;
}

KeyBuilder& KeyBuilder::Add(std::string_view label, int64_t value) {
  return Add(label, std::string_view(fmt::format_int(value).c_str()));
}

KeyBuilder& KeyBuilder::AddHashOf(std::string_view label, std::string_view content) {
  return Add(label, std::string_view("sha256:" + base::Sha256Hex(content)));
}

Key KeyBuilder::Build() const {
  Key key;
  key.parts_ = parts_;
  key.name_ = KeyName(parts_);
  return key;
}

std::string PartsText(const std::vector<KeyPart>& parts) {
  std::string text;
  for (const KeyPart& part : parts)
    text += fmt::format("{} {}:{}\n", part.label, part.value.size(), part.value);
  return text;
}

std::vector<KeyPart> ParsePartsText(std::string_view text) {
  const auto corrupt = [](std::string_view why) {
    return MakeError(ErrorKind::kCorrupt, "key text: {}", why);
  };
  std::vector<KeyPart> parts;
  while (!text.empty()) {
    const size_t blank = text.find(' ');
    if (blank == std::string_view::npos) throw corrupt("a line without a label");
    const std::string_view label = text.substr(0, blank);
    if (!IsLabel(label)) throw corrupt("a label with a character that no label has");
    if (FindPart(parts, label) != nullptr) throw corrupt("a label that occurs twice");
    text.remove_prefix(blank + 1);
    size_t size = 0;
    const auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), size);
    const auto digits = static_cast<size_t>(end - text.data());
    if (failed != std::errc() || (digits > 1 && text[0] == '0')) throw corrupt("a part without a size");
    text.remove_prefix(digits);
    if (!text.starts_with(':') || size >= text.size() - 1 || text[size + 1] != '\n') {
      throw corrupt("a part whose size is wrong");
    }
    parts.push_back({std::string(label), std::string(text.substr(1, size))});
    text.remove_prefix(size + 2);
  }
  return parts;
}

std::string KeyName(const std::vector<KeyPart>& parts) {
  return base::Sha256Hex(std::string_view(PartsText(parts)));
}

std::string DescribeParts(const std::vector<KeyPart>& parts) {
  std::string text;
  for (const KeyPart& part : parts) text += fmt::format("{} = {}\n", part.label, Printable(part.value));
  return text;
}

std::vector<PartDifference> DifferingParts(const std::vector<KeyPart>& ours,
                                           const std::vector<KeyPart>& theirs) {
  std::vector<PartDifference> differences;
  for (const KeyPart& part : ours) {
    const KeyPart* other = FindPart(theirs, part.label);
    if (other == nullptr) {
      differences.push_back({part.label, part.value, "", true, false});
    } else if (other->value != part.value) {
      differences.push_back({part.label, part.value, other->value, true, true});
    }
  }
  for (const KeyPart& part : theirs) {
    if (FindPart(ours, part.label) == nullptr) {
      differences.push_back({part.label, "", part.value, false, true});
    }
  }
  return differences;
}

std::string DescribeDifferences(const std::vector<PartDifference>& differences) {
  std::string text;
  for (const PartDifference& difference : differences) {
    if (!text.empty()) text += "; ";
    text += difference.label + ": ";
    text += difference.in_ours ? Printable(difference.ours) + " here, " : "not here, ";
    text += difference.in_theirs ? Printable(difference.theirs) + " there" : "not there";
  }
  return text;
}

}  // namespace preheat::store
