#include "checkpoint/safetensors_json.h"

#include <rapidjson/error/en.h>
#include <rapidjson/memorystream.h>
#include <rapidjson/reader.h>
#include <rapidjson/stringbuffer.h>
#include <rapidjson/writer.h>

#include <array>
#include <limits>
#include <set>
#include <utility>

#include "base/check.h"
#include "base/error.h"

namespace preheat::checkpoint {
namespace {

using base::ErrorKind;
using base::MakeError;

constexpr size_t kTextAt = 8;  // where the text begins in every file

struct ElementType {
  std::string_view name;
  unsigned bits;
};
// All types of the format; some are narrower than a byte.
constexpr std::array kElementTypes = {
    ElementType{"BOOL", 8},        ElementType{"F4", 4},          ElementType{"F6_E2M3", 6},
    ElementType{"F6_E3M2", 6},     ElementType{"U8", 8},          ElementType{"I8", 8},
    ElementType{"F8_E5M2", 8},     ElementType{"F8_E4M3", 8},     ElementType{"F8_E8M0", 8},
    ElementType{"F8_E4M3FNUZ", 8}, ElementType{"F8_E5M2FNUZ", 8}, ElementType{"I16", 16},
    ElementType{"U16", 16},        ElementType{"F16", 16},        ElementType{"BF16", 16},
    ElementType{"I32", 32},        ElementType{"U32", 32},        ElementType{"F32", 32},
    ElementType{"C64", 64},        ElementType{"F64", 64},        ElementType{"I64", 64},
    ElementType{"U64", 64},
};

const ElementType* FindElementType(std::string_view name) {
  for (const ElementType& type : kElementTypes) {
    if (type.name == name) return &type;
  }
  return nullptr;
}

// Takes the header's JSON event by event. A false return ends the parse; problem() then says why.
class HeaderHandler {
 public:
  HeaderHandler(std::vector<SafetensorsEntry>* entries, std::map<std::string, std::string>* metadata)
      : entries_(entries), metadata_(metadata) {}

  const std::string& problem() const { return problem_; }

  bool StartObject() {
    switch (state_) {
      case State::kStart:
        state_ = State::kTop;
        return true;
      case State::kTensor:
        state_ = State::kFields;
        return true;
      case State::kMetadata:
        state_ = State::kMetadataKeys;
        return true;
      case State::kSkip:
        ++skip_depth_;
        return true;
      case State::kTop:
      case State::kFields:
      case State::kDtype:
      case State::kShape:
      case State::kShapeItems:
      case State::kOffsets:
      case State::kOffsetItems:
      case State::kMetadataKeys:
      case State::kMetadataValue:
      case State::kEnd:
        return Fail("an object");
    }
    return false;
  }

  bool Key(const char* text, rapidjson::SizeType length, bool) {
    const std::string_view key(text, length);
    switch (state_) {
      case State::kTop:
        if (!names_.insert(std::string(key)).second)
          return Problem(fmt::format("the name \"{}\" stands twice", key));
        current_ = {};
        current_.name = std::string(key);
        seen_dtype_ = seen_shape_ = seen_offsets_ = false;
        state_ = key == "__metadata__" ? State::kMetadata : State::kTensor;
        return true;
      case State::kFields:
        if (key == "dtype") return Once(&seen_dtype_, State::kDtype, key);
        if (key == "shape") return Once(&seen_shape_, State::kShape, key);
        if (key == "data_offsets") return Once(&seen_offsets_, State::kOffsets, key);
        state_ = State::kSkip;  // the reference reader ignores fields that it does not know
        return true;
      case State::kMetadataKeys:
        metadata_key_ = std::string(key);
        if (metadata_->count(metadata_key_) != 0) {
          return Problem(fmt::format("the name \"{}\" stands twice in __metadata__", key));
        }
        state_ = State::kMetadataValue;
        return true;
      case State::kSkip:
        return true;
      case State::kStart:
      case State::kTensor:
      case State::kDtype:
      case State::kShape:
      case State::kShapeItems:
      case State::kOffsets:
      case State::kOffsetItems:
      case State::kMetadata:
      case State::kMetadataValue:
      case State::kEnd:
        return Fail("a name");
    }
    return false;
  }

