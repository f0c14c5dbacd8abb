// The CUDA dialect's text as reviewed: the products and the attention of a 3B layer, a persistent step.
#include <gtest/gtest.h>

#include <string>

#include "codegen/attention_for_test.h"
#include "codegen/codegen.h"
#include "codegen/cuda/prelude.h"
#include "codegen/matmul_for_test.h"
#include "codegen/unit_for_test.h"
#include "ir/printer.h"

namespace preheat::codegen::cuda {
namespace {

constexpr StepShape kDecode{.rows = 1, .threads = 132}, kPrefill{.rows = 512, .threads = 132};

// What all units begin with is in machine.cc and prelude.cc.
std::string WithoutPrelude(const std::string& source, DType math) {
  const std::string prelude = CudaPrelude(ParseTarget("sm_90a"), math);
  EXPECT_TRUE(source.starts_with(prelude));
  return source.substr(prelude.size());
}

// A unit's own text, with the heuristic's schedule.
std::string OwnText(const ir::Graph& graph, ir::NodeId node, const StepShape& shape, DType math) {
  const Target target = ParseTarget("sm_90a");
  return WithoutPrelude(
      Generate(graph, node, target, shape, DefaultSchedule(graph, node, target, shape)).source, math);
}

// A decode step of two layers after passes.
constexpr char kStep[] = R"ir(graph "step"
rotary scale 1 inv_freq 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1
block "embed"
  %0 = ids : i32[1]
  %1 = weight {name = "embed"} : bf16[384, 512]
  %2 = embedding(%0, %1) : f32[1, 512]
block "layers" repeat 2 carry %2
  %3 = carry : f32[1, 512]
  %4 = weight {name = "{}.norm"} : bf16[512]
  %5 = weight {name = "{}.q"} : bf16[512, 512]
  %6 = weight {name = "{}.k"} : bf16[128, 512]
  %7 = weight {name = "{}.v"} : bf16[128, 512]
  %8 = kv_cache : bf16[2, past, 2, 64]
  %9 = matmul(%3, %4, %5, %6, %7, %8) {bias = 0, epilogue = "rotary_append", eps = 1e-05, head_dim = 64, math = "bf16", parts = 3, prologue = "rms_norm"} : bf16[1, 512]
  %10 = appended_cache(%9) : bf16[2, past+n, 2, 64]
  %11 = attention(%9, %10) {head_dim = 64, heads = 8, kv_heads = 2, scale = 0.125} : bf16[1, 512]
  %12 = weight {name = "{}.o"} : bf16[512, 512]
  %13 = matmul(%11, %12, %3) {bias = 0, epilogue = "add", math = "bf16", parts = 1, prologue = "none"} : f32[1, 512]
  %14 = weight {name = "{}.norm2"} : bf16[512]
  %15 = weight {name = "{}.gate"} : bf16[1024, 512]
  %16 = weight {name = "{}.up"} : bf16[1024, 512]
  %17 = matmul(%13, %14, %15, %16) {bias = 0, epilogue = "silu_mul", eps = 1e-05, math = "bf16", parts = 2, prologue = "rms_norm"} : bf16[1, 1024]
  %18 = weight {name = "{}.down"} : bf16[512, 1024]
  %19 = matmul(%17, %18, %13) {bias = 0, epilogue = "add", math = "bf16", parts = 1, prologue = "none"} : f32[1, 512]
  yield %19
block "head"
  %20 = weight {name = "norm"} : bf16[512]
  %21 = weight {name = "embed"} : bf16[384, 512]
  %22 = matmul(%19, %20, %21) {bias = 0, epilogue = "store", eps = 1e-05, math = "bf16", parts = 1, prologue = "rms_norm"} : f32[1, 384]
  %23 = sample(%22) : i32[1]
logits %22
token %23
)ir";

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

// Without the bodies of the products behind attention: they are the first one's, but for stage and epilogue.
std::string WithOneProductsBody(std::string source) {
  size_t link = source.find("namespace link3 {");
  while (link != std::string::npos) {
    const size_t body = source.find("namespace team {", link);
    const size_t end = source.find("}  // namespace link", link);
    if (end == std::string::npos || body > end) break;
    source.replace(body, end - body, "...\n");
    link = source.find("\nnamespace link", body);
  }
  return source;
}

TEST(CudaGolden, APersistentStepIsAsReviewed) {
  const Target target = ParseTarget("sm_90a");
  const ir::Graph graph = ir::Parse(kStep, "test");
  const std::vector<Schedule> schedules = PersistentSchedules(graph, target);
  ASSERT_FALSE(schedules.empty());
  const std::string source = GeneratePersistent(graph, target, schedules.front()).source;
  ExpectGolden("cuda_persistent_step.cu", WithOneProductsBody(WithoutPrelude(source, DType::kBf16)));
}

}  // namespace
}  // namespace preheat::codegen::cuda
