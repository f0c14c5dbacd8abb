#include "codegen/cpu_prelude.h"

#include <fmt/format.h>

#include "base/check.h"
#include "codegen/cpu_memory.h"
#include "codegen/cpu_shuffles.h"
#include "tensor/dtype.h"

namespace preheat::codegen {
namespace {

// Compilers differ in how a loop is told to unroll, and in the names of their vector built-ins: hence
// __builtin_shufflevector, which both know, and assembly for the rest.
constexpr char kTypes[] = R"text(
#define INLINE static inline __attribute__((always_inline))
#define CONSTANT constexpr
#define NOINLINE static __attribute__((noinline))
#define ENTRY extern "C" __attribute__((visibility("default")))
#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#define NO_UNROLL _Pragma("clang loop unroll(disable)")
#else
#define UNROLL _Pragma("GCC unroll 64")
#define NO_UNROLL _Pragma("GCC unroll 1")
#endif

typedef unsigned char u8;
typedef unsigned short u16;
typedef int i32;
typedef unsigned int u32;
typedef long long i64;
typedef unsigned long long u64;

// Must match abi/kernel_abi.h.
struct ph_args {
  void* const* operands;
  const i64* constants;
  i64 rows;
  i64 past;
  i64 capacity;
  void* state;
};

struct ph_state {
  i32 token;
  i32 steps;
  u64 seed;
  float temperature;
  float top_p;
  i32 top_k;
  i32 banned_count;
  i32 banned[16];
  i64 past;
  void* ring;
  i32 stopped;
  i32 end_count;
  i32 end[16];
};

// Elements as they are stored. Weights lie in mapped files at any byte, so no alignment is assumed.
struct __attribute__((packed, may_alias)) bf16 {
  u16 bits;
};
struct __attribute__((packed, may_alias)) f16 {
  u16 bits;
};
struct __attribute__((packed, may_alias)) f32 {
  float value;
};

typedef float VF __attribute__((vector_size(4 * LANES), may_alias));
typedef i32 VU __attribute__((vector_size(4 * LANES), may_alias));
typedef u16 VH __attribute__((vector_size(2 * LANES), may_alias));
typedef float VFMemory __attribute__((vector_size(4 * LANES), aligned(1), may_alias));
typedef i32 VUMemory __attribute__((vector_size(4 * LANES), aligned(1), may_alias));
typedef u16 VHMemory __attribute__((vector_size(2 * LANES), aligned(1), may_alias));
typedef u32 unit __attribute__((may_alias));

template <class T>
INLINE T* Operand(const ph_args* args, int index) {
  return (T*)args->operands[index];
}
INLINE i64 Min(i64 a, i64 b) {
  return a < b ? a : b;
}
INLINE i64 Max(i64 a, i64 b) {
  return a > b ? a : b;
}
INLINE void PrefetchL1(const void* p) {
  __builtin_prefetch(p, 0, 3);
}
INLINE void PrefetchL2(const void* p) {
  __builtin_prefetch(p, 0, 2);
}

INLINE VF Splat(float x) {
  return x - (VF){};
}
INLINE VU SplatUnit(i32 x) {
  return x - (VU){};
}
INLINE VF Select(VU mask, VF a, VF b) {
  return (VF)((mask & (VU)a) | (~mask & (VU)b));
}
INLINE VF Fma(VF a, VF b, VF acc) {
  asm("vfmadd231ps %2, %1, %0" : "+v"(acc) : "v"(a), "v"(b));
  return acc;
}
INLINE VF Max(VF a, VF b) {
  VF r;
  asm("vmaxps %2, %1, %0" : "=v"(r) : "v"(a), "v"(b));
  return r;
}
INLINE VF Min(VF a, VF b) {
  VF r;
  asm("vminps %2, %1, %0" : "=v"(r) : "v"(a), "v"(b));
  return r;
}
INLINE float Sqrt(float x) {
  float r;
  asm("vsqrtss %1, %1, %0" : "=x"(r) : "x"(x));
  return r;
}
INLINE float Rsqrt(float x) {
  return 1.0f / Sqrt(x);
}
)text";

// What another kernel made is memory like any other here. StoreEach: the i-th of `count` elements goes to
// address(i).
constexpr char kAccess[] = R"text(
template <class T>
INLINE VF LoadDependent(const T* p) {
  return Load(p);
}
template <class T>
INLINE VF LoadDependentTail(const T* p, int n) {
  return LoadTail(p, n);
}
template <class T, class Address>
INLINE void StoreEach(VF v, int count, Address address) {
  T rounded[LANES];
  Store(rounded, v);
  NO_UNROLL for (int i = 0; i < count; ++i) *address(i) = rounded[i];
}
)text";

