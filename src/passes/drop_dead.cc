#include "passes/drop_dead.h"

#include "passes/rewrite.h"

namespace preheat::passes {

ir::Graph DropDead(const ir::Graph& graph) {
  return Tidied(graph);
}

}  // namespace preheat::passes
