/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* luks1.c - a LUKS1 header to and from its bytes (luks1.h). Sentences are QEMU's where it has one. */
#include "luks1.h"

#include <endian.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "../error.h"

#define SLOT_ACTIVE 0x00ac71f3u
#define SLOT_UNUSED 0x0000deadu
#define STRIPES_MOST 65536u /* as much as anybody would wait for */

static const uint8_t magic[6] = {'L', 'U', 'K', 'S', 0xba, 0xbe};

struct disk_slot {
    uint32_t active, iterations;
    uint8_t salt[LUKS_SALT];
    uint32_t offset, stripes; /* offset: sectors */
};

struct disk_header {
    uint8_t magic[6];
    uint16_t version;
    char cipher[32], mode[32], hash[32];
    uint32_t payload, key_bytes; /* payload: sectors */
    uint8_t digest[LUKS_DIGEST], digest_salt[LUKS_SALT];
    uint32_t digest_iterations;
    char uuid[LUKS_UUID];
    struct disk_slot slots[LUKS_SLOTS];
};
_Static_assert(sizeof(struct disk_header) == LUKS_HEADER_BYTES, "no padding");

bool luks_probe(const uint8_t *head, size_t count) {
    return count >= sizeof magic + 2 && memcmp(head, magic, sizeof magic) == 0 && head[6] == 0 && head[7] == 1;
}

uint64_t luks_material_bytes(const struct luks_header *h, const struct luks_slot *slot) {
    uint64_t bytes = (uint64_t)h->key_bytes * slot->stripes;
    return (bytes + CRYPTO_SECTOR - 1) / CRYPTO_SECTOR * CRYPTO_SECTOR;
}

void luks_cipher_name(const struct luks_header *h, char out[64]) {
    unsigned bits = cipher_key_bits(&h->cipher, h->key_bytes);
    snprintf(out, 64, "%s-%u", h->cipher.algorithm, bits);
}

/* ---- reading ---- */

static int take_text(const char *bytes, size_t room, const char *what, char *out, struct img_error *err) {
    if (memchr(bytes, '\0', room) == NULL)
        return img_fail(err, -EINVAL, "LUKS header %s is not NUL terminated", what);
    memcpy(out, bytes, room);
    return 0;
}

static int decode_names(const struct disk_header *d, struct luks_header *h, struct img_error *err) {
    char mode[sizeof d->mode];
    int r = take_text(d->cipher, sizeof d->cipher, "cipher name", h->cipher.algorithm, err);
    if (r == 0)
        r = take_text(d->mode, sizeof d->mode, "cipher mode", mode, err);
    if (r == 0)
        r = take_text(d->hash, sizeof d->hash, "hash spec", h->hash, err);
    if (r == 0)
        r = cipher_parse_mode(mode, &h->cipher, err);
    memcpy(h->uuid, d->uuid, sizeof h->uuid);
    h->uuid[sizeof h->uuid - 1] = '\0';
    return r;
}

static int decode_slot(const struct disk_slot *d, unsigned i, struct luks_slot *s, struct img_error *err) {
    uint32_t active = be32toh(d->active);
    *s = (struct luks_slot){.active = active == SLOT_ACTIVE,
                            .iterations = be32toh(d->iterations),
                            .stripes = be32toh(d->stripes),
                            .offset = (uint64_t)be32toh(d->offset) * CRYPTO_SECTOR};
    memcpy(s->salt, d->salt, sizeof s->salt);
    if (active != SLOT_ACTIVE && active != SLOT_UNUSED)
        return img_fail(err, -EINVAL, "Keyslot %u state (active/disable) is corrupted (active = 0x%x)", i, active);
    if (s->stripes == 0 || s->stripes > STRIPES_MOST)
        return img_fail(err, -EINVAL, "Keyslot %u is corrupted (stripes = %u, at least 1 and at most %u)", i,
                        s->stripes, STRIPES_MOST);
    if (s->active && s->iterations == 0)
        return img_fail(err, -EINVAL, "Keyslot %u iteration count is zero", i);
    return 0;
}

/* No two places share a byte, but for what nobody uses: an unused slot of a volume whose header lies apart may have
 * no place. */
