#include "ir/interpreter.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "ir/printer.h"
#include "ir/random_weights.h"
#include "ir/reference_math.h"

namespace preheat::ir {
namespace {

using base::Error;
using base::ErrorKind;
using tensor::DType;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

Matrix Rows(int64_t width, std::vector<float> data) {
  Matrix matrix(static_cast<int64_t>(data.size()) / width, width);
  matrix.data = std::move(data);
  return matrix;
}

struct Stored {
  std::vector<float> values;
  tensor::TensorView View(tensor::Shape shape) const {
    return {DType::kF32, std::move(shape), std::as_bytes(std::span(values))};
  }
};

TEST(ReferenceMath, NormDividesByTheRootOfTheMeanSquare) {
  const Stored weight{{1, 2}};
  // mean of squares 12.5, eps 12.5: divided by 5.
  EXPECT_THAT(RmsNorm(Rows(2, {3, 4}), weight.View({2}), 12.5).data, ElementsAre(0.6f, 1.6f));
}

TEST(ReferenceMath, LinearTakesWeightsAsRowsOfOutputs) {
  const Stored weight{{1, 2, 3, 4, 5, 6}}, bias{{10, 20, 30}};
  const auto view = bias.View({3});
  EXPECT_THAT(Linear(Rows(2, {1, 1, 0, 2}), weight.View({3, 2}), &view).data,
              ElementsAre(13, 27, 41, 14, 28, 42));
  EXPECT_THAT(Linear(Rows(2, {1, 1}), weight.View({3, 2}), nullptr).data, ElementsAre(3, 7, 11));
}

TEST(ReferenceMath, LinearSumsEveryLengthWhole) {
  for (int64_t width : {1, 7, 8, 9, 31}) {
    const Stored ones{std::vector<float>(static_cast<size_t>(width), 1)};
    std::vector<float> numbers;
    for (int64_t i = 1; i <= width; ++i) numbers.push_back(static_cast<float>(i));
    EXPECT_THAT(Linear(Rows(width, numbers), ones.View({1, width}), nullptr).data,
                ElementsAre(static_cast<float>(width * (width + 1) / 2)));
  }
}

TEST(ReferenceMath, RotaryTurnsTheHalvesOfEachHeadByThePosition) {
  const Rotary rotary{{1.0f, 0.5f}, 2.0f};
  const Matrix y = Rotate(Rows(4, {1, 1, 0, 0, 0, 0, 1, 1}), rotary, 4, /*past=*/3);
  EXPECT_THAT(y.data,
              ElementsAre(static_cast<float>(2 * std::cos(3.0)), static_cast<float>(2 * std::cos(1.5)),
                          static_cast<float>(2 * std::sin(3.0)), static_cast<float>(2 * std::sin(1.5)),
                          static_cast<float>(-2 * std::sin(4.0)), static_cast<float>(-2 * std::sin(2.0)),
                          static_cast<float>(2 * std::cos(4.0)), static_cast<float>(2 * std::cos(2.0))));
}

TEST(ReferenceMath, AttentionIsCausalAndGroupsHeads) {
  // One kv head of width 1 for two heads. Row 0 at position 1 sees positions 0, 1; row 1 sees all three.
  const std::vector<float> keys = {0, 0, 0}, values = {1, 3, 8};
  const Matrix y = Attention(Rows(2, {5, 7, 5, 7}), keys, values,
                             {.heads = 2, .kv_heads = 1, .head_dim = 1, .scale = 1}, 1);
  EXPECT_THAT(y.data, ElementsAre(2, 2, 4, 4));
  // Two kv heads: each head has its own values. Scores far apart pick one position.
  const std::vector<float> sharp = {0, 100, 100, 0}, pairs = {1, 2, 3, 4};
  const Matrix z =
      Attention(Rows(2, {1, 1}), sharp, pairs, {.heads = 2, .kv_heads = 2, .head_dim = 1, .scale = 1}, 1);
  EXPECT_THAT(z.data, ElementsAre(3, 2));
}

TEST(ReferenceMath, MergedSplitsAreAttention) {
  const AttentionShape shape{.heads = 4, .kv_heads = 2, .head_dim = 6, .scale = 0.4};
  std::mt19937 random(3);
  std::normal_distribution<float> normal;
  for (int64_t positions : {1, 7, 8, 9, 25}) {
    std::vector<float> keys(static_cast<size_t>(positions * 12)), values(keys.size());
    Matrix q(1, 24);
    for (auto* numbers : {&keys, &values, &q.data}) {
      for (float& number : *numbers) number = 2 * normal(random);
    }
    const Matrix whole = Attention(q, keys, values, shape, positions - 1);
    const Matrix merged = MergeSplits(SplitAttention(q, keys, values, shape, positions - 1, 8), 4);
    // Each partial sum, maximum and denominator is rounded once: a relative 2^-24 each, of terms that sum to
    // at most max|v| = about 8; a score of 20 rounds by 20 * 2^-24.
    for (size_t i = 0; i < 24; ++i) EXPECT_NEAR(merged.data[i], whole.data[i], 8 * 24 * 0x1p-24) << positions;
  }
}

TEST(ReferenceMath, SiluAndRounding) {
  EXPECT_THAT(Silu(Rows(3, {0, 200, -200})).data, ElementsAre(0, 200, testing::FloatNear(0, 1e-30f)));
  std::vector<float> values = {1 + 0x1p-8f, 1 + 3 * 0x1p-8f, 1 + 0x1p-11f};
  RoundTo(DType::kBf16, values);
  EXPECT_THAT(values, ElementsAre(1, 1 + 0x1p-6f, 1));
}

const char kModel[] = R"(graph "step"
rotary scale 1 inv_freq 1 0.1
block "embed"
  %0 = ids : i32[n]
  %1 = weight {name = "table"} : bf16[7, 6]
  %2 = embedding(%0, %1) : f32[n, 6]
block "layers" repeat 3 carry %2
  %3 = carry : f32[n, 6]
  %4 = weight {name = "{}.q"} : bf16[8, 6]
  %5 = linear(%3, %4) : f32[n, 8]
  %6 = rotary(%5) {head_dim = 4} : f32[n, 8]
  %7 = weight {name = "{}.k"} : bf16[4, 6]
  %8 = linear(%3, %7) : f32[n, 4]
  %9 = rotary(%8) {head_dim = 4} : f32[n, 4]
  %10 = kv_cache : f32[2, past, 1, 4]
  %11 = append(%10, %9, %8) : f32[2, past+n, 1, 4]
  %12 = attention(%6, %11) {head_dim = 4, heads = 2, kv_heads = 1, scale = 0.5} : f32[n, 8]
  %13 = weight {name = "{}.o"} : bf16[6, 8]
  %14 = linear(%12, %13) : f32[n, 6]
  %15 = add(%14, %3) : f32[n, 6]
  %16 = probe(%15) : f32[n, 6]
  yield %16
block "head"
  %17 = linear(%16, %1) : f32[n, 7]
logits %17
)";

TEST(Interpret, StepsGiveWhatOnePrefillGives) {
  const Graph graph = Parse(kModel, "g.txt");
  RandomWeights weights(graph, 5);
  const std::vector<int32_t> ids = {3, 1, 4, 1, 5, 6, 2};
  KvState whole;
  const StepResult expected = Interpret(graph, weights.Provider(), ids, whole);
  ASSERT_EQ(expected.logit_rows, 7);
  for (const std::vector<size_t>& chunks : {std::vector<size_t>{1, 1, 1, 1, 1, 1, 1}, {4, 3}, {2, 1, 4}}) {
    KvState cache;
    std::vector<float> logits;
    size_t begin = 0;
    for (size_t chunk : chunks) {
      const auto part = Interpret(graph, weights.Provider(), std::span(ids).subspan(begin, chunk), cache);
      logits.insert(logits.end(), part.logits.begin(), part.logits.end());
      begin += chunk;
      EXPECT_EQ(cache.positions, static_cast<int64_t>(begin));
    }
    EXPECT_EQ(logits, expected.logits);
    EXPECT_EQ(cache.layers[2].keys, whole.layers[2].keys);
  }
}

TEST(Interpret, GoingBackOverwritesTheCache) {
  const Graph graph = Parse(kModel, "g.txt");
  RandomWeights weights(graph, 5);
  KvState cache, fresh;
  Interpret(graph, weights.Provider(), std::vector<int32_t>{1, 2, 3}, cache);
  cache.positions = 1;
  const auto again = Interpret(graph, weights.Provider(), std::vector<int32_t>{6}, cache);
  Interpret(graph, weights.Provider(), std::vector<int32_t>{1}, fresh);
  EXPECT_EQ(again.logits, Interpret(graph, weights.Provider(), std::vector<int32_t>{6}, fresh).logits);
}

TEST(Interpret, ProbeShowsEachLayer) {
  const Graph graph = Parse(kModel, "g.txt");
  RandomWeights weights(graph, 5);
  std::vector<int64_t> layers;
  const StepOptions options{.probe = [&](const ProbeRows& probe) {
    layers.push_back(probe.layer);
    EXPECT_EQ(probe.width, 6);
    EXPECT_EQ(probe.rows.size(), 12u);
    EXPECT_EQ(probe.node, 16);
  }};
  KvState cache;
  Interpret(graph, weights.Provider(), std::vector<int32_t>{1, 2}, cache, options);
  EXPECT_THAT(layers, ElementsAre(0, 1, 2));
}

TEST(Interpret, SampleReadsAndWritesTheState) {
  std::string text = kModel;
  text.replace(
      text.find("%17 = "), std::string::npos,
      "%17 = last_row(%16) : f32[1, 6]\n  %18 = linear(%17, %1) : f32[1, 7]\n  %19 = sample(%18) : i32[1]\n"
      "logits %18\ntoken %19\n");
  const Graph graph = Parse(text, "g.txt");
  RandomWeights weights(graph, 5);
  KvState cache;
  ph_state state{};
  const auto greedy =
      Interpret(graph, weights.Provider(), std::vector<int32_t>{1, 2}, cache, {.state = &state});
  const auto best = std::max_element(greedy.logits.begin(), greedy.logits.end()) - greedy.logits.begin();
  EXPECT_EQ(greedy.token, best);
  EXPECT_EQ(state.token, best);
  EXPECT_EQ(state.steps, 1);
  KvState again;
  state.banned_count = 1;
  state.banned[0] = static_cast<int32_t>(best);
  EXPECT_NE(Interpret(graph, weights.Provider(), std::vector<int32_t>{1, 2}, again, {.state = &state}).token,
            best);
}

TEST(Interpret, NarrowCacheRoundsWhatItStores) {
  std::string text = kModel;
  for (const char* at : {"kv_cache : f32", "append(%10, %9, %8) : f32"}) {
    text.replace(text.find(at) + std::string_view(at).size() - 3, 3, "bf16");
  }
  const Graph graph = Parse(text, "g.txt");
  RandomWeights weights(graph, 5);
  KvState cache;
  Interpret(graph, weights.Provider(), std::vector<int32_t>{1, 2}, cache);
  std::vector<float> rounded = cache.layers[1].values;
  RoundTo(DType::kBf16, rounded);
  EXPECT_EQ(rounded, cache.layers[1].values);
}

std::string MessageOf(const Graph& graph, const WeightProvider& weights, std::vector<int32_t> ids,
                      ErrorKind kind) {
  KvState cache;
  try {
    Interpret(graph, weights, ids, cache);
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), kind);
    return error.message();
  }
  return "no error";
}

