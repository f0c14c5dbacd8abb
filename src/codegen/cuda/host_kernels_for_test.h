// Texts of units that use each name of the machine rightly: run on the host, and compiled for cards.
#pragma once

#include <string>

#include "codegen/cuda/machine.h"

namespace preheat::codegen::cuda {

// A unit of the machine and `text`.
inline std::string CudaText(const char* text) {
  return "// a unit\n" + std::string(CudaMachine()) + text;
}

inline constexpr char kThreadKernels[] = R"text(
struct Indices { int* to; };
KERNEL(indices, 96, 1, Indices) {
  int* to = params.to + 5 * (BlockIndex() * 96 + ThreadIndex());
  to[0] = ThreadIndex();
  to[1] = BlockIndex();
  to[2] = BlockCount();
  to[3] = Lane();
  to[4] = WarpIndex();
}

struct Exchanges { u32* to; };
KERNEL(exchanges, 64, 1, Exchanges) {
  const int thread = ThreadIndex();
  u32* to = params.to + 6 * thread;
  to[0] = ShuffleXor((u32)thread, 5);
  to[1] = ShuffleFrom((u32)thread, 7);
  to[2] = Ballot(thread % 3 == 0);
  float sum = (float)thread;
  for (int mask = 16; mask > 0; mask >>= 1) sum += ShuffleXor(sum, mask);
  to[3] = BitsOf(sum);
  to[4] = BitsOf(ShuffleFrom((float)thread, 31));
  float* shared = (float*)SharedMemory();
  shared[thread] = (float)thread;
  SyncBlock();
  to[5] = BitsOf(shared[63 - thread]);
}

// Two pairs of warps, each at a barrier of its own, many times: only the pair is held.
struct Pairs { int* to; };
KERNEL(pairs, 128, 1, Pairs) {
  const int pair = WarpIndex() / 2;
  int* shared = (int*)SharedMemory();
  const int rounds = pair == 0 ? 3 : 20;
  int sum = 0;
  for (int round = 0; round < rounds; ++round) {
    shared[ThreadIndex()] = ThreadIndex() + round;
    SyncNamed(1 + pair, 64);
    sum += shared[ThreadIndex() ^ 32];
    SyncNamed(1 + pair, 64);
  }
  SyncBlock();
  params.to[ThreadIndex()] = sum;
}

// One warp of two takes in turn what both made; the other goes on.
KERNEL(arrivals, 64, 1, Pairs) {
  const int warp = WarpIndex();
  int* shared = (int*)SharedMemory();
  int sum = 0;
  for (int round = 0; round < 6; ++round) {
    shared[round * 64 + ThreadIndex()] = ThreadIndex() + round;
    if (warp == round % 2) {
      SyncNamed(1 + round, 64);
      sum += shared[round * 64 + (ThreadIndex() ^ 32)];
    } else {
      ArriveNamed(1 + round, 64);
    }
  }
  params.to[ThreadIndex()] = sum;
}

// What one block says, another waits for: words that stand for themselves.
struct Words { u32* words; u32* to; };
KERNEL(words, 32, 1, Words) {
  if (BlockIndex() == 1) {
    StoreRelaxed4(params.words + Lane(), 7 + Lane());
    return;
  }
  WaitDependencies();
  u32 word = LoadDependent4(params.words + Lane());
  NO_UNROLL for (int look = 0; word == 0; ++look) {
    if (look == 1 << 20) Trap();
    word = LookAgain4(params.words + Lane());
  }
  params.to[Lane()] = word;
}

// All blocks meet `rounds` times.
struct Meeting { u32* counter; u32* to; int rounds; };
KERNEL(meeting, 64, 1, Meeting) {
  WaitDependencies();
  for (int round = 0; round < params.rounds; ++round) {
    if (ThreadIndex() == 0) {
      params.to[BlockIndex()] = (u32)round;
      const u32 target = (u32)((round + 1) * BlockCount());
      FenceDevice();
      AddAcquireRelease(params.counter, 1);
      int looks = 0;
      while (LookAgain4(params.counter) < target) {
        if (++looks == 1 << 20) Trap();
      }
    }
    SyncBlock();
    if (LookAgain4(params.to + (BlockIndex() + 1) % BlockCount()) != (u32)round) Trap();
    SyncBlock();
    if (ThreadIndex() == 0) {
      const u32 before = AddAcquireRelease(params.counter + 1, 1);
      const u32 target = (before / (u32)BlockCount() + 1) * (u32)BlockCount();
      while (LookAgain4(params.counter + 1) < target) {}
    }
    SyncBlock();
  }
  StoreReleaseSystem(params.counter + 2, 7);
}

// What each thread sees of its neighbour without a barrier.
KERNEL(unordered, 64, 1, Indices) {
  int* shared = (int*)SharedMemory();
  shared[ThreadIndex()] = ThreadIndex();
  params.to[ThreadIndex()] = shared[ThreadIndex() ^ 1];
}
)text";

