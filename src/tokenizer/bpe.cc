#include "tokenizer/bpe.h"

#include <algorithm>
#include <array>

#include "base/check.h"

namespace preheat::tokenizer {
namespace {

// Up to here scanning all pairs again after each merge is cheaper than keeping a heap.
constexpr size_t kShort = 32;

}  // namespace

void BpeEncoder::Append(std::string_view piece, std::vector<int32_t>* ids) {
  if (table_.ignore_merges() || piece.size() == 1) {
    if (const uint32_t id = table_.FindToken(piece); id != TokenTable::kNoToken) {
      ids->push_back(static_cast<int32_t>(id));
      return;
    }
  }
  symbols_.clear();
  for (const char c : piece) {
    const uint32_t id = table_.ByteToken(static_cast<uint8_t>(c));
    CHECK(id != TokenTable::kNoToken);
    const auto at = static_cast<uint32_t>(symbols_.size());
    symbols_.push_back({id, at - 1, at + 1});  // at 0: kNone
  }
  symbols_.back().next = kNone;
  if (symbols_.size() <= kShort) {
    MergeShort(ids);
  } else {
    MergeLong(ids);
  }
}

void BpeEncoder::MergeShort(std::vector<int32_t>* ids) {
  std::array<uint32_t, kShort> id;
  std::array<TokenTable::Merge, kShort> merge;  // of id[i] and id[i + 1]; rank kNone: there is none
  size_t count = symbols_.size();
  for (size_t i = 0; i < count; ++i) id[i] = symbols_[i].id;
  const auto look_up = [&](size_t i) {
    merge[i] = table_.FindMerge(id[i], id[i + 1]).value_or(TokenTable::Merge{kNone, 0});
  };
  for (size_t i = 0; i + 1 < count; ++i) look_up(i);
  while (count > 1) {
    const auto* best = std::min_element(merge.begin(), merge.begin() + static_cast<ptrdiff_t>(count - 1),
                                        [](const auto& a, const auto& b) { return a.rank < b.rank; });
    if (best->rank == kNone) break;
    const auto at = static_cast<size_t>(best - merge.begin());
    id[at] = best->result;
    std::copy(id.begin() + at + 2, id.begin() + count, id.begin() + at + 1);
    // The pair that began with the right half is gone; its place takes the one behind it.
    if (at + 2 < count) std::copy(merge.begin() + at + 2, merge.begin() + count - 1, merge.begin() + at + 1);
    --count;
    if (at + 1 < count) look_up(at);
    if (at > 0) look_up(at - 1);
  }
  for (size_t i = 0; i < count; ++i) ids->push_back(static_cast<int32_t>(id[i]));
}

void BpeEncoder::Propose(uint32_t at) {
  if (at == kNone || symbols_[at].next == kNone) return;
  const uint32_t left = symbols_[at].id;
  const uint32_t right = symbols_[symbols_[at].next].id;
  if (const auto merge = table_.FindMerge(left, right))
    heap_.push_back({merge->rank, at, left, right, merge->result});
}

void BpeEncoder::MergeLong(std::vector<int32_t>* ids) {
  heap_.clear();
  for (uint32_t at = 0; at < symbols_.size(); ++at) Propose(at);
  std::make_heap(heap_.begin(), heap_.end());
  const auto propose = [&](uint32_t at) {
    const size_t before = heap_.size();
    Propose(at);
    if (heap_.size() > before) std::push_heap(heap_.begin(), heap_.end());
  };
  while (!heap_.empty()) {
    std::pop_heap(heap_.begin(), heap_.end());
    const Candidate best = heap_.back();
    heap_.pop_back();
    Symbol& left = symbols_[best.at];
    // Out of date where one of the two has merged with another since. A symbol that was taken has id kNone.
    if (left.id != best.left || left.next == kNone || symbols_[left.next].id != best.right) continue;
    Symbol& right = symbols_[left.next];
    left.id = best.result;
    left.next = right.next;
    right.id = kNone;
    if (left.next != kNone) symbols_[left.next].previous = best.at;
    propose(left.previous);
    propose(best.at);
  }
  for (uint32_t at = 0; at != kNone; at = symbols_[at].next)
    ids->push_back(static_cast<int32_t>(symbols_[at].id));
}

}  // namespace preheat::tokenizer
