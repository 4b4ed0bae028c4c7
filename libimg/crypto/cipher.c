/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* cipher.c - sectors through OpenSSL's block ciphers (cipher.h).
 *
 * A context is keyed once, for one direction. For each sector only its initial vector is set: 32 or 64 bits of the
 * sector's number, little end first, or for ESSIV that number encrypted under the hash of the key. ECB has none, so
 * there all sectors of a request are one call.
 */
#include "cipher.h"

#include <endian.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../error.h"
#include "../sync.h"
#include "library.h"
#include "secure.h"

#define KEPT 16 /* contexts for each direction */
#define IV_MAX EVP_MAX_IV_LENGTH

/* Keyed contexts for one direction: of the sectors, and for ESSIV of their numbers. */
struct keyed {
    EVP_CIPHER_CTX *data, *essiv;
};

struct stock {
    unsigned count;
    struct keyed kept[KEPT];
};

struct sector_cipher {
    enum ivgen ivgen;
    EVP_CIPHER *cipher, *essiv;
    size_t iv_bytes, essiv_block;
    size_t sector_bytes;
    size_t key_bytes;
    uint8_t *key, *essiv_key; /* secure; essiv_key: DIGEST_MAX bytes */
    pthread_mutex_t lock;
    struct stock stocks[2]; /* decryption, encryption */
};

/* ---- names ---- */

static const char *const ivgen_names[] = {
    [IVGEN_NONE] = "none", [IVGEN_PLAIN] = "plain", [IVGEN_PLAIN64] = "plain64", [IVGEN_ESSIV] = "essiv"};

const char *ivgen_name(enum ivgen ivgen) {
    return ivgen_names[ivgen];
}

int cipher_parse_mode(const char *text, struct cipher_spec *spec, struct img_error *err) {
    size_t mode = strcspn(text, "-");
    const char *ivgen = text[mode] ? text + mode + 1 : "";
    size_t name = strcspn(ivgen, ":");
    const char *hash = ivgen[name] ? ivgen + name + 1 : "";
    spec->ivgen = IVGEN_NONE;
    for (size_t i = IVGEN_PLAIN; i <= IVGEN_ESSIV; i++)
        if (strlen(ivgen_names[i]) == name && memcmp(ivgen, ivgen_names[i], name) == 0)
            spec->ivgen = (enum ivgen)i;
    bool known = spec->ivgen != IVGEN_NONE || (!*ivgen && mode == 3 && memcmp(text, "ecb", 3) == 0);
    if (mode == 0 || mode >= sizeof spec->mode || strlen(hash) >= sizeof spec->ivgen_hash || !known)
        return img_fail(err, -ENOTSUP, "Cipher mode '%s' is not supported", text);
    if ((spec->ivgen == IVGEN_ESSIV) != (*hash != '\0'))
        return img_fail(err, -EINVAL, "Cipher mode '%s' %s a hash of its initial vectors", text,
                        *hash ? "must not name" : "does not name");
    snprintf(spec->mode, sizeof spec->mode, "%.*s", (int)mode, text);
    snprintf(spec->ivgen_hash, sizeof spec->ivgen_hash, "%s", hash);
    return 0;
}

void cipher_format_mode(const struct cipher_spec *spec, char out[32]) {
    if (spec->ivgen == IVGEN_ESSIV)
        snprintf(out, 32, "%.13s-essiv:%.11s", spec->mode, spec->ivgen_hash);
    else if (spec->ivgen == IVGEN_NONE)
        snprintf(out, 32, "%s", spec->mode);
    else
        snprintf(out, 32, "%s-%s", spec->mode, ivgen_name(spec->ivgen));
}

unsigned cipher_key_bits(const struct cipher_spec *spec, size_t key_bytes) {
    return (unsigned)(strcmp(spec->mode, "xts") == 0 ? key_bytes * 4 : key_bytes * 8);
}

