// RapidJSON as this room uses it: with SSE2 scanning, under a namespace of its own, so that other rooms'
// RapidJSON without it is another set of symbols (one definition rule). Included by .cc files only.
#pragma once

#if defined(__SSE2__)
#define RAPIDJSON_SSE2
#endif
#define RAPIDJSON_NAMESPACE preheat::tokenizer::json
#define RAPIDJSON_NAMESPACE_BEGIN \
  namespace preheat::tokenizer {  \
  namespace json {
#define RAPIDJSON_NAMESPACE_END \
  }                             \
  }
#include <rapidjson/document.h>
#include <rapidjson/error/en.h>
#include <rapidjson/reader.h>

#include <string>

#include "base/error.h"
#include "tokenizer/definition.h"

namespace preheat::tokenizer {

// Checked reading of the small parts: a value and the path by which messages name it.
class Field {
 public:
  Field(const json::Value* value, std::string source, std::string path)
      : value_(value), source_(std::move(source)), path_(std::move(path)) {}

  const std::string& path() const { return path_; }
  // Absent and null are the same, as in Hugging Face's files.
  bool IsNull() const { return value_ == nullptr || value_->IsNull(); }
  bool IsObject() const { return value_ != nullptr && value_->IsObject(); }
  bool IsString() const { return value_ != nullptr && value_->IsString(); }

  // The member `name` of this object; null when it has none. A name that stands twice is Corrupt.
  Field Member(const char* name) const;
  // The elements of this array.
  std::vector<Field> Elements() const;
  std::string String() const;
  uint32_t Id() const;
  bool Bool() const;
  bool BoolOr(bool otherwise) const { return IsNull() ? otherwise : Bool(); }

  // "SOURCE: PATH: MESSAGE"
  base::Error Corrupt(std::string_view message) const;
  base::Error Unsupported(std::string_view message) const;

 private:
  [[noreturn]] void ThrowType(std::string_view wanted) const;

  const json::Value* value_;
  std::string source_;
  std::string path_;
};

// Everything but model.vocab and model.merges, which the SAX handler has taken.
void ReadFields(const Field& root, Definition* definition);

}  // namespace preheat::tokenizer
