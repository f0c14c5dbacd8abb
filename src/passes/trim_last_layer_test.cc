#include "passes/trim_last_layer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "passes/fuse_qkv.h"
#include "passes/fuse_residual.h"
#include "passes/graphs_for_test.h"
#include "passes/linear_to_matmul.h"
#include "passes/narrow_activations.h"

namespace preheat::passes {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

constexpr char kAddToCarry[] = "  %31 = linear(%30, %10) : f32[n, 4]\n  %50 = add(%31, %3) : f32[n, 4]\n";

std::string Replaced(std::string text, std::string_view from, std::string_view to) {
  const size_t at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  return text.replace(at, from.size(), to);
}

// The graph whose layer is this, with a head for the last row, made of `head`: %60 is what the layers yield.
Graph WithHead(const std::string& body, std::string head = "") {
  const Graph layers = Layer(body);
  std::string text = ir::Print(layers);
  text.resize(text.find("block \"head\""));
  const std::string yield = std::to_string(layers.blocks[1].yield);
  const auto number = [&](int i) { return std::to_string(layers.blocks[1].yield + i); };
  if (head.empty()) head = "  %61 = last_row(%60) : f32[1, 4]\n  %62 = linear(%61, %1) : f32[1, 5]\n";
  for (const auto& [from, to] :
       {std::pair{"%60", yield}, {"%61", number(1)}, {"%62", number(2)}, {"%63", number(3)}}) {
    for (size_t at; (at = head.find(from)) != std::string::npos;) head.replace(at, 3, "%" + to);
  }
  const std::string last =
      head.substr(head.rfind("  %") + 2, head.find(" =", head.rfind("  %")) - head.rfind("  %") - 2);
  return ir::Parse(text + "block \"head\"\n" + head + "logits " + last + "\n", "test");
}

TEST(TrimLastLayer, LeavesKeysAndValuesToAllRowsAndTheRestToTheLast) {
  const Graph before = WithHead(SelfAttention(kAddToCarry));
  const Graph graph = Checked(before, TrimLastLayer);
  ASSERT_EQ(graph.blocks.size(), 4u);
  EXPECT_EQ(graph.blocks[1].repeat, 1);
  EXPECT_EQ(graph.blocks[2].repeat, 1);
  EXPECT_EQ(graph.blocks[2].first, 1);
  EXPECT_EQ(graph.blocks[2].carried, graph.blocks[1].yield);
  const std::string text = ir::Print(graph);
  const std::string last = text.substr(text.find("block \"last_layer\" repeat 1 from 1 carry"));
  EXPECT_THAT(last, HasSubstr("attention"));
  EXPECT_THAT(LineOf(ir::Parse(text, "test"), "append"), HasSubstr("past+n"));
  for (const char* line : {" : f32[1, 4]\n", "last_row("}) EXPECT_THAT(last, HasSubstr(line));
  // Of the query, and of what is added to: both where all rows meet their last.
  EXPECT_EQ(Count(graph, Op::kLastRow), 2);
  EXPECT_EQ(graph[graph.blocks[2].yield].type.shape[0], ir::Dim::Of(1));
  EXPECT_EQ(ir::Print(ir::Parse(text, "test")), text);
}

TEST(TrimLastLayer, OfRegionsToo) {
  const Graph before = FuseResidual(FuseQkv(LinearToMatmul(WithHead(SelfAttention(kAddToCarry)))));
  const Graph graph = Checked(before, TrimLastLayer);
  EXPECT_EQ(Count(graph, Op::kMatmul), 5);  // two a layer, and the head
  const Graph narrow = NarrowActivations(graph);
  ir::Verify(narrow);
  EXPECT_THAT(LineOf(narrow, "last_row"), HasSubstr("bf16[1, 4]"))
      << "a query is rounded before its row is taken";
}

TEST(TrimLastLayer, AModelOfOneLayerHasNoOther) {
  const std::string two = ir::Print(WithHead(SelfAttention(kAddToCarry)));
  const Graph graph = Checked(ir::Parse(Replaced(two, "repeat 2", "repeat 1"), "test"), TrimLastLayer);
  EXPECT_EQ(graph.blocks.size(), 3u);
  EXPECT_EQ(graph[graph.blocks[1].yield].type.shape[0], ir::Dim::Of(1));
}

TEST(TrimLastLayer, LeavesWhatNeedsAllRows) {
  const std::string body = SelfAttention(kAddToCarry);
  const Graph graphs[] = {
      Layer(body),  // asks for the logits of all rows
      // Two readers; a probe is shown all rows.
      WithHead(body,
               "  %61 = last_row(%60) : f32[1, 4]\n  %62 = last_row(%60) : f32[1, 4]\n  %63 = add(%61, %62) "
               ": f32[1, 4]\n"),
      WithHead(SelfAttention("  %31 = linear(%30, %10) : f32[n, 4]\n  %50 = probe(%31) : f32[n, 4]\n")),
      // Nothing stands between what all rows need and the result.
      WithHead(SelfAttention("  %50 = rotary(%30) {head_dim = 2} : f32[n, 4]\n")),
  };
  for (const Graph& graph : graphs) EXPECT_EQ(TrimLastLayer(graph), graph) << ir::Print(graph);
}

}  // namespace
}  // namespace preheat::passes
