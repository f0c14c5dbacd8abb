#include "cli/suggest.h"

#include <algorithm>
#include <vector>

#include "base/check.h"

namespace preheat::cli {

int EditDistance(std::string_view a, std::string_view b) {
  std::vector<std::vector<int>> cost(a.size() + 1, std::vector<int>(b.size() + 1));
  for (size_t i = 0; i <= a.size(); ++i) cost[i][0] = static_cast<int>(i);
  for (size_t j = 0; j <= b.size(); ++j) cost[0][j] = static_cast<int>(j);
  for (size_t i = 1; i <= a.size(); ++i) {
    for (size_t j = 1; j <= b.size(); ++j) {
      const int replace = cost[i - 1][j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
      cost[i][j] = std::min({cost[i - 1][j] + 1, cost[i][j - 1] + 1, replace});
      const bool swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
      if (swapped) cost[i][j] = std::min(cost[i][j], cost[i - 2][j - 2] + 1);
    }
  }
  return cost[a.size()][b.size()];
}

const std::string& Nearest(std::string_view typed, std::span<const std::string> valid) {
  CHECK(!valid.empty());
  return *std::min_element(valid.begin(), valid.end(), [&](const std::string& a, const std::string& b) {
    return EditDistance(typed, a) < EditDistance(typed, b);
  });
}

}  // namespace preheat::cli
