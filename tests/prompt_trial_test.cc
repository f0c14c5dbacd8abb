// Prompts on a card that is this machine are tuned as whole steps, too: by what was measured region by
// region, or by the heuristics.
#include <gtest/gtest.h>

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "capture/llama.h"
#include "checkpoint/checkpoint.h"
#include "codegen/codegen.h"
#include "compile/choice.h"
#include "compile/compiler.h"
#include "compile/lower.h"
#include "compile/schedule_chooser.h"
#include "device/cuda/cuda_device.h"
#include "golden.h"
#include "host_cuda.h"
#include "ir/graph.h"
#include "on_host_card.h"
#include "passes/pipeline.h"
#include "store/store.h"

namespace preheat::testing {
namespace {

using checkpoint::Checkpoint;
using preload::StepSpec;
using store::EntryKind;

constexpr int kMultiprocessors = 2;
constexpr int64_t kRows = 16;
constexpr char kProfile[] = "a card";

class PromptTrial : public OnHostCard {
 protected:
  void SetUp() override {
    OnHostCard::SetUp();
    TheHostCard().multiprocessors = kMultiprocessors;
  }

  struct Compiled {
    program::Program program;
    double tune_seconds;
    int64_t kernels;
  };
  Compiled Compile() {
    const HostCudaCompiler compiler;
    device::CudaDevice device(HostDriver(), 0);
    compile::Compiler steps(store_, {.config = checkpoint_.config(),
                                     .family = {.target = "sm_90a", .profile = kProfile},
                                     .tuning_device = &device,
                                     .threads = kMultiprocessors,
                                     .compiler = &compiler});
    program::Program program = steps.Compile(std::vector<StepSpec>{StepSpec::Bucket(kRows)}).front();
    return {std::move(program), steps.report().tune_seconds, steps.counters().async_compile_miss};
  }

  // Records, as measuring it would, that a region runs best by this schedule.
  void PutRecord(ir::NodeId node, const codegen::Schedule& best) {
    const auto candidates = codegen::Candidates(graph_, node, target_, shape_);
    store_.Put(EntryKind::kTuning,
               store::KeyBuilder()
                   .Add("region", compile::RegionSignature(graph_, node))
                   .Add("rows", compile::HasOneRow(graph_, node) ? 1 : kRows)
                   .Add("threads", shape_.threads)
                   .Add("target", target_.name)
                   .Add("profile", kProfile)
                   .AddHashOf("candidates", compile::ToText(candidates))
                   .Build(),
               codegen::ToText(best));
  }
  // Of a whole step with these schedules, by node, as its record has it.
  std::string TextOf(const std::map<ir::NodeId, codegen::Schedule>& schedules) const {
    codegen::Schedule all;
    for (const auto& [node, schedule] : schedules) {
      for (const auto& [name, value] : schedule) all[compile::RegionName(graph_, node) + "." + name] = value;
    }
    return codegen::ToText(all);
  }

  const Checkpoint checkpoint_ = Checkpoint::Open(ReadGoldenCase("gqa4_hd128_untied_bf16").model_folder);
  const codegen::Target target_ = codegen::ParseTarget("sm_90a");
  const codegen::StepShape shape_ = {.rows = kRows, .threads = kMultiprocessors};
  const ir::Graph graph_ =
      passes::RunPasses(capture::CaptureLlama(checkpoint_.config(), {.weight_dtype = checkpoint_.dtype()}),
                        {.kind = passes::StepKind::kPrefill, .math = passes::Math::kBf16, .split_block = 0});
  store::Store store_ = store::Store::InMemory();
};

// All regions were measured to be fastest by the heuristics but attention: whether the step is faster so is
// measured once, and the record decides from then on.
TEST_F(PromptTrial, RunsAsTheWholeStepWasFastest) {
  std::map<ir::NodeId, codegen::Schedule> guessed, measured;
  for (const ir::Block& block : graph_.blocks) {
    for (const ir::NodeId node : block.nodes) {
      if (!codegen::CanCompile(graph_, node, target_) || compile::IsOfLastRow(graph_, node)) continue;
      guessed[node] = codegen::DefaultSchedule(graph_, node, target_, shape_);
      const bool attention = graph_[node].op == ir::Op::kAttention;
      measured[node] = attention ? codegen::Candidates(graph_, node, target_, shape_).back() : guessed[node];
      PutRecord(node, measured[node]);
    }
  }
  ASSERT_NE(TextOf(guessed), TextOf(measured));

  EXPECT_GT(Compile().tune_seconds, 0);
  std::optional<store::Key> key;
  for (const store::EntryInfo& record : store_.List(EntryKind::kTuning)) {
    if (record.parts[0].value != "step") continue;
    store::KeyBuilder parts;
    for (const store::KeyPart& part : record.parts) parts.Add(part.label, part.value);
    key = parts.Build();
  }
  ASSERT_TRUE(key.has_value());
  const auto compile_by = [&](const std::string& text) {
    store_.Put(EntryKind::kTuning, *key, text);
    const Compiled compiled = Compile();
    EXPECT_EQ(compiled.tune_seconds, 0);
    EXPECT_EQ(compiled.kernels, 0);
    return compiled.program;
  };
  const std::string best(store_.Get(EntryKind::kTuning, key->name())->text());
  EXPECT_TRUE(best == TextOf(guessed) || best == TextOf(measured)) << best;
  const auto attention_bytes = [](const program::Program& program) {
    for (const program::Launch& launch : program.segments[1].launches) {
      if (launch.region == "attention") return launch.blocks.shared_bytes;
    }
    return int64_t{0};
  };
  const int64_t by_guess = attention_bytes(compile_by(TextOf(guessed)));
  const int64_t as_measured = attention_bytes(compile_by(TextOf(measured)));
  EXPECT_GT(by_guess, 0);
  EXPECT_GT(as_measured, by_guess);  // 128 positions in five slots, not 64 in eight
}

}  // namespace
}  // namespace preheat::testing
