// Compiled twice, with PREHEAT_LOOPS naming the table and the flags of x86-64-v3 or v4. Everything but the
// table is local and no header with inline functions is included, so that no function of the wrong
// instruction set can be linked in.
#include "eager/module/loops.h"

namespace preheat::eager {
namespace {

#ifdef __AVX512F__
constexpr int kLanes = 16;
constexpr int kTileRows = 6;  // 6 x 4 sums, 4 columns, a broadcast: 29 of 32 registers
constexpr int kTileVectors = 4;
#else
constexpr int kLanes = 8;
constexpr int kTileRows = 4;  // 4 x 2 sums, 2 columns, a broadcast: 11 of 16 registers
constexpr int kTileVectors = 2;
#endif

typedef float Vec __attribute__((vector_size(kLanes * 4), aligned(4), may_alias));
typedef int32_t IntVec __attribute__((vector_size(kLanes * 4), aligned(4), may_alias));

inline Vec Load(const float* p) {
  return *reinterpret_cast<const Vec*>(p);
}
inline void Store(float* p, Vec v) {
  *reinterpret_cast<Vec*>(p) = v;
}
inline Vec Set(float value) {
  return Vec{} + value;
}

typedef float Half __attribute__((vector_size(32), aligned(4), may_alias));
typedef float Quarter __attribute__((vector_size(16), aligned(4), may_alias));

inline float Sum(Vec v) {
  Half half[kLanes / 8];
  __builtin_memcpy(half, &v, sizeof v);
  if (kLanes == 16) half[0] += half[kLanes / 8 - 1];
  Quarter quarter[2];
  __builtin_memcpy(quarter, half, sizeof quarter);
  const Quarter sum = quarter[0] + quarter[1];
  return (sum[0] + sum[2]) + (sum[1] + sum[3]);
}

// Within 2 units in the last place on [-87, 88], clamped beyond; NaN stays NaN.
// exp(x) = 2^n exp(r), |r| <= ln(2)/2; Taylor to r^7/5040, whose next term is below 2^-27.
inline Vec Exp(Vec x) {
  x = x < -87.0f ? Set(-87.0f) : x;
  x = x > 88.0f ? Set(88.0f) : x;
  const Vec shifter = Set(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer
  const Vec n = (x * 1.44269504f + shifter) - shifter;
  const Vec r = (x - n * 0.693359375f) - n * -2.12194440e-4f;
  Vec p = Set(1.0f / 5040);
  p = p * r + 1.0f / 720;
  p = p * r + 1.0f / 120;
  p = p * r + 1.0f / 24;
  p = p * r + 1.0f / 6;
  p = p * r + 0.5f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  const IntVec power = (__builtin_convertvector(n, IntVec) + 127) << 23;
  return p * reinterpret_cast<const Vec&>(power);
}

inline uint32_t Bits(float value) {
  uint32_t bits;
  __builtin_memcpy(&bits, &value, 4);
  return bits;
}

void LoadBf16(float* out, const uint16_t* in, int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    const uint32_t bits = static_cast<uint32_t>(in[i]) << 16;
    __builtin_memcpy(out + i, &bits, 4);
  }
}

void StoreBf16(uint16_t* out, const float* in, int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    const uint32_t bits = Bits(in[i]);
    const uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
    const uint32_t quiet_nan = (bits >> 16) | 0x0040u;
    out[i] = static_cast<uint16_t>((bits & 0x7fffffffu) > 0x7f800000u ? quiet_nan : rounded);
  }
}

void Add(float* out, const float* a, const float* b, int64_t count) {
  for (int64_t i = 0; i < count; ++i) out[i] = a[i] + b[i];
}

void Mul(float* out, const float* a, const float* b, int64_t count) {
  for (int64_t i = 0; i < count; ++i) out[i] = a[i] * b[i];
}

void Scale(float* out, const float* x, float factor, int64_t count) {
  for (int64_t i = 0; i < count; ++i) out[i] = x[i] * factor;
}

void ScaleBy(float* out, const float* x, const float* weight, float factor, int64_t count) {
  for (int64_t i = 0; i < count; ++i) out[i] = x[i] * factor * weight[i];
}

// Calls body(vector) -> vector over x, the tail through a padded copy, and stores what it returns.
template <typename Body>
inline void Map(float* out, const float* x, int64_t count, Body body) {
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) Store(out + i, body(Load(x + i)));
  if (i == count) return;
  float tail[kLanes] = {};
  for (int64_t j = i; j < count; ++j) tail[j - i] = x[j];
  Store(tail, body(Load(tail)));
  for (int64_t j = i; j < count; ++j) out[j] = tail[j - i];
}

void Silu(float* out, const float* x, int64_t count) {
  Map(out, x, count, [](Vec v) { return v / (1.0f + Exp(-v)); });
}

float SumSquares(const float* x, int64_t count) {
  Vec sums[4] = {};
  int64_t i = 0;
  for (; i + 4 * kLanes <= count; i += 4 * kLanes) {
    for (int k = 0; k < 4; ++k) {
      const Vec v = Load(x + i + k * kLanes);
      sums[k] += v * v;
    }
  }
  float sum = Sum((sums[0] + sums[1]) + (sums[2] + sums[3]));
  for (; i < count; ++i) sum += x[i] * x[i];
  return sum;
}

float Max(const float* x, int64_t count) {
  float best = x[0];
  int64_t i = 0;
  if (count >= kLanes) {
    Vec bests = Load(x);
    for (i = kLanes; i + kLanes <= count; i += kLanes) {
      const Vec v = Load(x + i);
      bests = v > bests ? v : bests;
    }
    best = bests[0];
    for (int k = 1; k < kLanes; ++k) best = bests[k] > best ? bests[k] : best;
  }
  for (; i < count; ++i) best = x[i] > best ? x[i] : best;
  return best;
}

