// Generated products for CUDA, run on the host, against a plain reference: every family, in orders that seeds
// choose.
#include "codegen/cuda/matmul.h"

#include <gtest/gtest.h>

#include <cstring>

#include "codegen/cuda/machine.h"
#include "codegen/cuda/matmul_run_for_test.h"
#include "codegen/cuda/wgmma.h"
#include "codegen/matmul_reference_for_test.h"

namespace preheat::codegen::cuda {
namespace {

#define SKIP_WITHOUT_FIBERS() \
  if (!HostMachineRuns()) GTEST_SKIP() << "[SKIP] ThreadSanitizer does not know our fibers"

const Target kHopper = ParseTarget("sm_90a");

void CheckRun(const MatmulCase& c, const CudaUnitForTest& unit, const RegionCode& code, int64_t rows,
              const CudaRun& how) {
  const MatmulGraph g = MakeGraph(c);
  MatmulData d(c, g, rows, c.epilogue == "rotary_append" ? 5 : 0);
  SCOPED_TRACE(c.Name() + ", rows " + std::to_string(rows) + ", seed " + std::to_string(how.seed));
  ASSERT_EQ(RunCuda(d, unit, code, how), "");
  const Reference reference{d};
  CheckOutput(d, reference);
  if (!testing::Test::HasFatalFailure() && c.epilogue == "rotary_append") CheckCache(d, kHopper, reference);
}

struct WgmmaCase {
  MatmulCase c;
  WgmmaNumbers n;
};

// Every epilogue; each way in which blocks share; tiles that reach past the columns, k that is no multiple of
// a step.
std::vector<WgmmaCase> WgmmaCases() {
  const MatmulCase store = {.k = 200, .columns = {104}, .x = DType::kBf16};
  const MatmulCase add = {.epilogue = "add", .k = 320, .columns = {72}, .x = DType::kBf16, .bias = true};
  const MatmulCase logits = {.k = 72, .columns = {200}, .logits = true};
  const MatmulCase silu = {.prologue = "rms_norm",
                           .epilogue = "silu_mul",
                           .k = 136,
                           .columns = {88, 88},
                           .out = DType::kBf16,
                           .bias = true};
  const MatmulCase heads = {.prologue = "rms_norm",
                            .epilogue = "rotary_append",
                            .k = 136,
                            .columns = {192, 64, 64},
                            .out = DType::kBf16,
                            .bias = true,
                            .head_dim = 64};
  const MatmulCase wide_heads = {.prologue = "rms_norm",
                                 .epilogue = "rotary_append",
                                 .k = 256,
                                 .columns = {256, 128, 128},
                                 .out = DType::kBf16,
                                 .head_dim = 128};
  return {
      {store, {.rows = 64, .columns = 64, .warpgroups = 1}},
      {store, {.rows = 128, .columns = 40, .share_x = 2, .w_slots = 3, .x_slots = 2, .w_head = 1}},
      {add, {.rows = 64, .columns = 24, .warpgroups = 1, .split = 3, .w_slots = 2, .x_slots = 3}},
      {add, {.rows = 128, .columns = 32, .split = 2, .share_w = 2, .w_slots = 3, .x_slots = 3, .w_head = 2}},
      {logits, {.rows = 128, .columns = 96, .share_w = 2}},
      {silu, {.rows = 64, .columns = 64, .warpgroups = 1, .w_slots = 3, .x_slots = 3}},
      {silu, {.rows = 128, .columns = 96, .share_w = 2, .w_head = 1, .persistent = 1}},
      {silu, {.rows = 128, .columns = 64, .share_x = 2, .split = 2}},
      {heads, {.rows = 64, .columns = 128, .warpgroups = 1, .split = 2, .pairs = 32}},
      {heads, {.rows = 128, .columns = 96, .share_w = 2, .w_slots = 3, .x_slots = 2, .pairs = 16}},
      {wide_heads, {.rows = 256, .columns = 96, .w_slots = 3, .x_slots = 3, .w_head = 2, .pairs = 16}},
      {wide_heads, {.rows = 128, .columns = 64, .share_x = 2, .w_slots = 3, .x_slots = 3, .pairs = 32}},
  };
}

TEST(Wgmma, AgreesWithTheReferenceAtAnyNumberOfRows) {
  SKIP_WITHOUT_FIBERS();
  for (const WgmmaCase& each : WgmmaCases()) {
    const MatmulGraph g = MakeGraph(each.c);
    const Schedule schedule = ToSchedule(each.n);
    SCOPED_TRACE(ToText(schedule));
    const auto region = WgmmaRegionOf(*matmul::ReadSpec(g.graph, g.matmul), kHopper);
    ASSERT_TRUE(region && WgmmaShape::Of(*region, each.n)) << each.c.Name();
    const RegionCode code = matmul_region::Generate(g.graph, g.matmul, kHopper, {}, schedule);
    const CudaUnitForTest unit(code.source);
    ASSERT_EQ(unit.log(), "");
    for (const int64_t rows : {1, 63, 64, 65, 127, 129, 300}) {
      const uint64_t seed = static_cast<uint64_t>(rows) % 3;
      CheckRun(each.c, unit, code, rows, {.seed = seed, .more_rows = 3});
      if (HasFatalFailure()) return;
    }
  }
}

// All seeds, and a cluster in each shape, on one awkward number of rows.
TEST(Wgmma, IsRightInEveryOrder) {
  SKIP_WITHOUT_FIBERS();
  for (const WgmmaCase& each : WgmmaCases()) {
    const MatmulGraph g = MakeGraph(each.c);
    const RegionCode code = matmul_region::Generate(g.graph, g.matmul, kHopper, {}, ToSchedule(each.n));
    const CudaUnitForTest unit(code.source);
    for (uint64_t seed = 0; seed < 6; ++seed) {
      CheckRun(each.c, unit, code, 130, {.seed = seed, .more_rows = 2});
      if (HasFatalFailure()) return;
    }
  }
}

// Rows beside it, how a product is cut into tiles, and who shares what change no bit of a row; only the split
// of the sum does.
TEST(Wgmma, ARowHasTheSameBitsForEveryScheduleOfOneSplit) {
  SKIP_WITHOUT_FIBERS();
  const MatmulCase c = {.epilogue = "add", .k = 320, .columns = {72}, .x = DType::kBf16};
  const MatmulGraph g = MakeGraph(c);
  for (const int64_t split : {1, 2}) {
    std::string first;
    for (const WgmmaNumbers& n :
         {WgmmaNumbers{.rows = 64, .columns = 40, .warpgroups = 1, .split = split},
          WgmmaNumbers{.rows = 128, .columns = 72, .split = split, .share_w = 2},
          WgmmaNumbers{.rows = 256, .columns = 24, .share_x = 2, .split = split, .w_slots = 4}}) {
      const RegionCode code = matmul_region::Generate(g.graph, g.matmul, kHopper, {}, ToSchedule(n));
      const CudaUnitForTest unit(code.source);
      for (const int64_t rows : {17, 200}) {
        MatmulData d(c, g, 200);
        d.rows = rows;
        ASSERT_EQ(RunCuda(d, unit, code, {.more_rows = 203 - rows}), "");
        const std::string bytes(d.out.bytes.data(), static_cast<size_t>(17 * d.out.stride * 4));
        if (first.empty()) first = bytes;
        EXPECT_TRUE(bytes == first) << ToText(ToSchedule(n)) << ", rows " << rows;
      }
    }
  }
}

// A product that hands its result on, and the one that gets it.
struct HandedPair {
  const MatmulCase& from;
  const MatmulCase& to;
  MatmulGraph first = MakeGraph(from), second = MakeGraph(to, &first);
  std::vector<Workspace> handed;
  RegionCode first_code, second_code;

