#include "codegen/cuda/machine_hopper.h"

#include <fmt/format.h>

#include "base/check.h"

namespace preheat::codegen::cuda {
namespace {

constexpr char kClusters[] = R"text(
// ---- Clusters: neighbouring blocks that run together ---------------------------------------------------------
// Where p, of this block's shared memory, stands in that of the cluster's block `rank`.
INLINE u32 AddressIn(const void* p, int rank) {
  u32 r;
  asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(r) : "r"(SharedAddress(p)), "r"(rank));
  return r;
}
// All threads of the cluster's blocks meet. It orders no memory: what is sent has barriers for that.
INLINE void SyncCluster() {
  asm volatile("barrier.cluster.arrive.relaxed;" ::: "memory");
  asm volatile("barrier.cluster.wait.acquire;" ::: "memory");
}
// At a barrier of any block of the cluster. The plain form: a release for the cluster would flush the card's memory, and
// what is ordered here are reads by products that have ended.
INLINE void ArriveAt(u32 barrier) {
  asm volatile("mbarrier.arrive.shared::cluster.b64 _, [%0];" ::"r"(barrier) : "memory");
}
// Four numbers to a block of the cluster, which its barrier counts as 16 bytes.
INLINE void Send16(u32 to, const float* v, u32 barrier) {
  asm volatile(
      "st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.v4.f32 [%0], {%1, %2, %3, %4}, [%5];" ::"r"(to),
      "f"(v[0]), "f"(v[1]), "f"(v[2]), "f"(v[3]), "r"(barrier)
      : "memory");
}

// ---- Copies of boxes ------------------------------------------------------------------------------------------
// As the driver encodes it; in a kernel's parameters.
struct __align__(64) TensorMap { u64 words[16]; };
INLINE void PrefetchTensorMap(const TensorMap* map) { asm volatile("prefetch.tensormap [%0];" ::"l"(map) : "memory"); }
// A policy for what is read again and again: it stays in L2.
INLINE u64 EvictLast() {
  u64 policy;
  asm volatile("createpolicy.fractional.L2::evict_last.b64 %0, 1.0;" : "=l"(policy));
  return policy;
}
// The box whose first element is (x, y), or (x, y, z, w).
INLINE void CopyBox2(void* to, const TensorMap* map, int x, int y, CopyBarrier* barrier, u64 policy) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint "
      "[%0], [%1, {%2, %3}], [%4], %5;" ::"r"(SharedAddress(to)),
      "l"(map), "r"(x), "r"(y), "r"(SharedAddress(barrier)), "l"(policy)
      : "memory");
}
INLINE void CopyBox4(void* to, const TensorMap* map, int x, int y, int z, int w, CopyBarrier* barrier, u64 policy) {
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint "
      "[%0], [%1, {%2, %3, %4, %5}], [%6], %7;" ::"r"(SharedAddress(to)),
      "l"(map), "r"(x), "r"(y), "r"(z), "r"(w), "r"(SharedAddress(barrier)), "l"(policy)
      : "memory");
}
// The same to each of `blocks`, bits by rank in the cluster: to the same place, and counted by the same barrier of each.
INLINE void ShareBox2(void* to, const TensorMap* map, int x, int y, CopyBarrier* barrier, u32 blocks, u64 policy) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster.L2::cache_hint "
      "[%0], [%1, {%2, %3}], [%4], %5, %6;" ::"r"(SharedAddress(to)),
      "l"(map), "r"(x), "r"(y), "r"(SharedAddress(barrier)), "h"((u16)blocks), "l"(policy)
      : "memory");
}
INLINE void ShareBox4(void* to, const TensorMap* map, int x, int y, int z, int w, CopyBarrier* barrier, u32 blocks,
                      u64 policy) {
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster.L2::cache_hint "
      "[%0], [%1, {%2, %3, %4, %5}], [%6], %7, %8;" ::"r"(SharedAddress(to)),
      "l"(map), "r"(x), "r"(y), "r"(z), "r"(w), "r"(SharedAddress(barrier)), "h"((u16)blocks), "l"(policy)
      : "memory");
}

// ---- Registers: whole warpgroups give some back, or take more --------------------------------------------------
template <int N> INLINE void LowerRegisters() { asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(N)); }
template <int N> INLINE void RaiseRegisters() { asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(N)); }

