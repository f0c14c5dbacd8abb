// What is built for cards, and on them, says so.
#include "end_to_end/cuda.h"

namespace preheat::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class Cuda : public CudaEndToEnd {};

TEST_F(Cuda, BuiltForCardsWithoutOneTheMetadataSaysCudaAndNamesNone) {
  ExpectDone(Preheat(BuildWords("a", {"--targets", "sm_90a,sm_80"}), Card("cards=0")));
  const auto made = FingerprintOf("a");
  EXPECT_EQ(made["device_type"].GetString(), std::string("cuda"));
  EXPECT_TRUE(made["device_name"].IsNull());
  EXPECT_TRUE(made["gpu"].IsNull());
  EXPECT_EQ(made["targets"].Size(), 2u);
}

TEST_F(Cuda, BuiltOnACardTheMetadataDescribesIt) {
  ExpectDone(Preheat(BuildWords("a"), Card("memory_bytes=8000000000 version=12040")));
  const auto made = FingerprintOf("a");
  EXPECT_EQ(made["device_type"].GetString(), std::string("cuda"));
  EXPECT_EQ(made["device_name"].GetString(), std::string("Fake card"));
  ASSERT_TRUE(made["gpu"].IsObject());
  EXPECT_EQ(made["gpu"]["name"].GetString(), std::string("Fake card"));
  EXPECT_EQ(made["gpu"]["capability"].GetString(), std::string("9.0"));
  EXPECT_EQ(made["gpu"]["total_memory_bytes"].GetInt64(), 8'000'000'000);
  EXPECT_EQ(made["gpu"]["cuda_runtime_version"].GetString(), std::string("12.4"));
}

TEST_F(Cuda, BuiltForAProcessorOnACardTheMetadataSaysCpu) {
  ExpectDone(Preheat(BuildWords("a", {"--targets", "x86-64-v3", "--device", "cuda"}), Card()));
  const auto made = FingerprintOf("a");
  EXPECT_EQ(made["device_type"].GetString(), std::string("cpu"));
  EXPECT_TRUE(made["device_name"].IsNull());
  EXPECT_TRUE(made["gpu"].IsNull());
}

TEST_F(Cuda, ABuildForProcessorsAloneLeavesTheCardAlone) {
  ExpectDone(Preheat(BuildWords("a", {"--targets", "x86-64-v3"}), Card("retain=46")));
  const auto made = FingerprintOf("a");
  EXPECT_EQ(made["device_type"].GetString(), std::string("cpu"));
  EXPECT_TRUE(made["device_name"].IsString());
}

TEST_F(Cuda, BesideACardTheProcessorsCodeIsMeasuredOnTheProcessor) {
  Words words = BuildWords("a", {"--targets", "x86-64-v3", "--compile-dynamic", "false", "--device", "cuda"});
  std::ranges::replace(words, std::string("default"), std::string("max-autotune"));
  const auto build = Preheat(words, Card());
  ExpectDone(build);
  EXPECT_THAT(build.out, HasSubstr("x86-64-v3: tuning: "));
  EXPECT_THAT(build.out, Not(HasSubstr("x86-64-v3: tuning: 0.0000s")));
}

TEST_F(Cuda, OnAnotherCardRunNamesTheFactors) {
  ExpectDone(Preheat(BuildWords("a"), Card()));
  const auto same = Preheat(On("a", "run"), Card("version=13010"));
  EXPECT_THAT(same.out, Not(HasSubstr("differs")));
  const auto other = Preheat(On("a", "run"), Card("capability=80 memory_bytes=40000000000"));
  EXPECT_THAT(other.out, HasSubstr("[run] artifact differs in gpu: built Fake card (capability 9.0, 8.6 GB), "
                                   "this run Fake card (capability 8.0, 40.0 GB)\n"));
  EXPECT_THAT(other.out, HasSubstr("[run] artifact differs in targets: built sm_90a, this run sm_80\n"));
  const auto cpu = Preheat(On("a", "run", {"--device", "cpu"}), Card());
  ExpectDone(cpu);
  EXPECT_THAT(cpu.out, HasSubstr("[run] artifact differs in device_type: built cuda, this run cpu\n"));
}

TEST_F(Cuda, DumpShowsWhatKernelsTakeAlsoOfCodeThatTheStoreHolds) {
  for (const char* dump : {"first", "second"}) {
    const auto result =
        Preheat(BuildWords("a", {"--targets", "sm_80", "--dump", File(dump)}), Card("cards=0"));
    ExpectDone(result);
    const std::string resources = sys::ReadFile(File(dump) + "/sm_80/decode/resources.txt");
    EXPECT_THAT(resources, HasSubstr("matmul: 40 registers, 0 bytes spilled, shared memory 128 bytes and "));
    EXPECT_THAT(resources, HasSubstr("attention: 40 registers"));
  }
}

TEST_F(Cuda, InspectSaysWhatARunWillTakeOfTheCard) {
  ExpectDone(Preheat(BuildWords("a", {"--targets", "sm_90a,x86-64-v3"}), Card("cards=0")));
  const auto text = Preheat({"inspect", File("a.bin"), "--positions", "1000"});
  ExpectDone(text);
  EXPECT_THAT(text.out, HasSubstr("memory for sm_90a at 1000 positions: weights "));
  EXPECT_THAT(text.out, HasSubstr(" of the card's, beside what its driver takes\n"));
  EXPECT_THAT(text.out, HasSubstr("memory for x86-64-v3 at 1000 positions: weights "));

  const auto memory_of = [&](const Words& more) {
    Words words = {"inspect", File("a.bin"), "--json"};
    words.insert(words.end(), more.begin(), more.end());
    return ParseJson(Preheat(words).out);
  };
  const auto typical = memory_of({});
  EXPECT_EQ(typical["capacity_positions"].GetInt64(), 32 + 128);
  const auto longer = memory_of({"--positions", "1600"});
  ASSERT_EQ(longer["memory"].Size(), 2u);
  const auto& card = longer["memory"][0];
  EXPECT_EQ(card["target"].GetString(), std::string("sm_90a"));
  EXPECT_EQ(card["kv_cache_bytes"].GetInt64(), 10 * typical["memory"][0]["kv_cache_bytes"].GetInt64());
  EXPECT_EQ(card["total_bytes"].GetInt64(), card["weight_bytes"].GetInt64() +
                                                card["kv_cache_bytes"].GetInt64() +
                                                card["activation_bytes"].GetInt64());
  // A CPU reads the weights as mapped.
  const auto& cpu = longer["memory"][1];
  EXPECT_EQ(cpu["weight_bytes"].GetInt64(), card["weight_bytes"].GetInt64());
  EXPECT_EQ(cpu["total_bytes"].GetInt64(),
            cpu["kv_cache_bytes"].GetInt64() + cpu["activation_bytes"].GetInt64());
  ExpectError(Preheat({"inspect", File("a.bin"), "--positions", "99999999999"}), 2, {"at most 16777216"});
}

// Kernels do nothing on the fake card: that there are rates is all that can be said.
TEST_F(Cuda, DevicesMeasuresEachCard) {
  const Words words = {"devices", "--measure", "--json"};
  const std::string two = "cards=2 memory_bytes=500000000";
  const auto devices = ParseJson(Preheat(words, Card(two)).out);
  ASSERT_EQ(devices["devices"].Size(), 3u);
  for (const auto& device : devices["devices"].GetArray()) {
    EXPECT_GT(device["read_bytes_per_s"].GetDouble(), 0);
    EXPECT_GT(device["bf16_flops_per_s"].GetDouble(), 0);
  }
  EXPECT_TRUE(devices["devices"][0].HasMember("read_bytes_per_s_1thread"));
  EXPECT_FALSE(devices["devices"][1].HasMember("read_bytes_per_s_1thread"));

  const auto text = Preheat({"devices", "--measure"}, Card("memory_bytes=500000000"));
  ExpectDone(text);
  EXPECT_THAT(text.out, HasSubstr("cuda:0: Fake card\n"));
  EXPECT_THAT(text.out, HasSubstr(" TFLOP/s\n"));
  EXPECT_THAT(text.out, HasSubstr("\n  driver: for CUDA 13.0\n"));
  EXPECT_EQ(text.err, "");
}

TEST_F(Cuda, DevicesSaysWhyACardIsNotMeasured) {
  const auto expect = [&](const Environment& environment, const ::testing::Matcher<std::string>& warning) {
    const auto result = Preheat({"devices", "--measure", "--json"}, environment);
    ExpectDone(result);
    EXPECT_THAT(result.err, warning);
    const auto devices = ParseJson(result.out);
    EXPECT_TRUE(devices["devices"][0].HasMember("read_bytes_per_s"));
    ASSERT_EQ(devices["devices"].Size(), 2u);
    ExpectKeys(devices["devices"][1], {"id", "name", "targets", "memory_bytes", "multiprocessors",
                                       "capability", "cuda_driver_version"});
    EXPECT_FALSE(devices["devices"][1].HasMember("read_bytes_per_s"));
  };
  expect(With(Card(), "PREHEAT_NVRTC", "/no/such"), HasSubstr("warning: cuda:0 is not measured: no NVRTC"));
  expect(Card("retain=46 compute_mode=2"), HasSubstr("cuda:0 is not measured: cuda:0 takes no process: "));
  expect(Card("load=209"), HasSubstr("cuda:0 is not measured: loading machine code failed: "));
  // One that runs none of our targets has nothing to be measured by.
  expect(Card("capability=75"), "");
}

}  // namespace
}  // namespace preheat::testing
