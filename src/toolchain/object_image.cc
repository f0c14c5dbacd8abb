#include "toolchain/object_image.h"

#include <elf.h>

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"

namespace preheat::toolchain {
namespace {

using base::ErrorKind;
using base::MakeError;

constexpr uint64_t kMaxAlignment = 4096;
constexpr uint64_t kMaxBody = uint64_t{1} << 30;  // far beyond any kernel; keeps all sums in range

base::Error Malformed(std::string_view what) {
  return MakeError(ErrorKind::kToolFailed, "the compiler's object file is malformed: {}", what);
}

// The object's tables, with every offset checked on access.
class Object {
 public:
  explicit Object(std::span<const std::byte> bytes) : bytes_(bytes) {
    const auto header = At<Elf64_Ehdr>(0);
    if (std::memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 || header.e_ident[EI_CLASS] != ELFCLASS64 ||
        header.e_ident[EI_DATA] != ELFDATA2LSB || header.e_machine != EM_X86_64 || header.e_type != ET_REL) {
      throw Malformed("it is not a relocatable x86-64 ELF file");
    }
    if (header.e_shentsize != sizeof(Elf64_Shdr)) throw Malformed("its section table has an unknown form");
    for (size_t i = 0; i < header.e_shnum; ++i) {
      sections_.push_back(At<Elf64_Shdr>(header.e_shoff + i * sizeof(Elf64_Shdr)));
    }
    names_section_ = header.e_shstrndx;
    for (const Elf64_Shdr& section : sections_) {
      if (section.sh_type != SHT_SYMTAB) continue;
      symbol_names_section_ = section.sh_link;
      symbols_ = Table<Elf64_Sym>(section);
    }
  }

  const std::vector<Elf64_Shdr>& sections() const { return sections_; }
  const std::vector<Elf64_Sym>& symbols() const { return symbols_; }

  const Elf64_Shdr& Section(size_t index) const {
    if (index >= sections_.size()) throw Malformed("a section number is out of range");
    return sections_[index];
  }

  std::span<const std::byte> Contents(const Elf64_Shdr& section) const {
    if (section.sh_type == SHT_NOBITS) return {};
    if (section.sh_offset > bytes_.size() || section.sh_size > bytes_.size() - section.sh_offset) {
      throw Malformed("a section runs past its end");
    }
    return bytes_.subspan(section.sh_offset, section.sh_size);
  }

  template <typename T>
  std::vector<T> Table(const Elf64_Shdr& section) const {
    const auto contents = Contents(section);
    std::vector<T> table(contents.size() / sizeof(T));
    if (!table.empty()) std::memcpy(table.data(), contents.data(), table.size() * sizeof(T));
    return table;
  }

  std::string SectionName(const Elf64_Shdr& section) const { return Name(names_section_, section.sh_name); }

  // A section's symbol has no name of its own.
  std::string SymbolName(const Elf64_Sym& symbol) const {
    const std::string name = Name(symbol_names_section_, symbol.st_name);
    if (!name.empty() || symbol.st_shndx >= sections_.size()) return name;
    return SectionName(sections_[symbol.st_shndx]);
  }

 private:
  template <typename T>
  T At(uint64_t offset) const {
    if (offset > bytes_.size() || sizeof(T) > bytes_.size() - offset)
      throw Malformed("a table runs past its end");
    T value;
    std::memcpy(&value, bytes_.data() + offset, sizeof value);
    return value;
  }

  std::string Name(size_t section, uint64_t offset) const {
    const auto contents = Contents(Section(section));
    if (offset >= contents.size()) throw Malformed("a name is out of range");
    const auto rest = contents.subspan(offset);
    const auto end = std::ranges::find(rest, std::byte{0});
    return {reinterpret_cast<const char*>(rest.data()), static_cast<size_t>(end - rest.begin())};
  }

  std::span<const std::byte> bytes_;
  std::vector<Elf64_Shdr> sections_;
  std::vector<Elf64_Sym> symbols_;
  size_t names_section_ = 0;
  size_t symbol_names_section_ = 0;
};

// Sections that describe rather than do: nothing at run time reads them.
bool IsDescription(std::string_view name) {
  return name == ".eh_frame" || name.starts_with(".note.") || name == ".comment";
}

class Layout {
 public:
  Layout(const Object& object, std::string_view target) : object_(object), place_(object.sections().size()) {
    image_.target = target;
    CheckSize();
    PlaceSections(/*executable=*/true);  // code first: its entries then lie at small offsets
    PlaceSections(/*executable=*/false);
  }

  sys::CodeImage Finish() {
    for (const Elf64_Shdr& section : object_.sections()) {
      if (section.sh_type == SHT_REL) throw Malformed("it has relocations without addends");
      if (section.sh_type == SHT_RELA) Relocate(section);
    }
    CollectEntries();
    return std::move(image_);
  }

 private:
  // Before the body grows: sections may overlap in the file, so that their sum is not bounded by its size.
  void CheckSize() const {
    uint64_t total = 0;
    for (const Elf64_Shdr& section : object_.sections()) {
      if ((section.sh_flags & SHF_ALLOC) != 0) total += object_.Contents(section).size();
    }
    if (total > kMaxBody) throw Malformed("it is larger than 1 GiB");
  }

