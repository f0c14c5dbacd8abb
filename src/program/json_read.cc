// Reads what json_write.cc writes. It is strict: exactly these members, each of its type and within its
// limits.
#include <rapidjson/document.h>

#include <algorithm>
#include <cfloat>
#include <cmath>

#include "base/error.h"
#include "base/json.h"
#include "program/json_words.h"
#include "program/program.h"

namespace preheat::program {
namespace {

using base::ErrorKind;
using base::MakeError;
using Json = rapidjson::Value;

// Limits that keep every later product of two of them, and their sums, inside 63 bits: a program may come
// from an untrusted file, and Extent::Bytes and TileCount::Tiles do not check again.
constexpr int64_t kMaxBytes = int64_t{1} << 48;
constexpr int64_t kMaxBytesPerRow = int64_t{1} << 34;  // rows and capacity are below 2^27
constexpr int64_t kMaxRows = int64_t{1} << 27;
constexpr int64_t kMaxCount = int64_t{1} << 32;
constexpr int64_t kMaxLayers = 1 << 16;
constexpr int64_t kMaxItems = 1 << 20;
constexpr int64_t kMaxThreads = 1024;  // of a block, on any card
constexpr int64_t kMaxBlocksPerSm = 64;
constexpr int64_t kMaxSharedBytes = 1 << 20;
constexpr int64_t kMaxCluster = 16;
constexpr int64_t kMaxLink = 64;
constexpr int64_t kMaxBox = 256;  // of a dimension
constexpr int64_t kMaxStrideBytes = int64_t{1} << 40;

// A value of the document together with its place in it, for messages.
class Reader {
 public:
  Reader(const Json& json, std::string path, std::string_view source)
      : json_(json), path_(std::move(path)), source_(source) {}

  [[noreturn]] void Fail(std::string_view what) const {
    throw MakeError(ErrorKind::kCorrupt, "{}: the program's {} {}; build the artifact again", source_,
                    path_.empty() ? "document" : path_, what);
  }

  // REQUIRES everywhere below: nothing; a wrong type is an error.
  void ExpectMembers(rapidjson::SizeType count) const {
    if (!json_.IsObject()) Fail("is not an object");
    if (json_.MemberCount() != count) Fail("has missing or unknown members");
  }
  Reader Member(const char* name) const {
    if (!json_.IsObject()) Fail("is not an object");
    const auto found = json_.FindMember(name);
    if (found == json_.MemberEnd()) Fail(fmt::format("has no member \"{}\"", name));
    return Reader(found->value, path_.empty() ? name : path_ + "." + name, source_);
  }
  rapidjson::SizeType Size(int64_t most = kMaxItems) const {
    if (!json_.IsArray()) Fail("is not a list");
    if (json_.Size() > static_cast<uint64_t>(most)) Fail("is too long");
    return json_.Size();
  }
  void ExpectSize(rapidjson::SizeType size) const {
    if (Size() != size) Fail(fmt::format("does not have {} items", size));
  }
  Reader Item(rapidjson::SizeType index) const {
    return Reader(json_[index], fmt::format("{}[{}]", path_, index), source_);
  }
  int64_t Int(int64_t least, int64_t most) const {
    if (!json_.IsInt64()) Fail("is not an integer");
    const int64_t value = json_.GetInt64();
    if (value < least || value > most) Fail(fmt::format("is {}: expected {} to {}", value, least, most));
    return value;
  }
  float Float() const {
    if (!json_.IsNumber()) Fail("is not a number");
    const double value = json_.GetDouble();
    if (!(std::fabs(value) <= FLT_MAX)) Fail("is no fp32 number");
    return static_cast<float>(value);
  }
  std::string Text() const {
    if (!json_.IsString()) Fail("is not a string");
    return std::string(json_.GetString(), json_.GetStringLength());
  }
  template <typename Enum, size_t kSize>
  Enum Name(const std::array<std::string_view, kSize>& names) const {
    const std::string text = Text();
    for (size_t i = 0; i < kSize; ++i) {
      if (names[i] == text) return static_cast<Enum>(i);
    }
    Fail("is an unknown word");
  }