  bool EndObject(rapidjson::SizeType) {
    switch (state_) {
      case State::kTop:
        state_ = State::kEnd;
        return true;
      case State::kFields:
        if (!seen_dtype_ || !seen_shape_ || !seen_offsets_) {
          return Problem(fmt::format("tensor \"{}\" lacks {}", current_.name,
                                     !seen_dtype_ ? "dtype" : (!seen_shape_ ? "shape" : "data_offsets")));
        }
        current_.shape = tensor::Shape(std::exchange(extents_, {}));
        entries_->push_back(std::move(current_));
        state_ = State::kTop;
        return true;
      case State::kMetadataKeys:
        state_ = State::kTop;
        return true;
      case State::kSkip:
        return EndSkipped();
      case State::kStart:
      case State::kTensor:
      case State::kDtype:
      case State::kShape:
      case State::kShapeItems:
      case State::kOffsets:
      case State::kOffsetItems:
      case State::kMetadata:
      case State::kMetadataValue:
      case State::kEnd:
        return Fail("the end of an object");
    }
    return false;
  }

  bool StartArray() {
    if (state_ == State::kShape) {
      extents_.clear();
      state_ = State::kShapeItems;
      return true;
    }
    if (state_ == State::kOffsets) {
      offset_count_ = 0;
      state_ = State::kOffsetItems;
      return true;
    }
    if (state_ != State::kSkip) return Fail("a list");
    ++skip_depth_;
    return true;
  }

  bool EndArray(rapidjson::SizeType) {
    if (state_ == State::kSkip) return EndSkipped();
    if (state_ == State::kOffsetItems && offset_count_ != 2) {
      return Problem(
          fmt::format("tensor \"{}\": data_offsets has {} numbers, not 2", current_.name, offset_count_));
    }
    state_ = State::kFields;
    return true;
  }

  bool String(const char* text, rapidjson::SizeType length, bool) {
    const std::string_view value(text, length);
    if (state_ == State::kDtype) {
      if (FindElementType(value) == nullptr) {
        return Problem(fmt::format("tensor \"{}\" has the unknown dtype \"{}\"", current_.name, value));
      }
      current_.dtype_name = std::string(value);
      current_.dtype = tensor::ParseSafetensorsDType(value);
      state_ = State::kFields;
      return true;
    }
    if (state_ == State::kMetadataValue) {
      metadata_->emplace(std::move(metadata_key_), value);
      state_ = State::kMetadataKeys;
      return true;
    }
    return Scalar("a text");
  }

  bool Uint64(uint64_t value) {
    if (state_ == State::kShapeItems) {
      if (value > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
        return Problem(
            fmt::format("tensor \"{}\" has the extent {}, which no tensor has", current_.name, value));
      }
      extents_.push_back(static_cast<int64_t>(value));
      return true;
    }
    if (state_ == State::kOffsetItems) {
      (offset_count_ == 0 ? current_.begin : current_.end) = value;
      ++offset_count_;
      return true;
    }
    return Scalar("a number");
  }

  bool Null() {
    if (state_ == State::kMetadata) {
      state_ = State::kTop;
      return true;
    }
    return Scalar("null");
  }
  bool Uint(unsigned value) { return Uint64(value); }
  bool Int(int) { return Scalar("a negative number"); }
  bool Int64(int64_t) { return Scalar("a negative number"); }
  bool Double(double) { return Scalar("a fraction"); }
  bool Bool(bool) { return Scalar("true or false"); }
  bool RawNumber(const char*, rapidjson::SizeType, bool) { return Scalar("a number"); }

 private:
  enum class State {
    kStart,   // before the outer object
    kTop,     // in it, before a name
    kTensor,  // before a tensor's object
    kFields,  // in it, before a field's name
    kDtype,   // before the three fields' values
    kShape,
    kShapeItems,
    kOffsets,
    kOffsetItems,
    kSkip,      // in the value of an unknown field
    kMetadata,  // before and in __metadata__
    kMetadataKeys,
    kMetadataValue,
    kEnd,
  };

