// --dump DIR: what happened on the way from checkpoint to program, as files for people.
//
//   DIR/STEP/00_captured.ir, NN_PASS.ir     the graph as captured, and after each pass that changed it
//   DIR/STEP/REGION.NODE.cc                 generated source
//   DIR/STEP/schedules.txt                  the schedule of each region, and why it was chosen
//   DIR/STEP/resources.txt                  what kernels take of a card: registers, spills, shared memory
//   DIR/STEP/program.json                   the program
#pragma once

#include <string>
#include <string_view>

#include "compile/lower.h"
#include "program/program.h"

namespace preheat::compile {

struct RegionResources;

// One step's folder. With an empty `folder` it writes nothing.
class Dump {
 public:
  Dump(const std::string& folder, const std::string& step);

  bool enabled() const { return !folder_.empty(); }
  void Graph(std::string_view pass, std::string_view before, std::string_view after);
  void Units(const std::vector<RegionUnit>& units);
  void Schedule(const std::string& region, const std::string& schedule, const std::string& reason);
  void Resources(const RegionResources& kernel);
  // Of a kernel that is PTX: what it takes of a card, the card's driver decides.
  void UnknownResources(const RegionUnit& unit, const std::string& entry);
  void Program(const program::Program& program);

 private:
  std::string folder_;
  int graphs_ = 0;
  std::string schedules_;
  std::string resources_;
};

}  // namespace preheat::compile
