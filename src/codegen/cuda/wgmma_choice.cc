// Which numbers a wgmma schedule gets: a model of a kernel's time, over all tiles and clusters that make
// sense.
//
// The model's constants are fitted to 117 variants measured on an H200: the four products of a 3B model's
// layer, 128 to 1024 rows. Of those that were measured, it takes one within 1% of the best each time. They
// are no properties of the card: what overlaps what is in them, too.
#include <algorithm>
#include <utility>

#include "codegen/cuda/machine.h"
#include "codegen/cuda/wgmma.h"

namespace preheat::codegen::cuda {
namespace {

using matmul::Epilogue;

constexpr int64_t kUsualRows = 512;            // of a program of any length: a piece of a long prompt
constexpr int64_t kRingBytes = 232448 - 2560;  // of a block's shared memory, barriers and rows' scales aside
constexpr int64_t kMostWSlots = 16, kMostXSlots = 12;

// Where it is not known: clusters of 1, 2, 3, 4 blocks that an H200 has resident at once, one block a
// multiprocessor. Those of a cluster are in one part of the card, and parts are of unequal sizes.
constexpr int64_t kUsualResident[] = {0, 132, 66, 39, 30};
constexpr int64_t kMostCluster = 4;
constexpr int64_t kLeastStepsToSplit = 32;  // a small model's rows are the same bits in every step

constexpr double kCyclesPerUs = 1950;
constexpr double kLeastStepCycles = 380;     // a step's barriers
constexpr double kMemoryBytesPerUs = 5.2e6;  // weights
constexpr double kCacheBytesPerUs = 17e6;    // all that comes from L2
constexpr double kCacheShare = 0.32;         // of which so much is not hidden
constexpr double kStartUs = 1.85;            // from the last kernel's end to the first product
constexpr double kWaveUs = 4.9;              // another tile of a block, or another block in its place
constexpr double kExchangeUsPerKilobyte = 0.056;
constexpr double kSharedXUs = 0.95;  // sharing x is slower than sharing weights
constexpr double kBoxCycles = 130;   // of the one thread that asks for weights
constexpr double kLateUs =
    1.2;  // weights that are shared are not asked for before all blocks of a cluster run

int64_t CeilDiv(int64_t a, int64_t b) {
  return (a + b - 1) / b;
}

// By two warpgroups.
double FinishUsPerKiloSum(Epilogue epilogue) {
  switch (epilogue) {
    case Epilogue::kStore:
    case Epilogue::kAdd:
      return 0.20;
    case Epilogue::kRotaryAppend:
      return 0.20;
    case Epilogue::kSiluMul:
      return 0.15;
  }
  return 0;
}

struct Card {
  int64_t rows;
  int64_t multiprocessors;
  std::vector<int> resident;  // of clusters of 1, 2, ... blocks; empty: not known

