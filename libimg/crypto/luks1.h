/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* luks1.h - the header of a LUKS1 volume: what is on the disk, read once and checked once.
 *
 * luks_decode checks all that the header says by itself: names that end, places that do not overlap, numbers in
 * bounds. Whoever holds a struct luks_header may rely on that. Nothing is decrypted here (keyslot.h).
 *
 * Specification: "LUKS On-Disk Format" 1.2.
 */
#ifndef LIBIMG_CRYPTO_LUKS1_H
#define LIBIMG_CRYPTO_LUKS1_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cipher.h"
#include "img.h"

#define LUKS_HEADER_BYTES 592
#define LUKS_SLOTS 8
#define LUKS_STRIPES 4000
#define LUKS_SALT 32
#define LUKS_DIGEST 20
#define LUKS_KEY_MAX 64 /* bytes of a master key */
#define LUKS_UUID 40
#define LUKS_ALIGN 4096 /* of what a new header places */

struct luks_slot {
    bool active;
    uint32_t iterations;
    uint8_t salt[LUKS_SALT];
    uint32_t stripes;
    uint64_t offset; /* bytes from the header's start */
};

struct luks_header {
    struct cipher_spec cipher;
    char hash[32];
    uint32_t key_bytes;
    uint64_t payload; /* bytes from the header's start to the first encrypted sector */
    uint8_t digest[LUKS_DIGEST], digest_salt[LUKS_SALT]; /* of the master key */
    uint32_t digest_iterations;
    char uuid[LUKS_UUID];
    struct luks_slot slots[LUKS_SLOTS];
};

bool luks_probe(const uint8_t *head, size_t count);

/* `bytes`: LUKS_HEADER_BYTES of them. -EINVAL with the field and its value. */
int luks_decode(const uint8_t *bytes, struct luks_header *header, struct img_error *err);
void luks_encode(const struct luks_header *header, uint8_t *bytes);

/* Places key slots and payload behind the header; key_bytes is set. */
void luks_place(struct luks_header *header);
/* Bytes of a slot's key material, whole sectors. */
uint64_t luks_material_bytes(const struct luks_header *header, const struct luks_slot *slot);
/* "aes-256" into 64 bytes. */
void luks_cipher_name(const struct luks_header *header, char out[64]);

#endif
