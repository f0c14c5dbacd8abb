// Memory by lifetime: buffers of a lowered program that are never live together share a slot.
//
// A buffer lives from the first launch that names it to the last. In a segment that repeats, what goes in or
// comes out, and what a round reads before it writes it, lives through all rounds; what a round writes first
// lives only from that launch to the last one of the round. A launch's operands all live while it runs, so an
// output never takes the place of an input. Writes may be partial: a later write does not end an earlier
// value.
//
// Slots are filled from the largest buffer down, each into the first slot with room in time, so that small
// buffers hide behind large ones.
#pragma once

#include "program/program.h"

namespace preheat::passes {

// Sets Buffer::slot, where it is not kOwnSlot, and Program::slots; all else stays.
program::Program PlanMemory(const program::Program& program);

}  // namespace preheat::passes
