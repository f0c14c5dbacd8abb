// The text form of graphs: what --dump shows, golden files hold and tests write. One node a line, in order of
// execution:
//
//   graph "decode"
//   rotary scale 1 inv_freq 1 0.31622776
//   block "embed"
//     %0 = ids : i32[n]
//     %1 = weight {name = "model.embed_tokens.weight"} : bf16[384, 64]
//     %2 = embedding(%0, %1) : f32[n, 64]
//   block "layers" repeat 2 carry %2
//     %3 = carry : f32[n, 64]
//     ...
//     %9 = matmul(%8, %7, %3) {bias = 0, epilogue = "add", math = "f32", parts = 1, prologue = "none"} :
//     f32[n, 64] yield %9
//   ...
//   logits %12
//   token %13
//
// Sizes are numbers, n (rows), past, past+n, or splits. Texts are quoted, with \" \\ \n \t \xHH; an attribute
// with a point or exponent is real, else an integer. Numbers read back as they were. A ';' starts a comment.
// Deterministic; Parse(Print(graph)) == graph for every graph that Verify accepts.
#pragma once

#include <string>
#include <string_view>

#include "ir/graph.h"

namespace preheat::ir {

std::string Print(const Graph& graph);
// "bf16[n, 64]".
std::string ToText(const Type& type);

// The inverse, for people's and tests' texts; the result is verified. `source` names the text in messages.
// Errors: Corrupt, with the line.
Graph Parse(std::string_view text, std::string_view source);

}  // namespace preheat::ir
