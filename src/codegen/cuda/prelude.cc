#include "codegen/cuda/prelude.h"

#include <fmt/format.h>

#include "abi/kernel_abi.h"
#include "codegen/cuda/machine.h"

namespace preheat::codegen::cuda {
namespace {

constexpr int kTeamElements = 4;  // a thread's: 16 bytes of f32, 8 of bf16

constexpr char kTypes[] = R"text(
// Must match abi/kernel_abi.h.
struct ph_ring {
  u32 count;
  i32 tokens[64];
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
  ph_ring* ring;
  i32 stopped;
  i32 end_count;
  i32 end[16];
};
struct ph_gpu_args {
  void* operands[16];
  ph_state* state;
  i64 rows;
  i64 past;
  i64 capacity;
  i64 tiles;
};

// What bodies are given, as on a CPU.
struct ph_args {
  void* const* operands;
  i64 rows;
  i64 past;
  i64 capacity;
  // In a link of a persistent kernel, of flagged words.
  u32 tag;
  u32 written_tag;
};
// `past` moves on in a step's last kernel alone, and a step's first kernel starts when the step before has ended: so
// it may be read before the wait.
INLINE ph_args ArgsOf(const ph_gpu_args& params) {
  ph_args args = {params.operands, params.rows, params.past, params.capacity, 0, 0};
  if (params.rows == 0) {
    args.rows = 1;
    args.past = LoadEarlierI64(&params.state->past);
  }
  return args;
}
// How bodies point to elements of a type; a type may have pointers of its own.
template <class T> struct PointerTo {
  typedef T* Type;
  INLINE T* At(const ph_args* args, int index) { return (T*)args->operands[index]; }
};
template <class T> INLINE typename PointerTo<T>::Type Operand(const ph_args* args, int index) {
  return PointerTo<T>::At(args, index);
}

INLINE i64 Min(i64 a, i64 b) { return a < b ? a : b; }
INLINE i64 Max(i64 a, i64 b) { return a > b ? a : b; }
INLINE float Max(float a, float b) { return a > b ? a : b; }

// Elements as they are stored.
struct bf16 { u16 bits; };
struct f16 { u16 bits; };
struct f32 { float value; };
INLINE float Widen(bf16 x) { return FloatOf((u32)x.bits << 16); }
INLINE float Widen(f16 x) { return FloatFromF16(x.bits); }
INLINE float Widen(f32 x) { return x.value; }
INLINE void Put(bf16* p, float x) { p->bits = Bf16FromFloat(x); }
INLINE void Put(f16* p, float x) { p->bits = F16FromFloat(x); }
INLINE void Put(f32* p, float x) { p->value = x; }
template <class T> INLINE float Get(const T* p) { return Widen(*p); }
INLINE float GetDependent(const bf16* p) { return Widen(bf16{LoadDependent2(p)}); }
INLINE float GetDependent(const f16* p) { return Widen(f16{LoadDependent2(p)}); }
INLINE float GetDependent(const f32* p) { return FloatOf(LoadDependent4(p)); }

// 16 bytes as numbers.
INLINE void Unpack(const Words4& w, const bf16*, float* to) {
  UNROLL for (int i = 0; i < 4; ++i) {
    to[2 * i] = FloatOf(w.w[i] << 16);
    to[2 * i + 1] = FloatOf(w.w[i] & 0xffff0000u);
  }
}
INLINE void Unpack(const Words4& w, const f16*, float* to) {
  UNROLL for (int i = 0; i < 4; ++i) {
    to[2 * i] = FloatFromF16((u16)w.w[i]);
    to[2 * i + 1] = FloatFromF16((u16)(w.w[i] >> 16));
  }
}
INLINE void Unpack(const Words4& w, const f32*, float* to) {
  UNROLL for (int i = 0; i < 4; ++i) to[i] = FloatOf(w.w[i]);
}
template <class T> constexpr int kPer16 = 16 / (int)sizeof(T);

INLINE float Rsqrt(float x) { return Divide(1.0f, SquareRoot(x)); }
INLINE float Exp(float x) { return PowerOfTwo(Multiply(x, 1.44269504f)); }
INLINE float Silu(float x) { return Divide(x, 1.0f + Exp(-x)); }
INLINE float WarpSum(float v) {
  UNROLL for (int mask = 16; mask > 0; mask /= 2) v += ShuffleXor(v, mask);
  return v;
}
INLINE float WarpMax(float v) {
  UNROLL for (int mask = 16; mask > 0; mask /= 2) v = Max(v, ShuffleXor(v, mask));
  return v;
}
)text";

constexpr char kTeamOpening[] = R"text(
namespace team {{
constexpr int kThreads = {0}, LANES = kThreads * {1};
INLINE float* Scratch() {{ return (float*)(SharedMemory() + {2}); }}
INLINE int First() {{ return ThreadIndex() * {1}; }}
INLINE void SyncTeam() {{ {3}; }}
)text";

// Four neighbouring elements of a thread, from element First() of what the words are given.
constexpr char kFour[] = R"text(
struct VF {
  float v[4];
};
#define FOUR_EACH(expression) \
  VF r; \
  UNROLL for (int i = 0; i < 4; ++i) r.v[i] = expression; \
  return r
INLINE VF Splat(float x) { FOUR_EACH(x); }
INLINE VF operator+(VF a, VF b) { FOUR_EACH(a.v[i] + b.v[i]); }
INLINE VF operator-(VF a, VF b) { FOUR_EACH(a.v[i] - b.v[i]); }
INLINE VF operator*(VF a, VF b) { FOUR_EACH(Multiply(a.v[i], b.v[i])); }
INLINE VF Fma(VF a, VF b, VF c) { FOUR_EACH(FusedMultiplyAdd(a.v[i], b.v[i], c.v[i])); }
#undef FOUR_EACH

// Rows begin at multiples of 64 bytes, and so do weights: a thread's elements may be read at once.
INLINE VF Load(const f32* p) {
  const Words4 w = *(const Words4*)(p + First());
  VF r;
  Unpack(w, p, r.v);
  return r;
}
INLINE VF OfHalves(Words2 w, const bf16*) {
  return {{FloatOf(w.w[0] << 16), FloatOf(w.w[0] & 0xffff0000u), FloatOf(w.w[1] << 16), FloatOf(w.w[1] & 0xffff0000u)}};
}
INLINE VF OfHalves(Words2 w, const f16*) {
  return {{FloatFromF16((u16)w.w[0]), FloatFromF16((u16)(w.w[0] >> 16)), FloatFromF16((u16)w.w[1]),
           FloatFromF16((u16)(w.w[1] >> 16))}};
}
INLINE VF Load(const bf16* p) { return OfHalves(*(const Words2*)(p + First()), p); }
INLINE VF Load(const f16* p) { return OfHalves(*(const Words2*)(p + First()), p); }
INLINE VF LoadDependent(const f32* p) {
  const Words4 w = LoadDependent16(p + First());
  VF r;
  Unpack(w, p, r.v);
  return r;
}
INLINE VF LoadDependent(const bf16* p) { return OfHalves(LoadDependent8(p + First()), p); }
INLINE VF LoadDependent(const f16* p) { return OfHalves(LoadDependent8(p + First()), p); }
INLINE void StoreElements(f32* p, VF v) { *(Words4*)(p + First()) = {{BitsOf(v.v[0]), BitsOf(v.v[1]), BitsOf(v.v[2]), BitsOf(v.v[3])}}; }
INLINE void StoreElements(bf16* p, VF v) {
  *(Words2*)(p + First()) = {{Bf16PairFromFloats(v.v[0], v.v[1]), Bf16PairFromFloats(v.v[2], v.v[3])}};
}
INLINE void StoreElements(f16* p, VF v) {
  *(Words2*)(p + First()) = {{F16FromFloat(v.v[0]) | (u32)F16FromFloat(v.v[1]) << 16,
                              F16FromFloat(v.v[2]) | (u32)F16FromFloat(v.v[3]) << 16}};
}
)text";

constexpr char kTeam[] = R"text(
template <class T> INLINE VF LoadTail(const T* p, int n) {
  VF r;
  UNROLL for (int i = 0; i < 4; ++i) r.v[i] = First() + i < n ? Get(p + First() + i) : 0.0f;
  return r;
}
template <class T> INLINE VF LoadDependentTail(const T* p, int n) {
  VF r;
  UNROLL for (int i = 0; i < 4; ++i) r.v[i] = First() + i < n ? GetDependent(p + First() + i) : 0.0f;
  return r;
}
// In all threads.
INLINE float Sum(VF v) {
  const float sum = WarpSum((v.v[0] + v.v[1]) + (v.v[2] + v.v[3]));
  SyncTeam();  // what was summed before has been read
  if (Lane() == 0) Scratch()[ThreadIndex() / 32] = sum;
  SyncTeam();
  float total = 0;
  UNROLL for (int i = 0; i < kThreads / 32; ++i) total += Scratch()[i];
  return total;
}
)text";

