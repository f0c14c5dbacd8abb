// What was chosen among candidates, and why.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "codegen/codegen.h"
#include "device/device.h"
#include "tune/tuner.h"

namespace preheat::compile {

struct Choice {
  codegen::Schedule schedule;
  std::string reason;  // one line for people
};

// How things are chosen.
struct ChooserOptions {
  codegen::Target target;
  std::string profile;               // the device model
  device::Device* device = nullptr;  // null: heuristics only
};

// A record's text is the winner as codegen::ToText writes it. nullopt where no candidate reads so.
std::optional<Choice> ChoiceOfRecord(const std::vector<codegen::Schedule>& candidates,
                                     std::string_view record);
Choice ChoiceOfOutcome(const std::vector<codegen::Schedule>& candidates, const tune::Outcome& outcome);

// Candidates as text, for keys.
std::string ToText(const std::vector<codegen::Schedule>& candidates);

// Of measuring: rounds that are long enough that an interruption of a shared machine does not fill them.
tune::TuneOptions MeasuringOptions();

}  // namespace preheat::compile
