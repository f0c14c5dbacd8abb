#include "compile/choice.h"

#include <fmt/format.h>

#include "sys/clock.h"

namespace preheat::compile {

using codegen::Schedule;

std::optional<Choice> ChoiceOfRecord(const std::vector<Schedule>& candidates, std::string_view record) {
  for (const Schedule& candidate : candidates) {
    if (codegen::ToText(candidate) == record) return Choice{candidate, "measured earlier, kept in the store"};
  }
  return std::nullopt;
}

Choice ChoiceOfOutcome(const std::vector<Schedule>& candidates, const tune::Outcome& outcome) {
  std::string reason = "measured:";
  for (size_t i = 0; i < candidates.size(); ++i) {
    reason += fmt::format(" [{}] {:.3f} ms in {} rounds{};", codegen::ToText(candidates[i]),
                          outcome.candidates[i].median_seconds * 1e3, outcome.candidates[i].rounds,
                          i == outcome.winner ? " (chosen)" : "");
  }
  return {candidates[outcome.winner], std::move(reason)};
}

std::string ToText(const std::vector<Schedule>& candidates) {
  std::string text;
  for (const Schedule& candidate : candidates) text += codegen::ToText(candidate) + "\n";
  return text;
}

tune::TuneOptions MeasuringOptions() {
  return {.least_seconds = 0.004, .clock = sys::MonotonicSeconds};
}

}  // namespace preheat::compile
