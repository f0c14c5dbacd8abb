// The passes that prepare a graph, and all in their order. That meaning is kept on whole random models is
// tests/graph_property_test.cc's matter.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "passes/drop_dead.h"
#include "passes/graphs_for_test.h"
#include "passes/linear_to_matmul.h"
#include "passes/pipeline.h"

namespace preheat::passes {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

TEST(LinearToMatmul, KeepsInputsAndBias) {
  const Graph graph = Checked(Layer(R"(
  %20 = linear(%3, %5, %8) : f32[n, 6]
  %50 = linear(%20, %7) : f32[n, 4]
)"),
                              LinearToMatmul);
  EXPECT_EQ(Count(graph, Op::kLinear), 0);
  EXPECT_THAT(LineOf(graph, "matmul(%3"), HasSubstr("bias = 1, epilogue = \"store\""));
}

TEST(DropDead, DropsWhatNothingReads) {
  const Graph graph = Checked(Layer(R"(
  %20 = linear(%3, %5) : f32[n, 6]
  %21 = silu(%20) : f32[n, 6]
  %50 = linear(%20, %7) : f32[n, 4]
)"),
                              DropDead);
  EXPECT_EQ(Count(graph, Op::kSilu), 0);
  EXPECT_THAT(ir::Print(graph), Not(HasSubstr("{}.b")));
}

TEST(Pipeline, NamesItsPassesAndDumpsEach) {
  std::vector<std::string> names;
  std::string last;
  PipelineOptions options{.kind = StepKind::kDecode, .math = Math::kBf16, .split_block = 4};
  options.dump = [&](std::string_view pass, std::string_view before, std::string_view after) {
    EXPECT_TRUE(last.empty() || before == last);
    last = after;
    names.emplace_back(pass);
  };
  const Graph graph = RunPasses(Layer(SelfAttention(kProject)), options);
  EXPECT_EQ(ir::Print(graph), last);
  EXPECT_THAT(names,
              ElementsAre("drop_dead", "specialize_decode", "linear_to_matmul", "fuse_qkv", "fuse_gate_up",
                          "fuse_residual", "fuse_norm", "split_attention", "narrow_activations"));
  EXPECT_THAT(PassNames({}), ElementsAre("drop_dead", "linear_to_matmul", "fuse_qkv", "fuse_gate_up",
                                         "fuse_residual", "fuse_norm", "trim_last_layer", "split_attention"));
}

TEST(Pipeline, RefusesAGraphThatDoesNotVerify) {
  Graph graph = Layer(SelfAttention(kProject));
  graph.logits = 1000;
  EXPECT_THROW(RunPasses(graph, {}), base::Error);
}

}  // namespace
}  // namespace preheat::passes
