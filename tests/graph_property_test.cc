// Random small Llamas: every pass keeps what the graph means, every text reads back. And the golden texts of
// one model's graphs, captured and after passes, in testdata/ir; PREHEAT_UPDATE_GOLDENS=1 writes them anew.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <fstream>
#include <random>
#include <sstream>

#include "capture/llama.h"
#include "ir/interpreter.h"
#include "ir/printer.h"
#include "ir/random_weights.h"
#include "passes/pipeline.h"

namespace preheat {
namespace {

using capture::CaptureLlama;
using capture::CaptureOptions;
using checkpoint::ModelConfig;
using ir::Graph;
using passes::Math;
using passes::StepKind;
using program::LogitRows;

ModelConfig RandomConfig(std::mt19937_64& random) {
  const auto pick = [&](int64_t least, int64_t most) {
    return std::uniform_int_distribution<int64_t>(least, most)(random);
  };
  ModelConfig config;
  config.hidden_size = pick(1, 40);
  config.intermediate_size = pick(1, 50);
  config.num_hidden_layers = pick(1, 3);
  config.num_key_value_heads = pick(1, 3);
  config.num_attention_heads = config.num_key_value_heads * pick(1, 4);
  config.head_dim = 2 * pick(1, 9);
  config.vocab_size = pick(2, 70);
  config.rms_norm_eps = pick(0, 1) ? 1e-5 : 1e-6;
  config.tie_word_embeddings = pick(0, 1) == 1;
  config.attention_bias = pick(0, 1) == 1;
  config.mlp_bias = pick(0, 1) == 1;
  if (pick(0, 1)) {
    config.rope = {.kind = checkpoint::RopeKind::kLlama3,
                   .theta = 500000,
                   .factor = 8,
                   .low_freq_factor = 1,
                   .high_freq_factor = 4,
                   .original_max_position_embeddings = 16};
  }
  return config;
}

// Logits of a conversation: a prompt, a second chunk where the graph takes one, and single tokens.
std::vector<float> LogitsOf(const Graph& graph, uint64_t seed) {
  std::mt19937_64 random(seed);
  ir::RandomWeights weights(graph, seed);
  const bool one_row = graph[0].type.shape[0] == ir::Dim::Of(1);
  int64_t vocab = 0;
  for (const ir::Node& node : graph.nodes) {
    if (node.op == ir::Op::kWeight && node.Text("name") == "model.embed_tokens.weight")
      vocab = node.type.shape[0].size;
  }
  ir::KvState cache;
  std::vector<float> logits;
  const std::vector<size_t> sizes =
      one_row ? std::vector<size_t>(9, 1) : std::vector<size_t>{1 + random() % 9, 1 + random() % 5, 1, 1};
  for (size_t size : sizes) {
    std::vector<int32_t> ids(size);
    for (int32_t& id : ids) id = static_cast<int32_t>(random() % static_cast<uint64_t>(vocab));
    const ir::StepResult step = ir::Interpret(graph, weights.Provider(), ids, cache);
    logits.insert(logits.end(), step.logits.begin(), step.logits.end());
  }
  return logits;
}

double RelativeRms(const std::vector<float>& found, const std::vector<float>& expected) {
  EXPECT_EQ(found.size(), expected.size());
  double error = 0, size = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    error += std::pow(static_cast<double>(found[i]) - expected[i], 2);
    size += std::pow(static_cast<double>(expected[i]), 2);
  }
  return std::sqrt(error / size);
}

class PassesOnRandomModels : public ::testing::TestWithParam<StepKind> {};

TEST_P(PassesOnRandomModels, EachKeepsTheMeaning) {
  for (uint64_t seed = 0; seed < 60; ++seed) {
    SCOPED_TRACE(fmt::format("seed {}", seed));
    std::mt19937_64 random(seed);
    const ModelConfig config = RandomConfig(random);
    const CaptureOptions capture{.logit_rows = random() % 2 ? LogitRows::kLast : LogitRows::kAll,
                                 .weight_dtype = random() % 4 ? tensor::DType::kBf16 : tensor::DType::kF32,
                                 .probe_layers = random() % 8 == 0};
    const Graph captured = CaptureLlama(config, capture);
    ASSERT_EQ(ir::Parse(ir::Print(captured), "captured"), captured);

    passes::PipelineOptions options{
        .kind = GetParam(), .math = Math::kBf16, .split_block = 1 + static_cast<int64_t>(random() % 5)};
    std::vector<float> expected;
    options.dump = [&](std::string_view pass, std::string_view before, std::string_view after) {
      SCOPED_TRACE(pass);
      // The texts must mean what the graphs do: they are what --dump shows.
      const Graph graph = ir::Parse(after, "after");
      if (pass == "drop_dead") return;
      if (expected.empty() || pass == "linear_to_matmul")
        expected = LogitsOf(ir::Parse(before, "before"), seed);
      const std::vector<float> found = LogitsOf(graph, seed);
      if (pass == "specialize_decode") {
        expected = found;  // compared with the prompt's graph below
      } else if (pass == "split_attention") {
        // Partial sums are rounded to fp32 once more: 2^-24 of the value, grown by a factor of at most some
        // hundreds on its way through these few layers.
        EXPECT_LE(RelativeRms(found, expected), 300 * 0x1p-24);
        expected = found;
      } else if (pass == "narrow_activations") {
        // About eight roundings a layer, each 2^-9 of its value at most; a softmax makes of a relative error
        // in its scores an absolute one, so it grows by their size, which stays below 4 in the mean for these
        // weights. That real models are closer is the goldens' matter.
        const double bound = 4 * 8.0 * static_cast<double>(config.num_hidden_layers + 1) * 0x1p-9;
        EXPECT_LE(RelativeRms(found, expected), bound);
      } else {
        EXPECT_EQ(found, expected);
      }
    };
    const Graph result = passes::RunPasses(captured, options);
    EXPECT_EQ(ir::Compact(result), result);
    for (const ir::Node& node : result.nodes) {
      EXPECT_NE(node.op, ir::Op::kLinear);
      EXPECT_NE(node.op, ir::Op::kAdd);
      EXPECT_NE(node.op, ir::Op::kAppend);
      EXPECT_NE(node.op, ir::Op::kSilu);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Steps, PassesOnRandomModels,
                         ::testing::Values(StepKind::kPrefill, StepKind::kDecode), [](const auto& step) {
                           return step.param == StepKind::kPrefill ? "prefill" : "decode";
                         });

TEST(SpecializedDecode, IsThePromptsGraphOneByOne) {
  for (uint64_t seed = 100; seed < 130; ++seed) {
    SCOPED_TRACE(fmt::format("seed {}", seed));
    std::mt19937_64 random(seed);
    const Graph prompt = CaptureLlama(RandomConfig(random), {});
    const Graph decode = passes::RunPasses(prompt, {.kind = StepKind::kDecode, .split_block = 1000});
    ir::RandomWeights weights(prompt, seed);
    ir::KvState one_by_one, whole;
    const std::vector<int32_t> ids = {1, 0, 1, 1, 0, 0, 1};
    ir::StepResult last;
    for (int32_t id : ids) last = ir::Interpret(decode, weights.Provider(), std::span(&id, 1), one_by_one);
    const ir::StepResult expected = ir::Interpret(prompt, weights.Provider(), ids, whole);
    EXPECT_LE(RelativeRms(last.logits, expected.logits), 300 * 0x1p-24);
    EXPECT_EQ(last.logits.size(), expected.logits.size());
  }
}

TEST(Capture, OnlyTheLastPositionGoesThroughTheHead) {
  std::mt19937_64 random(7);
  const ModelConfig config = RandomConfig(random);
  const Graph last = CaptureLlama(config, {.logit_rows = LogitRows::kLast});
  const Graph all = CaptureLlama(config, {.logit_rows = LogitRows::kAll});
  ir::RandomWeights weights(last, 7);
  ir::KvState a, b;
  const std::vector<int32_t> ids = {1, 0, 1};
  const auto one = ir::Interpret(last, weights.Provider(), ids, a);
  const auto rows = ir::Interpret(all, weights.Provider(), ids, b);
  EXPECT_EQ(one.logit_rows, 1);
  EXPECT_EQ(rows.logit_rows, 3);
  EXPECT_TRUE(one.token.has_value());
  EXPECT_FALSE(rows.token.has_value());
  EXPECT_EQ(one.logits, std::vector<float>(rows.logits.end() - rows.vocab, rows.logits.end()));
}

// ---- Golden texts ----

void ExpectGolden(const std::string& name, const std::string& text) {
  const std::string path = std::string(PREHEAT_TESTDATA) + "/ir/" + name;
  if (std::getenv("PREHEAT_UPDATE_GOLDENS") != nullptr) std::ofstream(path) << text;
  std::stringstream expected;
  expected << std::ifstream(path).rdbuf();
  EXPECT_EQ(text, expected.str())
      << path << " differs; if that is meant: PREHEAT_UPDATE_GOLDENS=1 graph_property_test";
}

ModelConfig SmallConfig() {
  ModelConfig config;
  config.hidden_size = 24;
  config.intermediate_size = 40;
  config.num_hidden_layers = 2;
  config.num_attention_heads = 6;
  config.num_key_value_heads = 2;
  config.head_dim = 8;
  config.vocab_size = 100;
  config.rms_norm_eps = 1e-5;
  config.tie_word_embeddings = true;
  return config;
}

TEST(GoldenText, CapturedStep) {
  ExpectGolden("captured.txt", ir::Print(CaptureLlama(SmallConfig(), {})));
}

TEST(GoldenText, CapturedStepWithBiasesProbesAndAllLogits) {
  ModelConfig config = SmallConfig();
  config.attention_bias = config.mlp_bias = true;
  config.tie_word_embeddings = false;
  ExpectGolden("captured_bias_probes_all.txt",
               ir::Print(CaptureLlama(config, {.logit_rows = LogitRows::kAll,
                                               .weight_dtype = tensor::DType::kF32,
                                               .probe_layers = true})));
}

TEST(GoldenText, Prefill) {
  ExpectGolden("prefill_f32.txt", ir::Print(passes::RunPasses(CaptureLlama(SmallConfig(), {}), {})));
  ExpectGolden("prefill_bf16.txt",
               ir::Print(passes::RunPasses(CaptureLlama(SmallConfig(), {}), {.math = Math::kBf16})));
}

TEST(GoldenText, Decode) {
  ExpectGolden("decode_bf16.txt", ir::Print(passes::RunPasses(
                                      CaptureLlama(SmallConfig(), {}),
                                      {.kind = StepKind::kDecode, .math = Math::kBf16, .split_block = 64})));
}

}  // namespace
}  // namespace preheat
