// Brings two artifacts of one model together, e.g. built for other targets or tuned on other machines.
#pragma once

#include "artifact/artifact.h"
#include "artifact/writer.h"

namespace preheat::artifact {

enum class MergeRule {
  kRefuse,        // the same key with different bytes is kIncompatible, naming it
  kPreferSecond,  // the second artifact's bytes win
};

// All entries of both, nothing lost: targets, lengths and compilers are united, notes of `second` win. Both
// must be of one model (config hash), dtype and mode, and of equal versions; otherwise kIncompatible naming
// what differs. Signatures do not survive: the result is another file.
ArtifactWriter Merge(Artifact& first, Artifact& second, MergeRule rule = MergeRule::kRefuse);

}  // namespace preheat::artifact
