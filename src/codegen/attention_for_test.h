// For tests and benchmarks: an attention region with random data, run as compiled and as plain sums in
// double.
#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "codegen/attention.h"
#include "codegen/buffers.h"
#include "codegen/cache_layout_for_test.h"
#include "codegen/unit_for_test.h"
#include "tensor/tensor_view.h"

namespace preheat::codegen {

// Attention, or SplitAttention where `block` is not 0.
struct AttentionCase {
  Target target;
  int64_t kv_heads = 1;
  int64_t group = 1;
  int64_t head_dim = 64;
  tensor::DType query = tensor::DType::kF32;
  tensor::DType cache = tensor::DType::kF32;
  tensor::DType result = tensor::DType::kF32;
  int64_t block = 0;
  bool last_row_alone = false;  // the query has one row, however many the step has

  int64_t heads() const { return kv_heads * group; }
  double scale() const { return 1 / std::sqrt(static_cast<double>(head_dim)); }

  std::string Name() const {
    return fmt::format("{} {} x {} heads of {}, {} {} {}, block {} ", target.name, kv_heads, group, head_dim,
                       tensor::ShortName(query), tensor::ShortName(cache), tensor::ShortName(result), block);
  }

  ir::Type Query() const {
    const ir::Dim rows = last_row_alone ? ir::Dim::Of(1) : ir::Dim::Rows();
    return {query, {rows, ir::Dim::Of(heads() * head_dim)}};
  }
  ir::Type Cache() const {
    return {cache, {ir::Dim::Of(2), ir::Dim::Positions(), ir::Dim::Of(kv_heads), ir::Dim::Of(head_dim)}};
  }
  ir::Type Result() const {
    if (block == 0) return {result, Query().shape};
    return {result, {ir::Dim::Splits(), ir::Dim::Of(heads()), ir::Dim::Of(head_dim + 2)}};
  }

  static constexpr ir::NodeId kNode = 2;
  ir::Graph Graph() const {
    ir::Node node{block != 0 ? ir::Op::kSplitAttention : ir::Op::kAttention, {0, 1}, {}, Result()};
    node.attributes = {
        {"heads", heads()}, {"kv_heads", kv_heads}, {"head_dim", head_dim}, {"scale", scale()}};
    if (block != 0) node.attributes["block"] = block;
    ir::Graph graph;
    graph.nodes = {{ir::Op::kCarry, {}, {}, Query()}, {ir::Op::kKvCache, {}, {}, Cache()}, node};
    return graph;
  }

  bool CanCompile() const { return attention::CanCompile(Graph(), kNode, target); }
  std::vector<Schedule> Candidates(const StepShape& shape) const {
    return attention::Candidates(Graph(), kNode, target, shape);
  }
  // An empty schedule stands for the default one.
  RegionCode Generate(const Schedule& schedule) const {
    const ir::Graph graph = Graph();
    const StepShape shape;
    return attention::Generate(
        graph, kNode, target, shape,
        schedule.empty() ? attention::DefaultSchedule(graph, kNode, target, shape) : schedule);
  }
};

// Queries, and keys and values of the positions up to the last row's; as the types hold them. Slots of the
// cache behind them are garbage: NaN unless said otherwise.
class AttentionData {
 public:
  AttentionData(const AttentionCase& c, int64_t rows, int64_t past, int64_t capacity)
      : case_(c), rows_(rows), past_(past), capacity_((capacity + 15) / 16 * 16) {
    std::mt19937 random(1234);
    // Values within 1 in size; scores with a spread that makes some positions matter much more than others.
    std::normal_distribution<float> normal(0, 2);
    std::uniform_real_distribution<float> uniform(-1, 1);
    const auto positions = static_cast<size_t>(past + rows);
    queries_ =
        Rounded(static_cast<size_t>(rows * c.heads() * c.head_dim), c.query, [&] { return normal(random); });
    keys_ = Rounded(positions * static_cast<size_t>(c.kv_heads * c.head_dim), c.cache,
                    [&] { return uniform(random); });
    values_ = Rounded(keys_.size(), c.cache, [&] { return uniform(random); });
  }

