// Times one region's candidates on the device, on its real shapes: random operands, weights in several copies
// that together exceed the caches, only as many tiles as a fair comparison needs.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "codegen/codegen.h"
#include "compile/weight_pool.h"
#include "device/device.h"
#include "ir/graph.h"
#include "tune/tuner.h"

namespace preheat::compile {

class RegionBench {
 public:
  // `graph`, `pool` and `device` outlive the bench.
  RegionBench(device::Device& device, WeightPool& pool, const ir::Graph& graph, const codegen::Target& target,
              const codegen::StepShape& shape);
  ~RegionBench();

  // Rows at which a region of such a step is timed.
  static int64_t RowsMeasured(const codegen::StepShape& shape);

  // Of each candidate: its launches, and the code image that holds them. Same order in the outcome.
  struct Candidate {
    const codegen::RegionCode* code;
    std::span<const std::byte> image;
  };
  tune::Outcome Run(std::span<const Candidate> candidates, const tune::TuneOptions& options);

 private:
  struct Bound;

  void* Address(const codegen::RegionOperand& operand, size_t copy);
  Bound Bind(const Candidate& candidate, device::CodeModule& module, size_t image);
  size_t BytesOf(const codegen::RegionOperand& operand) const;
  double Record(Bound& bound);
  double CutToLength(Bound& bound);
  void RunCandidate(Bound& bound);

  device::Device& device_;
  WeightPool& pool_;
  const ir::Graph& graph_;
  const codegen::Target& target_;
  int64_t rows_;
  int64_t past_;
  int64_t capacity_;
  struct Operands;
  std::unique_ptr<Operands> operands_;
};

}  // namespace preheat::compile