float ExpSum(float* x, float shift, int64_t count) {
  Map(x, x, count, [shift](Vec v) { return Exp(v - shift); });
  Vec sums = {};
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) sums += Load(x + i);
  float sum = Sum(sums);
  for (; i < count; ++i) sum += x[i];
  return sum;
}

void Rotate(float* y, const float* x, const float* cos, const float* sin, int64_t half) {
  for (int64_t d = 0; d < half; ++d) {
    const float low = x[d];
    const float high = x[d + half];
    y[d] = low * cos[d] - high * sin[d];
    y[d + half] = high * cos[d] + low * sin[d];
  }
}

template <int kRows>
inline void Tile(float* c, int64_t c_stride, const float* a, int64_t a_stride, const float* b,
                 int64_t b_stride, int64_t depth, int accumulate) {
  Vec sums[kRows][kTileVectors] = {};
  if (accumulate) {
    for (int r = 0; r < kRows; ++r) {
      for (int v = 0; v < kTileVectors; ++v) sums[r][v] = Load(c + r * c_stride + v * kLanes);
    }
  }
  for (int64_t k = 0; k < depth; ++k) {
    Vec columns[kTileVectors];
    for (int v = 0; v < kTileVectors; ++v) columns[v] = Load(b + k * b_stride + v * kLanes);
    for (int r = 0; r < kRows; ++r) {
      const float factor = a[r * a_stride + k];
      for (int v = 0; v < kTileVectors; ++v) sums[r][v] += columns[v] * factor;
    }
  }
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kTileVectors; ++v) Store(c + r * c_stride + v * kLanes, sums[r][v]);
  }
}

void Product(float* c, int64_t c_stride, const float* a, int64_t a_stride, const float* b, int64_t b_stride,
             int64_t rows, int64_t depth, int64_t columns, int accumulate) {
  for (int64_t j = 0; j < columns; j += kTileVectors * kLanes) {
    int64_t i = 0;
    for (; i + kTileRows <= rows; i += kTileRows) {
      Tile<kTileRows>(c + i * c_stride + j, c_stride, a + i * a_stride, a_stride, b + j, b_stride, depth,
                      accumulate);
    }
    for (; i + 3 <= rows; i += 3) {  // 3: the query heads of a key head in Llama 3.2 3B
      Tile<3>(c + i * c_stride + j, c_stride, a + i * a_stride, a_stride, b + j, b_stride, depth, accumulate);
    }
    for (; i < rows; ++i) {
      Tile<1>(c + i * c_stride + j, c_stride, a + i * a_stride, a_stride, b + j, b_stride, depth, accumulate);
    }
  }
}

void Dots(float* c, int64_t c_stride, const float* a, int64_t a_stride, const float* b, int64_t b_stride,
          int64_t rows, int64_t depth, int64_t columns) {
  for (int64_t j = 0; j < columns; ++j) {
    for (int64_t i = 0; i < rows; ++i) {
      const float* x = a + i * a_stride;
      const float* y = b + j * b_stride;
      Vec sums[2] = {};
      int64_t k = 0;
      for (; k + 2 * kLanes <= depth; k += 2 * kLanes) {
        sums[0] += Load(x + k) * Load(y + k);
        sums[1] += Load(x + k + kLanes) * Load(y + k + kLanes);
      }
      float sum = Sum(sums[0] + sums[1]);
      for (; k < depth; ++k) sum += x[k] * y[k];
      c[i * c_stride + j] = sum;
    }
  }
}

void Transpose(float* out, int64_t out_stride, const float* in, int64_t in_stride, int64_t rows,
               int64_t columns) {
  // Blocks of 16 columns, so that the lines being written stay in the first cache.
  for (int64_t j0 = 0; j0 < columns; j0 += 16) {
    const int64_t j1 = j0 + 16 < columns ? j0 + 16 : columns;
    for (int64_t i = 0; i < rows; ++i) {
      for (int64_t j = j0; j < j1; ++j) out[j * out_stride + i] = in[i * in_stride + j];
    }
  }
}

typedef uint32_t Pair __attribute__((aligned(2), may_alias));

void PackPairs(uint16_t* out, const uint16_t* in, int64_t stride, int64_t columns, const uint16_t* next) {
  constexpr int64_t kRows = 64, kPairs = 16;
  for (int64_t block = 0; block < columns / (2 * kPairs); ++block) {
    for (int64_t line = 0; line < kRows; ++line) {
      // 64 rows of 64 bytes are read here; the hardware follows fewer streams, so the next rows are asked for
      // in time.
      __builtin_prefetch(next + (block * kRows + line) * 32, 0, 2);
    }
    const uint16_t* from = in + block * 2 * kPairs;
    Pair* to = reinterpret_cast<Pair*>(out + block * kRows * 2 * kPairs);
    for (int64_t pair = 0; pair < kPairs; ++pair) {
      for (int64_t row = 0; row < kRows; ++row) {
        to[pair * kRows + row] = *reinterpret_cast<const Pair*>(from + row * stride + 2 * pair);
      }
    }
  }
}

}  // namespace

const Loops PREHEAT_LOOPS = {
    .load_bf16 = LoadBf16,
    .store_bf16 = StoreBf16,
    .add = Add,
    .mul = Mul,
    .silu = Silu,
    .sum_squares = SumSquares,
    .scale = Scale,
    .scale_by = ScaleBy,
    .max = Max,
    .exp_sum = ExpSum,
    .rotate = Rotate,
    .product = Product,
    .dots = Dots,
    .transpose = Transpose,
    .pack_pairs = PackPairs,
};

}  // namespace preheat::eager