/* OpenSSL's name of a cipher with a key of so many bits; NULL: it has none, or its key is of another length. */
static EVP_CIPHER *fetch(const char *algorithm, const char *mode, unsigned bits, size_t key_bytes) {
    static const struct {
        const char *algorithm, *openssl;
        bool fixed_key; /* no bits in the name */
    } ciphers[] = {{"aes", "AES", false}, {"camellia", "CAMELLIA", false}, {"cast5", "CAST5", true}};
    static const char *const modes[] = {"cbc", "ecb", "ctr", "xts"};
    EVP_CIPHER *cipher = NULL;
    bool known = false;
    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++)
        known |= strcmp(mode, modes[i]) == 0;
    for (size_t i = 0; known && i < sizeof ciphers / sizeof *ciphers && crypto_library() != NULL; i++) {
        char name[64];
        if (strcmp(algorithm, ciphers[i].algorithm) != 0)
            continue;
        if (ciphers[i].fixed_key)
            snprintf(name, sizeof name, "%s-%s", ciphers[i].openssl, mode);
        else
            snprintf(name, sizeof name, "%s-%u-%s", ciphers[i].openssl, bits, mode);
        cipher = EVP_CIPHER_fetch(crypto_library(), name, NULL);
    }
    if (cipher != NULL && (size_t)EVP_CIPHER_get_key_length(cipher) != key_bytes) {
        EVP_CIPHER_free(cipher);
        cipher = NULL;
    }
    return cipher;
}

/* ---- contexts ---- */

static EVP_CIPHER_CTX *key_context(EVP_CIPHER *cipher, const uint8_t *key, bool encrypt) {
    static const uint8_t iv[IV_MAX];
    EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
    if (c != NULL && EVP_CipherInit_ex2(c, cipher, key, iv, encrypt, NULL) == 1 &&
        EVP_CIPHER_CTX_set_padding(c, 0) == 1)
        return c;
    EVP_CIPHER_CTX_free(c);
    return NULL;
}

static void destroy(struct keyed *k) {
    EVP_CIPHER_CTX_free(k->data);
    EVP_CIPHER_CTX_free(k->essiv);
    *k = (struct keyed){0};
}

static int make(struct sector_cipher *c, bool encrypt, struct keyed *k) {
    k->data = key_context(c->cipher, c->key, encrypt);
    k->essiv = c->essiv != NULL ? key_context(c->essiv, c->essiv_key, true) : NULL;
    if (k->data != NULL && (k->essiv != NULL || c->essiv == NULL))
        return 0;
    destroy(k);
    return -EIO;
}

static int take(struct sector_cipher *c, bool encrypt, struct keyed *k) {
    struct stock *stock = &c->stocks[encrypt];
    bool found = false;
    {
        SCOPED_MUTEX(&c->lock);
        if (stock->count > 0) {
            *k = stock->kept[--stock->count];
            found = true;
        }
    }
    return found ? 0 : make(c, encrypt, k);
}

static void give(struct sector_cipher *c, bool encrypt, struct keyed *k) {
    struct stock *stock = &c->stocks[encrypt];
    {
        SCOPED_MUTEX(&c->lock);
        if (stock->count < KEPT) {
            stock->kept[stock->count++] = *k;
            *k = (struct keyed){0};
        }
    }
    destroy(k);
}

/* ---- making one ---- */

static int set_essiv(struct sector_cipher *c, const struct cipher_spec *spec, struct img_error *err) {
    EVP_MD *hash;
    unsigned size = 0;
    int r = digest_fetch(spec->ivgen_hash, &hash, err);
    if (r < 0)
        return r;
    if (EVP_Digest(c->key, c->key_bytes, c->essiv_key, &size, hash, NULL) != 1)
        r = img_fail(err, -EIO, "Could not hash the key with %s", spec->ivgen_hash);
    EVP_MD_free(hash);
    if (r < 0)
        return r;
    c->essiv = fetch(spec->algorithm, "ecb", size * 8, size);
    if (c->essiv == NULL)
        return img_fail(err, -ENOTSUP,
                        "Cipher '%s' with a key of %u bits, as ivgen-hash-alg '%s' needs it, is not "
                        "available",
                        spec->algorithm, size * 8, spec->ivgen_hash);
    c->essiv_block = (size_t)EVP_CIPHER_get_block_size(c->essiv);
    return 0;
}

