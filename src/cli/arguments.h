// The command line of one command: CLI11 underneath, with our rules on top. A repeated option: the last one
// wins. An unknown option or value is a usage error that names the nearest valid one.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace preheat::cli {

class Arguments {
 public:
  // `command` and `summary` head the help text.
  Arguments(const std::string& command, const std::string& summary);
  ~Arguments();

  void Group(const std::string& name) { group_ = name; }  // heads the options that follow, in the help text

  void Text(const std::string& name, std::string& value, const std::string& help);
  void Count(const std::string& name, int64_t& value, int64_t least, const std::string& help);
  void Number(const std::string& name, double& value, double least, double most, const std::string& help);
  void Choice(const std::string& name, std::string& value, const std::vector<std::string>& valid,
              const std::string& help);
  // --name sets it.
  void Flag(const std::string& name, bool& value, const std::string& help);
  // --name sets it, --no-name clears it; for two other names give both: "--chat", "--raw".
  void Switch(const std::string& name, bool& value, const std::string& help);
  void Switch(const std::string& on, const std::string& off, bool& value, const std::string& help);
  // A word that is no option.
  void Positional(const std::string& name, std::string& value, const std::string& help);

  // True where one of the names was given.
  bool Given(const std::string& name) const;

  enum class Outcome { kRun, kHelpShown };
  // Reads `words` (without program and command). kHelpShown: --help was asked for and printed.
  // Errors: InvalidArgument with the message for the user.
  Outcome Parse(const std::vector<std::string>& words);

 private:
  struct Parser;  // CLI11, kept out of every command's compile time

  std::string NearestOption(const std::string& typed) const;

  std::string command_;
  std::unique_ptr<Parser> parser_;
  std::string group_ = "Options";
};

// "128, 256,,512" -> 128, 256, 512: blanks and empty items are skipped, repeats dropped, sorted. Errors:
// InvalidArgument, naming the option, for a number <= 0, something that is no number, or (unless
// `may_be_empty`) nothing at all.
std::vector<int64_t> ParseLengths(const std::string& option, const std::string& text, bool may_be_empty);
// "1,2,3" -> ids >= 0, in order, not empty.
std::vector<int32_t> ParseIds(const std::string& option, const std::string& text);

}  // namespace preheat::cli
