// HostRunner when no fiber is ready: what time brings, and the report where it brings nothing.
#include <fmt/format.h>

#include <algorithm>

#include "codegen/cuda/host_runner_for_test.h"

namespace preheat::codegen::cuda {
namespace {

// Rounds in which pollers alone ran and saw nothing new. A kernel may look at a word now and then without
// waiting for it; none looks thousands of times.
constexpr int kMaxIdleRounds = 4096;
constexpr int kMaxReportLines = 24;

// "0-3,7"
std::string LanesText(uint32_t lanes) {
  std::string text;
  for (int lane = 0; lane < 32; ++lane) {
    if ((lanes >> lane & 1) == 0) continue;
    int last = lane;
    while (last < 31 && (lanes >> (last + 1) & 1) != 0) ++last;
    if (!text.empty()) text += ",";
    text += lane == last ? fmt::format("{}", lane) : fmt::format("{}-{}", lane, last);
    lane = last;
  }
  return text;
}

}  // namespace

bool HostRunner::Unblock() {
  if (alive_blocks_ == 0) return false;
  if (WakeChangedPollers()) return true;
  if (PerformAwaitedCopies()) return true;
  if (!run_.error.empty()) return false;
  if (!polling_.empty()) {
    idle_rounds_ = round_changes_ == changes_ ? idle_rounds_ + 1 : 0;
    round_changes_ = changes_;
    if (idle_rounds_ < kMaxIdleRounds) {
      std::vector<HostFiber*> pollers;
      pollers.swap(polling_);
      for (HostFiber* fiber : pollers) {
        if (fiber->state == HostFiber::State::kOnCopy) --fiber->block->on_copy;
        MakeReady(*fiber);
      }
      return true;
    }
  }
  run_.error = fmt::format("kernel {}: deadlock: no thread can go on{}", kernel_.name, DeadlockText());
  return false;
}

bool HostRunner::WakeChangedPollers() {
  const auto changed = [](const HostFiber* fiber) {
    return fiber->polled != nullptr && *fiber->polled != fiber->polled_value;
  };
  const auto first = std::stable_partition(polling_.begin(), polling_.end(),
                                           [&](const HostFiber* f) { return !changed(f); });
  for (auto fiber = first; fiber != polling_.end(); ++fiber) MakeReady(**fiber);
  const bool any = first != polling_.end();
  polling_.erase(first, polling_.end());
  return any;
}

// One barrier of each block, so that others stay late.
bool HostRunner::PerformAwaitedCopies() {
  for (const auto& slot : slots_) {
    if (slot == nullptr || slot->alive == 0 || slot->on_copy == 0 || slot->barriers.in_flight() == 0)
      continue;
    HostBlock& block = *slot;
    const size_t count = block.threads.size();
    const size_t begin = launch_.seed == 0 ? 0 : Random() % count;
    for (size_t i = 0; i < count; ++i) {
      const HostFiber& thread = block.threads[(begin + i) % count];
      if (thread.state != HostFiber::State::kOnCopy) continue;
      std::string problem;
      CopyBarriers::Barrier* barrier = block.barriers.Find(thread.barrier, problem);
      if (barrier == nullptr || barrier->copies.empty()) continue;
      while (!barrier->copies.empty() && thread.state == HostFiber::State::kOnCopy) {
        if (!PerformCopy(block, *barrier)) return false;
      }
      break;
    }
  }
  return !ready_.empty();
}

void HostRunner::PerformSomeCopy(HostBlock& block) {
  auto& barriers = block.barriers.all();
  const size_t begin = Random() % barriers.size();
  for (size_t i = 0; i < barriers.size(); ++i) {
    CopyBarriers::Barrier& barrier = barriers[(begin + i) % barriers.size()];
    if (barrier.copies.empty()) continue;
    PerformCopy(block, barrier);
    return;
  }
}

bool HostRunner::PerformCopy(HostBlock& block, CopyBarriers::Barrier& barrier) {
  const size_t index = launch_.seed == 0 ? 0 : Random() % barrier.copies.size();
  const HostFiber& issuer = block.threads[static_cast<size_t>(barrier.copies[index].thread)];
  const int line = barrier.copies[index].line;
  const std::string problem = block.barriers.PerformCopy(barrier, index);
  if (!problem.empty()) SetError(issuer, line, problem);
  WakeWaiters(block);
  return problem.empty();
}

std::string HostRunner::StateText(const HostFiber& fiber) const {
  HostBlock& block = *fiber.block;
  std::string text;
  switch (fiber.state) {
    case HostFiber::State::kReady:
      return "could run";
    case HostFiber::State::kEnded:
      return "have ended";
    case HostFiber::State::kInWarp:
      return fmt::format("wait in {} at line {}", fiber.name, fiber.line);
    case HostFiber::State::kAtBarrier: {
      const HostNamedBarrier& barrier = block.named[static_cast<size_t>(fiber.named)];
      return fmt::format("wait in {} at line {}, barrier {} with {} of {} threads", fiber.name, fiber.line,
                         fiber.named, barrier.waiting.size(), barrier.expected);
    }
    case HostFiber::State::kAtCluster:
      return fmt::format("wait in SyncCluster at line {}, with {} threads of the cluster", fiber.line,
                         block.cluster->waiting.size());
    case HostFiber::State::kOnCopy: {
      std::string problem;
      const CopyBarriers::Barrier* barrier = block.barriers.Find(fiber.barrier, problem);
      return fmt::format("wait in {} for parity {} at line {}: {}", fiber.name, fiber.parity, fiber.line,
                         barrier == nullptr ? problem : block.barriers.Describe(*barrier));
    }
    case HostFiber::State::kPolling:
      return fmt::format("wait in {} at line {}: {} holds {}", fiber.name, fiber.line,
                         static_cast<const void*>(fiber.polled), fiber.polled_value);
  }
  return "";
}

std::string HostRunner::DeadlockText() const {
  std::string text;
  int lines = 0;
  for (const auto& slot : slots_) {
    if (slot == nullptr || slot->alive == 0) continue;
    const HostBlock& block = *slot;
    for (size_t warp = 0; warp < block.warps.size(); ++warp) {
      std::vector<std::pair<std::string, uint32_t>> groups;
      for (int lane = 0; lane < 32; ++lane) {
        std::string state = StateText(block.threads[warp * 32 + static_cast<size_t>(lane)]);
        auto group =
            std::find_if(groups.begin(), groups.end(), [&](const auto& g) { return g.first == state; });
        if (group == groups.end()) group = groups.insert(groups.end(), {std::move(state), 0});
        group->second |= 1u << lane;
      }
      for (const auto& [state, lanes] : groups) {
        if (++lines > kMaxReportLines) return text + "\n  ...";
        text += fmt::format("\n  block {}, warp {}, lanes {} {}", block.index, warp, LanesText(lanes), state);
      }
    }
  }
  if (started_ < order_.size()) {
    text += fmt::format("\n  {} blocks have not started: {} run at a time",
                        (order_.size() - started_) * static_cast<size_t>(launch_.cluster), slots_.size());
  }
  return text;
}

}  // namespace preheat::codegen::cuda
