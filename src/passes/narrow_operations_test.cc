#include "passes/narrow_operations.h"

#include <gtest/gtest.h>

#include "ir/printer.h"

namespace preheat::passes {
namespace {

constexpr char kGraph[] = R"(graph "test"
rotary scale 1 inv_freq 1
block "embed"
  %0 = ids : i32[n]
  %1 = weight {name = "table"} : f16[5, 4]
  %2 = embedding(%0, %1) : f32[n, 4]
block "layers" repeat 2 carry %2
  %3 = carry : f32[n, 4]
  %4 = weight {name = "{}.n"} : f16[4]
  %5 = weight {name = "{}.a"} : f16[4, 4]
  %6 = kv_cache : f32[2, past, 2, 2]
  %7 = rms_norm(%3, %4) {eps = 1e-05} : f32[n, 4]
  %8 = linear(%7, %5) : f32[n, 4]
  %9 = rotary(%8) {head_dim = 2} : f32[n, 4]
  %10 = append(%6, %9, %8) : f32[2, past+n, 2, 2]
  %11 = attention(%9, %10) {head_dim = 2, heads = 2, kv_heads = 2, scale = 0.7} : f32[n, 4]
  %12 = silu(%11) : f32[n, 4]
  %13 = mul(%12, %11) : f32[n, 4]
  %14 = add(%3, %13) : f32[n, 4]
  yield %14
block "head"
  %15 = last_row(%14) : f32[1, 4]
  %16 = linear(%15, %1) : f32[1, 5]
logits %16
)";

tensor::DType TypeAfter(const ir::Graph& graph, ir::Op op) {
  for (const ir::Node& node : graph.nodes) {
    if (node.op == op) return node.type.dtype;
  }
  ADD_FAILURE() << "no " << ir::Info(op).text;
  return tensor::DType::kI32;
}

TEST(NarrowOperations, AllButTheResidualAndTheLogitsHaveTheType) {
  const ir::Graph graph = NarrowOperations(ir::Parse(kGraph, "test"), tensor::DType::kF16);
  using ir::Op;
  for (const Op op : {Op::kRmsNorm, Op::kLinear, Op::kRotary, Op::kAppend, Op::kKvCache, Op::kAttention,
                      Op::kSilu, Op::kMul}) {
    EXPECT_EQ(TypeAfter(graph, op), tensor::DType::kF16) << ir::Info(op).text;
  }
  for (const Op op : {Op::kEmbedding, Op::kCarry, Op::kAdd, Op::kLastRow}) {
    EXPECT_EQ(TypeAfter(graph, op), tensor::DType::kF32) << ir::Info(op).text;
  }
  EXPECT_EQ(graph[graph.logits].type.dtype, tensor::DType::kF32);
}

TEST(NarrowOperations, F32ChangesNothing) {
  const ir::Graph graph = ir::Parse(kGraph, "test");
  EXPECT_EQ(ir::Print(NarrowOperations(graph, tensor::DType::kF32)), ir::Print(graph));
}

}  // namespace
}  // namespace preheat::passes
