#include "codegen/sample.h"

#include <fmt/format.h>

#include "codegen/cpu_prelude.h"
#include "codegen/sample_body.h"

namespace preheat::codegen::sample {
namespace {

// sizeof(Workspace) in the body, rounded up: an array of chunks and four of candidates.
int64_t WorkspaceBytes(int64_t vocab) {
  constexpr int64_t kChunk = 256, kRounding = 64, kMostLanes = 16;
  return (vocab / kChunk + 1) * 4 + kRounding + 4 * ((vocab + kMostLanes) * 4 + kRounding);
}

}  // namespace

bool CanCompile(const ir::Graph& graph, ir::NodeId id, const Target&) {
  const ir::Type& logits = graph[graph[id].inputs[0]].type;
  constexpr int64_t kLargestVocab = int64_t{1} << 24;  // sums of weights stay below 2^54
  return logits.dtype == tensor::DType::kF32 && logits.shape.size() == 2 &&
         logits.shape[0] == ir::Dim::Of(1) && logits.shape[1].size > 0 &&
         logits.shape[1].size <= kLargestVocab;
}

Schedule DefaultSchedule(const ir::Graph&, ir::NodeId, const Target&, const StepShape&) {
  return {};
}

std::vector<Schedule> Candidates(const ir::Graph&, ir::NodeId, const Target&, const StepShape&) {
  return {{}};
}

RegionCode Generate(const ir::Graph& graph, ir::NodeId id, const Target& target, const StepShape&,
                    const Schedule&) {
  const ir::NodeId logits = graph[id].inputs[0];
  const int64_t vocab = graph[logits].type.shape[1].size;
  const int64_t workspace_bytes = WorkspaceBytes(vocab);
  RegionCode code;
  code.source = CpuPrelude(target, Unit::kF32) +
                fmt::format("\nconstexpr int kVocab = {};\nconstexpr i64 kWorkspaceBytes = {};\n", vocab,
                            workspace_bytes) +
                kSampleBody;
  using Kind = RegionOperand::Kind;
  using Access = program::Operand::Access;
  RegionLaunch launch;
  launch.entry = "sample";
  launch.operands = {
      {.kind = logits == graph.logits ? Kind::kLogits : Kind::kNode, .node = logits},
      {.kind = Kind::kState, .access = Access::kReadWrite},
      {.kind = Kind::kWorkspace, .workspace = 0, .access = Access::kReadWrite},
  };
  code.launches.push_back(std::move(launch));
  code.workspaces.push_back({{.fixed = workspace_bytes}});
  return code;
}

}  // namespace preheat::codegen::sample
