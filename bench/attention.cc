// How close generated attention comes to the machine, at the shape of Llama 3.2 3B (24 heads of 128 on 8 kv
// heads, 28 layers, bf16): a decode step against reading its keys and values, a prefill against the
// multiply-add peak; and how long sampling takes. Reference and kernel run in turn on the same threads, and
// the median of their ratios counts, since neither bandwidth nor clock stays the same on a shared machine.
// With --cpu-time the longest thread's processor time is taken, for machines that are busy with something
// else.
//
//   bench_attention [--target T] [--threads N] [--positions N] [--rows N] [--repeats N] [--cpu-time]
#include <fmt/format.h>
#include <sys/mman.h>
#include <time.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "abi/kernel_abi.h"
#include "base/error.h"
#include "codegen/attention.h"
#include "codegen/cpu_prelude.h"
#include "codegen/sample.h"
#include "sys/code_image.h"
#include "sys/cpu.h"
#include "sys/executable_memory.h"
#include "toolchain/host_compiler.h"

namespace preheat {
namespace {

using codegen::RegionCode;
using ir::Dim;
using tensor::DType;

constexpr int64_t kLayers = 28, kKvHeads = 8, kGroup = 3, kHeads = kKvHeads * kGroup, kHeadDim = 128;
constexpr int64_t kVocab = 128256;

struct Options {
  std::string target;
  int threads = 2;
  int64_t positions = 4096;
  int64_t rows = 512;
  int repeats = 7;
  bool cpu_time = false;
};

// A unit's machine code, ready to run.
class Code {
 public:
  Code(const std::string& source, const std::string& target) {
    static const toolchain::HostCompiler compiler = toolchain::HostCompiler::Find();
    image_ = compiler.Compile({{.name = "bench", .source = source, .target = target}}).front().image;
    view_ = sys::ParseCodeImage(image_);
    const sys::ImageSegment segment = {
        .bytes = view_.body, .memory_bytes = view_.body.size(), .protection = sys::Protection::kReadExecute};
    memory_ = sys::ExecutableMemory::Map({&segment, 1});
  }
  ph_kernel Entry(std::string_view name) const {
    for (const auto& entry : view_.entries) {
      if (entry.name == name) return memory_.FunctionAt<ph_kernel>(entry.offset);
    }
    throw base::MakeError(base::ErrorKind::kNotFound, "{}: no such entry", name);
  }

