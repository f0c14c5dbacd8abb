#include "codegen/cuda/generators.h"

#include "codegen/cuda/attention.h"
#include "codegen/cuda/elementwise.h"
#include "codegen/cuda/matmul.h"
#include "codegen/cuda/row_ops.h"
#include "codegen/cuda/sample.h"

namespace preheat::codegen {
namespace {

// Of generators that have nothing to choose.
Schedule NoSchedule(const ir::Graph&, ir::NodeId, const Target&, const StepShape&) {
  return {};
}
std::vector<Schedule> NoCandidates(const ir::Graph&, ir::NodeId, const Target&, const StepShape&) {
  return {{}};
}

template <RegionCode (*kGenerate)(const ir::Graph&, ir::NodeId, const Target&)>
RegionCode WithoutSchedule(const ir::Graph& graph, ir::NodeId node, const Target& target, const StepShape&,
                           const Schedule&) {
  return kGenerate(graph, node, target);
}

}  // namespace

Generator CudaGeneratorOf(ir::Op op) {
  using ir::Op;
  switch (op) {
    case Op::kMatmul:
      return {cuda::matmul_region::CanCompile, cuda::matmul_region::DefaultSchedule,
              cuda::matmul_region::Candidates, cuda::matmul_region::Generate};
    case Op::kAttention:
      return {cuda::attention::CanCompile, cuda::attention::DefaultSchedule, cuda::attention::Candidates,
              cuda::attention::Generate};
    case Op::kEmbedding:
    case Op::kRmsNorm:
    case Op::kLastRow:
      return {cuda::row_ops::CanCompile, NoSchedule, NoCandidates, WithoutSchedule<cuda::row_ops::Generate>};
    case Op::kSample:
      return {cuda::sample::CanCompile, NoSchedule, NoCandidates, WithoutSchedule<cuda::sample::Generate>};
    case Op::kAdd:
    case Op::kMul:
    case Op::kSilu:
    case Op::kRotary:
    case Op::kAppend:
      return {cuda::elementwise::CanCompile, NoSchedule, NoCandidates,
              WithoutSchedule<cuda::elementwise::Generate>};
    // Decode's attention is split inside its region.
    case Op::kSplitAttention:
    // Operands, names of another region's result, and what passes must have fused into a region.
    case Op::kIds:
    case Op::kWeight:
    case Op::kKvCache:
    case Op::kCarry:
    case Op::kAppendedCache:
    case Op::kLinear:
    case Op::kProbe:
      return {};
  }
  return {};
}

}  // namespace preheat::codegen
