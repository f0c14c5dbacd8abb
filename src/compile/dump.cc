#include "compile/dump.h"

#include <fmt/format.h>

#include "compile/compiler.h"
#include "sys/files.h"

namespace preheat::compile {

Dump::Dump(const std::string& folder, const std::string& step) {
  if (folder.empty()) return;
  folder_ = folder + "/" + step;
  sys::MakeDirs(folder_);
}

void Dump::Graph(std::string_view pass, std::string_view before, std::string_view after) {
  if (!enabled()) return;
  if (graphs_ == 0) sys::WriteFileAtomic(folder_ + "/00_captured.ir", before);
  ++graphs_;
  if (before != after) sys::WriteFileAtomic(fmt::format("{}/{:02}_{}.ir", folder_, graphs_, pass), after);
}

void Dump::Units(const std::vector<RegionUnit>& units) {
  if (!enabled()) return;
  for (const RegionUnit& unit : units) {
    sys::WriteFileAtomic(fmt::format("{}/{}.{}.cc", folder_, unit.region, unit.node), unit.source);
  }
}

void Dump::Schedule(const std::string& region, const std::string& schedule, const std::string& reason) {
  if (!enabled()) return;
  schedules_ += fmt::format("{}: {}\n  {}\n", region, schedule, reason);
  sys::WriteFileAtomic(folder_ + "/schedules.txt", schedules_);
}

void Dump::Resources(const RegionResources& kernel) {
  if (!enabled()) return;
  resources_ +=
      fmt::format("{}.{} {}: {} registers, {} bytes spilled, shared memory {} bytes and {} by launch\n",
                  kernel.region, kernel.node, kernel.kernel.entry, kernel.kernel.registers,
                  kernel.kernel.spill_bytes, kernel.kernel.shared_bytes, kernel.launch_shared_bytes);
  sys::WriteFileAtomic(folder_ + "/resources.txt", resources_);
}

void Dump::UnknownResources(const RegionUnit& unit, const std::string& entry) {
  if (!enabled()) return;
  resources_ +=
      fmt::format("{}.{} {}: PTX: registers and spills are not known before a card's driver compiles it\n",
                  unit.region, unit.node, entry);
  sys::WriteFileAtomic(folder_ + "/resources.txt", resources_);
}

void Dump::Program(const program::Program& program) {
  if (enabled()) sys::WriteFileAtomic(folder_ + "/program.json", program::ToJson(program) + "\n");
}

}  // namespace preheat::compile
