// HostRunner where threads meet: lanes of a warp, warps at named barriers, clusters; and wait for words and
// copies.
#include <fmt/format.h>

#include <string>
#include <string_view>
#include <utility>

#include "codegen/cuda/host_runner_for_test.h"

namespace preheat::codegen::cuda {

HostWarp& HostRunner::EnterWarp(const char* name, int line) {
  HostFiber& self = *running_;
  self.name = name;
  self.line = line;
  HostWarp& warp = self.block->warps[static_cast<size_t>(self.warp())];
  if (warp.arrived == 0) {
    warp.name = name;
    warp.line = line;
    warp.first_lane = self.lane();
  } else if (warp.line != line || (warp.name != name && std::string_view(warp.name) != name)) {
    Fail(line, fmt::format("warp {} diverges: lane {} is in {} at line {}, lane {} in {} at line {}",
                           self.warp(), self.lane(), name, line, warp.first_lane, warp.name, warp.line));
  }
  ++warp.arrived;
  return warp;
}

void HostRunner::LeaveWarp(HostWarp& warp) {
  HostFiber& self = *running_;
  warp.arrived = 0;
  ++warp.meetings;
  HostFiber* lanes = &self.block->threads[static_cast<size_t>(self.warp()) * 32];
  for (int lane = 0; lane < 32; ++lane) {
    if (lane != self.lane()) MakeReady(lanes[lane]);
  }
  if (launch_.seed == 0) return;
  MakeReady(self);
  SwitchFiber(self.fiber, runner_);
}

void HostRunner::MeetNamed(const char* name, int id, int threads, int line, Meeting meeting) {
  HostFiber& self = *running_;
  HostBlock& block = *self.block;
  self.name = name;
  self.line = line;
  self.named = id;
  HostNamedBarrier& barrier = block.named[static_cast<size_t>(id)];
  if (barrier.waiting.empty() && barrier.arrived == 0) {
    barrier.expected = threads;
    barrier.line = line;
  } else if (barrier.expected != threads) {
    Fail(line, fmt::format("{}: barrier {} for {} threads here, for {} where others wait at line {}", name,
                           id, threads, barrier.expected, barrier.line));
  }
  auto& place = barrier.places[static_cast<size_t>(self.warp())];
  if (place.lanes > 0 && place.line != line) {
    Fail(line, fmt::format("warp {} diverges: lane {} is in {} at line {}, others at line {}", self.warp(),
                           self.lane(), name, line, place.line));
  }
  place.line = line;
  if (++place.lanes > 32) {
    Fail(line, fmt::format("{}: warp {} is at barrier {} a second time before all were there once", name,
                           self.warp(), id));
  }
  const bool waits = meeting == Meeting::kWaits;
  if (waits) {
    barrier.waiting.push_back(&self);
  } else {
    ++barrier.arrived;
    barrier.has_waited |= self.has_waited;
  }
  if (static_cast<int>(barrier.waiting.size()) + barrier.arrived < threads) {
    return waits ? WaitAs(HostFiber::State::kAtBarrier) : MayYield();
  }

  for (size_t warp = 0; warp < barrier.places.size(); ++warp) {
    const int lanes = barrier.places[warp].lanes;
    if (lanes % 32 == 0) continue;
    Fail(line, fmt::format("{}: {} lanes of warp {} are at barrier {}: a warp comes as a whole", name, lanes,
                           warp, id));
  }
  barrier.places = {};
  bool has_waited = barrier.has_waited;
  for (const HostFiber* thread : barrier.waiting) has_waited |= thread->has_waited;
  if (std::string damage = block.shared.Damage(); !damage.empty()) {
    std::string problem = damage + ", before this barrier";
    std::string().swap(damage);
    Fail(line, std::move(problem));
  }
  for (HostFiber* thread : barrier.waiting) {
    thread->has_waited = has_waited;
    if (thread != &self) MakeReady(*thread);
  }
  barrier.waiting.clear();
  barrier.arrived = 0;
  barrier.has_waited = false;
  if (launch_.seed == 0) return;
  MakeReady(self);
  SwitchFiber(self.fiber, runner_);
}

bool HostRunner::ReleaseCluster(HostCluster& cluster) {
  size_t threads = 0;
  for (const HostBlock* block : cluster.blocks) threads += static_cast<size_t>(block->alive);
  if (cluster.waiting.empty() || cluster.waiting.size() < threads) return false;
  for (HostFiber* thread : cluster.waiting) MakeReady(*thread);
  cluster.waiting.clear();
  return true;
}

void HostRunner::MeetCluster(int line) {
  HostFiber& self = *running_;
  self.name = "SyncCluster";
  self.line = line;
  self.block->cluster->waiting.push_back(&self);
  if (ReleaseCluster(*self.block->cluster)) {
    SwitchFiber(self.fiber, runner_);
  } else {
    WaitAs(HostFiber::State::kAtCluster);
  }
}

void HostRunner::Poll(const char* name, const uint32_t* p, int line) {
  HostFiber& self = *running_;
  if (self.seen_change != changes_) {
    self.seen_change = changes_;
    return MayYield();
  }
  self.name = name;
  self.line = line;
  self.polled = p;
  self.polled_value = *p;
  polling_.push_back(&self);
  WaitAs(HostFiber::State::kPolling);
  self.polled = nullptr;
  self.seen_change = changes_;
}

bool HostRunner::WaitForCopies(const char* name, const CopyBarriers::Word* word, uint32_t parity, bool once,
                               int line) {
  HostFiber& self = *running_;
  HostBlock& block = *self.block;
  for (bool looked = false;; looked = true) {
    std::string problem;
    CopyBarriers::Barrier* barrier = block.barriers.Find(word, problem);
    if (barrier == nullptr) Fail(line, std::move(problem));
    if (barrier->Passes(parity)) {
      barrier->unseen_line = 0;
      return true;
    }
    if (once && looked) return false;
    self.name = name;
    self.line = line;
    self.barrier = word;
    self.parity = parity;
    ++block.on_copy;
    if (once) polling_.push_back(&self);
    WaitAs(HostFiber::State::kOnCopy);
  }
}

void HostRunner::WakeWaiters(HostBlock& block) {
  ++changes_;
  if (block.on_copy == 0) return;
  for (HostFiber& thread : block.threads) {
    if (thread.state != HostFiber::State::kOnCopy) continue;
    std::string problem;
    const CopyBarriers::Barrier* barrier = block.barriers.Find(thread.barrier, problem);
    if (barrier != nullptr && !barrier->Passes(thread.parity)) continue;
    std::erase(polling_, &thread);
    --block.on_copy;
    MakeReady(thread);
  }
}

}  // namespace preheat::codegen::cuda
