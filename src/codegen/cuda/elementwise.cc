#include "codegen/cuda/elementwise.h"

#include <fmt/format.h>

#include "base/check.h"
#include "codegen/buffers.h"
#include "codegen/cache_layout.h"
#include "codegen/cuda/prelude.h"

namespace preheat::codegen::cuda::elementwise {
namespace {

using ir::Op;
using Access = program::Operand::Access;
using Kind = RegionOperand::Kind;

constexpr int kThreads = 256;
constexpr int kEach = 2;  // elements of a thread: one row of 3072 is 6 blocks, of 8192 16

// All of a thread's elements are asked for before the first is stored: the result may lie over an operand.
constexpr char kOpening[] = R"text(
INLINE int ElementOf(int i) { return (BlockIndex() % kPieces * kEach + i) * kThreads + ThreadIndex(); }
)text";

constexpr char kBinary[] = R"text(
  WaitDependencies();
  const AElement* const a = Operand<const AElement>(&args, 0) + row * kAStride;
  const BElement* const b = Operand<const BElement>(&args, 1) + row * kBStride;
  ResultElement* const to = Operand<ResultElement>(&args, 2) + row * kResultStride;
  float x[kEach], y[kEach];
  UNROLL for (int i = 0; i < kEach; ++i) {
    const int d = ElementOf(i);
    x[i] = d < kElements ? GetDependent(a + d) : 0.0f;
    y[i] = d < kElements ? GetDependent(b + d) : 0.0f;
  }
  UNROLL for (int i = 0; i < kEach; ++i) {
    const int d = ElementOf(i);
    if (d < kElements) Put(to + d, Combine(x[i], y[i]));
  }
}
)text";

constexpr char kSilu[] = R"text(
  WaitDependencies();
  const AElement* const a = Operand<const AElement>(&args, 0) + row * kAStride;
  ResultElement* const to = Operand<ResultElement>(&args, 1) + row * kResultStride;
  float x[kEach];
  UNROLL for (int i = 0; i < kEach; ++i) {
    const int d = ElementOf(i);
    x[i] = d < kElements ? GetDependent(a + d) : 0.0f;
  }
  UNROLL for (int i = 0; i < kEach; ++i) {
    const int d = ElementOf(i);
    if (d < kElements) Put(to + d, Silu(x[i]));
  }
}
)text";

// An element is a pair of dimensions (d, d + half) of a head, turned together. The table is no kernel's: it
// may be read before the wait.
constexpr char kRotary[] = R"text(
  const float* const turns = Operand<const float>(&args, 1) + (args.past + row) * 2 * kHalf;
  float c[kEach], s[kEach];
  UNROLL for (int i = 0; i < kEach; ++i) {
    c[i] = turns[ElementOf(i) % kHalf];
    s[i] = turns[kHalf + ElementOf(i) % kHalf];
  }
  WaitDependencies();
  const AElement* const a = Operand<const AElement>(&args, 0) + row * kAStride;
  ResultElement* const to = Operand<ResultElement>(&args, 2) + row * kResultStride;
  float x[kEach], y[kEach];
  UNROLL for (int i = 0; i < kEach; ++i) {
    const int pair = ElementOf(i), at = pair / kHalf * 2 * kHalf + pair % kHalf;
    x[i] = pair < kElements ? GetDependent(a + at) : 0.0f;
    y[i] = pair < kElements ? GetDependent(a + at + kHalf) : 0.0f;
  }
  UNROLL for (int i = 0; i < kEach; ++i) {
    const int pair = ElementOf(i), at = pair / kHalf * 2 * kHalf + pair % kHalf;
    if (pair >= kElements) continue;
    Put(to + at, FusedMultiplyAdd(x[i], c[i], -Multiply(y[i], s[i])));
    Put(to + at + kHalf, FusedMultiplyAdd(y[i], c[i], Multiply(x[i], s[i])));
  }
}
)text";

constexpr char kAppend[] = R"text(
  WaitDependencies();
  const AElement* const k = Operand<const AElement>(&args, 0) + row * kAStride;
  const BElement* const v = Operand<const BElement>(&args, 1) + row * kBStride;
  CacheElement* const keys = Operand<CacheElement>(&args, 2);
  CacheElement* const values = Operand<CacheElement>(&args, 3);
  float x[kEach], y[kEach];
  UNROLL for (int i = 0; i < kEach; ++i) {
    const int d = ElementOf(i);
    x[i] = d < kElements ? GetDependent(k + d) : 0.0f;
    y[i] = d < kElements ? GetDependent(v + d) : 0.0f;
  }
  UNROLL for (int i = 0; i < kEach; ++i) {
    const int d = ElementOf(i);
    if (d >= kElements) continue;
    Put(keys + KeyOffset(args.capacity, d / kHeadDim, args.past + row, d % kHeadDim), x[i]);
    Put(values + ValueOffset(args.capacity, d / kHeadDim, args.past + row, d % kHeadDim), y[i]);
  }
}
)text";

