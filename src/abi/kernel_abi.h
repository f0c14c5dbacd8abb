/* The contract between generated code and what runs it. Both include this header and nothing else of the
 * project, so it needs only <stdint.h>. A change here is a new PH_ABI_VERSION, which enters every program
 * key.
 *
 * A kernel is one phase of a fused region:
 *
 *   stage kernel   reads what earlier regions made (dependent inputs) into fast memory of its own:
 *                  normalises, rounds, combines partial sums. On a CPU each thread runs it once a launch,
 *                  before its first tile, into its scratch; or, where rows are many, it is a launch of its
 * own whose tiles are blocks of rows of a shared buffer. tile kernel    for each tile: streams immutable
 * operands (weights, past keys and values), combines them with what was staged, and stores through the
 * epilogue.
 *
 * Waiting for earlier regions, loading ahead, and who runs which tile belong to the launcher. Tiles of a
 * launch are independent, idempotent, and may run in any order on any thread.
 */
#ifndef PREHEAT_ABI_KERNEL_ABI_H_
#define PREHEAT_ABI_KERNEL_ABI_H_

#include <stdint.h>

#define PH_ABI_VERSION 2

#ifdef __cplusplus
extern "C" {
#endif

/* What one launch works on. Pointers in `operands` stand in the order of the launch record. */
struct ph_args {
  void* const* operands;
  const int64_t* constants; /* the launch record's own numbers; generated code has them compiled in */
  int64_t rows;     /* valid tokens in this step, n >= 1; rows beyond them are never read or written */
  int64_t past;     /* positions already in the KV cache */
  int64_t capacity; /* positions that the KV cache has room for: the stride of its layout */
  struct ph_state*
      state; /* on a device whose steps run ahead of the host; generated CPU code does not look */
};

/* Runs tiles [tile_begin, tile_end). `scratch` is the calling thread's own, 64-byte aligned, and keeps its
 * contents between the stage kernel and the tile kernel of one launch. */
typedef void (*ph_kernel)(const struct ph_args* args, int64_t tile_begin, int64_t tile_end, void* scratch);

/* The state of a generation, on the device: one block that embedding and sampling read and write. */
struct ph_state {
  int32_t token;        /* the token chosen last */
  int32_t steps;        /* tokens chosen so far: the counter of the random stream */
  uint64_t seed;        /* key of the Philox4x32-10 stream */
  float temperature;    /* 0: greedy */
  float top_p;          /* 1: off */
  int32_t top_k;        /* 0: off */
  int32_t banned_count; /* how many of `banned` may not be chosen */
  int32_t banned[16];   /* token ids: end tokens where the number of new tokens is fixed */

  /* What follows is for devices whose steps run ahead of the host: there the last kernel of a step reports
   * the token and moves `past` on, and a decode step takes its position from here. Elsewhere the host does
   * it. */
  int64_t past;         /* positions in the KV cache before the step */
  struct ph_ring* ring; /* where tokens are reported; null: nowhere */
  int32_t stopped;      /* an end token was chosen: further steps change nothing in this block */
  int32_t end_count;    /* how many of `end` stop the generation */
  int32_t end[16];      /* token ids */
};

/* Tokens on their way to the host, in memory that both see. The device writes tokens[steps % PH_RING_TOKENS],
 * then `count`, the number of tokens chosen so far. */
#define PH_RING_TOKENS 64
struct ph_ring {
  uint32_t count;
  int32_t tokens[PH_RING_TOKENS];
};

/* How a launch is laid out on a device that runs blocks of threads. */
struct ph_block_shape {
  int32_t threads;       /* of a block */
  int32_t blocks_per_sm; /* blocks for each multiprocessor, which share the tiles; 0: one block a tile */
  int64_t shared_bytes;  /* dynamic shared memory of a block */
  int32_t cluster;       /* neighbouring blocks that run together and reach each other's memory; 0: none */
};

/* The one parameter of a generated CUDA kernel, by value. Where the launch has tensor maps, they follow: 128
 * bytes each, as the card's driver encodes them, from the next multiple of 64 on. */
#define PH_TENSOR_MAP_BYTES 128
#define PH_TENSOR_MAP_ALIGN 64
#define PH_MOST_OPERANDS 16
#define PH_MOST_TENSOR_MAPS 8
#define PH_MOST_TENSOR_MAP_DIMS 5
struct ph_gpu_args {
  void* operands[PH_MOST_OPERANDS]; /* device addresses */
  struct ph_state* state;
  int64_t rows; /* as in ph_args; 0: a recorded decode step, one row at state->past */
  int64_t past;
  int64_t capacity;
  int64_t tiles;
};

/* A persistent kernel runs regions one after the other: its first operand is a table of `tiles` of these. */
struct ph_link {
  void* operands[PH_MOST_OPERANDS];
  int32_t kind;  /* which of the kernel's regions */
  int32_t round; /* of a repeated segment */
};

#ifdef __cplusplus
}
#endif

#endif /* PREHEAT_ABI_KERNEL_ABI_H_ */
