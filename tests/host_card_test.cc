// Awkward use of one small model on a card that is this machine: steps that run ahead, a card that goes while
// it works.
#include "host_cuda.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "base/error.h"
#include "checkpoint/synth.h"
#include "compiled_model.h"
#include "generate/generator.h"
#include "sys/env.h"
#include "sys/files.h"

namespace preheat::testing {
namespace {

using checkpoint::Checkpoint;
using preload::StepSpec;

// {0}: layers and query heads; {1}: widths.
constexpr char kConfig[] = R"json({{
  "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu",
  "hidden_size": {1}, "intermediate_size": {1}, "head_dim": {1}, "num_hidden_layers": {0},
  "num_attention_heads": {0}, "num_key_value_heads": 1, "vocab_size": 258, "max_position_embeddings": 512,
  "rms_norm_eps": 1e-05, "rope_theta": 10000.0, "tie_word_embeddings": true, "bos_token_id": 256,
  "eos_token_id": 257, "initializer_range": 0.02, "torch_dtype": "bfloat16"
}})json";

class HostCardTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!HostCardRuns()) GTEST_SKIP() << "[SKIP] kernels cannot run on the host in this build";
    TheHostCard() = {};
  }
  void TearDown() override { TheHostCard() = {}; }

  enum class Size { kTiny, kSmall };
  Checkpoint MakeModel(tensor::DType dtype, Size size) const {
    const std::string folder = folder_.File("model");
    sys::MakeDirs(folder);
    const int layers = size == Size::kTiny ? 1 : 2;
    sys::WriteFileAtomic(folder + "/shape.json", std::string_view(fmt::format(kConfig, layers, 32 * layers)));
    checkpoint::Synthesize({.config = checkpoint::SynthShape(folder + "/shape.json"),
                            .dtype = dtype,
                            .seed = 7,
                            .folder = folder + "/model"});
    return Checkpoint::Open(folder + "/model");
  }
  std::unique_ptr<CompiledModel> Compile(const Checkpoint& checkpoint, std::vector<StepSpec> steps,
                                         int64_t capacity) {
    return std::make_unique<CompiledModel>(
        checkpoint, store_,
        CompiledModelOptions{.target = "sm_90a", .steps = std::move(steps), .capacity = capacity});
  }

  sys::UniqueTempDir folder_{"preheat-host-card"};
  store::Store store_ = store::Store::InMemory();
};

std::vector<int32_t> Ids(int64_t count, int32_t first = 3) {
  std::vector<int32_t> ids;
  for (int64_t i = 0; i < count; ++i) ids.push_back(static_cast<int32_t>((first + i * 37) % 256));
  return ids;
}

// The card may have ended the steps that run ahead before the host looks for the first one's token.
TEST_F(HostCardTest, TokensOfStepsThatRanAheadAreThoseOfStepsOneByOne) {
  const Checkpoint checkpoint = MakeModel(tensor::DType::kBf16, Size::kTiny);
  const auto model = Compile(checkpoint, {StepSpec::AnyLength(), StepSpec::Decode()}, 96);
  session::Session& session = model->session();
  session.Reset();
  session.Prefill(Ids(5), 0);
  std::vector<int32_t> one_by_one = {session.token()};
  for (int i = 0; i < 80; ++i) {  // more than the ring holds
    session.Decode();
    one_by_one.push_back(session.token());
  }
  session.Reset();
  session.Prefill(Ids(5), 0);
  std::vector<int32_t> ahead = {session.token()};
  session.DecodeUntil(80, [&](int32_t token) {
    ahead.push_back(token);
    return true;
  });
  EXPECT_EQ(ahead, one_by_one);
}

TEST_F(HostCardTest, ACardThatGoesIsAnErrorAndTheNextDeviceWorks) {
  const Checkpoint checkpoint = MakeModel(tensor::DType::kBf16, Size::kTiny);
  const std::vector<StepSpec> steps = {StepSpec::AnyLength(), StepSpec::Decode()};
  const auto generate = [&](CompiledModel& model) {
    return generate::Generate(model.session(), Ids(5), {.max_new_tokens = 6, .ignore_end = true}).ids;
  };
  auto model = Compile(checkpoint, steps, 32);
  const std::vector<int32_t> tokens = generate(*model);
  const int64_t launches = UseOfHostCard().launches;
  model.reset();
  // In the prompt, at its end, in the first decode step and in one that ran ahead.
  for (const int64_t until : {int64_t{0}, launches / 8, launches / 3, launches / 2, launches - 1}) {
    TheHostCard().launches_until_loss = until;
    model = Compile(checkpoint, steps, 32);
    for (int attempt = 0; attempt < 2; ++attempt) {  // it stays lost, and says so at once
      try {
        generate(*model);
        ADD_FAILURE() << "nothing was thrown with a loss after " << until << " of " << launches;
      } catch (const base::Error& error) {
        EXPECT_EQ(error.kind(), base::ErrorKind::kDevice);
        EXPECT_NE(error.message().find("the card has gone"), std::string::npos) << error.message();
      }
    }
    model.reset();
  }
  TheHostCard() = {};
  EXPECT_EQ(generate(*Compile(checkpoint, steps, 32)), tokens);
}

}  // namespace
}  // namespace preheat::testing
