#include "artifact/manifest.h"

#define RAPIDJSON_HAS_STDSTRING 1
#include <rapidjson/document.h>
#include <rapidjson/stringbuffer.h>
#include <rapidjson/writer.h>

#include <algorithm>

#include "base/error.h"
#include "base/json.h"

namespace preheat::artifact {
namespace {

using base::ErrorKind;
using base::MakeError;
using Json = rapidjson::Value;
using JsonWriter = rapidjson::Writer<rapidjson::StringBuffer, rapidjson::UTF8<>, rapidjson::UTF8<>,
                                     rapidjson::CrtAllocator, rapidjson::kWriteValidateEncodingFlag>;

std::string_view EncodingName(Encoding encoding) {
  switch (encoding) {
    case Encoding::kRaw:
      return "raw";
    case Encoding::kZstd:
      return "zstd";
  }
  return "unknown";
}

// Writing. Members go in by sorted name: that, and no blanks, is what makes the text canonical.

void WriteText(JsonWriter& json, std::string_view text) {
  if (json.String(text.data(), static_cast<rapidjson::SizeType>(text.size()))) return;
  throw MakeError(ErrorKind::kInvalidArgument, "artifact: a text for the manifest is not UTF-8");
}

void WriteField(JsonWriter& json, const char* name, std::string_view text) {
  json.Key(name);
  WriteText(json, text);
}

void WriteField(JsonWriter& json, const char* name, uint64_t number) {
  json.Key(name);
  json.Uint64(number);
}

void WriteField(JsonWriter& json, const char* name, const std::vector<std::string>& texts) {
  json.Key(name);
  json.StartArray();
  for (const std::string& text : texts) WriteText(json, text);
  json.EndArray();
}

void WriteField(JsonWriter& json, const char* name, const std::map<std::string, std::string>& texts) {
  json.Key(name);
  json.StartObject();
  for (const auto& [key, value] : texts) {
    WriteText(json, key);
    WriteText(json, value);
  }
  json.EndObject();
}

void WriteEntry(JsonWriter& json, const ManifestEntry& entry) {
  json.StartObject();
  WriteField(json, "encoding", EncodingName(entry.encoding));
  WriteField(json, "kind", store::EntryKindName(entry.kind));
  WriteField(json, "name", entry.name);
  WriteField(json, "offset", entry.offset);
  json.Key("parts");
  json.StartArray();
  for (const store::KeyPart& part : entry.parts) {
    json.StartArray();
    WriteText(json, part.label);
    WriteText(json, part.value);
    json.EndArray();
  }
  json.EndArray();
  WriteField(json, "sha256", entry.sha256);
  WriteField(json, "size", entry.size);
  WriteField(json, "stored_size", entry.stored_size);
  WriteField(json, "target", entry.target);
  json.EndObject();
}

// Reading. Every access names its field: RapidJSON's own would abort on a wrong type.

base::Error WrongField(std::string_view name, std::string_view what) {
  return MakeError(ErrorKind::kCorrupt, "the manifest's field {} is {}", name, what);
}

const Json& Member(const Json& object, const char* name) {
  if (!object.IsObject()) throw WrongField(name, "not in an object");
  const auto found = object.FindMember(name);
  if (found == object.MemberEnd()) throw WrongField(name, "missing");
  return found->value;
}

const Json& Object(const Json& object, const char* name) {
  const Json& value = Member(object, name);
  if (!value.IsObject()) throw WrongField(name, "not an object");
  return value;
}

const Json& Array(const Json& object, const char* name) {
  const Json& value = Member(object, name);
  if (!value.IsArray()) throw WrongField(name, "not a list");
  return value;
}

std::string Text(const Json& value, const char* name) {
  if (!value.IsString()) throw WrongField(name, "not a text");
  return {value.GetString(), value.GetStringLength()};
}

std::string TextField(const Json& object, const char* name) {
  return Text(Member(object, name), name);
}

uint64_t NumberField(const Json& object, const char* name) {
  const Json& value = Member(object, name);
  if (!value.IsUint64()) throw WrongField(name, "not a whole number from 0 to 2^64-1");
  return value.GetUint64();
}

int64_t SignedField(const Json& value, const char* name) {
  if (!value.IsInt64() || value.GetInt64() < 0) throw WrongField(name, "not a whole number from 0 to 2^63-1");
  return value.GetInt64();
}

std::string HashField(const Json& object, const char* name) {
  std::string text = TextField(object, name);
  const bool hex = text.size() == 64 && std::ranges::all_of(text, [](char c) {
                     return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
                   });
  if (!hex) throw WrongField(name, "not 64 lower-case hex digits");
  return text;
}

std::vector<std::string> TextsField(const Json& object, const char* name) {
  std::vector<std::string> texts;
  for (const Json& value : Array(object, name).GetArray()) texts.push_back(Text(value, name));
  return texts;
}

std::map<std::string, std::string> MapField(const Json& object, const char* name) {
  std::map<std::string, std::string> texts;
  for (const auto& member : Object(object, name).GetObject()) {
    texts[Text(member.name, name)] = Text(member.value, name);
  }
  return texts;
}

ManifestEntry ReadEntry(const Json& json) {
  ManifestEntry entry;
  const std::string kind = TextField(json, "kind");
  const auto known = store::ParseEntryKind(kind);
  if (!known) throw WrongField("kind", "unknown: " + kind);
  entry.kind = *known;
  entry.name = HashField(json, "name");
  entry.target = TextField(json, "target");
  entry.offset = NumberField(json, "offset");
  entry.size = NumberField(json, "size");
  entry.stored_size = NumberField(json, "stored_size");
  const std::string encoding = TextField(json, "encoding");
  if (encoding != EncodingName(Encoding::kRaw) && encoding != EncodingName(Encoding::kZstd)) {
    throw WrongField("encoding", "unknown: " + encoding);
  }
  entry.encoding = encoding == EncodingName(Encoding::kRaw) ? Encoding::kRaw : Encoding::kZstd;
  entry.sha256 = HashField(json, "sha256");
  for (const Json& part : Array(json, "parts").GetArray()) {
    if (!part.IsArray() || part.Size() != 2) throw WrongField("parts", "not a list of pairs");
    entry.parts.push_back({Text(part[0], "parts"), Text(part[1], "parts")});
  }
  return entry;
}

}  // namespace

std::string ManifestEntry::Part(std::string_view label) const {
  for (const store::KeyPart& part : parts) {
    if (part.label == label) return part.value;
  }
  return "";
}

std::string ManifestToJson(const Manifest& manifest) {
  rapidjson::StringBuffer buffer;
  JsonWriter json(buffer);
  json.StartObject();

  json.Key("entries");
  json.StartArray();
  for (const ManifestEntry& entry : manifest.entries) WriteEntry(json, entry);
  json.EndArray();

  json.Key("for");
  json.StartObject();
  WriteField(json, "batch_size", static_cast<uint64_t>(manifest.purpose.batch_size));
  WriteField(json, "cache_implementation", manifest.purpose.cache_implementation);
  WriteField(json, "decode_length", static_cast<uint64_t>(manifest.purpose.decode_length));
  WriteField(json, "dtype", manifest.purpose.dtype);
  WriteField(json, "dynamic", manifest.purpose.dynamic);
  WriteField(json, "mode", manifest.purpose.mode);
  json.Key("prefill_lengths");
  json.StartArray();
  for (const int64_t length : manifest.purpose.prefill_lengths) json.Int64(length);
  json.EndArray();
  WriteField(json, "targets", manifest.purpose.targets);
  json.EndObject();

  json.Key("from");
  json.StartObject();
  WriteField(json, "config_hash", manifest.model.config_hash);
  WriteField(json, "id", manifest.model.id);
  json.EndObject();

  WriteField(json, "notes", manifest.notes);

  json.Key("with");
  json.StartObject();
  WriteField(json, "toolchains", manifest.makers.toolchains);
  WriteField(json, "versions", manifest.makers.versions);
  json.EndObject();

  json.EndObject();
  return {buffer.GetString(), buffer.GetSize()};
}

Manifest ManifestFromJson(std::string_view text) {
  rapidjson::Document json;
  if (const auto fault = base::ParseJson(text, json)) {
    throw MakeError(ErrorKind::kCorrupt, "the manifest is not JSON: {} (at byte {})", fault->what, fault->at);
  }
  Manifest manifest;
  const Json& from = Object(json, "from");
  manifest.model.id = TextField(from, "id");
  manifest.model.config_hash = TextField(from, "config_hash");

  const Json& purpose = Object(json, "for");
  manifest.purpose.targets = TextsField(purpose, "targets");
  for (const Json& length : Array(purpose, "prefill_lengths").GetArray()) {
    manifest.purpose.prefill_lengths.push_back(SignedField(length, "prefill_lengths"));
  }
  manifest.purpose.decode_length = SignedField(Member(purpose, "decode_length"), "decode_length");
  manifest.purpose.batch_size = SignedField(Member(purpose, "batch_size"), "batch_size");
  manifest.purpose.dtype = TextField(purpose, "dtype");
  manifest.purpose.mode = TextField(purpose, "mode");
  manifest.purpose.dynamic = TextField(purpose, "dynamic");
  manifest.purpose.cache_implementation = TextField(purpose, "cache_implementation");

  const Json& with = Object(json, "with");
  manifest.makers.versions = MapField(with, "versions");
  manifest.makers.toolchains = TextsField(with, "toolchains");
  manifest.notes = MapField(json, "notes");
  for (const Json& entry : Array(json, "entries").GetArray()) manifest.entries.push_back(ReadEntry(entry));
  return manifest;
}

}  // namespace preheat::artifact
