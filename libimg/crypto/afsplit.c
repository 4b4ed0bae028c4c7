/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* afsplit.c - the anti-forensic splitter (afsplit.h). */
#include "afsplit.h"

#include <endian.h>
#include <errno.h>
#include <string.h>

#include "../error.h"

static void xor_into(uint8_t *to, const uint8_t *from, size_t count) {
    for (size_t i = 0; i < count; i++)
        to[i] ^= from[i];
}

/* Each part of a digest's size becomes the hash of its number and itself. */
static int diffuse(EVP_MD_CTX *c, EVP_MD *hash, uint8_t *block, size_t count) {
    size_t size = (size_t)EVP_MD_get_size(hash);
    uint8_t digest[DIGEST_MAX];
    for (size_t at = 0, i = 0; at < count; at += size, i++) {
        uint32_t number = htobe32((uint32_t)i);
        size_t n = count - at < size ? count - at : size;
        if (EVP_DigestInit_ex2(c, hash, NULL) != 1 || EVP_DigestUpdate(c, &number, sizeof number) != 1 ||
            EVP_DigestUpdate(c, block + at, n) != 1 || EVP_DigestFinal_ex(c, digest, NULL) != 1)
            return -EIO;
        memcpy(block + at, digest, n);
    }
    OPENSSL_cleanse(digest, sizeof digest);
    return 0;
}

/* What all stripes but the last come to. */
static int fold(EVP_MD *hash, const uint8_t *split, size_t count, uint32_t stripes, uint8_t *block,
                struct img_error *err) {
    EVP_MD_CTX *c = EVP_MD_CTX_new();
    int r = c != NULL ? 0 : -ENOMEM;
    memset(block, 0, count);
    for (uint32_t i = 0; r == 0 && i + 1 < stripes; i++) {
        xor_into(block, split + (size_t)i * count, count);
        r = diffuse(c, hash, block, count);
    }
    EVP_MD_CTX_free(c);
    return r < 0 ? img_fail_errno(err, r, "Could not split or merge a key with %s", EVP_MD_get0_name(hash)) : 0;
}

int af_split(EVP_MD *hash, const uint8_t *key, size_t count, uint32_t stripes, uint8_t *out, struct img_error *err) {
    uint8_t *last = out + (size_t)(stripes - 1) * count;
    int r = random_bytes(out, (size_t)(stripes - 1) * count, err);
    if (r == 0)
        r = fold(hash, out, count, stripes, last, err);
    if (r == 0)
        xor_into(last, key, count);
    return r;
}

int af_merge(EVP_MD *hash, const uint8_t *split, size_t count, uint32_t stripes, uint8_t *key, struct img_error *err) {
    int r = fold(hash, split, count, stripes, key, err);
    if (r == 0)
        xor_into(key, split + (size_t)(stripes - 1) * count, count);
    return r;
}
