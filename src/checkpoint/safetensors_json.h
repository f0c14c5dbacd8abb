// The JSON in a safetensors file's header (safetensors.h): text -> entries and metadata, and back. Knows the
// grammar: which fields there are, of which types, each once. Whether offsets, shapes and file fit each other
// is not looked at.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/safetensors.h"

namespace preheat::checkpoint {

// Fills entries, in the order of the text, and metadata. kCorrupt: it is no such JSON; `file` stands in
// messages. Nesting costs no stack.
void ParseSafetensorsJson(std::string_view text, std::string_view file, SafetensorsHeader& header);

std::string SafetensorsJson(const std::vector<SafetensorsEntry>& entries,
                            const std::map<std::string, std::string>& metadata);

// Some types are narrower than a byte. REQUIRES: a dtype_name that ParseSafetensorsJson let pass.
unsigned BitsPerElement(std::string_view dtype_name);

}  // namespace preheat::checkpoint