// ---- Products of a warpgroup: 64 rows, 16 of k -----------------------------------------------------------------
// A matrix in shared memory.
INLINE u64 MatrixAt(const void* p) {
  // Swizzle of 128 bytes; groups of 8 rows are 1024 bytes apart.
  return 1ull << 62 | 64ull << 32 | 1ull << 16 | SharedAddress(p) >> 4;
}
// A matrix that lies with its columns side by side, 64 of them a box: a row is a k. From box to box so many bytes.
INLINE u64 TransposedAt(const void* p, int box_bytes) {
  return 1ull << 62 | 64ull << 32 | (u64)(box_bytes / 16) << 16 | SharedAddress(p) >> 4;
}
// The same, `bytes` further on, a multiple of 16.
INLINE u64 Advance(u64 matrix, int bytes) { return matrix + (u64)(bytes / 16); }
// Counts this thread at the barrier when all that it has asked CopyAsync16 for is there; it does not wait itself.
INLINE void ArriveWhenCopied(CopyBarrier* barrier) {
  asm volatile("cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%0];" ::"r"(SharedAddress(barrier)) : "memory");
}
// What CopyAsync16 brought, by whichever thread, and this one has waited for: its products may read it after this. In
// the thread that copies it would wait for all copies under way.
INLINE void FenceCopies() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }
INLINE void FenceMatrices() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
// Closes a group of products; WaitMatrices<N> waits until at most N groups are open.
INLINE void CommitMatrices() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int N> INLINE void WaitMatrices() { asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(N) : "memory"); }
// What was computed before is not read sooner than here.
INLINE void Settle(float& x) { asm volatile("" : "+f"(x)::"memory"); }
)text";

enum class Left { kShared, kRegisters };

// A word for a product of `columns` columns. `transpose`: what PTX is told of the right factor.
std::string Product(const char* name, int columns, Left left, const char* transpose) {
  CHECK(columns > 0 && columns <= 256 && columns % 8 == 0);
  const int count = columns / 2;  // sums of a thread
  std::string sums, outputs;
  for (int i = 0; i < count; ++i) {
    sums += fmt::format("{}%{}", i == 0 ? "" : ",", i);
    outputs += fmt::format("{}\"+f\"(sums[{}])", i == 0 ? "" : ", ", i);
  }
  const bool shared = left == Left::kShared;
  const std::string a =
      shared ? fmt::format("%{}", count + 2)
             : fmt::format("{{%{}, %{}, %{}, %{}}}", count + 2, count + 3, count + 4, count + 5);
  return fmt::format(
      "INLINE void {0}(float (&sums)[{1}], {2}, u64 b, bool add) {{\n"
      "  asm volatile(\n"
      "      \"{{ .reg .pred p; setp.ne.b32 p, %{3}, 0; "
      "wgmma.mma_async.sync.aligned.m64n{4}k16.f32.bf16.bf16 \"\n"
      "      \"{{{5}}}, {6}, %{7}, p, 1, 1{8}; }}\"\n"
      "      : {9} : \"r\"((int)add), \"l\"(b), {10});\n"
      "}}\n",
      name, count, shared ? "u64 a" : "const u32 (&a)[4]", count, columns, sums, a, count + 1,
      shared ? ", 0, 0" : transpose, outputs,
      shared ? "\"l\"(a)" : "\"r\"(a[0]), \"r\"(a[1]), \"r\"(a[2]), \"r\"(a[3])");
}

}  // namespace

const char kTurn[] = R"text(// A ring's next slot, and the parity that its barrier has when it is full.
struct Turn {
  int slot;
  u32 parity;
  template <int kSlots> __device__ void Next() {
    if (++slot == kSlots) {
      slot = 0;
      parity ^= 1;
    }
  }
};
)text";

std::string HopperMachine(const HopperProducts& products) {
  std::string text = kHopperBegin + std::string(kClusters);
  if (products.matrices > 0) {
    text +=
        "// sums += a b, or a b: a 64 x 16, b as many columns x 16, as a weight matrix lies; a thread has "
        "the\n"
        "// elements that it would have of 16-row tiles in MultiplyBf16, its warp's 16 rows.\n";
    text += Product("MultiplyMatrices", products.matrices, Left::kShared, "");
  }
  if (products.fragments > 0) {
    text +=
        "// The same, a in registers, as MultiplyBf16 has it: they keep their values until it is waited "
        "for.\n";
    text += Product("MultiplyFragments", products.fragments, Left::kRegisters, ", 0");
  }
  if (products.transposed > 0) {
    text += "// The same, b a TransposedAt.\n";
    text += Product("MultiplyTransposed", products.transposed, Left::kRegisters, ", 1");
  }
  return text + kHopperEnd;
}

}  // namespace preheat::codegen::cuda
