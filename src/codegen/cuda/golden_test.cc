// The CUDA dialect's text as reviewed: the products and the attention of a 3B layer.
#include <gtest/gtest.h>

#include <string>

#include "codegen/attention_for_test.h"
#include "codegen/codegen.h"
#include "codegen/cuda/prelude.h"
#include "codegen/matmul_for_test.h"
#include "codegen/unit_for_test.h"

namespace preheat::codegen::cuda {
namespace {

constexpr StepShape kDecode{.rows = 1, .threads = 132}, kPrefill{.rows = 512, .threads = 132};

// A unit's own text, with the heuristic's schedule: what all units begin with is in machine.cc and
// prelude.cc.
std::string OwnText(const ir::Graph& graph, ir::NodeId node, const StepShape& shape, DType math) {
  const Target target = ParseTarget("sm_90a");
  const std::string source =
      Generate(graph, node, target, shape, DefaultSchedule(graph, node, target, shape)).source;
  const std::string prelude = CudaPrelude(target, math);
  EXPECT_TRUE(source.starts_with(prelude));
  return source.substr(prelude.size());
}

TEST(CudaGolden, ProductsAreAsReviewed) {
  const MatmulGraph qkv = MakeGraph({.prologue = "rms_norm",
                                     .epilogue = "rotary_append",
                                     .k = 3072,
                                     .columns = {3072, 1024, 1024},
                                     .out = DType::kBf16,
                                     .head_dim = 128});
  ExpectGolden("cuda_matmul_qkv_one_row.cu", OwnText(qkv.graph, qkv.matmul, kDecode, DType::kBf16));
  const MatmulGraph gate_up = MakeGraph({.prologue = "rms_norm",
                                         .epilogue = "silu_mul",
                                         .k = 3072,
                                         .columns = {8192, 8192},
                                         .out = DType::kBf16});
  ExpectGolden("cuda_matmul_gate_up_prefill.cu",
               OwnText(gate_up.graph, gate_up.matmul, kPrefill, DType::kBf16));
}

TEST(CudaGolden, AttentionIsAsReviewed) {
  const AttentionCase c{.target = ParseTarget("sm_90a"),
                        .kv_heads = 8,
                        .group = 3,
                        .head_dim = 128,
                        .query = DType::kBf16,
                        .cache = DType::kBf16,
                        .result = DType::kBf16};
  ExpectGolden("cuda_attention_decode.cu", OwnText(c.Graph(), AttentionCase::kNode, kDecode, DType::kF32));
  ExpectGolden("cuda_attention_prefill.cu", OwnText(c.Graph(), AttentionCase::kNode, kPrefill, DType::kF32));
}

}  // namespace
}  // namespace preheat::codegen::cuda
