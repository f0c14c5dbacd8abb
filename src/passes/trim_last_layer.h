// A prompt's logits are those of its last row, and the last layer leaves nothing behind but its keys and
// values: what it computes after them is computed for the last row alone.
#pragma once

#include "ir/graph.h"

namespace preheat::passes {

// Where the last repeated block's result is read by a LastRow alone: the block's last round becomes a block
// of its own, and LastRow moves up in it, over what treats each row by itself and over attention, to the
// values that other rows need. A graph that asks for all rows stays as it is.
ir::Graph TrimLastLayer(const ir::Graph& graph);

}  // namespace preheat::passes
