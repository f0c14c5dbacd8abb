// The commands, one file each. Each takes the words after its name and returns the exit code; errors are
// thrown.
#pragma once

#include <string>
#include <vector>

namespace preheat::cli {

using Words = std::vector<std::string>;

int BuildCommand(const Words& words);
int RunCommand(const Words& words);      // run
int CompareCommand(const Words& words);  // compare = run --compare-load-vs-skip
int EagerCommand(const Words& words);    // eager = run --execution eager
int BenchmarkCommand(const Words& words);
int LogitsCommand(const Words& words);
int SynthCommand(const Words& words);
int DevicesCommand(const Words& words);
int InspectCommand(const Words& words);
int VerifyCommand(const Words& words);
int TokenizeCommand(const Words& words);

// Calls `run` and turns errors into a message on stderr and an exit code.
int Guarded(const std::string& program, int (*run)(const Words&), const Words& words);

}  // namespace preheat::cli
