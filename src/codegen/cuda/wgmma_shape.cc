#include "codegen/cuda/wgmma_shape.h"

#include <fmt/format.h>

#include <algorithm>

namespace preheat::codegen::cuda {
namespace {

using matmul::Epilogue;

constexpr int64_t kMostShared = 232448;  // bytes of a block, on sm_90
constexpr int64_t kMostColumns = 256;    // of a product, and of a box
constexpr int64_t kMostCluster = 8;      // that every card can place
constexpr int64_t kRowBytes = kWgmmaStep * 2;

int64_t CeilDiv(int64_t a, int64_t b) {
  return (a + b - 1) / b;
}

}  // namespace

std::optional<WgmmaRegion> WgmmaRegionOf(const matmul::Spec& spec, const Target& target) {
  const auto bf16 = tensor::DType::kBf16;
  // A row of weights must be a multiple of 16 bytes for the copy engine, a row of the output for whole
  // stores.
  if (target.name != "sm_90a" || spec.math != bf16 || spec.weight_dtype != bf16 || spec.k % 8 != 0)
    return std::nullopt;
  if (spec.prologue == matmul::Prologue::kMerge) return std::nullopt;
  WgmmaRegion region = {.epilogue = spec.epilogue, .k = spec.k};
  for (const matmul::Part& part : spec.parts) {
    if (part.columns % 8 != 0) return std::nullopt;
    region.columns += part.columns;
  }
  if (spec.epilogue == Epilogue::kRotaryAppend) {
    region.half_head = spec.head_dim / 2;
    if (region.half_head % 16 != 0) return std::nullopt;
  }
  return region;
}

Schedule ToSchedule(const WgmmaNumbers& n) {
  Schedule schedule = {
      {"family", kWgmmaFamily}, {"rows", n.rows},     {"columns", n.columns},      {"groups", n.warpgroups},
      {"share_x", n.share_x},   {"split", n.split},   {"share_w", n.share_w},      {"w_slots", n.w_slots},
      {"x_slots", n.x_slots},   {"w_head", n.w_head}, {"persistent", n.persistent}};
  if (n.pairs != 0) schedule["pairs"] = n.pairs;
  if (n.hands_on != 0) schedule["hands_on"] = n.hands_on;
  if (n.handed != 0) schedule["handed"] = n.handed;
  return schedule;
}

WgmmaNumbers ToWgmmaNumbers(const Schedule& schedule) {
  const auto or_none = [&](const char* name) {
    const auto found = schedule.find(name);
    return found == schedule.end() ? 0 : found->second;
  };
  return {.rows = schedule.at("rows"),
          .columns = schedule.at("columns"),
          .warpgroups = schedule.at("groups"),
          .share_x = schedule.at("share_x"),
          .split = schedule.at("split"),
          .share_w = schedule.at("share_w"),
          .w_slots = schedule.at("w_slots"),
          .x_slots = schedule.at("x_slots"),
          .w_head = schedule.at("w_head"),
          .pairs = or_none("pairs"),
          .persistent = schedule.at("persistent"),
          .hands_on = or_none("hands_on"),
          .handed = or_none("handed")};
}

std::optional<WgmmaShape> WgmmaShape::Of(const WgmmaRegion& region, const WgmmaNumbers& numbers) {
  for (const int64_t number :
       {numbers.rows, numbers.columns, numbers.warpgroups, numbers.share_x, numbers.split, numbers.share_w,
        numbers.w_slots, numbers.x_slots, numbers.w_head}) {
    if (number < 1) return std::nullopt;
  }
  WgmmaShape shape(region, numbers);
  if (!shape.LayOut()) return std::nullopt;
  return shape;
}

bool WgmmaShape::LayOut() {
  if (n_.warpgroups > 2 || n_.rows % (64 * n_.warpgroups) != 0 || n_.rows / n_.share_x > kMostColumns)
    return false;
  if (n_.columns % 8 != 0 || n_.columns > kMostColumns || n_.rows % (8 * n_.share_x) != 0) return false;
  if (n_.hands_on != 0 && region_.epilogue != Epilogue::kAdd) return false;
  if (cluster() > kMostCluster || n_.w_head > n_.w_slots) return false;
  const int64_t all_steps = CeilDiv(region_.k, kWgmmaStep);
  if (n_.split > all_steps) return false;
  // Sums of a thread, of which it has 232 or 240 registers.
  if (n_.rows / (64 * n_.warpgroups) * n_.columns / 2 > 192) return false;

  switch (region_.epilogue) {
    case Epilogue::kStore:
    case Epilogue::kAdd:
      boxes_ = n_.columns % (8 * n_.share_w) == 0 ? n_.share_w : 1;
      break;
    case Epilogue::kSiluMul:
      boxes_ = std::max<int64_t>(2, n_.share_w);
      if (boxes_ % 2 != 0) return false;
      break;
    case Epilogue::kRotaryAppend:
      if (n_.pairs < 16 || n_.pairs % 16 != 0 || region_.half_head % n_.pairs != 0) return false;
      if (n_.columns % (2 * n_.pairs) != 0) return false;
      boxes_ = n_.columns / (2 * n_.pairs);
      break;
  }
  if (n_.columns % (8 * boxes_) != 0) return false;
  item_blocks_ = paired() ? 4 : 1;
  if (n_.columns / 8 % item_blocks_ != 0) return false;
  most_items_ = CeilDiv(items(), n_.split);
  column_groups_ = CeilDiv(region_.columns, n_.columns * n_.share_x);

  // What a block's peers send it, and then its sums on their way to the epilogue, take the place of the
  // rings.
  const bool staged = region_.epilogue != Epilogue::kSiluMul;
  if (n_.persistent != 0 && (staged || n_.split > 1)) return false;
  const int64_t rings = (n_.w_slots * n_.columns + n_.x_slots * n_.rows) * kRowBytes;
  stage_at_ = (n_.split - 1) * (n_.rows / 16) * most_items_ * item_blocks_ * 512;
  const int64_t slice_bytes = most_items_ * item_blocks_ * 32;
  // 32 or 96 bytes past a multiple of 128, so that four rows of 32 bytes meet all the banks.
  pitch_ = slice_bytes + (slice_bytes % 64 == 0 ? 32 : 0);
  barriers_at_ = std::max(rings, stage_at_ + (staged ? n_.rows * pitch_ : 0));
  scales_at_ = barriers_at_ + 8 * (2 * n_.w_slots + 2 * n_.x_slots + 2 + (n_.handed != 0 ? 4 : 0));
  shared_bytes_ = scales_at_ + (n_.handed != 0 ? 2 * n_.rows * 4 : 0);
  return shared_bytes_ <= kMostShared;
}

std::string WgmmaShape::Constants() const {
  // The multipliers' sums want registers that the movers do not; one warpgroup has enough as it is.
  const bool many_sums = n_.rows / (64 * n_.warpgroups) * n_.columns > 256;
  // Movers that find rows' scales want some more.
  const int64_t more = n_.handed != 0 ? 1 : 0;
  const int64_t multiplier = n_.warpgroups == 1 ? 0 : (many_sums ? 240 : 232) - 8 * more;
  const int64_t mover = n_.warpgroups == 1 ? 0 : (many_sums ? 24 : 40) + 16 * more;
  std::string text = fmt::format(
      "constexpr int kTileRows = {}, kTileColumns = {}, kWarpgroups = {}, kMoverWarps = {};\n"
      "constexpr int kShareX = {}, kSplit = {}, kShareW = {}, kWSlots = {}, kXSlots = {}, kWHead = {};\n",
      n_.rows, n_.columns, n_.warpgroups, mover_warps(), n_.share_x, n_.split, n_.share_w, n_.w_slots,
      n_.x_slots, n_.w_head);
  text += fmt::format("constexpr bool kPersistent = {}, kRagged = {};\n", n_.persistent != 0,
                      region_.columns % (n_.columns * n_.share_x) != 0);
  text += fmt::format("constexpr int kHandedParts = {};\n", n_.handed);
  text += fmt::format("constexpr int kMultiplierRegisters = {}, kMoverRegisters = {};\n", multiplier, mover);
  text += fmt::format(
      "constexpr int kBoxes = {}, kColumnGroups = {}, kItemBlocks = {}, kMostItems = {}, kPitch = {};\n",
      boxes_, column_groups_, item_blocks_, most_items_, pitch_);
  text += fmt::format("constexpr int kXRingAt = {}, kStageAt = {}, kBarriersAt = {}, kScalesAt = {};\n",
                      n_.w_slots * n_.columns * kRowBytes, stage_at_, barriers_at_, scales_at_);
  return text;
}

}  // namespace preheat::codegen::cuda
