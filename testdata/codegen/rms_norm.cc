
typedef f32 XElement;
typedef bf16 ResultElement;
constexpr i64 kWidth = 100, kXStride = 112, kResultStride = 128;
typedef bf16 WeightElement;
constexpr i64 kTileRows = 4;
constexpr float kEps = 9.999999747e-06f;

ENTRY void rms_norm(const ph_args* args, i64 tile_begin, i64 tile_end, void*) {
  const XElement* x = Operand<const XElement>(args, 0);
  const WeightElement* weight = Operand<const WeightElement>(args, 1);
  ResultElement* result = Operand<ResultElement>(args, 2);
  constexpr int kSums = 4;  // apart, since one addition waits for the other
  constexpr int kWhole = kWidth / LANES * LANES, kTail = kWidth - kWhole;
  const i64 end = Min(tile_end * kTileRows, args->rows);
  NO_UNROLL for (i64 row = tile_begin * kTileRows; row < end; ++row) {
    const XElement* from = x + row * kXStride;
    ResultElement* to = result + row * kResultStride;
    VF sums[kSums] = {};
    int d = 0;
    NO_UNROLL for (; d + kSums * LANES <= kWhole; d += kSums * LANES) {
      UNROLL for (int j = 0; j < kSums; ++j) {
        const VF v = Load(from + d + j * LANES);
        sums[j] = Fma(v, v, sums[j]);
      }
    }
    NO_UNROLL for (; d < kWhole; d += LANES) sums[0] = Fma(Load(from + d), Load(from + d), sums[0]);
    if (kTail != 0) {
      const VF v = LoadTail(from + kWhole, kTail);
      sums[1] = Fma(v, v, sums[1]);
    }
    const float squares = Sum((sums[0] + sums[1]) + (sums[2] + sums[3]));
    const VF factor = Splat(Rsqrt(squares / kWidth + kEps));
    NO_UNROLL for (d = 0; d < kWhole; d += LANES) Store(to + d, Load(from + d) * factor * Load(weight + d));
    if (kTail != 0) {
      StoreTail(to + kWhole, LoadTail(from + kWhole, kTail) * factor * LoadTail(weight + kWhole, kTail), kTail);
    }
  }
}
