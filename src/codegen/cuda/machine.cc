#include "codegen/cuda/machine.h"

namespace preheat::codegen::cuda {
namespace {

constexpr std::string_view kMachine = R"text(
#define INLINE static __device__ __forceinline__
#define CONSTANT INLINE constexpr
#define NOINLINE static __device__ __noinline__
#define UNROLL _Pragma("unroll")
#define UNROLL_BY_4 _Pragma("unroll 4")
#define NO_UNROLL _Pragma("unroll 1")
// Opens the definition of a kernel of one parameter, `params`.
#define KERNEL(name, threads, blocks_per_sm, Params) \
  extern "C" __global__ void __launch_bounds__(threads, blocks_per_sm) name(const __grid_constant__ Params params)

typedef unsigned char u8;
typedef unsigned short u16;
typedef int i32;
typedef unsigned int u32;
typedef long long i64;
typedef unsigned long long u64;

struct __align__(8) Words2 { u32 w[2]; };
struct __align__(16) Words4 { u32 w[4]; };

// ---- Threads -------------------------------------------------------------------------------------------------
INLINE int ThreadIndex() { return (int)threadIdx.x; }
INLINE int BlockIndex() { return (int)blockIdx.x; }
INLINE int BlockCount() { return (int)gridDim.x; }
INLINE int Lane() { return (int)threadIdx.x & 31; }
// The same in all lanes, and known to be: else each shuffle in a loop over it would be guarded.
INLINE int WarpIndex() { return __shfl_sync(0xffffffffu, (int)threadIdx.x >> 5, 0); }
INLINE void SyncBlock() { __syncthreads(); }
INLINE void SyncWarp() { __syncwarp(); }
// `threads` threads, whole warps, meet at barrier `id`, 1 to 15.
INLINE void SyncNamed(int id, int threads) { asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory"); }
// Counts for those who wait at the barrier, and goes on.
INLINE void ArriveNamed(int id, int threads) { asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(threads) : "memory"); }
INLINE float ShuffleXor(float v, int mask) { return __shfl_xor_sync(0xffffffffu, v, mask); }
INLINE u32 ShuffleXor(u32 v, int mask) { return __shfl_xor_sync(0xffffffffu, v, mask); }
INLINE float ShuffleFrom(float v, int lane) { return __shfl_sync(0xffffffffu, v, lane); }
INLINE u32 ShuffleFrom(u32 v, int lane) { return __shfl_sync(0xffffffffu, v, lane); }
INLINE u32 Ballot(bool b) { return __ballot_sync(0xffffffffu, b); }

// Ends the launch with an error: for waits that took too long.
INLINE void Trap() { __trap(); }

// The block's dynamic shared memory, aligned to 1024 bytes where the launch says so.
INLINE u8* SharedMemory() {
  extern __shared__ __align__(1024) u8 ph_shared[];
  return ph_shared;
}
INLINE u32 SharedAddress(const void* p) { return (u32)__cvta_generic_to_shared(p); }

// ---- Numbers -------------------------------------------------------------------------------------------------
INLINE u32 BitsOf(float x) { return __float_as_uint(x); }
INLINE float FloatOf(u32 bits) { return __uint_as_float(bits); }
INLINE int CountBits(u32 x) { return __popc(x); }
INLINE float FusedMultiplyAdd(float a, float b, float c) { return __fmaf_rn(a, b, c); }
INLINE float Multiply(float a, float b) { return __fmul_rn(a, b); }
INLINE float Add(float a, float b) { return __fadd_rn(a, b); }
// The larger one; of a number and none, the number.
INLINE float LargerOf(float a, float b) { return fmaxf(a, b); }
INLINE float SquareRoot(float x) { return __fsqrt_rn(x); }
INLINE float Divide(float a, float b) { return __fdiv_rn(a, b); }
// 2^x, to about 2 ulp; 0 where that is below the normal numbers: they would take three instructions more.
INLINE float PowerOfTwo(float x) {
  float r;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(x));
  return r;
}
// 1 / x, to about 1 ulp.
INLINE float Reciprocal(float x) {
  float r;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(x));
  return r;
}
INLINE float FloatFromF16(u16 bits) {
  float r;
  asm("cvt.f32.f16 %0, %1;" : "=f"(r) : "h"(bits));
  return r;
}
INLINE u16 F16FromFloat(float x) {
  u16 r;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(r) : "f"(x));
  return r;
}
INLINE u16 Bf16FromFloat(float x) {
  u16 r;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(r) : "f"(x));
  return r;
}
// low and high half: two bf16.
INLINE u32 Bf16PairFromFloats(float low, float high) {
  u32 r;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
  return r;
}

