#include "codegen/cpu_shuffles.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <string_view>
#include <vector>

namespace preheat::codegen {
namespace {

// One function `name(a, b)`: lane j of the result is lane index(j) of a followed by b.
template <typename Index>
std::string Shuffle(std::string_view type, std::string_view name, int lanes, Index index) {
  std::vector<int> indices;
  for (int j = 0; j < lanes; ++j) indices.push_back(index(j));
  return fmt::format("INLINE {0} {1}({0} a, {0} b) {{ return __builtin_shufflevector(a, b, {2}); }}\n", type,
                     name, fmt::join(indices, ", "));
}

// Fold<D>(a, b): lanes whose bit D is clear sum lanes j and j ^ D of a, the others of b.
std::string Folds(int lanes) {
  std::string text;
  for (int d = 1; d < lanes; d *= 2) {
    text +=
        Shuffle("VF", fmt::format("Keep{}", d), lanes, [&](int j) { return (j & d) != 0 ? lanes + j : j; });
    text += Shuffle("VF", fmt::format("Cross{}", d), lanes,
                    [&](int j) { return (j & d) != 0 ? lanes + (j ^ d) : (j ^ d); });
    text += fmt::format("INLINE VF Fold{0}(VF a, VF b) {{ return Keep{0}(a, b) + Cross{0}(a, b); }}\n", d);
  }
  text += "template <int N> INLINE VF SumEach(VF* a) {\n";
  for (int d = 1; d < lanes; d *= 2) {
    text += fmt::format(
        "  if constexpr (N > {0}) {{\n"
        "    UNROLL for (int i = 0; i < N / {1}; ++i) a[i] = Fold{0}(a[2 * i], a[2 * i + 1]);\n"
        "  }} else {{\n"
        "    a[0] = Fold{0}(a[0], a[0]);\n"
        "  }}\n",
        d, 2 * d);
  }
  text += "  return a[0];\n}\nINLINE float Sum(VF v) { return SumEach<1>(&v)[0]; }\n";
  text += "INLINE float MaxLane(VF v) {\n";
  for (int d = 1; d < lanes; d *= 2) text += fmt::format("  v = Max(v, Cross{0}(v, v));\n", d);
  text += "  return v[0];\n}\n";
  return text;
}

constexpr char kTransposeBlocks[] = R"text(
INLINE void Transpose(VU* rows) {
  VU t[LANES];
  UNROLL for (int i = 0; i < LANES; i += 2) {
    t[i] = InterleaveLow(rows[i], rows[i + 1]);
    t[i + 1] = InterleaveHigh(rows[i], rows[i + 1]);
  }
  // Part p of rows[4 * q + c]: column 4 * p + c of the rows 4 * q .. 4 * q + 3.
  UNROLL for (int i = 0; i < LANES; i += 4) {
    rows[i] = (VU)InterleavePairsLow((VPair)t[i], (VPair)t[i + 2]);
    rows[i + 1] = (VU)InterleavePairsHigh((VPair)t[i], (VPair)t[i + 2]);
    rows[i + 2] = (VU)InterleavePairsLow((VPair)t[i + 1], (VPair)t[i + 3]);
    rows[i + 3] = (VU)InterleavePairsHigh((VPair)t[i + 1], (VPair)t[i + 3]);
  }
)text";

constexpr char kTranspose2Parts[] = R"text(  UNROLL for (int c = 0; c < 4; ++c) {
    const VU low = rows[c], high = rows[4 + c];
    rows[c] = EvenParts(low, high);
    rows[4 + c] = OddParts(low, high);
  }
}
)text";

constexpr char kTranspose4Parts[] = R"text(  UNROLL for (int c = 0; c < 4; ++c) {
    const VU even01 = EvenParts(rows[c], rows[4 + c]), even23 = EvenParts(rows[8 + c], rows[12 + c]);
    const VU odd01 = OddParts(rows[c], rows[4 + c]), odd23 = OddParts(rows[8 + c], rows[12 + c]);
    rows[c] = EvenParts(even01, even23);
    rows[4 + c] = EvenParts(odd01, odd23);
    rows[8 + c] = OddParts(even01, even23);
    rows[12 + c] = OddParts(odd01, odd23);
  }
}
)text";

// Transposes LANES x LANES units: 4 x 4 blocks inside the 128-bit parts of vectors by interleaving, then the
// parts themselves. Each pattern is one instruction (vpunpck*, vshufi32x4 or vperm2i128).
std::string Transposes(int lanes) {
  // Of each 128-bit part: elements of a and b in turn, from its lower or higher half.
  const auto interleave = [](int elements, int per_part, bool high) {
    return [=](int j) {
      const int element = j / per_part * per_part + (high ? per_part / 2 : 0) + j % per_part / 2;
      return (j % 2 != 0 ? elements : 0) + element;
    };
  };
  std::string text = "typedef i64 VPair __attribute__((vector_size(4 * LANES), may_alias));  // of units\n";
  text += Shuffle("VU", "InterleaveLow", lanes, interleave(lanes, 4, false));
  text += Shuffle("VU", "InterleaveHigh", lanes, interleave(lanes, 4, true));
  text += Shuffle("VPair", "InterleavePairsLow", lanes / 2, interleave(lanes / 2, 2, false));
  text += Shuffle("VPair", "InterleavePairsHigh", lanes / 2, interleave(lanes / 2, 2, true));
  // The even (odd) 128-bit parts of a, then those of b.
  const auto parts = [&](int first) { return [=](int j) { return (j / 4 * 2 + first) * 4 + j % 4; }; };
  text += Shuffle("VU", "EvenParts", lanes, parts(0));
  text += Shuffle("VU", "OddParts", lanes, parts(1));
  text += kTransposeBlocks;
  text += lanes == 16 ? kTranspose4Parts : kTranspose2Parts;
  return text;
}

}  // namespace

std::string ShuffleText(int lanes) {
  return Folds(lanes) + Transposes(lanes);
}

}  // namespace preheat::codegen
