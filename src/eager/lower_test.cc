// Lowering as text, and whole models: against the reference interpreter on awkward shapes, and against
// golden.
#include "eager/lower.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <iostream>
#include <random>

#include "base/error.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/rope.h"
#include "eager/kernel_table.h"
#include "eager/module_for_test.h"
#include "eager/runner_for_test.h"
#include "golden.h"
#include "ir/interpreter.h"
#include "tensor/tensor_view.h"

namespace preheat::eager {
namespace {

using tensor::DType;

std::string Text(const program::Program& program) {
  const auto operand = [&](const program::Operand& o) -> std::string {
    using Kind = program::Operand::Kind;
    switch (o.kind) {
      case Kind::kWeight:
        return program.weights[static_cast<size_t>(o.index)].name;
      case Kind::kBuffer: {
        const auto& buffer = program.buffers[static_cast<size_t>(o.index)];
        return fmt::format("{}@{}", buffer.name.substr(0, buffer.name.rfind('_')), buffer.slot);
      }
      case Kind::kKeyCache:
        return "keys";
      case Kind::kValueCache:
        return "values";
      case Kind::kRotary:
        return "table";
      case Kind::kIds:
        return "ids";
      case Kind::kState:
        return "state";
      case Kind::kLogits:
        return "logits";
        return "next weight";
    }
    return "";
  };
  std::string text;
  for (const program::Segment& segment : program.segments) {
    text += fmt::format("x{}\n", segment.repeat);
    for (const program::Launch& launch : segment.launches) {
      text += "  " + launch.entry;
      for (const program::Operand& o : launch.operands) {
        text += (o.access == program::Operand::Access::kRead ? " " : " >") + operand(o);
      }
      text += "\n";
    }
  }
  return text;
}

LlamaShape TinyShape(DType dtype) {
  LlamaShape shape = {
      .hidden = 33, .ffn = 47, .layers = 3, .heads = 6, .kv_heads = 2, .head_dim = 10, .vocab = 101};
  shape.dtype = dtype;
  shape.rotary.inv_freq = {1, 0.3f, 0.1f, 0.03f, 0.01f};
  return shape;
}

constexpr char kTinyProgram[] = R"(x1
  embedding >embedding@0 ids model.embed_tokens.weight
x3
  rms_norm >rms_norm@1 embedding@0 model.layers.{}.input_layernorm.weight
  linear >linear@2 rms_norm@1 model.layers.{}.self_attn.q_proj.weight
  linear >linear@3 rms_norm@1 model.layers.{}.self_attn.k_proj.weight
  linear >linear@4 rms_norm@1 model.layers.{}.self_attn.v_proj.weight
  rotary >rotary@1 linear@2 table
  rotary >rotary@2 linear@3 table
  append >keys >values rotary@2 linear@4
  attention >attention@2 rotary@1 keys values
  linear >linear@1 attention@2 model.layers.{}.self_attn.o_proj.weight
  add >add@2 embedding@0 linear@1
  rms_norm >rms_norm@1 add@2 model.layers.{}.post_attention_layernorm.weight
  linear >linear@3 rms_norm@1 model.layers.{}.mlp.gate_proj.weight
  linear >linear@4 rms_norm@1 model.layers.{}.mlp.up_proj.weight
  silu >silu@1 linear@3
  mul >mul@3 silu@1 linear@4
  linear >linear@1 mul@3 model.layers.{}.mlp.down_proj.weight
  add >embedding@0 add@2 linear@1
x1
  last_row >last_row@1 embedding@0
  rms_norm >rms_norm@2 last_row@1 model.norm.weight
  linear >logits rms_norm@2 model.embed_tokens.weight
  sample >state logits
)";

TEST(LowerEager, OneLaunchAnOperationAndTheResidualStaysInPlace) {
  const auto program = LowerEager(LlamaGraph(TinyShape(DType::kBf16)), {.name = "prefill_any"});
  EXPECT_EQ(Text(program), kTinyProgram);
  EXPECT_EQ(program.slots, 5);
  EXPECT_EQ(program.layers, 3);
  EXPECT_EQ(program.vocab_size, 101);
  EXPECT_EQ(program.logit_rows, program::LogitRows::kLast);
  EXPECT_EQ(program.weights.size(), 11u);  // the tied head is the embedding
  EXPECT_EQ(program.kv.name, "eager-f32");
}

TEST(LowerEager, Bf16ActivationsKeepTheResidualStreamAndLogitsInF32) {
  const auto program = LowerEager(LlamaGraph(TinyShape(DType::kBf16)),
                                  {.name = "decode", .max_rows = 1, .activations = DType::kBf16});
  EXPECT_EQ(program.max_rows, 1);
  EXPECT_EQ(program.kv.key_bytes.per_position, 2 * 10 * 2);
  for (const program::Buffer& buffer : program.buffers) {
    const bool residual = buffer.name.starts_with("embedding") || buffer.name.starts_with("add") ||
                          buffer.name.starts_with("last_row");
    const int64_t bytes = buffer.extent.per_row + buffer.extent.fixed;
    if (residual) {
      EXPECT_EQ(bytes, 33 * 4) << buffer.name;
    }
    if (buffer.name.starts_with("silu")) {
      EXPECT_EQ(bytes, 47 * 2);
    }
  }
}

TEST(LowerEager, ActivationTypeFollowsWeightsAndLibrary) {
  EXPECT_EQ(ActivationType(DType::kBf16, true), DType::kBf16);
  EXPECT_EQ(ActivationType(DType::kBf16, false), DType::kF32);
  EXPECT_EQ(ActivationType(DType::kF16, true), DType::kF32);
  EXPECT_EQ(ActivationType(DType::kF32, true), DType::kF32);
}

TEST(LowerEager, AYieldThatIsNoSumIsCopied) {
  LlamaShape shape = TinyShape(DType::kF32);
  shape.probe = true;
  const std::string text = Text(LowerEager(LlamaGraph(shape), {.name = "p"}));
  EXPECT_THAT(text, ::testing::HasSubstr("  copy >embedding@0 probe@"));
}

TEST(LowerEager, FusedOperationsAreUnsupported) {
  ir::Graph graph = LlamaGraph(TinyShape(DType::kF32));
  for (ir::Node& node : graph.nodes) {
    if (node.op == ir::Op::kSilu) node.op = ir::Op::kMatmul;
  }
  try {
    LowerEager(graph, {.name = "p"});
    FAIL();
  } catch (const base::Error& error) {
    EXPECT_EQ(error.kind(), base::ErrorKind::kUnsupported);
    EXPECT_THAT(error.message(), ::testing::HasSubstr("operation matmul"));
  }
}

TEST(LowerBreak, GivesALaunchWithTheProgramsOwnOperands) {
  LlamaShape shape = TinyShape(DType::kF32);
  shape.probe = true;
  const ir::Graph graph = LlamaGraph(shape);
  int breaks = 0;
  for (ir::NodeId id = 0; id < static_cast<int>(graph.nodes.size()); ++id) {
    const auto launch = LowerBreak(graph, id, kLibraryName, [](ir::NodeId node) {
      return Place{.operand = {program::Operand::Kind::kBuffer, node}, .dtype = DType::kF32, .stride = 48};
    });
    const ir::Op op = graph[id].op;
    if (op == ir::Op::kAppend || op == ir::Op::kAttention || op == ir::Op::kWeight) {
      EXPECT_FALSE(launch.has_value());
    }
    if (op != ir::Op::kProbe) continue;
    ++breaks;
    ASSERT_TRUE(launch.has_value());
    EXPECT_EQ(launch->code, "library:eager");
    EXPECT_EQ(launch->entry, "probe");
    ASSERT_EQ(launch->operands.size(), 2u);
    EXPECT_EQ(launch->operands[0].index, id);
    EXPECT_EQ(launch->operands[0].access, program::Operand::Access::kWrite);
    EXPECT_EQ(launch->operands[1].access, program::Operand::Access::kRead);
    EXPECT_EQ(launch->constants, (std::vector<int64_t>{0, 0, 33, 48, 0, 0, 33, 48}));
  }
  EXPECT_EQ(breaks, 1);
}

#ifndef PREHEAT_EAGER_WITHOUT_MODULE
// Random weights under the names that a graph uses.
class RandomWeights {
 public:
  RandomWeights(const LlamaShape& shape, const ir::Graph& graph) {
    std::mt19937 random(7);
    for (const ir::Node& node : graph.nodes) {
      if (node.op != ir::Op::kWeight) continue;
      const bool per_layer = node.Text("name").find("{}") != std::string::npos;
      for (int64_t layer = 0; layer < (per_layer ? shape.layers : 1); ++layer) {
        std::vector<int64_t> extents;
        for (const ir::Dim& dim : node.type.shape) extents.push_back(dim.size);
        const tensor::Shape full(extents);
        const float spread = extents.size() == 1 ? 1 : 1 / std::sqrt(static_cast<float>(extents.back()));
        std::normal_distribution<float> normal(0, spread);
        std::vector<float> values(static_cast<size_t>(full.Elements()));
        for (float& value : values) value = normal(random);
        auto& entry = tensors_[ir::BindLayer(node.Text("name"), layer)];
        entry.shape = full;
        entry.bytes.resize(values.size() * tensor::Bytes(shape.dtype));
        tensor::StoreFloats(values, shape.dtype, entry.bytes);
      }
    }
    dtype_ = shape.dtype;
  }

