// The text of a kernel that streams rows through rings of slots, and of the same broken in the ways that one
// breaks it.
#pragma once

#include <string>

#include "codegen/cuda/machine.h"

namespace preheat::codegen::cuda {

// `broken` says what is done wrong.
inline constexpr char kRing[] = R"text(
constexpr int kWarps = 4, kSlots = 4, kSlotFloats = 128, kSlotBytes = 4 * kSlotFloats;
constexpr int kRingBytes = 1024;  // where the rings begin, behind the barriers
constexpr int kStageBytes = kRingBytes + kWarps * kSlots * kSlotBytes;

enum Broken { kRight, kRefillEarly, kParityStays, kParityStartsWrong, kNoWait, kFewBytes, kManyBytes, kNoFence,
              kReadsNextSlot, kRefillsNextSlot, kOneChunkMore, kOneChunkLess, kMisaligned, kRingTooLong,
              kDependentEarly, kNoMeetingAfterStage, kWaitsInOneLane, kTailGoesOn, kPartOfWarpSums };

struct P { const float* weights; const float* x; float* out; int rows; int columns; };

struct Stream { int row, chunk; };
INLINE void Advance(Stream& stream, int chunks) {
  if (++stream.chunk == chunks) {
    stream.chunk = 0;
    stream.row += BlockCount() * kWarps;
  }
}

// out[row] = weights[row] . x; columns a multiple of kSlotFloats.
template <int broken> INLINE void Ring(const P& params) {
  u8* shared = SharedMemory();
  const int lane = Lane(), warp = WarpIndex();
  const int chunks = params.columns / kSlotFloats;
  CopyBarrier* barriers = (CopyBarrier*)shared + warp * kSlots;
  u8* ring = shared + kRingBytes + warp * kSlots * kSlotBytes + (broken == kMisaligned ? 8 : 0);
  float* staged = (float*)(shared + kStageBytes);
  if (broken == kRingTooLong) ring += 4 * kSlots * kSlotBytes;
  const u64 policy = EvictFirst();
  if (lane == 0) {
    for (int slot = 0; slot < kSlots; ++slot) InitBarrier(barriers + slot, 1);
    if (broken != kNoFence) FenceBarriers();
  }
  SyncWarp();

  Stream ahead = {BlockIndex() * kWarps + warp, 0}, here = ahead;
  const auto refill = [&](int slot) {
    if (ahead.row >= params.rows + (broken == kTailGoesOn ? BlockCount() * kWarps : 0)) return;
    if (lane == 0) {
      const float* from = params.weights + (i64)ahead.row * params.columns + ahead.chunk * kSlotFloats;
      const u32 bytes = kSlotBytes - (broken == kFewBytes ? 16 : broken == kManyBytes ? -16 : 0);
      ExpectBytes(barriers + slot, bytes);
      const int to = broken == kRefillsNextSlot ? (slot + 1) % kSlots : slot;
      CopyBulk(ring + to * kSlotBytes, from, kSlotBytes, barriers + slot, policy);
    }
    Advance(ahead, chunks + (broken == kOneChunkMore ? 1 : broken == kOneChunkLess ? -1 : 0));
  };
  for (int slot = 0; slot < kSlots; ++slot) refill(slot);

  // The activation, twice as big.
  LaunchDependents();
  if (broken != kDependentEarly) WaitDependencies();
  for (int i = 4 * ThreadIndex(); i < params.columns; i += 4 * 32 * kWarps) {
    const Words4 x = LoadDependent16(params.x + i);
    for (int j = 0; j < 4; ++j) staged[i + j] = 2 * FloatOf(x.w[j]);
  }
  if (broken != kNoMeetingAfterStage) SyncBlock();

  u32 parity = broken == kParityStartsWrong ? 1 : 0;
  int slot = 0;
  float sum = 0;
  while (here.row < params.rows) {
    if (broken != kNoWait && (broken != kWaitsInOneLane || lane == 0)) WaitBarrier(barriers + slot, parity);
    const float* at = (const float*)(ring + (broken == kReadsNextSlot ? (slot + 1) % kSlots : slot) * kSlotBytes);
    for (int i = lane; i < kSlotFloats; i += 32) {
      sum = FusedMultiplyAdd(at[i], staged[here.chunk * kSlotFloats + i], sum);
    }
    if (broken != kRefillEarly) SyncWarp();
    refill(slot);
    if (++slot == kSlots) {
      slot = 0;
      if (broken != kParityStays) parity ^= 1;
    }
    const int row = here.row;
    Advance(here, chunks);
    if (here.row == row) continue;
    if (broken != kPartOfWarpSums || lane != 9) {
      for (int mask = 16; mask > 0; mask >>= 1) sum += ShuffleXor(sum, mask);
    }
    if (lane == 0) params.out[row] = sum;
    sum = 0;
  }
}
)text";

struct RingVariant {
  const char* name;
  // What its error says; null: its sums are wrong, in some order at least.
  const char* error = nullptr;
};

inline constexpr RingVariant kRingVariants[] = {
    {"kRight"},
    {"kRefillEarly"},
    {"kParityStays"},
    {"kParityStartsWrong"},
    {"kNoWait"},
    {"kFewBytes", "more bytes were copied than announced"},
    {"kManyBytes", "misses 0 of 1 arrivals and 16 bytes"},
    {"kNoFence", "before FenceBarriers"},
    {"kReadsNextSlot"},
    {"kRefillsNextSlot"},
    {"kOneChunkMore"},
    {"kOneChunkLess"},
    {"kMisaligned", "must be multiples of 16"},
    {"kRingTooLong", "the block has"},
    {"kDependentEarly", "LoadDependent before WaitDependencies"},
    {"kNoMeetingAfterStage"},
    {"kWaitsInOneLane"},
    {"kTailGoesOn", "is in no buffer of the launch"},
    {"kPartOfWarpSums", "deadlock"},
};

inline std::string RingUnit() {
  std::string text = std::string(CudaMachine()) + kRing;
  for (const RingVariant& variant : kRingVariants) {
    text +=
        std::string("KERNEL(ring_") + variant.name + ", 128, 2, P) { Ring<" + variant.name + ">(params); }\n";
  }
  return text;
}

}  // namespace preheat::codegen::cuda
