/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* library.h - OpenSSL as the engine uses it: a library context of its own, so that neither the program's settings nor
 * the providers that it loads matter here, and its are not changed.
 *
 * What OpenSSL does not have, the engine does not have: no cipher is written by hand.
 */
#ifndef LIBIMG_CRYPTO_LIBRARY_H
#define LIBIMG_CRYPTO_LIBRARY_H

#include <openssl/evp.h>
#include <stddef.h>
#include <stdint.h>

#include "img.h"

#define DIGEST_MAX EVP_MAX_MD_SIZE

/* The library context, made at first use and kept; NULL: it could not be made. */
OSSL_LIB_CTX *crypto_library(void);

/* The hash of a LUKS name ("sha256"). -ENOTSUP: there is none of that name here. Free with EVP_MD_free. */
int digest_fetch(const char *name, EVP_MD **out, struct img_error *err);

/* PBKDF2 with HMAC: `count` bytes from a passphrase. */
int pbkdf2(EVP_MD *hash, const void *passphrase, size_t length, const uint8_t *salt, size_t salt_length,
           uint64_t iterations, uint8_t *out, size_t count, struct img_error *err);
/* How many iterations for `count` bytes take this thread `milliseconds` of processor time; at least 1000. */
int pbkdf2_measure(EVP_MD *hash, size_t count, unsigned milliseconds, uint32_t *iterations, struct img_error *err);

int random_bytes(void *out, size_t count, struct img_error *err);

#endif
