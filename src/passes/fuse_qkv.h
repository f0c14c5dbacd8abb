// Query, key and value are products of one input: one region makes all three, turns q and k, and writes k and
// v into the cache from its epilogue, so that neither is stored twice.
//
//   q = rotary(matmul(x, wq)); k = rotary(matmul(x, wk)); v = matmul(x, wv)
//   c = append(kv_cache, k, v); attention(q, c)
//   ->
//   q = matmul(x, wq, wk, wv, kv_cache) {epilogue = "rotary_append", parts = 3}; c = appended_cache(q)
//   attention(q, c)
//
// Where one of the inner values has another reader, where only some of the three have a bias, or where they
// do not read the same x, all stays as it is.
#pragma once

#include "ir/graph.h"

namespace preheat::passes {

ir::Graph FuseQkv(const ir::Graph& graph);

}  // namespace preheat::passes
