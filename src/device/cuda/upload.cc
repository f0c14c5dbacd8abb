#include "device/cuda/upload.h"

#include <algorithm>
#include <cstring>
#include <system_error>
#include <utility>

#include "sys/cpu.h"

namespace preheat::device {
namespace {

constexpr size_t kAlignment = 256;
constexpr size_t kPieceBytes = size_t{4} << 20;
constexpr size_t kPinnedPieces = 2;  // a thread's: one is filled while the other is on its way
constexpr int kMostThreads = 12;     // more gain nothing: the link is full

// One thread's pinned pieces and its stream.
class Lane {
 public:
  explicit Lane(const CudaDevice& device) : Lane(device.driver()) {
    device.MakeCurrent();
    driver_.Check(driver_.StreamCreate(&stream_, cuda::kNonBlockingStream),
                  "making a stream for the weights");
    for (Pinned& pinned : pinned_) {
      driver_.Check(driver_.MemHostAlloc(&pinned.memory, kPieceBytes, cuda::kHostPortable), "pinning memory");
      driver_.Check(driver_.EventCreate(&pinned.sent, cuda::kEventWithoutTiming), "making an event");
    }
  }
  ~Lane() {
    if (stream_ != nullptr) (void)driver_.StreamSynchronize(stream_);
    for (Pinned& pinned : pinned_) {
      if (pinned.memory != nullptr) (void)driver_.MemFreeHost(pinned.memory);
      if (pinned.sent != nullptr) (void)driver_.EventDestroy(pinned.sent);
    }
    if (stream_ != nullptr) (void)driver_.StreamDestroy(stream_);
  }
  Lane(const Lane&) = delete;
  Lane& operator=(const Lane&) = delete;

  void Send(const std::byte* from, cuda::Address to, size_t bytes) {
    Pinned& pinned = pinned_[turn_];
    turn_ = (turn_ + 1) % kPinnedPieces;
    if (std::exchange(pinned.used, true))
      driver_.Check(driver_.EventSynchronize(pinned.sent), "sending weights");
    std::memcpy(pinned.memory, from, bytes);
    driver_.Check(driver_.MemcpyHtoDAsync(to, pinned.memory, bytes, stream_), "sending weights");
    driver_.Check(driver_.EventRecord(pinned.sent, stream_), "sending weights");
  }
  void Finish() { driver_.Check(driver_.StreamSynchronize(stream_), "sending weights"); }

 private:
  // Holds nothing yet: so that what the other constructor got before an error is given back.
  explicit Lane(const cuda::Driver& driver) : driver_(driver) {}

  struct Pinned {
    void* memory = nullptr;
    cuda::Event sent = nullptr;
    bool used = false;
  };
  const cuda::Driver& driver_;
  cuda::Stream stream_ = nullptr;
  Pinned pinned_[kPinnedPieces];
  size_t turn_ = 0;
};

}  // namespace

CudaWeights::CudaWeights(CudaDevice& device, std::vector<HostTensor> tensors) : device_(device) {
  size_t size = 0;
  for (const HostTensor& tensor : tensors) {
    offsets_.emplace(tensor.name, size);
    for (size_t done = 0; done < tensor.bytes.size(); done += kPieceBytes) {
      pieces_.push_back(
          {tensor.bytes.data() + done, size + done, std::min(kPieceBytes, tensor.bytes.size() - done)});
    }
    size += (tensor.bytes.size() + kAlignment - 1) / kAlignment * kAlignment;
  }
  slab_ = device.AllocateUncleared(size);
  const int threads = std::clamp<int>(sys::AvailableThreads(), 1, kMostThreads);
  for (int i = 0; i < std::min<int>(threads, static_cast<int>(pieces_.size())); ++i) {
    try {
      threads_.emplace_back([this] { CopyPieces(); });
    } catch (const std::system_error&) {  // as many as there may be; at worst this one
      if (threads_.empty()) CopyPieces();
      break;
    }
  }
}

CudaWeights::~CudaWeights() {
  next_ = pieces_.size();
  for (std::thread& thread : threads_) thread.join();
}

void CudaWeights::CopyPieces() {
  try {
    Lane lane(device_);
    for (size_t i = next_.fetch_add(1); i < pieces_.size(); i = next_.fetch_add(1)) {
      const Piece& piece = pieces_[i];
      lane.Send(piece.from, reinterpret_cast<cuda::Address>(slab_.data()) + piece.to, piece.bytes);
    }
    lane.Finish();
  } catch (...) {
    const std::lock_guard<std::mutex> lock(error_mutex_);
    if (!error_) error_ = std::current_exception();
    next_ = pieces_.size();
  }
}

const void* CudaWeights::Address(std::string_view name) const {
  const auto found = offsets_.find(name);
  return found == offsets_.end() ? nullptr : slab_.data() + found->second;
}

void CudaWeights::Wait() {
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
  if (error_) std::rethrow_exception(error_);
}

}  // namespace preheat::device