// e^x = 2^n e^r with n = round(x / ln 2), |r| <= ln 2 / 2. ln 2 in two parts keeps r exact to an ulp; e^r is
// its Taylor polynomial of degree 7, whose first left-out term is below 2^-27 there. The result of an x whose
// power is no normal float is 0 or infinity.
constexpr char kFunctions[] = R"text(
INLINE VF Exp(VF x) {
  const VF kRound = Splat(12582912.0f);  // 1.5 * 2^23: adding it leaves an integer in the low bits
  const VF clamped = Max(Min(x, Splat(88.7228f)), Splat(-87.33f));
  const VF shifted = Fma(clamped, Splat(1.44269504f), kRound);
  const VF n = shifted - kRound;
  const VF r = Fma(n, Splat(1.90465421e-9f), Fma(n, Splat(-0.693147182f), clamped));
  VF p = Splat(1.98412698e-4f);
  p = Fma(p, r, Splat(1.38888889e-3f));
  p = Fma(p, r, Splat(8.33333333e-3f));
  p = Fma(p, r, Splat(4.16666667e-2f));
  p = Fma(p, r, Splat(1.66666667e-1f));
  p = Fma(p, r, Splat(0.5f));
  p = Fma(p, r, Splat(1.0f));
  p = Fma(p, r, Splat(1.0f));
  // 2^n in two steps, since n may be 128.
  const VU half = ((VU)shifted - (VU)kRound) >> 1;
  const VU rest = ((VU)shifted - (VU)kRound) - half;
  const VF power = p * (VF)((half + 127) << 23) * (VF)((rest + 127) << 23);
  const VF finite = Select(x < -87.33f, (VF){}, Select(x > 88.7228f, Splat(__builtin_inff()), power));
  return Select(x != x, x, finite);
}
INLINE VF Silu(VF x) {
  return x / (1.0f + Exp(-x));
}
)text";

constexpr char kPairUnits[] = R"text(
constexpr int KPU = 2;
typedef bf16 Element;
INLINE void StoreElements(Element* p, VF v) {
  Store(p, v);
}
INLINE void StoreElementsTail(Element* p, VF v, int n) {
  StoreTail(p, v, n);
}
INLINE VU LoadUnits(const bf16* p) {
  return *(const VUMemory*)p;
}
INLINE VU LoadUnitsTail(const bf16* p, int n) {
  VU r;
  asm("vmovdqu16 %1, %0%{%2%}%{z%}" : "=v"(r) : "m"(*(const VUMemory*)p), "Yk"((1u << n) - 1));
  return r;
}
// acc + a0 b0 + a1 b1 in every lane. Source: Intel SDM vol. 2, VDPBF16PS.
INLINE VF Dot(VF acc, VU a, VU b) {
  asm("vdpbf16ps %2, %1, %0" : "+v"(acc) : "v"(a), "v"(b));
  return acc;
}
)text";

constexpr char kFloatUnits[] = R"text(
constexpr int KPU = 1;
typedef f32 Element;
INLINE void StoreElements(Element* p, VF v) {
  Store(p, ToMath(v));
}
INLINE void StoreElementsTail(Element* p, VF v, int n) {
  StoreTail(p, ToMath(v), n);
}
INLINE VU LoadUnits(const bf16* p) {
  return (VU)Load(p);
}
INLINE VU LoadUnits(const f16* p) {
  return (VU)Load(p);
}
INLINE VU LoadUnits(const f32* p) {
  return (VU)Load(p);
}
INLINE VU LoadUnitsTail(const bf16* p, int n) {
  return (VU)LoadTail(p, n);
}
INLINE VU LoadUnitsTail(const f16* p, int n) {
  return (VU)LoadTail(p, n);
}
INLINE VU LoadUnitsTail(const f32* p, int n) {
  return (VU)LoadTail(p, n);
}
INLINE VF Dot(VF acc, VU a, VU b) {
  return Fma((VF)a, (VF)b, acc);
}
)text";

constexpr char kUnits[] = R"text(
INLINE VU Broadcast(const unit* p) {
  return SplatUnit((i32)*p);
}
INLINE void StoreUnits(unit* p, VU v) {
  *(VUMemory*)p = v;
}
INLINE VU LoadUnits(const unit* p) {
  return *(const VUMemory*)p;
}
)text";

}  // namespace

Unit UnitFor(tensor::DType stored, tensor::DType math, const Target& target) {
  if (math != tensor::DType::kBf16) return Unit::kF32;
  return target.bf16_dot && stored == tensor::DType::kBf16 ? Unit::kBf16Pair : Unit::kBf16InF32;
}

int ElementsPerUnit(Unit unit) {
  return unit == Unit::kBf16Pair ? 2 : 1;
}

std::string CpuPrelude(const Target& target, Unit unit) {
  CHECK(unit != Unit::kBf16Pair || target.bf16_dot);
  const int lanes = target.vector_bytes / 4;
  std::string text = fmt::format("// {}\n#define LANES {}\n", target.name, lanes);
  text += kTypes;
  text += MemoryText(target);
  text += kAccess;
  text += kFunctions;
  text += ShuffleText(lanes);
  switch (unit) {
    case Unit::kF32:
      text += "INLINE VF ToMath(VF v) { return v; }\n";
      text += kFloatUnits;
      break;
    case Unit::kBf16InF32:
      text += "INLINE VF ToMath(VF v) { return RoundToBf16(v); }\n";
      text += kFloatUnits;
      break;
    case Unit::kBf16Pair:
      text += "INLINE VF ToMath(VF v) { return RoundToBf16(v); }\n";
      text += kPairUnits;
      break;
  }
  text += kUnits;
  return text;
}

}  // namespace preheat::codegen
