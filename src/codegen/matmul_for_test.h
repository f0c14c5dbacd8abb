// For tests and benchmarks: a graph of one Matmul, its operands in memory, and its launches run.
#pragma once

#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "codegen/buffers.h"
#include "codegen/cache_layout_for_test.h"
#include "codegen/matmul.h"
#include "codegen/unit_for_test.h"
#include "tensor/bf16.h"
#include "tensor/f16.h"

namespace preheat::codegen {

using tensor::DType;

struct MatmulCase {
  std::string prologue = "none";
  std::string epilogue = "store";
  int64_t k = 64;
  std::vector<int64_t> columns = {64};
  DType weight = DType::kBf16;
  DType x = DType::kF32;
  DType out = DType::kF32;
  std::string math = "bf16";
  bool bias = false;
  int64_t head_dim = 0;  // rotary_append, merge
  DType cache = DType::kBf16;
  bool logits = false;

  std::string Name() const {
    std::string name = prologue + "-" + epilogue + "-k" + std::to_string(k) + "-n";
    for (const int64_t n : columns) name += std::to_string(n) + ".";
    name += std::string(tensor::ShortName(weight)) + "-" + math + "-" + std::string(tensor::ShortName(x)) +
            "-" + std::string(tensor::ShortName(out)) + (bias ? "-bias" : "") + (logits ? "-logits" : "");
    return name;
  }
};

struct MatmulGraph {
  ir::Graph graph;
  ir::NodeId x = ir::kNoNode;
  ir::NodeId norm = ir::kNoNode;
  ir::NodeId residual = ir::kNoNode;
  ir::NodeId cache = ir::kNoNode;
  std::vector<ir::NodeId> weights, biases;
  ir::NodeId matmul = ir::kNoNode;
};

inline constexpr int64_t kSplitBlockForTest = 64;

// With `before`, the graph goes on from that one: its result is this one's x.
inline MatmulGraph MakeGraph(const MatmulCase& c, const MatmulGraph* before = nullptr) {
  using ir::Dim;
  MatmulGraph g;
  if (before != nullptr) {
    g.graph = before->graph;
  } else {
    g.graph.blocks.push_back({.name = "block", .repeat = 1, .nodes = {}});
  }
  const auto add = [&](ir::Op op, DType dtype, std::vector<Dim> shape) {
    ir::Node node;
    node.op = op;
    node.type = {dtype, std::move(shape)};
    return g.graph.Add(std::move(node));
  };
  const auto weight = [&](DType dtype, std::vector<Dim> shape) {
    return add(ir::Op::kWeight, dtype, std::move(shape));
  };
  if (c.prologue == "merge") {
    const int64_t heads = c.k / c.head_dim;
    g.x = add(ir::Op::kSplitAttention, DType::kF32, {Dim::Splits(), Dim::Of(heads), Dim::Of(c.head_dim + 2)});
    g.graph[g.x].attributes = {{"block", kSplitBlockForTest}, {"heads", heads}, {"head_dim", c.head_dim}};
  } else if (before != nullptr) {
    g.x = before->matmul;
  } else {
    g.x = add(ir::Op::kCarry, c.x, {Dim::Rows(), Dim::Of(c.k)});
  }
  ir::Node node;
  node.op = ir::Op::kMatmul;
  node.attributes = {
      {"prologue", c.prologue},  {"epilogue", c.epilogue}, {"parts", static_cast<int64_t>(c.columns.size())},
      {"bias", int64_t{c.bias}}, {"math", c.math},         {"eps", 1e-5},
      {"head_dim", c.head_dim}};
  node.inputs = {g.x};
  if (c.prologue == "rms_norm") {
    g.norm = weight(c.weight, {Dim::Of(c.k)});
    node.inputs.push_back(g.norm);
  }
  for (const int64_t n : c.columns) g.weights.push_back(weight(c.weight, {Dim::Of(n), Dim::Of(c.k)}));
  node.inputs.insert(node.inputs.end(), g.weights.begin(), g.weights.end());
  for (const int64_t n : c.columns) {
    if (c.bias) g.biases.push_back(weight(c.weight, {Dim::Of(n)}));
  }
  node.inputs.insert(node.inputs.end(), g.biases.begin(), g.biases.end());
  if (c.epilogue == "add") {
    g.residual = add(ir::Op::kCarry, DType::kF32, {Dim::Rows(), Dim::Of(c.columns[0])});
    node.inputs.push_back(g.residual);
  }
  if (c.epilogue == "rotary_append") {
    g.cache = add(ir::Op::kKvCache, c.cache,
                  {Dim::Of(2), Dim::Past(), Dim::Of(c.columns[1] / c.head_dim), Dim::Of(c.head_dim)});
    node.inputs.push_back(g.cache);
  }
  node.type = {c.out, {Dim::Rows(), Dim::Of(c.columns[0])}};
  g.matmul = g.graph.Add(std::move(node));
  if (c.logits) g.graph.logits = g.matmul;
  return g;
}

inline double ReadElement(const void* data, DType dtype, int64_t i) {
  uint16_t half;
  float single;
  switch (dtype) {
    case DType::kBf16:
      std::memcpy(&half, static_cast<const char*>(data) + 2 * i, 2);
      return tensor::Bf16ToFloat(half);
    case DType::kF16:
      std::memcpy(&half, static_cast<const char*>(data) + 2 * i, 2);
      return tensor::F16ToFloat(half);
    default:
      std::memcpy(&single, static_cast<const char*>(data) + 4 * i, 4);
      return single;
  }
}

inline void WriteElement(void* data, DType dtype, int64_t i, float value) {
  uint16_t half = 0;
  switch (dtype) {
    case DType::kBf16:
      half = tensor::FloatToBf16(value);
      std::memcpy(static_cast<char*>(data) + 2 * i, &half, 2);
      return;
    case DType::kF16:
      half = tensor::FloatToF16(value);
      std::memcpy(static_cast<char*>(data) + 2 * i, &half, 2);
      return;
    default:
      std::memcpy(static_cast<char*>(data) + 4 * i, &value, 4);
  }
}

// Memory whose last byte is the last of a page, with a page behind it that cannot be read.
class GuardedBytes {
 public:
  explicit GuardedBytes(size_t size) : size_(size) {
    constexpr size_t kPage = 4096;
    mapped_ = (size + kPage - 1) / kPage * kPage + kPage;
    base_ = static_cast<char*>(
        mmap(nullptr, mapped_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    mprotect(base_ + mapped_ - kPage, kPage, PROT_NONE);
  }
  GuardedBytes(GuardedBytes&& other) noexcept
      : base_(std::exchange(other.base_, nullptr)), mapped_(other.mapped_), size_(other.size_) {}
  GuardedBytes& operator=(GuardedBytes&&) = delete;
  ~GuardedBytes() {
    if (base_ != nullptr) munmap(base_, mapped_);
  }
  char* data() const { return base_ + mapped_ - 4096 - size_; }
  size_t size() const { return size_; }

 private:
  char* base_ = nullptr;
  size_t mapped_ = 0;
  size_t size_ = 0;
};

// A matrix [rows, columns] as an activation lies in memory, or dense; everything NaN at first.
struct Matrix {
  DType dtype;
  int64_t rows, columns, stride;
  GuardedBytes bytes;

  Matrix(DType type, int64_t row_count, int64_t column_count, int64_t row_stride)
      : dtype(type),
        rows(row_count),
        columns(column_count),
        stride(row_stride),
        bytes(static_cast<size_t>(row_count * row_stride) * tensor::Bytes(type)) {
    std::memset(bytes.data(), 0xff, bytes.size());
  }
  static Matrix Dense(DType type, int64_t rows, int64_t columns) {
    return Matrix(type, rows, columns, columns);
  }
  static Matrix Activation(DType type, int64_t rows, int64_t columns) {
    return Matrix(type, rows, columns, RowStride({type, {ir::Dim::Of(columns)}}));
  }
  double At(int64_t row, int64_t column) const {
    return ReadElement(bytes.data(), dtype, row * stride + column);
  }
  void Set(int64_t row, int64_t column, double value) {
    WriteElement(bytes.data(), dtype, row * stride + column, static_cast<float>(value));
  }
  template <typename Random>
  void Fill(int64_t valid_rows, Random&& random) {
    for (int64_t r = 0; r < valid_rows; ++r) {
      for (int64_t c = 0; c < columns; ++c) Set(r, c, random());
    }
  }
};

// Everything that one run of a case reads and writes.
struct MatmulData {
  const MatmulCase& c;
  const MatmulGraph& g;
  int64_t rows, past, capacity;
  int64_t max_rows;  // of the buffers; rows beyond `rows` are NaN and must stay so
  Matrix x, norm, residual, rotary, out;
  std::vector<Matrix> weights, biases;
  Matrix keys, values;
  std::map<int, Matrix> workspaces;
  std::map<int, Matrix> handed;  // from another region, or to one
  Matrix* gain = nullptr;        // of the region that it is handed to

  MatmulData(const MatmulCase& matmul_case, const MatmulGraph& graph, int64_t valid_rows,
             int64_t past_positions = 0)
      : c(matmul_case),
        g(graph),
        rows(valid_rows),
        past(past_positions),
        capacity((past + valid_rows + 15) / 16 * 16),
        max_rows(valid_rows + 3),
        x(c.prologue == "merge"
              ? Matrix::Activation(DType::kF32, Splits() * (c.k / c.head_dim), c.head_dim + 2)
              : Matrix::Activation(c.x, max_rows, c.k)),
        norm(Matrix::Dense(c.weight, 1, c.k)),
        residual(Matrix::Activation(DType::kF32, max_rows, c.columns[0])),
        rotary(Matrix::Dense(DType::kF32, capacity, std::max<int64_t>(c.head_dim, 1))),
        out(c.logits ? Matrix::Dense(c.out, max_rows, c.columns[0])
                     : Matrix::Activation(c.out, max_rows, c.columns[0])),
        keys(Matrix::Dense(c.cache, capacity, c.epilogue == "rotary_append" ? c.columns[1] : 1)),
        values(Matrix::Dense(c.cache, capacity, c.epilogue == "rotary_append" ? c.columns[1] : 1)) {
    std::mt19937 engine(static_cast<uint32_t>(rows * 7919 + c.k));
    std::uniform_real_distribution<double> uniform(-1, 1);
    const auto random = [&] { return uniform(engine); };
    x.Fill(c.prologue == "merge" ? x.rows : rows, random);
    if (c.prologue == "merge") {
      for (int64_t r = 0; r < x.rows; ++r) x.Set(r, c.head_dim + 1, 1.5 + uniform(engine));  // l > 0
    }
    norm.Fill(1, random);
    residual.Fill(rows, random);
    rotary.Fill(capacity, random);
    for (const int64_t n : c.columns) {
      weights.push_back(Matrix::Dense(c.weight, n, c.k));
      weights.back().Fill(n, random);
      if (!c.bias) continue;
      biases.push_back(Matrix::Dense(c.weight, 1, n));
      biases.back().Fill(1, random);
    }
  }

  int64_t Splits() const { return (past + rows + kSplitBlockForTest - 1) / kSplitBlockForTest; }

  void* Pointer(const RegionOperand& operand) {
    using Kind = RegionOperand::Kind;
    switch (operand.kind) {
      case Kind::kHanded:
        return handed.at(operand.workspace).bytes.data();
      case Kind::kWorkspace:
        return workspaces.at(operand.workspace).bytes.data();
      case Kind::kKeyCache:
        return keys.bytes.data();
      case Kind::kValueCache:
        return values.bytes.data();
      case Kind::kRotary:
        return rotary.bytes.data();
      case Kind::kLogits:
        return out.bytes.data();
      case Kind::kNode:
        break;
      case Kind::kIds:
      case Kind::kState:
        return nullptr;
    }
    if (operand.node == g.x) return x.bytes.data();
    if (operand.node == g.norm) return norm.bytes.data();
    if (operand.node == g.residual) return residual.bytes.data();
    if (operand.node == g.matmul) return out.bytes.data();
    for (size_t p = 0; p < weights.size(); ++p) {
      if (operand.node == g.weights[p]) return weights[p].bytes.data();
      if (c.bias && operand.node == g.biases[p]) return biases[p].bytes.data();
    }
    return gain == nullptr ? nullptr : gain->bytes.data();
  }

  // Runs all launches on this thread, the tiles of each in two calls that begin with the later half.
  void Run(const UnitForTest& unit, const RegionCode& code) {
    for (size_t w = 0; w < code.workspaces.size(); ++w) {
      const auto bytes = code.workspaces[w].extent.Bytes(rows, capacity);
      workspaces.emplace(static_cast<int>(w), Matrix::Dense(DType::kF32, 1, (bytes + 63) / 64 * 16));
    }
    for (const RegionLaunch& launch : code.launches) {
      std::vector<void*> operands;
      for (const RegionOperand& operand : launch.operands) operands.push_back(Pointer(operand));
      const ph_args args = {.operands = operands.data(),
                            .constants = nullptr,
                            .rows = rows,
                            .past = past,
                            .capacity = capacity};
      AlignedArray<std::byte> scratch(static_cast<size_t>(launch.scratch_bytes) + 64);
      std::memset(scratch.data(), 0xff, static_cast<size_t>(launch.scratch_bytes));
      const int64_t tiles = launch.tiles.Tiles(rows, past);
      if (!launch.stage_entry.empty()) unit.Entry(launch.stage_entry)(&args, 0, tiles, scratch.data());
      unit.Entry(launch.entry)(&args, tiles / 2, tiles, scratch.data());
      unit.Entry(launch.entry)(&args, 0, tiles / 2, scratch.data());
    }
  }
};

}  // namespace preheat::codegen
