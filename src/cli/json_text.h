// A small front to RapidJSON's writer for the documents that commands print.
#pragma once

#define RAPIDJSON_HAS_STDSTRING 1
#include <rapidjson/prettywriter.h>
#include <rapidjson/stringbuffer.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace preheat::cli {

class JsonText {
 public:
  JsonText() { writer_.SetIndent(' ', 2); }

  JsonText& Begin() { return writer_.StartObject(), *this; }
  JsonText& End() { return writer_.EndObject(), *this; }
  JsonText& BeginList() { return writer_.StartArray(), *this; }
  JsonText& EndList() { return writer_.EndArray(), *this; }
  JsonText& Key(std::string_view name) {
    return writer_.Key(name.data(), static_cast<rapidjson::SizeType>(name.size())), *this;
  }
  JsonText& Value(std::string_view text) {
    return writer_.String(text.data(), static_cast<rapidjson::SizeType>(text.size())), *this;
  }
  JsonText& Value(const char* text) { return Value(std::string_view(text)); }
  JsonText& Value(int64_t number) { return writer_.Int64(number), *this; }
  JsonText& Value(double number) { return writer_.Double(number), *this; }
  JsonText& Value(bool truth) { return writer_.Bool(truth), *this; }
  template <typename T>
  JsonText& Value(const std::vector<T>& values) {
    BeginList();
    for (const T& value : values) Value(value);
    return EndList();
  }
  template <typename T>
  JsonText& Field(std::string_view name, const T& value) {
    return Key(name).Value(value);
  }
  std::string Text() const { return std::string(buffer_.GetString()) + "\n"; }

 private:
  rapidjson::StringBuffer buffer_;
  rapidjson::PrettyWriter<rapidjson::StringBuffer> writer_{buffer_};
};

}  // namespace preheat::cli
