// Files that a command writes.
#pragma once

#include <string>

namespace preheat::cli {

// Makes the folder of a file that is to be written, before the work that fills it. Throws kIo or
// kAccessDenied where that cannot be: a place to write that is not there is no input that was not found.
void PrepareOutput(const std::string& path);
// The same for a folder that is to be filled.
void PrepareOutputFolder(const std::string& folder);

}  // namespace preheat::cli
