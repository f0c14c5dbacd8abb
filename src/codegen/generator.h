// What a dialect has for one operation.
#pragma once

#include <vector>

#include "codegen/codegen.h"

namespace preheat::codegen {

// The functions of codegen.h for nodes of one operation; null members where a dialect has no generator for
// it.
struct Generator {
  bool (*can_compile)(const ir::Graph& graph, ir::NodeId node, const Target& target) = nullptr;
  Schedule (*default_schedule)(const ir::Graph& graph, ir::NodeId node, const Target& target,
                               const StepShape& shape) = nullptr;
  std::vector<Schedule> (*candidates)(const ir::Graph& graph, ir::NodeId node, const Target& target,
                                      const StepShape& shape) = nullptr;
  RegionCode (*generate)(const ir::Graph& graph, ir::NodeId node, const Target& target,
                         const StepShape& shape, const Schedule& schedule) = nullptr;
};

}  // namespace preheat::codegen
