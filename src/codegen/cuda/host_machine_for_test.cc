#include "codegen/cuda/host_machine_for_test.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/check.h"
#include "codegen/cuda/host_reads_for_test.h"
#include "codegen/cuda/host_runner_for_test.h"
#include "codegen/cuda/machine.h"
#include "codegen/cuda/machine_hopper.h"

namespace preheat::codegen::cuda {
namespace {

// The only policy that a kernel can have.
constexpr unsigned long long kEvictFirst = 0x12f0000000000000;

HostRunner& Runner() {
  return HostRunner::current();
}

HostFiber& Self() {
  return Runner().fiber();
}

void Trap(int line) {
  Runner().Fail(line, "trap");
}

void Undefined(const char* what, const void* address, const char* type, int line) {
  Runner().Fail(line, fmt::format("undefined behaviour: {} {} {}", what, address, type));
}

// ---- Threads
// -------------------------------------------------------------------------------------------------

void SyncBlock(int line) {
  Runner().MeetNamed("SyncBlock", 0, Runner().launch().threads, line);
}

void CheckNamed(const char* name, int id, int threads, int line) {
  if (id < 1 || id > 15) Runner().Fail(line, fmt::format("{}: there is no barrier {}", name, id));
  if (threads < 32 || threads % 32 != 0 || threads > Runner().launch().threads) {
    Runner().Fail(line,
                  fmt::format("{}: {} threads of a block of {}", name, threads, Runner().launch().threads));
  }
}

void SyncNamed(int id, int threads, int line) {
  CheckNamed("SyncNamed", id, threads, line);
  Runner().MeetNamed("SyncNamed", id, threads, line);
}

void ArriveNamed(int id, int threads, int line) {
  CheckNamed("ArriveNamed", id, threads, line);
  Runner().MeetNamed("ArriveNamed", id, threads, line, HostRunner::Meeting::kArrives);
}

void SyncWarp(int line) {
  Runner().MeetWarp("SyncWarp", line, [](HostWarp&) {
    HostFiber& self = Self();
    HostFiber* lanes = &self.block->threads[static_cast<size_t>(self.warp()) * 32];
    const bool has_waited = std::any_of(lanes, lanes + 32, [](const HostFiber& f) { return f.has_waited; });
    for (int lane = 0; lane < 32; ++lane) lanes[lane].has_waited = has_waited;
  });
}

// Gives each lane what `from` gave.
unsigned Exchange(const char* name, unsigned value, int from, int line) {
  HostFiber& self = Self();
  if (from < 0 || from > 31) Runner().Fail(line, fmt::format("{}: there is no lane {}", name, from));
  HostWarp& warp = self.block->warps[static_cast<size_t>(self.warp())];
  const size_t meeting = warp.meetings % 2;
  warp.values[meeting][static_cast<size_t>(self.lane())] = value;
  Runner().MeetWarp(name, line, [](HostWarp&) {});
  return warp.values[meeting][static_cast<size_t>(from)];
}

unsigned ShuffleXor(unsigned value, int mask, int line) {
  return Exchange("ShuffleXor", value, Self().lane() ^ mask, line);
}

unsigned ShuffleFrom(unsigned value, int lane, int line) {
  return Exchange("ShuffleFrom", value, lane, line);
}

int WarpIndex(int line) {
  return static_cast<int>(Exchange("WarpIndex", static_cast<unsigned>(Self().warp()), 0, line));
}

unsigned Ballot(bool value, int line) {
  HostFiber& self = Self();
  HostWarp& warp = self.block->warps[static_cast<size_t>(self.warp())];
  auto& values = warp.values[warp.meetings % 2];
  values[static_cast<size_t>(self.lane())] = value ? 1u << self.lane() : 0u;
  Runner().MeetWarp("Ballot", line, [](HostWarp&) {});
  unsigned lanes = 0;
  for (const uint32_t bit : values) lanes |= bit;
  return lanes;
}

unsigned SharedAddress(const void* p, int line) {
  HostFiber& self = Self();
  if (!self.block->shared.Contains(p, 0)) {
    Runner().Fail(line, fmt::format("SharedAddress of {}, which is not shared memory", p));
  }
  return static_cast<unsigned>(static_cast<const std::byte*>(p) - self.block->shared.data());
}

// ---- Global memory
// -------------------------------------------------------------------------------------------

Reader ReaderOf(HostLoad load) {
  switch (load) {
    case HostLoad::kStream:
      return Reader::kStream;
    case HostLoad::kEarlier:
      return Reader::kEarlier;
    case HostLoad::kDependent:
      return Reader::kDependent;
  }
  return Reader::kStream;
}

void CheckLoad(HostLoad load, const void* p, int bytes, int line) {
  const Reader reader = ReaderOf(load);
  const auto size = static_cast<size_t>(bytes);
  Runner().FailIf(line, CheckAligned(ReaderName(reader), p, size));
  Runner().FailIf(line, CheckRead(Self(), reader, p, size));
  HostRun& run = Runner().run();
  (reader == Reader::kDependent ? run.dependent_bytes : run.stream_bytes) += bytes;
  if (reader == Reader::kDependent) Runner().MayYield();
}

std::string CheckWord(const char* name, const void* p) {
  SharedBuffer& shared = Self().block->shared;
  if (shared.Touches(p, 4)) return fmt::format("{} of {}: it is for global memory", name, shared.Name(p));
  return CheckAligned(name, p, 4);
}

void Atomic(const char* name, const unsigned* p, bool changes, int line) {
  Runner().FailIf(line, CheckWord(name, p));
  if (!changes) return Runner().Poll(name, p, line);
  Runner().MayYield();
  Runner().Changed();
}

void FenceDevice(int) {
  Runner().MayYield();
}

void LaunchDependents(int) {
  ++Runner().run().launches;
}

void WaitDependencies(int) {
  ++Runner().run().waits;
  Self().has_waited = true;
}

// ---- Copies
// --------------------------------------------------------------------------------------------------

PendingCopy CopyOf(void* to, const void* from, uint32_t bytes, int line) {
  return {.to = static_cast<std::byte*>(to),
          .from = static_cast<const std::byte*>(from),
          .bytes = bytes,
          .source = {},
          .line = line,
          .thread = Self().view.thread};
}

std::string IssueAsync(void* to, const void* from, bool copy, int line) {
  HostFiber& self = Self();
  std::string problem = CheckAligned("CopyAsync16", from, 16);
  if (problem.empty() && copy) problem = CheckRead(self, Reader::kAsync, from, 16);
  if (!problem.empty()) return problem;
  PendingCopy pending = CopyOf(to, copy ? from : nullptr, 16, line);
  problem = self.block->shared.Issue(pending);
  if (problem.empty()) self.open_copies.push_back(std::move(pending));
  return problem;
}

void CopyAsync(void* to, const void* from, bool copy, int line) {
  Runner().FailIf(line, IssueAsync(to, from, copy, line));
  Runner().run().copied_bytes += 16;
}

void CommitCopies(int) {
  HostFiber& self = Self();
  self.closed_copies.push_back(std::move(self.open_copies));
  self.open_copies.clear();
}

void WaitCopies(int open_groups, int line) {
  HostFiber& self = Self();
  while (static_cast<int>(self.closed_copies.size()) > open_groups) {
    for (const PendingCopy& copy : self.closed_copies.front()) {
      Runner().FailIf(line, self.block->shared.Perform(copy));
      self.block->shared.Land(copy.to);
    }
    self.closed_copies.erase(self.closed_copies.begin());
  }
  Runner().MayYield();
}

void InitBarrier(CopyBarriers::Word* barrier, int arrivals, int line) {
  Runner().FailIf(line, Self().block->barriers.Init(barrier, arrivals, Self().view.thread));
  Runner().MayYield();
}

void FenceBarriers(int) {
  Self().block->barriers.Fence(Self().view.thread);
}

void ExpectBytes(CopyBarriers::Word* barrier, unsigned bytes, int line) {
  Runner().FailIf(line, Self().block->barriers.ExpectBytes(barrier, bytes));
  Runner().WakeWaiters(*Self().block);
  Runner().MayYield();
}

void Arrive(CopyBarriers::Word* barrier, int line) {
  Runner().FailIf(line, Self().block->barriers.Arrive(barrier));
  Runner().WakeWaiters(*Self().block);
  Runner().MayYield();
}

std::string CheckParity(uint32_t parity) {
  return parity < 2 ? "" : fmt::format("a barrier has no parity {}", parity);
}

bool TryWaitBarrier(CopyBarriers::Word* barrier, unsigned parity, int line) {
  Runner().FailIf(line, CheckParity(parity));
  Runner().MayYield();
  return Runner().WaitForCopies("TryWaitBarrier", barrier, parity, true, line);
}

void WaitBarrier(CopyBarriers::Word* barrier, unsigned parity, int line) {
  Runner().FailIf(line, CheckParity(parity));
  Runner().MayYield();
  Runner().WaitForCopies("WaitBarrier", barrier, parity, false, line);
}

unsigned long long EvictFirst() {
  return kEvictFirst;
}

std::string IssueBulk(void* to, const void* from, unsigned bytes, CopyBarriers::Word* barrier, int line) {
  if (from == nullptr) return "CopyBulk from a null pointer";
  std::string problem = CheckRead(Self(), Reader::kBulk, from, bytes);
  return problem.empty() ? Self().block->barriers.Copy(barrier, CopyOf(to, from, bytes, line)) : problem;
}

void CopyBulk(void* to, const void* from, unsigned bytes, CopyBarriers::Word* barrier,
              unsigned long long policy, int line) {
  if (policy != kEvictFirst) Runner().Fail(line, "CopyBulk: a policy that EvictFirst did not make");
  Runner().FailIf(line, IssueBulk(to, from, bytes, barrier, line));
  Runner().run().copied_bytes += bytes;
  Runner().MayYield();
}

// ---- Tensor cores
// --------------------------------------------------------------------------------------------

void MultiplyBf16(float* d, const unsigned* a, const unsigned* b, int line) {
  HostFiber& self = Self();
  HostWarp& warp = self.block->warps[static_cast<size_t>(self.warp())];
  warp.multiply[static_cast<size_t>(self.lane())] = {.d = d, .a = a, .b = b};
  Runner().MeetWarp("MultiplyBf16", line, [](HostWarp& all) { MultiplyBf16OfWarp(all.multiply); });
}

std::string CheckRow(const char* name, const void* row) {
  const SharedBuffer& shared = Self().block->shared;
  if (!shared.Contains(row, 16)) {
    return fmt::format("{}: a row at {}: outside of the block's memory", name, shared.Name(row));
  }
  if (shared.InFlight(row, 16)) {
    return fmt::format("{}: a row at {}: a copy is in flight to it", name, shared.Name(row));
  }
  return CheckAligned(name, row, 16);
}

void LoadMatrices(unsigned* r, const void* row, bool transposed, int line) {
  HostFiber& self = Self();
  const char* name = transposed ? "LoadMatricesTransposed" : "LoadMatrices";
  Runner().FailIf(line, CheckRow(name, row));
  HostWarp& warp = self.block->warps[static_cast<size_t>(self.warp())];
  warp.load[static_cast<size_t>(self.lane())] = {.r = r, .row = row};
  Runner().MeetWarp(name, line, [transposed](HostWarp& all) { LoadMatricesOfWarp(all.load, transposed); });
}

HostCalls MakeTable() {
  HostCalls table = {
      .thread = nullptr,
      .Trap = Trap,
      .Undefined = Undefined,
      .SyncBlock = SyncBlock,
      .SyncNamed = SyncNamed,
      .ArriveNamed = ArriveNamed,
      .SyncWarp = SyncWarp,
      .ShuffleXor = ShuffleXor,
      .ShuffleFrom = ShuffleFrom,
      .Ballot = Ballot,
      .WarpIndex = WarpIndex,
      .SharedAddress = SharedAddress,
      .CheckLoad = CheckLoad,
      .Atomic = Atomic,
      .FenceDevice = FenceDevice,
      .LaunchDependents = LaunchDependents,
      .WaitDependencies = WaitDependencies,
      .CopyAsync = CopyAsync,
      .CommitCopies = CommitCopies,
      .WaitCopies = WaitCopies,
      .InitBarrier = InitBarrier,
      .FenceBarriers = FenceBarriers,
      .ExpectBytes = ExpectBytes,
      .Arrive = Arrive,
      .TryWaitBarrier = TryWaitBarrier,
      .WaitBarrier = WaitBarrier,
      .EvictFirst = EvictFirst,
      .CopyBulk = CopyBulk,
      .MultiplyBf16 = MultiplyBf16,
      .LoadMatrices = LoadMatrices,
  };
  AddHopperCalls(&table);
  return table;
}

}  // namespace

bool HostMachineRuns() {
#ifdef PREHEAT_FIBERS_TSAN
  return false;
#else
  return true;
#endif
}

bool HostMachineIsInstrumented() {
#ifdef PREHEAT_FIBERS_ASAN
  return true;
#else
  return false;
#endif
}

// What is before `end`, with `begin` to `end` replaced by an include of `names`.
std::string Include(std::string_view unit, size_t begin, size_t end, std::string_view names) {
  const std::string_view replaced = unit.substr(0, end);
  const auto line = std::count(replaced.begin(), replaced.end(), '\n') + 1;
  return fmt::format("{}\n#include \"codegen/cuda/{}\"\n#line {} \"unit.cu\"\n", unit.substr(0, begin), names,
                     line);
}

std::string WithHostMachine(std::string_view unit) {
  const std::string_view machine = CudaMachine();
  const size_t begin = unit.find(machine);
  CHECK(begin != std::string_view::npos);
  size_t end = begin + machine.size();
  std::string text = Include(unit, begin, end, "host_names_for_test.h");
  if (const size_t hopper = unit.find(kHopperBegin); hopper != std::string_view::npos) {
    const size_t hopper_end = unit.find(kHopperEnd) + std::string_view(kHopperEnd).size();
    const std::string between = Include(unit, hopper, hopper_end, "host_hopper_names_for_test.h");
    text += between.substr(end);
    end = hopper_end;
  }
  return text + std::string(unit.substr(end));
}

const HostCalls& HostCallTable() {
  static HostCalls table = MakeTable();
  return table;
}

HostRun RunOnHost(const HostKernel& kernel, const HostLaunch& launch) {
  return HostRunner(kernel, launch).Run();
}

}  // namespace preheat::codegen::cuda
