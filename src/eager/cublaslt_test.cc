#include "eager/cublaslt.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <string>

#include "base/error_for_test.h"

namespace preheat::eager {
namespace {

using ::testing::HasSubstr;

// What opening says with the library named so.
base::Error Complaint(const char* file) {
  ::setenv("PREHEAT_CUBLASLT", file, 1);
  const base::Error error = base::Thrown(OpenCublasLt);
  ::unsetenv("PREHEAT_CUBLASLT");
  return error;
}

TEST(CublasLt, ThatIsNotThereIsSaidWithWhereItWasSought) {
  const base::Error error = Complaint("/nowhere/libcublasLt.so.13");
  EXPECT_EQ(error.kind(), base::ErrorKind::kNotFound);
  EXPECT_THAT(error.message(), HasSubstr("/nowhere/libcublasLt.so.13"));
  EXPECT_THAT(error.message(), HasSubstr("PREHEAT_CUBLASLT"));
}

TEST(CublasLt, AnotherLibraryIsRefused) {
  const base::Error error = Complaint("libm.so.6");
  EXPECT_EQ(error.kind(), base::ErrorKind::kUnsupported);
  EXPECT_THAT(error.message(), HasSubstr("libm.so.6: cuBLASLt 0.0, without cublasLtGetVersion"));
}

TEST(CublasLt, AFailureSaysWhatItWasAndWhatMayBeWrong) {
  CublasLt table{};
  table.GetStatusString = [](CublasLt::Status) { return "CUBLAS_STATUS_NOT_INITIALIZED"; };
  EXPECT_NO_THROW(table.Check(CublasLt::kSuccess, "multiplying"));
  const std::string message = base::Complaint(
      [&] { table.Check(CublasLt::kNotInitialized, "starting cuBLASLt"); }, base::ErrorKind::kDevice);
  EXPECT_THAT(message, HasSubstr("starting cuBLASLt failed"));
  EXPECT_THAT(message, HasSubstr("driver"));
}

}  // namespace
}  // namespace preheat::eager
