// Fused region + schedule -> source and launch records: the compiler's back end.
//
// A region is one compiled node of a graph after passes (Embedding, Matmul, Attention, SplitAttention,
// RmsNorm, LastRow, Sample). A generated unit is self-contained C++ for one target: no includes, no libc, no
// globals that need a loader. Bodies are written once against a small vocabulary of vector operations; a
// dialect's prelude says what the vocabulary means on a target. Everything that the code depends on is in its
// text: the text, the entry names and the target are the compile key.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "ir/graph.h"
#include "program/program.h"

namespace preheat::codegen {

// What a target offers. Names are those that `preheat devices` shows.
struct Target {
  std::string name;  // "x86-64-v3", "x86-64-v4", "x86-64-v4+avx512bf16", "sm_80", "sm_90a", "compute_90", ...
  int vector_bytes = 32;  // 32 or 64; of a CPU
  bool bf16_dot = false;  // multiplies pairs of bf16: vdpbf16ps, or tensor cores
  int sm = 0;             // compute capability times 10 of an NVIDIA GPU; 0: a CPU
  bool ptx = false;       // for cards of that capability and all later ones, by their driver's compiler

  bool IsCuda() const { return sm != 0; }
};
// Errors: InvalidArgument naming the known targets.
Target ParseTarget(std::string_view name);
std::vector<std::string> TargetNames();

// Named small numbers: "mr" -> 8, "nr" -> 48, "kc" -> 1024. Which names a region has is its generator's
// matter.
using Schedule = std::map<std::string, int64_t>;
std::string ToText(const Schedule& schedule);  // "kc=1024 mr=8 nr=48"

// What a schedule may be chosen by, besides the region and the target.
struct StepShape {
  int64_t rows = 0;                      // a bucket's length, 1 for decode, 0 for any
  int64_t threads = 0;                   // of the machine that will run it, as far as known; 0: not known
  std::vector<int> resident_clusters{};  // as Device::ResidentClusters; empty: not known
};

// An operand of a generated launch, by what it is in the graph.
struct RegionOperand {
  enum class Kind { kNode, kWorkspace, kHanded, kKeyCache, kValueCache, kRotary, kIds, kState, kLogits };
  Kind kind = Kind::kNode;
  // kNode: a Weight node, or the value's producer; kHanded: the region that gets what is handed on
  ir::NodeId node = ir::kNoNode;
  int workspace = 0;        // kWorkspace: index into RegionCode::workspaces; kHanded: into HandOn's
  bool next_round = false;  // a Weight node: the next round's, of a repeated block; in the last, the first's
  program::Operand::Access access = program::Operand::Access::kRead;
};

struct RegionLaunch {
  std::string entry;        // tile kernel
  std::string stage_entry;  // or empty
  program::TileCount tiles;
  int64_t chunk = 1;
  int64_t scratch_bytes = 0;
  program::BlockShape blocks{};
  int link = 0;  // as program::Launch::link
  std::vector<RegionOperand> operands;
  std::vector<program::TensorMap> tensor_maps{};  // of weights, nodes and workspaces
  bool before_rounds = false;  // runs once, before the first round of the region's repeated block
};

// A buffer between the launches of a region, or, where it keeps its contents, from step to step (zeroed at
// first).
enum class Keeps { kNo, kYes };
struct Workspace {
  program::Extent extent;
  Keeps keeps = Keeps::kNo;
};

struct RegionCode {
  std::string source;  // one unit: all entries of the region's launches
  std::vector<RegionLaunch> launches;
  std::vector<Workspace> workspaces;
};

// True where the back end has a generator for the node on this target; else the node is a graph break.
bool CanCompile(const ir::Graph& graph, ir::NodeId node, const Target& target);

// The heuristic's choice; nothing is measured.
Schedule DefaultSchedule(const ir::Graph& graph, ir::NodeId node, const Target& target,
                         const StepShape& shape);
// What the tuner tries, the heuristic's choice first. Never empty.
std::vector<Schedule> Candidates(const ir::Graph& graph, ir::NodeId node, const Target& target,
                                 const StepShape& shape);

// REQUIRES: CanCompile.
RegionCode Generate(const ir::Graph& graph, ir::NodeId node, const Target& target, const StepShape& shape,
                    const Schedule& schedule);

// A product may make the stage of the product `to` that normalises its result, in its epilogue, so that `to`
// needs no launch for it. Says so in both schedules, and what buffers lie between the two. Empty where that
// cannot be: nothing is changed.
std::vector<Workspace> HandOn(const ir::Graph& graph, const Target& target, ir::NodeId from,
                              Schedule* from_schedule, ir::NodeId to, Schedule* to_schedule);
// The products that begin by normalising this node's value, all by one weight: in its round or, of what a
// repeated block yields, in the next, which may be another block's. One a block; else none.
std::vector<ir::NodeId> NormalizersOf(const ir::Graph& graph, ir::NodeId node);

// Regions of a decode step that one kernel runs one after the other: its blocks stay, and hand activations on
// as words of four bytes an element, whatever its type, in buffers that keep their contents.
struct PersistentCode {
  std::string source;
  std::vector<ir::NodeId> regions;     // those of a repeated block once
  std::vector<RegionLaunch> launches;  // of each region one, which is a link
  std::vector<Workspace> workspaces;   // of all of them
};
// What the tuner tries, the heuristic's choice first; empty where no such kernel can be made.
std::vector<Schedule> PersistentSchedules(const ir::Graph& graph, const Target& target);
// `schedule`: one of those, or one that fits as they do. Errors: InvalidArgument where it does not.
PersistentCode GeneratePersistent(const ir::Graph& graph, const Target& target, const Schedule& schedule);

// How an activation of this type lies in memory: row-major; rows padded to a whole number of vectors, so that
// kernels may read (never use) past a row's end.
program::Extent BufferExtent(const ir::Type& type);
// The KV cache layout that kernels of this target use for a cache type [2, past, kv_heads, head_dim].
program::KvLayout CacheLayout(const ir::Type& cache, const Target& target);

}  // namespace preheat::codegen
