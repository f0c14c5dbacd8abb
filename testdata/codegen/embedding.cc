
typedef bf16 TableElement;
typedef f32 ResultElement;
constexpr i64 kVocab = 320, kWidth = 100, kResultStride = 112, kTileRows = 4;

ENTRY void embedding(const ph_args* args, i64 tile_begin, i64 tile_end, void*) {
  const i32* ids = Operand<const i32>(args, 0);
  const TableElement* table = Operand<const TableElement>(args, 1);
  ResultElement* result = Operand<ResultElement>(args, 2);
  constexpr int kWhole = kWidth / LANES * LANES, kTail = kWidth - kWhole;
  const i64 end = Min(tile_end * kTileRows, args->rows);
  NO_UNROLL for (i64 row = tile_begin * kTileRows; row < end; ++row) {
    const TableElement* from = table + Max(Min(ids[row], kVocab - 1), 0) * kWidth;
    ResultElement* to = result + row * kResultStride;
    for (int d = 0; d < kWhole; d += LANES) Store(to + d, Load(from + d));
    if (kTail != 0) StoreTail(to + kWhole, LoadTail(from + kWhole, kTail), kTail);
  }
}
