#define RAPIDJSON_HAS_STDSTRING 1
#include <rapidjson/document.h>
#include <rapidjson/stringbuffer.h>
#include <rapidjson/writer.h>

#include <cstdio>
#include <iostream>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/json.h"
#include "cli/arguments.h"
#include "cli/command.h"
#include "cli/exit_code.h"
#include "cli/options.h"
#include "hub/hub.h"
#include "sys/files.h"
#include "tokenizer/tokenizer.h"

namespace preheat::cli {
namespace {

using base::ErrorKind;
using base::MakeError;

rapidjson::Document ParseLine(const std::string& line, int64_t number) {
  rapidjson::Document document;
  if (const auto fault = base::ParseJson(line, document, {.check_utf8 = false})) {
    throw MakeError(ErrorKind::kCorrupt, "line {} of standard input is not JSON (at byte {})", number,
                    fault->at);
  }
  return document;
}

std::string EncodeLine(const tokenizer::Tokenizer& tokenizer, const std::string& line, int64_t number,
                       const tokenizer::EncodeOptions& options) {
  const rapidjson::Document document = ParseLine(line, number);
  if (!document.IsString()) {
    throw MakeError(ErrorKind::kCorrupt,
                    "line {} of standard input is no JSON string; one text a line is expected", number);
  }
  std::string out = "[";
  for (int32_t id : tokenizer.Encode({document.GetString(), document.GetStringLength()}, options)) {
    if (out.size() > 1) out += ", ";
    out += std::to_string(id);
  }
  return out + "]";
}

std::string DecodeLine(const tokenizer::Tokenizer& tokenizer, const std::string& line, int64_t number) {
  const rapidjson::Document document = ParseLine(line, number);
  std::vector<int32_t> ids;
  bool good = document.IsArray();
  for (rapidjson::SizeType i = 0; good && i < document.Size(); ++i) {
    good = document[i].IsInt();
    if (!good) break;
    ids.push_back(document[i].GetInt());
    if (!tokenizer.HasToken(ids.back())) {
      throw MakeError(ErrorKind::kCorrupt, "line {} of standard input: id {} is no token of this model",
                      number, ids.back());
    }
  }
  if (!good) {
    throw MakeError(ErrorKind::kCorrupt, "line {} of standard input is no JSON list of ids", number);
  }
  rapidjson::StringBuffer buffer;
  rapidjson::Writer<rapidjson::StringBuffer> writer(buffer);
  writer.String(tokenizer.Decode(ids));
  return buffer.GetString();
}

}  // namespace

int TokenizeCommand(const Words& words) {
  std::string model_id = kDefaultModel;
  bool decode = false;
  bool parse_special = false;
  bool no_bos = false;
  bool json = false;
  DeviceOptions device;
  Arguments arguments("preheat tokenize",
                      "Standard input to standard output: a JSON string a line to a JSON list of ids.");
  arguments.Text("--model-id", model_id, "A folder, or a model of the local hub cache");
  arguments.Flag("--decode", decode, "The other way: lists of ids to strings, special tokens kept");
  arguments.Flag("--parse-special", parse_special, "The text of a special token becomes the token");
  arguments.Flag("--no-bos", no_bos, "Put no BOS before the text");
  arguments.Flag("--json", json, "Print one JSON list of all results");
  AddDeviceOptions(arguments, device);
  if (arguments.Parse(words) == Arguments::Outcome::kHelpShown) return kExitDone;
  ApplyDeviceOptions(device);

  const std::string path = hub::ResolveModel(model_id) + "/tokenizer.json";
  const auto tokenizer = tokenizer::Tokenizer::Parse(sys::ReadFile(path), path);
  std::string line;
  std::string list;  // with --json: nothing is printed before all is known to be good
  for (int64_t number = 1; std::getline(std::cin, line); ++number) {
    const std::string result =
        decode ? DecodeLine(tokenizer, line, number)
               : EncodeLine(tokenizer, line, number, {.add_bos = !no_bos, .parse_special = parse_special});
    if (json) {
      list += (number > 1 ? ",\n" : "") + result;
    } else {
      std::puts(result.c_str());
    }
  }
  if (json) std::printf("[%s]\n", list.c_str());
  return kExitDone;
}

}  // namespace preheat::cli
