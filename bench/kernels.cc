// How close generated matmuls come to the machine: the linear layers of Llama 3.2 3B, one row against reading
// memory, many rows against the multiply-add peak. Both references run interleaved with what they are
// compared to, on the same threads, since neither bandwidth nor clock stays the same on a shared machine.
// With --threads 1 processor time is taken instead of time, for machines that are busy with something else.
//
//   bench_kernels [--rows 1,128,512] [--shape NAME] [--target T] [--repeats N] [--threads N] [--schedule
//   "kc=512 nr=48"]
//                 [--candidates]
#include <fmt/format.h>

#include <time.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <span>
#include <sstream>
#include <string>
#include <vector>

#include "base/error.h"
#include "codegen/buffers.h"
#include "codegen/cpu_prelude.h"
#include "codegen/matmul.h"
#include "device/cpu/cpu_device.h"
#include "toolchain/host_compiler.h"

namespace preheat {
namespace {

using codegen::RegionCode;
using codegen::RegionOperand;
using tensor::DType;

constexpr size_t kPoolBytes = size_t{1}
                              << 30;  // weights are taken from here, always others: never from cache
constexpr int64_t kCapacity = 2048;

struct Shape {
  std::string name;
  std::string prologue, epilogue;
  int64_t k;
  std::vector<int64_t> columns;
  DType x, out;

