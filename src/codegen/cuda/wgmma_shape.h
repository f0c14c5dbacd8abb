// The numbers of a wgmma schedule, and all that follows from them: how a block's tile, its threads, its boxes
// and its shared memory are laid out. What the kernel's text is told, and what its launch record says, comes
// from here.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "codegen/codegen.h"
#include "codegen/matmul_spec.h"

namespace preheat::codegen::cuda {

inline constexpr int64_t kWgmmaFamily = 4;

// Of a Matmul region, as this family sees it.
struct WgmmaRegion {
  matmul::Epilogue epilogue = matmul::Epilogue::kStore;
  int64_t k = 0;
  int64_t columns = 0;    // of all lists together: rows of weights
  int64_t half_head = 0;  // rotary_append: how far apart the columns of a pair are; else 0
};
// nullopt where this family has no kernel for the region: other types than bf16, sizes that boxes cannot
// have.
std::optional<WgmmaRegion> WgmmaRegionOf(const matmul::Spec& spec, const Target& target);

struct WgmmaNumbers {
  int64_t rows = 128, columns = 128;  // of a block's tile
  int64_t warpgroups = 2;             // that multiply, each 64 rows or a multiple
  int64_t share_x = 1;                // blocks of a cluster, side by side in columns, that share rows of x
  int64_t split = 1;                  // blocks of a cluster that share the sum through k
  int64_t share_w = 1;                // blocks of a cluster, one below the other, that share weights
  int64_t w_slots = 2, x_slots = 2;   // of the two rings
  int64_t w_head = 2;                 // slots of weights that are asked for before the first of x
  int64_t pairs = 0;       // rotary_append: columns of a box's first half, a multiple of 16; else 0
  int64_t persistent = 0;  // 1: as many blocks as the card has multiprocessors share the tiles
  int64_t hands_on = 0;    // 1: makes the stage of the product that normalises the result
  int64_t handed = 0;      // x was handed on, and so many sums of a row's squares; 0: x is staged
};
Schedule ToSchedule(const WgmmaNumbers& numbers);
WgmmaNumbers ToWgmmaNumbers(const Schedule& schedule);

// Multiples of a row's boxes: 64 of k, 128 bytes.
inline constexpr int64_t kWgmmaStep = 64;

class WgmmaShape {
 public:
  // nullopt where the numbers do not fit each other, the region or the card's shared memory.
  static std::optional<WgmmaShape> Of(const WgmmaRegion& region, const WgmmaNumbers& numbers);

  const WgmmaNumbers& numbers() const { return n_; }
  int64_t cluster() const { return n_.share_x * n_.split * n_.share_w; }
  int64_t threads() const { return n_.warpgroups * 128 + mover_warps() * 32; }
  int64_t boxes() const { return boxes_; }  // that a step's weights come in
  int64_t column_tiles() const { return column_groups_ * n_.share_x; }
  int64_t shared_bytes() const { return shared_bytes_; }
  // Blocks of `rows` rows of tiles that are one below the other in a cluster.
  int64_t BlocksOfRowGroup() const { return column_groups_ * cluster(); }
  int64_t RowsOfRowGroup() const { return n_.rows * n_.share_w; }
  // Constants that the body names.
  std::string Constants() const;

 private:
  WgmmaShape(const WgmmaRegion& region, const WgmmaNumbers& numbers) : region_(region), n_(numbers) {}
  bool LayOut();

  bool paired() const {
    return region_.epilogue != matmul::Epilogue::kStore && region_.epilogue != matmul::Epilogue::kAdd;
  }
  int64_t mover_warps() const { return n_.warpgroups == 1 && n_.handed == 0 ? 2 : 4; }
  int64_t items() const { return n_.columns / 8 / item_blocks_; }

  WgmmaRegion region_;
  WgmmaNumbers n_;
  int64_t boxes_ = 1;
  int64_t item_blocks_ = 1;    // blocks of 8 columns that are finished together
  int64_t most_items_ = 1;     // that a block of a split finishes
  int64_t pitch_ = 0;          // bytes from row to row of the staged sums
  int64_t column_groups_ = 1;  // of tiles side by side in a cluster
  int64_t stage_at_ = 0;
  int64_t barriers_at_ = 0;
  int64_t scales_at_ = 0;  // of the rows of two tiles, where x was handed on
  int64_t shared_bytes_ = 0;
};

}  // namespace preheat::codegen::cuda
