// A program: one step of a model (prefill of a bucket, prefill of any length, or decode) as plain data.
//
// It is what compiling makes, the store keeps, the artifact carries and a session runs. It names weights by
// their checkpoint names and machine code by its SHA-256, so it holds no pointer, path or host property.
// Layers are a segment that repeats over a table of weights; they are never unrolled. On disk it is canonical
// JSON (ToJson), described in docs/format.md.
#pragma once

#include <cstddef>
#include <cstdint>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "abi/kernel_abi.h"
#include "tensor/dtype.h"

namespace preheat::program {

inline constexpr int kFormatVersion = 3;

// bytes = fixed + per_row * rows + per_position * capacity, where rows is the most tokens that the step can
// be given and capacity the number of positions in the KV cache.
struct Extent {
  int64_t fixed = 0;
  int64_t per_row = 0;
  int64_t per_position = 0;

  int64_t Bytes(int64_t rows, int64_t capacity) const {
    return fixed + per_row * rows + per_position * capacity;
  }
  bool operator==(const Extent&) const = default;
};

// tiles = count * ceil(x / block), where x is 1, the valid rows, or past + rows.
struct TileCount {
  enum class Per { kStep, kRows, kPositions };
  int64_t count = 1;
  Per per = Per::kStep;
  int64_t block = 1;

  int64_t Tiles(int64_t rows, int64_t past) const;
  bool operator==(const TileCount&) const = default;
};

// Buffer::slot of a buffer that keeps its contents from step to step: it shares its memory with none, and is
// zeroed when the program is bound.
inline constexpr int kOwnSlot = -1;

// An activation. Buffers whose lifetimes do not overlap share a slot.
struct Buffer {
  std::string name;
  Extent extent;
  int slot = 0;

  bool operator==(const Buffer&) const = default;
};

// Holes in a weight's name, in a repeated segment: the layer; the next one, in the last layer the first.
inline constexpr std::string_view kThisRound = "{}", kNextRound = "{+1}";
// The name with what stands in the hole's place, where it has the hole.
std::string FillHole(std::string name, std::string_view hole, std::string_view with);

// A tensor of the checkpoint; one a layer, where its name has a hole.
struct Weight {
  std::string name;
  tensor::DType dtype = tensor::DType::kBf16;
  std::vector<int64_t> shape;

  size_t Bytes() const;  // of one layer's, where the name stands for a tensor a layer
  bool operator==(const Weight&) const = default;
};

// A constant made at load time: cos and sin of position * inv_freq, [capacity, 2, inv_freq.size()] f32, both
// scaled by `scale` (rotary embedding, https://arxiv.org/abs/2104.09864).
struct RotaryTable {
  std::vector<float> inv_freq;
  float scale = 1;

  bool operator==(const RotaryTable&) const = default;
};

// The KV cache of one layer: `key_bytes` then `value_bytes`, both linear in the capacity, which must be a
// multiple of `position_block`. What lies inside is between the kernels of one layout name.
struct KvLayout {
  std::string name;  // e.g. "bf16-pairs16": programs that share a cache must agree on it
  int64_t position_block = 1;
  Extent key_bytes;
  Extent value_bytes;

  bool operator==(const KvLayout&) const = default;
};

struct Operand {
  enum class Kind {
    kWeight,      // index into Program::weights
    kBuffer,      // index into Program::buffers
    kKeyCache,    // this layer's keys
    kValueCache,  // this layer's values
    kRotary,      // the rotary table
    kIds,         // int32 [rows]: the step's tokens; in decode the state's token
    kState,       // ph_state
    kLogits,      // f32 [logit rows, vocab]
  };
  enum class Access { kRead, kWrite, kReadWrite };  // what memory planning needs to know
  Kind kind = Kind::kBuffer;
  int index = 0;
  Access access = Access::kRead;

