#include "codegen/cuda/sample.h"

#include <fmt/format.h>

#include <algorithm>

#include "codegen/cuda/prelude.h"
#include "codegen/cuda/sample_body.h"

namespace preheat::codegen::cuda::sample {
namespace {

constexpr int64_t kChunk = 256;
constexpr int kThreads = 512;
constexpr int64_t kMostBlocks = 64;

int64_t Chunks(int64_t vocab) {
  return (vocab + kChunk - 1) / kChunk;
}

}  // namespace

bool CanCompile(const ir::Graph& graph, ir::NodeId id, const Target&) {
  const ir::Type& logits = graph[graph[id].inputs[0]].type;
  constexpr int64_t kLargestVocab = int64_t{1} << 24;  // sums of weights stay below 2^54
  return logits.dtype == tensor::DType::kF32 && logits.shape.size() == 2 &&
         logits.shape[0] == ir::Dim::Of(1) && logits.shape[1].size > 0 &&
         logits.shape[1].size <= kLargestVocab;
}

RegionCode Generate(const ir::Graph& graph, ir::NodeId id, const Target& target) {
  const ir::NodeId logits = graph[id].inputs[0];
  const int64_t vocab = graph[logits].type.shape[1].size;
  const int64_t chunks = Chunks(vocab);
  // Each of a block's warps takes a chunk at a time.
  const int64_t blocks = std::clamp<int64_t>(chunks / (kThreads / 32), 1, kMostBlocks);
  RegionCode code;
  code.source =
      CudaPrelude(target, tensor::DType::kF32) +
      fmt::format("\nconstexpr int kVocab = {}, kChunk = {}, kChunks = {}, kBlocks = {}, kThreads = {};\n",
                  vocab, kChunk, chunks, blocks, kThreads) +
      kSampleBody;
  using Kind = RegionOperand::Kind;
  using Access = program::Operand::Access;
  RegionLaunch launch;
  launch.entry = "sample";
  launch.tiles = {.count = blocks};
  launch.blocks = {.threads = kThreads, .shared_bytes = 512};
  launch.operands = {
      {.kind = logits == graph.logits ? Kind::kLogits : Kind::kNode, .node = logits},
      {.kind = Kind::kState, .access = Access::kReadWrite},
      {.kind = Kind::kWorkspace, .workspace = 0, .access = Access::kReadWrite},
      {.kind = Kind::kWorkspace, .workspace = 1, .access = Access::kReadWrite},
  };
  code.launches.push_back(std::move(launch));
  // The largest of each chunk; then ids, logits, keys and weights of candidates.
  code.workspaces.push_back({{.fixed = (2 * chunks + 3 * vocab) * 4}});
  code.workspaces.push_back({{.fixed = 4}, Keeps::kYes});  // blocks that have arrived
  return code;
}

}  // namespace preheat::codegen::cuda::sample
