#include "passes/pipeline.h"

#include "ir/printer.h"
#include "ir/verify.h"
#include "passes/drop_dead.h"
#include "passes/fuse_gate_up.h"
#include "passes/fuse_norm.h"
#include "passes/fuse_qkv.h"
#include "passes/fuse_residual.h"
#include "passes/linear_to_matmul.h"
#include "passes/narrow_activations.h"
#include "passes/specialize_decode.h"
#include "passes/split_attention.h"
#include "passes/trim_last_layer.h"

namespace preheat::passes {
namespace {

using ir::Graph;

struct Pass {
  std::string_view name;
  std::function<Graph(const Graph&)> run;
};

std::vector<Pass> Passes(const PipelineOptions& options) {
  const bool decode = options.kind == StepKind::kDecode;
  std::vector<Pass> passes;
  passes.push_back({"drop_dead", DropDead});
  // First, because one row is what split_attention looks for.
  if (decode) passes.push_back({"specialize_decode", SpecializeDecode});
  passes.push_back({"linear_to_matmul", LinearToMatmul});
  // Products of one input are joined before their norm is looked at: it has one reader only after that.
  passes.push_back({"fuse_qkv", FuseQkv});
  passes.push_back({"fuse_gate_up", FuseGateUp});
  passes.push_back({"fuse_residual", FuseResidual});
  passes.push_back({"fuse_norm", FuseNorm});
  // Of regions: what is joined in one of them needs the same rows.
  if (!decode) passes.push_back({"trim_last_layer", TrimLastLayer});
  // Many rows are parallel enough; one has only its positions and heads to share among threads.
  if (options.split_block > 0) {
    passes.push_back({"split_attention", [block = options.split_block](const Graph& graph) {
                        return SplitAttention(graph, block);
                      }});
  }
  // Last, when only those values are left that regions exchange: what was fused away never needed a type.
  if (options.math == Math::kBf16) passes.push_back({"narrow_activations", NarrowActivations});
  return passes;
}

}  // namespace

Graph RunPasses(const Graph& graph, const PipelineOptions& options) {
  ir::Verify(graph);
  Graph current = graph;
  for (const Pass& pass : Passes(options)) {
    Graph next = pass.run(current);
    ir::Verify(next);
    if (options.dump) options.dump(pass.name, ir::Print(current), ir::Print(next));
    current = std::move(next);
  }
  return current;
}

std::vector<std::string_view> PassNames(const PipelineOptions& options) {
  std::vector<std::string_view> names;
  for (const Pass& pass : Passes(options)) names.push_back(pass.name);
  return names;
}

}  // namespace preheat::passes
