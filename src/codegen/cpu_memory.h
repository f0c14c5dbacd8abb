// The words of the CPU vocabulary that take numbers from memory and put them there (cpu_prelude.h): Load,
// Store, their tails, Get, Put, and the roundings between stored types and floats.
#pragma once

#include <string>

#include "codegen/codegen.h"

namespace preheat::codegen {

std::string MemoryText(const Target& target);

}  // namespace preheat::codegen
