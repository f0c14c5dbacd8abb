// The names of HopperMachine() on the host.
#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "codegen/cuda/host_machine_for_test.h"
#include "codegen/cuda/host_reads_for_test.h"
#include "codegen/cuda/host_runner_for_test.h"

namespace preheat::codegen::cuda {
namespace {

constexpr unsigned long long kEvictLast = 0x14f0000000000000, kEvictFirst = 0x12f0000000000000;
// An address in a cluster: the rank above, the offset in that block's memory below.
constexpr int kRankShift = 20;

HostRunner& Runner() {
  return HostRunner::current();
}

HostFiber& Self() {
  return Runner().fiber();
}

// The block of that rank; or null, and what is wrong with sending to it.
HostBlock* Peer(const char* name, size_t rank, std::string& problem) {
  const std::vector<HostBlock*>& blocks = Self().block->cluster->blocks;
  if (rank >= blocks.size()) {
    problem = fmt::format("{}: the cluster has {} blocks, and none of rank {}", name, blocks.size(), rank);
    return nullptr;
  }
  if (blocks[rank]->alive == 0) {
    problem = fmt::format("{}: to block {}, which has ended", name, blocks[rank]->index);
    return nullptr;
  }
  return blocks[rank];
}

unsigned AddressIn(const void* p, int rank, int line) {
  HostFiber& self = Self();
  if (!self.block->shared.Contains(p, 0)) {
    Runner().Fail(line, fmt::format("AddressIn of {}, which is not shared memory", p));
  }
  if (rank < 0 || static_cast<size_t>(rank) >= self.block->cluster->blocks.size()) {
    Runner().Fail(line, fmt::format("AddressIn: the cluster has no block {}", rank));
  }
  const auto offset = static_cast<unsigned>(static_cast<const std::byte*>(p) - self.block->shared.data());
  return static_cast<unsigned>(rank) << kRankShift | offset;
}

std::byte* At(HostBlock& block, unsigned address) {
  return block.shared.data() + (address & ((1u << kRankShift) - 1));
}
CopyBarriers::Word* BarrierAt(HostBlock& block, unsigned address) {
  return reinterpret_cast<CopyBarriers::Word*>(At(block, address));
}

void SyncCluster(int line) {
  Runner().MeetCluster(line);
}

std::string ArriveThere(unsigned barrier) {
  std::string problem;
  HostBlock* const peer = Peer("ArriveAt", barrier >> kRankShift, problem);
  if (peer == nullptr) return problem;
  problem = peer->barriers.Arrive(BarrierAt(*peer, barrier));
  if (problem.empty()) Runner().WakeWaiters(*peer);
  return problem;
}

void ArriveAt(unsigned barrier, int line) {
  Runner().FailIf(line, ArriveThere(barrier));
  Runner().MayYield();
}

std::string Send(unsigned to, const float* v, unsigned barrier, int line) {
  std::string problem;
  HostBlock* const peer = Peer("Send16", to >> kRankShift, problem);
  if (peer == nullptr) return problem;
  if (to >> kRankShift != barrier >> kRankShift) return "Send16: to one block, and the barrier is of another";
  const auto* bytes = reinterpret_cast<const std::byte*>(v);
  return peer->barriers.Copy(BarrierAt(*peer, barrier), {.to = At(*peer, to),
                                                         .from = nullptr,
                                                         .bytes = 16,
                                                         .source = std::vector<std::byte>(bytes, bytes + 16),
                                                         .line = line,
                                                         .thread = Self().view.thread});
}

void Send16(unsigned to, const float* v, unsigned barrier, int line) {
  Runner().FailIf(line, Send(to, v, barrier, line));
}

unsigned long long EvictLast() {
  return kEvictLast;
}

std::string IssueBox(void* to, const HostBox& box, CopyBarriers::Word* barrier, unsigned blocks, int line) {
  HostFiber& self = Self();
  for (const std::span<const std::byte> run : box.Runs()) {
    std::string problem = CheckRead(self, Reader::kBox, run.data(), run.size());
    if (!problem.empty()) return problem;
  }
  const unsigned to_offset = AddressIn(to, 0, line), barrier_offset = AddressIn(barrier, 0, line);
  const std::vector<HostBlock*>& all = self.block->cluster->blocks;
  for (size_t rank = 0; rank < 16; ++rank) {
    if (blocks == 0 ? rank >= all.size() || all[rank] != self.block : (blocks >> rank & 1) == 0) continue;
    std::string problem;
    HostBlock* const peer = Peer("CopyBox", rank, problem);
    if (peer == nullptr) return problem;
    problem = peer->barriers.Copy(BarrierAt(*peer, barrier_offset), {.to = At(*peer, to_offset),
                                                                     .from = nullptr,
                                                                     .bytes = box.Bytes(),
                                                                     .box = box,
                                                                     .source = {},
                                                                     .line = line,
                                                                     .thread = self.view.thread});
    if (!problem.empty()) return problem;
  }
  return "";
}

void CopyBox(void* to, const void* map, const int* place, int dims, CopyBarriers::Word* barrier,
             unsigned blocks, unsigned long long policy, int line) {
  if (policy != kEvictFirst && policy != kEvictLast)
    Runner().Fail(line, "CopyBox: a policy that nobody made");
  const auto read = ReadHostTensorMap(map);
  if (!read || reinterpret_cast<uintptr_t>(map) % 64 != 0) Runner().Fail(line, "CopyBox: no tensor map");
  if (read->dims != dims)
    Runner().Fail(line, fmt::format("CopyBox: {} numbers for {} dimensions", dims, read->dims));
  HostBox box = {.map = *read};
  std::copy_n(place, dims, box.place);
  Runner().FailIf(line, IssueBox(to, box, barrier, blocks, line));
  Runner().run().copied_bytes += box.Bytes();
  Runner().MayYield();
}

// The copies are performed at once, which they may be.
void ArriveWhenCopied(CopyBarriers::Word* barrier, int line) {
  HostFiber& self = Self();
  Runner().MayYield();
  self.closed_copies.push_back(std::move(self.open_copies));
  self.open_copies.clear();
  HostCallTable().WaitCopies(0, line);
  HostCallTable().Arrive(barrier, line);
}

void FenceCopies(int) {
  Self().fenced = Self().block->shared.landed();
}

void FenceMatrices(int) {}

void MultiplyMatrices(float* sums, int columns, unsigned long long a, unsigned long long b, bool add,
                      int line) {
  Self().products.Issue(
      {.sums = sums, .columns = columns, .a = a, .b = b, .add = add, .fenced = Self().fenced, .line = line});
}

void MultiplyFragments(float* sums, int columns, const unsigned* a, unsigned long long b, bool transposed,
                       bool add, int line) {
  PendingProduct product = {.sums = sums,
                            .columns = columns,
                            .b = b,
                            .transposed = transposed,
                            .add = add,
                            .fenced = Self().fenced,
                            .line = line};
  std::copy_n(a, 4, product.fragment.emplace().begin());
  Self().products.Issue(product);
}

void CommitMatrices(int) {
  Self().products.Commit();
}

// Performs what the warp's lanes have asked for, when all are there: as late as it may be.
std::string PerformProducts(HostBlock& block, int warp_index, int open_groups) {
  HostFiber* const lanes = &block.threads[static_cast<size_t>(warp_index) * 32];
  std::array<std::vector<PendingProduct>, 32> products;
  for (size_t lane = 0; lane < 32; ++lane) products[lane] = lanes[lane].products.Close(open_groups);
  for (size_t i = 0; i < products[0].size(); ++i) {
    std::array<ProductLane, 32> parts;
    for (size_t lane = 0; lane < 32; ++lane) {
      if (products[lane].size() != products[0].size() || !products[lane][i].SameAs(products[0][i])) {
        return fmt::format("WaitMatrices: lanes 0 and {} of warp {} have different products", lane,
                           warp_index);
      }
      const PendingProduct& product = products[lane][i];
      parts[lane].sums = lanes[lane].products.Hidden(product.sums);
      if (product.fragment) parts[lane].fragment = product.fragment->data();
    }
    std::string problem = MultiplyMatricesOfWarp(products[0][i], warp_index % 4, block.shared, parts);
    if (!problem.empty()) return fmt::format("{}, of the product at line {}", problem, products[0][i].line);
    for (size_t lane = 0; lane < 32; ++lane) lanes[lane].products.Done(products[lane][i].sums);
  }
  return "";
}

void WaitMatrices(int open_groups, int line) {
  HostFiber& self = Self();
  if (Runner().launch().threads < (self.warp() / 4 + 1) * 128) {
    Runner().Fail(line, "WaitMatrices: its warp is of no whole warpgroup");
  }
  Runner().MeetWarp("WaitMatrices", line, [&](HostWarp&) {
    Runner().FailIf(line, PerformProducts(*self.block, self.warp(), open_groups));
  });
}

}  // namespace

void AddHopperCalls(HostCalls* table) {
  table->AddressIn = AddressIn;
  table->SyncCluster = SyncCluster;
  table->ArriveAt = ArriveAt;
  table->Send16 = Send16;
  table->EvictLast = EvictLast;
  table->CopyBox = CopyBox;
  table->ArriveWhenCopied = ArriveWhenCopied;
  table->FenceCopies = FenceCopies;
  table->FenceMatrices = FenceMatrices;
  table->CommitMatrices = CommitMatrices;
  table->WaitMatrices = WaitMatrices;
  table->MultiplyMatrices = MultiplyMatrices;
  table->MultiplyFragments = MultiplyFragments;
}

}  // namespace preheat::codegen::cuda
