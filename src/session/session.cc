#include "session/session.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <utility>

#include "base/check.h"
#include "base/error.h"
#include "session/bound_program.h"

namespace preheat::session {
namespace {

using base::ErrorKind;
using base::MakeError;

constexpr size_t kAlignment = 4096;  // slots and layers begin on a page: no kernel shares a line with another

size_t AlignUp(size_t bytes) {
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

// The most tokens that a step of `program` is given.
int64_t MostRows(const program::Program& program, const SessionOptions& options) {
  return program.max_rows > 0 ? program.max_rows : std::max<int64_t>(1, options.piece_rows);
}

int64_t MostLogitRows(const program::Program& program, const SessionOptions& options) {
  return program.logit_rows == program::LogitRows::kAll ? MostRows(program, options) : 1;
}

void CheckAgreement(const std::vector<program::Program>& programs) {
  const program::Program& first = programs.front();
  for (const program::Program& program : programs) {
    const bool agrees = program.kv == first.kv && program.vocab_size == first.vocab_size &&
                        program.layers == first.layers && program.rotary == first.rotary;
    if (!agrees) {
      throw MakeError(
          ErrorKind::kIncompatible,
          "programs {} and {} do not fit together: they differ in KV cache layout ({} and {}), layers, "
          "vocabulary or rotary table; build the artifact anew",
          first.name, program.name, first.kv.name, program.kv.name);
    }
  }
}

// Makes all code of the programs callable and looks kernels up in it.
struct LoadedCode {
  std::unique_ptr<device::CodeModule> module;
  std::map<std::string, size_t> index;  // of an image in the module, by its hash
};

LoadedCode LoadCode(device::Device& device, const std::vector<program::Program>& programs,
                    const Bindings& bindings) {
  LoadedCode loaded;
  std::vector<std::span<const std::byte>> images;
  for (const program::Program& program : programs) {
    for (const std::string& hash : program::CodeHashes(program)) {
      if (!loaded.index.emplace(hash, images.size()).second) continue;
      images.push_back(bindings.code(hash));
    }
  }
  if (!images.empty()) loaded.module = device.LoadCode(images);
  return loaded;
}

}  // namespace

Session::Session(device::Device& device, std::vector<program::Program> programs, const Bindings& bindings,
                 const SessionOptions& options)
    : device_(device), options_(options), check_step_(bindings.check_step) {
  CHECK(!programs.empty());
  CheckAgreement(programs);
  Allocate(programs);

  LoadedCode loaded = LoadCode(device_, programs, bindings);
  code_ = std::move(loaded.module);
  const KernelLookup kernel = [&](const program::Launch& launch, const std::string& entry) {
    if (launch.code.starts_with(program::kLibraryPrefix)) {
      return bindings.library(launch.code.substr(program::kLibraryPrefix.size()), entry);
    }
    return code_->Entry(loaded.index.at(launch.code), entry);
  };
  const Addresses addresses = {
      .activations = activations_.data(),
      .slot_offsets = slot_offsets_,
      .cache = cache_.data(),
      .layer_cache_bytes = cache_.size() / static_cast<size_t>(std::max<int64_t>(1, layers_)),
      .key_bytes = AlignUp(static_cast<size_t>(kv_.key_bytes.Bytes(0, capacity_))),
      .rotary = rotary_.data(),
      .ids = ids_.data(),
      .state = state_.data(),
      .logits = logits_.data()};
  size_t scratch_bytes = 0;
  for (program::Program& program : programs) {
    for (const program::Segment& segment : program.segments) {
      for (const program::Launch& launch : segment.launches) {
        scratch_bytes = std::max(scratch_bytes, static_cast<size_t>(launch.scratch_bytes));
      }
    }
    programs_.push_back(std::make_unique<BoundProgram>(std::move(program), addresses, bindings, kernel));
  }
  device_.ReserveScratch(scratch_bytes);
}

Session::~Session() = default;

void Session::Allocate(const std::vector<program::Program>& programs) {
  const program::Program& first = programs.front();
  kv_ = first.kv;
  vocab_size_ = first.vocab_size;
  layers_ = first.layers;
  rotary_table_ = first.rotary;
  const int64_t block = kv_.position_block;
  capacity_ = (std::max<int64_t>(1, options_.capacity) + block - 1) / block * block;

  // A slot is as big as its biggest tenant in any program.
  std::vector<size_t> slot_bytes;
  int64_t most_rows = 1;
  int64_t most_logit_rows = 1;
  for (const program::Program& program : programs) {
    const int64_t rows = MostRows(program, options_);
    most_rows = std::max(most_rows, rows);
    most_logit_rows = std::max(most_logit_rows, MostLogitRows(program, options_));
    slot_bytes.resize(std::max(slot_bytes.size(), static_cast<size_t>(program.slots)));
    for (const program::Buffer& buffer : program.buffers) {
      size_t& bytes = slot_bytes[static_cast<size_t>(buffer.slot)];
      bytes = std::max(bytes, static_cast<size_t>(buffer.extent.Bytes(rows, capacity_)));
    }
  }
  size_t activation_bytes = 0;
  for (size_t bytes : slot_bytes) {
    slot_offsets_.push_back(activation_bytes);
    activation_bytes += AlignUp(bytes);
  }

  const size_t key_bytes = AlignUp(static_cast<size_t>(kv_.key_bytes.Bytes(0, capacity_)));
  const size_t value_bytes = AlignUp(static_cast<size_t>(kv_.value_bytes.Bytes(0, capacity_)));
  activations_ = device_.Allocate(std::max<size_t>(1, activation_bytes));
  cache_ = device_.Allocate(std::max<size_t>(1, static_cast<size_t>(layers_) * (key_bytes + value_bytes)));
  rotary_ = device_.Allocate(std::max<size_t>(
      1, static_cast<size_t>(capacity_) * 2 * rotary_table_.inv_freq.size() * sizeof(float)));
  ids_ = device_.Allocate(static_cast<size_t>(most_rows) * sizeof(int32_t));
  state_ = device_.Allocate(sizeof(ph_state));
  logits_ = device_.Allocate(static_cast<size_t>(most_logit_rows * vocab_size_) * sizeof(float));
  state() = ph_state{};
  state().top_p = 1;
}

BoundProgram& Session::BoundFor(int64_t rows, int64_t bucket) {
  BoundProgram* best = nullptr;
  int64_t best_rows = 0;
  for (const auto& candidate : programs_) {
    const program::Program& program = candidate->program();
    if (program.kind != program::StepKind::kPrefill) continue;
    const bool fits = program.max_rows == 0 || rows <= program.max_rows;
    // Unasked, a bucket serves its own length; padding is the caller's choice.
    const bool wanted =
        bucket > 0 ? program.max_rows == bucket : program.max_rows == 0 || program.max_rows == rows;
    if (!fits || !wanted) continue;
    if (best == nullptr || program.max_rows > best_rows) {
      best = candidate.get();
      best_rows = program.max_rows;
    }
  }
  if (best != nullptr) return *best;
  throw MakeError(
      ErrorKind::kInvalidArgument,
      "no program for a prompt piece of {} tokens{}; build with --compile-dynamic auto, or with a prefill "
      "length that holds it",
      rows, bucket > 0 ? fmt::format(" in the bucket {}", bucket) : "");
}

void Session::Prefill(std::span<const int32_t> ids, int64_t bucket) {
  CHECK(!ids.empty());
  while (!ids.empty()) {
    const auto rows = static_cast<int64_t>(ids.size());
    bool whole = bucket > 0;
    for (const auto& bound : programs_) {
      whole = whole ||
              (bound->program().kind == program::StepKind::kPrefill && bound->program().max_rows == rows);
    }
    const int64_t piece = whole ? rows : std::min(rows, std::max<int64_t>(1, options_.piece_rows));
    RunStep(BoundFor(piece, bucket), ids.first(static_cast<size_t>(piece)));
    ids = ids.subspan(static_cast<size_t>(piece));
    // Only the last piece's choice counts as a step of the random stream.
    if (!ids.empty()) --state().steps;
  }
}

void Session::Decode() {
  for (const auto& bound : programs_) {
    if (bound->program().kind != program::StepKind::kDecode) continue;
    const int32_t token = state().token;
    RunStep(*bound, std::span(&token, 1));
    return;
  }
  throw MakeError(ErrorKind::kInvalidArgument, "this session has no decode program");
}

void Session::RunStep(BoundProgram& bound, std::span<const int32_t> ids) {
  const auto rows = static_cast<int64_t>(ids.size());
  if (length_ + rows > capacity_) {
    throw MakeError(ErrorKind::kInvalidArgument, "{} positions do not fit into a KV cache of {}",
                    length_ + rows, capacity_);
  }
  for (int32_t id : ids) {
    if (id < 0 || id >= vocab_size_) {
      throw MakeError(ErrorKind::kInvalidArgument, "token id {} is not in the vocabulary of {}", id,
                      vocab_size_);
    }
  }
  ExtendRotary(length_ + rows);
  std::memcpy(ids_.data(), ids.data(), ids.size_bytes());
  device_.Run(bound.Prepare(rows, length_, capacity_));
  if (check_step_) check_step_();
  length_ += rows;
  logit_rows_ = bound.program().logit_rows == program::LogitRows::kAll ? rows : 1;
}

// cos and sin in fp32 of an angle that is itself rounded to fp32, as the reference implementation does.
void Session::ExtendRotary(int64_t positions) {
  const std::vector<float>& inv_freq = rotary_table_.inv_freq;
  auto* table = reinterpret_cast<float*>(rotary_.data());
  for (; rotary_positions_ < positions; ++rotary_positions_) {
    float* cos_row = table + static_cast<size_t>(rotary_positions_) * 2 * inv_freq.size();
    float* sin_row = cos_row + inv_freq.size();
    for (size_t i = 0; i < inv_freq.size(); ++i) {
      const float angle = static_cast<float>(rotary_positions_) * inv_freq[i];
      cos_row[i] = std::cos(angle) * rotary_table_.scale;
      sin_row[i] = std::sin(angle) * rotary_table_.scale;
    }
  }
}

std::span<const float> Session::logits() const {
  return {reinterpret_cast<const float*>(logits_.data()), static_cast<size_t>(logit_rows_ * vocab_size_)};
}

ph_state& Session::state() {
  return *reinterpret_cast<ph_state*>(state_.data());
}

int64_t Session::cache_bytes() const {
  return static_cast<int64_t>(cache_.size());
}

int64_t Session::activation_bytes() const {
  return static_cast<int64_t>(activations_.size() + rotary_.size() + ids_.size() + state_.size() +
                              logits_.size());
}

}  // namespace preheat::session