// ---- Memory --------------------------------------------------------------------------------------------------
// What never changes: past L1, which it would only flush.
INLINE Words4 LoadStream16(const void* p) {
  Words4 r;
  asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0,%1,%2,%3}, [%4];"
               : "=r"(r.w[0]), "=r"(r.w[1]), "=r"(r.w[2]), "=r"(r.w[3]) : "l"(p));
  return r;
}
// What never changes and is small, by way of L1: others want it too.
INLINE Words4 LoadConstant16(const void* p) {
  Words4 r;
  asm volatile("ld.global.nc.v4.u32 {%0,%1,%2,%3}, [%4];"
               : "=r"(r.w[0]), "=r"(r.w[1]), "=r"(r.w[2]), "=r"(r.w[3]) : "l"(p));
  return r;
}
// What another kernel made, from L2.
INLINE Words4 LoadDependent16(const void* p) {
  Words4 r;
  asm volatile("ld.relaxed.gpu.global.v4.u32 {%0,%1,%2,%3}, [%4];"
               : "=r"(r.w[0]), "=r"(r.w[1]), "=r"(r.w[2]), "=r"(r.w[3]) : "l"(p) : "memory");
  return r;
}
INLINE Words2 LoadDependent8(const void* p) {
  Words2 r;
  asm volatile("ld.relaxed.gpu.global.v2.u32 {%0,%1}, [%2];" : "=r"(r.w[0]), "=r"(r.w[1]) : "l"(p) : "memory");
  return r;
}
INLINE u32 LoadDependent4(const void* p) {
  u32 r;
  asm volatile("ld.relaxed.gpu.global.u32 %0, [%1];" : "=r"(r) : "l"(p) : "memory");
  return r;
}
INLINE u16 LoadDependent2(const void* p) {
  u16 r;
  asm volatile("ld.relaxed.gpu.global.u16 %0, [%1];" : "=h"(r) : "l"(p) : "memory");
  return r;
}
// What blocks that run now hand each other: a word says by itself whether it is there. Its reader looks again until it
// is; nothing orders other words.
INLINE Words4 LookAgain16(const void* p) { return LoadDependent16(p); }
INLINE Words2 LookAgain8(const void* p) { return LoadDependent8(p); }
INLINE u32 LookAgain4(const void* p) { return LoadDependent4(p); }
INLINE void StoreRelaxed4(void* p, u32 v) { asm volatile("st.relaxed.gpu.global.u32 [%0], %1;" ::"l"(p), "r"(v) : "memory"); }
INLINE void StoreRelaxed8(void* p, Words2 v) {
  asm volatile("st.relaxed.gpu.global.v2.u32 [%0], {%1,%2};" ::"l"(p), "r"(v.w[0]), "r"(v.w[1]) : "memory");
}
// What an earlier step made, which has ended: also before the wait.
INLINE Words4 LoadEarlier16(const void* p) {
  Words4 r;
  asm volatile("ld.relaxed.gpu.global.L1::no_allocate.v4.u32 {%0,%1,%2,%3}, [%4];"
               : "=r"(r.w[0]), "=r"(r.w[1]), "=r"(r.w[2]), "=r"(r.w[3]) : "l"(p) : "memory");
  return r;
}
INLINE i64 LoadEarlierI64(const void* p) {
  i64 r;
  asm volatile("ld.relaxed.gpu.global.s64 %0, [%1];" : "=l"(r) : "l"(p) : "memory");
  return r;
}
// Makes this thread's writes visible to the card before what it writes next.
INLINE void FenceDevice() { __threadfence(); }
// Adds and returns what was there; orders what came before on this thread, and what comes after.
INLINE u32 AddAcquireRelease(u32* p, u32 v) {
  u32 r;
  asm volatile("atom.acq_rel.gpu.global.add.u32 %0, [%1], %2;" : "=r"(r) : "l"(p), "r"(v) : "memory");
  return r;
}
// Seen by the host, after all that this thread wrote before.
INLINE void StoreReleaseSystem(u32* p, u32 v) { asm volatile("st.release.sys.global.u32 [%0], %1;" ::"l"(p), "r"(v) : "memory"); }