  std::string Name() const { return fmt::format("rows {} past {} capacity {}", rows_, past_, capacity_); }
  int64_t rows() const { return rows_; }  // of the queries
  // Of the step.
  int64_t step_rows() const { return rows_ + others_; }
  int64_t past() const { return past_ - others_; }
  int64_t capacity() const { return capacity_; }

  // The step of one row alone, with `garbage` behind what it sees.
  AttentionData OneRow(int64_t row, float garbage) const {
    AttentionData one = *this;
    const auto row_elements = case_.heads() * case_.head_dim;
    one.queries_.assign(queries_.begin() + row * row_elements, queries_.begin() + (row + 1) * row_elements);
    one.rows_ = 1;
    one.past_ = past_ + row;
    one.garbage_ = garbage;
    const auto size = static_cast<size_t>((one.past_ + 1) * case_.kv_heads * case_.head_dim);
    one.keys_.resize(size);
    one.values_.resize(size);
    return one;
  }

  // The last row, in the step of all of them.
  AttentionData LastRowAlone() const {
    AttentionData last = OneRow(rows_ - 1, garbage_);
    last.others_ = rows_ - 1;
    return last;
  }

  // A NaN among a position's keys.
  void PoisonKey(int64_t position) { keys_[At(position, 0, 0)] = std::numeric_limits<float>::quiet_NaN(); }

  // [rows, heads * head_dim]
  std::vector<double> Reference() const {
    const int64_t dim = case_.head_dim;
    std::vector<double> result;
    for (int64_t row = 0; row < rows_; ++row) {
      for (int64_t head = 0; head < case_.heads(); ++head) {
        const float* query = &queries_[static_cast<size_t>((row * case_.heads() + head) * dim)];
        std::vector<double> weights;
        for (int64_t position = 0; position <= past_ + row; ++position) {
          double score = 0;
          for (int64_t d = 0; d < dim; ++d)
            score += double{query[d]} * keys_[At(position, head / case_.group, d)];
          weights.push_back(score * case_.scale());
        }
        const double max = *std::max_element(weights.begin(), weights.end());
        double sum = 0;
        for (double& weight : weights) sum += weight = std::exp(weight - max);
        for (int64_t d = 0; d < dim; ++d) {
          double value = 0;
          for (size_t p = 0; p < weights.size(); ++p) {
            value += weights[p] * values_[At(static_cast<int64_t>(p), head / case_.group, d)];
          }
          result.push_back(value / sum);
        }
      }
    }
    return result;
  }

  // Row-major with RowStride, padding NaN.
  AlignedArray<std::byte> QueryBuffer() const {
    const int64_t stride = RowStride(case_.Query());
    const int64_t width = case_.heads() * case_.head_dim;
    std::vector<float> padded(static_cast<size_t>(rows_ * stride), std::numeric_limits<float>::quiet_NaN());
    for (int64_t i = 0; i < rows_ * width; ++i)
      padded[static_cast<size_t>(i / width * stride + i % width)] = queries_[static_cast<size_t>(i)];
    return Stored(padded, case_.query);
  }
  AlignedArray<std::byte> KeyBuffer() const { return CacheBuffer(keys_, KeyOffsetForTest); }
  AlignedArray<std::byte> ValueBuffer() const { return CacheBuffer(values_, ValueOffsetForTest); }

 private:
  template <typename Draw>
  static std::vector<float> Rounded(size_t size, tensor::DType dtype, Draw draw) {
    std::vector<float> values(size);
    for (float& value : values) value = draw();
    const AlignedArray<std::byte> bytes = Stored(values, dtype);
    const tensor::TensorView view(dtype, {static_cast<int64_t>(size)},
                                  {bytes.data(), size * tensor::Bytes(dtype)});
    view.ReadFloats(0, values);
    return values;
  }
  static AlignedArray<std::byte> Stored(const std::vector<float>& values, tensor::DType dtype) {
    AlignedArray<std::byte> bytes(values.size() * tensor::Bytes(dtype));
    tensor::StoreFloats(values, dtype, {bytes.data(), values.size() * tensor::Bytes(dtype)});
    return bytes;
  }
  size_t At(int64_t position, int64_t kv_head, int64_t d) const {
    return static_cast<size_t>((position * case_.kv_heads + kv_head) * case_.head_dim + d);
  }
  template <typename Offset>
  AlignedArray<std::byte> CacheBuffer(const std::vector<float>& from, Offset offset) const {
    const CacheShape shape = CacheShapeOf(case_.Cache(), case_.target);
    const int64_t dim = case_.head_dim;
    std::vector<float> cache(static_cast<size_t>(case_.kv_heads * capacity_ * dim), garbage_);
    for (int64_t h = 0; h < case_.kv_heads; ++h) {
      for (int64_t t = 0; t < past_ + rows_; ++t) {
        for (int64_t d = 0; d < dim; ++d) {
          cache[static_cast<size_t>(offset(shape, capacity_, h, t, d))] = from[At(t, h, d)];
        }
      }
    }
    return Stored(cache, case_.cache);
  }