  bool operator==(const Operand&) const = default;
};

// An operand as a card's copy engine reads it: boxes of elements, brought into shared memory row by row.
// Elements that lie outside of the extents come as zeros.
struct TensorMap {
  // Most that a launch has, and most dimensions of one.
  static constexpr int kMost = PH_MOST_TENSOR_MAPS, kMostDims = PH_MOST_TENSOR_MAP_DIMS;
  struct Dim {
    int64_t extent = 0;  // 0: the most rows that the step can be given
    int64_t stride_bytes = 0;
    int box = 1;  // elements of a box

    bool operator==(const Dim&) const = default;
  };
  int operand = 0;                               // index into Launch::operands: a weight or a buffer
  tensor::DType element = tensor::DType::kBf16;  // a float
  int swizzle_bytes = 0;  // 16-byte pieces of so many bytes change places from row to row; 0: none
  std::vector<Dim> dims;  // at least one; the innermost, whose elements lie side by side, first

  bool operator==(const TensorMap&) const = default;
};

// Before a module's name in Launch::code.
inline constexpr std::string_view kLibraryPrefix = "library:";

// How a launch is laid out on a device of blocks of threads; all 0 on a CPU.
struct BlockShape {
  int threads = 0;
  int blocks_per_sm = 0;  // 0: one block a tile
  int64_t shared_bytes = 0;
  int cluster = 0;

  operator ph_block_shape() const { return {threads, blocks_per_sm, shared_bytes, cluster}; }
  bool operator==(const BlockShape&) const = default;
};

struct Launch {
  std::string region;       // for people: "qkv", "attention", ...
  std::string code;         // SHA-256 of the code image in hex, or "library:NAME" for a module of kernels
  std::string entry;        // the tile kernel in it
  std::string stage_entry;  // kernel that each thread runs once before its first tile; empty: none
  TileCount tiles;
  int64_t chunk = 1;  // tiles claimed at a time
  int64_t scratch_bytes = 0;
  BlockShape blocks{};
  // 1 + the kind of a region of a persistent kernel: with its neighbours of the same entry, layers after
  // layers, it is one launch. 0: a launch of its own.
  int link = 0;
  std::vector<Operand> operands;
  std::vector<TensorMap> tensor_maps;  // behind the operands, for the kernel
  std::vector<int64_t> constants;      // for library kernels: shapes; generated code has them compiled in

  bool operator==(const Launch&) const = default;
};

struct Segment {
  int64_t repeat = 1;
  std::vector<Launch> launches;
  int64_t first = 0;  // the i-th run binds "{}" in weight names and the KV cache to layer first + i

  bool operator==(const Segment&) const = default;
};

enum class StepKind { kPrefill, kDecode };
enum class LogitRows { kLast, kAll };

struct Program {
  std::string name;    // "prefill_128", "prefill_any", "decode"
  std::string target;  // "x86-64-v4+avx512bf16": the code's instruction set
  StepKind kind = StepKind::kPrefill;
  int64_t max_rows = 0;  // a bucket's length, 1 for decode, 0 for any length
  LogitRows logit_rows = LogitRows::kLast;
  std::string toolchain;  // who made the code, for people: "gcc version 12.2.0 ..., x86_64-linux-gnu"
  int64_t vocab_size = 0;
  int64_t layers = 0;
  KvLayout kv;
  RotaryTable rotary;
  std::vector<Weight> weights;
  std::vector<Buffer> buffers;
  int slots = 0;
  std::vector<Segment> segments;

  bool operator==(const Program&) const = default;
};

// Canonical JSON: equal programs give equal text. REQUIRES: rotary values are finite.
std::string ToJson(const Program& program);

// Errors: Corrupt where `json` is malformed or inconsistent (an index out of range, a negative extent),
// Incompatible where its format version is another. `source` names it in messages.
Program FromJson(std::string_view json, std::string_view source);

// The code images that the program names (not its library modules), each once, in the order of first use.
std::vector<std::string> CodeHashes(const Program& program);
// The regions whose launches the program has.
std::set<std::string> RegionNames(const Program& program);

}  // namespace preheat::program