  int64_t Resident(int64_t cluster) const {
    if (resident.empty()) {
      return std::max<int64_t>(1, kUsualResident[cluster] * multiprocessors / kUsualMultiprocessors);
    }
    const auto index = static_cast<size_t>(cluster) - 1;
    return index < resident.size() ? resident[index] : 0;
  }
};

int64_t Clusters(const WgmmaRegion& region, const WgmmaNumbers& n, const Card& card) {
  return CeilDiv(card.rows, n.rows * n.share_w) * CeilDiv(region.columns, n.columns * n.share_x);
}

double EstimateUs(const WgmmaRegion& region, const WgmmaNumbers& n, const Card& card) {
  const int64_t cluster = n.share_x * n.split * n.share_w;
  const int64_t clusters = Clusters(region, n, card);
  const auto waves = static_cast<double>(CeilDiv(clusters, card.Resident(cluster)));
  const auto steps = static_cast<double>(CeilDiv(CeilDiv(region.k, kWgmmaStep), n.split));
  const auto sums = static_cast<double>(n.rows * n.columns);
  const int64_t boxes = n.pairs > 0 ? CeilDiv(n.columns / (2 * n.pairs), n.share_w) : 1;
  // A step multiplies, or waits for shared memory: a row of 128 bytes comes in two cycles.
  const double cycles = std::max({sums / 32, 2.0 * static_cast<double>(n.rows + n.columns), kLeastStepCycles,
                                  kBoxCycles * static_cast<double>(boxes)});
  const double multiply = waves * steps * cycles / kCyclesPerUs;
  const double memory = static_cast<double>(region.columns * region.k * 2) / kMemoryBytesPerUs;
  const double step_bytes = 128 * (static_cast<double>(n.rows) / static_cast<double>(n.share_x) +
                                   static_cast<double>(n.columns) / static_cast<double>(n.share_w));
  const double cache = static_cast<double>(clusters * cluster) * steps * step_bytes / kCacheBytesPerUs;
  const auto split = static_cast<double>(n.split);
  const double sent_kilobytes = sums * 4 / 1024 * (split - 1) / split;
  return kStartUs + std::max({multiply, memory, cache}) + kCacheShare * cache + (waves - 1) * kWaveUs +
         FinishUsPerKiloSum(region.epilogue) * sums / split / 1024 * 2 / static_cast<double>(n.warpgroups) +
         kExchangeUsPerKilobyte * sent_kilobytes + (n.share_x > 1 ? kSharedXUs : 0) +
         (n.share_w > 1 && memory > multiply ? kLateUs : 0);
}

// Both rings as deep as shared memory allows.
void FillShared(WgmmaNumbers* n) {
  const int64_t w_bytes = n->columns * 128, x_bytes = n->rows * 128;
  n->w_slots = n->x_slots = std::max<int64_t>(1, kRingBytes / (w_bytes + x_bytes));
  const int64_t rest = kRingBytes - n->w_slots * (w_bytes + x_bytes);
  if (rest >= w_bytes) {
    ++n->w_slots;
  } else if (rest >= x_bytes) {
    ++n->x_slots;
  }
  n->w_slots = std::min(n->w_slots, kMostWSlots);
  n->x_slots = std::min(n->x_slots, kMostXSlots);
  // Big slots: some of them fill memory's queues; all would stand in the way of the first of x.
  n->w_head = n->w_slots <= 6 ? std::max<int64_t>(1, n->w_slots / 2) : n->w_slots;
}

// The numbers with what follows from them put in; false where they do not fit.
bool Complete(const WgmmaRegion& region, const Card& card, WgmmaNumbers* n) {
  n->warpgroups = n->rows == 64 ? 1 : 2;
  if (region.epilogue == Epilogue::kRotaryAppend) {
    // Boxes as big as they can be; as many as blocks that share them, or more.
    for (const int64_t pairs : {32, 16}) {
      n->pairs = pairs;
      const bool fits = region.half_head % pairs == 0 && n->columns % (2 * pairs) == 0;
      if (fits && n->columns / (2 * pairs) >= n->share_w) break;
    }
  }
  FillShared(n);
  const int64_t cluster = n->share_x * n->split * n->share_w;
  const bool several = Clusters(region, *n, card) > card.Resident(cluster);
  n->persistent = region.epilogue == Epilogue::kSiluMul && n->split == 1 && several ? 1 : 0;
  return WgmmaShape::Of(region, *n).has_value();
}

}  // namespace

std::vector<WgmmaNumbers> WgmmaChoices(const WgmmaRegion& region, const StepShape& shape, size_t most) {
  const Card card = {.rows = shape.rows > 0 ? shape.rows : kUsualRows,
                     .multiprocessors = Multiprocessors(shape),
                     .resident = shape.resident_clusters};
  std::vector<std::pair<double, WgmmaNumbers>> choices;
  for (const int64_t rows : {128, 256, 64}) {
    for (int64_t columns = 256; columns >= 64; columns -= 8) {
      for (const int64_t split : {1, 2, 3, 4}) {
        for (const auto& [share_w, share_x] : {std::pair{1, 1}, {2, 1}, {1, 2}, {4, 1}}) {
          const int64_t cluster = split * share_w * share_x;
          if (cluster > kMostCluster || card.Resident(cluster) == 0) continue;
          if (split > 1 && CeilDiv(region.k, kWgmmaStep) < kLeastStepsToSplit) continue;
          if (share_w > 1 && card.rows <= rows * (share_w - 1))
            continue;  // a block of each cluster would have no row
          WgmmaNumbers n = {
              .rows = rows, .columns = columns, .share_x = share_x, .split = split, .share_w = share_w};
          if (Complete(region, card, &n)) choices.emplace_back(EstimateUs(region, n, card), n);
        }
      }
    }
  }
  std::ranges::stable_sort(choices, {}, [](const auto& choice) { return choice.first; });
  std::vector<WgmmaNumbers> best;
  for (size_t i = 0; i < std::min(most, choices.size()); ++i) best.push_back(choices[i].second);
  return best;
}

}  // namespace preheat::codegen::cuda
