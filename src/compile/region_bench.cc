#include "compile/region_bench.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <utility>

#include "base/check.h"
#include "compile/plausible.h"
#include "session/tensor_maps.h"
#include "sys/clock.h"
#include "tensor/dtype.h"

namespace preheat::compile {
namespace {

// A program of any length is tuned at this many rows, decode attention at this much context.
constexpr int64_t kRowsOfAnyLength = 512;
constexpr int64_t kDecodePast = 1023;
constexpr int64_t kCapacityBlock = 256;  // a multiple of every layout's block
// A run shorter than this is mostly overhead, a longer one wastes the user's time.
constexpr double kRunSeconds = 0.006;
constexpr size_t kMaxCopies = 8;
constexpr size_t kRecordedCopies = 16;
constexpr size_t kSmallestCache = size_t{32} << 20;

}  // namespace

// Memory by operand. Weights come in copies, so that a run finds them in memory and not in a cache.
struct RegionBench::Operands {
  using Key = std::pair<codegen::RegionOperand::Kind, ir::NodeId>;
  std::map<Key, device::Buffer> buffers;
  std::map<ir::NodeId, std::vector<void*>> weights;  // by copy
  std::map<const codegen::RegionCode*, std::vector<device::Buffer>> workspaces;
  size_t copies = 1;
};

// A candidate with its launches bound to each copy of the weights.
struct RegionBench::Bound {
  struct Copy {
    std::vector<void*> operands;
    std::vector<ph_args> args;
    std::vector<std::vector<device::TensorMap>> tensor_maps;
    std::vector<device::Launch> launches;
  };
  std::vector<Copy> copies;
  size_t next_copy = 0;
  int64_t all_tiles = 0;  // of the last launch, which is what is timed
  // On a device that runs ahead of the host: all copies, one behind the other as the layers of a step are.
  std::unique_ptr<device::Recording> recording;
};

RegionBench::RegionBench(device::Device& device, WeightPool& pool, const ir::Graph& graph,
                         const codegen::Target& target, const codegen::StepShape& shape)
    : device_(device),
      pool_(pool),
      graph_(graph),
      target_(target),
      rows_(RowsMeasured(shape)),
      past_(shape.rows == 1 ? kDecodePast : 0),
      capacity_((past_ + rows_ + kCapacityBlock - 1) / kCapacityBlock * kCapacityBlock),
      operands_(std::make_unique<Operands>()) {}

RegionBench::~RegionBench() = default;

int64_t RegionBench::RowsMeasured(const codegen::StepShape& shape) {
  return shape.rows > 0 ? shape.rows : kRowsOfAnyLength;
}

size_t RegionBench::BytesOf(const codegen::RegionOperand& operand) const {
  using Kind = codegen::RegionOperand::Kind;
  const auto cache_layout = [&] {
    for (const ir::Node& node : graph_.nodes) {
      if (node.op == ir::Op::kKvCache) return codegen::CacheLayout(node.type, target_);
    }
    return program::KvLayout{};
  };
  int64_t bytes = 0;
  switch (operand.kind) {
    case Kind::kNode: {
      const ir::Node& node = graph_[operand.node];
      if (node.op == ir::Op::kWeight) {
        bytes = static_cast<int64_t>(tensor::Bytes(node.type.dtype));
        for (const ir::Dim& dim : node.type.shape) bytes *= dim.size;
      } else {
        bytes = codegen::BufferExtent(node.type).Bytes(rows_, capacity_);
      }
      break;
    }
    case Kind::kKeyCache:
      bytes = cache_layout().key_bytes.Bytes(rows_, capacity_);
      break;
    case Kind::kValueCache:
      bytes = cache_layout().value_bytes.Bytes(rows_, capacity_);
      break;
    case Kind::kRotary:
      bytes = capacity_ * 2 * static_cast<int64_t>(graph_.rotary.inv_freq.size() * sizeof(float));
      break;
    case Kind::kIds:
      bytes = rows_ * static_cast<int64_t>(sizeof(int32_t));
      break;
    case Kind::kState:
      bytes = sizeof(ph_state);
      break;
    case Kind::kLogits:
      bytes = graph_[graph_.logits].type.shape.back().size * rows_ * static_cast<int64_t>(sizeof(float));
      break;
    case Kind::kWorkspace:
    case Kind::kHanded:  // regions that are timed alone stage by themselves
      CHECK(false);
  }
  return static_cast<size_t>(std::max<int64_t>(64, bytes));
}

void* RegionBench::Address(const codegen::RegionOperand& operand, size_t copy) {
  using Kind = codegen::RegionOperand::Kind;
  if (operand.kind == Kind::kNode && graph_[operand.node].op == ir::Op::kWeight) {
    auto& copies = operands_->weights[operand.node];
    while (copies.size() <= copy) copies.push_back(pool_.Take(BytesOf(operand)));
    return copies[copy];
  }
  device::Buffer& buffer = operands_->buffers[{operand.kind, operand.node}];
  if (buffer.data() == nullptr) {
    buffer = device_.Allocate(BytesOf(operand));
    if (operand.kind != Kind::kIds && operand.kind != Kind::kState) FillPlausibly(device_, buffer);
  }
  return buffer.data();
}

RegionBench::Bound RegionBench::Bind(const Candidate& candidate, device::CodeModule& module, size_t image) {
  using Kind = codegen::RegionOperand::Kind;
  auto& workspaces = operands_->workspaces[candidate.code];
  for (const codegen::Workspace& workspace : candidate.code->workspaces) {
    workspaces.push_back(device_.Allocate(
        static_cast<size_t>(std::max<int64_t>(64, workspace.extent.Bytes(rows_, capacity_)))));
  }
  Bound bound;
  bound.copies.resize(operands_->copies);
  for (size_t c = 0; c < bound.copies.size(); ++c) {
    Bound::Copy& copy = bound.copies[c];
    size_t operands = 0;
    for (const codegen::RegionLaunch& launch : candidate.code->launches) operands += launch.operands.size();
    copy.operands.reserve(operands);  // args point into it
    copy.args.reserve(candidate.code->launches.size());
    copy.tensor_maps.reserve(candidate.code->launches.size());
    for (const codegen::RegionLaunch& launch : candidate.code->launches) {
      void* const* first = copy.operands.data() + copy.operands.size();
      for (const codegen::RegionOperand& operand : launch.operands) {
        const bool workspace = operand.kind == codegen::RegionOperand::Kind::kWorkspace;
        copy.operands.push_back(workspace ? workspaces[static_cast<size_t>(operand.workspace)].data()
                                          : Address(operand, c));
      }
      copy.args.push_back({.operands = first,
                           .rows = rows_,
                           .past = past_,
                           .capacity = capacity_,
                           .state = reinterpret_cast<ph_state*>(Address({.kind = Kind::kState}, 0))});
      copy.tensor_maps.push_back(session::EncodeTensorMaps(device_, launch.tensor_maps, first, rows_));
      copy.launches.push_back(
          {.kernel = module.Entry(image, launch.entry),
           .stage = launch.stage_entry.empty() ? device::Kernel{} : module.Entry(image, launch.stage_entry),
           .args = &copy.args.back(),
           .operands = static_cast<int64_t>(launch.operands.size()),
           .tiles = launch.tiles.Tiles(rows_, past_),
           .chunk = launch.chunk,
           .blocks = launch.blocks,
           .tensor_maps = copy.tensor_maps.back()});
      device_.ReserveScratch(static_cast<size_t>(launch.scratch_bytes));
    }
  }
  bound.all_tiles = bound.copies[0].launches.back().tiles;
  return bound;
}

void RegionBench::RunCandidate(Bound& bound) {
  if (bound.recording) {
    bound.recording->Run();
    device_.Finish();
    return;
  }
  Bound::Copy& copy = bound.copies[bound.next_copy];
  bound.next_copy = (bound.next_copy + 1) % bound.copies.size();
  device_.Run(std::span(&copy.launches.back(), 1));
}

// All launches of all copies, as often as a fair time needs. Returns the share of the region's work: more
// than 1.
double RegionBench::Record(Bound& bound) {
  std::vector<device::Launch> launches;
  for (const Bound::Copy& copy : bound.copies) {
    launches.insert(launches.end(), copy.launches.begin(), copy.launches.end());
  }
  const size_t once = launches.size();
  const size_t rounds = (kRecordedCopies + bound.copies.size() - 1) / bound.copies.size();
  for (size_t round = 1; round < rounds; ++round) {
    launches.insert(launches.end(), launches.begin(), launches.begin() + static_cast<ptrdiff_t>(once));
  }
  bound.recording = device_.Record(launches);
  return static_cast<double>(rounds * bound.copies.size());
}

// Staging is the same for all candidates: run once, not timed. The tiles are cut to a run of fair length.
// Returns the share that is left.
double RegionBench::CutToLength(Bound& bound) {
  Bound::Copy& copy = bound.copies[0];
  device_.Run(std::span(copy.launches).first(copy.launches.size() - 1));
  const int64_t all = bound.all_tiles;
  const int64_t few = std::min<int64_t>(all, 2 * std::max(1, device_.threads()));
  copy.launches.back().tiles = few;
  device_.Run(std::span(&copy.launches.back(), 1));
  const double start = sys::MonotonicSeconds();
  device_.Run(std::span(&copy.launches.back(), 1));
  const double tile_seconds = std::max(1e-9, (sys::MonotonicSeconds() - start) / static_cast<double>(few));
  // Whole rounds of all threads, so that none idles at the end.
  const int64_t enough = static_cast<int64_t>(kRunSeconds / tile_seconds) / few * few + few;
  const int64_t tiles = std::min(all, enough);
  for (Bound::Copy& each : bound.copies) each.launches.back().tiles = tiles;
  return static_cast<double>(tiles) / static_cast<double>(all);
}

tune::Outcome RegionBench::Run(std::span<const Candidate> candidates, const tune::TuneOptions& options) {
  std::vector<std::span<const std::byte>> images;
  for (const Candidate& candidate : candidates) images.push_back(candidate.image);
  std::map<ir::NodeId, size_t> weights;  // bytes, a page more for alignment
  for (const codegen::RegionLaunch& launch : candidates[0].code->launches) {
    for (const codegen::RegionOperand& operand : launch.operands) {
      const bool weight =
          operand.kind == codegen::RegionOperand::Kind::kNode && graph_[operand.node].op == ir::Op::kWeight;
      if (weight) weights[operand.node] = BytesOf(operand) + WeightPool::kAlignment;
    }
  }
  size_t weight_bytes = WeightPool::kAlignment;
  for (const auto& [node, bytes] : weights) weight_bytes += bytes;
  const size_t cache_bytes = std::max(kSmallestCache, static_cast<size_t>(device_.cache_bytes()));
  operands_->copies = std::clamp<size_t>(2 * cache_bytes / weight_bytes + 1, 1, kMaxCopies);
  pool_.Reset(operands_->copies * weight_bytes);

  const auto module = device_.LoadCode(images);
  std::vector<Bound> bound;
  std::vector<double> work;
  for (size_t i = 0; i < candidates.size(); ++i) {
    bound.push_back(Bind(candidates[i], *module, i));
    work.push_back(device_.RunsAhead() ? Record(bound.back()) : CutToLength(bound.back()));
  }
  return tune::Tune(
      candidates.size(), [&](size_t i) { RunCandidate(bound[i]); }, work, options);
}

}  // namespace preheat::compile
