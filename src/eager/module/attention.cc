// Causal attention in blocks with a running softmax (https://arxiv.org/abs/2205.14135), in fp32. oneDNN 2.6
// has no such primitive. All query heads of one key head are rows of the same product, so keys and values are
// read once a group.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <utility>

#include "eager/module/kernels.h"
#include "eager/module/matrix.h"
#include "eager/module/parallel.h"

namespace preheat::eager {
namespace {

constexpr int64_t kPositions = 64;   // of the cache, handled at a time
constexpr int64_t kTargetRows = 96;  // query rows of an item: keys and values are unpacked once for so many
constexpr int64_t kFewRows = 8;      // up to here products are taken row by row, without transposing the keys
constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

struct Task {
  Matrix out, q, keys, values;
  int64_t heads, kv_heads, head_dim;
  float scale;
  int64_t past, capacity;

  int64_t Group() const { return heads / kv_heads; }
};

// One thread's memory. Widths are padded to kColumns, the product's unit.
struct Work {
  float* q;            // [rows, head_dim], scaled
  float* keys;         // [kPositions, head_dim]
  float* keys_turned;  // [head_dim, kPositions]
  float* values;       // [kPositions, width], zero beyond head_dim
  float* scores;       // [rows, kPositions]
  float* sums;         // [rows, width]: the unnormalised output
  float* largest;      // [rows]
  float* weight;       // [rows]: sum of exp(score - largest)
};

int64_t Width(int64_t head_dim) {
  return (head_dim + kColumns - 1) / kColumns * kColumns;
}

int64_t WorkFloats(int64_t rows, int64_t head_dim) {
  const int64_t width = Width(head_dim);
  return rows * (2 * width + kPositions) + 3 * kPositions * width + 2 * (rows + 16);
}

Work Divide(float* memory, int64_t rows, int64_t head_dim) {
  const int64_t width = Width(head_dim);
  Work work;
  const auto take = [&memory](int64_t count) { return std::exchange(memory, memory + count); };
  work.q = take(rows * width);
  work.keys = take(kPositions * width);
  work.keys_turned = take(kPositions * width);
  work.values = take(kPositions * width);
  work.scores = take(rows * kPositions);
  work.sums = take(rows * width);
  work.largest = take(rows);
  work.weight = take(rows);
  return work;
}

// Scores of one row become weights; positions from `seen` on get none.
void Weigh(const Loops& loops, const Work& work, int64_t row, int64_t seen, int64_t width) {
  float* scores = work.scores + row * kPositions;
  const int64_t count = seen < 0 ? 0 : (seen > kPositions ? kPositions : seen);
  if (count > 0) {
    const float block_largest = loops.max(scores, count);
    if (block_largest > work.largest[row]) {
      const float shrink = std::exp(work.largest[row] - block_largest);
      work.largest[row] = block_largest;
      work.weight[row] *= shrink;
      loops.scale(work.sums + row * width, work.sums + row * width, shrink, width);
    }
    work.weight[row] += loops.exp_sum(scores, work.largest[row], count);
  }
  for (int64_t p = count; p < kPositions; ++p) scores[p] = 0;
}

// Queries [first, first + queries) of all heads that read `kv_head`; row = query * group + head in the group.
void Item(const Task& task, const Loops& loops, const Work& work, int64_t kv_head, int64_t first,
          int64_t queries) {
  const int64_t group = task.Group();
  const int64_t head_dim = task.head_dim;
  const int64_t width = Width(head_dim);
  const int64_t rows = queries * group;
  for (int64_t row = 0; row < rows; ++row) {
    const int64_t head = kv_head * group + row % group;
    float* q = work.q + row * head_dim;
    LoadRow(loops, q, task.q.At(first + row / group, head * head_dim), task.q.dtype, head_dim);
    loops.scale(q, q, task.scale, head_dim);
    work.largest[row] = kMinusInfinity;
    work.weight[row] = 0;
  }
  std::memset(work.sums, 0, static_cast<size_t>(rows * width) * sizeof(float));

  const int64_t end = task.past + first + queries;  // positions that the last query sees
  for (int64_t block = 0; block < end; block += kPositions) {
    const int64_t count = end - block < kPositions ? end - block : kPositions;
    for (int64_t p = 0; p < count; ++p) {
      const int64_t position = kv_head * task.capacity + block + p;
      LoadRow(loops, work.keys + p * head_dim, task.keys.At(position), task.keys.dtype, head_dim);
      LoadRow(loops, work.values + p * width, task.values.At(position), task.values.dtype, head_dim);
    }
    if (rows <= kFewRows) {
      loops.dots(work.scores, kPositions, work.q, head_dim, work.keys, head_dim, rows, head_dim, count);
    } else {
      loops.transpose(work.keys_turned, kPositions, work.keys, head_dim, count, head_dim);
      loops.product(work.scores, kPositions, work.q, head_dim, work.keys_turned, kPositions, rows, head_dim,
                    kPositions, 0);
    }
    for (int64_t row = 0; row < rows; ++row) {
      Weigh(loops, work, row, task.past + first + row / group + 1 - block, width);
    }
    loops.product(work.sums, width, work.scores, kPositions, work.values, width, rows, count, width, 1);
  }
  for (int64_t row = 0; row < rows; ++row) {
    float* sums = work.sums + row * width;
    loops.scale(sums, sums, 1.0f / work.weight[row], head_dim);
    const int64_t head = kv_head * group + row % group;
    StoreRow(loops, task.out.At(first + row / group, head * head_dim), task.out.dtype, sums, head_dim);
  }
}

}  // namespace

void Attention(const ph_args& args) {
  const Task task = {.out = Operand(args, 0),
                     .q = Operand(args, 1),
                     .keys = Operand(args, 2),
                     .values = Operand(args, 3),
                     .heads = Own(args, 4, 0),
                     .kv_heads = Own(args, 4, 1),
                     .head_dim = Own(args, 4, 2),
                     .scale = OwnReal(args, 4, 3),
                     .past = args.past,
                     .capacity = args.capacity};
  const int64_t per_item = std::max<int64_t>(1, kTargetRows / task.Group());
  const int64_t blocks = (args.rows + per_item - 1) / per_item;
  const int64_t rows = std::min(per_item, args.rows) * task.Group();
  const int64_t floats = (WorkFloats(rows, task.head_dim) + 15) / 16 * 16;
  float* memory = ScratchFloats(Scratch::kAttention, floats * TeamSize());
  const Loops& loops = BestLoops();
  ForItems(blocks * task.kv_heads, [&](int64_t item, int thread) {
    // The last queries see the most positions: they go first, so that no thread is left with a long one at
    // the end.
    const int64_t first = (blocks - 1 - item / task.kv_heads) * per_item;
    const int64_t queries = std::min(per_item, args.rows - first);
    float* own = memory + thread * floats;
    const Work work = Divide(own, rows, task.head_dim);
    // Padding columns of the values take part in products: they must be finite, whatever was there before.
    const int64_t width = Width(task.head_dim);
    if (width != task.head_dim)
      std::memset(work.values, 0, static_cast<size_t>(kPositions * width) * sizeof(float));
    Item(task, loops, work, item % task.kv_heads, first, queries);
  });
}

}  // namespace preheat::eager
