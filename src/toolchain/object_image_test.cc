#include "toolchain/object_image.h"

#include <elf.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <functional>
#include <random>

#include "base/error.h"
#include "sys/env.h"
#include "sys/files.h"
#include "sys/process.h"

namespace preheat::toolchain {
namespace {

using ::testing::HasSubstr;

std::string MakeObject() {
  const sys::UniqueTempDir folder;
  sys::SpawnOptions options;
  options.stdin_bytes = R"(static const float kTable[4] = {1, 2, 3, 4};
      extern "C" float f(long i) { return kTable[i & 3] * 1.5f; })";
  const auto result = sys::Spawn({"c++", "-O1", "-ffreestanding", "-fPIC", "-fno-asynchronous-unwind-tables",
                                  "-x", "c++", "-c", "-", "-o", folder.File("a.o")},
                                 options);
  if (!result.ok()) return "";
  return sys::ReadFile(folder.File("a.o"));
}

std::span<const std::byte> AsBytes(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

TEST(ObjectImage, AnythingButAnObjectIsRefused) {
  for (const std::string& bytes :
       {std::string(), std::string("hello"), std::string(64, '\0'), std::string(4096, 'x')}) {
    EXPECT_THROW(ImageFromObject(AsBytes(bytes), "x86-64-v3"), base::Error);
  }
}

// Compilers do not make damaged objects, but a full disk does.
TEST(ObjectImage, DamagedObjectsNeverReadOutOfBounds) {
  const std::string object = MakeObject();
  if (object.empty()) GTEST_SKIP() << "[SKIP] no C++ compiler";
  EXPECT_EQ(ImageFromObject(AsBytes(object), "t").entries.at(0).name, "f");
  const uint32_t seed = std::random_device()();
  SCOPED_TRACE(fmt::format("seed {}", seed));
  std::mt19937 random(seed);
  for (size_t size = 0; size < object.size(); size += 7) {
    try {
      ImageFromObject(AsBytes(object).first(size), "t");
    } catch (const base::Error&) {
    }
  }
  for (int round = 0; round < 3000; ++round) {
    std::string damaged = object;
    for (int flips = 0; flips < 3; ++flips) damaged[random() % damaged.size()] = static_cast<char>(random());
    try {
      ImageFromObject(AsBytes(damaged), "t");
    } catch (const base::Error& error) {
      EXPECT_EQ(error.kind(), base::ErrorKind::kToolFailed);
    }
  }
}

// Calls `edit` with each section's header, and puts what it made of it back.
void EditSections(std::string& object, const std::function<void(Elf64_Shdr&)>& edit) {
  Elf64_Ehdr header;
  std::memcpy(&header, object.data(), sizeof header);
  for (size_t i = 0; i < header.e_shnum; ++i) {
    char* at = object.data() + header.e_shoff + i * sizeof(Elf64_Shdr);
    Elf64_Shdr section;
    std::memcpy(&section, at, sizeof section);
    edit(section);
    std::memcpy(at, &section, sizeof section);
  }
}

std::string MessageOf(const std::string& object) {
  try {
    ImageFromObject(AsBytes(object), "t");
  } catch (const base::Error& error) {
    return error.message();
  }
  return "accepted";
}

TEST(ObjectImage, AddendsBeyondAllRangesAreRefused) {
  const std::string object = MakeObject();
  if (object.empty()) GTEST_SKIP() << "[SKIP] no C++ compiler";
  for (const int64_t addend : {INT64_MIN, INT64_MIN + 1, INT64_MAX, int64_t{1} << 31}) {
    std::string damaged = object;
    bool found = false;
    EditSections(damaged, [&](Elf64_Shdr& section) {
      if (section.sh_type != SHT_RELA) return;
      found = true;
      std::memcpy(damaged.data() + section.sh_offset + offsetof(Elf64_Rela, r_addend), &addend,
                  sizeof addend);
    });
    ASSERT_TRUE(found);
    EXPECT_THAT(MessageOf(damaged), HasSubstr("an addend is out of range")) << addend;
  }
}

// Overlapping sections: a file of a megabyte could ask for 64 thousand times its size.
TEST(ObjectImage, ItsSizeIsBoundedBeforeItGrows) {
  std::string object = MakeObject();
  if (object.empty()) GTEST_SKIP() << "[SKIP] no C++ compiler";
  Elf64_Ehdr header;
  std::memcpy(&header, object.data(), sizeof header);
  Elf64_Shdr whole{};
  whole.sh_type = SHT_PROGBITS;
  whole.sh_flags = SHF_ALLOC;
  whole.sh_addralign = 1;
  constexpr size_t kSections = 1200;
  object.resize(object.size() + (size_t{1} << 20));  // 1200 sections of at least 1 MiB each
  whole.sh_size = object.size();
  // A table behind everything: the old sections, then the whole file again and again.
  std::string table = object.substr(header.e_shoff, header.e_shnum * sizeof(Elf64_Shdr));
  for (size_t i = 0; i < kSections; ++i) table.append(reinterpret_cast<const char*>(&whole), sizeof whole);
  header.e_shoff = object.size();
  header.e_shnum = static_cast<Elf64_Half>(header.e_shnum + kSections);
  std::memcpy(object.data(), &header, sizeof header);
  EXPECT_THAT(MessageOf(object + table), HasSubstr("it is larger than 1 GiB"));
}

}  // namespace
}  // namespace preheat::toolchain
