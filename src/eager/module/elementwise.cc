// Kernels that pass over rows once.
#include <cmath>

#include "eager/module/kernels.h"
#include "eager/module/matrix.h"
#include "eager/module/parallel.h"

namespace preheat::eager {
namespace {

constexpr int64_t kChunk = 1024;  // floats of a row handled at a time: they stay in the first cache

// out = body(chunk of a, chunk of b), row by row; b may be null.
template <typename Body>
void MapRows(const Matrix& out, const Matrix& a, const Matrix* b, Body body) {
  const Loops& loops = BestLoops();
  const int64_t chunks = (out.columns + kChunk - 1) / kChunk;
  ForRange(out.rows * chunks, kChunk < out.columns ? kChunk : out.columns, [&](int64_t begin, int64_t end) {
    alignas(64) float x[kChunk];
    alignas(64) float y[kChunk];
    for (int64_t item = begin; item < end; ++item) {
      const int64_t row = item / chunks;
      const int64_t first = item % chunks * kChunk;
      const int64_t count = out.columns - first < kChunk ? out.columns - first : kChunk;
      LoadRow(loops, x, a.At(row, first), a.dtype, count);
      if (b != nullptr) LoadRow(loops, y, b->At(row, first), b->dtype, count);
      body(loops, x, y, count);
      StoreRow(loops, out.At(row, first), out.dtype, x, count);
    }
  });
}

ph_probe probe_callback = nullptr;
void* probe_user = nullptr;

}  // namespace

void Embedding(const ph_args& args) {
  const Matrix out = Operand(args, 0);
  const auto* ids = static_cast<const int32_t*>(args.operands[1]);
  const Matrix table = Operand(args, 2);
  ForRange(out.rows, out.columns, [&](int64_t begin, int64_t end) {
    const Loops& loops = BestLoops();
    alignas(64) float x[kChunk];
    for (int64_t row = begin; row < end; ++row) {
      for (int64_t first = 0; first < out.columns; first += kChunk) {
        const int64_t count = out.columns - first < kChunk ? out.columns - first : kChunk;
        LoadRow(loops, x, table.At(ids[row], first), table.dtype, count);
        StoreRow(loops, out.At(row, first), out.dtype, x, count);
      }
    }
  });
}

void RmsNorm(const ph_args& args) {
  const Matrix out = Operand(args, 0);
  const Matrix x = Operand(args, 1);
  const Matrix weight = Operand(args, 2);
  const float eps = OwnReal(args, 3, 0);
  ForRange(out.rows, out.columns, [&](int64_t begin, int64_t end) {
    const Loops& loops = BestLoops();
    alignas(64) float chunk[kChunk];
    alignas(64) float factors[kChunk];
    for (int64_t row = begin; row < end; ++row) {
      float squares = 0;
      for (int64_t first = 0; first < out.columns; first += kChunk) {
        const int64_t count = out.columns - first < kChunk ? out.columns - first : kChunk;
        LoadRow(loops, chunk, x.At(row, first), x.dtype, count);
        squares += loops.sum_squares(chunk, count);
      }
      const float scale = 1.0f / std::sqrt(squares / static_cast<float>(out.columns) + eps);
      for (int64_t first = 0; first < out.columns; first += kChunk) {
        const int64_t count = out.columns - first < kChunk ? out.columns - first : kChunk;
        LoadRow(loops, chunk, x.At(row, first), x.dtype, count);
        LoadRow(loops, factors, weight.At(0, first), weight.dtype, count);
        loops.scale_by(chunk, chunk, factors, scale, count);
        StoreRow(loops, out.At(row, first), out.dtype, chunk, count);
      }
    }
  });
}

void Rotary(const ph_args& args) {
  const Matrix out = Operand(args, 0);
  const Matrix x = Operand(args, 1);
  const auto* table = static_cast<const float*>(args.operands[2]);  // [positions, 2, half]
  const int64_t head_dim = Own(args, 3, 0);
  const int64_t half = head_dim / 2;
  ForRange(out.rows, out.columns, [&](int64_t begin, int64_t end) {
    const Loops& loops = BestLoops();
    alignas(64) float in[kChunk];
    alignas(64) float turned[kChunk];
    for (int64_t row = begin; row < end; ++row) {
      const float* cos = table + (args.past + row) * head_dim;
      for (int64_t head = 0; head < out.columns; head += head_dim) {
        LoadRow(loops, in, x.At(row, head), x.dtype, head_dim);
        loops.rotate(turned, in, cos, cos + half, half);
        StoreRow(loops, out.At(row, head), out.dtype, turned, head_dim);
      }
    }
  });
}

void Append(const ph_args& args) {
  const int64_t kv_heads = Own(args, 4, 0);
  const int64_t head_dim = Own(args, 4, 1);
  const Loops& loops = BestLoops();
  for (int part = 0; part < 2; ++part) {
    const Matrix cache = Operand(args, part);
    const Matrix x = Operand(args, 2 + part);
    ForRange(x.rows, x.columns, [&](int64_t begin, int64_t end) {
      alignas(64) float chunk[kChunk];
      for (int64_t row = begin; row < end; ++row) {
        for (int64_t head = 0; head < kv_heads; ++head) {
          LoadRow(loops, chunk, x.At(row, head * head_dim), x.dtype, head_dim);
          StoreRow(loops, cache.At(head * args.capacity + args.past + row), cache.dtype, chunk, head_dim);
        }
      }
    });
  }
}

void Add(const ph_args& args) {
  const Matrix b = Operand(args, 2);
  MapRows(Operand(args, 0), Operand(args, 1), &b,
          [](const Loops& loops, float* x, float* y, int64_t count) { loops.add(x, x, y, count); });
}

void Mul(const ph_args& args) {
  const Matrix b = Operand(args, 2);
  MapRows(Operand(args, 0), Operand(args, 1), &b,
          [](const Loops& loops, float* x, float* y, int64_t count) { loops.mul(x, x, y, count); });
}

void Silu(const ph_args& args) {
  MapRows(Operand(args, 0), Operand(args, 1), nullptr,
          [](const Loops& loops, float* x, float*, int64_t count) { loops.silu(x, x, count); });
}

void Copy(const ph_args& args) {
  MapRows(Operand(args, 0), Operand(args, 1), nullptr, [](const Loops&, float*, float*, int64_t) {});
}

void LastRow(const ph_args& args) {
  Matrix x = Operand(args, 1);
  x.data = x.At(x.rows - 1);
  Matrix out = Operand(args, 0);
  out.rows = x.rows = 1;
  MapRows(out, x, nullptr, [](const Loops&, float*, float*, int64_t) {});
}

void Probe(const ph_args& args) {
  Copy(args);
  if (probe_callback == nullptr) return;
  const Matrix x = Operand(args, 1);
  float* values = ScratchFloats(Scratch::kProbe, x.rows * x.columns);
  for (int64_t row = 0; row < x.rows; ++row) {
    LoadRow(BestLoops(), values + row * x.columns, x.At(row), x.dtype, x.columns);
  }
  probe_callback(values, x.rows, x.columns, probe_user);
}

void SetProbe(ph_probe probe, void* user) {
  probe_callback = probe;
  probe_user = user;
}

}  // namespace preheat::eager
