// Reads one safetensors file in place. Nothing but the header is touched by opening it.
//
// Format: 8-byte little-endian length N <= 100,000,000; N bytes of UTF-8 JSON, an object {name: {"dtype",
// "shape", "data_offsets": [begin, end]}} with an optional "__metadata__" of texts, blanks allowed around it;
// then the data. Offsets count from the end of the header. Sorted they must begin at 0, have neither hole nor
// overlap, and end at the end of the file. Alignment is not promised. Source: safetensors/README.md and
// tensor.rs (github.com/huggingface/safetensors); stricter than the latter in one point that its text
// demands: a name that stands twice is an error.
//
// Every fault is kCorrupt and names the file and, where one is at fault, the tensor.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "sys/mapped_file.h"
#include "tensor/dtype.h"
#include "tensor/shape.h"
#include "tensor/tensor_view.h"

namespace preheat::checkpoint {

struct SafetensorsEntry {
  std::string name;
  std::string dtype_name;              // as in the file: "BF16", "F8_E4M3"
  std::optional<tensor::DType> dtype;  // nullopt: a type of the format that preheat has no use for
  tensor::Shape shape;
  uint64_t begin = 0, end = 0;  // bytes, from the data's start
};

struct SafetensorsHeader {
  uint64_t data_start = 0;                // 8 + N
  std::vector<SafetensorsEntry> entries;  // in the order of their data
  std::map<std::string, std::string> metadata;
};

// Checks the whole file's structure. `file` stands in messages.
SafetensorsHeader ParseSafetensors(std::span<const std::byte> bytes, std::string_view file);

// A mapped file with its header. Movable; const use is thread-safe.
class SafetensorsFile {
 public:
  // Also kNotFound, kAccessDenied, kIo.
  static SafetensorsFile Open(const std::string& path);

  const std::string& path() const { return file_.path(); }
  const std::vector<SafetensorsEntry>& entries() const { return header_.entries; }
  const std::map<std::string, std::string>& metadata() const { return header_.metadata; }
  // null where the file has no tensor of that name.
  const SafetensorsEntry* Find(std::string_view name) const;
  // The tensor in place, valid as long as this object (moving it is fine). kUnsupported for types without a
  // DType.
  tensor::TensorView View(const SafetensorsEntry& entry) const;
  // All tensors' bytes.
  std::span<const std::byte> data() const { return file_.bytes().subspan(header_.data_start); }

 private:
  sys::MappedFile file_;
  SafetensorsHeader header_;
  std::map<std::string, size_t, std::less<>> index_;
};

// What a writer needs: the length field and the padded header for tensors that follow each other without
// gaps. Fills begin and end of each entry.
std::string MakeSafetensorsHeader(std::vector<SafetensorsEntry>* entries,
                                  const std::map<std::string, std::string>& metadata = {});

}  // namespace preheat::checkpoint
