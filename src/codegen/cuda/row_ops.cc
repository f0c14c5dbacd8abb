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

constexpr int kThreads = 256;

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
  NO_UNROLL for (int d = ThreadIndex(); d < kWidth; d += kThreads) Put(to + d, Get(from + d));
}
)text";

constexpr char kLastRow[] = R"text(
KERNEL(last_row, kThreads, 1, ph_gpu_args) {
  LaunchDependents();
  const ph_args args = ArgsOf(params);
  WaitDependencies();
  const XElement* const from = Operand<const XElement>(&args, 0) + (args.rows - 1) * kXStride;
  ResultElement* const to = Operand<ResultElement>(&args, 1);
  NO_UNROLL for (int d = ThreadIndex(); d < kWidth; d += kThreads) Put(to + d, GetDependent(from + d));
}
)text";

constexpr char kRmsNorm[] = R"text(
KERNEL(rms_norm, kThreads, 1, ph_gpu_args) {
  LaunchDependents();
  const ph_args args = ArgsOf(params);
  WaitDependencies();
  const i64 row = BlockIndex();
  const XElement* const from = Operand<const XElement>(&args, 0) + row * kXStride;
  const WeightElement* const weight = Operand<const WeightElement>(&args, 1);
  ResultElement* const to = Operand<ResultElement>(&args, 2) + row * kResultStride;
  float* const sums = (float*)SharedMemory();
  constexpr int kEach = ((int)kWidth + kThreads - 1) / kThreads;
  float x[kEach];
  UNROLL for (int i = 0; i < kEach; ++i) {
    const int d = ThreadIndex() + i * kThreads;
    x[i] = d < kWidth ? GetDependent(from + d) : 0.0f;
  }
  float squares = 0;
  UNROLL for (int i = 0; i < kEach; ++i) squares = FusedMultiplyAdd(x[i], x[i], squares);
  squares = WarpSum(squares);
  if (Lane() == 0) sums[ThreadIndex() / 32] = squares;
  SyncBlock();
  float total = 0;
  UNROLL for (int i = 0; i < kThreads / 32; ++i) total += sums[i];
  const float scale = Rsqrt(total / kWidth + kEps);
  UNROLL for (int i = 0; i < kEach; ++i) {
    const int d = ThreadIndex() + i * kThreads;
    if (d < kWidth) Put(to + d, Multiply(Multiply(x[i], scale), Get(weight + d)));
  }
}
)text";

std::string Opening(const Target& target, const ir::Type& result) {
  return CudaPrelude(target, tensor::DType::kF32) +
         fmt::format(
             "\ntypedef {} ResultElement;\nconstexpr int kThreads = {};\nconstexpr i64 kWidth = {};\n",
             ElementName(result.dtype), kThreads, result.shape.back().size);
}

RegionLaunch MakeLaunch(const std::string& entry, bool of_each_row) {
  RegionLaunch launch;
  launch.entry = entry;
  if (of_each_row) launch.tiles = {1, program::TileCount::Per::kRows, 1};
  launch.blocks = {.threads = kThreads, .shared_bytes = kThreads / 32 * 4};
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
  const RegionOperand result = {
      .kind = to_logits ? Kind::kLogits : Kind::kNode, .node = id, .access = Access::kWrite};
  RegionCode code;
  code.source = Opening(target, node.type);
  const int64_t result_stride = to_logits ? node.type.shape.back().size : RowStride(node.type);
  if (node.op == Op::kEmbedding) {
    const ir::Type& table = graph[node.inputs[1]].type;
    code.source += fmt::format("typedef {} TableElement;\nconstexpr i64 kVocab = {}, kResultStride = {};\n",
                               ElementName(table.dtype), table.shape[0].size, result_stride);
    code.source += kEmbedding;
    RegionLaunch& launch = code.launches.emplace_back(MakeLaunch("embedding", true));
    launch.operands = {{.kind = Kind::kIds}, {.node = node.inputs[1]}, result};
    return code;
  }
  const ir::Type& x = graph[node.inputs[0]].type;
  code.source += fmt::format("typedef {} XElement;\nconstexpr i64 kXStride = {}, kResultStride = {};\n",
                             ElementName(x.dtype), RowStride(x), result_stride);
  if (node.op == Op::kLastRow) {
    code.source += kLastRow;
    RegionLaunch& launch = code.launches.emplace_back(MakeLaunch("last_row", false));
    launch.operands = {{.node = node.inputs[0]}, result};
    return code;
  }
  CHECK(node.op == Op::kRmsNorm);
  code.source +=
      fmt::format("typedef {} WeightElement;\nconstexpr float kEps = {:.9e}f;\n",
                  ElementName(graph[node.inputs[1]].type.dtype), static_cast<float>(node.Real("eps")));
  code.source += kRmsNorm;
  RegionLaunch& launch = code.launches.emplace_back(MakeLaunch("rms_norm", x.shape[0] != ir::Dim::Of(1)));
  launch.operands = {{.node = node.inputs[0]}, {.node = node.inputs[1]}, result};
  return code;
}

}  // namespace preheat::codegen::cuda::row_ops
