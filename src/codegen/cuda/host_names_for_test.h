// The names of CudaMachine() for the host's compiler: what a unit includes where that text stood. Kernels
// become functions that the runner (host_machine_for_test.h) calls on a fiber for each CUDA thread. C++17,
// g++ and clang; included by units alone, at file scope as the text it stands for.
#pragma once

#include "codegen/cuda/host_calls_for_test.h"

#define INLINE static inline __attribute__((always_inline))
#define NOINLINE static __attribute__((noinline))
#define CONSTANT INLINE constexpr
// Of a member function.
#define __device__
// Unrolled or not is the same here, and compiles faster.
#define UNROLL
#define UNROLL_BY_4
#define NO_UNROLL
#define HOST_EXPORT __attribute__((visibility("default")))
#define KERNEL(name, threads, blocks_per_sm, Params)                                            \
  static void name##_body(const Params& params);                                                \
  extern "C" {                                                                                  \
  extern HOST_EXPORT const HostBounds name##_bounds;                                            \
  const HostBounds name##_bounds = {threads, blocks_per_sm, (unsigned)sizeof(Params)};          \
  HOST_EXPORT void name(const void* params) {                                                   \
    name##_body(*(const Params*)params);                                                        \
  }                                                                                             \
  }                                                                                             \
  static_assert(__is_trivially_copyable(Params), "parameters of a kernel are copied as bytes"); \
  static void name##_body(const Params& params)

typedef unsigned char u8;
typedef unsigned short u16;
typedef int i32;
typedef unsigned int u32;
typedef long long i64;
typedef unsigned long long u64;

struct alignas(8) Words2 {
  u32 w[2];
};
struct alignas(16) Words4 {
  u32 w[4];
};

// Set by whoever loads the unit.
extern "C" {
extern HOST_EXPORT const HostCalls* host_calls;
const HostCalls* host_calls = nullptr;
}

// ---- Threads
INLINE int ThreadIndex() {
  return host_calls->thread->thread;
}
INLINE int BlockIndex() {
  return host_calls->thread->block;
}
INLINE int BlockCount() {
  return host_calls->thread->blocks;
}
INLINE int Lane() {
  return host_calls->thread->thread & 31;
}
INLINE int WarpIndex(int line = __builtin_LINE()) {
  return host_calls->WarpIndex(line);
}
INLINE void SyncBlock(int line = __builtin_LINE()) {
  host_calls->SyncBlock(line);
}
INLINE void SyncWarp(int line = __builtin_LINE()) {
  host_calls->SyncWarp(line);
}
INLINE void SyncNamed(int id, int threads, int line = __builtin_LINE()) {
  host_calls->SyncNamed(id, threads, line);
}
INLINE void ArriveNamed(int id, int threads, int line = __builtin_LINE()) {
  host_calls->ArriveNamed(id, threads, line);
}
INLINE u32 ShuffleXor(u32 v, int mask, int line = __builtin_LINE()) {
  return host_calls->ShuffleXor(v, mask, line);
}
INLINE u32 ShuffleFrom(u32 v, int lane, int line = __builtin_LINE()) {
  return host_calls->ShuffleFrom(v, lane, line);
}
INLINE u32 Ballot(bool b, int line = __builtin_LINE()) {
  return host_calls->Ballot(b, line);
}

INLINE void Trap(int line = __builtin_LINE()) {
  host_calls->Trap(line);
}

INLINE u8* SharedMemory() {
  return host_calls->thread->shared;
}
INLINE u32 SharedAddress(const void* p, int line = __builtin_LINE()) {
  return host_calls->SharedAddress(p, line);
}

