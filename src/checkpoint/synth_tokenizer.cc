#include "checkpoint/synth_tokenizer.h"

#include <rapidjson/prettywriter.h>
#include <rapidjson/stringbuffer.h>
#include <rapidjson/writer.h>

#include <algorithm>
#include <map>
#include <set>
#include <string_view>

#include "base/check.h"
#include "base/error.h"

namespace preheat::checkpoint {
namespace {

constexpr int64_t kByteTokens = 256;
constexpr std::string_view kBos = "<|begin_of_text|>";
constexpr std::string_view kEos = "<|end_of_text|>";
constexpr std::string_view kPad = "<|pad|>";
// Llama 3's own: where text is cut changes nothing without merges, but costs what it costs a real model.
constexpr std::string_view kSplitPattern =
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| "
    "?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|"
    "\\s+(?!\\S)|\\s+";

// Names of special tokens by id.
std::map<int64_t, std::string> SpecialTokens(const ModelConfig& config) {
  std::map<int64_t, std::string> tokens;
  tokens.emplace(config.bos_token_id.value(), kBos);
  for (size_t i = 0; i < config.eos_token_ids.size(); ++i) {
    tokens.emplace(config.eos_token_ids[i], i == 0 ? std::string(kEos) : fmt::format("<|end_{}|>", i));
  }
  if (config.pad_token_id) tokens.emplace(*config.pad_token_id, kPad);
  return tokens;
}

void AppendUtf8(uint32_t code_point, std::string* text) {
  if (code_point < 0x80) {
    *text += static_cast<char>(code_point);
  } else {  // all below U+0800
    *text += static_cast<char>(0xc0 | (code_point >> 6));
    *text += static_cast<char>(0x80 | (code_point & 0x3f));
  }
}

// GPT-2's spelling of a byte: printable Latin-1 stands for itself, the others for U+0100 onwards in their
// order.
std::vector<std::string> ByteSpellings() {
  std::vector<std::string> spellings;
  uint32_t next = 0x100;
  for (uint32_t byte = 0; byte < kByteTokens; ++byte) {
    const bool printable = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
    std::string text;
    AppendUtf8(printable ? byte : next++, &text);
    spellings.push_back(std::move(text));
  }
  return spellings;
}

template <typename Writer>
void Text(std::string_view value, Writer* writer) {
  writer->String(value.data(), static_cast<rapidjson::SizeType>(value.size()));
}

template <typename Writer>
void Field(const char* name, std::string_view value, Writer* writer) {
  writer->Key(name);
  Text(value, writer);
}

template <typename Writer>
void Flag(const char* name, bool value, Writer* writer) {
  writer->Key(name);
  writer->Bool(value);
}

using CompactWriter = rapidjson::Writer<rapidjson::StringBuffer>;

void WriteByteLevel(CompactWriter* writer) {
  writer->StartObject();
  Field("type", "ByteLevel", writer);
  Flag("add_prefix_space", false, writer);
  Flag("trim_offsets", true, writer);
  Flag("use_regex", false, writer);
  writer->EndObject();
}

void WritePreTokenizer(CompactWriter* writer) {
  writer->StartObject();
  Field("type", "Sequence", writer);
  writer->Key("pretokenizers");
  writer->StartArray();
  writer->StartObject();
  Field("type", "Split", writer);
  writer->Key("pattern");
  writer->StartObject();
  Field("Regex", kSplitPattern, writer);
  writer->EndObject();
  Field("behavior", "Isolated", writer);
  Flag("invert", false, writer);
  writer->EndObject();
  WriteByteLevel(writer);
  writer->EndArray();
  writer->EndObject();
}

// {"SpecialToken" or "Sequence": {"id": ..., "type_id": ...}}.
void WritePiece(const char* kind, std::string_view id, int type_id, CompactWriter* writer) {
  writer->StartObject();
  writer->Key(kind);
  writer->StartObject();
  Field("id", id, writer);
  writer->Key("type_id");
  writer->Int(type_id);
  writer->EndObject();
  writer->EndObject();
}

// Puts BOS before the text, as Llama 3's does.
void WritePostProcessor(int64_t bos, CompactWriter* writer) {
  writer->StartObject();
  Field("type", "Sequence", writer);
  writer->Key("processors");
  writer->StartArray();
  WriteByteLevel(writer);
  writer->StartObject();
  Field("type", "TemplateProcessing", writer);
  writer->Key("single");
  writer->StartArray();
  WritePiece("SpecialToken", kBos, 0, writer);
  WritePiece("Sequence", "A", 0, writer);
  writer->EndArray();
  writer->Key("pair");
  writer->StartArray();
  WritePiece("SpecialToken", kBos, 0, writer);
  WritePiece("Sequence", "A", 0, writer);
  WritePiece("SpecialToken", kBos, 1, writer);
  WritePiece("Sequence", "B", 1, writer);
  writer->EndArray();
  writer->Key("special_tokens");
  writer->StartObject();
  writer->Key(kBos.data());
  writer->StartObject();
  Field("id", kBos, writer);
  writer->Key("ids"), writer->StartArray(), writer->Int64(bos), writer->EndArray();
  writer->Key("tokens"), writer->StartArray(), Text(kBos, writer), writer->EndArray();
  writer->EndObject();
  writer->EndObject();
  writer->EndObject();
  writer->EndArray();
  writer->EndObject();
}

void WriteAddedTokens(const std::map<int64_t, std::string>& special, CompactWriter* writer) {
  writer->StartArray();
  for (const auto& [id, name] : special) {
    writer->StartObject();
    writer->Key("id"), writer->Int64(id);
    Field("content", name, writer);
    for (const char* flag : {"single_word", "lstrip", "rstrip", "normalized"}) Flag(flag, false, writer);
    Flag("special", true, writer);
    writer->EndObject();
  }
  writer->EndArray();
}

// Special tokens stand in the vocabulary, too: their ids need not be the last ones, and a tokenizer gives an
// added token that is not in the vocabulary the next free id.
void WriteModel(const ModelConfig& config, const std::map<int64_t, std::string>& special,
                CompactWriter* writer) {
  writer->StartObject();
  Field("type", "BPE", writer);
  for (const char* name : {"dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix"}) {
    writer->Key(name);
    writer->Null();
  }
  for (const char* name : {"fuse_unk", "byte_fallback", "ignore_merges"}) Flag(name, false, writer);
  writer->Key("vocab");
  writer->StartObject();
  const std::vector<std::string> bytes = ByteSpellings();
  for (int64_t id = 0; id < config.vocab_size; ++id) {
    const auto found = special.find(id);
    std::string name = id < kByteTokens ? bytes[static_cast<size_t>(id)] : fmt::format("\u0120t{}", id);
    if (found != special.end()) name = found->second;
    writer->Key(name.c_str(), static_cast<rapidjson::SizeType>(name.size()));
    writer->Int64(id);
  }
  writer->EndObject();
  writer->Key("merges"), writer->StartArray(), writer->EndArray();
  writer->EndObject();
}

}  // namespace

ModelConfig WithByteLevelTokenIds(ModelConfig config) {
  CHECK(config.vocab_size >= kByteTokens + 2);
  std::set<int64_t> used;
  const auto fits = [&](int64_t id) {
    return id >= kByteTokens && id < config.vocab_size && used.insert(id).second;
  };
  bool good = config.bos_token_id && fits(*config.bos_token_id) && !config.eos_token_ids.empty();
  for (const int64_t id : config.eos_token_ids) good = good && fits(id);
  if (!good) {
    config.bos_token_id = config.vocab_size - 2;
    config.eos_token_ids = {config.vocab_size - 1};
    used = {config.vocab_size - 2, config.vocab_size - 1};
  }
  if (config.pad_token_id && !fits(*config.pad_token_id)) config.pad_token_id = std::nullopt;
  return config;
}

std::string SynthTokenizerJson(const ModelConfig& config) {
  const std::map<int64_t, std::string> special = SpecialTokens(config);
  rapidjson::StringBuffer buffer;
  CompactWriter writer(buffer);
  writer.StartObject();
  Field("version", "1.0", &writer);
  writer.Key("truncation"), writer.Null();
  writer.Key("padding"), writer.Null();
  writer.Key("added_tokens"), WriteAddedTokens(special, &writer);
  writer.Key("normalizer"), writer.Null();
  writer.Key("pre_tokenizer"), WritePreTokenizer(&writer);
  writer.Key("post_processor"), WritePostProcessor(config.bos_token_id.value(), &writer);
  writer.Key("decoder"), WriteByteLevel(&writer);
  writer.Key("model"), WriteModel(config, special, &writer);
  writer.EndObject();
  return std::string(buffer.GetString(), buffer.GetSize()) + "\n";
}

std::string SynthTokenizerConfigJson(const ModelConfig& config) {
  rapidjson::StringBuffer buffer;
  rapidjson::PrettyWriter<rapidjson::StringBuffer> writer(buffer);
  writer.SetIndent(' ', 2);
  writer.StartObject();
  Field("bos_token", kBos, &writer);
  Flag("clean_up_tokenization_spaces", false, &writer);
  Field("eos_token", kEos, &writer);
  writer.Key("model_input_names");
  writer.StartArray(), Text("input_ids", &writer), Text("attention_mask", &writer), writer.EndArray();
  writer.Key("model_max_length"), writer.Int64(config.max_position_embeddings);
  if (config.pad_token_id) Field("pad_token", kPad, &writer);
  Field("tokenizer_class", "PreTrainedTokenizerFast", &writer);
  writer.EndObject();
  return std::string(buffer.GetString(), buffer.GetSize()) + "\n";
}

std::string SynthGenerationConfigJson(const ModelConfig& config) {
  return fmt::format(
      "{{\n  \"bos_token_id\": {},\n  \"do_sample\": true,\n  \"eos_token_id\": [{}],\n  \"temperature\": "
      "0.6,\n"
      "  \"top_p\": 0.9,\n  \"transformers_version\": \"4.57.5\"\n}}\n",
      config.bos_token_id.value(), fmt::join(config.eos_token_ids, ", "));
}

}  // namespace preheat::checkpoint
