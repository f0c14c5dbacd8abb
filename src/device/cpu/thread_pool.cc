#include "device/cpu/thread_pool.h"

#include <immintrin.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "base/check.h"
#include "device/cpu/cpu_device.h"
#include "sys/cpu.h"

namespace preheat::device {
namespace {

constexpr uint64_t kTilesMask = 0xffffffff;

uint64_t Pack(uint32_t epoch, uint64_t tiles) {
  return uint64_t{epoch} << 32 | tiles;
}
uint32_t EpochOf(uint64_t word) {
  return static_cast<uint32_t>(word >> 32);
}

// Asks the clock only every so often: a pause takes 10 to 40 ns, the clock about 25.
class Spin {
 public:
  explicit Spin(int64_t limit_ns) : limit_ns_(limit_ns) {}

  // One pause; false once the limit has passed.
  bool Again() {
    if (limit_ns_ <= 0) return false;
    _mm_pause();
    if (++pauses_ % kPausesPerLook != 0) return true;
    const auto now = std::chrono::steady_clock::now();
    if (pauses_ == kPausesPerLook) begin_ = now;
    return (now - begin_).count() < limit_ns_;
  }

 private:
  static constexpr int64_t kPausesPerLook = 32;
  int64_t limit_ns_;
  int64_t pauses_ = 0;
  std::chrono::steady_clock::time_point begin_;
};

}  // namespace

ThreadPool::ThreadPool(const ThreadPoolOptions& options)
    : threads_(options.threads > 0 ? options.threads : sys::AvailableThreads()),
      spin_ns_(static_cast<int64_t>(options.spin_us * 1000)),
      slots_(std::make_unique<Slot[]>(kSlots)) {
  for (int i = 1; i < threads_; ++i) workers_.emplace_back([this, i] { WorkerLoop(i); });
}

ThreadPool::~ThreadPool() {
  stop_.store(true, std::memory_order_release);
  // No run is under way, so every slot is done: whoever waits, waits on the epoch.
  epoch_.fetch_add(1, std::memory_order_release);
  epoch_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::ReserveScratch(size_t bytes_per_thread) {
  // A stride of an odd number of cache lines: the threads' scratch then does not fall into the same cache
  // sets.
  const size_t stride = ((bytes_per_thread + 63) / 64 | 1) * 64;
  if (stride <= scratch_stride_.load(std::memory_order_relaxed)) return;
  scratch_ = AllocateHostMemory(stride * static_cast<size_t>(threads_));
  scratch_stride_.store(stride, std::memory_order_relaxed);
}

uint32_t ThreadPool::ChunkOf(const Launch& launch) const {
  if (launch.chunk > 0) return static_cast<uint32_t>(std::min<int64_t>(launch.chunk, INT32_MAX));
  // Few enough claims to cost nothing, enough that a thread which was held up leaves the others little to
  // wait for.
  constexpr int64_t kClaimsPerThread = 8;
  return static_cast<uint32_t>(std::max<int64_t>(1, launch.tiles / (kClaimsPerThread * threads_)));
}

void ThreadPool::Run(std::span<const Launch> launches) {
  while (!launches.empty()) {
    const std::span<const Launch> piece = launches.first(std::min(launches.size(), kSlots));
    RunPiece(piece);
    launches = launches.subspan(piece.size());
  }
}

void ThreadPool::RunPiece(std::span<const Launch> launches) {
  const uint32_t epoch = epoch_.load(std::memory_order_relaxed) + 1;
  for (size_t i = 0; i < launches.size(); ++i) {
    const Launch& launch = launches[i];
    CHECK(launch.tiles >= 0 && launch.tiles <= INT32_MAX);
    Slot& slot = slots_[i];
    slot.chunk.store(ChunkOf(launch), std::memory_order_relaxed);
    slot.undone.store(static_cast<uint32_t>(launch.tiles), std::memory_order_relaxed);
    // Last and with release: a claim in this epoch sees the rest, and the launch record.
    slot.unclaimed.store(Pack(epoch, static_cast<uint64_t>(launch.tiles)), std::memory_order_release);
  }
  count_.store(launches.size(), std::memory_order_relaxed);
  launches_.store(launches.data(), std::memory_order_relaxed);
  epoch_.store(epoch, std::memory_order_release);
  epoch_.notify_all();
  Walk(epoch, launches.size(), launches.data(), /*thread=*/0);
}

void ThreadPool::WorkerLoop(int index) {
  uint32_t seen = 0;
  for (;;) {
    uint32_t epoch = epoch_.load(std::memory_order_acquire);
    for (Spin spin(spin_ns_); epoch == seen && spin.Again();) epoch = epoch_.load(std::memory_order_acquire);
    if (epoch == seen) {
      epoch_.wait(seen, std::memory_order_acquire);
      continue;
    }
    if (stop_.load(std::memory_order_acquire)) return;
    seen = epoch;
    // These may already belong to a later run; then no claim in `epoch` succeeds and nothing is read.
    const size_t count = std::min(count_.load(std::memory_order_relaxed), kSlots);
    Walk(epoch, count, launches_.load(std::memory_order_relaxed), index);
  }
}

void ThreadPool::Walk(uint32_t epoch, size_t count, const Launch* launches, int thread) {
  for (size_t i = 0; i < count; ++i) {
    if (!RunClaims(epoch, slots_[i], launches + i, thread)) return;
    if (!WaitUntilDone(epoch, slots_[i])) return;
  }
}

bool ThreadPool::RunClaims(uint32_t epoch, Slot& slot, const Launch* launch, int thread) {
  bool staged = false;
  uint64_t word = slot.unclaimed.load(std::memory_order_acquire);
  for (;;) {
    if (EpochOf(word) != epoch) return false;
    const uint64_t left = word & kTilesMask;
    if (left == 0) return true;
    const uint64_t take = std::min<uint64_t>(slot.chunk.load(std::memory_order_relaxed), left);
    if (!slot.unclaimed.compare_exchange_weak(word, word - take, std::memory_order_acq_rel,
                                              std::memory_order_acquire)) {
      continue;
    }
    // The claim keeps this run, and so its records and its scratch, alive until it is counted as done.
    const int64_t begin = launch->tiles - static_cast<int64_t>(left);
    void* scratch =
        scratch_.data() + scratch_stride_.load(std::memory_order_relaxed) * static_cast<size_t>(thread);
    if (!std::exchange(staged, true) && launch->stage) {
      launch->stage.host(launch->args, 0, launch->tiles, scratch);
    }
    launch->kernel.host(launch->args, begin, begin + static_cast<int64_t>(take), scratch);
    const auto done = static_cast<uint32_t>(take);
    if (slot.undone.fetch_sub(done, std::memory_order_acq_rel) == done) slot.undone.notify_all();
    word = slot.unclaimed.load(std::memory_order_acquire);
  }
}

bool ThreadPool::WaitUntilDone(uint32_t epoch, Slot& slot) {
  Spin spin(spin_ns_);
  for (;;) {
    const uint32_t undone = slot.undone.load(std::memory_order_acquire);
    if (undone == 0) return true;
    if (EpochOf(slot.unclaimed.load(std::memory_order_relaxed)) != epoch) return false;
    if (spin.Again()) continue;
    sleeps_.fetch_add(1, std::memory_order_relaxed);
    slot.undone.wait(undone, std::memory_order_acquire);
  }
}

}  // namespace preheat::device