// ---- Numbers. A NaN that arithmetic makes is 0x7fffffff on the card, 0x7fff once narrowed.
INLINE u32 BitsOf(float x) {
  u32 bits;
  __builtin_memcpy(&bits, &x, 4);
  return bits;
}
INLINE float FloatOf(u32 bits) {
  float x;
  __builtin_memcpy(&x, &bits, 4);
  return x;
}
INLINE int CountBits(u32 x) {
  return __builtin_popcount(x);
}
INLINE float HostCanonical(float x) {
  return x == x ? x : FloatOf(0x7fffffffu);
}
INLINE float FusedMultiplyAdd(float a, float b, float c) {
  return HostCanonical(__builtin_fmaf(a, b, c));
}
INLINE float Multiply(float a, float b) {
  return HostCanonical(a * b);
}
INLINE float Add(float a, float b) {
  return HostCanonical(a + b);
}
INLINE float LargerOf(float a, float b) {
  return __builtin_fmaxf(a, b);
}
INLINE float SquareRoot(float x) {
  return HostCanonical(__builtin_sqrtf(x));
}
INLINE float Divide(float a, float b) {
  return HostCanonical(a / b);
}
INLINE float PowerOfTwo(float x) {
  return HostCanonical(__builtin_exp2f(x));
}
INLINE float Reciprocal(float x) {
  return HostCanonical(1 / x);
}
INLINE float FloatFromF16(u16 bits) {
  typedef short Halves __attribute__((vector_size(16)));
  typedef float Floats __attribute__((vector_size(16)));
  Floats r;
  asm("vcvtph2ps %1, %0" : "=x"(r) : "x"((Halves){(short)bits}));
  return HostCanonical(r[0]);
}
INLINE u16 F16FromFloat(float x) {
  typedef short Halves __attribute__((vector_size(16)));
  typedef float Floats __attribute__((vector_size(16)));
  Halves r;
  asm("vcvtps2ph $0, %1, %0" : "=x"(r) : "x"((Floats){x}));
  return x == x ? (u16)r[0] : (u16)0x7fff;
}
INLINE u16 Bf16FromFloat(float x) {
  const u32 bits = BitsOf(x);
  return x == x ? (u16)((bits + 0x7fffu + ((bits >> 16) & 1)) >> 16) : (u16)0x7fff;
}
INLINE u32 Bf16PairFromFloats(float low, float high) {
  return Bf16FromFloat(low) | (u32)Bf16FromFloat(high) << 16;
}
INLINE float ShuffleXor(float v, int mask, int line = __builtin_LINE()) {
  return FloatOf(host_calls->ShuffleXor(BitsOf(v), mask, line));
}
INLINE float ShuffleFrom(float v, int lane, int line = __builtin_LINE()) {
  return FloatOf(host_calls->ShuffleFrom(BitsOf(v), lane, line));
}

// ---- Memory
template <class T>
INLINE T HostRead(HostLoad load, const void* p, int line) {
  host_calls->CheckLoad(load, p, sizeof(T), line);
  T value;
  __builtin_memcpy(&value, p, sizeof(T));
  return value;
}
INLINE Words4 LoadStream16(const void* p, int line = __builtin_LINE()) {
  return HostRead<Words4>(HostLoad::kStream, p, line);
}
INLINE Words4 LoadConstant16(const void* p, int line = __builtin_LINE()) {
  return HostRead<Words4>(HostLoad::kStream, p, line);
}
INLINE Words4 LoadDependent16(const void* p, int line = __builtin_LINE()) {
  return HostRead<Words4>(HostLoad::kDependent, p, line);
}
INLINE Words2 LoadDependent8(const void* p, int line = __builtin_LINE()) {
  return HostRead<Words2>(HostLoad::kDependent, p, line);
}
INLINE u32 LoadDependent4(const void* p, int line = __builtin_LINE()) {
  return HostRead<u32>(HostLoad::kDependent, p, line);
}
INLINE u16 LoadDependent2(const void* p, int line = __builtin_LINE()) {
  return HostRead<u16>(HostLoad::kDependent, p, line);
}
INLINE Words4 LoadEarlier16(const void* p, int line = __builtin_LINE()) {
  return HostRead<Words4>(HostLoad::kEarlier, p, line);
}
INLINE i64 LoadEarlierI64(const void* p, int line = __builtin_LINE()) {
  return HostRead<i64>(HostLoad::kEarlier, p, line);
}
INLINE void FenceDevice(int line = __builtin_LINE()) {
  host_calls->FenceDevice(line);
}
INLINE u32 AddAcquireRelease(u32* p, u32 v, int line = __builtin_LINE()) {
  host_calls->Atomic("AddAcquireRelease", p, v != 0, line);
  const u32 before = *p;
  *p = before + v;
  return before;
}
INLINE void StoreReleaseSystem(u32* p, u32 v, int line = __builtin_LINE()) {
  host_calls->Atomic("StoreReleaseSystem", p, true, line);
  *p = v;
}

INLINE Words4 LookAgain16(const void* p, int line = __builtin_LINE()) {
  host_calls->Atomic("LookAgain16", (const unsigned*)p, false, line);
  return LoadDependent16(p, line);
}
INLINE Words2 LookAgain8(const void* p, int line = __builtin_LINE()) {
  host_calls->Atomic("LookAgain8", (const unsigned*)p, false, line);
  return LoadDependent8(p, line);
}
INLINE u32 LookAgain4(const void* p, int line = __builtin_LINE()) {
  host_calls->Atomic("LookAgain4", (const unsigned*)p, false, line);
  return LoadDependent4(p, line);
}
INLINE void StoreRelaxed4(void* p, u32 v, int line = __builtin_LINE()) {
  host_calls->Atomic("StoreRelaxed4", (unsigned*)p, true, line);
  *(u32*)p = v;
}
INLINE void StoreRelaxed8(void* p, Words2 v, int line = __builtin_LINE()) {
  host_calls->Atomic("StoreRelaxed8", (unsigned*)p, true, line);
  *(Words2*)p = v;
}