  int64_t Columns() const {
    int64_t sum = 0;
    for (const int64_t n : columns) sum += n;
    return sum;
  }
};

std::vector<Shape> Shapes() {
  return {
      {"qkv", "rms_norm", "rotary_append", 3072, {3072, 1024, 1024}, DType::kF32, DType::kBf16},
      {"o", "none", "add", 3072, {3072}, DType::kBf16, DType::kF32},
      {"gate_up", "rms_norm", "silu_mul", 3072, {8192, 8192}, DType::kF32, DType::kBf16},
      {"down", "none", "add", 8192, {3072}, DType::kBf16, DType::kF32},
      {"head", "rms_norm", "store", 3072, {128256}, DType::kF32, DType::kF32},
  };
}

struct Region {
  ir::Graph graph;
  ir::NodeId matmul = ir::kNoNode;
};

Region MakeRegion(const Shape& shape) {
  using ir::Dim;
  Region region;
  region.graph.blocks.push_back({.name = "block", .repeat = 1, .nodes = {}});
  const auto add = [&](ir::Op op, DType dtype, std::vector<Dim> dims) {
    ir::Node node;
    node.op = op;
    node.type = {dtype, std::move(dims)};
    return region.graph.Add(std::move(node));
  };
  ir::Node node;
  node.op = ir::Op::kMatmul;
  node.inputs = {add(ir::Op::kCarry, shape.x, {Dim::Rows(), Dim::Of(shape.k)})};
  if (shape.prologue == "rms_norm")
    node.inputs.push_back(add(ir::Op::kWeight, DType::kBf16, {Dim::Of(shape.k)}));
  for (const int64_t n : shape.columns) {
    node.inputs.push_back(add(ir::Op::kWeight, DType::kBf16, {Dim::Of(n), Dim::Of(shape.k)}));
  }
  if (shape.epilogue == "add") {
    node.inputs.push_back(add(ir::Op::kCarry, DType::kF32, {Dim::Rows(), Dim::Of(shape.columns[0])}));
  }
  constexpr int64_t kHeadDim = 128;
  if (shape.epilogue == "rotary_append") {
    node.inputs.push_back(
        add(ir::Op::kKvCache, DType::kBf16,
            {Dim::Of(2), Dim::Past(), Dim::Of(shape.columns[1] / kHeadDim), Dim::Of(kHeadDim)}));
  }
  node.attributes = {{"prologue", shape.prologue},
                     {"epilogue", shape.epilogue},
                     {"parts", static_cast<int64_t>(shape.columns.size())},
                     {"bias", int64_t{0}},
                     {"math", std::string("bf16")},
                     {"eps", 1e-5},
                     {"head_dim", kHeadDim}};
  node.type = {shape.out, {Dim::Rows(), Dim::Of(shape.columns[0])}};
  region.matmul = region.graph.Add(std::move(node));
  return region;
}

// One tile: a fixed number of multiply-adds in registers; or the sum of a megabyte.
constexpr char kReferences[] = R"text(
constexpr int kSums = LANES == 16 ? 24 : 12;
ENTRY void peak(const ph_args* args, i64 begin, i64 end, void* scratch) {
  VF acc[kSums] = {};
  VU a = LoadUnits((const unit*)scratch), b = LoadUnits((const unit*)scratch + LANES);
  for (i64 t = begin; t < end; ++t) {
    NO_UNROLL for (int i = 0; i < 4096; ++i) {
      UNROLL for (int s = 0; s < kSums; ++s) acc[s] = Dot(acc[s], a, b);
    }
  }
  UNROLL for (int s = 1; s < kSums; ++s) acc[0] += acc[s];
  Store((f32*)scratch + 2 * LANES, acc[0]);
}
ENTRY void read(const ph_args* args, i64 begin, i64 end, void* scratch) {
  VU sum[8] = {};
  const char* data = Operand<const char>(args, 0);
  constexpr i64 kTile = 128 << 10, kStep = 8 * 4 * LANES;
  for (i64 k = begin * kTile; k < end * kTile; k += kStep) {
    UNROLL for (int i = 0; i < 8; ++i) sum[i] ^= LoadUnits((const unit*)(data + k + i * 4 * LANES));
  }
  UNROLL for (int i = 1; i < 8; ++i) sum[0] ^= sum[i];
  StoreUnits((unit*)scratch, sum[0]);
}
)text";
constexpr int64_t kReadTileBytes = 128 << 10;

// By the clock on the wall; or, for one thread, the processor time that this process used, which other
// processes lengthen only through the caches and memory that they share with it.
double Now(bool cpu_time) {
  timespec now{};
  clock_gettime(cpu_time ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

struct Options {
  std::vector<int64_t> rows = {1, 128, 512};
  std::string shape;
  codegen::Target target;
  int repeats = 15;
  int threads = 0;
  codegen::Schedule schedule;  // entries that replace the default's
  bool candidates = false;
};

class Bench {
 public:
  explicit Bench(const Options& options)
      : options_(options),
        compiler_(toolchain::HostCompiler::Find()),
        device_({.threads = options.threads}),
        pool_(device_.Allocate(kPoolBytes)) {
    // Small numbers: 2^-7 with changing signs, the same as bf16 and within any unit.
    auto* halves = reinterpret_cast<uint16_t*>(pool_.data());
    uint32_t random = 1;
    for (size_t i = 0; i < kPoolBytes / 2; ++i) {
      random = random * 1664525u + 1013904223u;
      halves[i] = static_cast<uint16_t>(0x3c00u | (random >> 31 << 15) | (random >> 25 & 0x7fu));
    }
    const codegen::Unit unit = codegen::UnitFor(DType::kBf16, DType::kBf16, options_.target);
    references_ = Load(codegen::CpuPrelude(options_.target, unit) + kReferences, nullptr);
    device_.ReserveScratch(8 << 20);
  }

  void Run(const Shape& shape, int64_t rows) {
    const Region region = MakeRegion(shape);
    const codegen::StepShape step{.rows = rows, .threads = device_.threads()};
    std::vector<codegen::Schedule> schedules = {
        codegen::matmul::DefaultSchedule(region.graph, region.matmul, options_.target, step)};
    for (const auto& [name, value] : options_.schedule) schedules[0][name] = value;
    if (options_.candidates) {
      schedules = codegen::matmul::Candidates(region.graph, region.matmul, options_.target, step);
    }
    for (const codegen::Schedule& schedule : schedules) RunSchedule(shape, rows, region, schedule);
  }

 private:
  std::unique_ptr<device::CodeModule> Load(const std::string& source, double* seconds) {
    std::vector<toolchain::CompiledUnit> units =
        compiler_.Compile({{.name = "bench", .source = source, .target = options_.target.name}});
    if (seconds != nullptr) *seconds = units[0].seconds;
    const std::span<const std::byte> image = units[0].image;
    return device_.LoadCode({&image, 1});
  }

  // The next `bytes` of the pool.
  std::byte* Fresh(int64_t bytes) {
    const auto size = static_cast<size_t>((bytes + 4095) / 4096 * 4096);
    if (pool_next_ + size > kPoolBytes) pool_next_ = 0;
    std::byte* result = pool_.data() + pool_next_;
    pool_next_ += size;
    return result;
  }

  void RunSchedule(const Shape& shape, int64_t rows, const Region& region,
                   const codegen::Schedule& schedule) {
    const codegen::StepShape step{.rows = rows, .threads = device_.threads()};
    const RegionCode code =
        codegen::matmul::Generate(region.graph, region.matmul, options_.target, step, schedule);
    double compile_seconds = 0;
    const auto module = Load(code.source, &compile_seconds);

    // What is neither weight nor pool: zeros, except x, which takes the pool's begin.
    std::map<int64_t, device::Buffer> buffers;
    const auto buffer = [&](int64_t key, int64_t bytes) {
      if (!buffers.contains(key)) {
        buffers.emplace(key, device_.Allocate(static_cast<size_t>(bytes)));
        std::memcpy(buffers[key].data(), pool_.data(), static_cast<size_t>(bytes));
      }
      return buffers.at(key).data();
    };
    const auto pointer = [&](const RegionOperand& operand) -> void* {
      using Kind = RegionOperand::Kind;
      if (operand.kind == Kind::kWorkspace) {
        return buffer(-1,
                      code.workspaces[static_cast<size_t>(operand.workspace)].extent.Bytes(rows, kCapacity));
      }
      if (operand.kind != Kind::kNode) {
        return buffer(-2 - static_cast<int64_t>(operand.kind), kCapacity * 1024 * 4);
      }
      const ir::Node& node = region.graph[operand.node];
      if (node.op == ir::Op::kWeight) {
        int64_t bytes = 2;
        for (const ir::Dim& dim : node.type.shape) bytes *= dim.size;
        return Fresh(bytes);
      }
      return buffer(operand.node, codegen::BufferExtent(node.type).Bytes(rows, kCapacity));
    };

    const double weight_bytes = 2.0 * static_cast<double>(shape.k * shape.Columns());
    const double flops = weight_bytes * static_cast<double>(rows);
    const int lanes = options_.target.vector_bytes / 4;
    const int per_unit = options_.target.bf16_dot ? 2 : 1;
    std::vector<double> ratios, rates, reference_rates;
    for (int repeat = 0; repeat < options_.repeats; ++repeat) {
      std::vector<std::vector<void*>> operands;
      std::vector<ph_args> args(code.launches.size());
      std::vector<device::Launch> launches;
      for (const codegen::RegionLaunch& launch : code.launches) {
        operands.emplace_back();
        for (const RegionOperand& operand : launch.operands) operands.back().push_back(pointer(operand));
      }
      for (size_t i = 0; i < code.launches.size(); ++i) {
        const codegen::RegionLaunch& launch = code.launches[i];
        args[i] = {operands[i].data(), nullptr, rows, 0, kCapacity};
        launches.push_back(
            {.kernel = module->Entry(0, launch.entry),
             .stage = launch.stage_entry.empty() ? device::Kernel{} : module->Entry(0, launch.stage_entry),
             .args = &args[i],
             .tiles = launch.tiles.Tiles(rows, 0),
             .chunk = launch.chunk});
      }
      double reference = 0, rate = 0;
      if (rows == 1) {
        const int64_t tiles = std::min<int64_t>(static_cast<int64_t>(weight_bytes) / kReadTileBytes,
                                                static_cast<int64_t>(kPoolBytes) / kReadTileBytes / 2);
        const double bytes = static_cast<double>(tiles * kReadTileBytes);
        reference = bytes / Reference("read", tiles, Fresh(tiles * kReadTileBytes));
        rate = weight_bytes / Seconds(launches);
      } else {
        constexpr int64_t kTiles = 64;
        const double sums = options_.target.vector_bytes == 64 ? 24 : 12;
        reference = kTiles * 4096 * sums * lanes * per_unit * 2 / Reference("peak", kTiles, nullptr);
        rate = flops / Seconds(launches);
      }
      rates.push_back(rate);
      reference_rates.push_back(reference);
      ratios.push_back(rate / reference);
    }
    const auto best = [](const std::vector<double>& v) {
      return *std::max_element(v.begin(), v.end()) / 1e9;
    };
    fmt::print(
        "{:8} rows {:4}  {:7.1f} {} best, {:7.1f} median; reference {:7.1f} best, {:7.1f} median; ratio of "
        "bests "
        "{:.3f}, median ratio {:.3f}; compiled in {:.0f} ms  {}\n",
        shape.name, rows, best(rates), rows == 1 ? "GB/s" : "GFLOP/s", Median(rates) / 1e9,
        best(reference_rates), Median(reference_rates) / 1e9, best(rates) / best(reference_rates),
        Median(ratios), compile_seconds * 1e3, codegen::ToText(schedule));
    std::fflush(stdout);
  }

  double Seconds(std::span<const device::Launch> launches) {
    const double begin = Now(device_.threads() == 1);
    device_.Run(launches);
    return Now(device_.threads() == 1) - begin;
  }

  double Reference(std::string_view entry, int64_t tiles, void* operand) {
    const ph_args args{&operand, nullptr, 1, 0, 0};
    const device::Launch launch{
        .kernel = references_->Entry(0, entry), .args = &args, .tiles = tiles, .chunk = 1};
    return Seconds({&launch, 1});
  }

  Options options_;
  toolchain::HostCompiler compiler_;
  device::CpuDevice device_;
  device::Buffer pool_;
  size_t pool_next_ = 0;
  std::unique_ptr<device::CodeModule> references_;
};

Options ParseOptions(int argc, char** argv) {
  Options options;
  options.target = codegen::ParseTarget(toolchain::CpuTargets().front());
  for (int i = 1; i < argc; ++i) {
    const std::string name = argv[i];
    if (name == "--candidates") {
      options.candidates = true;
      continue;
    }
    if (i + 1 == argc) throw base::MakeError(base::ErrorKind::kInvalidArgument, "{} needs a value", name);
    const std::string value = argv[++i];
    if (name == "--rows") {
      options.rows.clear();
      std::istringstream items(value);
      for (std::string item; std::getline(items, item, ',');) options.rows.push_back(std::stoll(item));
    } else if (name == "--shape") {
      options.shape = value;
    } else if (name == "--target") {
      options.target = codegen::ParseTarget(value);
    } else if (name == "--repeats") {
      options.repeats = std::stoi(value);
    } else if (name == "--threads") {
      options.threads = std::stoi(value);
    } else if (name == "--schedule") {
      std::istringstream items(value);
      for (std::string item; items >> item;) {
        const size_t equals = item.find('=');
        options.schedule[item.substr(0, equals)] = std::stoll(item.substr(equals + 1));
      }
    } else {
      throw base::MakeError(base::ErrorKind::kInvalidArgument, "unknown option {}", name);
    }
  }
  return options;
}

}  // namespace
}  // namespace preheat

int main(int argc, char** argv) {
  try {
    const preheat::Options options = preheat::ParseOptions(argc, argv);
    preheat::Bench bench(options);
    for (const int64_t rows : options.rows) {
      for (const preheat::Shape& shape : preheat::Shapes()) {
        if (!options.shape.empty() && options.shape != shape.name) continue;
        // Only one row goes through the head.
        if (shape.name == "head" && rows != 1) continue;
        bench.Run(shape, rows);
      }
    }
  } catch (const std::exception& error) {
    fmt::print(stderr, "{}\n", error.what());
    return 1;
  }
  return 0;
}
