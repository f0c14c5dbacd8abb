// The reference interpreter against transformers: every golden case, captured and after all passes.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "capture/llama.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/rope.h"
#include "golden.h"
#include "ir/interpreter.h"
#include "passes/pipeline.h"

namespace preheat::testing {
namespace {

using capture::CaptureLlama;
using checkpoint::Checkpoint;
using ir::Graph;
using ir::KvState;
using passes::Math;
using passes::StepKind;
using program::LogitRows;

// A model as the interpreter runs it: a graph for prompts that gives all logits, one for decode.
struct Engine {
  const Checkpoint& checkpoint;
  Graph prefill;
  Graph decode;

  ir::WeightProvider Weights() const {
    return [this](std::string_view name, int64_t layer) {
      return checkpoint.Tensor(ir::BindLayer(name, layer));
    };
  }
};

Engine Captured(const Checkpoint& checkpoint, bool probe_layers) {
  const auto capture = [&](LogitRows rows) {
    return CaptureLlama(
        checkpoint.config(),
        {.logit_rows = rows, .weight_dtype = checkpoint.dtype(), .probe_layers = probe_layers});
  };
  return {checkpoint, capture(LogitRows::kAll), capture(LogitRows::kLast)};
}

Engine Compiled(const Checkpoint& checkpoint, Math math) {
  Engine engine = Captured(checkpoint, /*probe_layers=*/false);
  engine.prefill = passes::RunPasses(engine.prefill, {.kind = StepKind::kPrefill, .math = math});
  // A small block, so that prompts of the goldens have many splits and a last one that is not full.
  engine.decode =
      passes::RunPasses(engine.decode, {.kind = StepKind::kDecode, .math = math, .split_block = 24});
  return engine;
}

// Prefill logits into `check`, then greedy tokens. The end token needs no care: goldens end with it.
void RunPrompt(const Engine& engine, const GoldenPrompt& prompt, size_t most_tokens, GoldenCheck& check) {
  KvState cache;
  const ir::StepResult prefill = ir::Interpret(engine.prefill, engine.Weights(), prompt.ids, cache);
  check.AddRows(prompt, prefill.logits, 0);
  const auto last = prefill.logits.end() - prefill.vocab;
  std::vector<int32_t> tokens = {static_cast<int32_t>(std::max_element(last, prefill.logits.end()) - last)};
  while (tokens.size() < std::min(most_tokens, prompt.greedy_fp32.tokens.size())) {
    const int32_t ids[] = {tokens.back()};
    tokens.push_back(*ir::Interpret(engine.decode, engine.Weights(), ids, cache).token);
  }
  check.AddTokens(prompt, tokens);
}

double Rms(std::span<const float> row) {
  double sum = 0;
  for (float value : row) sum += static_cast<double>(value) * value;
  return std::sqrt(sum / static_cast<double>(row.size()));
}

class GoldenInterpreter : public ::testing::TestWithParam<std::string> {
 protected:
  const GoldenCase golden_ = ReadGoldenCase(GetParam());
  const Checkpoint checkpoint_ = Checkpoint::Open(golden_.model_folder);

