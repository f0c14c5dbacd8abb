// What `preheat devices --measure` does of a card; what its kernels compute is rate_kernels_test's.
#include <gtest/gtest.h>

#include "base/error.h"
#include "compile/card_rates.h"
#include "device/cuda/cuda_device.h"
#include "host_cuda.h"
#include "on_host_card.h"
#include "toolchain/compiler.h"

namespace preheat::testing {
namespace {

class CardRatesTest : public OnHostCard {};

TEST_F(CardRatesTest, AreMeasuredAndTheCardsMemoryIsGivenBack) {
  TheHostCard().multiprocessors = 1;
  TheHostCard().memory_bytes = uint64_t{4} << 20;
  const HostCardUse before = UseOfHostCard();
  for (const int capability : {80, 90}) {
    TheHostCard().capability = capability;
    device::CudaDevice device(HostDriver(), 0);
    const compile::CardRates rates = compile::MeasureCard(device, HostCudaCompiler());
    EXPECT_GT(rates.read_bytes_per_s, 0) << capability;
    EXPECT_GT(rates.bf16_flops_per_s, 0) << capability;
    EXPECT_GT(UseOfHostCard().launches, 0);
  }
  EXPECT_EQ(UseOfHostCard().allocations, before.allocations);
  EXPECT_EQ(UseOfHostCard().modules, before.modules);
}

TEST_F(CardRatesTest, ACardThatGoesMeanwhileIsAnError) {
  TheHostCard().memory_bytes = uint64_t{4} << 20;
  TheHostCard().launches_until_loss = 1;
  device::CudaDevice device(HostDriver(), 0);
  try {
    compile::MeasureCard(device, HostCudaCompiler());
    ADD_FAILURE() << "nothing was thrown";
  } catch (const base::Error& error) {
    EXPECT_EQ(error.kind(), base::ErrorKind::kDevice);
  }
}

TEST(RealCardRates, AreThoseOfACard) {
  if (RealCard() == nullptr) GTEST_SKIP() << "[SKIP] takes a card: PREHEAT_TEST_CARD=cuda:0";
  const auto device = OpenCard();
  const auto compiler = toolchain::FindCompiler(device->Targets().front());
  const compile::CardRates rates = compile::MeasureCard(*device, *compiler);
  EXPECT_GT(rates.read_bytes_per_s, 1e11);
  EXPECT_LT(rates.read_bytes_per_s, 2e13);
  EXPECT_GT(rates.bf16_flops_per_s, 1e13);
  EXPECT_LT(rates.bf16_flops_per_s, 1e16);
}

}  // namespace
}  // namespace preheat::testing
