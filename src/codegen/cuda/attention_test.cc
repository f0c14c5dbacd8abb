// Generated attention for CUDA, run on the host, against plain sums in double.
#include "codegen/cuda/attention.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <span>

#include "codegen/attention_for_test.h"
#include "codegen/cuda/cuda_unit_for_test.h"

namespace preheat::codegen::cuda {
namespace {

using tensor::DType;

#define SKIP_WITHOUT_FIBERS() \
  if (!HostMachineRuns()) GTEST_SKIP() << "[SKIP] ThreadSanitizer does not know our fibers"

// Probabilities and results are rounded to bf16, scores and sums are fp32.
constexpr double kBound = 1.0 / 512 + 1.0 / 256 + 1e-5;

// [rows, heads * head_dim], or what went wrong.
struct Outcome {
  std::string error;
  std::vector<float> rows;
};

Outcome Attend(const AttentionCase& c, const CudaUnitForTest& unit, const RegionLaunch& launch,
               const AttentionData& data, uint64_t seed, std::span<const Workspace> workspaces = {}) {
  auto query = data.QueryBuffer(), keys = data.KeyBuffer(), values = data.ValueBuffer();
  const int64_t stride = RowStride(c.Result());
  const size_t bytes = static_cast<size_t>(data.rows() * stride) * tensor::Bytes(c.result);
  AlignedArray<std::byte> result(bytes);
  std::memset(static_cast<void*>(result.data()), 0xff, bytes);
  ph_gpu_args args{};
  void* operands[] = {query.data(), keys.data(), values.data(), result.data()};
  std::copy(std::begin(operands), std::end(operands), args.operands);
  std::vector<AlignedArray<std::byte>> spaces;
  for (size_t i = 0; i < workspaces.size(); ++i) {
    const auto size = static_cast<size_t>(workspaces[i].extent.Bytes(data.step_rows(), data.capacity()));
    spaces.emplace_back(size);
    std::memset(static_cast<void*>(spaces[i].data()), workspaces[i].keeps == Keeps::kYes ? 0 : 0xff, size);
    args.operands[std::size(operands) + i] = spaces[i].data();
  }
  args.rows = data.step_rows();
  args.past = data.past();
  args.capacity = data.capacity();
  args.tiles = launch.tiles.Tiles(data.step_rows(), data.past());
  const HostRun run = unit.Run(launch.entry, {.grid = static_cast<int>(args.tiles),
                                              .threads = launch.blocks.threads,
                                              .shared_bytes = static_cast<int>(launch.blocks.shared_bytes),
                                              .params = BytesOf(args),
                                              .seed = seed});
  Outcome outcome{run.error, {}};
  const tensor::TensorView view(c.result, {data.rows(), stride}, {result.data(), bytes});
  const int64_t width = c.heads() * c.head_dim;
  for (int64_t i = 0; i < data.rows() * width; ++i)
    outcome.rows.push_back(view.At(i / width * stride + i % width));
  return outcome;
}

double WorstError(const std::vector<double>& expected, const std::vector<float>& actual) {
  double worst = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    const double error = std::abs(expected[i] - actual[i]);
    worst = std::max(worst, std::isnan(error) ? HUGE_VAL : error);
  }
  return worst;
}

struct Heads {
  int64_t kv_heads, group, head_dim;
};

AttentionCase CaseOf(const Heads& heads) {
  return {.target = ParseTarget("sm_90a"),
          .kv_heads = heads.kv_heads,
          .group = heads.group,
          .head_dim = heads.head_dim,
          .query = DType::kBf16,
          .cache = DType::kBf16,
          .result = DType::kBf16};
}

TEST(CudaTiles, AreTheReferenceForEveryShapeAndSchedule) {
  SKIP_WITHOUT_FIBERS();
  for (const Heads& heads :
       {Heads{2, 3, 128}, Heads{1, 4, 64}, Heads{1, 1, 32}, Heads{1, 3, 80}, Heads{1, 16, 16}}) {
    const AttentionCase c = CaseOf(heads);
    for (const StepShape& shape : {StepShape{.rows = 128}, StepShape{}}) {
      for (const Schedule& schedule :
           attention::Candidates(c.Graph(), AttentionCase::kNode, c.target, shape)) {
        const RegionCode code =
            attention::Generate(c.Graph(), AttentionCase::kNode, c.target, shape, schedule);
        const CudaUnitForTest unit(code.source);
        ASSERT_EQ(unit.log(), "");
        for (const auto& [rows, past] : {std::pair{1, 0}, {5, 130}, {65, 17}, {200, 0}}) {
          if (shape.rows == 0 && rows != 65) continue;
          const AttentionData data(c, rows, past, past + rows + 37);
          const Outcome outcome = Attend(c, unit, code.launches[0], data, static_cast<uint64_t>(rows) % 3);
          ASSERT_EQ(outcome.error, "") << c.Name() << data.Name() << ToText(schedule);
          ASSERT_LE(WorstError(data.Reference(), outcome.rows), kBound)
              << c.Name() << data.Name() << ToText(schedule);
        }
      }
    }
  }
}

// What other rows a step has, and what lies in the cache behind what a row sees, changes no bit of it.
TEST(CudaTiles, ARowHasTheSameBitsInEveryStep) {
  SKIP_WITHOUT_FIBERS();
  const AttentionCase c = CaseOf({1, 3, 64});
  for (const Schedule& schedule :
       attention::Candidates(c.Graph(), AttentionCase::kNode, c.target, {.rows = 128})) {
    const RegionCode code =
        attention::Generate(c.Graph(), AttentionCase::kNode, c.target, {.rows = 128}, schedule);
    const CudaUnitForTest unit(code.source);
    const AttentionData data(c, 150, 20, 200);
    const Outcome all = Attend(c, unit, code.launches[0], data, 1);
    ASSERT_EQ(all.error, "") << ToText(schedule);
    for (const int64_t row : {0, 43, 44, 107, 108, 149}) {
      const Outcome one = Attend(c, unit, code.launches[0], data.OneRow(row, 1e30f), 2);
      ASSERT_EQ(one.error, "") << ToText(schedule);
      const float* const same = &all.rows[static_cast<size_t>(row * c.heads() * c.head_dim)];
      EXPECT_EQ(std::memcmp(one.rows.data(), same, one.rows.size() * 4), 0)
          << ToText(schedule) << " row " << row;
    }
  }
}

// However many rows the step has: it sees all of their positions.
TEST(CudaRows, TheLastRowAloneIsTheReferencesLast) {
  SKIP_WITHOUT_FIBERS();
  for (const Heads& heads : {Heads{2, 3, 128}, Heads{1, 4, 64}}) {
    AttentionCase c = CaseOf(heads);
    c.last_row_alone = true;
    const StepShape shape = {.rows = 128};
    EXPECT_EQ(attention::DefaultSchedule(c.Graph(), AttentionCase::kNode, c.target, shape).at("family"), 0);
    for (const int splits : {1, 4}) {
      const RegionCode code =
          attention::Generate(c.Graph(), AttentionCase::kNode, c.target, shape,
                              {{"family", 0}, {"warps", 4}, {"splits", splits}, {"least", 64}});
      const CudaUnitForTest unit(code.source);
      for (const auto& [rows, past] : {std::pair{1, 0}, {5, 130}, {128, 17}, {3, 900}}) {
        const AttentionData data = AttentionData(c, rows, past, past + rows + 37).LastRowAlone();
        const Outcome outcome =
            Attend(c, unit, code.launches[0], data, static_cast<uint64_t>(rows) % 3, code.workspaces);
        ASSERT_EQ(outcome.error, "") << c.Name() << data.Name();
        EXPECT_LE(WorstError(data.Reference(), outcome.rows), kBound) << c.Name() << data.Name();
      }
    }
  }
}

struct Mutant {
  const char* from;
  const char* to;
};

// In each order of threads that is tried, the kernel does right, and each mutant is caught: by an error, or
// by its numbers.
void ExpectCaught(const Schedule& schedule, const AttentionCase& c, const AttentionData& data,
                  std::span<const Mutant> mutants) {
  constexpr uint64_t kSeeds = 30;
  const RegionCode right = attention::Generate(c.Graph(), AttentionCase::kNode, c.target, {}, schedule);
  const std::vector<double> expected = data.Reference();
  const CudaUnitForTest right_unit(right.source);
  for (uint64_t seed = 0; seed < kSeeds; ++seed) {
    const Outcome outcome = Attend(c, right_unit, right.launches[0], data, seed);
    ASSERT_EQ(outcome.error, "") << "seed " << seed;
    ASSERT_LE(WorstError(expected, outcome.rows), kBound) << "seed " << seed;
  }
  for (const Mutant& mutant : mutants) {
    RegionCode broken = right;
    const size_t at = broken.source.rfind(mutant.from);
    ASSERT_NE(at, std::string::npos) << mutant.from;
    broken.source.replace(at, std::strlen(mutant.from), mutant.to);
    const CudaUnitForTest unit(broken.source, {.flags = {"-Wno-error"}});
    ASSERT_EQ(unit.log().find("error:"), std::string::npos) << unit.log();
    bool caught = false;
    for (uint64_t seed = 0; seed < kSeeds && !caught; ++seed) {
      const Outcome outcome = Attend(c, unit, broken.launches[0], data, seed);
      caught = !outcome.error.empty() || !(WorstError(expected, outcome.rows) <= kBound);
    }
    EXPECT_TRUE(caught) << mutant.from;
  }
}

// Broken in each way that one breaks such a kernel, it is caught.
TEST(CudaAttentionOfWarpgroups, BrokenIsCaught) {
  SKIP_WITHOUT_FIBERS();
  const AttentionCase c = CaseOf({1, 3, 64});
  // One of a pair sees a tile less. Room for whole tiles: what a broken kernel reads behind the last position
  // is garbage, but there.
  ExpectCaught({{"family", 2}, {"positions", 64}, {"slots", 4}, {"queries", 42}}, c, {c, 50, 150, 256},
               std::to_array<Mutant>({
                   {"    wait();\n    const int value_slot", "    const int value_slot"},
                   {"  if (fewer) turn.Next<kSlots>();\n", ""},
                   {"WaitBarrier(barriers.empty + turn.slot, turn.parity);", ""},
                   {"    hand_back(key_slot);\n", ""},
                   {"      hand_back(value_slot);\n", ""},
                   {"    WaitMatrices<1>();\n", ""},
                   {"      WaitMatrices<0>();\n", ""},
                   {"    FenceCopies();\n", ""},
                   {"ArriveWhenCopied(", "Arrive("},
                   {"const bool there = first + position + i < positions;", "const bool there = true;"},
                   {"(piece ^ position) % 8", "piece % 8"},
                   {"s * 16 * 128", "s * 16 * 64"},
                   {"query[s], Advance", "query[0], Advance"},
                   {"job.first - 1;", "job.first - 2;"},
                   {"job.tiles = first.tiles", "job.tiles = first.tiles - 1"},
                   {"  FenceBarriers();\n", ""},
               }));
}

TEST(CudaAttentionOfWarpgroups, BrokenWithUnitsAloneIsCaught) {
  SKIP_WITHOUT_FIBERS();
  const AttentionCase c = CaseOf({1, 3, 64});
  // Six units of sixteen are alone; the tenth, which sees four tiles, goes with the first, which sees one.
  ExpectCaught({{"family", 2}, {"positions", 64}, {"slots", 4}, {"queries", 31}}, c, {c, 330, 0, 384},
               std::to_array<Mutant>({
                   {"if (index < 0) return Drain(0, job, {0, 0}, barriers);", "if (index < 0) return;"},
                   {"job.second = block - alone;", "job.second = block - alone - 1;"},
                   {"    hand_back(unseen);\n", ""},
                   {"    hand_back(unseen);\n    hand_back(turn.slot);\n", "    hand_back(unseen);\n"},
                   {"  wait();\n  MultiplyValues", "  wait();\n  hand_back(unseen);\n  MultiplyValues"},
                   {"    WaitBarrier(barriers.full + turn.slot, turn.parity);\n    Arrive", "    Arrive"},
                   {"    if (fewer) Drain(unit.tiles + 1, job, turn, barriers);\n", ""},
               }));
}

}  // namespace
}  // namespace preheat::codegen::cuda
