#include "tokenizer/definition_json.h"

namespace preheat::tokenizer {

using base::Error;
using base::ErrorKind;
using base::MakeError;

Field Field::Member(const char* name) const {
  if (!IsObject()) ThrowType("an object");
  const std::string path = path_.empty() ? name : path_ + "." + name;
  const json::Value* found = nullptr;
  for (auto it = value_->MemberBegin(); it != value_->MemberEnd(); ++it) {
    if (std::string_view(it->name.GetString(), it->name.GetStringLength()) != name) continue;
    if (found != nullptr) throw Field(found, source_, path).Corrupt("stands twice");
    found = &it->value;
  }
  return Field(found, source_, path);
}

std::vector<Field> Field::Elements() const {
  if (value_ == nullptr || !value_->IsArray()) ThrowType("an array");
  std::vector<Field> elements;
  for (json::SizeType i = 0; i < value_->Size(); ++i) {
    elements.emplace_back(&(*value_)[i], source_, fmt::format("{}[{}]", path_, i));
  }
  return elements;
}

std::string Field::String() const {
  if (!IsString()) ThrowType("a string");
  return std::string(value_->GetString(), value_->GetStringLength());
}

uint32_t Field::Id() const {
  if (value_ == nullptr || !value_->IsUint()) ThrowType("an id");
  return value_->GetUint();
}

bool Field::Bool() const {
  if (value_ == nullptr || !value_->IsBool()) ThrowType("true or false");
  return value_->GetBool();
}

Error Field::Corrupt(std::string_view message) const {
  return MakeError(ErrorKind::kCorrupt, "{}: {}: {}; fetch the file again", source_,
                   path_.empty() ? "top level" : path_, message);
}

Error Field::Unsupported(std::string_view message) const {
  return MakeError(ErrorKind::kUnsupported, "{}: {}: {}; preheat supports byte-level BPE as Llama 3 uses it",
                   source_, path_, message);
}

void Field::ThrowType(std::string_view wanted) const {
  throw Corrupt(
      fmt::format("{}, where {} belongs", value_ == nullptr ? "missing" : "another kind of value", wanted));
}

namespace {

// GPT-2's pattern (2019: encoder.py), which ByteLevel applies where use_regex is true.
constexpr const char* kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

void RequireType(const Field& field, std::string_view type) {
  const Field found = field.Member("type");
  if (found.String() != type) {
    throw found.Unsupported(fmt::format("\"{}\" is not supported, only \"{}\"", found.String(), type));
  }
}

// The elements of a Sequence in `list`, or the one thing itself.
std::vector<Field> Flatten(const Field& field, const char* list) {
  if (field.Member("type").String() != "Sequence") return {field};
  return field.Member(list).Elements();
}

void ReadSplit(const Field& split, Definition* definition) {
  const Field behavior = split.Member("behavior");
  if (behavior.String() != "Isolated") {
    throw behavior.Unsupported(fmt::format("\"{}\" is not supported, only \"Isolated\"", behavior.String()));
  }
  if (split.Member("invert").BoolOr(false)) throw split.Member("invert").Unsupported("true is not supported");
  const Field regex = split.Member("pattern").Member("Regex");
  if (regex.IsNull()) throw split.Member("pattern").Unsupported("only a Regex is supported");
  definition->patterns.push_back(regex.String());
}

void ReadPreTokenizer(const Field& pre_tokenizer, Definition* definition) {
  if (pre_tokenizer.IsNull()) throw pre_tokenizer.Unsupported("null is not supported, ByteLevel is needed");
  bool byte_level = false;
  for (const Field& step : Flatten(pre_tokenizer, "pretokenizers")) {
    const std::string type = step.Member("type").String();
    if (byte_level) throw step.Unsupported("a step after ByteLevel is not supported");
    if (type == "Split") {
      ReadSplit(step, definition);
    } else if (type == "Digits") {
      definition->patterns.push_back(step.Member("individual_digits").BoolOr(false) ? R"(\p{N})"
                                                                                    : R"(\p{N}+)");
    } else if (type == "ByteLevel") {
      if (const Field space = step.Member("add_prefix_space"); space.Bool()) {
        throw space.Unsupported("true is not supported");
      }
      if (step.Member("use_regex").BoolOr(true)) definition->patterns.emplace_back(kGpt2Pattern);
      byte_level = true;
    } else {
      throw step.Member("type").Unsupported(fmt::format("\"{}\" is not supported", type));
    }
  }
  if (!byte_level) throw pre_tokenizer.Unsupported("ByteLevel is missing");
}

void ReadTemplate(const Field& processor, Definition* definition) {
  bool sequence_seen = false;
  for (const Field& item : processor.Member("single").Elements()) {
    if (!item.Member("Sequence").IsNull()) {
      if (sequence_seen) throw item.Unsupported("the text twice is not supported");
      sequence_seen = true;
      continue;
    }
    const std::string name = item.Member("SpecialToken").Member("id").String();
    if (sequence_seen) throw item.Unsupported(fmt::format("\"{}\" after the text is not supported", name));
    if (definition->bos_id) throw item.Unsupported("more than one token before the text is not supported");
    const Field ids = processor.Member("special_tokens").Member(name.c_str()).Member("ids");
    const std::vector<Field> elements = ids.Elements();
    if (elements.size() != 1) throw ids.Unsupported("other than one id is not supported");
    definition->bos_id = elements[0].Id();
  }
  if (!sequence_seen)
    throw processor.Member("single").Unsupported("a template without the text is not supported");
}

void ReadPostProcessor(const Field& post_processor, Definition* definition) {
  if (post_processor.IsNull()) return;
  bool template_seen = false;
  for (const Field& step : Flatten(post_processor, "processors")) {
    const std::string type = step.Member("type").String();
    if (type == "ByteLevel") continue;  // changes offsets only
    if (type != "TemplateProcessing") {
      throw step.Member("type").Unsupported(fmt::format("\"{}\" is not supported", type));
    }
    if (template_seen) throw step.Unsupported("a second TemplateProcessing is not supported");
    template_seen = true;
    ReadTemplate(step, definition);
  }
}

void ReadModel(const Field& model, Definition* definition) {
  RequireType(model, "BPE");
  for (const char* name : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    const Field affix = model.Member(name);
    if (!affix.IsNull() && !affix.String().empty()) throw affix.Unsupported("not supported");
  }
  if (!model.Member("dropout").IsNull()) throw model.Member("dropout").Unsupported("not supported");
  if (model.Member("byte_fallback").BoolOr(false)) {
    throw model.Member("byte_fallback").Unsupported("true is not supported");
  }
  if (!model.Member("vocab").IsObject()) throw model.Member("vocab").Corrupt("not an object");
  model.Member("merges").Elements();  // an array
  definition->ignore_merges = model.Member("ignore_merges").BoolOr(false);
}

void ReadAddedTokens(const Field& added_tokens, Definition* definition) {
  if (added_tokens.IsNull()) return;
  for (const Field& token : added_tokens.Elements()) {
    for (const char* name : {"single_word", "lstrip", "rstrip"}) {
      if (token.Member(name).BoolOr(false)) throw token.Member(name).Unsupported("true is not supported");
    }
    const bool special = token.Member("special").BoolOr(false);
    definition->added.push_back({.content = token.Member("content").String(),
                                 .id = token.Member("id").Id(),
                                 .special = special,
                                 .normalized = token.Member("normalized").BoolOr(!special)});
  }
}

}  // namespace

void ReadFields(const Field& root, Definition* definition) {
  if (!root.IsObject()) throw root.Corrupt("not a JSON object");
  ReadModel(root.Member("model"), definition);
  if (const Field normalizer = root.Member("normalizer"); !normalizer.IsNull()) {
    throw normalizer.Unsupported(
        fmt::format("\"{}\" is not supported, only null", normalizer.Member("type").String()));
  }
  ReadPreTokenizer(root.Member("pre_tokenizer"), definition);
  ReadPostProcessor(root.Member("post_processor"), definition);
  const Field decoder = root.Member("decoder");
  if (decoder.IsNull()) throw decoder.Unsupported("null is not supported, only ByteLevel");
  RequireType(decoder, "ByteLevel");
  ReadAddedTokens(root.Member("added_tokens"), definition);
}

}  // namespace preheat::tokenizer
