// What the 32 lanes of a warp compute together in one tensor-core step or matrix load, with PTX's fragments.
// Source: PTX ISA, "Matrix Fragments for mma.m16n8k16 with floating point type" and "ldmatrix".
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "codegen/cuda/host_shared_for_test.h"

namespace preheat::codegen::cuda {

// One lane's registers of MultiplyBf16: d[4], a[4], b[2].
struct MultiplyLane {
  float* d;
  const uint32_t* a;
  const uint32_t* b;
};
// d += a b. The card's own order of sums is not specified; here k ascends, in fp32.
void MultiplyBf16OfWarp(const std::array<MultiplyLane, 32>& lanes);

// One lane of LoadMatrices: where its four results go, and the row whose address it gives.
struct LoadMatricesLane {
  uint32_t* r;
  const void* row;
};
void LoadMatricesOfWarp(const std::array<LoadMatricesLane, 32>& lanes, bool transposed);

// A MultiplyMatrices that was issued and may be performed at any time until it is waited for. Matrices are
// places in shared memory, in units of 16 bytes; of one whose columns lie side by side the upper half says
// how far boxes of 64 of them are apart.
struct PendingProduct {
  float* sums = nullptr;
  int columns = 0;
  uint64_t a = 0;
  uint64_t b = 0;
  std::optional<std::array<uint32_t, 4>> fragment{};  // the lane's, in place of a
  bool transposed = false;                            // b
  bool add = false;
  uint32_t fenced = 0;  // copies that the thread has fenced, as SharedBuffer counts them
  int line = 0;

  bool SameAs(const PendingProduct& other) const {
    return columns == other.columns && a == other.a && b == other.b && transposed == other.transposed &&
           add == other.add && line == other.line;
  }
};
// Products of a thread and the sums that they are made into: not a number from the first issue until all are
// waited for.
class OpenProducts {
 public:
  void Issue(const PendingProduct& product);
  void Commit();
  // The groups that a wait for at most `open` closes, the oldest first.
  std::vector<PendingProduct> Close(int open);
  bool empty() const { return open_.empty() && groups_.empty(); }
  // The sums as they are made, hidden from the thread.
  float* Hidden(const float* sums);
  // One product less on these sums; after the last they are the thread's again.
  void Done(const float* sums);

 private:
  struct Sums {
    float* place = nullptr;
    std::vector<float> values;
    int products = 0;
  };
  std::vector<PendingProduct> open_;
  std::vector<std::vector<PendingProduct>> groups_;
  std::vector<Sums> sums_;
};
// One lane of a product: its sums, its fragment of the left factor where that is in registers.
struct ProductLane {
  float* sums = nullptr;
  const uint32_t* fragment = nullptr;
};
// A warp's 16 rows of a product. What is wrong with what it reads, or "".
std::string MultiplyMatricesOfWarp(const PendingProduct& product, int warp_in_group,
                                   const SharedBuffer& shared, const std::array<ProductLane, 32>& lanes);

}  // namespace preheat::codegen::cuda
