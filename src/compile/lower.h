// A graph after passes -> launches, buffers and source text: everything of a program but its machine code.
//
// Each compiled node is a region of one or more launches; a node that no generator takes is a graph break,
// which is run by the library module or refused. Values become buffers; a repeated block's result is written
// into the buffer of the value it carries.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "codegen/codegen.h"
#include "ir/graph.h"
#include "program/program.h"

namespace preheat::compile {

// One region's source; its launches are found in the program by segment and launch index.
struct RegionUnit {
  std::string region;  // "qkv": for people and for file names
  ir::NodeId node = ir::kNoNode;
  codegen::Schedule schedule;
  std::string source;
  struct Place {
    size_t segment;
    size_t launch;
  };
  std::vector<Place> launches;
};

struct LoweredStep {
  program::Program program;  // Launch::code of generated launches is empty; slots are planned
  std::vector<RegionUnit> units;
  std::vector<std::string> breaks;  // text of the nodes that are not compiled
};

struct LowerOptions {
  std::string name;
  program::StepKind kind = program::StepKind::kPrefill;
  codegen::StepShape shape;  // rows: a bucket's length, 1 for decode, 0 for any
  codegen::Target target;
  program::LogitRows logit_rows = program::LogitRows::kLast;
  // The schedule of a persistent kernel, which then runs all of a decode step's regions that it can.
  std::optional<codegen::Schedule> persistent;
  // The schedule of a region; DefaultSchedule where it is empty.
  std::function<codegen::Schedule(const ir::Graph&, ir::NodeId)> schedule;
};

// The unit's launches run this code.
void PlaceCode(program::Program& program, const RegionUnit& unit, const std::string& hash);

// A region of one row, however many the step has.
bool HasOneRow(const ir::Graph& graph, ir::NodeId node);
// A region of a prompt's last layer that treats the last row alone (passes/trim_last_layer.h).
bool IsOfLastRow(const ir::Graph& graph, ir::NodeId node);
// What a region is called: by its epilogue, or by its operation; "last_..." where it IsOfLastRow.
std::string RegionName(const ir::Graph& graph, ir::NodeId node);

// Errors: Unsupported for a graph break that the library module cannot run either.
LoweredStep Lower(const ir::Graph& graph, const LowerOptions& options);

}  // namespace preheat::compile
