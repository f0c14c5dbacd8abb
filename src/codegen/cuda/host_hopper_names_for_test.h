// The names of HopperMachine() for the host's compiler, as host_names_for_test.h has those of CudaMachine().
#pragma once

#include "codegen/cuda/host_names_for_test.h"

// ---- Clusters
INLINE u32 AddressIn(const void* p, int rank, int line = __builtin_LINE()) {
  return host_calls->AddressIn(p, rank, line);
}
INLINE void SyncCluster(int line = __builtin_LINE()) {
  host_calls->SyncCluster(line);
}
INLINE void ArriveAt(u32 barrier, int line = __builtin_LINE()) {
  host_calls->ArriveAt(barrier, line);
}
INLINE void Send16(u32 to, const float* v, u32 barrier, int line = __builtin_LINE()) {
  host_calls->Send16(to, v, barrier, line);
}

// ---- Copies of boxes
struct alignas(64) TensorMap {
  u64 words[16];
};
INLINE void PrefetchTensorMap(const TensorMap*) {}
INLINE u64 EvictLast() {
  return host_calls->EvictLast();
}
INLINE void CopyBox2(void* to, const TensorMap* map, int x, int y, CopyBarrier* barrier, u64 policy,
                     int line = __builtin_LINE()) {
  const int place[2] = {x, y};
  host_calls->CopyBox(to, map, place, 2, barrier, 0, policy, line);
}
INLINE void CopyBox4(void* to, const TensorMap* map, int x, int y, int z, int w, CopyBarrier* barrier,
                     u64 policy, int line = __builtin_LINE()) {
  const int place[4] = {x, y, z, w};
  host_calls->CopyBox(to, map, place, 4, barrier, 0, policy, line);
}
INLINE void ShareBox2(void* to, const TensorMap* map, int x, int y, CopyBarrier* barrier, u32 blocks,
                      u64 policy, int line = __builtin_LINE()) {
  const int place[2] = {x, y};
  host_calls->CopyBox(to, map, place, 2, barrier, blocks, policy, line);
}
INLINE void ShareBox4(void* to, const TensorMap* map, int x, int y, int z, int w, CopyBarrier* barrier,
                      u32 blocks, u64 policy, int line = __builtin_LINE()) {
  const int place[4] = {x, y, z, w};
  host_calls->CopyBox(to, map, place, 4, barrier, blocks, policy, line);
}

// ---- Registers
template <int N>
INLINE void LowerRegisters() {}
template <int N>
INLINE void RaiseRegisters() {}

// ---- Products of a warpgroup
INLINE u64 MatrixAt(const void* p, int line = __builtin_LINE()) {
  return host_calls->SharedAddress(p, line) >> 4;
}
INLINE u64 Advance(u64 matrix, int bytes) {
  return matrix + (u64)(bytes / 16);
}
INLINE u64 TransposedAt(const void* p, int box_bytes, int line = __builtin_LINE()) {
  return (u64)(box_bytes / 16) << 32 | MatrixAt(p, line);
}
INLINE void ArriveWhenCopied(CopyBarrier* barrier, int line = __builtin_LINE()) {
  host_calls->ArriveWhenCopied(barrier, line);
}
INLINE void FenceCopies(int line = __builtin_LINE()) {
  host_calls->FenceCopies(line);
}
INLINE void FenceMatrices(int line = __builtin_LINE()) {
  host_calls->FenceMatrices(line);
}
INLINE void CommitMatrices(int line = __builtin_LINE()) {
  host_calls->CommitMatrices(line);
}
template <int N>
INLINE void WaitMatrices(int line = __builtin_LINE()) {
  host_calls->WaitMatrices(N, line);
}
INLINE void Settle(float&) {}
template <int N>
INLINE void MultiplyMatrices(float (&sums)[N], u64 a, u64 b, bool add, int line = __builtin_LINE()) {
  host_calls->MultiplyMatrices(sums, 2 * N, a, b, add, line);
}
template <int N>
INLINE void MultiplyFragments(float (&sums)[N], const u32 (&a)[4], u64 b, bool add,
                              int line = __builtin_LINE()) {
  host_calls->MultiplyFragments(sums, 2 * N, a, b, false, add, line);
}
template <int N>
INLINE void MultiplyTransposed(float (&sums)[N], const u32 (&a)[4], u64 b, bool add,
                               int line = __builtin_LINE()) {
  host_calls->MultiplyFragments(sums, 2 * N, a, b, true, add, line);
}