 private:
  const Json& json_;
  std::string path_;
  std::string_view source_;
};

Extent ReadExtent(const Reader& in) {
  in.ExpectSize(3);
  return {in.Item(0).Int(0, kMaxBytes), in.Item(1).Int(0, kMaxBytesPerRow),
          in.Item(2).Int(0, kMaxBytesPerRow)};
}

tensor::DType ReadDType(const Reader& in) {
  const std::string text = in.Text();
  const auto dtype = tensor::ParseDType(text);
  if (!dtype || tensor::ShortName(*dtype) != text) in.Fail("is an unknown type");
  return *dtype;
}

bool IsCode(std::string_view code) {
  if (code.starts_with(kLibraryPrefix)) return code.size() > kLibraryPrefix.size();
  return code.size() == 64 && code.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

Operand ReadOperand(const Reader& in, const Program& program) {
  in.ExpectSize(3);
  Operand operand;
  operand.kind = in.Item(0).Name<Operand::Kind>(kKindNames);
  operand.access = in.Item(2).Name<Operand::Access>(kAccessNames);
  int64_t count = 1;
  bool constant = false;
  switch (operand.kind) {
    case Operand::Kind::kWeight:
      count = static_cast<int64_t>(program.weights.size());
      constant = true;
      break;
    case Operand::Kind::kBuffer:
      count = static_cast<int64_t>(program.buffers.size());
      break;
    case Operand::Kind::kRotary:
    case Operand::Kind::kIds:
      constant = true;
      break;
    case Operand::Kind::kKeyCache:
    case Operand::Kind::kValueCache:
    case Operand::Kind::kState:
    case Operand::Kind::kLogits:
      break;
  }
  operand.index = static_cast<int>(in.Item(1).Int(0, count - 1));
  if (constant && operand.access != Operand::Access::kRead) in.Fail("writes what is constant");
  return operand;
}

// Whether all that the map covers lies in its operand, whatever the number of rows.
bool LiesInside(const TensorMap& map, const Operand& operand, const Program& program) {
  const auto index = static_cast<size_t>(operand.index);
  int64_t fixed =
      static_cast<int64_t>(tensor::Bytes(map.element));  // from the first element to behind the last
  int64_t per_row = 0;
  for (const TensorMap::Dim& dim : map.dims) {
    if (dim.extent == 0) {
      per_row += dim.stride_bytes;
      continue;
    }
    int64_t reach = 0;
    if (__builtin_mul_overflow(dim.extent - 1, dim.stride_bytes, &reach) || reach > kMaxBytes) return false;
    fixed += reach;
  }
  if (operand.kind == Operand::Kind::kBuffer) {
    const Extent& extent = program.buffers[index].extent;
    return per_row <= extent.per_row && fixed <= extent.fixed + extent.per_row;
  }
  const Weight& weight = program.weights[index];
  auto bytes = static_cast<int64_t>(tensor::Bytes(weight.dtype));
  for (const int64_t size : weight.shape) bytes *= size;
  return per_row == 0 && fixed <= bytes;
}

TensorMap ReadTensorMap(const Reader& in, const std::vector<Operand>& operands, const Program& program) {
  in.ExpectSize(4);
  TensorMap map;
  map.operand = static_cast<int>(in.Item(0).Int(0, static_cast<int64_t>(operands.size()) - 1));
  const Operand& operand = operands[static_cast<size_t>(map.operand)];
  if (operand.kind != Operand::Kind::kWeight && operand.kind != Operand::Kind::kBuffer) {
    in.Fail("is of neither a weight nor a buffer");
  }
  map.element = ReadDType(in.Item(1));
  if (!tensor::IsFloat(map.element)) in.Fail("is of no floating-point type");
  map.swizzle_bytes = static_cast<int>(in.Item(2).Int(0, 128));
  const Reader dims = in.Item(3);
  for (rapidjson::SizeType i = 0; i < dims.Size(TensorMap::kMostDims); ++i) {
    const Reader dim = dims.Item(i);
    dim.ExpectSize(3);
    map.dims.push_back({.extent = dim.Item(0).Int(0, kMaxCount),
                        .stride_bytes = dim.Item(1).Int(1, kMaxStrideBytes),
                        .box = static_cast<int>(dim.Item(2).Int(1, kMaxBox))});
  }
  if (map.dims.empty()) in.Fail("has no dimensions");
  if (!LiesInside(map, operand, program)) in.Fail("reaches out of its operand");
  return map;
}

Launch ReadLaunch(const Reader& in, const Program& program) {
  in.ExpectMembers(12);
  Launch launch;
  launch.region = in.Member("region").Text();
  launch.code = in.Member("code").Text();
  if (!IsCode(launch.code)) in.Member("code").Fail("is neither a SHA-256 nor a library's name");
  launch.entry = in.Member("entry").Text();
  if (launch.entry.empty()) in.Member("entry").Fail("is empty");
  launch.stage_entry = in.Member("stage_entry").Text();
  const Reader tiles = in.Member("tiles");
  tiles.ExpectSize(3);
  launch.tiles = {.count = tiles.Item(0).Int(0, kMaxCount),
                  .per = tiles.Item(1).Name<TileCount::Per>(kPerNames),
                  .block = tiles.Item(2).Int(1, kMaxCount)};
  launch.chunk = in.Member("chunk").Int(1, kMaxCount);
  launch.scratch_bytes = in.Member("scratch_bytes").Int(0, kMaxBytes);
  const Reader blocks = in.Member("blocks");
  blocks.ExpectSize(4);
  launch.blocks = {.threads = static_cast<int>(blocks.Item(0).Int(0, kMaxThreads)),
                   .blocks_per_sm = static_cast<int>(blocks.Item(1).Int(0, kMaxBlocksPerSm)),
                   .shared_bytes = blocks.Item(2).Int(0, kMaxSharedBytes),
                   .cluster = static_cast<int>(blocks.Item(3).Int(0, kMaxCluster))};
  const bool decodes = program.kind == StepKind::kDecode;
  launch.link = static_cast<int>(in.Member("link").Int(0, decodes ? kMaxLink : 0));
  const Reader operands = in.Member("operands");
  for (rapidjson::SizeType i = 0; i < operands.Size(); ++i) {
    launch.operands.push_back(ReadOperand(operands.Item(i), program));
  }
  const Reader tensor_maps = in.Member("tensor_maps");
  for (rapidjson::SizeType i = 0; i < tensor_maps.Size(TensorMap::kMost); ++i) {
    launch.tensor_maps.push_back(ReadTensorMap(tensor_maps.Item(i), launch.operands, program));
  }
  const Reader constants = in.Member("constants");
  for (rapidjson::SizeType i = 0; i < constants.Size(); ++i) {
    launch.constants.push_back(constants.Item(i).Int(INT64_MIN, INT64_MAX));
  }
  return launch;
}

Weight ReadWeight(const Reader& in) {
  in.ExpectSize(3);
  Weight weight;
  weight.name = in.Item(0).Text();
  if (weight.name.empty()) in.Fail("has no name");
  weight.dtype = ReadDType(in.Item(1));
  const Reader shape = in.Item(2);
  int64_t bytes = 8;
  for (rapidjson::SizeType i = 0; i < shape.Size(8); ++i) {
    weight.shape.push_back(shape.Item(i).Int(0, kMaxCount));
    if (__builtin_mul_overflow(bytes, weight.shape.back(), &bytes) || bytes > kMaxBytes)
      in.Fail("is too large");
  }
  return weight;
}

KvLayout ReadKvLayout(const Reader& in) {
  in.ExpectMembers(4);
  return {.name = in.Member("name").Text(),
          .position_block = in.Member("position_block").Int(1, kMaxRows),
          .key_bytes = ReadExtent(in.Member("key_bytes")),
          .value_bytes = ReadExtent(in.Member("value_bytes"))};
}

RotaryTable ReadRotary(const Reader& in) {
  in.ExpectMembers(2);
  RotaryTable table;
  table.scale = in.Member("scale").Float();
  const Reader inv_freq = in.Member("inv_freq");
  for (rapidjson::SizeType i = 0; i < inv_freq.Size(1 << 16); ++i) {
    table.inv_freq.push_back(inv_freq.Item(i).Float());
  }
  return table;
}

Segment ReadSegment(const Reader& in, const Program& program) {
  in.ExpectMembers(3);
  Segment segment;
  const int64_t layers = std::max<int64_t>(1, program.layers);
  segment.first = in.Member("first").Int(0, layers - 1);
  segment.repeat = in.Member("repeat").Int(1, layers - segment.first);
  const Reader launches = in.Member("launches");
  for (rapidjson::SizeType i = 0; i < launches.Size(); ++i) {
    segment.launches.push_back(ReadLaunch(launches.Item(i), program));
  }
  return segment;
}

Program ReadProgram(const Reader& in) {
  in.ExpectMembers(15);
  Program program;
  program.name = in.Member("name").Text();
  program.target = in.Member("target").Text();
  program.kind = in.Member("kind").Name<StepKind>(kStepKindNames);
  program.max_rows = in.Member("max_rows").Int(0, kMaxRows);
  program.logit_rows = in.Member("logit_rows").Name<LogitRows>(kLogitRowsNames);
  program.toolchain = in.Member("toolchain").Text();
  program.vocab_size = in.Member("vocab_size").Int(0, kMaxCount);
  program.layers = in.Member("layers").Int(0, kMaxLayers);
  program.kv = ReadKvLayout(in.Member("kv"));
  program.rotary = ReadRotary(in.Member("rotary"));
  const Reader weights = in.Member("weights");
  for (rapidjson::SizeType i = 0; i < weights.Size(); ++i)
    program.weights.push_back(ReadWeight(weights.Item(i)));
  program.slots = static_cast<int>(in.Member("slots").Int(0, kMaxItems));
  const Reader buffers = in.Member("buffers");
  for (rapidjson::SizeType i = 0; i < buffers.Size(); ++i) {
    const Reader buffer = buffers.Item(i);
    buffer.ExpectSize(3);
    program.buffers.push_back({.name = buffer.Item(0).Text(),
                               .extent = ReadExtent(buffer.Item(1)),
                               .slot = static_cast<int>(buffer.Item(2).Int(kOwnSlot, program.slots - 1))});
  }
  const Reader segments = in.Member("segments");
  for (rapidjson::SizeType i = 0; i < segments.Size(); ++i) {
    program.segments.push_back(ReadSegment(segments.Item(i), program));
  }
  return program;
}

}  // namespace

Program FromJson(std::string_view json, std::string_view source) {
  rapidjson::Document document;
  const auto fault = base::ParseJson(json, document);
  const Reader reader(document, "", source);
  if (fault) reader.Fail(fmt::format("is no JSON (at byte {})", fault->at));
  // The version first: a newer format may have other members.
  const int64_t version = reader.Member("format_version").Int(1, INT64_MAX);
  if (version != kFormatVersion) {
    throw MakeError(ErrorKind::kIncompatible,
                    "{}: the program has format version {}, this preheat reads {}; {}", source, version,
                    kFormatVersion,
                    version > kFormatVersion ? "use a newer preheat" : "build the artifact again");
  }
  return ReadProgram(reader);
}

}  // namespace preheat::program
