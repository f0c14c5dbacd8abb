#include "codegen/cuda/host_barriers_for_test.h"

#include <fmt/format.h>

#include <utility>

#include "base/check.h"

namespace preheat::codegen::cuda {
namespace {

// Which barrier it is stands in its word, so that one that was never made, or overwritten, shows.
constexpr CopyBarriers::Word kMagic = 0xb4221e4d9c7a5e00;
// PTX ISA, "mbarrier object": the ranges of its counts.
constexpr int kMaxArrivals = (1 << 20) - 1;
constexpr int64_t kMaxBytes = (1 << 20) - 1;

}  // namespace

void CopyBarriers::Start(SharedBuffer& shared) {
  shared_ = &shared;
  barriers_.clear();
  in_flight_ = 0;
}

std::string CopyBarriers::Init(Word* word, int arrivals, int thread) {
  if (reinterpret_cast<uintptr_t>(word) % 8 != 0 || !shared_->Contains(word, 8)) {
    return fmt::format("a barrier at {}: it must be a multiple of 8 in shared memory", shared_->Name(word));
  }
  if (shared_->InFlight(word, 8)) {
    return fmt::format("a barrier at {}: a copy is in flight to it", shared_->Name(word));
  }
  if (arrivals < 1 || arrivals > kMaxArrivals) return fmt::format("a barrier of {} arrivals", arrivals);
  for (const Barrier& barrier : barriers_) {
    if (barrier.word == word) {
      return fmt::format("a second InitBarrier of the barrier at {}", shared_->Name(word));
    }
  }
  *word = kMagic + barriers_.size();
  barriers_.push_back(
      {.word = word, .arrivals = arrivals, .missing = arrivals, .owner = thread, .copies = {}});
  return "";
}

void CopyBarriers::Fence(int thread) {
  for (Barrier& barrier : barriers_) {
    if (barrier.owner == thread) barrier.fenced = true;
  }
}

CopyBarriers::Barrier* CopyBarriers::Find(const Word* word, std::string& problem) {
  if (!shared_->Contains(word, 8)) {
    problem = fmt::format("the barrier at {} is not in shared memory", shared_->Name(word));
    return nullptr;
  }
  const Word index = *word - kMagic;
  if (index >= barriers_.size() || barriers_[index].word != word) {
    problem = fmt::format("no barrier at {}: InitBarrier has not run yet, or the word was overwritten",
                          shared_->Name(word));
    return nullptr;
  }
  if (!barriers_[index].fenced) {
    problem = fmt::format("the barrier at {} is used before FenceBarriers", shared_->Name(word));
    return nullptr;
  }
  return &barriers_[index];
}

std::string CopyBarriers::ExpectBytes(Word* word, uint32_t bytes) {
  std::string problem;
  Barrier* barrier = Find(word, problem);
  if (barrier == nullptr) return problem;
  barrier->bytes += bytes;
  if (barrier->bytes > kMaxBytes) {
    return fmt::format("{}: more than {} bytes a phase", Describe(*barrier), kMaxBytes);
  }
  return Arrive(word);
}

std::string CopyBarriers::Arrive(Word* word) {
  std::string problem;
  Barrier* barrier = Find(word, problem);
  if (barrier == nullptr) return problem;
  if (barrier->missing == 0) {
    return fmt::format("{}: one arrival more than it has", Describe(*barrier));
  }
  --barrier->missing;
  return CompletePhase(*barrier);
}

std::string CopyBarriers::Copy(Word* word, PendingCopy copy) {
  std::string problem;
  Barrier* barrier = Find(word, problem);
  if (barrier == nullptr) return problem;
  for (const Barrier& other : barriers_) {
    const auto* at = reinterpret_cast<const std::byte*>(other.word);
    if (at + 8 > copy.to && at < copy.to + copy.bytes) {
      return fmt::format("a copy of {} bytes to {} overwrites the barrier at {}", copy.bytes,
                         shared_->Name(copy.to), shared_->Name(at));
    }
  }
  problem = shared_->Issue(copy);
  if (!problem.empty()) return problem;
  barrier->copies.push_back(std::move(copy));
  ++in_flight_;
  return "";
}

std::string CopyBarriers::PerformCopy(Barrier& barrier, size_t index) {
  CHECK(index < barrier.copies.size());
  const PendingCopy copy = std::move(barrier.copies[index]);
  barrier.copies.erase(barrier.copies.begin() + static_cast<ptrdiff_t>(index));
  --in_flight_;
  barrier.bytes -= copy.bytes;
  barrier.unseen_line = copy.line;
  std::string problem = shared_->Perform(copy);
  return problem.empty() ? CompletePhase(barrier) : problem;
}

std::string CopyBarriers::CompletePhase(Barrier& barrier) {
  if (barrier.missing != 0) return "";
  if (barrier.bytes < 0) {
    return fmt::format("{}: more bytes were copied than announced", Describe(barrier));
  }
  if (barrier.bytes > 0) return "";
  if (!barrier.copies.empty()) {
    return fmt::format(
        "{} completes while the copy issued at line {} is in flight: fewer bytes were announced",
        Describe(barrier), barrier.copies.front().line);
  }
  ++barrier.phase;
  barrier.missing = barrier.arrivals;
  return "";
}

std::string CopyBarriers::Describe(const Barrier& barrier) const {
  int64_t copied = 0;
  for (const PendingCopy& copy : barrier.copies) copied += copy.bytes;
  return fmt::format(
      "barrier at {}: phase {} (parity {}) misses {} of {} arrivals and {} bytes, {} in flight",
      shared_->Name(barrier.word), barrier.phase, barrier.phase & 1, barrier.missing, barrier.arrivals,
      barrier.bytes, copied);
}

}  // namespace preheat::codegen::cuda
