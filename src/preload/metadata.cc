#include "preload/metadata.h"

#include <fmt/ranges.h>

#include <algorithm>

#define RAPIDJSON_HAS_STDSTRING 1
#include <rapidjson/document.h>
#include <rapidjson/prettywriter.h>
#include <rapidjson/stringbuffer.h>

#include "base/error.h"
#include "base/json.h"
#include "sys/files.h"

namespace preheat::preload {
namespace {

using base::ErrorKind;
using base::MakeError;
using Json = rapidjson::Value;
using JsonWriter = rapidjson::PrettyWriter<rapidjson::StringBuffer>;

void WriteStrings(JsonWriter& out, const std::vector<std::string>& values) {
  out.StartArray();
  for (const std::string& value : values) out.String(value);
  out.EndArray();
}

void WriteLengths(JsonWriter& out, const std::vector<int64_t>& values) {
  out.StartArray();
  for (int64_t value : values) out.Int64(value);
  out.EndArray();
}

void WriteDynamic(JsonWriter& out, const std::string& dynamic) {
  if (dynamic == "auto") {
    out.Null();
  } else {
    out.Bool(dynamic == "true");
  }
}

// Keys in alphabetical order, as Python's json.dump(sort_keys=True) writes them.
void WriteCompile(JsonWriter& out, const Metadata& m) {
  out.StartObject();
  out.Key("cache_implementation");
  out.String(m.cache_implementation);
  out.Key("dtype");
  out.String(m.dtype);
  out.Key("dynamic");
  WriteDynamic(out, m.dynamic);
  out.Key("fullgraph");
  out.Bool(m.fullgraph);
  out.Key("mode");
  out.String(m.mode);
  out.EndObject();
}

void WriteGpu(JsonWriter& out, const std::optional<Gpu>& gpu) {
  if (!gpu) {
    out.Null();
    return;
  }
  out.StartObject();
  out.Key("capability");
  out.String(gpu->capability);
  out.Key("cuda_runtime_version");
  out.String(gpu->cuda_runtime_version);
  out.Key("name");
  out.String(gpu->name);
  out.Key("total_memory_bytes");
  out.Int64(gpu->total_memory_bytes);
  out.EndObject();
}

void WriteFingerprint(JsonWriter& out, const Metadata& m) {
  out.StartObject();
  out.Key("device_name");
  if (m.device_name.empty()) {
    out.Null();
  } else {
    out.String(m.device_name);
  }
  out.Key("device_type");
  out.String(m.device_type);
  out.Key("gpu");
  WriteGpu(out, m.gpu);
  out.Key("python_version");
  out.Null();
  out.Key("targets");
  WriteStrings(out, m.targets);
  out.Key("timestamp_utc");
  out.String(m.timestamp_utc);
  out.Key("torch_version");
  out.Null();
  out.Key("versions");
  out.StartObject();
  for (const auto& [name, version] : m.versions) {
    out.Key(name);
    out.String(version);
  }
  out.EndObject();
  out.EndObject();
}

void WriteWarmup(JsonWriter& out, const Metadata& m) {
  out.StartObject();
  out.Key("batch_size");
  out.Int64(m.batch_size);
  out.Key("decode_length");
  out.Int64(m.decode_length);
  out.Key("prefill_lengths");
  WriteLengths(out, m.prefill_lengths);
  out.Key("timings");
  out.StartArray();
  for (const WarmupTiming& timing : m.timings) {
    out.StartObject();
    out.Key("prefill_length");
    out.Int64(timing.prefill_length);
    out.Key("seconds");
    out.Double(timing.seconds);
    out.Key("stage");
    out.String(timing.stage);
    out.EndObject();
  }
  out.EndArray();
  out.EndObject();
}

// Reads members of one object; every complaint names the path to the member.
class Fields {
 public:
  Fields(const Json& json, std::string path) : json_(json), path_(std::move(path)) {
    if (!json_.IsObject()) Fail("is no object");
  }

