// Keys of compiled things. A key is a list of labelled parts, e.g. target = "x86-64-v4"; its name is the
// SHA-256 of their canonical text. Parts stay readable: a key prints them, and two keys can say where they
// differ. A part is never a path, a user, a time, a host or a device ordinal: equal work on another machine
// must have the same key.
//
// Canonical text: for each part in the order added one line "LABEL SIZE:VALUE\n", SIZE being the number of
// bytes of VALUE, so that no value can pretend to be another part.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace preheat::store {

struct KeyPart {
  std::string label;
  std::string value;
  bool operator==(const KeyPart&) const = default;
};

class Key {
 public:
  // 64 lower-case hex digits.
  const std::string& name() const { return name_; }
  const std::vector<KeyPart>& parts() const { return parts_; }

 private:
  friend class KeyBuilder;
  std::string name_;
  std::vector<KeyPart> parts_;
};

class KeyBuilder {
 public:
  // Labels are of [a-z0-9_.-], each used once (CHECKed: they are ours). Values may be any bytes.
  KeyBuilder& Add(std::string_view label, std::string_view value);
  KeyBuilder& Add(std::string_view label, int64_t value);
  // For long values, e.g. source text: the part's value is "sha256:" and the hash of `content`.
  KeyBuilder& AddHashOf(std::string_view label, std::string_view content);

  Key Build() const;

 private:
  std::vector<KeyPart> parts_;
};

// The canonical text above, and back. ParsePartsText throws kCorrupt on text that is not canonical.
std::string PartsText(const std::vector<KeyPart>& parts);
std::vector<KeyPart> ParsePartsText(std::string_view text);

// SHA-256 of the canonical text: the name that a key of these parts has.
std::string KeyName(const std::vector<KeyPart>& parts);

// "target = x86-64-v4\ndtype = bf16\n...": for people; values that are not printable text are escaped.
std::string DescribeParts(const std::vector<KeyPart>& parts);

// One part that differs; a side that lacks the label has an empty value there and its flag unset.
struct PartDifference {
  std::string label;
  std::string ours;
  std::string theirs;
  bool in_ours = false;
  bool in_theirs = false;
};

// In the order of `ours`, then what only `theirs` has. Empty: the same key.
std::vector<PartDifference> DifferingParts(const std::vector<KeyPart>& ours,
                                           const std::vector<KeyPart>& theirs);

// "dtype: bf16 here, fp32 there; mode: not here, default there"
std::string DescribeDifferences(const std::vector<PartDifference>& differences);

}  // namespace preheat::store
