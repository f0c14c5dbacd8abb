// What makes a graph well-formed: the rules of ops.def and graph.h as checks.
//
// A graph may come from a user's text, so a broken rule is an Error (Corrupt) that names the node and the
// rule, never an abort. Everything behind this point (interpreter, passes, generators) relies on what is
// checked here.
#pragma once

#include "ir/graph.h"

namespace preheat::ir {

// The type that `node` must have by its operation, inputs and attributes, which this checks; an activation is
// f32 here and may be stored narrower. For Ids, Weight, KvCache and Carry, which have no inputs, it is the
// node's own type. REQUIRES: the inputs are nodes of `graph`, whose types hold. Errors: Corrupt.
Type InferType(const Graph& graph, const Node& node);

// A node with its inferred type: how capture and passes make nodes. Errors: as InferType.
Node MakeNode(const Graph& graph, Op op, std::vector<NodeId> inputs,
              std::map<std::string, Attribute> attributes = {});

// Checks the whole graph: types, attributes, the order of blocks, what a repeated block may hold, the
// results. Errors: Corrupt.
void Verify(const Graph& graph);

// "matmul", for messages "%12 (matmul)".
std::string Describe(const Graph& graph, NodeId id);

}  // namespace preheat::ir
