// preheat: all commands. The runtime-only binary is preheat_run_main.cc.
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <string>
#include <vector>

#include "base/error.h"
#include "cli/command.h"
#include "cli/exit_code.h"
#include "cli/suggest.h"
#include "cli/version.h"

namespace preheat::cli {
namespace {

struct Command {
  const char* name;
  const char* summary;
  int (*run)(const Words&);
};

constexpr Command kCommands[] = {
    {"build", "compile a model and write the artifact", BuildCommand},
    {"run", "generate text, preloading the artifact", RunCommand},
    {"compare", "cold starts with the artifact against cold starts without", CompareCommand},
    {"benchmark", "eager, preloaded and cold-compiled processes side by side", BenchmarkCommand},
    {"eager", "generate text with library kernels, nothing compiled", EagerCommand},
    {"logits", "write a prompt's logits to a file", LogitsCommand},
    {"synth", "write a random checkpoint of a real shape", SynthCommand},
    {"devices", "what this machine has and what code it runs", DevicesCommand},
    {"inspect", "what is in an artifact", InspectCommand},
    {"verify", "whether an artifact serves this machine and model", VerifyCommand},
    {"tokenize", "text to token ids and back, a JSON line each", TokenizeCommand},
};

void PrintUsage(std::FILE* out) {
  std::fputs(
      "usage: preheat COMMAND [OPTIONS]\n\nA portable compile cache for Llama: build once, start hot "
      "anywhere.\n\n",
      out);
  for (const Command& command : kCommands) std::fprintf(out, "  %-10s %s\n", command.name, command.summary);
  std::fputs("\nEvery command has --help. preheat --version prints the version.\n", out);
}

int Dispatch(const Words& words) {
  if (words.empty()) {
    PrintUsage(stderr);
    return kExitUsage;
  }
  const std::string& name = words.front();
  if (name == "--help" || name == "-h" || name == "help") {
    PrintUsage(stdout);
    return kExitDone;
  }
  if (name == "--version") {
    fmt::print("preheat {}\n", kVersion);
    return kExitDone;
  }
  std::vector<std::string> names;
  for (const Command& command : kCommands) {
    if (name == command.name) return command.run({words.begin() + 1, words.end()});
    names.emplace_back(command.name);
  }
  throw base::MakeError(base::ErrorKind::kInvalidArgument,
                        "unknown command {}: did you mean {}? See preheat --help", name,
                        Nearest(name, names));
}

}  // namespace
}  // namespace preheat::cli

int main(int argc, char** argv) {
  return preheat::cli::Guarded("preheat", preheat::cli::Dispatch, {argv + 1, argv + argc});
}
