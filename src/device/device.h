// A device: memory, code and launches. One implementation a folder (cpu/, cuda/, null/), each with the same
// files.
//
// A step of the model is a list of launches that is walked in order: all tiles of one launch are done, and
// their stores visible, before a tile of the next begins. One call of Run is one wake-up of the device. A
// device may return from Run before the work is done; what Read gives is as of all that was run before.
//
// Addresses are the device's own: only Write and Read may look behind them, but for weights and buffers of a
// device whose memory is the host's.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "abi/kernel_abi.h"
#include "tensor/dtype.h"

namespace preheat::device {

// Something that a launch can call: code of the device, or a function of the host (a library's kernel, and
// all that a CPU runs).
struct Kernel {
  ph_kernel host = nullptr;
  void* device = nullptr;  // the device's own handle; beside `host`, on a card: what that is given as scratch

  explicit operator bool() const { return host != nullptr || device != nullptr; }
  bool operator==(const Kernel&) const = default;
};

// A tensor in device memory as a card's copy engine reads it: boxes of elements, zeros outside of the
// extents.
struct BoxTensor {
  struct Dim {
    int64_t extent = 0;
    int64_t stride_bytes = 0;
    int box = 1;
  };
  const void* address = nullptr;
  tensor::DType element = tensor::DType::kBf16;  // a float
  int swizzle_bytes = 0;                         // as program::TensorMap has it
  std::vector<Dim> dims;                         // the innermost first; 1 to PH_MOST_TENSOR_MAP_DIMS
};

// The same as kernels take it.
struct alignas(PH_TENSOR_MAP_ALIGN) TensorMap {
  std::byte bytes[PH_TENSOR_MAP_BYTES] = {};
};

// One kernel over a range of tiles.
struct Launch {
  Kernel kernel;
  // Runs once on each thread that takes part, before its first tile of this launch, with all tiles as its
  // range [0, tiles) and the same scratch. May be null; CPUs only.
  Kernel stage;
  const ph_args* args = nullptr;
  int64_t operands = 0;  // how many args->operands has
  int64_t tiles = 0;     // 0: skipped; at most 2^31-1
  // Tiles claimed at a time. 0: the device chooses about eight claims a thread. CPUs only.
  int64_t chunk = 0;
  ph_block_shape blocks{};  // devices of blocks of threads only
  std::span<const TensorMap> tensor_maps{};
  // 1 + the kind of a link: neighbouring links of one kernel are one launch of it, over a table of them. Only
  // in what is recorded: Run throws kCorrupt. 0: a launch of its own.
  int link = 0;
  int round = 0;            // of a link, as ph_link::round
  int64_t most_blocks = 0;  // 0: as many as there are tiles
};

// Machine code that is ready to call; unloaded by its destructor: no launch may be under way then.
class CodeModule {
 public:
  virtual ~CodeModule() = default;
  // The kernel of that name in the `image`-th of the loaded images. Throws kCorrupt where there is none.
  virtual Kernel Entry(size_t image, std::string_view name) const = 0;
};

// Device memory, freed by its destructor. Aligned to 4096 bytes; zeroed.
class Buffer {
 public:
  Buffer() = default;
  Buffer(std::byte* data, size_t size, void (*release)(std::byte*, size_t))
      : data_(data), size_(size), release_(release) {}
  ~Buffer() {
    if (data_ != nullptr) release_(data_, size_);
  }
  Buffer(Buffer&& other) noexcept { *this = std::move(other); }
  Buffer& operator=(Buffer&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    std::swap(release_, other.release_);
    return *this;
  }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  std::byte* data() const { return data_; }
  size_t size() const { return size_; }

 private:
  std::byte* data_ = nullptr;
  size_t size_ = 0;
  void (*release_)(std::byte*, size_t) = nullptr;
};

// A tensor in the host's memory that kernels will read: a view of a mapped checkpoint.
struct HostTensor {
  std::string name;
  std::span<const std::byte> bytes;
};

// Tensors where kernels read them, brought there beside other work. Unloaded by its destructor.
class Weights {
 public:
  virtual ~Weights() = default;
  // The tensor's first byte; known at once, filled when Wait has returned. Null where there is no such
  // tensor.
  virtual const void* Address(std::string_view name) const = 0;
  // Returns when all are there. Throws what went wrong.
  virtual void Wait() = 0;
};

// Launches made ready to be run many times.
class Recording {
 public:
  virtual ~Recording() = default;
  virtual void Run() = 0;
};

// What a GPU says of itself beyond what every device says.
struct GpuFacts {
  std::string capability;      // "9.0"
  std::string driver_version;  // of the interface: "13.0"
};

class Device {
 public:
  virtual ~Device() = default;

