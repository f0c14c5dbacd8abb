// Byte-pair merging of one piece of text: of all neighbouring pairs that have a merge, the one of lowest rank
// merges first, the leftmost of equals, until none is left (Sennrich et al. 2016, arXiv:1508.07909; ranks and
// order as in Hugging Face's BPE::merge_word). Time n log n in the piece's length, whatever the piece.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "tokenizer/token_table.h"

namespace preheat::tokenizer {

// Memory that is reused from piece to piece; not for several threads at once. The table must outlive it.
class BpeEncoder {
 public:
  explicit BpeEncoder(const TokenTable& table) : table_(table) {}

  // Appends the ids of `piece`. REQUIRES: valid UTF-8, not empty, less than 2 GiB.
  void Append(std::string_view piece, std::vector<int32_t>* ids);

 private:
  static constexpr uint32_t kNone = 0xFFFFFFFFu;

  struct Symbol {
    uint32_t id;
    uint32_t previous;  // index; kNone at the ends
    uint32_t next;
  };
  struct Candidate {
    uint32_t rank;
    uint32_t at;  // index of the left symbol
    uint32_t left;
    uint32_t right;
    uint32_t result;
    // std::*_heap keep the largest in front.
    bool operator<(const Candidate& other) const {
      return rank != other.rank ? rank > other.rank : at > other.at;
    }
  };

  void MergeShort(std::vector<int32_t>* ids);
  void MergeLong(std::vector<int32_t>* ids);
  void Propose(uint32_t at);

  const TokenTable& table_;
  std::vector<Symbol> symbols_;
  std::vector<Candidate> heap_;
};

}  // namespace preheat::tokenizer