// ---- Kernels that overlap (programmatic dependent launch); nothing before sm_90 ------------------------------
// The next kernel may start. It waits by itself before it reads what this one makes.
INLINE void LaunchDependents() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}
// All of the kernels before have ended, and what they wrote is visible.
INLINE void WaitDependencies() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

// ---- Copies into shared memory -------------------------------------------------------------------------------
// 16 bytes, by cp.async; CommitCopies closes a group, WaitCopies<N> waits until at most N groups are open.
INLINE void CopyAsync16(void* to, const void* from) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(SharedAddress(to)), "l"(from) : "memory");
}
// The same, or zeros.
INLINE void CopyAsync16OrZero(void* to, const void* from, bool copy) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(SharedAddress(to)), "l"(from), "r"(copy ? 16 : 0)
               : "memory");
}
INLINE void CommitCopies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int N> INLINE void WaitCopies() { asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory"); }

#if __CUDA_ARCH__ >= 900
// A barrier in shared memory that bulk copies complete.
typedef u64 CopyBarrier;
INLINE void InitBarrier(CopyBarrier* barrier, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(SharedAddress(barrier)), "r"(arrivals) : "memory");
}
// After InitBarrier, by the thread that did it, before anyone uses the barriers.
INLINE void FenceBarriers() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}
INLINE void ExpectBytes(CopyBarrier* barrier, u32 bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(SharedAddress(barrier)), "r"(bytes)
               : "memory");
}
INLINE void Arrive(CopyBarrier* barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(SharedAddress(barrier)) : "memory");
}
INLINE bool TryWaitBarrier(CopyBarrier* barrier, u32 parity) {
  u32 done;
  asm volatile(
      "{\n.reg .pred p;\nmbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\nselp.u32 %0, 1, 0, p;\n}"
      : "=r"(done) : "r"(SharedAddress(barrier)), "r"(parity) : "memory");
  return done != 0;
}
// A wait of the hardware's own takes up to about a millisecond: 2^14 of them are far beyond any copy. The loop is
// hidden from the compiler: a trap that the roles of a kernel share would make it take them for one, and give none the
// registers that it asks for.
INLINE void WaitBarrier(CopyBarrier* barrier, u32 parity) {
  asm volatile(
      "{\n.reg .pred done, late;\n.reg .u32 count;\nmov.u32 count, 0;\n"
      "AGAIN:\nmbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n@done bra DONE;\n"
      "add.u32 count, count, 1;\nsetp.gt.u32 late, count, 16384;\n@late trap;\nbra AGAIN;\nDONE:\n}" ::"r"(
          SharedAddress(barrier)),
      "r"(parity)
      : "memory");
}
// A policy for what is read once: it leaves L2 first.
INLINE u64 EvictFirst() {
  u64 policy;
  asm volatile("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
  return policy;
}
// `bytes` contiguous bytes; addresses and size are multiples of 16.
INLINE void CopyBulk(void* to, const void* from, u32 bytes, CopyBarrier* barrier, u64 policy) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint [%0], [%1], %2, [%3], %4;" ::"r"(
          SharedAddress(to)),
      "l"(from), "r"(bytes), "r"(SharedAddress(barrier)), "l"(policy)
      : "memory");
}
#endif

// ---- Tensor cores: d += a b for one warp, a 16 x 16, b 16 x 8, fragments as PTX lays them out ----------------
INLINE void MultiplyBf16(float* d, const u32* a, const u32* b) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
// Four 8 x 8 matrices of 16-bit elements; lane i gives the address of row i % 8 of matrix i / 8.
INLINE void LoadMatrices(u32* r, const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(SharedAddress(row)) : "memory");
}
INLINE void LoadMatricesTransposed(u32* r, const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(SharedAddress(row)) : "memory");
}
)text";

}  // namespace

std::string_view CudaMachine() {
  return kMachine;
}

// CUDA C++ Programming Guide, compute capabilities: shared memory of a thread block. Cards that come later
// may have as little as the least of those that are there.
int64_t MostSharedBytes(const Target& target) {
  constexpr int64_t kLeast = 99 << 10;
  if (target.ptx) return kLeast;
  switch (target.sm) {
    case 80:
      return 163 << 10;
    case 90:
    case 100:
      return 227 << 10;
    default:
      return kLeast;
  }
}

int64_t Multiprocessors(const StepShape& shape) {
  return shape.threads > 0 ? shape.threads : kUsualMultiprocessors;
}

}  // namespace preheat::codegen::cuda
