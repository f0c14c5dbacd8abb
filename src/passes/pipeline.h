// The passes in order: a captured graph -> the graph whose nodes are the regions that codegen compiles.
#pragma once

#include <cstdint>
#include <functional>
#include <string_view>
#include <vector>

#include "ir/graph.h"

namespace preheat::passes {

enum class StepKind { kPrefill, kDecode };
// What the factors of matrix products are rounded to. kBf16 takes effect where the weights are bf16.
enum class Math { kF32, kBf16 };

struct PipelineOptions {
  StepKind kind = StepKind::kPrefill;
  Math math = Math::kF32;
  int64_t split_block = 128;  // positions a tile of one row's attention reads; 0: it is not split
  // Called after each pass with its name and the graph's text before and after it; may be null.
  std::function<void(std::string_view pass, std::string_view before, std::string_view after)> dump = nullptr;
};

// The graph is verified before the first and after each pass. Errors: Corrupt where it does not verify as it
// comes.
ir::Graph RunPasses(const ir::Graph& graph, const PipelineOptions& options);

// The names of the passes that `options` selects, in order.
std::vector<std::string_view> PassNames(const PipelineOptions& options);

}  // namespace preheat::passes
