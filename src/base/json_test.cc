#include "base/json.h"

#include <gtest/gtest.h>

#include <bit>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>

namespace preheat::base {
namespace {

double NumberOf(const std::string& text) {
  rapidjson::Document document;
  const auto fault = ParseJson(text, document, {.allow_nan_and_infinity = true});
  EXPECT_FALSE(fault) << text << ": " << fault->what;
  EXPECT_TRUE(document.IsNumber()) << text;
  return document.IsNumber() ? document.GetDouble() : 0;
}

std::string FaultOf(const std::string& text, const JsonOptions& options = {}) {
  rapidjson::Document document;
  const auto fault = ParseJson(text, document, options);
  return fault ? fault->what + " " + std::to_string(fault->at) : "none";
}

TEST(Json, AZeroIsZeroHoweverItIsWritten) {
  for (const char* text : {"0", "0.0", "0e-26", "0e-300", "0e-99999", "0e30", "0e308", "0.0e-50",
                           "0.000000000000000000000000000000000000000000", "1e-400"}) {
    EXPECT_EQ(NumberOf(text), 0) << text;
    EXPECT_EQ(NumberOf(std::string("-") + text), 0) << text;
  }
}

TEST(Json, EveryDoubleComesBack) {
  const uint64_t seed = std::random_device()();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937_64 random(seed);
  for (int round = 0; round < 20000; ++round) {
    const auto value = std::bit_cast<double>(random());
    if (!std::isfinite(value)) continue;
    char text[64];
    const auto end = std::to_chars(text, text + sizeof text, value).ptr;
    EXPECT_EQ(NumberOf(std::string(text, end)), value);
  }
  EXPECT_EQ(NumberOf("1.7976931348623157e308"), std::numeric_limits<double>::max());
  EXPECT_EQ(NumberOf("5e-324"), std::numeric_limits<double>::denorm_min());
}

TEST(Json, IntegersStayIntegersWhileTheyFit) {
  rapidjson::Document document;
  ParseJson("[0, -0, -9223372036854775808, 18446744073709551615, 18446744073709551616, 2147483648, 1.0]",
            document);
  ASSERT_EQ(document.Size(), 7u);
  EXPECT_TRUE(document[0].IsInt() && document[0].IsUint());
  EXPECT_TRUE(document[1].IsInt());
  EXPECT_EQ(document[2].GetInt64(), INT64_MIN);
  EXPECT_TRUE(!document[3].IsInt64() && document[3].GetUint64() == UINT64_MAX);
  EXPECT_TRUE(!document[4].IsUint64() && document[4].GetDouble() == 18446744073709551616.0);
  EXPECT_TRUE(document[5].IsUint() && !document[5].IsInt());
  EXPECT_FALSE(document[6].IsInt64());
}

TEST(Json, WhatIsNoJsonIsAFaultAtItsPlace) {
  EXPECT_EQ(FaultOf(""), "The document is empty. 0");
  EXPECT_EQ(FaultOf("{} {}"), "The document root must not be followed by other values. 3");
  EXPECT_EQ(FaultOf(std::string("{}\0", 3)), "A NUL byte. 2");
  EXPECT_EQ(FaultOf("[1e309]"), "Number too big to be stored in double. 1");
  EXPECT_EQ(FaultOf("[" + std::string(400, '9') + "]"), "Number too big to be stored in double. 1");
  EXPECT_EQ(FaultOf("\"\xFF\""), "Invalid encoding in string. 1");
  EXPECT_EQ(FaultOf("\"\xFF\"", {.check_utf8 = false}), "none");
  for (const char* text : {"01", "1.", ".5", "+1", "1e", "0x1", "nan", "[1,]", "{\"a\":1,}", "tru"}) {
    EXPECT_NE(FaultOf(text), "none") << text;
  }
}

TEST(Json, EscapesThatAreNoCharacterAreFaults) {
  for (const char* text :
       {R"("\uD800")", R"("\uDC00")", R"({"\uDFFF": 1})", R"("\uDC00\uD800")", R"("a\uD83Dx")"}) {
    EXPECT_NE(FaultOf(text).find("surrogate"), std::string::npos) << text << ": " << FaultOf(text);
  }
  for (const char* text : {R"("\uD83D\uDE42")", R"("\uD7FF\uE000")", "\"\xED\x9F\xBF\""}) {
    EXPECT_EQ(FaultOf(text), "none") << text;
  }
}

TEST(Json, NanAndInfinityOnlyWhereAllowed) {
  EXPECT_TRUE(std::isnan(NumberOf("NaN")));
  EXPECT_EQ(NumberOf("-Infinity"), -std::numeric_limits<double>::infinity());
  for (const char* text : {"NaN", "Infinity", "-Infinity"}) EXPECT_NE(FaultOf(text), "none") << text;
}

TEST(Json, DepthCostsNoStack) {
  EXPECT_NE(FaultOf(std::string(1'000'000, '[')), "none");
  EXPECT_EQ(FaultOf(std::string(1'000'000, '[') + std::string(1'000'000, ']')), "none");
}

}  // namespace
}  // namespace preheat::base