  bool Problem(std::string text) {
    problem_ = std::move(text);
    return false;
  }
  bool Fail(std::string_view found) {
    if (state_ == State::kStart) return Problem(fmt::format("{} where the outer object belongs", found));
    return Problem(fmt::format("tensor \"{}\": {} where it does not belong", current_.name, found));
  }
  bool Once(bool* seen, State next, std::string_view key) {
    if (std::exchange(*seen, true))
      return Problem(fmt::format("tensor \"{}\" has {} twice", current_.name, key));
    state_ = next;
    return true;
  }
  bool Scalar(std::string_view found) {
    if (state_ != State::kSkip) return Fail(found);
    if (skip_depth_ == 0) state_ = State::kFields;
    return true;
  }
  bool EndSkipped() {
    if (--skip_depth_ == 0) state_ = State::kFields;
    return true;
  }

  std::vector<SafetensorsEntry>* entries_;
  std::map<std::string, std::string>* metadata_;
  State state_ = State::kStart;
  int64_t skip_depth_ = 0;
  std::set<std::string> names_;
  SafetensorsEntry current_;
  std::vector<int64_t> extents_;
  int offset_count_ = 0;
  bool seen_dtype_ = false, seen_shape_ = false, seen_offsets_ = false;
  std::string metadata_key_;
  std::string problem_;
};

}  // namespace

unsigned BitsPerElement(std::string_view dtype_name) {
  const ElementType* type = FindElementType(dtype_name);
  CHECK(type != nullptr);
  return type->bits;
}

void ParseSafetensorsJson(std::string_view text, std::string_view file, SafetensorsHeader& header) {
  // RapidJSON takes a NUL byte for the end; JSON has none.
  if (text.find('\0') != std::string_view::npos) {
    throw MakeError(ErrorKind::kCorrupt, "{}: header is not valid JSON: a NUL byte; get the file anew", file);
  }
  HeaderHandler handler(&header.entries, &header.metadata);
  rapidjson::MemoryStream stream(text.data(), text.size());
  rapidjson::GenericReader<rapidjson::UTF8<>, rapidjson::UTF8<>> reader;
  constexpr unsigned kFlags = rapidjson::kParseIterativeFlag | rapidjson::kParseValidateEncodingFlag;
  const rapidjson::ParseResult result = reader.Parse<kFlags>(stream, handler);
  if (!handler.problem().empty()) {
    throw MakeError(ErrorKind::kCorrupt, "{}: header: {}; get the file anew", file, handler.problem());
  }
  if (result.IsError()) {
    throw MakeError(ErrorKind::kCorrupt, "{}: header is not valid JSON: {} (at byte {}); get the file anew",
                    file, rapidjson::GetParseError_En(result.Code()), kTextAt + result.Offset());
  }
}

std::string SafetensorsJson(const std::vector<SafetensorsEntry>& entries,
                            const std::map<std::string, std::string>& metadata) {
  rapidjson::StringBuffer buffer;
  rapidjson::Writer<rapidjson::StringBuffer> writer(buffer);
  const auto text = [&writer](std::string_view value) {
    writer.String(value.data(), static_cast<rapidjson::SizeType>(value.size()));
  };
  writer.StartObject();
  if (!metadata.empty()) {
    writer.Key("__metadata__");
    writer.StartObject();
    for (const auto& [key, value] : metadata) text(key), text(value);
    writer.EndObject();
  }
  for (const SafetensorsEntry& entry : entries) {
    text(entry.name);
    writer.StartObject();
    writer.Key("dtype");
    text(entry.dtype_name);
    writer.Key("shape");
    writer.StartArray();
    for (const int64_t extent : entry.shape.extents()) writer.Int64(extent);
    writer.EndArray();
    writer.Key("data_offsets");
    writer.StartArray();
    writer.Uint64(entry.begin), writer.Uint64(entry.end);
    writer.EndArray();
    writer.EndObject();
  }
  writer.EndObject();
  return {buffer.GetString(), buffer.GetSize()};
}

}  // namespace preheat::checkpoint
