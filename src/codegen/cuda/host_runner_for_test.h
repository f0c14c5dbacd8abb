// How the host runs a kernel: blocks of fibers, the order they run in, where they meet, and what is said when
// nobody can go on. host_machine_for_test.cc gives the names of the machine their meaning on top of it.
//
// A fiber runs until it must wait. Ready fibers stand in a heap whose keys the seed decides. When none is
// ready, time passes: pollers see what changed; a copy that a thread waits for is performed; pollers look
// again; and when that has led nowhere for long, it is a deadlock.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "codegen/cuda/host_barriers_for_test.h"
#include "codegen/cuda/host_fiber_for_test.h"
#include "codegen/cuda/host_machine_for_test.h"
#include "codegen/cuda/host_matrices_for_test.h"
#include "codegen/cuda/host_shared_for_test.h"

namespace preheat::codegen::cuda {

struct HostBlock;

struct HostFiber {
  enum class State {
    kReady,
    kInWarp,     // for the other lanes
    kAtBarrier,  // SyncBlock, SyncNamed
    kAtCluster,  // SyncCluster
    kOnCopy,     // WaitBarrier, TryWaitBarrier
    kPolling,    // LookAgain*, an atomic that changes nothing
    kEnded,
  };

  HostThread view{};
  Fiber fiber;
  HostBlock* block = nullptr;
  State state = State::kReady;
  const char* name = "";  // what it is in, and where
  int line = 0;
  int named = 0;  // the barrier's id
  const CopyBarriers::Word* barrier = nullptr;
  uint32_t parity = 0;
  const uint32_t* polled = nullptr;
  uint32_t polled_value = 0;
  uint64_t seen_change = 0;              // the runner's changes() when it last looked
  bool has_waited = false;               // WaitDependencies, by itself or by one that it met since
  std::vector<PendingCopy> open_copies;  // CopyAsync16 since the last CommitCopies
  std::vector<std::vector<PendingCopy>> closed_copies;  // groups, oldest first
  uint32_t fenced = 0;  // landings in shared memory before the last FenceCopies
  OpenProducts products;

  int lane() const { return view.thread % 32; }
  int warp() const { return view.thread / 32; }
};

// Where the lanes of a warp meet.
struct HostWarp {
  int arrived = 0;
  const char* name = "";
  int line = 0;
  int first_lane = 0;
  uint64_t meetings = 0;
  // Of this meeting and the next: a lane may be there before a slow one has read.
  std::array<std::array<uint32_t, 32>, 2> values{};
  std::array<MultiplyLane, 32> multiply{};
  std::array<LoadMatricesLane, 32> load{};
};

// Where warps meet.
struct HostNamedBarrier {
  int expected = 0;
  int line = 0;  // of the first
  std::vector<HostFiber*> waiting;
  int arrived = 0;          // and went on
  bool has_waited = false;  // one of them
  struct Place {
    int line = 0;
    int lanes = 0;
  };
  std::array<Place, 32> places{};  // of each warp
};

// Blocks that run together.
struct HostCluster {
  std::vector<HostBlock*> blocks;   // by rank
  std::vector<HostFiber*> waiting;  // in SyncCluster
};

struct HostBlock {
  HostCluster* cluster = nullptr;
  int index = 0;
  int alive = 0;    // threads that have not ended; 0: the slot is free
  int on_copy = 0;  // threads in kOnCopy
  SharedBuffer shared;
  CopyBarriers barriers;
  std::vector<HostFiber> threads;
  std::vector<HostWarp> warps;
  std::array<HostNamedBarrier, 16> named;
};

class HostRunner {
 public:
  HostRunner(const HostKernel& kernel, const HostLaunch& launch);
  ~HostRunner();
  HostRunner(const HostRunner&) = delete;
  HostRunner& operator=(const HostRunner&) = delete;

  HostRun Run();

  // The one that runs now.
  static HostRunner& current() { return *current_; }

