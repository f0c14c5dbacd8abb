// Programs as canonical JSON: members in a fixed order, no blanks, integers only (besides the rotary table).
#include <rapidjson/stringbuffer.h>
#include <rapidjson/writer.h>

#include <cmath>

#include "base/check.h"
#include "program/json_words.h"
#include "program/program.h"

namespace preheat::program {
namespace {

using JsonWriter = rapidjson::Writer<rapidjson::StringBuffer>;

void Put(JsonWriter& out, std::string_view text) {
  out.String(text.data(), static_cast<rapidjson::SizeType>(text.size()));
}

template <size_t kSize, typename Enum>
std::string_view NameOf(const std::array<std::string_view, kSize>& names, Enum value) {
  const auto index = static_cast<size_t>(value);
  CHECK(index < kSize);
  return names[index];
}

void Write(JsonWriter& out, const Extent& extent) {
  out.StartArray();
  for (int64_t value : {extent.fixed, extent.per_row, extent.per_position}) out.Int64(value);
  out.EndArray();
}

void Write(JsonWriter& out, const TensorMap& map) {
  out.StartArray();
  out.Int(map.operand), Put(out, tensor::ShortName(map.element)), out.Int(map.swizzle_bytes);
  out.StartArray();
  for (const TensorMap::Dim& dim : map.dims) {
    out.StartArray();
    out.Int64(dim.extent), out.Int64(dim.stride_bytes), out.Int(dim.box);
    out.EndArray();
  }
  out.EndArray();
  out.EndArray();
}

void Write(JsonWriter& out, const Launch& launch) {
  out.StartObject();
  out.Key("region"), Put(out, launch.region);
  out.Key("code"), Put(out, launch.code);
  out.Key("entry"), Put(out, launch.entry);
  out.Key("stage_entry"), Put(out, launch.stage_entry);
  out.Key("tiles"), out.StartArray();
  out.Int64(launch.tiles.count), Put(out, NameOf(kPerNames, launch.tiles.per)), out.Int64(launch.tiles.block);
  out.EndArray();
  out.Key("chunk"), out.Int64(launch.chunk);
  out.Key("scratch_bytes"), out.Int64(launch.scratch_bytes);
  out.Key("blocks"), out.StartArray();
  out.Int(launch.blocks.threads), out.Int(launch.blocks.blocks_per_sm), out.Int64(launch.blocks.shared_bytes);
  out.Int(launch.blocks.cluster);
  out.EndArray();
  out.Key("link"), out.Int(launch.link);
  out.Key("operands"), out.StartArray();
  for (const Operand& operand : launch.operands) {
    out.StartArray();
    Put(out, NameOf(kKindNames, operand.kind)), out.Int(operand.index);
    Put(out, NameOf(kAccessNames, operand.access));
    out.EndArray();
  }
  out.EndArray();
  out.Key("tensor_maps"), out.StartArray();
  for (const TensorMap& map : launch.tensor_maps) Write(out, map);
  out.EndArray();
  out.Key("constants"), out.StartArray();
  for (int64_t constant : launch.constants) out.Int64(constant);
  out.EndArray();
  out.EndObject();
}

}  // namespace

std::string ToJson(const Program& program) {
  rapidjson::StringBuffer buffer;
  JsonWriter out(buffer);
  const auto put_float = [&](float value) {
    CHECK(std::isfinite(value));
    out.Double(static_cast<double>(value));
  };
  out.StartObject();
  out.Key("format_version"), out.Int(kFormatVersion);
  out.Key("name"), Put(out, program.name);
  out.Key("target"), Put(out, program.target);
  out.Key("kind"), Put(out, NameOf(kStepKindNames, program.kind));
  out.Key("max_rows"), out.Int64(program.max_rows);
  out.Key("logit_rows"), Put(out, NameOf(kLogitRowsNames, program.logit_rows));
  out.Key("toolchain"), Put(out, program.toolchain);
  out.Key("vocab_size"), out.Int64(program.vocab_size);
  out.Key("layers"), out.Int64(program.layers);
  out.Key("kv"), out.StartObject();
  out.Key("name"), Put(out, program.kv.name);
  out.Key("position_block"), out.Int64(program.kv.position_block);
  out.Key("key_bytes"), Write(out, program.kv.key_bytes);
  out.Key("value_bytes"), Write(out, program.kv.value_bytes);
  out.EndObject();
  out.Key("rotary"), out.StartObject();
  out.Key("scale"), put_float(program.rotary.scale);
  out.Key("inv_freq"), out.StartArray();
  for (float value : program.rotary.inv_freq) put_float(value);
  out.EndArray();
  out.EndObject();
  out.Key("weights"), out.StartArray();
  for (const Weight& weight : program.weights) {
    out.StartArray();
    Put(out, weight.name), Put(out, tensor::ShortName(weight.dtype));
    out.StartArray();
    for (int64_t extent : weight.shape) out.Int64(extent);
    out.EndArray();
    out.EndArray();
  }
  out.EndArray();
  out.Key("slots"), out.Int(program.slots);
  out.Key("buffers"), out.StartArray();
  for (const Buffer& item : program.buffers) {
    out.StartArray();
    Put(out, item.name), Write(out, item.extent), out.Int(item.slot);
    out.EndArray();
  }
  out.EndArray();
  out.Key("segments"), out.StartArray();
  for (const Segment& segment : program.segments) {
    out.StartObject();
    out.Key("repeat"), out.Int64(segment.repeat);
    out.Key("first"), out.Int64(segment.first);
    out.Key("launches"), out.StartArray();
    for (const Launch& launch : segment.launches) Write(out, launch);
    out.EndArray();
    out.EndObject();
  }
  out.EndArray();
  out.EndObject();
  return std::string(buffer.GetString(), buffer.GetSize());
}

}  // namespace preheat::program
