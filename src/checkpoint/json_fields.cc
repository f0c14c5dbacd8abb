#include "checkpoint/json_fields.h"

#include <cmath>
#include <utility>

#include "base/error.h"
#include "base/json.h"

namespace preheat::checkpoint {

using base::ErrorKind;
using base::MakeError;

rapidjson::Document ParseJsonObject(std::string_view text, std::string_view file) {
  rapidjson::Document document;
  if (const auto fault = base::ParseJson(text, document, {.allow_nan_and_infinity = true})) {
    throw MakeError(ErrorKind::kCorrupt, "{}: not valid JSON: {} (at byte {}); get the file anew", file,
                    fault->what, fault->at);
  }
  if (!document.IsObject()) {
    throw MakeError(ErrorKind::kCorrupt, "{}: {} where a JSON object belongs; get the file anew", file,
                    DescribeJson(document));
  }
  return document;
}

std::string DescribeJson(const rapidjson::Value& value) {
  constexpr size_t kLongestText = 80;
  if (value.IsNull()) return "null";
  if (value.IsBool()) return value.GetBool() ? "true" : "false";
  if (value.IsInt64()) return fmt::format("{}", value.GetInt64());
  if (value.IsUint64()) return fmt::format("{}", value.GetUint64());
  if (value.IsNumber()) return fmt::format("{}", value.GetDouble());
  if (value.IsString()) {
    const std::string_view text(value.GetString(), value.GetStringLength());
    return fmt::format("\"{}{}\"", text.substr(0, kLongestText), text.size() > kLongestText ? "…" : "");
  }
  return value.IsArray() ? fmt::format("a list of {}", value.Size()) : "an object";
}

JsonFields::JsonFields(const rapidjson::Value& object, std::string file, std::string prefix)
    : object_(&object), file_(std::move(file)), prefix_(std::move(prefix)) {}

const rapidjson::Value* JsonFields::Find(const char* name) const {
  const auto member = object_->FindMember(name);
  return member == object_->MemberEnd() || member->value.IsNull() ? nullptr : &member->value;
}

std::optional<int64_t> JsonFields::Integer(const char* name) const {
  const rapidjson::Value* value = Find(name);
  if (value == nullptr) return std::nullopt;
  if (value->IsInt64()) return value->GetInt64();
  FailField(name, "a whole number belongs there");
}

int64_t JsonFields::RequiredInteger(const char* name, int64_t least, int64_t most) const {
  const std::optional<int64_t> value = Integer(name);
  if (!value) FailMissing(name);
  if (*value < least || *value > most) FailField(name, fmt::format("must be from {} to {}", least, most));
  return *value;
}

int64_t JsonFields::IntegerOr(const char* name, int64_t otherwise, int64_t least, int64_t most) const {
  return Has(name) ? RequiredInteger(name, least, most) : otherwise;
}

std::optional<double> JsonFields::Number(const char* name) const {
  const rapidjson::Value* value = Find(name);
  if (value == nullptr) return std::nullopt;
  if (value->IsNumber() && std::isfinite(value->GetDouble())) return value->GetDouble();
  FailField(name, "a finite number belongs there");
}

double JsonFields::RequiredNumber(const char* name) const {
  const std::optional<double> value = Number(name);
  if (!value) FailMissing(name);
  return *value;
}

std::optional<bool> JsonFields::Boolean(const char* name) const {
  const rapidjson::Value* value = Find(name);
  if (value == nullptr) return std::nullopt;
  if (value->IsBool()) return value->GetBool();
  FailField(name, "true or false belongs there");
}

std::optional<std::string> JsonFields::Text(const char* name) const {
  const rapidjson::Value* value = Find(name);
  if (value == nullptr) return std::nullopt;
  if (value->IsString()) return std::string(value->GetString(), value->GetStringLength());
  FailField(name, "a text belongs there");
}

std::optional<JsonFields> JsonFields::Object(const char* name) const {
  const rapidjson::Value* value = Find(name);
  if (value == nullptr) return std::nullopt;
  if (value->IsObject()) return JsonFields(*value, file_, fmt::format("{}{}.", prefix_, name));
  FailField(name, "an object belongs there");
}

std::vector<int64_t> JsonFields::Integers(const char* name) const {
  const rapidjson::Value* value = Find(name);
  if (value == nullptr) return {};
  if (value->IsInt64()) return {value->GetInt64()};
  if (!value->IsArray()) FailField(name, "a whole number or a list of them belongs there");
  std::vector<int64_t> result;
  for (const rapidjson::Value& item : value->GetArray()) {
    if (!item.IsInt64()) {
      FailField(name, fmt::format("with {} in it; only whole numbers belong there", DescribeJson(item)));
    }
    result.push_back(item.GetInt64());
  }
  return result;
}

void JsonFields::FailMissing(const char* name) const {
  throw MakeError(ErrorKind::kCorrupt, "{}: field \"{}{}\" is missing; a Llama configuration needs it", file_,
                  prefix_, name);
}

void JsonFields::FailField(const char* name, std::string_view expected) const {
  const rapidjson::Value* value = Find(name);
  throw MakeError(ErrorKind::kCorrupt, "{}: field \"{}{}\" is {}; {}", file_, prefix_, name,
                  value == nullptr ? std::string("missing") : DescribeJson(*value), expected);
}

void JsonFields::FailUnsupported(const char* name, std::string_view supported) const {
  const rapidjson::Value* value = Find(name);
  throw MakeError(ErrorKind::kUnsupported, "{}: field \"{}{}\" is {}: not supported; {}", file_, prefix_,
                  name, value == nullptr ? std::string("missing") : DescribeJson(*value), supported);
}

}  // namespace preheat::checkpoint