  // ---- For the names of the machine, on the fiber that runs ----
  HostFiber& fiber() { return *running_; }
  HostRun& run() { return run_; }
  const HostLaunch& launch() const { return launch_; }
  uint64_t changes() const { return changes_; }
  // Ends the launch with `problem`, and empties it: nothing on this fiber's stack is ever destroyed, so no
  // other string may be alive where this is called.
  [[noreturn]] void Fail(int line, std::string&& problem);
  // The same where there is a problem.
  void FailIf(int line, std::string&& problem) {
    if (!problem.empty()) Fail(line, std::move(problem));
  }
  // Where another thread may come in between; only some seeds let it.
  void MayYield();
  // Memory changed that others may be looking at.
  void Changed() { ++changes_; }
  // All lanes of the warp come to the same name and line. `finish` runs once, when the last is there.
  template <typename Finish>
  HostWarp& MeetWarp(const char* name, int line, Finish finish) {
    HostWarp& warp = EnterWarp(name, line);
    if (warp.arrived == 32) {
      finish(warp);
      LeaveWarp(warp);
    } else {
      WaitAs(HostFiber::State::kInWarp);
    }
    return warp;
  }
  enum class Meeting { kWaits, kArrives };
  void MeetNamed(const char* name, int id, int threads, int line, Meeting meeting = Meeting::kWaits);
  void MeetCluster(int line);
  // Until somebody changed something, or nobody else can go on.
  void Poll(const char* name, const uint32_t* p, int line);
  // Until the barrier passes `parity`, or, where `once`, time has passed. Whether it passes.
  bool WaitForCopies(const char* name, const CopyBarriers::Word* barrier, uint32_t parity, bool once,
                     int line);
  // After a barrier's counts changed.
  void WakeWaiters(HostBlock& block);

 private:
  static void FiberEntry();

  // What is wrong with the launch itself, or "".
  std::string Problem() const;
  void StartBlocks();
  void StartBlock(HostBlock& block, int slot, int index);
  // Lets those go on that wait in SyncCluster, where nobody else is to come.
  bool ReleaseCluster(HostCluster& cluster);
  void Finish(HostFiber& fiber);
  void SetError(const HostFiber& fiber, int line, const std::string& problem);

  HostWarp& EnterWarp(const char* name, int line);
  void LeaveWarp(HostWarp& warp);
  void WaitAs(HostFiber::State state);
  void MakeReady(HostFiber& fiber);
  uint64_t Random();
  uint64_t KeyOf(const HostFiber& fiber);

  // Lets time pass. False where no thread is left, or the launch has failed.
  bool Unblock();
  bool WakeChangedPollers();
  bool PerformAwaitedCopies();
  void PerformSomeCopy(HostBlock& block);
  bool PerformCopy(HostBlock& block, CopyBarriers::Barrier& barrier);
  std::string DeadlockText() const;
  std::string StateText(const HostFiber& fiber) const;

  static HostRunner* current_;

  const HostKernel& kernel_;
  const HostLaunch& launch_;
  HostRun run_;
  struct alignas(64) ParameterLine {
    std::byte bytes[64];
  };
  std::vector<ParameterLine> params_;
  std::vector<int> order_;  // of clusters
  size_t started_ = 0;      // clusters
  std::vector<std::unique_ptr<HostBlock>> slots_;
  std::vector<HostCluster> clusters_;  // of as many slots each
  int alive_blocks_ = 0;
  std::vector<std::pair<uint64_t, HostFiber*>> ready_;  // a heap, the least key first
  std::vector<HostFiber*> polling_;
  Fiber runner_;
  HostFiber* running_ = nullptr;
  uint64_t random_ = 0;
  uint64_t sequence_ = 0;
  uint64_t changes_ = 1;
  uint64_t round_changes_ = 0;
  int idle_rounds_ = 0;
};

}  // namespace preheat::codegen::cuda
