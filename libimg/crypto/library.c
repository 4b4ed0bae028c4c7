/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* library.c - OpenSSL's library context, hashes, random bytes and PBKDF2 (library.h). */
#include "library.h"

#include <errno.h>
#include <openssl/core_names.h>
#include <openssl/kdf.h>
#include <openssl/provider.h>
#include <openssl/rand.h>
#include <pthread.h>
#include <string.h>
#include <time.h>

#include "../error.h"

#define LEAST_ITERATIONS 1000
#define MEASURE_LEAST 5000000ull /* ns; a shorter run says too little */
#define MEASURE_MOST 50000000ull

static OSSL_LIB_CTX *library;

static void make_library(void) {
    OSSL_LIB_CTX *made = OSSL_LIB_CTX_new();
    if (made == NULL)
        return;
    if (OSSL_PROVIDER_load(made, "default") == NULL) {
        OSSL_LIB_CTX_free(made);
        return;
    }
    /* old hashes and ciphers; a system without them does without those */
    (void)OSSL_PROVIDER_load(made, "legacy");
    library = made;
}

OSSL_LIB_CTX *crypto_library(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, make_library);
    return library;
}

/* ---- hashes and random bytes ---- */

int digest_fetch(const char *name, EVP_MD **out, struct img_error *err) {
    static const struct {
        const char *luks, *openssl;
    } hashes[] = {
        {"sha1", "SHA1"},       {"sha224", "SHA2-224"}, {"sha256", "SHA2-256"},
        {"sha384", "SHA2-384"}, {"sha512", "SHA2-512"}, {"ripemd160", "RIPEMD160"},
    };
    *out = NULL;
    for (size_t i = 0; i < sizeof hashes / sizeof *hashes && crypto_library() != NULL; i++)
        if (strcmp(name, hashes[i].luks) == 0)
            *out = EVP_MD_fetch(crypto_library(), hashes[i].openssl, NULL);
    return *out != NULL ? 0 : img_fail(err, -ENOTSUP, "Hash algorithm '%s' is not available", name);
}

int random_bytes(void *out, size_t count, struct img_error *err) {
    if (crypto_library() != NULL && RAND_bytes_ex(crypto_library(), out, count, 0) == 1)
        return 0;
    return img_fail(err, -EIO, "Unable to read random bytes");
}

/* ---- PBKDF2 ---- */

int pbkdf2(EVP_MD *hash, const void *passphrase, size_t length, const uint8_t *salt, size_t salt_length,
           uint64_t iterations, uint8_t *out, size_t count, struct img_error *err) {
    static const char nothing[1];
    int unchecked = 1; /* salts and counts are what the header says */
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, (char *)EVP_MD_get0_name(hash), 0),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_PASSWORD, (void *)(length ? passphrase : nothing), length),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SALT, (void *)salt, salt_length),
        OSSL_PARAM_construct_uint64(OSSL_KDF_PARAM_ITER, &iterations),
        OSSL_PARAM_construct_int(OSSL_KDF_PARAM_PKCS5, &unchecked),
        OSSL_PARAM_construct_end(),
    };
    EVP_KDF *kdf = EVP_KDF_fetch(crypto_library(), "PBKDF2", NULL);
    EVP_KDF_CTX *c = kdf != NULL ? EVP_KDF_CTX_new(kdf) : NULL;
    bool good = c != NULL && EVP_KDF_derive(c, out, count, params) == 1;
    EVP_KDF_CTX_free(c);
    EVP_KDF_free(kdf);
    return good ? 0 : img_fail(err, -EIO, "Could not derive a key with PBKDF2 and %s", EVP_MD_get0_name(hash));
}

static uint64_t thread_time(void) {
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * 1000000000ull + (uint64_t)now.tv_nsec;
}

int pbkdf2_measure(EVP_MD *hash, size_t count, unsigned milliseconds, uint32_t *iterations, struct img_error *err) {
    uint8_t salt[32] = {0}, out[DIGEST_MAX];
    uint64_t n = 2048, spent, enough = milliseconds * 250000ull;
    enough = enough < MEASURE_LEAST ? MEASURE_LEAST : enough > MEASURE_MOST ? MEASURE_MOST : enough;
    if (count > sizeof out)
        count = sizeof out;
    *iterations = LEAST_ITERATIONS;
    if (milliseconds <= 1) /* less is not offered, and no machine takes much longer for it */
        return 0;
    for (;; n *= 2) {
        uint64_t from = thread_time();
        int r = pbkdf2(hash, "password", 8, salt, sizeof salt, n, out, count, err);
        spent = thread_time() - from;
        if (r < 0)
            return r;
        if (spent >= enough)
            break;
    }
    double each = (double)spent / (double)n, wanted = (double)milliseconds * 1e6 / each;
    *iterations = wanted < LEAST_ITERATIONS ? LEAST_ITERATIONS : wanted > UINT32_MAX ? UINT32_MAX : (uint32_t)wanted;
    return 0;
}