  virtual std::string_view id() const = 0;  // "cpu", "cuda:0", "null"
  virtual std::string name() const = 0;     // the processor's own name
  virtual std::string model() const = 0;    // what schedules are measured for, and shared by: its model
  virtual std::string Needs() const = 0;    // what a device of this kind needs to run any of our targets
  virtual std::vector<std::string> Targets() const = 0;  // machine code that runs here, best first
  // PTX that runs here once the driver has compiled it, which LoadCode has it do and tells on stderr; best
  // first. None where devices take machine code alone.
  virtual std::vector<std::string> PtxTargets() const { return {}; }
  virtual int64_t memory_bytes() const = 0;
  virtual int64_t cache_bytes() const = 0;  // of the last cache before memory
  virtual int threads() const = 0;
  // How many clusters of 1, 2, ... blocks run at once where each block takes a multiprocessor; empty where
  // there are no clusters, or it is not known.
  virtual std::vector<int> ResidentClusters() const { return {}; }
  virtual std::optional<GpuFacts> gpu() const { return std::nullopt; }
  // Throws kIncompatible naming what `target` needs and this device lacks, kUnsupported for a name that no
  // version of preheat knows here.
  virtual void CheckTarget(std::string_view target) const = 0;

  // Makes code images (sys/code_image.h) callable, all in one mapping. Throws kCorrupt for a malformed image,
  // kIncompatible, naming the feature that is missing, for one that this machine cannot run; then none is
  // loaded.
  virtual std::unique_ptr<CodeModule> LoadCode(std::span<const std::span<const std::byte>> images) = 0;

  // Throws kDevice where there is not that much.
  virtual Buffer Allocate(size_t size_bytes) = 0;
  // Where the device reads the host's memory, the tensors stay where they are.
  virtual std::unique_ptr<Weights> PlaceWeights(std::vector<HostTensor> tensors) = 0;
  // Copies to and from device memory, in order with what runs. Read waits for all that was run before.
  virtual void Write(void* to, std::span<const std::byte> from) = 0;
  virtual void Read(std::span<std::byte> to, const void* from) = 0;

  // Throws kIncompatible on a device without such a copy engine, or where the tensor is none that it can
  // read.
  virtual TensorMap EncodeTensorMap(const BoxTensor& tensor) const;

  // Gives each thread at least this much scratch, 64-byte aligned, kept until the device goes.
  // REQUIRES: no Run is under way.
  virtual void ReserveScratch(size_t bytes_per_thread) = 0;

  // Runs the launches in order. One caller at a time.
  virtual void Run(std::span<const Launch> launches) = 0;
  // Returns when all that was run is done.
  virtual void Finish() {}
  // Where a library puts its work, so that it runs in order with launches: of a card, the driver's stream.
  // Null where launches are calls.
  virtual void* library_stream() { return nullptr; }

  // A device whose steps run ahead of the host: it reports tokens through a ring, and a recorded decode step
  // can be run again without the host's looking at it.
  virtual bool RunsAhead() const { return false; }
  // REQUIRES, as for all below: RunsAhead.
  virtual std::unique_ptr<Recording> Record(std::span<const Launch> launches);
  // A ring that the host reads and kernels write, zeroed, and its address for kernels.
  virtual ph_ring* ring() { return nullptr; }
  virtual ph_ring* ring_address() { return nullptr; }
  // Waits for all that was run, then sets ring()->count.
  virtual void SetRing(uint32_t count);
  // Returns when ring()->count is at least `count`: the device may be some steps ahead. Throws kDevice where
  // the device failed, or stopped without it.
  virtual void WaitForRing(uint32_t count);
};

// What a user may do where a card lacks machine code, in words, for a message: `target` is one of PtxTargets.
std::string PtxAdvice(std::string_view target);

// Its targets of machine code. Throws kIncompatible, saying what it needs, where it runs none of ours.
std::vector<std::string> TargetsOrThrow(const Device& device);

}  // namespace preheat::device
