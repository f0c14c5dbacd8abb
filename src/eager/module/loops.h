// The inner loops of the kernels that are not oneDNN's: plain functions over floats on one thread, compiled
// once for each instruction set and chosen at run time.
#pragma once

#include <cstdint>

namespace preheat::eager {

struct Loops {
  void (*load_bf16)(float* out, const uint16_t* in, int64_t count);
  void (*store_bf16)(uint16_t* out, const float* in, int64_t count);  // to nearest, ties to even
  void (*add)(float* out, const float* a, const float* b, int64_t count);
  void (*mul)(float* out, const float* a, const float* b, int64_t count);
  void (*silu)(float* out, const float* x, int64_t count);
  float (*sum_squares)(const float* x, int64_t count);
  void (*scale)(float* out, const float* x, float factor, int64_t count);
  // out = x * factor * weight
  void (*scale_by)(float* out, const float* x, const float* weight, float factor, int64_t count);
  float (*max)(const float* x, int64_t count);  // of at least one
  // x = exp(x - shift); returns the sum
  float (*exp_sum)(float* x, float shift, int64_t count);
  // One head: y[d] = x[d] cos[d] - x[d + half] sin[d]; y[d + half] = x[d + half] cos[d] + x[d] sin[d]
  void (*rotate)(float* y, const float* x, const float* cos, const float* sin, int64_t half);
  // c [rows, columns] (+)= a [rows, depth] b [depth, columns]; columns is a multiple of kColumns.
  void (*product)(float* c, int64_t c_stride, const float* a, int64_t a_stride, const float* b,
                  int64_t b_stride, int64_t rows, int64_t depth, int64_t columns, int accumulate);
  // c [rows, columns] = a [rows, depth] b^T, b [columns, depth]: for few rows.
  void (*dots)(float* c, int64_t c_stride, const float* a, int64_t a_stride, const float* b, int64_t b_stride,
               int64_t rows, int64_t depth, int64_t columns);
  // out [columns, rows] = in^T, in [rows, columns]
  void (*transpose)(float* out, int64_t out_stride, const float* in, int64_t in_stride, int64_t rows,
                    int64_t columns);
  // 64 rows of bf16, `stride` elements apart, as [columns / 32][16][64][2]: blocks of 16 pairs of columns by
  // 64 rows. Meanwhile fetches `next`, as many bytes again, into the cache. columns is a multiple of 32.
  void (*pack_pairs)(uint16_t* out, const uint16_t* in, int64_t stride, int64_t columns,
                     const uint16_t* next);
};

inline constexpr int64_t kColumns = 64;

extern const Loops kLoopsV3;
extern const Loops kLoopsV4;
const Loops& BestLoops();

}  // namespace preheat::eager