static int check_places(const struct luks_header *h, struct img_error *err) {
    if (h->payload < LUKS_HEADER_BYTES)
        return img_fail(err, -EINVAL, "LUKS payload is overlapping with the header (payload offset = %llu)",
                        (unsigned long long)h->payload);
    for (unsigned i = 0; i < LUKS_SLOTS; i++) {
        const struct luks_slot *a = &h->slots[i];
        uint64_t end = a->offset + luks_material_bytes(h, a);
        if (a->offset < LUKS_HEADER_BYTES)
            return img_fail(err, -EINVAL, "Keyslot %u is overlapping with the LUKS header (key offset = %llu)", i,
                            (unsigned long long)a->offset);
        if (end > h->payload)
            return img_fail(err, -EINVAL, "Keyslot %u is overlapping with the encrypted payload (key offset = %llu)", i,
                            (unsigned long long)a->offset);
        for (unsigned j = 0; j < i; j++) {
            const struct luks_slot *b = &h->slots[j];
            if (a->offset < b->offset + luks_material_bytes(h, b) && b->offset < end)
                return img_fail(err, -EINVAL, "Keyslots %u and %u are overlapping in the header", j, i);
        }
    }
    return 0;
}

int luks_decode(const uint8_t *bytes, struct luks_header *h, struct img_error *err) {
    struct disk_header d;
    memcpy(&d, bytes, sizeof d);
    memset(h, 0, sizeof *h);
    if (memcmp(d.magic, magic, sizeof magic) != 0)
        return img_fail(err, -EINVAL, "Volume is not in LUKS format");
    if (be16toh(d.version) != 1)
        return img_fail(err, -ENOTSUP, "LUKS version %u is not supported", be16toh(d.version));
    int r = decode_names(&d, h, err);
    if (r < 0)
        return r;
    h->key_bytes = be32toh(d.key_bytes);
    h->payload = (uint64_t)be32toh(d.payload) * CRYPTO_SECTOR;
    memcpy(h->digest, d.digest, sizeof h->digest);
    memcpy(h->digest_salt, d.digest_salt, sizeof h->digest_salt);
    h->digest_iterations = be32toh(d.digest_iterations);
    if (h->key_bytes < 16 || h->key_bytes > LUKS_KEY_MAX || h->key_bytes % 8)
        return img_fail(err, -EINVAL, "LUKS key length is invalid (key-bytes = %u)", h->key_bytes);
    if (h->digest_iterations == 0)
        return img_fail(err, -EINVAL, "LUKS key iteration count is zero");
    for (unsigned i = 0; r == 0 && i < LUKS_SLOTS; i++)
        r = decode_slot(&d.slots[i], i, &h->slots[i], err);
    return r < 0 ? r : check_places(h, err);
}

/* ---- writing ---- */

void luks_encode(const struct luks_header *h, uint8_t *bytes) {
    struct disk_header d = {.version = htobe16(1),
                            .payload = htobe32((uint32_t)(h->payload / CRYPTO_SECTOR)),
                            .key_bytes = htobe32(h->key_bytes),
                            .digest_iterations = htobe32(h->digest_iterations)};
    memcpy(d.magic, magic, sizeof magic);
    memcpy(d.cipher, h->cipher.algorithm, sizeof d.cipher);
    cipher_format_mode(&h->cipher, d.mode);
    memcpy(d.hash, h->hash, sizeof d.hash);
    memcpy(d.digest, h->digest, sizeof d.digest);
    memcpy(d.digest_salt, h->digest_salt, sizeof d.digest_salt);
    memcpy(d.uuid, h->uuid, sizeof d.uuid);
    for (unsigned i = 0; i < LUKS_SLOTS; i++) {
        const struct luks_slot *s = &h->slots[i];
        d.slots[i] = (struct disk_slot){.active = htobe32(s->active ? SLOT_ACTIVE : SLOT_UNUSED),
                                        .iterations = htobe32(s->iterations),
                                        .offset = htobe32((uint32_t)(s->offset / CRYPTO_SECTOR)),
                                        .stripes = htobe32(s->stripes)};
        memcpy(d.slots[i].salt, s->salt, sizeof s->salt);
    }
    memcpy(bytes, &d, sizeof d);
}

void luks_place(struct luks_header *h) {
    uint64_t at = LUKS_ALIGN;
    for (unsigned i = 0; i < LUKS_SLOTS; i++) {
        struct luks_slot *s = &h->slots[i];
        s->stripes = LUKS_STRIPES;
        s->offset = at;
        at += (luks_material_bytes(h, s) + LUKS_ALIGN - 1) & ~(uint64_t)(LUKS_ALIGN - 1);
    }
    h->payload = at;
}
