#include "codegen/cpu_memory.h"

namespace preheat::codegen {
namespace {

// Numbers from and to memory. bf16 is the upper half of a float.
constexpr char kConversions[] = R"text(
INLINE VF FromBf16(VH h) {
  return (VF)(__builtin_convertvector(h, VU) << 16);
}
INLINE VF FromF16(VH h) {
  VF r;
  asm("vcvtph2ps %1, %0" : "=v"(r) : "v"(h));
  return r;
}
INLINE VH ToF16(VF v) {
  VH r;
  asm("vcvtps2ph $0, %1, %0" : "=v"(r) : "v"(v));
  return r;
}

INLINE VF Load(const bf16* p) {
  return FromBf16(*(const VHMemory*)p);
}
INLINE VF Load(const f16* p) {
  return FromF16(*(const VHMemory*)p);
}
INLINE VF Load(const f32* p) {
  return *(const VFMemory*)p;
}
INLINE void Store(bf16* p, VF v) {
  *(VHMemory*)p = ToBf16(v);
}
INLINE void Store(f16* p, VF v) {
  *(VHMemory*)p = ToF16(v);
}
INLINE void Store(f32* p, VF v) {
  *(VFMemory*)p = v;
}

INLINE VF RoundToBf16(VF v) {
  return FromBf16(ToBf16(v));
}
INLINE float Get(const bf16* p) {
  return __builtin_bit_cast(float, (u32)p->bits << 16);
}
INLINE float Get(const f16* p) {
  return FromF16((VH){} + p->bits)[0];
}
INLINE float Get(const f32* p) {
  return p->value;
}
INLINE void Put(bf16* p, float x) {
  p->bits = ToBf16(Splat(x))[0];
}
INLINE void Put(f16* p, float x) {
  p->bits = ToF16(Splat(x))[0];
}
INLINE void Put(f32* p, float x) {
  p->value = x;
}
)text";

// To nearest, ties to even; a NaN stays one.
constexpr char kRoundByIntegers[] = R"text(
INLINE VH ToBf16(VF v) {
  const VU bits = (VU)v;
  const VU rounded = bits + 0x7fff + ((bits >> 16) & 1);
  const VU is_nan = v != v;
  const VU chosen = (is_nan & (bits | 0x400000)) | (~is_nan & rounded);
  return __builtin_convertvector((chosen >> 16) & 0xffff, VH);
}
)text";

// To nearest, ties to even; denormals are taken for zero.
constexpr char kRoundByInstruction[] = R"text(
INLINE VH ToBf16(VF v) {
  VH r;
  asm("vcvtneps2bf16 %1, %0" : "=v"(r) : "v"(v));
  return r;
}
)text";

// Parts of a vector by masks: a masked-out element is neither read nor written, wherever it lies.
constexpr char kTailsByMask[] = R"text(
INLINE VH LoadHalvesTail(const void* p, int n) {
  VH r;
  asm("vmovdqu16 %1, %0%{%2%}%{z%}" : "=v"(r) : "m"(*(const VHMemory*)p), "Yk"((1u << n) - 1));
  return r;
}
INLINE void StoreHalvesTail(void* p, VH v, int n) {
  asm("vmovdqu16 %1, %0%{%2%}" : "+m"(*(VHMemory*)p) : "v"(v), "Yk"((1u << n) - 1));
}
INLINE VF LoadTail(const f32* p, int n) {
  VF r;
  asm("vmovups %1, %0%{%2%}%{z%}" : "=v"(r) : "m"(*(const VFMemory*)p), "Yk"((1u << n) - 1));
  return r;
}
INLINE void StoreTail(f32* p, VF v, int n) {
  asm("vmovups %1, %0%{%2%}" : "+m"(*(VFMemory*)p) : "v"(v), "Yk"((1u << n) - 1));
}
)text";

// The same, element by element. The empty asm keeps the compiler from calling memcpy for the loop.
constexpr char kTailsByElement[] = R"text(
INLINE VH LoadHalvesTail(const void* p, int n) {
  VH r = {};
  u16* to = (u16*)&r;
  for (int i = 0; i < n; ++i) {
    to[i] = ((const bf16*)p)[i].bits;
    asm("" ::: "memory");
  }
  return r;
}
INLINE void StoreHalvesTail(void* p, VH v, int n) {
  for (int i = 0; i < n; ++i) {
    ((bf16*)p)[i].bits = ((const u16*)&v)[i];
    asm("" ::: "memory");
  }
}
INLINE VF LoadTail(const f32* p, int n) {
  VF r = {};
  float* to = (float*)&r;
  for (int i = 0; i < n; ++i) {
    to[i] = p[i].value;
    asm("" ::: "memory");
  }
  return r;
}
INLINE void StoreTail(f32* p, VF v, int n) {
  for (int i = 0; i < n; ++i) {
    p[i].value = ((const float*)&v)[i];
    asm("" ::: "memory");
  }
}
)text";

constexpr char kTails[] = R"text(
INLINE VF LoadTail(const bf16* p, int n) {
  return FromBf16(LoadHalvesTail(p, n));
}
INLINE VF LoadTail(const f16* p, int n) {
  return FromF16(LoadHalvesTail(p, n));
}
INLINE void StoreTail(bf16* p, VF v, int n) {
  StoreHalvesTail(p, ToBf16(v), n);
}
INLINE void StoreTail(f16* p, VF v, int n) {
  StoreHalvesTail(p, ToF16(v), n);
}
)text";

}  // namespace

std::string MemoryText(const Target& target) {
  std::string text = target.bf16_dot ? kRoundByInstruction : kRoundByIntegers;
  text += kConversions;
  text += target.vector_bytes == 64 ? kTailsByMask : kTailsByElement;
  text += kTails;
  return text;
}

}  // namespace preheat::codegen