  std::string Text(const char* name) const {
    const Json& value = Member(name);
    if (!value.IsString()) Fail(name, "is no string");
    return {value.GetString(), value.GetStringLength()};
  }
  int64_t Int(const char* name) const {
    const Json& value = Member(name);
    if (!value.IsInt64() || value.GetInt64() < 0) Fail(name, "is no number of things");
    return value.GetInt64();
  }
  double Seconds(const char* name) const {
    const Json& value = Member(name);
    if (!value.IsNumber()) Fail(name, "is no number");
    return value.GetDouble();
  }
  bool Bool(const char* name) const {
    const Json& value = Member(name);
    if (!value.IsBool()) Fail(name, "is neither true nor false");
    return value.GetBool();
  }
  Fields Object(const char* name) const { return Fields(Member(name), path_ + "." + name); }
  // Calls `visit` with each element of an array.
  template <typename Visit>
  void Each(const char* name, Visit visit) const {
    const Json& value = Member(name);
    if (!value.IsArray()) Fail(name, "is no list");
    for (const Json& item : value.GetArray()) visit(item);
  }
  const Json& Member(const char* name) const {
    const auto member = json_.FindMember(name);
    if (member == json_.MemberEnd()) Fail(name, "is missing");
    return member->value;
  }
  const Json& json() const { return json_; }
  [[noreturn]] void Fail(const char* name, const char* what) const {
    throw MakeError(ErrorKind::kCorrupt, "{}.{} {}; build the artifact and its metadata anew", path_, name,
                    what);
  }

