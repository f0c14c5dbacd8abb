#include "ir/graph.h"

#include <gtest/gtest.h>

namespace preheat::ir {
namespace {

using tensor::DType;

Type Rows(int64_t width) {
  return {DType::kF32, {Dim::Rows(), Dim::Of(width)}};
}

// ids, table -> embedding -> silu, and a dead silu.
Graph Small() {
  Graph graph;
  graph.blocks.push_back({.name = "all"});
  const NodeId ids = graph.Add({Op::kIds, {}, {}, {DType::kI32, {Dim::Rows()}}});
  const NodeId table =
      graph.Add({Op::kWeight, {}, {{"name", std::string("t")}}, {DType::kBf16, {Dim::Of(9), Dim::Of(4)}}});
  const NodeId embedding = graph.Add({Op::kEmbedding, {ids, table}, {}, Rows(4)});
  graph.Add({Op::kSilu, {embedding}, {}, Rows(4)});
  graph.logits = graph.Add({Op::kMul, {embedding, embedding}, {}, Rows(4)});
  return graph;
}

TEST(Graph, InfoSpeaksOpsDef) {
  EXPECT_EQ(Info(Op::kIds).text, "ids");
  EXPECT_EQ(Info(Op::kSplitAttention).text, "split_attention");
  EXPECT_EQ(Info(Op::kLinear).min_inputs, 2);
  EXPECT_EQ(Info(Op::kLinear).max_inputs, 3);
}

TEST(Graph, UsersAreNamedOnceAndInOrder) {
  const Graph graph = Small();
  EXPECT_EQ(Users(graph, 2), (std::vector<NodeId>{3, 4}));
  EXPECT_TRUE(Users(graph, 4).empty());
}

TEST(Graph, ResultsAreLogitsTokenYieldAndCarried) {
  Graph graph = Small();
  graph.blocks.push_back({.name = "layers", .repeat = 2, .carried = 2, .nodes = {}, .yield = 2});
  EXPECT_TRUE(IsResult(graph, 4));
  EXPECT_TRUE(IsResult(graph, 2));
  EXPECT_FALSE(IsResult(graph, 3));
  EXPECT_FALSE(IsResult(graph, kNoNode));
}

TEST(Graph, CompactDropsWhatNothingNeeds) {
  Graph graph = Small();
  graph.blocks.push_back({.name = "empty"});
  const Graph compact = Compact(graph);
  ASSERT_EQ(compact.nodes.size(), 4u);
  ASSERT_EQ(compact.blocks.size(), 1u);
  EXPECT_EQ(compact[3].op, Op::kMul);
  EXPECT_EQ(compact.logits, 3);
  EXPECT_EQ(compact.token, kNoNode);
  EXPECT_EQ(Compact(compact), compact);
}

TEST(Graph, CompactKeepsEffects) {
  Graph graph = Small();
  graph.Add({Op::kProbe, {3}, {}, Rows(4)});
  EXPECT_EQ(Compact(graph).nodes.size(), 6u);
}

}  // namespace
}  // namespace preheat::ir