TEST(Interpret, RefusesIdsThatItCannotTake) {
  const Graph graph = Parse(kModel, "g.txt");
  RandomWeights weights(graph, 5);
  const auto message = [&](std::vector<int32_t> ids) {
    return MessageOf(graph, weights.Provider(), std::move(ids), ErrorKind::kInvalidArgument);
  };
  EXPECT_THAT(message({}), HasSubstr("no token ids"));
  EXPECT_THAT(message({1, 7}), HasSubstr("token id 7: the vocabulary has 7 tokens"));
  EXPECT_THAT(message({-1}), HasSubstr("token id -1"));
}

TEST(Interpret, RefusesAWeightOfAnotherTypeOrShape) {
  const Graph graph = Parse(kModel, "g.txt");
  const Stored other{std::vector<float>(42)};
  const auto provider = [&](std::string_view, int64_t) { return other.View({7, 6}); };
  EXPECT_THAT(MessageOf(graph, provider, {1}, ErrorKind::kCorrupt),
              HasSubstr("weight table: found f32 [7, 6]: the graph was made for bf16[7, 6]"));
}

TEST(BindLayer, PutsTheLayerIntoTheName) {
  EXPECT_EQ(BindLayer("model.layers.{}.x", 12), "model.layers.12.x");
  EXPECT_EQ(BindLayer("model.norm", -1), "model.norm");
}

}  // namespace
}  // namespace preheat::ir