  const void* Address(const std::string& name) const { return tensors_.at(name).bytes.data(); }
  tensor::TensorView View(std::string_view name, int64_t layer) const {
    const auto& entry = tensors_.at(ir::BindLayer(name, layer));
    return {dtype_, entry.shape, entry.bytes};
  }

 private:
  struct Entry {
    tensor::Shape shape;
    std::vector<std::byte> bytes;
  };
  DType dtype_;
  std::map<std::string, Entry> tensors_;
};

double RmsDifference(const std::vector<float>& a, const std::vector<float>& b) {
  double squares = 0;
  for (size_t i = 0; i < a.size(); ++i) squares += std::pow(double{a[i]} - b[i], 2);
  return std::sqrt(squares / static_cast<double>(a.size()));
}

TEST(EagerModel, MatchesTheInterpreterOverPrefillAndDecode) {
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBf16}) {
    for (const bool bias : {false, true}) {
      LlamaShape shape = TinyShape(dtype);
      shape.attention_bias = shape.mlp_bias = bias;
      shape.tied = !bias;
      shape.all_rows = true;
      const ir::Graph graph = LlamaGraph(shape);
      const RandomWeights weights(shape, graph);
      const DType activations = ActivationType(dtype, true);
      Runner runner(
          TheModule(), LowerEager(graph, {.name = "any", .activations = activations}),
          [&](const std::string& name) { return weights.Address(name); }, 40, 21);
      const auto view = [&](std::string_view name, int64_t layer) { return weights.View(name, layer); };
      ir::KvState cache;
      std::vector<int32_t> ids;
      for (int32_t i = 0; i < 21; ++i) ids.push_back((i * 37 + 5) % 101);
      const double bound = activations == DType::kBf16 ? 0.03 : 2e-5;
      for (const std::vector<int32_t>& step : {ids, std::vector<int32_t>{3}, {50, 51, 52}, {100}}) {
        const auto expected = ir::Interpret(graph, view, step, cache);
        const auto actual = runner.Step(step);
        ASSERT_EQ(actual.size(), expected.logits.size());
        EXPECT_LE(RmsDifference(actual, expected.logits), bound) << ShortName(dtype) << " bias " << bias;
      }
      TheModule().ReleaseWeights();
    }
  }
}

