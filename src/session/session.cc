#include "session/session.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <utility>

#include "base/check.h"
#include "base/error.h"
#include "base/log.h"
#include "session/bound_program.h"
#include "sys/clock.h"

namespace preheat::session {
namespace {

using base::ErrorKind;
using base::MakeError;

constexpr int64_t kRotaryBlock = 64;  // positions of the rotary table that are made at once

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

double MillisecondsSince(double start) {
  return (sys::MonotonicSeconds() - start) * 1e3;
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
    : device_(device),
      options_(options),
      check_step_(bindings.check_step),
      await_weights_(bindings.await_weights) {
  CHECK(!programs.empty());
  CheckAgreement(programs);
  Allocate(programs);

  const double load_start = sys::MonotonicSeconds();
  LoadedCode loaded = LoadCode(device_, programs, bindings);
  code_ = std::move(loaded.module);
  base::Detail("machine code loaded: {} images in {:.1f} ms", loaded.index.size(),
               MillisecondsSince(load_start));
  const KernelLookup kernel = [&](const program::Launch& launch, const std::string& entry) -> device::Kernel {
    if (launch.code.starts_with(program::kLibraryPrefix)) {
      return bindings.library(launch.code.substr(program::kLibraryPrefix.size()), entry);
    }
    return code_->Entry(loaded.index.at(launch.code), entry);
  };
  Addresses addresses = {
      .activations = activations_.data(),
      .slot_offsets = plan_.slot_offsets,
      .cache = cache_.data(),
      .layer_cache_bytes = cache_.size() / static_cast<size_t>(std::max<int64_t>(1, layers_)),
      .key_bytes = plan_.key_bytes,
      .rotary = rotary_.data(),
      .ids = ids_.data(),
      .state = reinterpret_cast<ph_state*>(state_block_.data()),
      .logits = logits_.data()};
  size_t scratch_bytes = 0;
  for (program::Program& program : programs) {
    for (const program::Segment& segment : program.segments) {
      for (const program::Launch& launch : segment.launches) {
        scratch_bytes = std::max(scratch_bytes, static_cast<size_t>(launch.scratch_bytes));
      }
    }
    addresses.own = AllocateOwn(programs_.size());
    const int64_t most_rows = MostRows(program, options_);
    programs_.push_back(
        std::make_unique<BoundProgram>(std::move(program), most_rows, device_, addresses, bindings, kernel));
  }
  device_.ReserveScratch(scratch_bytes);
  Reset();
}

Session::~Session() = default;

void Session::Allocate(const std::vector<program::Program>& programs) {
  const program::Program& first = programs.front();
  vocab_size_ = first.vocab_size;
  layers_ = first.layers;
  rotary_table_ = first.rotary;
  plan_ = PlanMemory(programs, options_);
  activations_ = device_.Allocate(plan_.arena_bytes);
  cache_ = device_.Allocate(plan_.cache_bytes);
  rotary_ = device_.Allocate(plan_.rotary_bytes);
  ids_ = device_.Allocate(plan_.ids_bytes);
  state_block_ = device_.Allocate(plan_.state_bytes);
  logits_ = device_.Allocate(plan_.logits_bytes);
}

// Memory of the program's buffers that share theirs with none; null for the others.
std::vector<std::byte*> Session::AllocateOwn(size_t program) {
  std::vector<std::byte*> own;
  for (const size_t bytes : plan_.own_bytes[program]) {
    own.push_back(bytes == 0 ? nullptr : own_.emplace_back(device_.Allocate(bytes)).data());
  }
  return own;
}

void Session::Begin(const ph_state& state) {
  length_ = 0;
  state_ = state;
  state_.steps = 0;
  state_.stopped = 0;
  Restart();
}

void Session::Resume(int64_t length) {
  Reset();
  CHECK(length < plan_.capacity);
  ExtendRotary(length);
  length_ = length;
  Restart();
}

// Takes up from what the host knows, whatever the device ran ahead.
void Session::Restart() {
  if (device_.RunsAhead()) device_.SetRing(static_cast<uint32_t>(state_.steps));
  WriteState(Report::kYes);
}

// What the device's block holds before a step that the host starts.
void Session::WriteState(Report report) {
  state_.past = length_;
  state_.ring = report == Report::kYes ? device_.ring_address() : nullptr;
  device_.Write(state_block_.data(), std::as_bytes(std::span(&state_, 1)));
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
  CheckRoom(static_cast<int64_t>(ids.size()));
  for (int32_t id : ids) {
    if (id < 0 || id >= vocab_size_) {
      throw MakeError(ErrorKind::kInvalidArgument, "token id {} is not in the vocabulary of {}", id,
                      vocab_size_);
    }
  }
  AwaitWeights();
  while (!ids.empty()) {
    const auto rows = static_cast<int64_t>(ids.size());
    bool whole = bucket > 0;
    for (const auto& bound : programs_) {
      whole = whole ||
              (bound->program().kind == program::StepKind::kPrefill && bound->program().max_rows == rows);
    }
    const int64_t piece = whole ? rows : std::min(rows, std::max<int64_t>(1, options_.piece_rows));
    // Only the last piece's choice counts as a step of the random stream: each begins with the same number.
    WriteState(piece == rows ? Report::kYes : Report::kNo);
    RunPiece(BoundFor(piece, bucket), ids.first(static_cast<size_t>(piece)));
    ids = ids.subspan(static_cast<size_t>(piece));
  }
  ++state_.steps;
}

void Session::RunPiece(BoundProgram& bound, std::span<const int32_t> ids) {
  const auto rows = static_cast<int64_t>(ids.size());
  ExtendRotary(length_ + rows);
  device_.Write(ids_.data(), std::as_bytes(ids));
  device_.Run(bound.Prepare(rows, length_, plan_.capacity));
  if (check_step_) check_step_();
  length_ += rows;
  logit_rows_ = bound.program().logit_rows == program::LogitRows::kAll ? rows : 1;
}

BoundProgram& Session::BoundForDecode() {
  for (const auto& bound : programs_) {
    if (bound->program().kind == program::StepKind::kDecode) return *bound;
  }
  throw MakeError(ErrorKind::kInvalidArgument, "this session has no decode program");
}

void Session::Decode() {
  AwaitWeights();
  LaunchDecode();
}

// The device's block is as the last step left it: where steps run ahead it says all that a decode step needs.
void Session::LaunchDecode() {
  CheckRoom(1);
  ExtendRotary(length_ + 1);
  BoundProgram& bound = BoundForDecode();
  // A library's calls are made anew in each step: operation by operation is what its programs are for.
  if (!device_.RunsAhead() || bound.CallsLibraries()) {
    device_.Run(bound.Prepare(1, length_, plan_.capacity));
  } else {
    if (!recorded_decode_) RecordDecode(bound);
    recorded_decode_->Run();
  }
  if (check_step_) check_step_();
  ++length_;
  ++state_.steps;
  logit_rows_ = 1;
}

void Session::RecordDecode(BoundProgram& bound) {
  const double start = sys::MonotonicSeconds();
  const std::span<const device::Launch> launches = bound.PrepareToRecord(plan_.capacity);
  recorded_decode_ = device_.Record(launches);
  base::Detail("decode step recorded: {} launches in {:.1f} ms", launches.size(), MillisecondsSince(start));
}

void Session::DecodeUntil(int64_t steps, const std::function<bool(int32_t token)>& take) {
  if (!device_.RunsAhead()) return StepRunner::DecodeUntil(steps, take);
  AwaitWeights();
  int64_t ahead = 0;
  for (int64_t taken = 0; taken < steps; ++taken) {
    for (; ahead < kStepsAhead && taken + ahead < steps; ++ahead) LaunchDecode();
    --ahead;
    const int32_t token = TokenOf(state_.steps - static_cast<int32_t>(ahead));
    if (take(token)) continue;
    if (ahead == 0) return;
    // Those that ran for nothing are undone: what they left in the cache is never seen.
    length_ -= ahead;
    state_.steps -= static_cast<int32_t>(ahead);
    SetToken(token);
    return;
  }
}

// The steps-th token of the generation, when it is there.
int32_t Session::TokenOf(int32_t steps) {
  device_.WaitForRing(static_cast<uint32_t>(steps));
  return device_.ring()->tokens[static_cast<uint32_t>(steps - 1) % PH_RING_TOKENS];
}

int32_t Session::token() {
  if (device_.RunsAhead()) return TokenOf(state_.steps);
  int32_t token = 0;
  device_.Read(std::as_writable_bytes(std::span(&token, 1)),
               &reinterpret_cast<const ph_state*>(state_block_.data())->token);
  return token;
}

void Session::SetToken(int32_t token) {
  state_.token = token;
  Restart();
}

void Session::CheckRoom(int64_t rows) const {
  if (length_ + rows <= plan_.capacity) return;
  throw MakeError(ErrorKind::kInvalidArgument, "{} positions do not fit into a KV cache of {}",
                  length_ + rows, plan_.capacity);
}

void Session::AwaitWeights() {
  if (!await_weights_) return;
  await_weights_();
  await_weights_ = nullptr;
}

// cos and sin in fp32 of an angle that is itself rounded to fp32, as the reference implementation does.
void Session::ExtendRotary(int64_t positions) {
  if (positions <= rotary_positions_) return;
  // Some more, so that a device of its own memory is written to now and then only.
  const int64_t end = std::min(plan_.capacity, (positions + kRotaryBlock - 1) / kRotaryBlock * kRotaryBlock);
  const std::vector<float>& inv_freq = rotary_table_.inv_freq;
  const size_t row_floats = 2 * inv_freq.size();
  std::vector<float> rows(static_cast<size_t>(end - rotary_positions_) * row_floats);
  for (int64_t position = rotary_positions_; position < end; ++position) {
    float* cos_row = rows.data() + static_cast<size_t>(position - rotary_positions_) * row_floats;
    float* sin_row = cos_row + inv_freq.size();
    for (size_t i = 0; i < inv_freq.size(); ++i) {
      const float angle = static_cast<float>(position) * inv_freq[i];
      cos_row[i] = std::cos(angle) * rotary_table_.scale;
      sin_row[i] = std::sin(angle) * rotary_table_.scale;
    }
  }
  device_.Write(rotary_.data() + static_cast<size_t>(rotary_positions_) * row_floats * sizeof(float),
                std::as_bytes(std::span(rows)));
  rotary_positions_ = end;
}

std::span<const float> Session::logits() {
  host_logits_.resize(static_cast<size_t>(logit_rows_ * vocab_size_));
  device_.Read(std::as_writable_bytes(std::span(host_logits_)), logits_.data());
  return host_logits_;
}

}  // namespace preheat::session
