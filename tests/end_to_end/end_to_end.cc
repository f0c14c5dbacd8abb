#include "end_to_end/end_to_end.h"

#include <filesystem>
#include <sstream>

namespace preheat::testing {

using ::testing::HasSubstr;

std::string TinyModel() {
  return std::string(PREHEAT_SOURCE_DIR) + "/models/tiny-instruct";
}

const EndToEnd::Built& EndToEnd::Tiny() {
  // Never destroyed but at exit: the tests of a suite share it.
  static const Built* const built = [] {
    static Built made;
    sys::SpawnOptions options;
    options.env = {{"PREHEAT_CACHE_DIR", made.cache}, {"OMP_WAIT_POLICY", "passive"}};
    options.timeout_seconds = 120;
    made.build = sys::Spawn(
        {PREHEAT_BINARY, "build", "--model-id", TinyModel(), "--compile-mode", "default", "--prefill-lengths",
         "32", "--cache-path", made.artifact, "--metadata-path", made.metadata},
        options);
    EXPECT_TRUE(made.build.ok()) << made.build.Describe() << "\n" << made.build.out << made.build.err;
    return &made;
  }();
  return *built;
}

sys::SpawnResult EndToEnd::Start(const std::string& binary, const Words& words,
                                 sys::SpawnOptions options) const {
  Environment environment = {
      {"PREHEAT_CACHE_DIR", File("cache")}, {"TMPDIR", File("tmp")}, {"OMP_WAIT_POLICY", "passive"}};
  environment.insert(environment.end(), options.env.begin(), options.env.end());  // the last of a name counts
  options.env = std::move(environment);
  options.timeout_seconds = 60;
  Words argv = {binary};
  argv.insert(argv.end(), words.begin(), words.end());
  return sys::Spawn(argv, options);
}

sys::SpawnResult EndToEnd::Preheat(const Words& words, const Environment& changes) const {
  sys::SpawnOptions options;
  options.env = changes;
  return Start(PREHEAT_BINARY, words, options);
}

sys::SpawnResult EndToEnd::PreheatRun(const Words& words, const Environment& changes) const {
  sys::SpawnOptions options;
  options.env = changes;
  return Start(PREHEAT_RUN_BINARY, words, options);
}

Words EndToEnd::OnTiny(const std::string& command, const Words& more) {
  Words words;
  if (!command.empty()) words.push_back(command);
  words.insert(words.end(), {"--model-id", TinyModel(), "--compile-mode", "default", "--cache-path",
                             Tiny().artifact, "--metadata-path", Tiny().metadata});
  words.insert(words.end(), more.begin(), more.end());
  return words;
}

std::string EndToEnd::CopyOfTiny() const {
  const std::string copy = File("model");
  std::filesystem::copy(TinyModel(), copy, std::filesystem::copy_options::recursive);
  return copy;
}

void EndToEnd::Edit(const std::string& path, const std::string& from, const std::string& to) {
  std::string text = sys::ReadFile(path);
  const size_t place = text.find(from);
  ASSERT_NE(place, std::string::npos) << path << " has no " << from;
  text.replace(place, from.size(), to);
  sys::WriteFileAtomic(path, std::string_view(text));
}

Environment EndToEnd::NoPrograms() const {
  const std::string empty = File("no-programs");
  sys::MakeDirs(empty);
  return {{"PATH", empty}, {"CXX", std::nullopt}};
}

std::string LineAfter(const std::string& text, const std::string& prefix) {
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with(prefix)) return line.substr(prefix.size());
  }
  ADD_FAILURE() << "no line starts with " << prefix << " in:\n" << text;
  return "";
}

rapidjson::Document ParseJson(const std::string& text) {
  rapidjson::Document document;
  document.Parse(text.c_str());
  EXPECT_FALSE(document.HasParseError()) << "at byte " << document.GetErrorOffset() << " of:\n" << text;
  return document;
}

rapidjson::Document MetricsOf(const sys::SpawnResult& result, const std::string& prefix) {
  rapidjson::Document document = ParseJson(LineAfter(result.out, prefix));
  if (!document.IsObject()) {
    ADD_FAILURE() << result.Describe() << "\n" << result.out << result.err;
    document.SetObject();
  }
  return document;
}

void ExpectKeys(const rapidjson::Value& object, const Words& keys) {
  ASSERT_TRUE(object.IsObject());
  for (const std::string& key : keys) EXPECT_TRUE(object.HasMember(key)) << "no key " << key;
}

void ExpectNothingCompiled(const rapidjson::Value& metrics) {
  for (const char* counter :
       {"unique_graphs", "calls_captured", "async_compile_miss", "fxgraph_cache_miss", "aot_cache_miss"}) {
    ASSERT_TRUE(metrics.HasMember(counter)) << counter;
    EXPECT_EQ(metrics[counter].GetInt64(), 0) << counter;
  }
}

void ExpectDone(const sys::SpawnResult& result) {
  EXPECT_TRUE(result.ok()) << result.Describe() << "\n" << result.out << result.err;
}

void ExpectError(const sys::SpawnResult& result, int exit_code, const Words& texts) {
  EXPECT_EQ(result.term_signal, 0) << result.Describe();
  EXPECT_EQ(result.exit_code, exit_code) << result.out << result.err;
  EXPECT_THAT(result.err, HasSubstr(": error: "));
  for (const std::string& text : texts) EXPECT_THAT(result.err, HasSubstr(text));
}

}  // namespace preheat::testing
