#include "passes/plan_memory.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <map>
#include <set>

#include "program/random_program.h"

namespace preheat::passes {
namespace {

using program::Launch;
using program::Operand;
using program::Program;
using Access = program::Operand::Access;

Launch Touch(std::vector<std::pair<int, Access>> buffers) {
  Launch launch;
  launch.code = std::string(64, 'a');
  launch.entry = "f";
  for (auto [index, access] : buffers) launch.operands.push_back({Operand::Kind::kBuffer, index, access});
  return launch;
}

Program WithBuffers(int count) {
  Program program;
  program.layers = 3;
  for (int i = 0; i < count; ++i) program.buffers.push_back({fmt::format("b{}", i), {64, 0, 0}, 0});
  return program;
}

// Runs the program's launches as the session would, with slots as memory: who wrote a slot last?
void ExpectNothingIsOverwritten(const Program& program) {
  // Slots of their own are told apart by negative numbers.
  const auto slot_of = [&](const Operand& operand) {
    const int slot = program.buffers[static_cast<size_t>(operand.index)].slot;
    return slot == program::kOwnSlot ? -1 - operand.index : slot;
  };
  std::map<int, int> last_writer;  // slot -> buffer
  std::set<int> written;
  for (const program::Segment& segment : program.segments) {
    for (int64_t round = 0; round < segment.repeat; ++round) {
      for (const Launch& launch : segment.launches) {
        std::map<int, int> in_use;  // slot -> buffer, in this launch
        for (const Operand& operand : launch.operands) {
          if (operand.kind != Operand::Kind::kBuffer) continue;
          const int slot = slot_of(operand);
          ASSERT_LT(slot, program.slots);
          ASSERT_EQ(in_use.emplace(slot, operand.index).first->second, operand.index)
              << "two operands in one slot";
          if (operand.access != Access::kWrite && written.count(operand.index)) {
            ASSERT_EQ(last_writer[slot], operand.index) << "overwritten before it was read";
          }
        }
        for (const Operand& operand : launch.operands) {
          if (operand.kind != Operand::Kind::kBuffer || operand.access == Access::kRead) continue;
          last_writer[slot_of(operand)] = operand.index;
          written.insert(operand.index);
        }
      }
    }
  }
}

TEST(PlanMemory, AChainNeedsTwoSlots) {
  Program program = WithBuffers(4);
  program.segments = {{1,
                       {Touch({{0, Access::kWrite}}), Touch({{0, Access::kRead}, {1, Access::kWrite}}),
                        Touch({{1, Access::kRead}, {2, Access::kWrite}}),
                        Touch({{2, Access::kRead}, {3, Access::kWrite}}), Touch({{3, Access::kRead}})}}};
  const Program planned = PlanMemory(program);
  EXPECT_EQ(planned.slots, 2);
  ExpectNothingIsOverwritten(planned);
}

TEST(PlanMemory, WhatIsCarriedThroughARepeatSharesWithNothingInIt) {
  Program program = WithBuffers(3);
  // 0 is the residual; 1 and 2 live within a round, one after the other.
  program.segments = {{1, {Touch({{0, Access::kWrite}})}},
                      {3,
                       {Touch({{0, Access::kRead}, {1, Access::kWrite}}),
                        Touch({{0, Access::kReadWrite}, {1, Access::kRead}}), Touch({{2, Access::kWrite}}),
                        Touch({{2, Access::kRead}})}}};
  const Program planned = PlanMemory(program);
  EXPECT_NE(planned.buffers[0].slot, planned.buffers[2].slot) << "the next round reads 0 again";
  EXPECT_EQ(planned.buffers[1].slot, planned.buffers[2].slot);
  ExpectNothingIsOverwritten(planned);
}

TEST(PlanMemory, WhatARoundReadsBeforeItWritesLivesThroughAll) {
  Program program = WithBuffers(2);
  program.segments = {{3,
                       {Touch({{0, Access::kRead}}), Touch({{0, Access::kWrite}}),
                        Touch({{1, Access::kWrite}}), Touch({{1, Access::kRead}})}}};
  EXPECT_EQ(PlanMemory(program).slots, 2);
}

TEST(PlanMemory, AllElseStays) {
  std::mt19937_64 random(1);
  Program program = program::RandomProgram(random);
  Program planned = PlanMemory(program);
  for (size_t i = 0; i < program.buffers.size(); ++i) {
    EXPECT_EQ(planned.buffers[i].slot == program::kOwnSlot, program.buffers[i].slot == program::kOwnSlot);
    planned.buffers[i].slot = program.buffers[i].slot;
  }
  planned.slots = program.slots;
  EXPECT_EQ(planned, program);
}

TEST(PlanMemory, RandomProgramsOverwriteNothing) {
  int64_t saved = 0;
  for (uint64_t seed = 0; seed < 2000; ++seed) {
    SCOPED_TRACE(fmt::format("seed {}", seed));
    std::mt19937_64 random(seed);
    const Program planned = PlanMemory(program::RandomProgram(random));
    ExpectNothingIsOverwritten(planned);
    if (HasFatalFailure()) return;
    saved += static_cast<int64_t>(planned.buffers.size()) - planned.slots;
  }
  EXPECT_GT(saved, 0);
}

}  // namespace
}  // namespace preheat::passes