  AttentionCase case_;
  int64_t rows_, past_, capacity_;
  int64_t others_ = 0;  // rows of the step before ours
  float garbage_ = std::numeric_limits<float>::quiet_NaN();
  std::vector<float> queries_, keys_, values_;
};

class AttentionUnit {
 public:
  AttentionUnit(const AttentionCase& c, const Schedule& schedule)
      : case_(c), code_(c.Generate(schedule)), unit_(code_.source, c.target) {}

  // [rows, heads * head_dim]; partial results merged.
  std::vector<float> Run(const AttentionData& data) const {
    if (case_.block != 0) return Merged(RunPartial(data), data);
    const int64_t stride = RowStride(case_.Result());
    const size_t bytes = static_cast<size_t>(data.rows() * stride) * tensor::Bytes(case_.result);
    AlignedArray<std::byte> result(bytes);
    Launch(data, result.data());
    const tensor::TensorView view(case_.result, {data.rows(), stride}, {result.data(), bytes});
    std::vector<float> rows;
    const int64_t width = case_.heads() * case_.head_dim;
    for (int64_t i = 0; i < data.rows() * width; ++i) rows.push_back(view.At(i / width * stride + i % width));
    return rows;
  }

  // [parts that the capacity could need, heads, RowStride], NaN where nothing was written.
  std::vector<float> RunPartial(const AttentionData& data) const {
    const int64_t parts = (data.capacity() + case_.block - 1) / case_.block;
    const auto size = static_cast<size_t>(parts * case_.heads() * RowStride(case_.Result()));
    AlignedArray<float> partial(size);
    std::fill(partial.data(), partial.data() + size, std::numeric_limits<float>::quiet_NaN());
    Launch(data, partial.data());
    return {partial.data(), partial.data() + size};
  }

 private:
  void Launch(const AttentionData& data, void* result) const {
    auto query = data.QueryBuffer(), keys = data.KeyBuffer(), values = data.ValueBuffer();
    RunLaunch(unit_, code_.launches[0], {query.data(), keys.data(), values.data(), result}, data.step_rows(),
              data.past(), data.capacity());
  }

  std::vector<float> Merged(const std::vector<float>& partial, const AttentionData& data) const {
    const int64_t dim = case_.head_dim;
    const int64_t stride = RowStride(case_.Result());
    const int64_t positions = data.past() + data.step_rows();
    const int64_t parts = (positions + case_.block - 1) / case_.block;
    std::vector<float> row;
    for (int64_t head = 0; head < case_.heads(); ++head) {
      const auto at = [&](int64_t part, int64_t i) {
        return partial[static_cast<size_t>((part * case_.heads() + head) * stride + i)];
      };
      float max = at(0, dim);
      for (int64_t part = 1; part < parts; ++part) max = std::max(max, at(part, dim));
      float sum = 0;
      for (int64_t part = 0; part < parts; ++part) sum += at(part, dim + 1) * std::exp(at(part, dim) - max);
      for (int64_t d = 0; d < dim; ++d) {
        float value = 0;
        for (int64_t part = 0; part < parts; ++part) value += at(part, d) * std::exp(at(part, dim) - max);
        row.push_back(value / sum);
      }
    }
    return row;
  }

  AttentionCase case_;
  RegionCode code_;
  UnitForTest unit_;
};

}  // namespace preheat::codegen
