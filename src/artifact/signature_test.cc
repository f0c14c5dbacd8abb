#include "artifact/signature.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "artifact/artifact_for_test.h"
#include "base/error.h"
#include "sys/env.h"
#include "sys/files.h"

namespace preheat::artifact {
namespace {

using base::Error;
using base::ErrorKind;

ErrorKind Refusal(const Artifact& artifact, const PublicKey& key) {
  try {
    RequireSignedBy(artifact, key);
  } catch (const Error& error) {
    return error.kind();
  }
  ADD_FAILURE() << "accepted";
  return ErrorKind::kInvalidArgument;
}

TEST(Signature, ASignedArtifactIsAcceptedForItsKeyOnly) {
  const SigningKey key = SigningKey::Generate();
  const SigningKey other = SigningKey::Generate();
  Artifact artifact = Artifact::FromBytes(SampleWriter().Finish(&key));
  EXPECT_NO_THROW(RequireSignedBy(artifact, key.public_key()));
  EXPECT_EQ(Refusal(artifact, other.public_key()), ErrorKind::kAccessDenied);
  EXPECT_EQ(artifact.Get(store::EntryKind::kProgram, SampleKey("x86-64-v3").name())->text(), kLongProgram);
}

TEST(Signature, AnUnsignedArtifactIsRefusedWhereASignatureIsRequired) {
  const Artifact artifact = Artifact::FromBytes(SampleWriter().Finish());
  EXPECT_EQ(Refusal(artifact, SigningKey::Generate().public_key()), ErrorKind::kAccessDenied);
}

TEST(Signature, SigningIsDeterministic) {
  const SigningKey key = SigningKey::Generate();
  EXPECT_EQ(SampleWriter().Finish(&key), SampleWriter().Finish(&key));
}

// Someone who changes an entry and repairs every hash still lacks the key.
TEST(Signature, AnArtifactThatWasChangedAndRepairedIsRefused) {
  const SigningKey key = SigningKey::Generate();
  const std::vector<std::byte> good = SampleWriter().Finish(&key);
  Manifest other = SampleDescription();
  other.notes["made"] = "by a \"mole\"";
  ArtifactWriter writer(other);
  const SigningKey forger = SigningKey::Generate();
  std::vector<std::byte> forged = writer.Finish(&forger);
  const Artifact original = Artifact::FromBytes(good);
  const size_t block = Artifact::FromBytes(forged).signed_bytes().size();
  std::memcpy(forged.data() + block, original.signature()->signer.data(), 32);
  std::memcpy(forged.data() + block + 32, original.signature()->value.data(), 64);
  EXPECT_EQ(Refusal(Artifact::FromBytes(forged), key.public_key()), ErrorKind::kAccessDenied);
}

TEST(Signature, EveryFlippedByteOfTheBlockIsRefused) {
  const SigningKey key = SigningKey::Generate();
  const std::vector<std::byte> good = SampleWriter().Finish(&key);
  const size_t block = Artifact::FromBytes(good).signed_bytes().size();
  for (size_t i = 0; i < kSignatureBlockSize; ++i) {
    std::vector<std::byte> bytes = good;
    bytes[block + i] ^= std::byte{4};
    EXPECT_EQ(Refusal(Artifact::FromBytes(bytes), key.public_key()), ErrorKind::kAccessDenied) << i;
  }
  for (size_t cut = block; cut < block + kSignatureBlockSize; ++cut) {
    EXPECT_THROW(Artifact::FromBytes({good.begin(), good.begin() + static_cast<ptrdiff_t>(cut)}), Error);
  }
}

TEST(Signature, KeysSurviveTheirFiles) {
  const sys::UniqueTempDir folder;
  const SigningKey key = SigningKey::Generate();
  key.Save(folder.File("key.pem"));
  SavePublicKey(key.public_key(), folder.File("key.pub"));
  EXPECT_EQ(SigningKey::Load(folder.File("key.pem")).public_key(), key.public_key());
  EXPECT_EQ(LoadPublicKey(folder.File("key.pub")), key.public_key());
  const auto rights = std::filesystem::status(folder.File("key.pem")).permissions();
  EXPECT_EQ(rights, std::filesystem::perms::owner_read | std::filesystem::perms::owner_write);
  EXPECT_THROW(key.Save(folder.File("key.pem")), Error);
}

TEST(Signature, FilesThatAreNoKeysAreCorrupt) {
  const sys::UniqueTempDir folder;
  sys::WriteFileAtomic(folder.File("x"), std::string_view("-----BEGIN PRIVATE KEY-----\nAAAA\n"));
  for (const auto load : {+[](const std::string& path) { SigningKey::Load(path); },
                          +[](const std::string& path) { LoadPublicKey(path); }}) {
    try {
      load(folder.File("x"));
      ADD_FAILURE();
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kCorrupt);
    }
    EXPECT_THROW(load(folder.File("missing")), Error);
  }
}

}  // namespace
}  // namespace preheat::artifact
