// What is done to attention: one product for q, k and v, split decode, narrow caches.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "passes/fuse_qkv.h"
#include "passes/fuse_residual.h"
#include "passes/graphs_for_test.h"
#include "passes/linear_to_matmul.h"
#include "passes/narrow_activations.h"
#include "passes/specialize_decode.h"
#include "passes/split_attention.h"

namespace preheat::passes {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

TEST(FuseQkv, JoinsProductsRotationAndAppend) {
  const Graph graph = Checked(LinearToMatmul(Layer(SelfAttention(kProject))), FuseQkv);
  EXPECT_EQ(Count(graph, Op::kMatmul), 3);
  EXPECT_EQ(Count(graph, Op::kRotary), 0);
  EXPECT_EQ(Count(graph, Op::kAppend), 0);
  EXPECT_EQ(Count(graph, Op::kAppendedCache), 1);
  EXPECT_THAT(ir::Print(graph),
              HasSubstr("epilogue = \"rotary_append\", head_dim = 2, math = \"f32\", parts = 3"));
}

TEST(FuseQkv, LeavesWhatDoesNotFit) {
  const std::string bodies[] = {
      // k's product, or its rotation, is read by another node too.
      SelfAttention("  %31 = linear(%22, %11) : f32[n, 4]\n  %50 = add(%30, %31) : f32[n, 4]\n"),
      SelfAttention("  %31 = linear(%23, %11) : f32[n, 4]\n  %50 = add(%30, %31) : f32[n, 4]\n"),
      SelfAttention("  %31 = add(%20, %30) : f32[n, 4]\n  %50 = linear(%31, %10) : f32[n, 4]\n"),
      // v reads another input; the first reads the embedding of this round twice.
      SelfAttention(kProject, "%2"),
  };
  for (std::string body : bodies) {
    // [2, 4] as [out, in] fits k; the other way round is a weight of its own.
    for (size_t at; (at = body.find("%22, %11")) != std::string::npos ||
                    (at = body.find("%23, %11")) != std::string::npos;) {
      body.replace(at + 5, 3, "%13");
      body.insert(0, "\n  %13 = weight {name = \"{}.w\"} : bf16[4, 2]");
    }
    EXPECT_EQ(Count(Checked(LinearToMatmul(Layer(body)), FuseQkv), Op::kAppend), 1) << body;
  }
}

TEST(FuseQkv, AQueryWithTwoReadersIsFine) {
  const Graph graph =
      Checked(LinearToMatmul(Layer(SelfAttention("  %50 = add(%30, %21) : f32[n, 4]\n"))), FuseQkv);
  EXPECT_EQ(Count(graph, Op::kAppendedCache), 1);
}

Graph Decode(const std::string& body) {
  return FuseResidual(FuseQkv(LinearToMatmul(SpecializeDecode(Layer(body)))));
}

TEST(SpecializeDecode, OneRowEverywhereAndNoLastRow) {
  Graph before = Layer(SelfAttention(kProject));
  const Graph graph = SpecializeDecode(before);
  ir::Verify(graph);
  EXPECT_THAT(ir::Print(graph), Not(HasSubstr("[n, ")));
  EXPECT_THAT(ir::Print(graph), HasSubstr("past+n"));
  std::string text = ir::Print(before);
  const size_t at = text.find("block \"head\"");
  text.resize(at);
  const auto yield = before.blocks[1].yield;
  text += fmt::format(
      "block \"head\"\n  %{0} = last_row(%{1}) : f32[1, 4]\n  %{2} = linear(%{0}, %1) : f32[1, 5]\nlogits "
      "%{2}\n",
      yield + 1, yield, yield + 2);
  EXPECT_EQ(Count(SpecializeDecode(ir::Parse(text, "test")), Op::kLastRow), 0);
}

TEST(SplitAttention, SplitsForAPlainProduct) {
  const Graph before = Decode(SelfAttention(kProject));
  const Graph graph = SplitAttention(before, 2);
  ir::Verify(graph);
  EXPECT_EQ(Count(graph, Op::kAttention), 0);
  EXPECT_THAT(ir::Print(graph), HasSubstr("prologue = \"merge\""));
  EXPECT_EQ(SplitAttention(graph, 2), graph);
  const auto expected = Meaning(before), found = Meaning(graph);
  ASSERT_EQ(expected.size(), found.size());
  for (size_t i = 0; i < found.size(); ++i)
    EXPECT_NEAR(found[i], expected[i], 1e-4 * (1 + std::fabs(expected[i])));
}

TEST(SplitAttention, LeavesPromptsOtherReadersAndResiduals) {
  const Graph prompt = FuseQkv(LinearToMatmul(Layer(SelfAttention(kProject))));
  EXPECT_EQ(SplitAttention(prompt, 2), prompt);
  for (const char* extra : {"  %31 = linear(%30, %10) : f32[n, 4]\n  %50 = mul(%31, %30) : f32[n, 4]\n",
                            "  %31 = linear(%30, %10) : f32[n, 4]\n  %50 = add(%31, %30) : f32[n, 4]\n",
                            "  %50 = silu(%30) : f32[n, 4]\n"}) {
    const Graph before = Decode(SelfAttention(extra));
    EXPECT_EQ(SplitAttention(before, 2), before) << extra;
  }
}

TEST(NarrowActivations, NarrowsFactorsAndCacheButNotTheResidual) {
  const Graph graph = NarrowActivations(FuseResidual(FuseQkv(LinearToMatmul(
      Layer(SelfAttention("  %31 = linear(%30, %10) : f32[n, 4]\n  %50 = add(%31, %3) : f32[n, 4]\n"))))));
  ir::Verify(graph);
  const std::string text = ir::Print(graph);
  EXPECT_THAT(LineOf(graph, "attention"), HasSubstr(": bf16[n, 4]"));
  EXPECT_THAT(text, HasSubstr("kv_cache : bf16"));
  EXPECT_THAT(text, Not(HasSubstr("math = \"f32\"")));
  EXPECT_EQ(graph[graph.blocks[1].yield].type.dtype, tensor::DType::kF32);
  EXPECT_EQ(graph[graph.logits].type.dtype, tensor::DType::kF32);
  Meaning(graph);
  EXPECT_EQ(NarrowActivations(graph), graph);
}

TEST(NarrowActivations, LeavesFinerWeightsAlone) {
  Graph graph = LinearToMatmul(Layer(SelfAttention(kProject)));
  for (ir::Node& node : graph.nodes) {
    if (node.op == Op::kWeight && node.Text("name") == "{}.v") node.type.dtype = tensor::DType::kF16;
  }
  EXPECT_EQ(NarrowActivations(graph), graph);
}

}  // namespace
}  // namespace preheat::passes