bool IsRows(const ir::Type& type) {
  return tensor::IsFloat(type.dtype) && type.shape.size() == 2;
}

// "typedef bf16 AElement; constexpr i64 kAStride = 3072;"
std::string NameRows(std::string_view name, const ir::Type& type) {
  return fmt::format("typedef {} {}Element;\nconstexpr i64 k{}Stride = {};\n", ElementName(type.dtype), name,
                     name, RowStride(type));
}

// Kernel `name` over `elements` of each row, up to the body.
std::string Opening(std::string_view name, int64_t elements, int64_t pieces) {
  return fmt::format(
      "constexpr int kThreads = {}, kEach = {}, kElements = {}, kPieces = {};\n{}"
      "KERNEL({}, kThreads, 1, ph_gpu_args) {{\n"
      "  LaunchDependents();\n  const ph_args args = ArgsOf(params);\n"
      "  const i64 row = BlockIndex() / kPieces;",
      kThreads, kEach, elements, pieces, kOpening, name);
}

}  // namespace

bool CanCompile(const ir::Graph& graph, ir::NodeId id, const Target&) {
  const ir::Node& node = graph[id];
  const auto rows = [&](size_t input) { return IsRows(graph[node.inputs[input]].type); };
  switch (node.op) {
    case Op::kAdd:
    case Op::kMul:
      return rows(0) && rows(1) && IsRows(node.type) && id != graph.logits;
    case Op::kSilu:
      return rows(0) && IsRows(node.type) && id != graph.logits;
    case Op::kRotary:
      return rows(0) && IsRows(node.type) && node.Int("head_dim") % 2 == 0 && id != graph.logits;
    case Op::kAppend:
      return rows(1) && rows(2) && tensor::IsFloat(node.type.dtype) && node.type.shape[3].size % 2 == 0;
    default:
      return false;  // other generators'
  }
}

RegionCode Generate(const ir::Graph& graph, ir::NodeId id, const Target& target) {
  const ir::Node& node = graph[id];
  const auto input = [&](size_t i) { return RegionOperand{.node = node.inputs[i]}; };
  const auto type = [&](size_t i) -> const ir::Type& { return graph[node.inputs[i]].type; };
  const RegionOperand result = {.node = id, .access = Access::kWrite};
  RegionLaunch launch;
  launch.entry = std::string(ir::Info(node.op).text);
  std::string names, body;
  int64_t elements = 0;
  switch (node.op) {
    case Op::kAdd:
    case Op::kMul:
      elements = node.type.shape[1].size;
      names = NameRows("A", type(0)) + NameRows("B", type(1)) + NameRows("Result", node.type) +
              fmt::format("INLINE float Combine(float a, float b) {{ return {}(a, b); }}\n",
                          node.op == Op::kAdd ? "Add" : "Multiply");
      body = kBinary;
      launch.operands = {input(0), input(1), result};
      break;
    case Op::kSilu:
      elements = node.type.shape[1].size;
      names = NameRows("A", type(0)) + NameRows("Result", node.type);
      body = kSilu;
      launch.operands = {input(0), result};
      break;
    case Op::kRotary:
      elements = node.type.shape[1].size / 2;
      names = NameRows("A", type(0)) + NameRows("Result", node.type) +
              fmt::format("constexpr int kHalf = {};\n", node.Int("head_dim") / 2);
      body = kRotary;
      launch.operands = {input(0), {.kind = Kind::kRotary}, result};
      break;
    case Op::kAppend:
      elements = node.type.shape[2].size * node.type.shape[3].size;
      names = NameRows("A", type(1)) + NameRows("B", type(2)) + CachePrelude(CacheShapeOf(node.type, target));
      body = kAppend;
      launch.operands = {input(1),
                         input(2),
                         {.kind = Kind::kKeyCache, .access = Access::kReadWrite},
                         {.kind = Kind::kValueCache, .access = Access::kReadWrite}};
      break;
    default:
      CHECK(false);  // CanCompile
  }
  const int64_t pieces = (elements + kThreads * kEach - 1) / (kThreads * kEach);
  RegionCode code;
  code.source = CudaPrelude(target, tensor::DType::kF32) + "\n" + names +
                Opening(launch.entry, elements, pieces) + body;
  launch.tiles = {.count = pieces, .per = program::TileCount::Per::kRows};
  launch.blocks = {.threads = kThreads};
  code.launches.push_back(std::move(launch));
  return code;
}

}  // namespace preheat::codegen::cuda::elementwise
