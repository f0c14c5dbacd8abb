// Files that a command writes.
#pragma once

#include <string>

namespace preheat::cli {

// Makes the folder of a file that is to be written, before the work that fills it. Throws kIo or
// kAccessDenied where that cannot be: a place to write that is not there is no input that was not found.
void PrepareOutput(const std::string& path);

}  // namespace preheat::cli
