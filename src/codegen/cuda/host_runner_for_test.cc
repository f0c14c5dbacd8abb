#include "codegen/cuda/host_runner_for_test.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <numeric>

#include "base/check.h"

namespace preheat::codegen::cuda {
namespace {

FiberStacks& Stacks() {
  static FiberStacks stacks;
  return stacks;
}

HostCalls& MutableCallTable() {
  // The one part of the table that changes; the unit reads it through a pointer to const.
  return const_cast<HostCalls&>(HostCallTable());
}

}  // namespace

HostRunner* HostRunner::current_ = nullptr;

HostRunner::HostRunner(const HostKernel& kernel, const HostLaunch& launch)
    : kernel_(kernel), launch_(launch), params_(launch.params.size() / sizeof(ParameterLine) + 1) {
  std::ranges::copy(launch.params, params_[0].bytes);
  random_ = launch.seed * 0x9e3779b97f4a7c15u + 0x2545f4914f6cdd1du;
}

std::string HostRunner::Problem() const {
  if (launch_.grid < 1 || launch_.resident_blocks < 1) return "no blocks";
  if (launch_.cluster < 1 || launch_.cluster > 16 || launch_.grid % launch_.cluster != 0) {
    return fmt::format("{} blocks in clusters of {}", launch_.grid, launch_.cluster);
  }
  if (launch_.threads < 32 || launch_.threads > 1024 || launch_.threads % 32 != 0) {
    return fmt::format("{} threads a block: whole warps, up to 1024", launch_.threads);
  }
  if (launch_.threads > kernel_.bounds->threads) {
    return fmt::format("{} threads a block, the kernel's bound is {}", launch_.threads,
                       kernel_.bounds->threads);
  }
  if (launch_.shared_bytes < 0 || launch_.shared_bytes > SharedBuffer::kMaxBytes) {
    return fmt::format("{} bytes of shared memory, a block has at most {}", launch_.shared_bytes,
                       SharedBuffer::kMaxBytes);
  }
  const int blocks = kernel_.bounds->blocks_per_sm;
  if (blocks * launch_.threads > 2048 ||
      blocks * (launch_.shared_bytes + 1024) > SharedBuffer::kMaxBytes + 1024) {
    return fmt::format("{} threads and {} bytes of shared memory: no SM has room for {} blocks",
                       launch_.threads, launch_.shared_bytes, blocks);
  }
  if (launch_.params.size() != kernel_.bounds->params_bytes) {
    return fmt::format("{} bytes of parameters, the kernel takes {}", launch_.params.size(),
                       kernel_.bounds->params_bytes);
  }
  return "";
}

HostRun HostRunner::Run() {
  if (const std::string problem = Problem(); !problem.empty()) {
    run_.error = fmt::format("launch of {}: {}", kernel_.name, problem);
    return std::move(run_);
  }
  CHECK(current_ == nullptr);
  current_ = this;
  order_.resize(static_cast<size_t>(launch_.grid / launch_.cluster));
  std::iota(order_.begin(), order_.end(), 0);
  if (launch_.seed != 0) {
    for (size_t i = order_.size(); i > 1; --i) std::swap(order_[i - 1], order_[Random() % i]);
  }
  const int blocks = std::min(launch_.grid, launch_.resident_blocks);
  clusters_.resize(static_cast<size_t>((blocks + launch_.cluster - 1) / launch_.cluster));
  slots_.resize(clusters_.size() * static_cast<size_t>(launch_.cluster));
  while (run_.error.empty()) {
    StartBlocks();
    if (ready_.empty() && !Unblock()) break;
    std::pop_heap(ready_.begin(), ready_.end(), std::greater<>());
    running_ = ready_.back().second;
    ready_.pop_back();
    MutableCallTable().thread = &running_->view;
    if (++run_.switches > launch_.max_switches) {
      SetError(*running_, 0,
               fmt::format("the launch goes on after {} switches between threads", run_.switches - 1));
      break;
    }
    SwitchFiber(runner_, running_->fiber);
    if (run_.error.empty() && running_->state == HostFiber::State::kEnded) Finish(*running_);
    // Seeds differ in when copies end, too.
    if (launch_.seed != 0 && run_.error.empty() && running_->block->barriers.in_flight() > 0 &&
        Random() % 32 == 0) {
      PerformSomeCopy(*running_->block);
    }
  }
  return std::move(run_);
}

HostRunner::~HostRunner() {
  if (current_ != this) return;
  current_ = nullptr;
  MutableCallTable().thread = nullptr;
}

void HostRunner::StartBlocks() {
  for (size_t c = 0;
       c < clusters_.size() && started_ < order_.size() && alive_blocks_ < static_cast<int>(slots_.size());
       ++c) {
    HostCluster& cluster = clusters_[c];
    const bool busy =
        std::ranges::any_of(cluster.blocks, [](const HostBlock* block) { return block->alive > 0; });
    if (busy) continue;
    const int first = order_[started_++] * launch_.cluster;
    cluster.blocks.clear();
    for (int rank = 0; rank < launch_.cluster; ++rank) {
      const size_t slot = c * static_cast<size_t>(launch_.cluster) + static_cast<size_t>(rank);
      if (slots_[slot] == nullptr) slots_[slot] = std::make_unique<HostBlock>();
      slots_[slot]->cluster = &cluster;
      cluster.blocks.push_back(slots_[slot].get());
      StartBlock(*slots_[slot], static_cast<int>(slot), first + rank);
    }
  }
}

void HostRunner::StartBlock(HostBlock& block, int slot, int index) {
  block.index = index;
  block.alive = launch_.threads;
  block.on_copy = 0;
  block.shared.Start(launch_.shared_bytes);
  block.barriers.Start(block.shared);
  block.warps.assign(static_cast<size_t>(launch_.threads / 32), HostWarp{});
  block.named = {};
  block.threads.resize(static_cast<size_t>(launch_.threads));
  ++alive_blocks_;
  for (int i = 0; i < launch_.threads; ++i) {
    HostFiber& thread = block.threads[static_cast<size_t>(i)];
    thread = HostFiber{};
    thread.view = {.thread = i,
                   .block = block.index,
                   .blocks = launch_.grid,
                   .shared = reinterpret_cast<unsigned char*>(block.shared.data())};
    thread.block = &block;
    Stacks().Prepare(thread.fiber, slot * launch_.threads + i, FiberEntry);
    MakeReady(thread);
  }
}

void HostRunner::FiberEntry() {
  HostRunner& runner = current();
  EnterFiber(runner.runner_);
  HostFiber& self = runner.fiber();
  runner.kernel_.function(runner.params_[0].bytes);
  self.state = HostFiber::State::kEnded;
  LeaveFiber(self.fiber, runner.runner_);
}

void HostRunner::Finish(HostFiber& fiber) {
  HostBlock& block = *fiber.block;
  ++changes_;
  if (!FiberStacks::Intact(fiber.fiber)) {
    return SetError(fiber, 0, "stack overflow: its local variables are too big for a host thread");
  }
  fiber.closed_copies.push_back(std::move(fiber.open_copies));
  for (const auto& group : fiber.closed_copies) {
    if (group.empty()) continue;
    return SetError(fiber, group[0].line, "the thread ended while this copy of its was in flight");
  }
  if (!fiber.products.empty())
    return SetError(fiber, 0, "the thread ended and had not waited for its products");
  --block.alive;
  ReleaseCluster(*block.cluster);
  if (block.alive > 0) return;
  --alive_blocks_;
  if (std::string damage = block.shared.Damage(); !damage.empty()) return SetError(fiber, 0, damage);
  for (const CopyBarriers::Barrier& barrier : block.barriers.all()) {
    const int copy_line = barrier.copies.empty() ? barrier.unseen_line : barrier.copies[0].line;
    if (copy_line == 0) continue;
    return SetError(fiber, copy_line, "the block ended while this copy was in flight: nobody waited for it");
  }
}

void HostRunner::SetError(const HostFiber& fiber, int line, const std::string& problem) {
  run_.error =
      fmt::format("kernel {}, block {}, thread {}", kernel_.name, fiber.view.block, fiber.view.thread);
  if (line > 0) run_.error += fmt::format(", line {}", line);
  run_.error += ": " + problem;
}

void HostRunner::Fail(int line, std::string&& problem) {
  SetError(*running_, line, problem);
  std::string().swap(problem);
  SwitchFiber(running_->fiber, runner_);
  CHECK(false);
  __builtin_unreachable();
}

uint64_t HostRunner::Random() {  // xorshift64*
  random_ ^= random_ >> 12;
  random_ ^= random_ << 25;
  random_ ^= random_ >> 27;
  return random_ * 0x2545f4914f6cdd1du;
}

uint64_t HostRunner::KeyOf(const HostFiber& fiber) {
  // A block as far as it goes, which keeps its stacks in cache; in it whoever came first.
  if (launch_.seed == 0) return static_cast<uint64_t>(fiber.view.block) << 40 | ++sequence_;
  if (launch_.seed % 2 == 1) return Random();
  // A warp's rank among all: some hurry ahead as far as they can, others come last.
  const auto warp = static_cast<uint64_t>(fiber.view.block * 32 + fiber.warp());
  const uint64_t rank = ((warp + 1) * (launch_.seed * 0x9e3779b97f4a7c15u | 1)) >> 32;
  return rank << 32 | Random() >> 32;
}

void HostRunner::MakeReady(HostFiber& fiber) {
  fiber.state = HostFiber::State::kReady;
  ready_.emplace_back(KeyOf(fiber), &fiber);
  std::push_heap(ready_.begin(), ready_.end(), std::greater<>());
}

void HostRunner::WaitAs(HostFiber::State state) {
  HostFiber& self = *running_;
  self.state = state;
  SwitchFiber(self.fiber, runner_);
}

void HostRunner::MayYield() {
  if (launch_.seed == 0 || Random() % 4 != 0) return;
  HostFiber& self = *running_;
  MakeReady(self);
  SwitchFiber(self.fiber, runner_);
}

}  // namespace preheat::codegen::cuda