 private:
  std::vector<std::byte> image_;
  sys::CodeImageView view_;
  sys::ExecutableMemory memory_;
};

double Now(bool cpu_time) {
  timespec now;
  clock_gettime(cpu_time ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

// Seconds until all tiles are run; threads claim them one by one.
double Seconds(const Options& options, int64_t tiles, const std::function<void(int64_t, void*)>& run) {
  std::atomic<int64_t> next = 0;
  std::vector<double> seconds(static_cast<size_t>(options.threads));
  std::vector<std::thread> threads;
  for (double& mine : seconds) {
    threads.emplace_back([&] {
      void* scratch = std::aligned_alloc(64, 1 << 20);
      std::memset(scratch, 0, 1 << 20);
      const double begin = Now(options.cpu_time);
      for (int64_t tile; (tile = next++) < tiles;) run(tile, scratch);
      mine = Now(options.cpu_time) - begin;
      std::free(scratch);
    });
  }
  for (std::thread& thread : threads) thread.join();
  return *std::max_element(seconds.begin(), seconds.end());
}

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

ir::Graph AttentionGraph(int64_t block) {
  const ir::Type rows = {DType::kBf16, {Dim::Rows(), Dim::Of(kHeads * kHeadDim)}};
  ir::Graph graph;
  graph.nodes = {
      {ir::Op::kCarry, {}, {}, rows},
      {ir::Op::kKvCache,
       {},
       {},
       {DType::kBf16, {Dim::Of(2), Dim::Positions(), Dim::Of(kKvHeads), Dim::Of(kHeadDim)}}},
      {block == 0 ? ir::Op::kAttention : ir::Op::kSplitAttention,
       {0, 1},
       {{"heads", kHeads},
        {"kv_heads", kKvHeads},
        {"head_dim", kHeadDim},
        {"scale", 1 / std::sqrt(128.0)},
        {"block", block}},
       block == 0 ? rows : ir::Type{DType::kF32, {Dim::Splits(), Dim::Of(kHeads), Dim::Of(kHeadDim + 2)}}}};
  return graph;
}

// Bytes of small positive bf16 numbers.
std::byte* Numbers(int64_t bytes) {
  auto* memory = static_cast<uint16_t*>(
      mmap(nullptr, static_cast<size_t>(bytes), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  madvise(memory, static_cast<size_t>(bytes), MADV_HUGEPAGE);
  for (int64_t i = 0; i < bytes / 2; ++i) memory[i] = static_cast<uint16_t>(0x3c00 + i * 7919 % 512);
  return reinterpret_cast<std::byte*>(memory);
}

constexpr char kReferences[] = R"(
// Reads constants[0] bytes a tile.
ENTRY void read(const ph_args* args, i64 begin, i64 end, void* scratch) {
  VF sums[8] = {};
  const f32* p = Operand<const f32>(args, 0) + begin * (args->constants[0] / 4);
  const f32* last = Operand<const f32>(args, 0) + end * (args->constants[0] / 4);
  NO_UNROLL for (; p < last; p += 8 * LANES) {
    UNROLL for (int j = 0; j < 8; ++j) sums[j] = Max(sums[j], Load(p + j * LANES));
  }
  UNROLL for (int j = 1; j < 8; ++j) sums[0] = Max(sums[0], sums[j]);
  Store((f32*)scratch, sums[0]);
}
// constants[0] times 12 multiply-adds on units.
ENTRY void peak(const ph_args* args, i64 begin, i64 end, void* scratch) {
  VF sums[12] = {};
  const VU a = LoadUnits((const unit*)scratch), b = LoadUnits((const unit*)scratch + LANES);
  NO_UNROLL for (i64 i = 0; i < args->constants[0] * (end - begin); ++i) {
    UNROLL for (int j = 0; j < 12; ++j) sums[j] = Dot(sums[j], a, b);
  }
  UNROLL for (int j = 1; j < 12; ++j) sums[0] += sums[j];
  Store((f32*)scratch, sums[0]);
}
)";

void Decode(const Options& options, const codegen::Target& target, const Code& references) {
  const int64_t head_bytes = options.positions * kHeadDim * 2, layer_bytes = 2 * kKvHeads * head_bytes;
  std::byte* cache = Numbers(kLayers * layer_bytes);
  std::vector<uint16_t> query(kHeads * kHeadDim, 0x3d00);
  for (const int64_t block : {128, 256, 512}) {
    const ir::Graph graph = AttentionGraph(block);
    for (const codegen::Schedule& schedule : codegen::attention::Candidates(graph, 2, target, {})) {
      const RegionCode region = codegen::attention::Generate(graph, 2, target, {}, schedule);
      const Code code(region.source, target.name);
      const ph_kernel kernel = code.Entry("split_attention"), read = references.Entry("read");
      const int64_t parts = (options.positions + block - 1) / block, tiles = parts * kKvHeads;
      std::vector<float> partial(static_cast<size_t>(parts * kHeads * 144));
      const int64_t tile_bytes = layer_bytes / tiles;
      std::vector<double> ratios, rates;
      for (int i = 0; i < options.repeats; ++i) {
        const double reading = Seconds(options, kLayers * tiles, [&](int64_t tile, void* scratch) {
          void* operands[] = {cache};
          const ph_args args = {operands, &tile_bytes, 1, 0, 0};
          read(&args, tile, tile + 1, scratch);
        });
        const double seconds = Seconds(options, kLayers * tiles, [&](int64_t tile, void* scratch) {
          std::byte* keys = cache + tile / tiles * layer_bytes;
          void* operands[] = {query.data(), keys, keys + layer_bytes / 2, partial.data()};
          const ph_args args = {operands, nullptr, 1, options.positions - 1, options.positions};
          kernel(&args, tile % tiles, tile % tiles + 1, scratch);
        });
        ratios.push_back(reading / seconds);
        rates.push_back(static_cast<double>(kLayers * layer_bytes) / seconds / 1e9);
      }
      fmt::print("decode {} positions, block {} {}: {:.1f} GB/s, {:.2f} of reading\n", options.positions,
                 block, codegen::ToText(schedule), Median(rates), Median(ratios));
    }
  }
  munmap(cache, static_cast<size_t>(kLayers * layer_bytes));
}

void Prefill(const Options& options, const codegen::Target& target, const Code& references) {
  const int64_t half_bytes = kKvHeads * options.rows * kHeadDim * 2;
  std::byte* cache = Numbers(2 * half_bytes);
  std::byte* query = Numbers(options.rows * kHeads * kHeadDim * 2);
  std::vector<uint16_t> result(static_cast<size_t>(options.rows * kHeads * kHeadDim));
  // Both products, over the positions that rows see.
  const double flops =
      2.0 * 2.0 * kHeads * kHeadDim * static_cast<double>(options.rows * (options.rows + 1) / 2);
  const ir::Graph graph = AttentionGraph(0);
  const codegen::StepShape shape = {.rows = options.rows, .threads = options.threads};
  for (const codegen::Schedule& schedule : codegen::attention::Candidates(graph, 2, target, shape)) {
    const RegionCode region = codegen::attention::Generate(graph, 2, target, shape, schedule);
    const Code code(region.source, target.name);
    const ph_kernel kernel = code.Entry("attention"), peak = references.Entry("peak");
    const int64_t tiles = region.launches[0].tiles.Tiles(options.rows, 0);
    std::vector<double> ratios, rates;
    for (int i = 0; i < options.repeats; ++i) {
      const int64_t steps = 100'000;
      const double peak_flops = 32.0 * steps * 12 * 2 * (target.vector_bytes / 4) * (target.bf16_dot ? 2 : 1);
      const double peak_seconds = Seconds(options, 32, [&](int64_t tile, void* scratch) {
        const ph_args args = {nullptr, &steps, 1, 0, 0};
        peak(&args, tile, tile + 1, scratch);
      });
      const double seconds = Seconds(options, kLayers * tiles, [&](int64_t tile, void* scratch) {
        void* operands[] = {query, cache, cache + half_bytes, result.data()};
        const ph_args args = {operands, nullptr, options.rows, 0, options.rows};
        kernel(&args, tile % tiles, tile % tiles + 1, scratch);
      });
      rates.push_back(kLayers * flops / seconds / 1e9);
      ratios.push_back(kLayers * flops / seconds / (peak_flops / peak_seconds));
    }
    fmt::print("prefill {} rows, {}: {:.0f} GFLOP/s, {:.2f} of peak\n", options.rows,
               codegen::ToText(schedule), Median(rates), Median(ratios));
  }
}

void Sample(const Options& options, const codegen::Target& target) {
  ir::Graph graph;
  graph.nodes = {{ir::Op::kCarry, {}, {}, {DType::kF32, {Dim::Of(1), Dim::Of(kVocab)}}},
                 {ir::Op::kSample, {0}, {}, {DType::kI32, {Dim::Of(1)}}}};
  const RegionCode region = codegen::sample::Generate(graph, 1, target, {}, {});
  const Code code(region.source, target.name);
  const ph_kernel kernel = code.Entry("sample");
  std::vector<float> logits(kVocab);
  for (size_t i = 0; i < logits.size(); ++i) logits[i] = static_cast<float>(i * 7919 % 10007) / 500.0f;
  std::vector<std::byte> workspace(static_cast<size_t>(region.workspaces[0].extent.fixed) + 64);
  const auto address = reinterpret_cast<uintptr_t>(workspace.data());
  struct Setting {
    const char* name;
    float temperature, top_p;
    int32_t top_k;
  };
  for (const Setting& setting : {Setting{"greedy", 0, 1, 0}, Setting{"top_k 50", 0.6f, 1, 50},
                                 Setting{"top_k 50, top_p 0.9", 0.6f, 0.9f, 50}, Setting{"all", 0.6f, 1, 0},
                                 Setting{"top_p 0.9", 0.6f, 0.9f, 0}}) {
    ph_state state = {};
    state.temperature = setting.temperature, state.top_p = setting.top_p, state.top_k = setting.top_k;
    state.banned_count = 3;
    void* operands[] = {logits.data(), &state, reinterpret_cast<void*>((address + 63) / 64 * 64)};
    const ph_args args = {operands, nullptr, 1, 0, 0};
    std::vector<double> times;
    for (int i = 0; i < 20 * options.repeats; ++i) {
      const double begin = Now(options.cpu_time);
      kernel(&args, 0, 1, nullptr);
      times.push_back(Now(options.cpu_time) - begin);
    }
    fmt::print("sample {} of {}: {:.1f} us, best {:.1f}\n", setting.name, kVocab, Median(times) * 1e6,
               *std::min_element(times.begin(), times.end()) * 1e6);
  }
}

int Main(const std::vector<std::string>& arguments) {
  Options options;
  options.target = sys::SupportedCpuTargets(sys::ThisCpu().features).front();
  for (size_t i = 0; i < arguments.size(); ++i) {
    const std::string& name = arguments[i];
    if (name == "--cpu-time") {
      options.cpu_time = true;
      continue;
    }
    if (++i == arguments.size()) {
      fmt::print(stderr, "{}: unknown, or its value is missing\n", name);
      return 2;
    }
    if (name == "--target") options.target = arguments[i];
    if (name == "--threads") options.threads = std::stoi(arguments[i]);
    if (name == "--positions") options.positions = std::stoi(arguments[i]);
    if (name == "--rows") options.rows = std::stoi(arguments[i]);
    if (name == "--repeats") options.repeats = std::stoi(arguments[i]);
  }
  // Capacities are multiples of 16 positions, parts equally long.
  options.positions = (options.positions + 511) / 512 * 512;
  options.rows = (options.rows + 15) / 16 * 16;
  const codegen::Target target = codegen::ParseTarget(options.target);
  const codegen::Unit unit = codegen::UnitFor(DType::kBf16, DType::kBf16, target);
  const Code references(codegen::CpuPrelude(target, unit) + kReferences, target.name);
  Sample(options, target);
  Prefill(options, target, references);
  Decode(options, target, references);
  return 0;
}

}  // namespace
}  // namespace preheat

int main(int argc, char** argv) {
  try {
    return preheat::Main({argv + 1, argv + argc});
  } catch (const preheat::base::Error& error) {
    fmt::print(stderr, "{}\n", error.what());
    return 1;
  }
}