TEST(EagerModel, ProbeSeesEveryLayer) {
  LlamaShape shape = TinyShape(DType::kF32);
  shape.probe = true;
  const ir::Graph graph = LlamaGraph(shape);
  const RandomWeights weights(shape, graph);
  Runner runner(
      TheModule(), LowerEager(graph, {.name = "any"}),
      [&](const std::string& name) { return weights.Address(name); }, 8, 4);
  std::vector<float> seen, expected;
  TheModule().SetProbe([&](const float* values, int64_t rows, int64_t columns) {
    seen.insert(seen.end(), values, values + rows * columns);
  });
  runner.Step({1, 2, 3, 4});
  TheModule().SetProbe(nullptr);
  TheModule().ReleaseWeights();
  ir::KvState cache;
  ir::Interpret(graph, [&](std::string_view name, int64_t layer) { return weights.View(name, layer); },
                std::vector<int32_t>{1, 2, 3, 4}, cache, {.probe = [&](const ir::ProbeRows& p) {
                  expected.insert(expected.end(), p.rows.begin(), p.rows.end());
                }});
  ASSERT_EQ(seen.size(), 3u * 4 * 33);
  ASSERT_EQ(seen.size(), expected.size());
  EXPECT_LE(RmsDifference(seen, expected), 1e-5);
}

