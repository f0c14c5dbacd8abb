// What a persistent kernel (persistent.h) does with the weights of its products: one text for each length of
// sum. How links differ in it, each link's own text says; links that stage their multiplicands alike share
// that, too. So there is less to compile.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace preheat::codegen::cuda::persistent {

// "namespace NAME { TEXT }".
std::string Namespace(std::string_view name, std::string_view text);

class ProductsByLength {
 public:
  // The link of this kind, which has kProductLink in namespace link<kind>. `k`: what it sums over. `stage`:
  // text that defines StageX (kStageX).
  void Add(size_t kind, int64_t k, const std::string& stage);

  // The stages, then Consume of each length. After the links' own texts.
  std::string Text() const;
  // The cases of a switch over kinds that call it.
  std::string Cases() const;

 private:
  struct Member {
    size_t kind;
    size_t stage;  // in staged_
  };
  struct Length {
    int64_t k;
    std::vector<Member> members;
  };

  static std::string TextOf(const Length& length);

  std::vector<std::string> staged_;
  std::vector<Length> lengths_;
};

}  // namespace preheat::codegen::cuda::persistent
