// A device: memory, code and launches. One implementation a folder (cpu/, null/), each with the same files.
//
// A step of the model is a list of launches that is walked in order: all tiles of one launch are done, and
// their stores visible, before a tile of the next begins. One call of Run is one wake-up of the device.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "abi/kernel_abi.h"

namespace preheat::device {

// One kernel over a range of tiles.
struct Launch {
  ph_kernel kernel = nullptr;
  // Runs once on each thread that takes part, before its first tile of this launch, with all tiles as its
  // range [0, tiles) and the same scratch. May be null.
  ph_kernel stage = nullptr;
  const ph_args* args = nullptr;
  int64_t tiles = 0;  // 0: skipped; at most 2^31-1
  // Tiles claimed at a time. 0: the device chooses about eight claims a thread.
  int64_t chunk = 0;
};

// Machine code that is ready to call; unloaded by its destructor: no launch may be under way then.
class CodeModule {
 public:
  virtual ~CodeModule() = default;
  // The kernel of that name in the `image`-th of the loaded images. Throws kCorrupt where there is none.
  virtual ph_kernel Entry(size_t image, std::string_view name) const = 0;
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

class Device {
 public:
  virtual ~Device() = default;

  virtual std::string_view id() const = 0;               // "cpu", "null"
  virtual std::string name() const = 0;                  // the processor's own name
  virtual std::vector<std::string> Targets() const = 0;  // code that runs here, best first
  virtual int64_t memory_bytes() const = 0;
  virtual int threads() const = 0;

  // Makes code images (sys/code_image.h) callable, all in one mapping. Throws kCorrupt for a malformed image,
  // kIncompatible, naming the feature that is missing, for one that this machine cannot run; then none is
  // loaded.
  virtual std::unique_ptr<CodeModule> LoadCode(std::span<const std::span<const std::byte>> images) = 0;

  // Throws kDevice where there is not that much.
  virtual Buffer Allocate(size_t size_bytes) = 0;

  // Gives each thread at least this much scratch, 64-byte aligned, kept until the device goes.
  // REQUIRES: no Run is under way.
  virtual void ReserveScratch(size_t bytes_per_thread) = 0;

  // Runs the launches in order and returns when all are done. One caller at a time.
  virtual void Run(std::span<const Launch> launches) = 0;
};

// Throws kIncompatible naming what `target` needs and this processor (or its OS) lacks, kUnsupported for a
// name that no version of preheat knows here.
void CheckCpuTarget(std::string_view target);

}  // namespace preheat::device
