#include "session/memory_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace preheat::session {
namespace {

using ::testing::ElementsAre;

program::Program Step(program::StepKind kind, int64_t max_rows) {
  program::Program program = {.kind = kind, .max_rows = max_rows, .vocab_size = 10, .layers = 3, .slots = 2};
  program.kv = {.position_block = 16, .key_bytes = {0, 0, 64}, .value_bytes = {0, 0, 128}};
  program.rotary = {.inv_freq = {1.0f, 0.5f}};
  program.weights = {{"embed", tensor::DType::kBf16, {10, 8}}, {"layers.{}.w", tensor::DType::kF32, {8, 8}}};
  program.buffers = {{"a", {0, 100, 0}, 0}, {"b", {5000, 0, 0}, 1}, {"c", {0, 50, 0}, 1}};
  return program;
}

TEST(MemoryPlan, ASlotIsAsBigAsItsBiggestTenantInAnyProgram) {
  const MemoryPlan plan = PlanMemory(
      {Step(program::StepKind::kPrefill, 128), Step(program::StepKind::kDecode, 1)}, {.capacity = 33});
  EXPECT_EQ(plan.capacity, 48);
  EXPECT_THAT(plan.slot_offsets, ElementsAre(0, 16384));  // 128 rows of 100 bytes, on pages
  EXPECT_EQ(plan.arena_bytes, 16384u + 8192);             // 128 rows of 50 are more than 5000
  EXPECT_EQ(plan.key_bytes, 4096u);
  EXPECT_EQ(plan.cache_bytes, 3u * (4096 + 8192));
  EXPECT_EQ(plan.rotary_bytes, 48u * 2 * 2 * 4);
  EXPECT_EQ(plan.ids_bytes, 128u * 4);
  EXPECT_EQ(plan.logits_bytes, 10u * 4);
}

TEST(MemoryPlan, AProgramOfAnyLengthIsGivenPiecesOnly) {
  program::Program any = Step(program::StepKind::kPrefill, 0);
  EXPECT_EQ(PlanMemory({any}, {.capacity = 4096, .piece_rows = 512}).ids_bytes, 512u * 4);
  any.logit_rows = program::LogitRows::kAll;
  EXPECT_EQ(PlanMemory({any}, {.capacity = 4096, .piece_rows = 512}).logits_bytes, 512u * 10 * 4);
}

TEST(MemoryPlan, BuffersThatShareWithNoneAndWeightsAreCountedOnce) {
  program::Program decode = Step(program::StepKind::kDecode, 1);
  const MemoryPlan shared = PlanMemory({decode, decode}, {.capacity = 16});
  EXPECT_EQ(shared.weight_bytes, 10u * 8 * 2 + 3u * 8 * 8 * 4);
  decode.weights.push_back({"layers.{+1}.w", tensor::DType::kF32, {8, 8}});  // the same tensors
  EXPECT_EQ(PlanMemory({decode}, {.capacity = 16}).weight_bytes, shared.weight_bytes);
  decode.buffers.push_back({"own", {300, 0, 0}, program::kOwnSlot});
  const MemoryPlan plan = PlanMemory({Step(program::StepKind::kPrefill, 16), decode}, {.capacity = 16});
  EXPECT_THAT(plan.own_bytes, ElementsAre(ElementsAre(0, 0, 0), ElementsAre(0, 0, 0, 300)));
  EXPECT_EQ(plan.activation_bytes(), plan.arena_bytes + plan.rotary_bytes + plan.ids_bytes +
                                         plan.state_bytes + plan.logits_bytes + 300);
  EXPECT_EQ(plan.total_bytes(), plan.weight_bytes + plan.cache_bytes + plan.activation_bytes());
}

}  // namespace
}  // namespace preheat::session