inline constexpr char kNumberKernels[] = R"text(
struct Numbers { const float* x; u32* to; int count; };
KERNEL(numbers, 32, 1, Numbers) {
  for (int i = Lane(); i < params.count; i += 32) {
    const float x = params.x[i];
    const float y = params.x[(i * 7 + 3) % params.count];
    u32* to = params.to + 11 * i;
    to[0] = Bf16FromFloat(x);
    to[1] = F16FromFloat(x);
    to[2] = Bf16PairFromFloats(x, y);
    to[3] = BitsOf(FloatFromF16((u16)BitsOf(x)));
    to[4] = BitsOf(FusedMultiplyAdd(x, y, x));
    to[5] = BitsOf(Multiply(x, y));
    to[6] = BitsOf(Add(x, y));
    to[7] = BitsOf(SquareRoot(x));
    to[8] = BitsOf(Divide(x, y));
    to[9] = BitsOf(PowerOfTwo(x));
    to[10] = (u32)CountBits(BitsOf(x));
  }
}
)text";

inline constexpr char kMatrixKernels[] = R"text(
struct Product { const u16* a; const u16* b; float* d; };

// The elements of fragments one by one, as PTX lists them.
KERNEL(fragments, 32, 1, Product) {
  const int group = Lane() >> 2, in_group = Lane() & 3;
  u32 a[4] = {}, b[2] = {};
  for (int i = 0; i < 8; ++i) {
    const int row = i < 2 || (i >= 4 && i < 6) ? group : group + 8;
    const int column = in_group * 2 + (i & 1) + (i >= 4 ? 8 : 0);
    a[i / 2] |= (u32)params.a[row * 16 + column] << (16 * (i & 1));
  }
  for (int i = 0; i < 4; ++i) {
    const int row = in_group * 2 + (i & 1) + (i >= 2 ? 8 : 0);
    b[i / 2] |= (u32)params.b[group * 16 + row] << (16 * (i & 1));
  }
  float d[4];
  for (int i = 0; i < 4; ++i) d[i] = params.d[(i < 2 ? group : group + 8) * 8 + in_group * 2 + (i & 1)];
  MultiplyBf16(d, a, b);
  for (int i = 0; i < 4; ++i) params.d[(i < 2 ? group : group + 8) * 8 + in_group * 2 + (i & 1)] = d[i];
}

// 16 x 16 x 16: a [row][k]; b [column][k], or [k][column] where `transposed`.
template <bool transposed> INLINE void Multiply16(const Product& params) {
  u8* shared = SharedMemory();
  const int lane = Lane();
  for (int i = lane; i < 64; i += 32) CopyAsync16(shared + 16 * i, (const u8*)(i < 32 ? params.a : params.b) + 16 * (i % 32));
  CommitCopies();
  WaitCopies<0>();
  SyncWarp();
  u32 a[4], b[4];
  LoadMatrices(a, shared + lane % 16 * 32 + lane / 16 * 16);
  const u8* matrix = shared + 512;
  if (transposed) {
    LoadMatricesTransposed(b, matrix + lane % 16 * 32 + lane / 16 * 16);
  } else {
    LoadMatrices(b, matrix + (lane / 16 * 8 + lane % 8) * 32 + lane / 8 % 2 * 16);
  }
  for (int half = 0; half < 2; ++half) {
    float d[4] = {};
    MultiplyBf16(d, a, b + 2 * half);
    for (int i = 0; i < 4; ++i) {
      params.d[(lane / 4 + i / 2 * 8) * 16 + half * 8 + lane % 4 * 2 + i % 2] = d[i];
    }
  }
}
KERNEL(rows, 32, 1, Product) { Multiply16<false>(params); }
KERNEL(columns, 32, 1, Product) { Multiply16<true>(params); }
)text";

