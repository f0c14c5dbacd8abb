// Each way to misuse the machine is caught, whatever the order, and said so that one finds it.
#include <gtest/gtest.h>

#include <algorithm>
#include <span>
#include <string>
#include <vector>

#include "codegen/cuda/cuda_unit_for_test.h"
#include "codegen/cuda/host_machine_for_test.h"
#include "codegen/cuda/machine.h"
#include "codegen/unit_for_test.h"

namespace preheat::codegen::cuda {
namespace {

// Blocks of 64 threads with 4096 bytes of shared memory; `from` is immutable, 4096 bytes; `made` is by an
// earlier kernel, `to` is written, 256 bytes each.
constexpr char kOpening[] = R"text(
// `past` is by an earlier step, 1024 bytes.
struct P { const u8* from; const u8* made; float* to; u32* word; const u8* past; int big; };
#define BAD(name) KERNEL(name, 64, 1, P)

// A barrier at the beginning of shared memory, of one arrival, that everyone may use.
INLINE CopyBarrier* MakeBarrier() {
  CopyBarrier* barrier = (CopyBarrier*)SharedMemory();
  if (ThreadIndex() == 0) {
    InitBarrier(barrier, 1);
    FenceBarriers();
  }
  SyncBlock();
  return barrier;
}
// The same, and 1024 bytes on their way to 1024.
INLINE CopyBarrier* Copying(const void* from) {
  CopyBarrier* barrier = MakeBarrier();
  if (ThreadIndex() == 0) {
    ExpectBytes(barrier, 1024);
    CopyBulk(SharedMemory() + 1024, from, 1024, barrier, EvictFirst());
  }
  SyncBlock();
  return barrier;
}
)text";

struct Misuse {
  const char* name;
  const char* body;   // of a kernel
  const char* error;  // what its error must contain
  // Caught for certain by seed 0 alone: others may end a copy before the mistake.
  bool is_timing = false;
};

constexpr Misuse kMeetings[] = {
    {"ended", "if (ThreadIndex() == 5) return; SyncBlock();", "warp 0, lanes 5 have ended"},
    {"ended_warp", "if (ThreadIndex() > 31) return; SyncBlock();", "barrier 0 with 32 of 64 threads"},
    {"ended_lane", "if (Lane() == 31) return; SyncWarp();", "lanes 0-30 wait in SyncWarp at line"},
    {"elsewhere", "if (Lane() < 16) SyncWarp(); else SyncBlock();", "lanes 0-15 wait in SyncWarp at line"},
    {"diverged",
     "u32 r;\nif (Lane() < 16) r = ShuffleXor(1u, 1);\nelse r = ShuffleXor(2u, 1);\nparams.word[0] = r;",
     "diverges: lane"},
    {"two_names", "if (Lane() < 16) SyncWarp(); else Ballot(true);", "diverges: lane"},
    {"two_barriers", "if (Lane() < 16)\nSyncBlock();\nelse\nSyncBlock();", "diverges: lane"},
    {"named_counts", "if (WarpIndex() == 0) SyncNamed(1, 64); else SyncNamed(1, 32);", "SyncNamed"},
    {"named_missing", "if (WarpIndex() == 0) SyncNamed(1, 64); else SyncNamed(2, 64);",
     "barrier 1 with 32 of 64 threads"},
    {"named_parts", "if (Lane() % 2 == 0) SyncNamed(1, 32);", "a warp comes as a whole"},
    {"arrived_twice", "if (WarpIndex() == 0) { ArriveNamed(1, 64); ArriveNamed(1, 64); }", "a second time"},
    {"named_id", "SyncNamed(16, 64);", "there is no barrier 16"},
    {"named_threads", "SyncNamed(1, 40);", "40 threads of a block of 64"},
    {"no_lane", "ShuffleFrom(1u, 32);", "there is no lane 32"},
    {"no_lane_xor", "ShuffleXor(1u, 32);", "there is no lane"},
    {"part_of_warp_multiplies",
     "float d[4] = {}; u32 a[4] = {}, b[2] = {}; if (Lane() < 31) MultiplyBf16(d, a, b); params.to[0] = "
     "d[0];",
     "lanes 0-30 wait in MultiplyBf16"},
    {"waits_for_nothing", "WaitDependencies(); while (LookAgain4(params.made) != 12345) SyncWarp();",
     "wait in LookAgain4 at line"},
    {"adds_nothing", "while (AddAcquireRelease(params.word, 0) != 12345) {}",
     "wait in AddAcquireRelease at line"},
    {"trapped", "if (ThreadIndex() == 40) Trap(); SyncBlock();", "block 0, thread 40, line"},
};

constexpr Misuse kShared[] = {
    {"beyond", "SharedMemory()[4096 + ThreadIndex()] = 1;",
     "out of bounds: shared memory + 4096 was written"},
    {"before", "if (ThreadIndex() == 0) SharedMemory()[-8] = 1;",
     "out of bounds: shared memory - 8 was written"},
    {"beyond_then_meets", "if (ThreadIndex() == 0) SharedMemory()[4100] = 1; SyncBlock(); SyncBlock();",
     "shared memory + 4100 was written, the block has 4096 bytes, before this barrier"},
    {"address_of_other", "params.word[0] = SharedAddress(params.word);", "which is not shared memory"},
    {"async_misaligned", "CopyAsync16(SharedMemory() + 8, params.from);", "must be multiples of 16"},
    {"async_misaligned_source", "CopyAsync16(SharedMemory() + 16 * ThreadIndex(), params.from + 4);",
     "misaligned"},
    {"async_outside", "CopyAsync16(SharedMemory() + 4096, params.from);", "the block has 4096 bytes"},
    {"async_to_global", "CopyAsync16(params.to, params.from);", "the block has 4096 bytes"},
    {"async_twice", "CopyAsync16(SharedMemory(), params.from); SyncBlock();",
     "another is in flight to the same bytes"},
    {"async_forgotten",
     "CopyAsync16(SharedMemory() + 16 * ThreadIndex(), params.from); CommitCopies(); WaitCopies<1>();",
     "the thread ended while this copy of its was in flight"},
    {"async_uncommitted", "CopyAsync16(SharedMemory() + 16 * ThreadIndex(), params.from); WaitCopies<0>();",
     "the thread ended while this copy of its was in flight"},
    {"async_written",
     "CopyAsync16(SharedMemory() + 16 * ThreadIndex(), params.from); SharedMemory()[16 * ThreadIndex()] = 1; "
     "CommitCopies(); WaitCopies<0>();",
     "was written while a copy was in flight to it"},
    {"rows_misaligned", "u32 r[4]; LoadMatrices(r, SharedMemory() + 8); params.word[0] = r[0];",
     "misaligned"},
    {"rows_outside", "u32 r[4]; LoadMatrices(r, SharedMemory() + 4096); params.word[0] = r[0];",
     "outside of the block's memory"},
    {"rows_in_flight",
     "u32 r[4]; CopyAsync16(SharedMemory() + 16 * ThreadIndex(), params.from); CommitCopies(); SyncBlock();\n"
     "LoadMatrices(r, SharedMemory() + 16 * ThreadIndex()); WaitCopies<0>(); params.word[0] = r[0];",
     "a copy is in flight to it"},
};

constexpr Misuse kBarriers[] = {
    {"bulk_misaligned",
     "CopyBarrier* b = MakeBarrier(); CopyBulk(SharedMemory() + 24, params.from, 32, b, EvictFirst());",
     "must be multiples of 16"},
    {"bulk_odd",
     "CopyBarrier* b = MakeBarrier(); CopyBulk(SharedMemory() + 32, params.from, 24, b, EvictFirst());",
     "must be multiples of 16"},
    {"bulk_misaligned_source",
     "CopyBarrier* b = MakeBarrier(); CopyBulk(SharedMemory() + 32, params.from + 8, 32, b, EvictFirst());",
     "must be a multiple of 16"},
    {"bulk_outside",
     "CopyBarrier* b = MakeBarrier(); CopyBulk(SharedMemory() + 4080, params.from, 32, b, EvictFirst());",
     "the block has 4096 bytes"},
    {"bulk_policy", "CopyBarrier* b = MakeBarrier(); CopyBulk(SharedMemory() + 32, params.from, 32, b, 0);",
     "policy"},
    {"bulk_over_barrier",
     "CopyBarrier* b = MakeBarrier(); CopyBulk(SharedMemory(), params.from, 32, b, EvictFirst());",
     "overwrites the barrier"},
    {"bulk_twice",
     "CopyBarrier* b = Copying(params.from); CopyBulk(SharedMemory() + 2032, params.from, 32, b, "
     "EvictFirst());",
     "another is in flight to the same bytes"},
    {"bulk_written", "CopyBarrier* b = Copying(params.from); SharedMemory()[1500] = 1; WaitBarrier(b, 0);",
     "shared memory + 1500 was written while a copy was in flight", true},
    {"bulk_forgotten", "Copying(params.from);", "nobody waited for it"},
    {"not_made", "WaitBarrier((CopyBarrier*)SharedMemory(), 0);", "InitBarrier has not run yet"},
    {"not_fenced",
     "CopyBarrier* b = (CopyBarrier*)SharedMemory(); if (ThreadIndex() == 0) InitBarrier(b, 1); SyncBlock(); "
     "Arrive(b);",
     "before FenceBarriers"},
    {"not_met",
     "CopyBarrier* b = (CopyBarrier*)SharedMemory();\nif (ThreadIndex() == 63) { InitBarrier(b, 1); "
     "FenceBarriers(); "
     "Arrive(b); }\nWaitBarrier(b, 0);",
     "InitBarrier has not run yet"},
    {"made_twice", "CopyBarrier* b = MakeBarrier(); InitBarrier(b, 1);", "a second InitBarrier"},
    {"made_misaligned", "InitBarrier((CopyBarrier*)(SharedMemory() + 4), 1);", "multiple of 8"},
    {"overwritten", "CopyBarrier* b = MakeBarrier(); *(u32*)b = 0; SyncBlock(); Arrive(b);",
     "was overwritten"},
    {"arrives_twice", "CopyBarrier* b = MakeBarrier(); if (ThreadIndex() < 2) ExpectBytes(b, 1024);",
     "one arrival more than it has"},
    {"never_arrives", "CopyBarrier* b = MakeBarrier(); WaitBarrier(b, 0);",
     "misses 1 of 1 arrivals and 0 bytes"},
    {"never_arrives_try", "CopyBarrier* b = MakeBarrier(); while (!TryWaitBarrier(b, 0)) {}",
     "misses 1 of 1 arrivals"},
    {"too_few_bytes",
     "CopyBarrier* b = MakeBarrier(); if (ThreadIndex() == 0) { ExpectBytes(b, 512); CopyBulk(SharedMemory() "
     "+ 1024, "
     "params.from, 1024, b, EvictFirst()); } WaitBarrier(b, 0);",
     "more bytes were copied than announced"},
    {"too_many_bytes",
     "CopyBarrier* b = MakeBarrier(); if (ThreadIndex() == 0) { ExpectBytes(b, 1040); "
     "CopyBulk(SharedMemory() + 1024, "
     "params.from, 1024, b, EvictFirst()); } WaitBarrier(b, 0);",
     "misses 0 of 1 arrivals and 16 bytes, 0 in flight"},
    {"no_bytes",
     "CopyBarrier* b = MakeBarrier(); if (ThreadIndex() == 0) { CopyBulk(SharedMemory() + 1024, params.from, "
     "1024, b, "
     "EvictFirst()); Arrive(b); } WaitBarrier(b, 0);",
     "fewer bytes were announced"},
    {"wrong_phase", "CopyBarrier* b = Copying(params.from); WaitBarrier(b, 0); WaitBarrier(b, 1);",
     "phase 1 (parity 1) misses 1 of 1 arrivals"},
    {"no_parity", "CopyBarrier* b = MakeBarrier(); WaitBarrier(b, 2);", "no parity 2"},
};

constexpr Misuse kGlobal[] = {
    {"early", "params.word[0] = LoadDependent4(params.made);", "LoadDependent before WaitDependencies"},
    {"early_in_one_warp",
     "if (WarpIndex() == 0) { WaitDependencies(); SyncWarp(); }\n"
     "if (ThreadIndex() == 63) params.word[0] = LoadDependent4(params.made);",
     "thread 63"},
    {"early_async", "CopyAsync16(SharedMemory() + 16 * ThreadIndex(), params.made);",
     "before WaitDependencies"},
    {"early_bulk", "Copying(params.made - 1024 + 256);", "before WaitDependencies"},
    {"stream_of_made", "WaitDependencies(); params.word[0] = LoadStream16(params.made).w[0];",
     "LoadStream of what another kernel made"},
    {"stream_of_earlier", "params.word[0] = LoadStream16(params.past).w[0];",
     "LoadStream of what an earlier step made"},
    {"earlier_of_made", "WaitDependencies(); params.word[0] = LoadEarlier16(params.made).w[0];",
     "LoadEarlier of what another kernel made"},
    {"earlier_of_written", "params.word[0] = (u32)LoadEarlierI64(params.to);",
     "LoadEarlier of what this launch writes"},
    {"earlier_misaligned", "params.word[0] = (u32)LoadEarlierI64(params.past + 4);", "misaligned"},
    {"earlier_is_fine", "params.word[0] = LoadEarlier16(params.past).w[0]; Copying(params.past); Trap();",
     "trap"},
    {"stream_of_written", "params.word[0] = LoadStream16(params.to).w[0];",
     "LoadStream of what this launch writes"},
    {"bulk_of_written",
     "WaitDependencies(); CopyBarrier* b = MakeBarrier(); CopyBulk(SharedMemory() + 32, params.to, 32, b, "
     "EvictFirst());",
     "CopyBulk of what this launch writes"},
    {"outside", "params.word[0] = LoadStream16(params.from + 4096 + 256).w[0];",
     "is in no buffer of the launch"},
    {"outside_in_part", "WaitDependencies(); params.word[0] = LoadDependent16(params.made + 256 - 8).w[0];",
     "misaligned"},
    {"bulk_outside_in_part", "Copying(params.from - 512);", "is in no buffer of the launch"},
    {"misaligned_stream", "params.word[0] = LoadStream16(params.from + 8).w[0];", "misaligned"},
    {"misaligned_dependent", "WaitDependencies(); params.word[0] = LoadDependent2(params.made + 1);",
     "misaligned"},
    {"load_of_shared", "params.word[0] = LoadStream16(SharedMemory()).w[0];", "it reads global memory"},
    {"atomic_on_shared", "AddAcquireRelease((u32*)SharedMemory(), 1);", "it is for global memory"},
    {"atomic_misaligned", "AddAcquireRelease((u32*)((u8*)params.word + 2), 1);", "misaligned"},
    {"source_changes",
     "WaitDependencies(); CopyAsync16(SharedMemory() + 16 * ThreadIndex(), params.to);\nCommitCopies(); "
     "params.to[1] += 1; WaitCopies<0>();",
     "changed while it was in flight"},
};

constexpr Misuse kPlain[] = {
    {"deref_misaligned", "params.word[0] = ((const Words4*)(params.from + 8))->w[0];", "misaligned address"},
    {"deref_null", "if (params.big > 0) *(params.big > 1 ? (u32*)nullptr : params.word) = 1;",
     "null pointer"},
    {"array", "u32 r[4] = {1, 2, 3, 4}; params.word[0] = r[params.big & 7];", "index outside of its array"},
    {"overflow", "params.word[0] = (u32)(params.big * 2);", "mul_overflow"},
    {"shift", "params.word[0] = 1u << (params.big & 63);", "shift_out_of_bounds"},
    {"division", "params.word[0] = (u32)(7 / (params.big - 0x7fffffff));", "divrem_overflow"},
};

std::string UnitOf(std::span<const Misuse> misuses) {
  std::string text = std::string(CudaMachine()) + kOpening;
  for (const Misuse& misuse : misuses)
    text += std::string("BAD(bad_") + misuse.name + ") {\n" + misuse.body + "\n}\n";
  return text;
}

void ExpectCaught(std::span<const Misuse> misuses) {
  if (!HostMachineRuns()) GTEST_SKIP() << "[SKIP] ThreadSanitizer does not know our fibers";
  // Plain C++ is the compiler's to check; these lack nothing for the rest.
  const CudaUnitForTest unit(UnitOf(misuses), {.flags = {"-Wno-unused-value", "-Wno-unused-result"}});
  constexpr size_t kBytes = 1024 + 4096 + 256 + 64 + 256;
  AlignedArray<uint8_t> memory(kBytes);
  std::fill_n(memory.data(), kBytes, uint8_t{1});
  uint8_t* from = memory.data() + 1024;
  uint8_t* made = from + 4096;
  uint8_t* to = made + 256 + 64;
  std::vector<uint32_t> word(64);
  AlignedArray<uint8_t> past(1024);
  struct {
    const uint8_t* from;
    const uint8_t* made;
    uint8_t* to;
    uint32_t* word;
    const uint8_t* past;
    int big = 0x7fffffff;
  } params{from, made, to, word.data(), past.data()};
  for (const Misuse& misuse : misuses) {
    for (const uint64_t seed : {0, 1, 2, 3, 4}) {
      if (misuse.is_timing && seed != 0) continue;
      const HostRun run =
          unit.Run(std::string("bad_") + misuse.name, {.threads = 64,
                                                       .shared_bytes = 4096,
                                                       .params = BytesOf(params),
                                                       .seed = seed,
                                                       .ranges = {{from, 4096, HostAccess::kImmutable},
                                                                  {past.data(), 1024, HostAccess::kEarlier},
                                                                  {made, 256, HostAccess::kDependent},
                                                                  {to, 256, HostAccess::kWritten}}});
      EXPECT_NE(run.error.find(misuse.error), std::string::npos)
          << misuse.name << ", seed " << seed << ": \"" << run.error << "\" does not say \"" << misuse.error
          << "\"";
    }
  }
}

TEST(HostMisuse, NamesTheLineOfTheUnit) {
  if (!HostMachineRuns()) GTEST_SKIP() << "[SKIP] ThreadSanitizer does not know our fibers";
  const std::string text = "// begins\n" + std::string(CudaMachine()) +
                           "// on\n\nKERNEL(f, 32, 1, i64) {\n  SyncWarp();\n  Trap();\n}\n";
  const auto line =
      std::count(text.begin(), text.begin() + static_cast<ptrdiff_t>(text.find("  Trap")), '\n') + 1;
  const CudaUnitForTest unit(text);
  const int64_t params = 0;
  EXPECT_EQ(unit.Run("f", {.params = BytesOf(params)})
                .error.find("kernel f, block 0, thread 31, line " + std::to_string(line)),
            0u);
}

TEST(HostMisuse, PlainReadsAreAddressSanitizersToCheck) {
  if (!HostMachineIsInstrumented()) GTEST_SKIP() << "[SKIP] AddressSanitizer is not in this program";
  const CudaUnitForTest unit(
      std::string(CudaMachine()) +
      "struct P { u32* x; int n; };\nKERNEL(f, 32, 1, P) { params.x[0] = params.x[params.n + Lane()]; }\n");
  std::vector<uint32_t> x(100);
  struct {
    uint32_t* x;
    int n;
  } params = {x.data(), 68};
  EXPECT_EQ(unit.Run("f", {.params = BytesOf(params)}).error, "");
  params.n = 69;
  EXPECT_DEATH(unit.Run("f", {.params = BytesOf(params)}), "heap-buffer-overflow");
}

TEST(HostMisuse, ThreadsThatCannotMeet) {
  ExpectCaught(kMeetings);
}

TEST(HostMisuse, SharedMemory) {
  ExpectCaught(kShared);
}

TEST(HostMisuse, BarriersAndBulkCopies) {
  ExpectCaught(kBarriers);
}

TEST(HostMisuse, GlobalMemory) {
  ExpectCaught(kGlobal);
}

TEST(HostMisuse, UndefinedBehaviour) {
  ExpectCaught(kPlain);
}

}  // namespace
}  // namespace preheat::codegen::cuda
