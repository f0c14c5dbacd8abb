// Turns an errno into an Error whose kind tells apart what a user would do about it.
#pragma once

#include <string_view>

#include "base/error.h"

namespace preheat::sys {

// "WHAT: PATH: No such file or directory". kNotFound for a missing path, kAccessDenied for a missing right or
// a read-only file system, kIo for everything else; a full disk is kIo and says so.
base::Error OsError(int error_number, std::string_view what, std::string_view path);

// The errno's text in English, whatever the locale.
std::string OsErrorText(int error_number);

}  // namespace preheat::sys