static int set_up(struct sector_cipher *c, const struct cipher_spec *spec, struct img_error *err) {
    unsigned bits = cipher_key_bits(spec, c->key_bytes);
    c->cipher = fetch(spec->algorithm, spec->mode, bits, c->key_bytes);
    if (c->cipher == NULL)
        return img_fail(err, -ENOTSUP, "Cipher '%s-%u' in mode '%s' is not available", spec->algorithm, bits,
                        spec->mode);
    c->iv_bytes = (size_t)EVP_CIPHER_get_iv_length(c->cipher);
    c->ivgen = c->iv_bytes > 0 ? spec->ivgen : IVGEN_NONE;
    if (c->iv_bytes > 0 && c->ivgen == IVGEN_NONE)
        return img_fail(err, -EINVAL, "Cipher mode '%s' needs initial vectors", spec->mode);
    int r = c->ivgen == IVGEN_ESSIV ? set_essiv(c, spec, err) : 0;
    struct keyed k;
    if (r == 0 && (r = make(c, true, &k)) < 0)
        return img_fail(err, r, "Cipher '%s-%u' in mode '%s' does not take the key", spec->algorithm, bits, spec->mode);
    if (r == 0)
        give(c, true, &k);
    return r;
}

int cipher_new(const struct cipher_spec *spec, const uint8_t *key, size_t key_bytes, struct sector_cipher **out,
               struct img_error *err) {
    struct sector_cipher *c = calloc(1, sizeof *c);
    *out = NULL;
    if (c == NULL)
        return img_fail(err, -ENOMEM, "no memory for a cipher");
    pthread_mutex_init(&c->lock, NULL);
    c->sector_bytes = CRYPTO_SECTOR;
    c->key_bytes = key_bytes;
    c->key = secure_alloc(key_bytes + DIGEST_MAX);
    int r = c->key != NULL ? 0 : img_fail(err, -ENOMEM, "no memory for a key");
    if (r == 0) {
        c->essiv_key = c->key + key_bytes;
        memcpy(c->key, key, key_bytes);
        r = set_up(c, spec, err);
    }
    if (r == 0)
        *out = c;
    else
        cipher_free(c);
    return r;
}

void cipher_set_sector(struct sector_cipher *c, unsigned bytes) {
    c->sector_bytes = bytes;
}

void cipher_free(struct sector_cipher *c) {
    if (c == NULL)
        return;
    for (int i = 0; i < 2; i++)
        while (c->stocks[i].count > 0)
            destroy(&c->stocks[i].kept[--c->stocks[i].count]);
    EVP_CIPHER_free(c->cipher);
    EVP_CIPHER_free(c->essiv);
    secure_free(c->key, c->key_bytes + DIGEST_MAX);
    pthread_mutex_destroy(&c->lock);
    free(c);
}

/* ---- sectors ---- */

static bool make_iv(const struct sector_cipher *c, struct keyed *k, uint64_t sector, uint8_t iv[IV_MAX]) {
    uint64_t number = htole64(c->ivgen == IVGEN_PLAIN ? (uint32_t)sector : sector);
    int n;
    memset(iv, 0, IV_MAX);
    memcpy(iv, &number, sizeof number);
    return c->ivgen != IVGEN_ESSIV || EVP_CipherUpdate(k->essiv, iv, &n, iv, (int)c->essiv_block) == 1;
}

static bool go_through(struct sector_cipher *c, struct keyed *k, uint64_t sector, uint8_t *buffer, size_t count) {
    /* all at once where no sector has a start of its own */
    size_t piece = c->iv_bytes > 0 ? c->sector_bytes : count < 1u << 30 ? count : 1u << 30;
    uint8_t iv[IV_MAX];
    int n;
    for (size_t at = 0; at < count; at += piece, sector += piece / CRYPTO_SECTOR) {
        size_t bytes = count - at < piece ? count - at : piece;
        if (c->iv_bytes > 0 &&
            !(make_iv(c, k, sector, iv) && EVP_CipherInit_ex2(k->data, NULL, NULL, iv, -1, NULL) == 1))
            return false;
        if (EVP_CipherUpdate(k->data, buffer + at, &n, buffer + at, (int)bytes) != 1 || (size_t)n != bytes)
            return false;
    }
    return true;
}

static int crypt_sectors(struct sector_cipher *c, bool encrypt, uint64_t sector, uint8_t *buffer, size_t count) {
    struct keyed k;
    int r = take(c, encrypt, &k);
    if (r < 0)
        return r;
    if (go_through(c, &k, sector, buffer, count)) {
        give(c, encrypt, &k);
        return 0;
    }
    destroy(&k);
    return -EIO;
}

int cipher_encrypt(struct sector_cipher *c, uint64_t sector, uint8_t *buffer, size_t count) {
    return crypt_sectors(c, true, sector, buffer, count);
}

int cipher_decrypt(struct sector_cipher *c, uint64_t sector, uint8_t *buffer, size_t count) {
    return crypt_sectors(c, false, sector, buffer, count);
}
