/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* cipher.c - the public calls that move sectors through a cipher: crypto/cipher.h for those who have no image. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "crypto/cipher.h"
#include "error.h"
#include "img.h"

struct img_cipher {
    struct sector_cipher *sectors;
    unsigned sector;
};

int img_cipher_new(const char *algorithm, const char *mode, const struct img_key *key, unsigned sector,
                   struct img_cipher **cipher, struct img_error *err) {
    struct cipher_spec spec = {0};
    *cipher = NULL;
    if (sector < CRYPTO_SECTOR || sector > 4096 || (sector & (sector - 1)) != 0)
        return img_fail(err, -EINVAL, "Sectors of %u bytes cannot be encrypted", sector);
    if (strlen(algorithm) >= sizeof(spec.algorithm))
        return img_fail(err, -ENOTSUP, "Cipher '%s' is not available", algorithm);
    strcpy(spec.algorithm, algorithm);
    int r = cipher_parse_mode(mode, &spec, err);
    if (r < 0)
        return r;
    struct img_cipher *c = malloc(sizeof(*c));
    if (c == NULL)
        return img_fail(err, -ENOMEM, "no memory for a cipher");
    r = cipher_new(&spec, key->bytes, key->length, &c->sectors, err);
    if (r < 0) {
        free(c);
        return r;
    }
    c->sector = sector;
    cipher_set_sector(c->sectors, sector);
    *cipher = c;
    return 0;
}

void img_cipher_free(struct img_cipher *cipher) {
    if (cipher == NULL)
        return;
    cipher_free(cipher->sectors);
    free(cipher);
}

int img_cipher_encrypt(struct img_cipher *cipher, uint64_t number, void *buffer, size_t count) {
    return count % cipher->sector ? -EINVAL : cipher_encrypt(cipher->sectors, number, buffer, count);
}

int img_cipher_decrypt(struct img_cipher *cipher, uint64_t number, void *buffer, size_t count) {
    return count % cipher->sector ? -EINVAL : cipher_decrypt(cipher->sectors, number, buffer, count);
}