inline constexpr char kCopyKernels[] = R"text(
struct Copies { const float* from; float* to; int count; };

// Groups of 16 bytes a thread, at most two under way.
KERNEL(groups, 32, 1, Copies) {
  float* shared = (float*)SharedMemory();
  for (int i = 0; i < params.count + 2; ++i) {
    if (i < params.count) {
      CopyAsync16OrZero(shared + (i % 3 * 32 + Lane()) * 4, params.from + (i * 32 + Lane()) * 4, i % 4 != 3);
    }
    CommitCopies();
    if (i < 2) continue;
    WaitCopies<2>();
    const Words4* at = (const Words4*)shared + (i - 2) % 3 * 32 + Lane();
    ((Words4*)params.to)[(i - 2) * 32 + Lane()] = *at;
    SyncWarp();
  }
}

// A warp of one producer lane, three that consume; a slot is empty when all their lanes say so.
KERNEL(pipeline, 128, 1, Copies) {
  CopyBarrier* full = (CopyBarrier*)SharedMemory();
  CopyBarrier* empty = full + 2;
  float* slots = (float*)(SharedMemory() + 32);
  const int warp = WarpIndex();
  if (ThreadIndex() == 0) {
    for (int slot = 0; slot < 2; ++slot) {
      InitBarrier(full + slot, 1);
      InitBarrier(empty + slot, 96);
    }
    FenceBarriers();
  }
  SyncBlock();
  if (warp == 3) {
    if (Lane() != 0) return;
    const u64 policy = EvictFirst();
    for (int i = 0; i < params.count; ++i) {
      WaitBarrier(empty + i % 2, (i / 2 & 1) ^ 1);
      ExpectBytes(full + i % 2, 512);
      for (int part = 0; part < 2; ++part) {
        CopyBulk(slots + i % 2 * 128 + part * 64, params.from + i * 128 + part * 64, 256, full + i % 2, policy);
      }
    }
    return;
  }
  for (int i = 0; i < params.count; ++i) {
    WaitBarrier(full + i % 2, i / 2 & 1);
    for (int j = ThreadIndex(); j < 128; j += 96) params.to[i * 128 + j] = slots[i % 2 * 128 + j];
    Arrive(empty + i % 2);
  }
}

// One barrier, many phases; two arrivals and two copies each.
KERNEL(phases, 64, 1, Copies) {
  CopyBarrier* barrier = (CopyBarrier*)SharedMemory();
  float* shared = (float*)(SharedMemory() + 16);
  const u64 policy = EvictFirst();
  if (ThreadIndex() == 0) {
    InitBarrier(barrier, 3);
    FenceBarriers();
  }
  SyncBlock();
  for (int i = 0; i < params.count; ++i) {
    if (Lane() == 0) {
      ExpectBytes(barrier, 256);
      const int warp = ThreadIndex() / 32;  // without the shuffle of WarpIndex: one lane is here
      CopyBulk(shared + warp * 64, params.from + (i * 2 + warp) * 64, 256, barrier, policy);
    }
    if (ThreadIndex() == 33) Arrive(barrier);
    if (i % 2 == 0) {
      WaitBarrier(barrier, i & 1);
    } else {
      while (!TryWaitBarrier(barrier, i & 1)) {}
    }
    params.to[i * 128 + ThreadIndex()] = shared[ThreadIndex()];
    params.to[i * 128 + 64 + ThreadIndex()] = shared[64 + ThreadIndex()];
    SyncBlock();
  }
}
)text";

}  // namespace preheat::codegen::cuda
