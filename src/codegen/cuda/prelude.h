// The vocabulary of CUDA kernel bodies, on top of the machine's words (machine.h).
//
// The epilogues of products are the CPU's own text (matmul_text.h), written against vectors. Here a vector is
// spread over threads: in namespace `warp` over the lanes of a warp, one element each, for finishing
// neighbouring columns; in namespace `team` over all threads of a block, a few neighbouring elements each,
// for staging a row. In namespace `quad` each thread has a vector of its own, four neighbouring elements. The
// same words then mean: each thread does its own elements, and Sum adds over threads.
//
// A unit is made of: CudaPrelude (types, elements, arguments), TeamWords and WarpWords around the shared
// texts where they are needed, and a launcher (gemv, gemm, ...), which decides who runs which tile, what is
// loaded ahead, and when to wait.
#pragma once

#include <string>
#include <string_view>

#include "codegen/codegen.h"
#include "tensor/dtype.h"

namespace preheat::codegen::cuda {

// The machine, storage elements, arguments of a kernel, and what products of weights need. Staged
// multiplicands are bf16 where `math` is, else f32.
std::string CudaPrelude(const Target& target, tensor::DType math);

// `body` with vectors over a block of `threads` threads; Sum, which all of them call, uses kTeamScratchBytes
// of shared memory at SharedMemory() + scratch_at. `sync` is a call at which exactly these threads meet.
inline constexpr int kTeamScratchBytes = 128;
std::string TeamWords(int threads, int64_t scratch_at, std::string_view body,
                      std::string_view sync = "SyncBlock()");
// The elements of a team's vector: what staged rows are padded to.
int64_t TeamLanes(int threads);

// `body`, the finishing text of a product, with vectors over a warp's lanes.
std::string WarpWords(std::string_view body);
// The same with runs of the dialect, of four elements of each thread, that begin at multiples of four.
std::string QuadWords(std::string_view body);

}  // namespace preheat::codegen::cuda
