// From what a user calls a model to a folder on this machine: an existing folder is itself, everything else
// is looked up in the local Hugging Face hub cache. Reads only, and never uses the network.
//
// Cache layout: CACHE/models--OWNER--NAME/refs/REVISION holds a commit (40 hex digits), snapshots/COMMIT/ the
// files, most often links to ../../blobs. Files are opened through the snapshot, so that any kind or number
// of links works. Source: huggingface hub-docs, docs/hub/local-cache.md; huggingface_hub constants.py and
// utils/_validators.py.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace preheat::hub {

// HF_HUB_CACHE, else HUGGINGFACE_HUB_CACHE, else HF_HOME/hub, else XDG_CACHE_HOME/huggingface/hub, else
// ~/.cache/huggingface/hub. A leading "~", $NAME and ${NAME} inside the values are expanded; an empty
// variable is none.
std::string HubCacheDir();

// 1 to 96 characters of [A-Za-z0-9-_.], at most one slash, no "--", no "..", not ending in ".git", neither
// part starting or ending with "-" or ".". nullopt where that holds, else what is wrong.
std::optional<std::string> RepoIdProblem(std::string_view id);

// The folder of a model that is a folder, or is in the cache. A path that is no folder (it starts with "/",
// "./", "../" or "~") and a model that is not cached are kNotFound, which says where it was looked for and
// what to do; an id that no model can have is kInvalidArgument; a broken cache entry (a ref that is no
// commit) is kCorrupt.
std::string ResolveModel(const std::string& model_id, const std::string& revision = "main");

}  // namespace preheat::hub
