#include "toolchain/unit_jobs.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <functional>
#include <mutex>
#include <numeric>
#include <sstream>
#include <thread>

#include "base/check.h"
#include "base/error.h"
#include "sys/cpu.h"
#include "sys/env.h"
#include "sys/files.h"
#include "toolchain/host_compiler.h"
#include "toolchain/nvrtc.h"

namespace preheat::toolchain {
namespace {

std::atomic<int64_t> compiled_units{0};

bool IsUnitName(std::string_view name) {
  return !name.empty() && name[0] != '.' && std::ranges::all_of(name, [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '-' || c == '.';
  });
}

}  // namespace

std::vector<CompiledUnit> CompileSideBySide(const std::vector<Unit>& units, const CompileOptions& options,
                                            const std::function<CompiledUnit(const Unit&, size_t)>& compile) {
  for (const Unit& unit : units) CHECK(IsUnitName(unit.name));
  // The longest texts first: none of them is left to be waited for alone.
  std::vector<size_t> order(units.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::ranges::stable_sort(order, std::greater(), [&](size_t i) { return units[i].source.size(); });
  std::vector<CompiledUnit> compiled(units.size());
  std::vector<std::exception_ptr> errors(units.size());
  std::atomic<size_t> next{0};
  std::atomic<bool> stop{false};
  std::mutex callback_mutex;
  const auto work = [&] {
    for (size_t n = next.fetch_add(1); n < units.size() && !stop; n = next.fetch_add(1)) {
      const size_t i = order[n];
      try {
        ++compiled_units;
        compiled[i] = compile(units[i], i);
        const std::lock_guard<std::mutex> lock(callback_mutex);
        if (options.on_compiled) options.on_compiled(i, compiled[i]);
      } catch (...) {
        errors[i] = std::current_exception();
        stop = true;
      }
    }
  };
  const size_t jobs =
      options.jobs > 0 ? static_cast<size_t>(options.jobs) : static_cast<size_t>(sys::AvailableThreads());
  std::vector<std::thread> threads;
  for (size_t i = 1; i < std::min(jobs, units.size()); ++i) threads.emplace_back(work);
  work();
  for (std::thread& thread : threads) thread.join();
  for (const std::exception_ptr& error : errors) {
    if (error) std::rethrow_exception(error);
  }
  return compiled;
}

int64_t CompiledUnits() {
  return compiled_units.load();
}

std::unique_ptr<Compiler> FindCompiler(std::string_view target) {
  if (IsNvrtcTarget(target)) return std::make_unique<Nvrtc>(Nvrtc::Find());
  return std::make_unique<HostCompiler>(HostCompiler::Find());
}

std::string KeepSource(const Unit& unit, const CompileOptions& options, std::string_view suffix) {
  const std::string folder =
      options.keep_folder.empty() ? sys::JoinPath(sys::TempDir(), "preheat-failed") : options.keep_folder;
  const std::string path = sys::JoinPath(folder, unit.name + std::string(suffix));
  try {
    sys::MakeDirs(folder);
    sys::WriteFileAtomic(path, std::string_view(unit.source));
    return "the source was kept in " + path;
  } catch (const base::Error& error) {
    return "the source could not be kept: " + error.message();
  }
}

std::string FirstLines(const std::string& text, size_t count) {
  size_t end = 0;
  for (size_t line = 0; line < count && end < text.size(); ++line) {
    const size_t newline = text.find('\n', end);
    if (newline == std::string::npos) return text;
    end = newline + 1;
  }
  return end >= text.size() ? text : text.substr(0, end) + "...\n";
}

std::vector<std::string> SplitAtBlanks(const std::string& text) {
  std::istringstream words(text);
  std::vector<std::string> result;
  for (std::string word; words >> word;) result.push_back(word);
  return result;
}

std::string JoinWords(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) {
    if (!text.empty()) text += ' ';
    text += word;
  }
  return text;
}

}  // namespace preheat::toolchain
