// The floors of src/floors.txt hold: no source file includes a room on its own or a higher floor.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <vector>

namespace preheat {
namespace {

namespace fs = std::filesystem;

const fs::path kSource = fs::path(PREHEAT_SOURCE_DIR) / "src";

std::map<std::string, int> ReadFloors() {
  std::map<std::string, int> floors;
  std::ifstream file(kSource / "floors.txt");
  std::string line;
  while (std::getline(file, line)) {
    if (line.empty() || line[0] == '#') continue;
    std::istringstream words(line);
    int floor = 0;
    words >> floor;
    for (std::string room; words >> room;) floors[room] = floor;
  }
  return floors;
}

// The rooms that `path` includes: the part before the slash of #include "room/file.h".
std::vector<std::string> IncludedRooms(const fs::path& path) {
  std::vector<std::string> rooms;
  std::ifstream file(path);
  const std::string prefix = "#include \"";
  for (std::string line; std::getline(file, line);) {
    if (line.rfind(prefix, 0) != 0) continue;
    const size_t slash = line.find('/', prefix.size());
    if (slash != std::string::npos) rooms.push_back(line.substr(prefix.size(), slash - prefix.size()));
  }
  return rooms;
}

TEST(Floors, EveryRoomHasAFloor) {
  const auto floors = ReadFloors();
  for (const auto& entry : fs::directory_iterator(kSource)) {
    if (!entry.is_directory()) continue;
    EXPECT_TRUE(floors.count(entry.path().filename())) << entry.path() << " is not in floors.txt";
  }
}

TEST(Floors, NoRoomIncludesItsOwnOrAHigherFloor) {
  const auto floors = ReadFloors();
  ASSERT_FALSE(floors.empty());
  int files = 0;
  for (const auto& entry : fs::recursive_directory_iterator(kSource)) {
    const fs::path extension = entry.path().extension();
    if (extension != ".h" && extension != ".cc") continue;
    ++files;
    const std::string room = *fs::relative(entry.path(), kSource).begin();
    for (const std::string& included : IncludedRooms(entry.path())) {
      if (included == room) continue;
      ASSERT_TRUE(floors.count(included)) << entry.path() << " includes the unknown room " << included;
      EXPECT_LT(floors.at(included), floors.at(room))
          << entry.path() << " (floor " << floors.at(room) << ") includes " << included << " (floor "
          << floors.at(included) << ")";
    }
  }
  EXPECT_GT(files, 5);
}

}  // namespace
}  // namespace preheat
