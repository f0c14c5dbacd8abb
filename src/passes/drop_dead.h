// Nodes that no result, no next round and no effect (cache rows, a probe) needs are gone, and the rest is
// numbered in order of execution. Other passes leave dead nodes behind only inside themselves; this is for
// graphs that come from elsewhere.
#pragma once

#include "ir/graph.h"

namespace preheat::passes {

ir::Graph DropDead(const ir::Graph& graph);

}  // namespace preheat::passes
