#include "cli/arguments.h"

#include <CLI/CLI.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <limits>
#include <utility>

#include "base/error.h"
#include "cli/suggest.h"

namespace preheat::cli {
namespace {

using base::ErrorKind;
using base::MakeError;

// The whole of `text` as a number, or nothing.
template <typename T>
bool ReadNumber(std::string_view text, T& value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size();
}

std::string Trimmed(std::string_view text) {
  const auto blank = [](char c) { return c == ' ' || c == '\t' || c == '\n'; };
  while (!text.empty() && blank(text.front())) text.remove_prefix(1);
  while (!text.empty() && blank(text.back())) text.remove_suffix(1);
  return std::string(text);
}

std::vector<std::string> NonEmptyItems(const std::string& text) {
  std::vector<std::string> items;
  size_t begin = 0;
  while (begin <= text.size()) {
    const size_t end = std::min(text.find(',', begin), text.size());
    std::string item = Trimmed(std::string_view(text).substr(begin, end - begin));
    if (!item.empty()) items.push_back(std::move(item));
    begin = end + 1;
  }
  return items;
}

}  // namespace

struct Arguments::Parser {
  Parser(const std::string& summary, const std::string& command) : app(summary, command) {}

  CLI::Option* Add(CLI::Option* option, const std::string& group) {
    return option->group(group)->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
  }

  CLI::App app;
};

Arguments::Arguments(const std::string& command, const std::string& summary)
    : command_(command), parser_(std::make_unique<Parser>(summary, command)) {
  parser_->app.set_help_flag("-h,--help", "Print this help and exit");
  parser_->app.allow_extras();  // so that we can name the nearest option ourselves
}

Arguments::~Arguments() = default;

void Arguments::Text(const std::string& name, std::string& value, const std::string& help) {
  parser_->Add(parser_->app.add_option(name, value, help), group_)->capture_default_str();
}

void Arguments::Count(const std::string& name, int64_t& value, int64_t least, const std::string& help) {
  const auto read = [&value, least, name](const std::string& text) {
    int64_t number = 0;
    if (!ReadNumber(text, number) || number < least) {
      throw MakeError(ErrorKind::kInvalidArgument, "{} {}: needs a whole number of at least {}", name, text,
                      least);
    }
    value = number;
  };
  parser_->Add(parser_->app.add_option_function<std::string>(name, read, help), group_)
      ->type_name("N")
      ->default_str(std::to_string(value));
}

void Arguments::Number(const std::string& name, double& value, double least, double most,
                       const std::string& help) {
  const auto read = [&value, least, most, name](const std::string& text) {
    double number = 0;
    if (!ReadNumber(text, number) || !(number >= least && number <= most)) {
      const std::string range =
          std::isinf(most) ? fmt::format("of at least {}", least) : fmt::format("from {} to {}", least, most);
      throw MakeError(ErrorKind::kInvalidArgument, "{} {}: needs a number {}", name, text, range);
    }
    value = number;
  };
  parser_->Add(parser_->app.add_option_function<std::string>(name, read, help), group_)
      ->type_name("X")
      ->default_str(fmt::format("{}", value));
}

void Arguments::Choice(const std::string& name, std::string& value, const std::vector<std::string>& valid,
                       const std::string& help) {
  const auto read = [&value, valid, name](const std::string& text) {
    if (std::find(valid.begin(), valid.end(), text) == valid.end()) {
      throw MakeError(ErrorKind::kInvalidArgument, "{} {}: did you mean {}? Valid values: {}", name, text,
                      Nearest(text, valid), fmt::join(valid, ", "));
    }
    value = text;
  };
  parser_->Add(parser_->app.add_option_function<std::string>(name, read, help), group_)
      ->type_name(fmt::format("{}", fmt::join(valid, "|")))
      ->default_str(value);
}

void Arguments::Flag(const std::string& name, bool& value, const std::string& help) {
  parser_->Add(parser_->app.add_flag(name, value, help), group_);
}

void Arguments::Switch(const std::string& name, bool& value, const std::string& help) {
  Switch("--" + name, "--no-" + name, value, help);
}

void Arguments::Switch(const std::string& on, const std::string& off, bool& value, const std::string& help) {
  parser_->Add(
      parser_->app.add_flag(on + ",!" + off, value,
                            fmt::format("{} (on unless said otherwise: {})", help, value ? "yes" : "no")),
      group_);
}

void Arguments::Positional(const std::string& name, std::string& value, const std::string& help) {
  parser_->Add(parser_->app.add_option(name, value, help), group_)->required();
}

bool Arguments::Given(const std::string& name) const {
  return parser_->app.count(name) > 0;
}

std::string Arguments::NearestOption(const std::string& typed) const {
  std::vector<std::string> names;
  for (const CLI::Option* option : parser_->app.get_options()) {
    for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
    for (const std::string& name : option->get_fnames()) names.push_back("--" + name);
  }
  return Nearest(typed.substr(0, typed.find('=')), names);
}

Arguments::Outcome Arguments::Parse(const std::vector<std::string>& words) {
  std::vector<std::string> reversed(words.rbegin(), words.rend());  // CLI11 takes them from the back
  try {
    parser_->app.parse(std::move(reversed));
  } catch (const CLI::CallForHelp&) {
    std::fputs(parser_->app.help().c_str(), stdout);
    return Outcome::kHelpShown;
  } catch (const CLI::ParseError& error) {
    throw MakeError(ErrorKind::kInvalidArgument, "{}; see {} --help", error.what(), command_);
  }
  const std::vector<std::string> extras = parser_->app.remaining();
  if (extras.empty()) return Outcome::kRun;
  const std::string& extra = extras.front();
  if (extra.size() > 1 && extra[0] == '-') {
    throw MakeError(ErrorKind::kInvalidArgument, "unknown option {}: did you mean {}? See {} --help", extra,
                    NearestOption(extra), command_);
  }
  throw MakeError(ErrorKind::kInvalidArgument, "unexpected argument {}; see {} --help", extra, command_);
}

std::vector<int64_t> ParseLengths(const std::string& option, const std::string& text, bool may_be_empty) {
  std::vector<int64_t> lengths;
  for (const std::string& item : NonEmptyItems(text)) {
    int64_t length = 0;
    if (!ReadNumber(item, length) || length <= 0) {
      throw MakeError(ErrorKind::kInvalidArgument, "{} {}: \"{}\" is no positive whole number", option, text,
                      item);
    }
    lengths.push_back(length);
  }
  if (lengths.empty() && !may_be_empty) {
    throw MakeError(ErrorKind::kInvalidArgument, "{} \"{}\": needs at least one length, e.g. 128,256", option,
                    text);
  }
  std::sort(lengths.begin(), lengths.end());
  lengths.erase(std::unique(lengths.begin(), lengths.end()), lengths.end());
  return lengths;
}

std::vector<int32_t> ParseIds(const std::string& option, const std::string& text) {
  std::vector<int32_t> ids;
  for (const std::string& item : NonEmptyItems(text)) {
    int32_t id = 0;
    if (!ReadNumber(item, id) || id < 0) {
      throw MakeError(ErrorKind::kInvalidArgument, "{}: \"{}\" is no token id", option, item);
    }
    ids.push_back(id);
  }
  if (ids.empty())
    throw MakeError(ErrorKind::kInvalidArgument, "{} \"{}\": needs at least one id", option, text);
  return ids;
}

}  // namespace preheat::cli
