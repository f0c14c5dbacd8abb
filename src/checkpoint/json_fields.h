// Checked access to the fields of a JSON object. Every error names the file and the field, and says what was
// found: a field that is missing, of another type or out of range is kCorrupt. null counts as absent, as
// Python's configs mean it.
#pragma once

#include <rapidjson/document.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace preheat::checkpoint {

// Parses text whose top level must be an object; kCorrupt with the byte offset otherwise. Numbers may be
// Python's NaN and Infinity; nesting costs no stack.
rapidjson::Document ParseJsonObject(std::string_view text, std::string_view file);

// What stands there, short enough for a message: `"gelu"`, `-3`, `an object`.
std::string DescribeJson(const rapidjson::Value& value);

class JsonFields {
 public:
  // `object` must be an object and outlive this; `prefix` ("rope_scaling.") stands before field names in
  // messages.
  JsonFields(const rapidjson::Value& object, std::string file, std::string prefix = "");

  // null where absent.
  const rapidjson::Value* Find(const char* name) const;
  bool Has(const char* name) const { return Find(name) != nullptr; }

  std::optional<int64_t> Integer(const char* name) const;
  // A whole number from `least` to `most`, else kCorrupt.
  int64_t RequiredInteger(const char* name, int64_t least, int64_t most) const;
  int64_t IntegerOr(const char* name, int64_t otherwise, int64_t least, int64_t most) const;
  std::optional<double> Number(const char* name) const;  // finite
  double RequiredNumber(const char* name) const;
  std::optional<bool> Boolean(const char* name) const;
  std::optional<std::string> Text(const char* name) const;
  std::optional<JsonFields> Object(const char* name) const;
  // An integer or a list of integers.
  std::vector<int64_t> Integers(const char* name) const;

  [[noreturn]] void FailMissing(const char* name) const;
  // "FILE: field "NAME" is FOUND; EXPECTED".
  [[noreturn]] void FailField(const char* name, std::string_view expected) const;
  [[noreturn]] void FailUnsupported(const char* name, std::string_view supported) const;
  const std::string& file() const { return file_; }

 private:
  const rapidjson::Value* object_;
  std::string file_;
  std::string prefix_;
};

}  // namespace preheat::checkpoint
