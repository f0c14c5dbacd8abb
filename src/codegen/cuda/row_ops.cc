#include "codegen/cuda/row_ops.h"

#include <fmt/format.h>

#include "base/check.h"
#include "codegen/buffers.h"
#include "codegen/cuda/prelude.h"

namespace preheat::codegen::cuda::row_ops {
namespace {

using ir::Op;
using Access = program::Operand::Access;
using Kind = RegionOperand::Kind;

// A row's elements are few to a thread, all asked for at once: one row is all that decode has.
constexpr int kFewestThreads = 256, kMostThreads = 1024;

int ThreadsFor(int64_t width) {
  constexpr int kElements = 4;  // of a thread
  int threads = kFewestThreads;
  while (threads < kMostThreads && threads * kElements < width) threads *= 2;
  return threads;
}

// What changes no more is read as it is; what another kernel made, or the last step chose, after the wait.
constexpr char kEmbedding[] = R"text(
KERNEL(embedding, kThreads, 1, ph_gpu_args) {
  LaunchDependents();
  const ph_args args = ArgsOf(params);
  WaitDependencies();
  const i64 row = BlockIndex();
  const i64 id = Max(Min((i64)(i32)LoadDependent4(Operand<const i32>(&args, 0) + row), kVocab - 1), 0);
  const TableElement* const from = Operand<const TableElement>(&args, 1) + id * kWidth;
  ResultElement* const to = Operand<ResultElement>(&args, 2) + row * kResultStride;
  float x[kEach];
  UNROLL for (int i = 0; i < kEach; ++i) x[i] = ElementOf(i) < kWidth ? Get(from + ElementOf(i)) : 0.0f;
  UNROLL for (int i = 0; i < kEach; ++i) {
    if (ElementOf(i) < kWidth) Put(to + ElementOf(i), x[i]);
  }
}
)text";

constexpr char kLastRow[] = R"text(
KERNEL(last_row, kThreads, 1, ph_gpu_args) {
  LaunchDependents();
  const ph_args args = ArgsOf(params);
  WaitDependencies();
  const XElement* const from = Operand<const XElement>(&args, 0) + (args.rows - 1) * kXStride;
  ResultElement* const to = Operand<ResultElement>(&args, 1);
  UNROLL for (int i = 0; i < kEach; ++i) {
    if (ElementOf(i) < kWidth) Put(to + ElementOf(i), GetDependent(from + ElementOf(i)));
  }
}
)text";

constexpr char kRmsNorm[] = R"text(
KERNEL(rms_norm, kThreads, 1, ph_gpu_args) {
  LaunchDependents();
  const ph_args args = ArgsOf(params);
  const WeightElement* const weight = Operand<const WeightElement>(&args, 1);
  float w[kEach];
  UNROLL for (int i = 0; i < kEach; ++i) w[i] = ElementOf(i) < kWidth ? Get(weight + ElementOf(i)) : 0.0f;
  WaitDependencies();
  const i64 row = BlockIndex();
  const XElement* const from = Operand<const XElement>(&args, 0) + row * kXStride;
  ResultElement* const to = Operand<ResultElement>(&args, 2) + row * kResultStride;
  float* const sums = (float*)SharedMemory();
  float x[kEach];
  UNROLL for (int i = 0; i < kEach; ++i) x[i] = ElementOf(i) < kWidth ? GetDependent(from + ElementOf(i)) : 0.0f;
  float squares = 0;
  UNROLL for (int i = 0; i < kEach; ++i) squares = FusedMultiplyAdd(x[i], x[i], squares);
  squares = WarpSum(squares);
  if (Lane() == 0) sums[ThreadIndex() / 32] = squares;
  SyncBlock();
  float total = 0;
  UNROLL for (int i = 0; i < kThreads / 32; ++i) total += sums[i];
  const float scale = Rsqrt(total / kWidth + kEps);
  UNROLL for (int i = 0; i < kEach; ++i) {
    if (ElementOf(i) < kWidth) Put(to + ElementOf(i), Multiply(Multiply(x[i], scale), w[i]));
  }
}
)text";

