/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* cipher.h - sectors of 512 bytes (or more) through a block cipher, each with an initial vector made of its number.
 *
 * One sector_cipher serves any number of threads: it keeps contexts in which the key's schedule is ready, and who
 * comes takes one for the whole of a request, so a sector costs an initial vector and no set-up.
 */
#ifndef LIBIMG_CRYPTO_CIPHER_H
#define LIBIMG_CRYPTO_CIPHER_H

#include <stddef.h>
#include <stdint.h>

#include "img.h"

#define CRYPTO_SECTOR 512u

enum ivgen { IVGEN_NONE, IVGEN_PLAIN, IVGEN_PLAIN64, IVGEN_ESSIV };

/* In the words of a LUKS header: "aes", "xts", plain64, "". */
struct cipher_spec {
    char algorithm[32];
    char mode[16];
    enum ivgen ivgen;
    char ivgen_hash[16]; /* of ESSIV */
};

/* Reads the mode's part of a LUKS header: "cbc-essiv:sha256", "xts-plain64", "ecb". */
int cipher_parse_mode(const char *text, struct cipher_spec *spec, struct img_error *err);
/* Writes it; 32 bytes with the zero at the end. */
void cipher_format_mode(const struct cipher_spec *spec, char out[32]);
/* "plain64" */
const char *ivgen_name(enum ivgen ivgen);
/* The bits of the algorithm's own key in one of `key_bytes`: XTS takes two. */
unsigned cipher_key_bits(const struct cipher_spec *spec, size_t key_bytes);

struct sector_cipher;

/* -ENOTSUP: OpenSSL has no such cipher. The key may be wiped afterwards. */
int cipher_new(const struct cipher_spec *spec, const uint8_t *key, size_t key_bytes, struct sector_cipher **out,
               struct img_error *err);
void cipher_free(struct sector_cipher *c);
/* Larger sectors, a power of two up to 4096 bytes; before the first use. Their numbers still count 512 bytes, as in
 * dm-crypt: that of a sector is the number of its first 512. */
void cipher_set_sector(struct sector_cipher *c, unsigned bytes);

/* Whole sectors in place, of which the first has the number `sector`. 0, or -errno (-EIO, -ENOMEM). */
int cipher_encrypt(struct sector_cipher *c, uint64_t sector, uint8_t *buffer, size_t count);
int cipher_decrypt(struct sector_cipher *c, uint64_t sector, uint8_t *buffer, size_t count);

#endif
