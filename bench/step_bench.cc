#include "step_bench.h"

#include <chrono>
#include <thread>
#include <utility>

#include "checkpoint/checkpoint.h"
#include "compile/bare_session.h"
#include "compile/plausible.h"
#include "eager/cublaslt.h"
#include "measure/statistics.h"
#include "sys/clock.h"

namespace preheat::bench {
namespace {

constexpr size_t kAlignment = 4096;
// A prompt comes by itself: prompts without a pause between them would heat a GPU until it slows down.
constexpr std::chrono::milliseconds kBetweenPrompts{8};

}  // namespace

StepBench::StepBench(device::Device& device, store::Store& store, const checkpoint::ModelConfig& config,
                     tensor::DType weight_dtype)
    : device_(device), store_(store) {
  size_t bytes = 0;
  for (const checkpoint::ExpectedTensor& tensor : checkpoint::ExpectedTensors(config)) {
    offsets_[tensor.name] = bytes;
    const size_t size = static_cast<size_t>(tensor.shape.Elements()) * tensor::Bytes(weight_dtype);
    bytes += (size + kAlignment - 1) / kAlignment * kAlignment;
  }
  slab_ = device_.Allocate(bytes);
  compile::FillPlausibly(device_, slab_);
}

std::unique_ptr<session::Session> StepBench::Open(std::vector<program::Program> programs, int64_t capacity) {
  const auto weight = [this](const std::string& name, const program::Weight&) {
    return slab_.data() + offsets_.at(name);
  };
  return compile::OpenBareSession(
      device_, store_, std::move(programs), weight, {.capacity = capacity, .piece_rows = capacity},
      [this](const std::string& name, const std::string& entry) {
        if (!library_) library_ = std::make_unique<eager::CardMatmul>(eager::OpenCublasLt(), device_);
        return library_->Resolve(name, entry);
      });
}

double StepBench::DecodeSeconds(session::Session& session, int64_t past, int64_t steps, int rounds) {
  std::vector<double> seconds;
  for (int round = 0; round <= rounds; ++round) {  // the first warms up
    session.Resume(past);
    device_.Finish();
    const double start = sys::MonotonicSeconds();
    session.DecodeUntil(steps, [](int32_t) { return true; });
    device_.Finish();
    if (round > 0) seconds.push_back((sys::MonotonicSeconds() - start) / static_cast<double>(steps));
  }
  return measure::Median(seconds);
}

double StepBench::PrefillSeconds(session::Session& session, int64_t rows, int64_t bucket, int runs) {
  std::vector<int32_t> ids;
  for (int64_t i = 0; i < rows; ++i) ids.push_back(static_cast<int32_t>(1 + i % 200));
  std::vector<double> seconds;
  for (int run = 0; run <= runs; ++run) {
    session.Reset();
    device_.Finish();
    std::this_thread::sleep_for(kBetweenPrompts);
    const double start = sys::MonotonicSeconds();
    session.Prefill(ids, bucket);
    (void)session.token();
    if (run > 0) seconds.push_back(sys::MonotonicSeconds() - start);
  }
  return measure::Median(seconds);
}

}  // namespace preheat::bench