  HandedPair(const MatmulCase& from_case, const WgmmaNumbers& from_numbers, const MatmulCase& to_case,
             const WgmmaNumbers& to_numbers)
      : from(from_case), to(to_case) {
    Schedule from_schedule = ToSchedule(from_numbers), to_schedule = ToSchedule(to_numbers);
    EXPECT_EQ(NormalizersOf(second.graph, first.matmul), std::vector<ir::NodeId>{second.matmul});
    handed = HandOn(second.graph, kHopper, first.matmul, &from_schedule, second.matmul, &to_schedule);
    EXPECT_EQ(handed.size(), 2u);
    first_code = codegen::Generate(second.graph, first.matmul, kHopper, {}, from_schedule);
    second_code = codegen::Generate(second.graph, second.matmul, kHopper, {}, to_schedule);
  }
};

// The two on so many rows. What went wrong, or "".
struct HandedRun {
  MatmulData a, b;
  HandedRun(const HandedPair& pair, int64_t rows)
      : a(pair.from, pair.first, rows), b(pair.to, pair.second, rows, pair.to.head_dim > 0 ? 5 : 0) {}

  std::string Run(const HandedPair& pair, const CudaUnitForTest& first, const CudaUnitForTest& second,
                  uint64_t seed) {
    for (size_t i = 0; i < pair.handed.size(); ++i) {
      const int64_t bytes = pair.handed[i].extent.Bytes(a.max_rows, a.capacity);
      a.handed.emplace(static_cast<int>(i), Matrix::Dense(DType::kF32, 1, (bytes + 63) / 64 * 16));
    }
    a.gain = &b.norm;
    const std::string error = RunCuda(a, first, pair.first_code, {.seed = seed, .more_rows = 3});
    if (!error.empty()) return error;
    std::memcpy(b.x.bytes.data(), a.out.bytes.data(), b.x.bytes.size());
    b.handed = std::move(a.handed);
    // Two blocks where they go through tiles: of three rows of tiles each gets others all the time.
    return RunCuda(b, second, pair.second_code, {.seed = seed + 1, .more_rows = 3, .multiprocessors = 2});
  }
};

const MatmulCase kHandsOn = {.epilogue = "add", .k = 320, .columns = {136}, .x = DType::kBf16, .bias = true};
const MatmulCase kHandedGated = {.prologue = "rms_norm",
                                 .epilogue = "silu_mul",
                                 .k = 136,
                                 .columns = {88, 88},
                                 .out = DType::kBf16,
                                 .bias = true};

// Both right, whatever tiles each has.
TEST(Wgmma, WhatIsHandedOnIsTheNormalisedResult) {
  SKIP_WITHOUT_FIBERS();
  const MatmulCase heads = {.prologue = "rms_norm",
                            .epilogue = "rotary_append",
                            .k = 136,
                            .columns = {192, 64, 64},
                            .out = DType::kBf16,
                            .head_dim = 64};
  struct Numbers {
    const MatmulCase& to;
    WgmmaNumbers from_numbers, to_numbers;
  };
  const std::vector<Numbers> cases = {
      {kHandedGated, {.rows = 64, .columns = 24, .warpgroups = 1, .split = 3}, {.rows = 128, .columns = 64}},
      {kHandedGated,
       {.rows = 128, .columns = 40, .share_x = 2},
       {.rows = 128, .columns = 96, .persistent = 1}},
      {heads,
       {.rows = 256, .columns = 24, .split = 2},
       {.rows = 64, .columns = 64, .warpgroups = 1, .pairs = 32}},
      {heads, {.rows = 128, .columns = 8}, {.rows = 256, .columns = 64, .pairs = 32}},
  };
  for (const Numbers& each : cases) {
    const HandedPair pair(kHandsOn, each.from_numbers, each.to, each.to_numbers);
    SCOPED_TRACE(ToText(ToSchedule(each.from_numbers)) + "; " + ToText(ToSchedule(each.to_numbers)));
    ASSERT_EQ(pair.second_code.launches.size(), 1u);  // no stage
    const CudaUnitForTest first(pair.first_code.source), second(pair.second_code.source);
    ASSERT_EQ(first.log() + second.log(), "");
    for (const int64_t rows : {1, 65, 130, 300}) {
      SCOPED_TRACE(rows);
      HandedRun run(pair, rows);
      ASSERT_EQ(run.Run(pair, first, second, 1), "");
      CheckOutput(run.a, Reference{run.a});
      CheckOutput(run.b, Reference{run.b});
      if (each.to.head_dim > 0) CheckCache(run.b, kHopper, Reference{run.b});
      if (HasFatalFailure()) return;
    }
  }
}

// "numbers" where one is wrong, is not there, or stands where none belongs; else "".
std::string WrongNumbers(const MatmulData& d) {
  const Reference reference{d};
  for (int64_t row = 0; row < d.max_rows; ++row) {
    const std::vector<double> a = row < d.rows ? reference.Multiplicands(row) : std::vector<double>();
    for (int64_t column = 0; column < d.out.stride; ++column) {
      const double y = d.out.At(row, column);
      const bool there = row < d.rows && column < d.out.columns;
      const Bounded expected = there ? reference.Output(a, row, column) : Bounded{};
      if (there ? !(std::abs(y - expected.value) <= 2 * expected.error + 1e-6) : !std::isnan(y))
        return "numbers";
    }
  }
  return "";
}

struct Mutant {
  const char* from;
  const char* to;
};

TEST(Wgmma, BrokenHandingOnIsCaught) {
  SKIP_WITHOUT_FIBERS();
  const HandedPair right(kHandsOn, {.rows = 64, .columns = 24, .warpgroups = 1, .split = 2}, kHandedGated,
                         {.rows = 128, .columns = 32, .persistent = 1});
  const Mutant mutants[] = {
      {"    WaitBarrier(barriers.full_scales + turn.slot, turn.parity);\n", ""},
      {"    WaitBarrier(barriers.empty_scales + turn.slot, turn.parity);\n", ""},
      {"    Arrive(barriers.full_scales + turn.slot);\n", ""},
      {"if (Lane() == 0) Arrive(barriers.empty_scales + turn.slot);", ""},
      {"+ turn.slot * kTileRows + first_row;", "+ first_row;"},
      {"  SyncWarp();\n  f32* const to", "  f32* const to"},
      {"(unit.column_tile * kSplit + job.split)", "(unit.column_tile * kSplit)"},
  };
  for (const Mutant& mutant : mutants) {
    HandedPair broken = right;
    bool found = false;
    for (RegionCode* code : {&broken.first_code, &broken.second_code}) {
      const size_t at = code->source.find(mutant.from);
      if (at == std::string::npos) continue;
      code->source.replace(at, std::strlen(mutant.from), mutant.to);
      found = true;
    }
    ASSERT_TRUE(found) << mutant.from;
    const CudaUnitForTest first(broken.first_code.source, {.flags = {"-Wno-error"}});
    const CudaUnitForTest second(broken.second_code.source, {.flags = {"-Wno-error"}});
    std::string caught;
    for (uint64_t seed = 0; seed < 6 && caught.empty(); ++seed) {
      HandedRun run(broken, 300);
      caught = run.Run(broken, first, second, seed);
      if (caught.empty()) caught = WrongNumbers(run.b);
    }
    EXPECT_NE(caught, "") << mutant.from;
  }
}

// Where a product is not wgmma, or nothing normalises its result, it stays as it is.
TEST(Wgmma, HandsOnOnlyToWgmma) {
  const MatmulCase from = {.epilogue = "add", .k = 320, .columns = {136}, .x = DType::kBf16};
  const MatmulCase to = {.prologue = "rms_norm", .k = 136, .columns = {104}};
  const MatmulGraph g = MakeGraph(from);
  EXPECT_TRUE(NormalizersOf(g.graph, g.matmul).empty());
  const MatmulGraph next = MakeGraph(to, &g);
  const Schedule wgmma = ToSchedule({.rows = 64, .columns = 8, .warpgroups = 1});
  const Schedule mma = {{"family", 2}, {"tile_rows", 64}, {"tile_columns", 64}, {"stages", 4}};
  for (const auto& [first, second] : {std::pair{wgmma, mma}, {mma, wgmma}}) {
    Schedule a = first, b = second;
    EXPECT_TRUE(HandOn(next.graph, kHopper, g.matmul, &a, next.matmul, &b).empty());
    EXPECT_TRUE(a == first && b == second);
  }
}

// What a card cannot have at once is not chosen; where it has room for fewer clusters, tiles are larger.
TEST(Wgmma, ChoicesFitTheClustersThatAreResident) {
  const WgmmaRegion region = {.epilogue = matmul::Epilogue::kAdd, .k = 8192, .columns = 3072};
  const auto blocks = [](const WgmmaNumbers& n) { return n.share_x * n.split * n.share_w; };
  const StepShape known = {.rows = 128, .threads = 132, .resident_clusters = {132, 66, 39, 30}};
  EXPECT_EQ(ToSchedule(WgmmaChoices(region, known, 1).at(0)),
            ToSchedule(WgmmaChoices(region, {.rows = 128}, 1).at(0)));
  EXPECT_EQ(blocks(WgmmaChoices(region, known, 1).at(0)), 3);
  const StepShape none = {.rows = 128, .threads = 132, .resident_clusters = {132}};
  for (const WgmmaNumbers& n : WgmmaChoices(region, none, 20)) EXPECT_EQ(blocks(n), 1);
  const StepShape fewer = {.rows = 128, .threads = 132, .resident_clusters = {132, 66, 30, 30}};
  EXPECT_GT(WgmmaChoices(region, fewer, 1).at(0).columns, WgmmaChoices(region, known, 1).at(0).columns);
}

// Broken in each way that one breaks such a kernel, it is caught: by an error, or by its numbers.
TEST(Wgmma, BrokenIsCaught) {
  SKIP_WITHOUT_FIBERS();
  const MatmulCase c = {.epilogue = "add", .k = 704, .columns = {72}, .x = DType::kBf16};
  const WgmmaNumbers numbers = {
      .rows = 64, .columns = 32, .warpgroups = 1, .split = 2, .share_w = 2, .w_slots = 3};
  const MatmulGraph g = MakeGraph(c);
  const RegionCode right = matmul_region::Generate(g.graph, g.matmul, kHopper, {}, ToSchedule(numbers));
  const Mutant mutants[] = {
      {"      WaitBarrier(barriers.full_x + x.slot, x.parity);\n", ""},
      {"      WaitBarrier(barriers.full_w + w.slot, w.parity);\n", ""},
      {"WaitBarrier(barriers.empty_w + turn.slot, turn.parity);", ""},
      {"WaitBarrier(barriers.empty_x + turn.slot, turn.parity);", ""},
      {"WaitMatrices<1>();", "WaitMatrices<2>();"},
      {"if (step > 0) hand_back();", "hand_back();"},
      {"SyncCluster();  // all are done", "// all are done"},
      {"if constexpr (kCluster > 1) SyncCluster();", ""},
      {"WaitBarrier(barriers.exchanged, 0);", ""},
      {"ExpectBytes(full, kXBytes);", "ExpectBytes(full, kXBytes / 2);"},
      {"ExpectBytes(barriers.exchanged, BytesSentTo(job.split));", "ExpectBytes(barriers.exchanged, 16);"},
      {"if (++slot == kSlots) {", "if (++slot > kSlots) {"},
      {"      parity ^= 1;\n", ""},
      {"slot + box * kBoxColumns * kRowBytes", "slot"},
      {"CommitMatrices();", ""},
      {"Advance(b, part * 32)", "Advance(b, part * 16)"},
      {"group * kRowBlocks * 64 * kRowBytes", "(group + 1) * kRowBlocks * 64 * kRowBytes"},
      {"  SyncWarp();\n}\n\ntemplate <int kSlice> INLINE void StageOwn",
       "}\n\ntemplate <int kSlice> INLINE void StageOwn"},
      {"if (job.split != kSlice) return StageOwn", "if (job.split == kSlice) return StageOwn"},
      {"if (job.split != kSlice) return AddSent", "if (job.split == kSlice) return AddSent"},
      {"(mapless)", "(mapless)"},
  };
  for (const Mutant& mutant : mutants) {
    RegionCode broken = right;
    const size_t at = broken.source.find(mutant.from);
    const bool none = std::string_view(mutant.from) == "(mapless)";
    ASSERT_TRUE(none || at != std::string::npos) << mutant.from;
    if (!none) broken.source.replace(at, std::strlen(mutant.from), mutant.to);
    if (none) broken.launches.back().tensor_maps.pop_back();
    const CudaUnitForTest unit(broken.source, {.flags = {"-Wno-error"}});
    std::string caught;
    for (uint64_t seed = 0; seed < 6 && caught.empty(); ++seed) {
      MatmulData d(c, g, 100);
      caught = RunCuda(d, unit, broken, {.seed = seed, .more_rows = 3});
      if (caught.empty()) caught = WrongNumbers(d);
    }
    EXPECT_NE(caught, "") << mutant.from;
  }
}

TEST(CudaGemv, EverySchedulesMemoryIsThereOnEveryCard) {
  constexpr StepShape kDecode{.rows = 1};
  for (const char* name : {"sm_80", "sm_86", "sm_89", "sm_90a", "sm_100", "sm_120", "compute_80",
                           "compute_90", "compute_100", "compute_120"}) {
    const Target target = ParseTarget(name);
    for (const bool bf16 : {true, false}) {
      for (const int64_t k : {2048, 14336, 28672}) {
        MatmulCase c = {.k = k, .columns = {4096}};
        if (!bf16) c.weight = DType::kF32;
        const MatmulGraph g = MakeGraph(c);
        const auto check = [&](const Schedule& schedule) {
          const RegionCode code = codegen::Generate(g.graph, g.matmul, target, kDecode, schedule);
          EXPECT_LE(code.launches[0].blocks.shared_bytes, MostSharedBytes(target))
              << name << " k " << k << " " << ToText(schedule);
        };
        check(codegen::DefaultSchedule(g.graph, g.matmul, target, kDecode));
        for (const Schedule& schedule : codegen::Candidates(g.graph, g.matmul, target, kDecode))
          check(schedule);
      }
    }
  }
}

}  // namespace
}  // namespace preheat::codegen::cuda
