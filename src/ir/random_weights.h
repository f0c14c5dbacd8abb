// Weights for any graph, made up from their names: for property tests. Test code only.
#pragma once

#include <cmath>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "base/check.h"
#include "ir/graph.h"
#include "ir/interpreter.h"
#include "tensor/tensor_view.h"

namespace preheat::ir {

// A WeightProvider: the same name, layer and seed give the same values, whatever graph asks. Must outlive its
// views.
class RandomWeights {
 public:
  RandomWeights(const Graph& graph, uint64_t seed) : seed_(seed) {
    for (const Node& node : graph.nodes) {
      if (node.op == Op::kWeight) types_[node.Text("name")] = node.type;
    }
  }

  WeightProvider Provider() {
    return [this](std::string_view name, int64_t layer) { return View(std::string(name), layer); };
  }

 private:
  tensor::TensorView View(const std::string& name, int64_t layer) {
    const auto found = types_.find(name);
    CHECK(found != types_.end());
    const Type& type = found->second;
    std::vector<int64_t> shape;
    for (const Dim& dim : type.shape) shape.push_back(dim.size);
    std::vector<std::byte>& bytes = bytes_[BindLayer(name, layer)];
    if (bytes.empty()) bytes = Fill(BindLayer(name, layer), type.dtype, tensor::Shape(shape));
    return tensor::TensorView(type.dtype, tensor::Shape(shape), bytes);
  }

  // Rows of matrices have about unit gain; vectors lie around 1 (norms) or 0.3 (biases).
  std::vector<std::byte> Fill(const std::string& name, tensor::DType dtype,
                              const tensor::Shape& shape) const {
    std::seed_seq seed(name.begin(), name.end());
    std::mt19937_64 random(seed);
    random.seed(random() ^ seed_);
    std::normal_distribution<float> normal;
    const bool bias = name.find("bias") != std::string::npos;
    const float scale = shape.rank() == 2 ? 1.2f / std::sqrt(static_cast<float>(shape[1]))
                        : bias            ? 0.3f
                                          : 0.2f;
    const float offset = shape.rank() == 2 || bias ? 0.0f : 1.0f;
    std::vector<float> values(static_cast<size_t>(shape.Elements()));
    for (float& value : values) value = offset + scale * normal(random);
    std::vector<std::byte> bytes(values.size() * tensor::Bytes(dtype));
    tensor::StoreFloats(values, dtype, bytes);
    return bytes;
  }

  uint64_t seed_;
  std::map<std::string, Type> types_;
  std::map<std::string, std::vector<std::byte>> bytes_;
};

}  // namespace preheat::ir