// ---- Kernels that overlap
INLINE void LaunchDependents(int line = __builtin_LINE()) {
  host_calls->LaunchDependents(line);
}
INLINE void WaitDependencies(int line = __builtin_LINE()) {
  host_calls->WaitDependencies(line);
}

// ---- Copies into shared memory
INLINE void CopyAsync16(void* to, const void* from, int line = __builtin_LINE()) {
  host_calls->CopyAsync(to, from, true, line);
}
INLINE void CopyAsync16OrZero(void* to, const void* from, bool copy, int line = __builtin_LINE()) {
  host_calls->CopyAsync(to, from, copy, line);
}
INLINE void CommitCopies(int line = __builtin_LINE()) {
  host_calls->CommitCopies(line);
}
template <int N>
INLINE void WaitCopies(int line = __builtin_LINE()) {
  host_calls->WaitCopies(N, line);
}

#if __CUDA_ARCH__ >= 900
typedef u64 CopyBarrier;
INLINE void InitBarrier(CopyBarrier* barrier, int arrivals, int line = __builtin_LINE()) {
  host_calls->InitBarrier(barrier, arrivals, line);
}
INLINE void FenceBarriers(int line = __builtin_LINE()) {
  host_calls->FenceBarriers(line);
}
INLINE void ExpectBytes(CopyBarrier* barrier, u32 bytes, int line = __builtin_LINE()) {
  host_calls->ExpectBytes(barrier, bytes, line);
}
INLINE void Arrive(CopyBarrier* barrier, int line = __builtin_LINE()) {
  host_calls->Arrive(barrier, line);
}
INLINE bool TryWaitBarrier(CopyBarrier* barrier, u32 parity, int line = __builtin_LINE()) {
  return host_calls->TryWaitBarrier(barrier, parity, line);
}
INLINE void WaitBarrier(CopyBarrier* barrier, u32 parity, int line = __builtin_LINE()) {
  host_calls->WaitBarrier(barrier, parity, line);
}
INLINE u64 EvictFirst() {
  return host_calls->EvictFirst();
}
INLINE void CopyBulk(void* to, const void* from, u32 bytes, CopyBarrier* barrier, u64 policy,
                     int line = __builtin_LINE()) {
  host_calls->CopyBulk(to, from, bytes, barrier, policy, line);
}
#endif

// ---- Tensor cores
INLINE void MultiplyBf16(float* d, const u32* a, const u32* b, int line = __builtin_LINE()) {
  host_calls->MultiplyBf16(d, a, b, line);
}
INLINE void LoadMatrices(u32* r, const void* row, int line = __builtin_LINE()) {
  host_calls->LoadMatrices(r, row, false, line);
}
INLINE void LoadMatricesTransposed(u32* r, const void* row, int line = __builtin_LINE()) {
  host_calls->LoadMatrices(r, row, true, line);
}

// ---- The compiler's own checks: -fsanitize without its library. Source: compiler-rt's ubsan_handlers.h.
#ifdef HOST_CHECKS
extern "C" {
struct HostPlace {
  const char* file;
  unsigned line;
  unsigned column;
};
struct HostType {
  u16 kind;
  u16 info;
  char name[1];
};
struct HostMismatch {
  HostPlace place;
  const HostType* type;
  u8 log_alignment;
  u8 access;
};
#define HOST_HANDLER __attribute__((visibility("hidden"), used)) void
HOST_HANDLER __ubsan_handle_type_mismatch_v1(const HostMismatch* data, const void* p) {
  host_calls->Undefined(p == nullptr ? "null pointer" : "misaligned address", p, data->type->name,
                        (int)data->place.line);
}
HOST_HANDLER __ubsan_handle_out_of_bounds(const HostPlace* place, u64 index) {
  host_calls->Undefined("index outside of its array", (const void*)index, "", (int)place->line);
}
#define HOST_OVERFLOW(name)                                              \
  HOST_HANDLER __ubsan_handle_##name(const HostPlace* place, u64, u64) { \
    host_calls->Undefined(#name, nullptr, "", (int)place->line);         \
  }
HOST_OVERFLOW(add_overflow)
HOST_OVERFLOW(sub_overflow)
HOST_OVERFLOW(mul_overflow)
HOST_OVERFLOW(negate_overflow)
HOST_OVERFLOW(divrem_overflow)
HOST_OVERFLOW(shift_out_of_bounds)
}
#endif
