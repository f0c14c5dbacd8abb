// The threads that run a step. Made once; between steps they sleep.
//
// All threads, the caller among them, walk the same list of launches. Tiles are claimed in chunks from one
// atomic word a launch. A launch is over when its last tile is done, not when every thread has come by: a
// thread that a busy neighbour keeps off its CPU delays only the chunk that it holds, and when it comes back
// it finds the launches that it missed empty and walks on. Waiting spins for spin_us and then sleeps on a
// futex (std::atomic::wait), so that a neighbour costs its share and no more.
//
// Each word carries the number of the run (epoch) that it belongs to. A thread left behind by a run can
// therefore neither claim tiles of a later one nor touch a launch record that its caller has freed: it reads
// a record only while it holds a claim, and a claim only succeeds in its own epoch.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <thread>
#include <vector>

#include "device/device.h"

namespace preheat::device {

struct ThreadPoolOptions {
  int threads = 0;  // the caller included; 0: sys::AvailableThreads()
  double spin_us =
      50;  // before a waiting thread sleeps; longer than most launches, shorter than a time slice
};

class ThreadPool {
 public:
  explicit ThreadPool(const ThreadPoolOptions& options = {});
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const { return threads_; }

  // As Device::ReserveScratch and Device::Run. A kernel must not call Run.
  void ReserveScratch(size_t bytes_per_thread);
  void Run(std::span<const Launch> launches);

  // How often a thread went to sleep because a launch or a run took longer than spin_us: for measuring.
  int64_t sleeps() const { return sleeps_.load(std::memory_order_relaxed); }

 private:
  // Longer lists are run in pieces.
  static constexpr size_t kSlots = 1024;

  // The progress of one launch. A cache line of its own.
  struct alignas(64) Slot {
    std::atomic<uint64_t> unclaimed{0};  // epoch << 32 | tiles not yet claimed
    std::atomic<uint32_t> undone{0};     // tiles not yet done; waited on
    std::atomic<uint32_t> chunk{1};
  };

  void WorkerLoop(int index);
  void RunPiece(std::span<const Launch> launches);
  uint32_t ChunkOf(const Launch& launch) const;
  // Walks the launches of `epoch` until they are done or the run is over.
  void Walk(uint32_t epoch, size_t count, const Launch* launches, int thread);
  // Both: false where the run is over. `launch` is read only under a claim.
  bool RunClaims(uint32_t epoch, Slot& slot, const Launch* launch, int thread);
  bool WaitUntilDone(uint32_t epoch, Slot& slot);

  int threads_;
  int64_t spin_ns_;
  std::unique_ptr<Slot[]> slots_;

  // Published by Run, read by the workers. `epoch_` is what they wait on.
  alignas(64) std::atomic<uint32_t> epoch_{0};
  std::atomic<size_t> count_{0};
  std::atomic<const Launch*> launches_{nullptr};
  std::atomic<bool> stop_{false};
  alignas(64) std::atomic<int64_t> sleeps_{0};

  Buffer scratch_;
  std::atomic<size_t> scratch_stride_{0};
  std::vector<std::thread> workers_;
};

}  // namespace preheat::device