  void PlaceSections(bool executable) {
    for (size_t i = 0; i < object_.sections().size(); ++i) {
      const Elf64_Shdr& section = object_.sections()[i];
      if ((section.sh_flags & SHF_ALLOC) == 0 || section.sh_size == 0) continue;
      if (((section.sh_flags & SHF_EXECINSTR) != 0) != executable) continue;
      const std::string name = object_.SectionName(section);
      if (IsDescription(name)) continue;
      if ((section.sh_flags & (SHF_WRITE | SHF_TLS)) != 0) RefuseWritable(i, name);
      if (section.sh_type != SHT_PROGBITS) throw Malformed("section " + name + " has no contents");
      const uint64_t alignment = std::max<uint64_t>(section.sh_addralign, 1);
      if (!std::has_single_bit(alignment) || alignment > kMaxAlignment) {
        throw Malformed("section " + name + " has an impossible alignment");
      }
      image_.alignment = std::max(image_.alignment, static_cast<uint32_t>(alignment));
      image_.body.resize((image_.body.size() + alignment - 1) / alignment * alignment);
      place_[i] = image_.body.size();
      const auto contents = object_.Contents(section);
      image_.body.insert(image_.body.end(), contents.begin(), contents.end());
    }
  }

  [[noreturn]] void RefuseWritable(size_t section, const std::string& section_name) const {
    std::string symbol_name;
    for (const Elf64_Sym& symbol : object_.symbols()) {
      if (symbol.st_shndx == section && ELF64_ST_TYPE(symbol.st_info) != STT_SECTION) {
        symbol_name = object_.SymbolName(symbol);
        break;
      }
    }
    throw MakeError(
        ErrorKind::kToolFailed,
        "the code is not freestanding: {} lies in {}: kernels may have no writable, thread-local or "
        "relocated data",
        symbol_name.empty() ? "something" : symbol_name, section_name);
  }

  // Where the symbol lies in the body. Throws, naming it, where it does not.
  int64_t AddressOf(const Elf64_Sym& symbol) const {
    const std::string name = object_.SymbolName(symbol);
    if (symbol.st_shndx == SHN_UNDEF) {
      throw MakeError(ErrorKind::kToolFailed, "the code is not freestanding: {} is not defined in the unit",
                      name);
    }
    if (symbol.st_shndx >= place_.size() || !place_[symbol.st_shndx]) {
      throw MakeError(ErrorKind::kToolFailed,
                      "the code is not freestanding: {} is neither code nor a constant of the unit", name);
    }
    if (symbol.st_value > kMaxBody) throw Malformed("symbol " + name + " is out of range");
    return static_cast<int64_t>(*place_[symbol.st_shndx] + symbol.st_value);
  }

  void Relocate(const Elf64_Shdr& table) {
    object_.Section(table.sh_info);
    if (!place_[table.sh_info]) return;  // of a description
    const uint64_t section_begin = *place_[table.sh_info];
    const uint64_t section_size = object_.sections()[table.sh_info].sh_size;
    for (const auto& relocation : object_.Table<Elf64_Rela>(table)) {
      const size_t index = ELF64_R_SYM(relocation.r_info);
      if (index >= object_.symbols().size()) throw Malformed("a symbol number is out of range");
      const Elf64_Sym& symbol = object_.symbols()[index];
      const uint64_t type = ELF64_R_TYPE(relocation.r_info);
      // Within one image a call through the PLT is a plain call.
      if (type != R_X86_64_PC32 && type != R_X86_64_PLT32) {
        AddressOf(symbol);  // an undefined symbol is the better explanation
        throw MakeError(
            ErrorKind::kToolFailed,
            "the code is not freestanding: {} is used by an address that only a loader could fill in "
            "(relocation type {})",
            object_.SymbolName(symbol), type);
      }
      if (relocation.r_offset > section_size || section_size - relocation.r_offset < 4) {
        throw Malformed("a relocation is out of range");
      }
      constexpr auto kFarthest = static_cast<int64_t>(kMaxBody);
      if (relocation.r_addend > kFarthest || relocation.r_addend < -kFarthest) {
        throw Malformed("an addend is out of range");
      }
      const uint64_t place = section_begin + relocation.r_offset;
      const int64_t distance = AddressOf(symbol) + relocation.r_addend - static_cast<int64_t>(place);
      const auto field = static_cast<int32_t>(distance);
      if (field != distance) throw Malformed("a distance needs more than 32 bits");
      std::memcpy(image_.body.data() + place, &field, sizeof field);
    }
  }

  void CollectEntries() {
    for (const Elf64_Sym& symbol : object_.symbols()) {
      if (ELF64_ST_BIND(symbol.st_info) == STB_LOCAL) continue;
      // An undefined symbol that nothing uses is no harm, but no compiler of ours makes one.
      const int64_t address = AddressOf(symbol);
      if (ELF64_ST_TYPE(symbol.st_info) != STT_FUNC) continue;
      if (static_cast<uint64_t>(address) >= image_.body.size())
        throw Malformed("an entry lies outside the code");
      image_.entries.push_back({object_.SymbolName(symbol), static_cast<uint32_t>(address)});
    }
    std::ranges::sort(image_.entries, {}, &sys::CodeEntry::name);
    if (image_.entries.empty()) {
      throw MakeError(ErrorKind::kToolFailed,
                      "the code has no entry: no global function is defined in the unit");
    }
  }

  const Object& object_;
  std::vector<std::optional<uint64_t>> place_;  // of each section in the body
  sys::CodeImage image_;
};

}  // namespace

sys::CodeImage ImageFromObject(std::span<const std::byte> object, std::string_view target) {
  return Layout(Object(object), target).Finish();
}

}  // namespace preheat::toolchain
