// Turns the relocatable ELF object of a freestanding unit into a code image: lays out its code and constants,
// and resolves the relocations between them. What would need a loader at run time is refused, by name:
// symbols that are not defined, writable or thread-local data, absolute addresses. Source: System V ABI (gABI
// ch. 4) and its x86-64 supplement (relocation types).
#pragma once

#include <cstddef>
#include <span>
#include <string_view>

#include "sys/code_image.h"

namespace preheat::toolchain {

// Entries are the global functions. Throws kToolFailed for an object that is not freestanding or that is not
// a well-formed x86-64 ELF object.
sys::CodeImage ImageFromObject(std::span<const std::byte> object, std::string_view target);

}  // namespace preheat::toolchain
