#include "hub/hub.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>

#include <map>

#include "base/error.h"
#include "sys/env.h"
#include "sys/files.h"

namespace preheat::hub {
namespace {

using base::Error;
using base::ErrorKind;
using testing::AllOf;
using testing::HasSubstr;

const std::string kCommit = "0123456789abcdef0123456789abcdef01234567";

class Hub : public testing::Test {
 protected:
  void SetUp() override {
    for (const char* name : {"HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME", "HOME"}) {
      old_[name] = sys::GetEnv(name);
      ::unsetenv(name);
    }
    ::setenv("HOME", dir_.path().c_str(), 1);
  }
  void TearDown() override {
    for (const auto& [name, value] : old_) {
      value ? ::setenv(name.c_str(), value->c_str(), 1) : ::unsetenv(name.c_str());
    }
  }

  // A cached model: refs/main and config.json as a link to a blob that is a link itself.
  std::string Cache(const std::string& cache, const std::string& repo) {
    const std::string folder = cache + "/" + repo;
    sys::MakeDirs(folder + "/refs");
    sys::MakeDirs(folder + "/blobs");
    sys::MakeDirs(folder + "/snapshots/" + kCommit);
    sys::MakeDirs(cache + "/blobs/91");
    sys::WriteFileAtomic(folder + "/refs/main", kCommit);
    sys::WriteFileAtomic(cache + "/blobs/91/abc", std::string_view("{}"));
    EXPECT_EQ(::symlink("../../blobs/91/abc", (folder + "/blobs/tag").c_str()), 0);
    EXPECT_EQ(::symlink("../../blobs/tag", (folder + "/snapshots/" + kCommit + "/config.json").c_str()), 0);
    return folder + "/snapshots/" + kCommit;
  }

  Error Failure(const std::string& id) {
    try {
      ResolveModel(id);
    } catch (const Error& error) {
      return error;
    }
    ADD_FAILURE() << id << " was resolved";
    return Error(ErrorKind::kIo, "");
  }

  sys::UniqueTempDir dir_;
  std::map<std::string, std::optional<std::string>> old_;
};

TEST_F(Hub, CacheFolderFollowsTheVariablesInTheirOrder) {
  EXPECT_EQ(HubCacheDir(), dir_.File(".cache/huggingface/hub"));
  ::setenv("XDG_CACHE_HOME", "/xdg", 1);
  EXPECT_EQ(HubCacheDir(), "/xdg/huggingface/hub");
  ::setenv("HF_HOME", "~/hf", 1);
  EXPECT_EQ(HubCacheDir(), dir_.File("hf/hub"));
  ::setenv("HUGGINGFACE_HUB_CACHE", "/legacy", 1);
  EXPECT_EQ(HubCacheDir(), "/legacy");
  ::setenv("HF_HUB_CACHE", "", 1);  // empty counts as none
  EXPECT_EQ(HubCacheDir(), "/legacy");
  ::setenv("HF_HUB_CACHE", "$HOME/x/${XDG_CACHE_HOME}/$PREHEAT_NOT_SET", 1);
  EXPECT_EQ(HubCacheDir(), dir_.path() + "/x//xdg/$PREHEAT_NOT_SET");
}

TEST_F(Hub, AFolderIsItself) {
  EXPECT_EQ(ResolveModel(dir_.path()), dir_.path());
  sys::MakeDirs(dir_.File("m"));
  EXPECT_EQ(ResolveModel("~/m"), dir_.File("m"));
}

TEST_F(Hub, ACachedModelIsItsSnapshot) {
  ::setenv("HF_HUB_CACHE", dir_.File("cache").c_str(), 1);
  const std::string snapshot = Cache(dir_.File("cache"), "models--meta-llama--Llama-3.2-3B-Instruct");
  EXPECT_EQ(ResolveModel("meta-llama/Llama-3.2-3B-Instruct"), snapshot);
  EXPECT_EQ(ResolveModel("meta-llama/Llama-3.2-3B-Instruct", kCommit), snapshot);
  EXPECT_EQ(sys::ReadFile(snapshot + "/config.json"), "{}");
}

TEST_F(Hub, ARefMayEndInANewline) {
  const std::string snapshot = Cache(dir_.File(".cache/huggingface/hub"), "models--gpt");
  sys::WriteFileAtomic(dir_.File(".cache/huggingface/hub/models--gpt/refs/main"), kCommit + "\n");
  EXPECT_EQ(ResolveModel("gpt"), snapshot);
}

TEST_F(Hub, NotCachedSaysWhereAndWhatToDo) {
  const Error error = Failure("meta-llama/Llama-3.2-3B-Instruct");
  EXPECT_EQ(error.kind(), ErrorKind::kNotFound);
  EXPECT_THAT(error.message(),
              AllOf(HasSubstr(dir_.File(".cache/huggingface/hub/models--meta-llama--Llama-3.2-3B-Instruct")),
                    HasSubstr("hf download meta-llama/Llama-3.2-3B-Instruct"), HasSubstr("use a folder")));
}

TEST_F(Hub, ACacheEntryWithoutAConfigIsNotFound) {
  const std::string snapshot = Cache(dir_.File(".cache/huggingface/hub"), "models--a--b");
  sys::RemoveFile(snapshot + "/config.json");
  EXPECT_EQ(Failure("a/b").kind(), ErrorKind::kNotFound);
}

TEST_F(Hub, ARefThatIsNoCommitIsCorrupt) {
  Cache(dir_.File(".cache/huggingface/hub"), "models--a--b");
  sys::WriteFileAtomic(dir_.File(".cache/huggingface/hub/models--a--b/refs/main"),
                       std::string_view("../../../x"));
  EXPECT_EQ(Failure("a/b").kind(), ErrorKind::kCorrupt);
}

TEST_F(Hub, APathThatIsNotThereIsNotTakenForAModelId) {
  for (const char* path : {"./model", "/nowhere/model", "../nowhere-model", "~/nowhere", "nowhere/model/"}) {
    const Error error = Failure(path);
    EXPECT_EQ(error.kind(), ErrorKind::kNotFound) << path;
    EXPECT_THAT(error.message(), HasSubstr("no such folder"));
  }
  sys::WriteFileAtomic(dir_.File("file"), std::string_view("x"));
  EXPECT_THAT(Failure(dir_.File("file")).message(), HasSubstr("is a file"));
}

TEST_F(Hub, IdsThatNoModelCanHaveAreUsageErrors) {
  for (const char* id :
       {"", "a/b/c", "a b", "a--b", "x/a..b", "a/b.git", "-a/b", "a/b-", "a/.b", "a./b", "ä/b"}) {
    EXPECT_TRUE(RepoIdProblem(id).has_value()) << id;
    EXPECT_EQ(Failure(id).kind(), ErrorKind::kInvalidArgument) << id;
  }
  EXPECT_TRUE(RepoIdProblem(std::string(97, 'a')).has_value());
  for (const char* id : {"gpt2", "meta-llama/Llama-3.2-3B-Instruct", "a_b/c.d", "a/b"}) {
    EXPECT_FALSE(RepoIdProblem(id).has_value()) << id;
  }
}

}  // namespace
}  // namespace preheat::hub