std::string Opening(const Target& target, const ir::Type& result) {
  const int64_t width = result.shape.back().size;
  return CudaPrelude(target, tensor::DType::kF32) +
         fmt::format(
             "\ntypedef {} ResultElement;\nconstexpr int kThreads = {}, kEach = {};\nconstexpr i64 kWidth = "
             "{};\n"
             "INLINE int ElementOf(int i) {{ return ThreadIndex() + i * kThreads; }}\n",
             ElementName(result.dtype), ThreadsFor(width),
             (width + ThreadsFor(width) - 1) / ThreadsFor(width), width);
}

RegionLaunch MakeLaunch(const std::string& entry, int64_t width, program::TileCount tiles) {
  RegionLaunch launch;
  launch.entry = entry;
  launch.tiles = tiles;
  const int threads = ThreadsFor(width);
  launch.blocks = {.threads = threads, .shared_bytes = threads / 32 * 4};
  return launch;
}

}  // namespace

bool CanCompile(const ir::Graph& graph, ir::NodeId id, const Target&) {
  const ir::Node& node = graph[id];
  if (!tensor::IsFloat(node.type.dtype)) return false;
  if (node.op == Op::kEmbedding) {
    const ir::Type& table = graph[node.inputs[1]].type;
    return tensor::IsFloat(table.dtype) && table.shape.size() == 2;
  }
  const ir::Type& x = graph[node.inputs[0]].type;
  if (!tensor::IsFloat(x.dtype) || x.shape.size() != 2) return false;
  return node.op == Op::kLastRow || tensor::IsFloat(graph[node.inputs[1]].type.dtype);
}

RegionCode Generate(const ir::Graph& graph, ir::NodeId id, const Target& target) {
  const ir::Node& node = graph[id];
  const bool to_logits = id == graph.logits;
  const int64_t width = node.type.shape.back().size;
  const program::TileCount of_each_row = {.per = program::TileCount::Per::kRows};
  const RegionOperand result = {
      .kind = to_logits ? Kind::kLogits : Kind::kNode, .node = id, .access = Access::kWrite};
  RegionCode code;
  code.source = Opening(target, node.type);
  const int64_t result_stride = to_logits ? width : RowStride(node.type);
  if (node.op == Op::kEmbedding) {
    const ir::Type& table = graph[node.inputs[1]].type;
    code.source += fmt::format("typedef {} TableElement;\nconstexpr i64 kVocab = {}, kResultStride = {};\n",
                               ElementName(table.dtype), table.shape[0].size, result_stride);
    code.source += kEmbedding;
    RegionLaunch& launch = code.launches.emplace_back(MakeLaunch("embedding", width, of_each_row));
    launch.operands = {{.kind = Kind::kIds}, {.node = node.inputs[1]}, result};
    return code;
  }
  const ir::Type& x = graph[node.inputs[0]].type;
  code.source += fmt::format("typedef {} XElement;\nconstexpr i64 kXStride = {}, kResultStride = {};\n",
                             ElementName(x.dtype), RowStride(x), result_stride);
  if (node.op == Op::kLastRow) {
    code.source += kLastRow;
    RegionLaunch& launch = code.launches.emplace_back(MakeLaunch("last_row", width, {}));
    launch.operands = {{.node = node.inputs[0]}, result};
    return code;
  }
  CHECK(node.op == Op::kRmsNorm);
  code.source +=
      fmt::format("typedef {} WeightElement;\nconstexpr float kEps = {:.9e}f;\n",
                  ElementName(graph[node.inputs[1]].type.dtype), static_cast<float>(node.Real("eps")));
  code.source += kRmsNorm;
  const bool is_one = x.shape[0] == ir::Dim::Of(1);  // the last row of many
  RegionLaunch& launch =
      code.launches.emplace_back(MakeLaunch("rms_norm", width, is_one ? program::TileCount{} : of_each_row));
  launch.operands = {{.node = node.inputs[0]}, {.node = node.inputs[1]}, result};
  return code;
}

}  // namespace preheat::codegen::cuda::row_ops