// Golden.

LlamaShape ShapeOf(const checkpoint::Checkpoint& checkpoint) {
  const checkpoint::ModelConfig& config = checkpoint.config();
  LlamaShape shape;
  shape.hidden = config.hidden_size;
  shape.ffn = config.intermediate_size;
  shape.layers = config.num_hidden_layers;
  shape.heads = config.num_attention_heads;
  shape.kv_heads = config.num_key_value_heads;
  shape.head_dim = config.head_dim;
  shape.vocab = config.vocab_size;
  shape.eps = config.rms_norm_eps;
  shape.dtype = checkpoint.dtype();
  shape.tied = config.tie_word_embeddings;
  shape.attention_bias = config.attention_bias;
  shape.mlp_bias = config.mlp_bias;
  shape.all_rows = true;
  shape.rotary = {checkpoint::InvFreq(config), checkpoint::RopeAttentionScaling(config)};
  return shape;
}

preheat::testing::GoldenCheck::Bound BoundOf(DType dtype) {
  using Bound = preheat::testing::GoldenCheck::Bound;
  return dtype == DType::kBf16 ? Bound::kBf16 : dtype == DType::kF16 ? Bound::kF16 : Bound::kFp32;
}

int32_t Largest(const std::vector<float>& logits, int64_t vocab) {
  const auto row = logits.end() - vocab;
  return static_cast<int32_t>(std::max_element(row, logits.end()) - row);
}

class EagerGolden : public ::testing::TestWithParam<std::string> {};

TEST_P(EagerGolden, HoldsTheStatedBounds) {
  const preheat::testing::GoldenCase golden = preheat::testing::ReadGoldenCase(GetParam());
  const auto checkpoint = checkpoint::Checkpoint::Open(golden.model_folder);
  const DType activations = ActivationType(checkpoint.dtype(), true);
  const auto program =
      LowerEager(LlamaGraph(ShapeOf(checkpoint)), {.name = "any", .activations = activations});
  size_t longest = 1;
  size_t tokens_most = 0;
  for (const auto& prompt : golden.prompts) {
    longest = std::max(longest, prompt.ids.size());
    tokens_most = std::max(tokens_most, prompt.greedy_fp32.tokens.size());
  }
  const auto address = [&](const std::string& name) { return checkpoint.Tensor(name).data(); };
  Runner runner(TheModule(), program, address, static_cast<int64_t>(longest + tokens_most),
                static_cast<int64_t>(longest));

  preheat::testing::GoldenCheck prefill(golden, BoundOf(checkpoint.dtype()));
  preheat::testing::GoldenCheck decode(golden, BoundOf(checkpoint.dtype()));
  for (const auto& prompt : golden.prompts) {
    runner.Reset();
    std::vector<float> logits = runner.Step(prompt.ids);
    prefill.AddRows(prompt, logits, 0);
    std::vector<int32_t> tokens;
    while (tokens.size() < prompt.greedy_fp32.tokens.size()) {
      tokens.push_back(Largest(logits, golden.vocab));
      logits = runner.Step({tokens.back()});
    }
    prefill.AddTokens(prompt, tokens);

    // The first few by prefill, the rest one by one.
    runner.Reset();
    const size_t first = std::min<size_t>(3, prompt.ids.size());
    decode.AddRows(prompt, runner.Step({prompt.ids.begin(), prompt.ids.begin() + static_cast<long>(first)}),
                   0);
    for (size_t i = first; i < prompt.ids.size(); ++i) {
      decode.AddRows(prompt, runner.Step({prompt.ids[i]}), static_cast<int64_t>(i));
    }
  }
  TheModule().ReleaseWeights();
  EXPECT_EQ(prefill.Failures(), "");
  EXPECT_EQ(decode.Failures(), "");
  std::cout << GetParam() << ": prefill " << prefill.Summary() << "; decode " << decode.Summary() << "\n";
}

INSTANTIATE_TEST_SUITE_P(Cases, EagerGolden, ::testing::ValuesIn(preheat::testing::GoldenCaseNames()),
                         [](const auto& test_case) {
                           std::string name = test_case.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });
#endif

}  // namespace
}  // namespace preheat::eager
