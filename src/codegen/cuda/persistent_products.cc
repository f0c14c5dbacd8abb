#include "codegen/cuda/persistent_products.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "codegen/cuda/persistent_body.h"

namespace preheat::codegen::cuda::persistent {
namespace {

std::string NameOf(int64_t k) {
  return fmt::format("sums{}", k);
}

}  // namespace

std::string Namespace(std::string_view name, std::string_view text) {
  return fmt::format("namespace {0} {{\n{1}}}  // namespace {0}\n", name, text);
}

void ProductsByLength::Add(size_t kind, int64_t k, const std::string& stage) {
  const auto same = std::ranges::find(staged_, stage);
  const auto index = static_cast<size_t>(same - staged_.begin());
  if (same == staged_.end()) staged_.push_back(stage);
  auto length = std::ranges::find(lengths_, k, &Length::k);
  if (length == lengths_.end()) length = lengths_.insert(length, {k, {}});
  length->members.push_back({kind, index});
}

std::string ProductsByLength::Text() const {
  std::string text;
  for (size_t i = 0; i < staged_.size(); ++i) text += Namespace(fmt::format("x{}", i), staged_[i]);
  for (const Length& length : lengths_) text += Namespace(NameOf(length.k), TextOf(length));
  return text;
}

std::string ProductsByLength::TextOf(const Length& length) {
  // A switch over the length's kinds; `statement`: {0} is the kind, {1} its stage. Kinds of which it is the
  // same have one case, so that it is compiled once.
  const auto each = [&](std::string_view statement) {
    std::vector<std::pair<std::string, std::string>> cases;  // of a statement: its labels
    for (const Member& member : length.members) {
      const std::string own = fmt::format(fmt::runtime(statement), member.kind, member.stage);
      auto known = std::ranges::find(cases, own, &std::pair<std::string, std::string>::first);
      if (known == cases.end()) known = cases.insert(known, {own, ""});
      known->second += fmt::format("case {}: ", member.kind);
    }
    cases.back().second = "default: ";
    std::string text = "  switch (kind) {\n";
    for (const auto& [own, labels] : cases) text += "    " + labels + own + " break;\n";
    return text + "  }\n";
  };
  std::string text = fmt::format("constexpr int kK = {};\n", length.k);
  text += "union Early {\n";
  for (const Member& member : length.members)
    text += fmt::format("  link{0}::warp::Early of{0};\n", member.kind);
  text += "};\n";
  text += "INLINE i64 TilesOf(int kind) {\n" + each("return link{0}::kTiles;") + "}\n";
  text += "template <class Ask> INLINE Element* StageX(int kind, const ph_args* args, Ask ask) {\n" +
          each("return x{1}::StageX(args, ask);") + "}\n";
  text += "INLINE void AskFor(int kind, const ph_args* args, i64 t, Early* early) {\n" +
          each("early->of{0} = link{0}::Before(args, t);") + "}\n";
  text += "// Then asks for what tile `next` needs, where there is one.\n";
  text +=
      "INLINE void FinishAndAsk(int kind, const ph_args* args, i64 t, float sum, i64 next, Early* early) "
      "{\n" +
      each(
          "link{0}::Finish(args, t, sum, early->of{0}); "
          "if (next < link{0}::kTiles) early->of{0} = link{0}::Before(args, next);") +
      "}\n";
  return text + kSums;
}

std::string ProductsByLength::Cases() const {
  std::string text;
  for (const Length& length : lengths_) {
    text += "     ";
    for (const Member& member : length.members) text += fmt::format(" case {}:", member.kind);
    text += fmt::format(" {}::Consume(kind, &args, &consumer); break;\n", NameOf(length.k));
  }
  return text;
}

}  // namespace preheat::codegen::cuda::persistent