 private:
  [[noreturn]] void Fail(const char* what) const {
    throw MakeError(ErrorKind::kCorrupt, "{} {}; build the artifact and its metadata anew", path_, what);
  }
  const Json& json_;
  std::string path_;
};

std::string ReadDynamic(const Fields& compile) {
  const Json& value = compile.Member("dynamic");
  if (value.IsNull()) return "auto";
  return compile.Bool("dynamic") ? "true" : "false";
}

std::optional<Gpu> ReadGpu(const Fields& fingerprint) {
  if (fingerprint.Member("gpu").IsNull()) return std::nullopt;
  const Fields gpu = fingerprint.Object("gpu");
  return Gpu{.name = gpu.Text("name"),
             .capability = gpu.Text("capability"),
             .total_memory_bytes = gpu.Int("total_memory_bytes"),
             .cuda_runtime_version = gpu.Text("cuda_runtime_version")};
}

std::string Describe(const Gpu& gpu) {
  return fmt::format("{} (capability {}, {:.1f} GB)", gpu.name, gpu.capability,
                     static_cast<double>(gpu.total_memory_bytes) / 1e9);
}

std::vector<int64_t> ReadLengths(const Fields& warmup) {
  std::vector<int64_t> lengths;
  warmup.Each("prefill_lengths", [&](const Json& item) {
    if (!item.IsInt64() || item.GetInt64() <= 0)
      warmup.Fail("prefill_lengths", "holds something that is no length");
    lengths.push_back(item.GetInt64());
  });
  return lengths;
}

}  // namespace

std::string ToJson(const Metadata& m) {
  rapidjson::StringBuffer buffer;
  JsonWriter out(buffer);
  out.SetIndent(' ', 2);
  out.StartObject();
  out.Key("cache_bytes");
  out.Int64(m.cache_bytes);
  out.Key("cache_info");
  out.StartObject();
  for (const auto& [kind, count] : m.entries) {
    out.Key(kind);
    out.Int64(count);
  }
  out.EndObject();
  out.Key("compile");
  WriteCompile(out, m);
  out.Key("model_id");
  out.String(m.model_id);
  out.Key("runtime_fingerprint");
  WriteFingerprint(out, m);
  out.Key("warmup");
  WriteWarmup(out, m);
  out.EndObject();
  return std::string(buffer.GetString()) + "\n";
}

Metadata ParseMetadata(std::string_view json, std::string_view source) {
  rapidjson::Document document;
  // A folder's name may be any bytes, and stands in the file as it is.
  if (const auto fault = base::ParseJson(json, document, {.check_utf8 = false})) {
    throw MakeError(ErrorKind::kCorrupt,
                    "{}: not JSON (at byte {}); build the artifact and its metadata anew", source, fault->at);
  }
  const Fields root(document, std::string(source));
  const Fields compile = root.Object("compile");
  const Fields warmup = root.Object("warmup");
  const Fields fingerprint = root.Object("runtime_fingerprint");
  Metadata m;
  m.model_id = root.Text("model_id");
  m.cache_bytes = root.Int("cache_bytes");
  m.mode = compile.Text("mode");
  m.fullgraph = compile.Bool("fullgraph");
  m.dynamic = ReadDynamic(compile);
  m.dtype = compile.Text("dtype");
  m.cache_implementation = compile.Text("cache_implementation");
  m.prefill_lengths = ReadLengths(warmup);
  m.decode_length = warmup.Int("decode_length");
  m.batch_size = warmup.Int("batch_size");
  warmup.Each("timings", [&](const Json& item) {
    const Fields timing(item, std::string(source) + ".warmup.timings[]");
    m.timings.push_back({timing.Text("stage"), timing.Int("prefill_length"), timing.Seconds("seconds")});
  });
  m.timestamp_utc = fingerprint.Text("timestamp_utc");
  m.device_type = fingerprint.Text("device_type");
  if (!fingerprint.Member("device_name").IsNull()) m.device_name = fingerprint.Text("device_name");
  m.gpu = ReadGpu(fingerprint);
  fingerprint.Each("targets", [&](const Json& item) {
    if (!item.IsString()) fingerprint.Fail("targets", "holds something that is no string");
    m.targets.emplace_back(item.GetString(), item.GetStringLength());
  });
  for (const auto& member : fingerprint.Object("versions").json().GetObject()) {
    if (!member.value.IsString()) fingerprint.Fail("versions", "holds something that is no string");
    m.versions[member.name.GetString()] = member.value.GetString();
  }
  const Fields entries = root.Object("cache_info");
  for (const auto& member : entries.json().GetObject()) {
    m.entries[member.name.GetString()] = entries.Int(member.name.GetString());
  }
  return m;
}

std::optional<Metadata> ReadMetadata(const std::string& path) {
  if (!sys::Exists(path)) return std::nullopt;
  return ParseMetadata(sys::ReadFile(path), path);
}

bool HaveOneInCommon(const std::vector<std::string>& some, const std::vector<std::string>& others) {
  return std::ranges::any_of(
      some, [&](const std::string& one) { return std::ranges::find(others, one) != others.end(); });
}

std::vector<std::string> Mismatches(const Metadata& built, const Metadata& run) {
  std::vector<std::string> lines;
  const auto compare = [&](std::string_view factor, std::string_view was, std::string_view is) {
    if (was != is) lines.push_back(fmt::format("{}: built {}, this run {}", factor, was, is));
  };
  // The same model may lie in another folder there: only its own name counts.
  if (sys::FileName(built.model_id) != sys::FileName(run.model_id)) {
    compare("model_id", built.model_id, run.model_id);
  }
  compare("device_type", built.device_type, run.device_type);
  // Any card of a target runs what was built without one.
  if (built.gpu && run.gpu) compare("gpu", Describe(*built.gpu), Describe(*run.gpu));
  if (!run.targets.empty() && !HaveOneInCommon(built.targets, run.targets)) {
    compare("targets", fmt::format("{}", fmt::join(built.targets, ",")),
            fmt::format("{}", fmt::join(run.targets, ",")));
  }
  compare("dtype", built.dtype, run.dtype);
  compare("compile mode", built.mode, run.mode);
  compare("dynamic", built.dynamic, run.dynamic);
  compare("fullgraph", built.fullgraph ? "true" : "false", run.fullgraph ? "true" : "false");
  compare("cache_implementation", built.cache_implementation, run.cache_implementation);
  for (const auto& [name, version] : run.versions) {
    const auto found = built.versions.find(name);
    if (found != built.versions.end()) compare(name + " version", found->second, version);
  }
  return lines;
}

}  // namespace preheat::preload
