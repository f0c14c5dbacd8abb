// Ed25519 signatures of artifacts (RFC 8032), off by default. A hash only finds damage; a signature tells who
// made an artifact, which holds native code. Key files are PEM as `openssl genpkey -algorithm ed25519` and
// `openssl pkey -pubout` write them.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "artifact/artifact.h"

namespace preheat::artifact {

class SigningKey {
 public:
  static SigningKey Generate();
  // Throws kNotFound, kAccessDenied, kIo, or kCorrupt where the file is no ed25519 private key.
  static SigningKey Load(const std::string& path);
  ~SigningKey();
  SigningKey(SigningKey&&) noexcept;

  // Readable by its owner only. Throws kIo or kAccessDenied; an existing file is not replaced
  // (kInvalidArgument).
  void Save(const std::string& path) const;
  const PublicKey& public_key() const { return public_key_; }
  Signature Sign(std::span<const std::byte> message) const;

 private:
  struct Handle;
  explicit SigningKey(std::unique_ptr<Handle> handle);
  std::unique_ptr<Handle> handle_;
  PublicKey public_key_{};
};

PublicKey LoadPublicKey(const std::string& path);
void SavePublicKey(const PublicKey& key, const std::string& path);

// Throws kAccessDenied where the artifact is unsigned, signed by another key, or changed since.
void RequireSignedBy(const Artifact& artifact, const PublicKey& key);

}  // namespace preheat::artifact