// A run is a whole vector here.
constexpr char kQuadOpening[] = R"text(
namespace quad {
constexpr int LANES = 4;
INLINE int First() { return 0; }
)text";
constexpr char kQuad[] = R"text(
INLINE VF Silu(VF x) {
  UNROLL for (int i = 0; i < 4; ++i) x.v[i] = Multiply(x.v[i], Reciprocal(1.0f + Exp(-x.v[i])));
  return x;
}
template <class T> INLINE VF LoadRun(const T* p, int) { return Load(p); }
INLINE VF LoadRun(const f32* p, int) {
  VF r;
  Unpack(LoadConstant16(p), p, r.v);
  return r;
}
template <class T> INLINE VF LoadDependentRun(const T* p, int) { return LoadDependent(p); }
template <class T> INLINE void StoreRun(T* p, VF v, int) { StoreElements(p, v); }
// Elements that a cache's rows have side by side.
template <class T, class Address> INLINE void StoreEach(VF v, int, Address address) { StoreElements((T*)address(0), v); }
)text";

constexpr char kWarp[] = R"text(
namespace warp {
constexpr int LANES = 32;
struct VF {
  float v;
};
INLINE VF Splat(float x) { return {x}; }
INLINE VF operator+(VF a, VF b) { return {a.v + b.v}; }
INLINE VF operator-(VF a, VF b) { return {a.v - b.v}; }
INLINE VF operator*(VF a, VF b) { return {Multiply(a.v, b.v)}; }
INLINE VF Silu(VF x) { return {::Silu(x.v)}; }
template <class T> INLINE VF Load(const T* p) { return {Get(p + Lane())}; }
template <class T> INLINE VF LoadDependent(const T* p) { return {GetDependent(p + Lane())}; }
template <class T> INLINE void Store(T* p, VF v) { Put(p + Lane(), v.v); }
template <class T> INLINE VF LoadTail(const T* p, int n) { return {Lane() < n ? Get(p + Lane()) : 0.0f}; }
template <class T> INLINE VF LoadDependentTail(const T* p, int n) { return {Lane() < n ? GetDependent(p + Lane()) : 0.0f}; }
template <class T> INLINE void StoreTail(T* p, VF v, int n) {
  if (Lane() < n) Put(p + Lane(), v.v);
}
// The i-th of `count` elements goes to address(i).
template <class T, class Address> INLINE void StoreEach(VF v, int count, Address address) {
  if (Lane() < count) Put((T*)address(Lane()), v.v);
}
)text";

}  // namespace

std::string CudaPrelude(const Target& target, tensor::DType math) {
  static_assert(PH_RING_TOKENS == 64 && PH_MOST_OPERANDS == 16);
  std::string text = fmt::format("// {}\n", target.name);
  text += CudaMachine();
  text += kTypes;
  text += fmt::format("typedef {} Element;\n", math == tensor::DType::kBf16 ? "bf16" : "f32");
  return text;
}

int64_t TeamLanes(int threads) {
  return int64_t{threads} * kTeamElements;
}

std::string TeamWords(int threads, int64_t scratch_at, std::string_view body, std::string_view sync) {
  std::string text = fmt::format(kTeamOpening, threads, kTeamElements, scratch_at, sync);
  text += kFour;
  text += kTeam;
  text += body;
  text += "}  // namespace team\n";
  return text;
}

std::string QuadWords(std::string_view body) {
  std::string text = kQuadOpening;
  text += kFour;
  text += kQuad;
  text += body;
  text += "}  // namespace quad\n";
  return text;
}

std::string WarpWords(std::string_view body) {
  std::string text = kWarp;
  text += body;
  text += "}  // namespace warp\n";
  return text;
}

}  // namespace preheat::codegen::cuda
