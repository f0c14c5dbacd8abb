#include "hub/hub.h"

#include <algorithm>
#include <cctype>

#include "base/error.h"
#include "sys/env.h"
#include "sys/files.h"

namespace preheat::hub {
namespace {

using base::ErrorKind;
using base::MakeError;

bool IsNameCharacter(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_';
}

// Python's os.path.expandvars: names that are not set stay as they stand.
std::string ExpandVariables(const std::string& text) {
  std::string result;
  for (size_t at = 0; at < text.size();) {
    if (text[at] != '$') {
      result += text[at++];
      continue;
    }
    const bool braced = at + 1 < text.size() && text[at + 1] == '{';
    const size_t begin = at + (braced ? 2 : 1);
    size_t end = begin;
    while (end < text.size() && (braced ? text[end] != '}' : IsNameCharacter(text[end]))) ++end;
    const std::string name = text.substr(begin, end - begin);
    const size_t after = std::min(end + (braced ? 1 : 0), text.size());
    const std::optional<std::string> value = name.empty() ? std::nullopt : sys::GetEnv(name.c_str());
    result += value ? *value : text.substr(at, after - at);
    at = after;
  }
  return result;
}

std::optional<std::string> PathFromEnv(const char* name) {
  const std::optional<std::string> value = sys::GetEnv(name);
  if (!value) return std::nullopt;
  return sys::ExpandUser(ExpandVariables(*value));
}

bool IsCommit(std::string_view text) {
  return text.size() == 40 && std::all_of(text.begin(), text.end(), [](char c) {
           return std::isxdigit(static_cast<unsigned char>(c)) != 0;
         });
}

bool LooksLikeAPath(std::string_view id) {
  return id == "." || id == ".." || id == "~" || id.starts_with("/") || id.starts_with("./") ||
         id.starts_with("../") || id.starts_with("~/") || id.ends_with("/");
}

std::string Trimmed(std::string text) {
  while (!text.empty() && std::isspace(static_cast<unsigned char>(text.back())) != 0) text.pop_back();
  return text;
}

std::string RepoFolder(std::string_view id) {
  std::string name = "models--";
  for (const char c : id) name += c == '/' ? std::string("--") : std::string(1, c);
  return name;
}

}  // namespace

std::string HubCacheDir() {
  if (auto path = PathFromEnv("HF_HUB_CACHE")) return *path;
  if (auto path = PathFromEnv("HUGGINGFACE_HUB_CACHE")) return *path;
  if (auto path = PathFromEnv("HF_HOME")) return sys::JoinPath(*path, "hub");
  if (auto path = PathFromEnv("XDG_CACHE_HOME")) return sys::JoinPath(*path, "huggingface/hub");
  return sys::JoinPath(sys::HomeDir(), ".cache/huggingface/hub");
}

std::optional<std::string> RepoIdProblem(std::string_view id) {
  constexpr size_t kLongest = 96;
  if (id.empty() || id.size() > kLongest)
    return fmt::format("it has {} characters, not 1 to {}", id.size(), kLongest);
  const auto bad = std::find_if(
      id.begin(), id.end(), [](char c) { return !IsNameCharacter(c) && c != '-' && c != '.' && c != '/'; });
  if (bad != id.end()) return fmt::format("it holds '{}'; letters, digits and - _ . are allowed", *bad);
  if (std::count(id.begin(), id.end(), '/') > 1) return "it has more than one slash";
  if (id.find("--") != std::string_view::npos) return "it holds \"--\"";
  if (id.find("..") != std::string_view::npos) return "it holds \"..\"";
  if (id.ends_with(".git")) return "it ends in \".git\"";
  const size_t slash = id.find('/');
  for (const std::string_view part :
       {id.substr(0, slash), slash == std::string_view::npos ? id : id.substr(slash + 1)}) {
    if (part.empty()) return "a part of it is empty";
    if (part.front() == '-' || part.front() == '.' || part.back() == '-' || part.back() == '.') {
      return "a part of it starts or ends with - or .";
    }
  }
  return std::nullopt;
}

std::string ResolveModel(const std::string& model_id, const std::string& revision) {
  std::string path = sys::ExpandUser(model_id);
  if (!path.empty() && sys::IsFolder(path)) return path;
  if (LooksLikeAPath(model_id)) {
    throw MakeError(ErrorKind::kNotFound, "model: {}: {}; name a folder with config.json and safetensors",
                    model_id, sys::Exists(path) ? "is a file, not a folder" : "no such folder");
  }
  if (const std::optional<std::string> problem = RepoIdProblem(model_id)) {
    throw MakeError(ErrorKind::kInvalidArgument,
                    "model: \"{}\" is neither a folder nor a model id: {}; use a folder or an id like "
                    "meta-llama/Llama-3.2-3B-Instruct",
                    model_id, *problem);
  }
  const std::string repo = sys::JoinPath(HubCacheDir(), RepoFolder(model_id));
  std::string commit = revision;
  if (!IsCommit(commit)) {
    const std::string ref = sys::JoinPath(repo, "refs/" + revision);
    if (!sys::Exists(ref)) {
      throw MakeError(ErrorKind::kNotFound,
                      "model: {}: not a folder, and not in the hub cache: looked for {}; use a folder, or "
                      "run: hf download {}",
                      model_id, ref, model_id);
    }
    constexpr uint64_t kLongestRef = 4096;
    commit = Trimmed(sys::ReadFile(ref, kLongestRef));
    if (!IsCommit(commit)) {
      throw MakeError(ErrorKind::kCorrupt, "model: {}: {} holds no commit; run: hf download {}", model_id,
                      ref, model_id);
    }
  }
  std::string snapshot = sys::JoinPath(repo, "snapshots/" + commit);
  if (!sys::Exists(sys::JoinPath(snapshot, "config.json"))) {
    throw MakeError(
        ErrorKind::kNotFound,
        "model: {}: the hub cache has no config.json of it in {}; use a folder, or run: hf download {}",
        model_id, snapshot, model_id);
  }
  return snapshot;
}

}  // namespace preheat::hub
