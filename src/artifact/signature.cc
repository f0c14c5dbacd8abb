#include "artifact/signature.h"

#include <openssl/bio.h>
#include <openssl/evp.h>
#include <openssl/pem.h>

#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <string_view>

#include "base/check.h"
#include "base/error.h"
#include "sys/files.h"
#include "sys/os_error.h"

namespace preheat::artifact {
namespace {

using base::ErrorKind;
using base::MakeError;

constexpr uint64_t kLargestKeyFile = 64 * 1024;

struct FreeKey {
  void operator()(EVP_PKEY* key) const { EVP_PKEY_free(key); }
};
struct FreeContext {
  void operator()(EVP_MD_CTX* context) const { EVP_MD_CTX_free(context); }
};
struct FreeBio {
  void operator()(BIO* bio) const { BIO_free(bio); }
};
using KeyPointer = std::unique_ptr<EVP_PKEY, FreeKey>;
using ContextPointer = std::unique_ptr<EVP_MD_CTX, FreeContext>;
using BioPointer = std::unique_ptr<BIO, FreeBio>;

const unsigned char* Octets(std::span<const std::byte> bytes) {
  return reinterpret_cast<const unsigned char*>(bytes.data());
}

PublicKey PublicPart(const EVP_PKEY* key) {
  PublicKey part;
  size_t size = part.size();
  CHECK(EVP_PKEY_get_raw_public_key(key, part.data(), &size) == 1 && size == part.size());
  return part;
}

std::string BioText(BIO* bio) {
  char* data = nullptr;
  const long size = BIO_get_mem_data(bio, &data);
  return {data, static_cast<size_t>(size)};
}

void RequireNew(const std::string& path) {
  if (!sys::Exists(path)) return;
  throw MakeError(ErrorKind::kInvalidArgument, "{}: is there already; a key is never replaced", path);
}

bool IsEd25519(const EVP_PKEY* key) {
  return key != nullptr && EVP_PKEY_get_id(key) == EVP_PKEY_ED25519;
}

}  // namespace

struct SigningKey::Handle {
  KeyPointer key;
};

SigningKey::SigningKey(std::unique_ptr<Handle> handle)
    : handle_(std::move(handle)), public_key_(PublicPart(handle_->key.get())) {}
SigningKey::~SigningKey() = default;
SigningKey::SigningKey(SigningKey&&) noexcept = default;

SigningKey SigningKey::Generate() {
  KeyPointer key(EVP_PKEY_Q_keygen(nullptr, nullptr, "ED25519"));
  if (key == nullptr) throw MakeError(ErrorKind::kIo, "cannot make a key: the system gives no randomness");
  return SigningKey(std::make_unique<Handle>(Handle{std::move(key)}));
}

SigningKey SigningKey::Load(const std::string& path) {
  const std::string text = sys::ReadFile(path, kLargestKeyFile);
  const BioPointer bio(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
  // An empty passphrase instead of OpenSSL's prompt on the terminal.
  KeyPointer key(PEM_read_bio_PrivateKey(bio.get(), nullptr, nullptr, const_cast<char*>("")));
  if (!IsEd25519(key.get())) {
    throw MakeError(
        ErrorKind::kCorrupt,
        "{}: not an unencrypted ed25519 private key; make one with `openssl genpkey -algorithm ed25519`",
        path);
  }
  return SigningKey(std::make_unique<Handle>(Handle{std::move(key)}));
}

void SigningKey::Save(const std::string& path) const {
  const BioPointer bio(BIO_new(BIO_s_mem()));
  CHECK(PEM_write_bio_PrivateKey(bio.get(), handle_->key.get(), nullptr, nullptr, 0, nullptr, nullptr) == 1);
  const std::string text = BioText(bio.get());
  RequireNew(path);
  std::FILE* file = std::fopen(path.c_str(), "wbxe");
  if (file == nullptr) throw sys::OsError(errno, "cannot create", path);
  // Closed to others while it is still empty.
  std::error_code error;
  std::filesystem::permissions(path, std::filesystem::perms::owner_read | std::filesystem::perms::owner_write,
                               error);
  const bool written = !error && std::fwrite(text.data(), 1, text.size(), file) == text.size();
  if (std::fclose(file) == 0 && written) return;
  const int failed = error ? error.value() : errno;
  std::remove(path.c_str());
  throw sys::OsError(failed, "cannot write", path);
}

Signature SigningKey::Sign(std::span<const std::byte> message) const {
  Signature signature;
  signature.signer = public_key_;
  const ContextPointer context(EVP_MD_CTX_new());
  size_t size = signature.value.size();
  CHECK(EVP_DigestSignInit(context.get(), nullptr, nullptr, nullptr, handle_->key.get()) == 1);
  CHECK(EVP_DigestSign(context.get(), signature.value.data(), &size, Octets(message), message.size()) == 1);
  CHECK(size == signature.value.size());
  return signature;
}

PublicKey LoadPublicKey(const std::string& path) {
  const std::string text = sys::ReadFile(path, kLargestKeyFile);
  const BioPointer bio(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
  const KeyPointer key(PEM_read_bio_PUBKEY(bio.get(), nullptr, nullptr, nullptr));
  if (!IsEd25519(key.get())) {
    throw MakeError(ErrorKind::kCorrupt,
                    "{}: not an ed25519 public key; write one with `openssl pkey -pubout`", path);
  }
  return PublicPart(key.get());
}

void SavePublicKey(const PublicKey& key, const std::string& path) {
  const KeyPointer handle(EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, nullptr, key.data(), key.size()));
  const BioPointer bio(BIO_new(BIO_s_mem()));
  CHECK(handle != nullptr && PEM_write_bio_PUBKEY(bio.get(), handle.get()) == 1);
  RequireNew(path);
  sys::WriteFileAtomic(path, std::string_view(BioText(bio.get())));
}

void RequireSignedBy(const Artifact& artifact, const PublicKey& key) {
  const auto& signature = artifact.signature();
  if (!signature) {
    throw MakeError(ErrorKind::kAccessDenied,
                    "the artifact is not signed; use one that is, or require no signature");
  }
  if (signature->signer != key) {
    throw MakeError(ErrorKind::kAccessDenied, "the artifact is signed by another key than the one required");
  }
  const KeyPointer handle(EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, nullptr, key.data(), key.size()));
  const ContextPointer context(EVP_MD_CTX_new());
  const auto message = artifact.signed_bytes();
  const bool good = handle != nullptr &&
                    EVP_DigestVerifyInit(context.get(), nullptr, nullptr, nullptr, handle.get()) == 1 &&
                    EVP_DigestVerify(context.get(), signature->value.data(), signature->value.size(),
                                     Octets(message), message.size()) == 1;
  if (!good)
    throw MakeError(ErrorKind::kAccessDenied, "the artifact's signature does not match: it was changed");
}

}  // namespace preheat::artifact
