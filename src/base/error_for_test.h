// What a call throws, for tests of errors.
#pragma once

#include <gtest/gtest.h>

#include <string>

#include "base/error.h"

namespace preheat::base {

// The error that `function` throws; a failure where it throws none.
template <typename Function>
Error Thrown(Function function) {
  try {
    function();
  } catch (const Error& error) {
    return error;
  }
  ADD_FAILURE() << "nothing was thrown";
  return Error(ErrorKind::kIo, "");
}

// Its message; a failure where it is of another kind.
template <typename Function>
std::string Complaint(Function function, ErrorKind kind = ErrorKind::kInvalidArgument) {
  const Error error = Thrown(function);
  EXPECT_EQ(error.kind(), kind) << error.message();
  return error.message();
}

}  // namespace preheat::base