  void RunAll(const Engine& engine, GoldenCheck::Bound bound) {
    GoldenCheck check(golden_, bound);
    for (const GoldenPrompt& prompt : golden_.prompts) RunPrompt(engine, prompt, 12, check);
    EXPECT_EQ(check.Failures(), "");
    RecordProperty("error", check.Summary());
    fmt::print("{}: {}\n", golden_.name, check.Summary());
  }
};

TEST_P(GoldenInterpreter, InverseFrequenciesAreTransformersOwn) {
  EXPECT_EQ(checkpoint::InvFreq(checkpoint_.config()), golden_.inv_freq);
  EXPECT_EQ(checkpoint::RopeAttentionScaling(checkpoint_.config()), golden_.rope_attention_scaling);
}

TEST_P(GoldenInterpreter, CapturedGraphGivesFp32LogitsAndTokens) {
  RunAll(Captured(checkpoint_, /*probe_layers=*/false), GoldenCheck::Bound::kFp32);
}

TEST_P(GoldenInterpreter, PassesInF32KeepLogitsAndTokens) {
  RunAll(Compiled(checkpoint_, Math::kF32), GoldenCheck::Bound::kFp32);
}

TEST_P(GoldenInterpreter, PassesInBf16StayWithinTransformersBf16Error) {
  // Elsewhere bf16 math changes nothing: the weights are finer.
  const bool bf16 = checkpoint_.dtype() == tensor::DType::kBf16;
  RunAll(Compiled(checkpoint_, Math::kBf16), bf16 ? GoldenCheck::Bound::kBf16 : GoldenCheck::Bound::kFp32);
}

TEST_P(GoldenInterpreter, HiddenStatesHaveTransformersRms) {
  const Engine engine = Captured(checkpoint_, /*probe_layers=*/true);
  for (const GoldenPrompt& prompt : golden_.prompts) {
    if (prompt.ids.size() > 130) continue;
    std::vector<double> found;
    const ir::StepOptions options{.probe = [&](const ir::ProbeRows& probe) {
      found.push_back(Rms(probe.rows.last(static_cast<size_t>(probe.width))));
    }};
    KvState cache;
    ir::Interpret(engine.decode, engine.Weights(), prompt.ids, cache, options);
    ASSERT_EQ(found.size(), prompt.layer_rms_fp32.size());
    for (size_t i = 0; i < found.size(); ++i) {
      EXPECT_NEAR(found[i], prompt.layer_rms_fp32[i], 1e-4 * prompt.layer_rms_fp32[i])
          << prompt.name << " " << i;
    }
  }
}

TEST_P(GoldenInterpreter, CacheRowsAreTransformersOwn) {
  const Engine engine = Captured(checkpoint_, /*probe_layers=*/false);
  for (const GoldenPrompt& prompt : golden_.prompts) {
    if (prompt.name != golden_.cache_prompt) continue;
    KvState cache;
    ir::Interpret(engine.decode, engine.Weights(), prompt.ids, cache);
    std::vector<float> keys, values;
    for (int64_t head = 0; head < golden_.kv_heads; ++head) {
      for (int64_t position : golden_.cache_positions) {
        const auto offset = (position * golden_.kv_heads + head) * golden_.head_dim;
        const auto copy = [&](const std::vector<float>& from, std::vector<float>& to) {
          to.insert(to.end(), from.begin() + offset, from.begin() + offset + golden_.head_dim);
        };
        copy(cache.layers[0].keys, keys);
        copy(cache.layers[0].values, values);
      }
    }
    EXPECT_LE(LargestDifference(keys, golden_.cache_keys), 1e-4);
    EXPECT_LE(LargestDifference(values, golden_.cache_values), 1e-4);
    return;
  }
  FAIL() << "no prompt " << golden_.cache_prompt;
}

std::string CaseName(const ::testing::TestParamInfo<std::string>& info) {
  std::string name = info.param;
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
}
INSTANTIATE_TEST_SUITE_P(Cases, GoldenInterpreter, ::testing::ValuesIn(GoldenCaseNames()), CaseName);

TEST(GoldenCheck, EveryCaseIsThere) {
  EXPECT_EQ(GoldenCaseNames().size(), 8u);
}

TEST(GoldenCheck, NamesAWrongLogitAndToken) {
  const GoldenCase golden = ReadGoldenCase("mha_tied_fp32");
  const GoldenPrompt& prompt = golden.prompts[0];
  GoldenCheck check(golden, GoldenCheck::Bound::kFp32);
  EXPECT_EQ(check.Failures(), "mha_tied_fp32: no row was compared\n");
  std::vector<float> logits = prompt.rows.back().logits_fp32;
  check.AddRows(prompt, logits, prompt.rows.back().position);
  check.AddTokens(prompt, prompt.greedy_fp32.tokens);
  EXPECT_EQ(check.Failures(), "");
  logits[5] += 0.01f;
  check.AddRows(prompt, logits, prompt.rows.back().position);
  const int32_t wrong[] = {prompt.greedy_fp32.tokens[0] + 1};
  check.AddTokens(prompt, wrong);
  EXPECT_NE(check.Failures().find("n1 position 0: a logit is"), std::string::npos);
  EXPECT_NE(check.Failures().find("n1: token 0 is"), std::string::npos);
}

}  // namespace
}  // namespace preheat::testing
