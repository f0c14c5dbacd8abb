#include "tokenizer/load.h"

#include "sys/mapped_file.h"

namespace preheat::tokenizer {

Tokenizer LoadTokenizer(const std::string& folder) {
  const sys::MappedFile file = sys::MappedFile::Open(folder + "/tokenizer.json");
  return Tokenizer::Parse({reinterpret_cast<const char*>(file.bytes().data()), file.size()}, file.path());
}

}  // namespace preheat::tokenizer
