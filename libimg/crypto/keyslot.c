/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* keyslot.c - passphrases, key slots and the master key (keyslot.h). */
#include "keyslot.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../error.h"
#include "afsplit.h"
#include "library.h"
#include "secure.h"

#define ITER_TIME_DEFAULT 2000 /* ms */
#define DIGEST_SHARE 8         /* the master key's digest gets this part of the time */
#define HEADER_SECTORS 1024    /* bytes: the two sectors in which the header ends */

int luks_read(const struct luks_place *place, struct luks_header *h, struct img_error *err) {
    uint8_t bytes[LUKS_HEADER_BYTES];
    if (place->length < sizeof bytes)
        return img_fail(err, -EINVAL, "Volume is not in LUKS format: %llu bytes are no header",
                        (unsigned long long)place->length);
    int r = storage_read(place->file, bytes, sizeof bytes, place->offset);
    if (r < 0)
        return img_fail_errno(err, r, "Unable to read LUKS header");
    r = luks_decode(bytes, h, err);
    for (unsigned i = 0; r == 0 && i < LUKS_SLOTS; i++)
        if (h->slots[i].active && h->slots[i].offset + luks_material_bytes(h, &h->slots[i]) > place->length)
            r = img_fail(err, -EINVAL, "Keyslot %u lies outside of the header's %llu bytes (key offset = %llu)", i,
                         (unsigned long long)place->length, (unsigned long long)h->slots[i].offset);
    return r;
}

/* ---- one slot's material ---- */

/* All that a slot's work needs besides the header. */
struct work {
    EVP_MD *hash;
    uint8_t *split, *key; /* secure */
    size_t count;         /* of split */
};

static int work_begin(struct work *w, const struct luks_header *h, const struct luks_slot *s, struct img_error *err) {
    *w = (struct work){.count = luks_material_bytes(h, s)};
    int r = digest_fetch(h->hash, &w->hash, err);
    if (r < 0)
        return r;
    w->split = secure_alloc(w->count);
    w->key = secure_alloc(LUKS_KEY_MAX);
    return w->split != NULL && w->key != NULL ? 0 : img_fail(err, -ENOMEM, "no memory for a key slot");
}

static void work_end(struct work *w) {
    secure_free(w->split, w->count);
    secure_free(w->key, LUKS_KEY_MAX);
    EVP_MD_free(w->hash);
}

/* Through the volume's cipher, under the key that the passphrase gives. */
static int crypt_material(struct work *w, const struct luks_header *h, bool encrypt, struct img_error *err) {
    struct sector_cipher *c;
    int r = cipher_new(&h->cipher, w->key, h->key_bytes, &c, err);
    if (r < 0)
        return r;
    r = encrypt ? cipher_encrypt(c, 0, w->split, w->count) : cipher_decrypt(c, 0, w->split, w->count);
    cipher_free(c);
    return r < 0 ? img_fail_errno(err, r, "Could not %scrypt a key slot", encrypt ? "en" : "de") : 0;
}

static int master_digest(const struct luks_header *h, EVP_MD *hash, const uint8_t *master, uint8_t out[LUKS_DIGEST],
                         struct img_error *err) {
    return pbkdf2(hash, master, h->key_bytes, h->digest_salt, LUKS_SALT, h->digest_iterations, out, LUKS_DIGEST, err);
}

/* ---- unlocking ---- */

static int spend(uint64_t *budget, uint64_t iterations, struct img_error *err) {
    if (iterations > *budget)
        return img_fail(err, -E2BIG, "Unlocking takes %llu iterations of the key derivation, but only %llu are allowed",
                        (unsigned long long)iterations, (unsigned long long)*budget);
    *budget -= iterations;
    return 0;
}

static int open_slot(struct work *w, const struct luks_place *place, const struct luks_header *h,
                     const struct luks_slot *s, const struct img_key *passphrase, uint8_t *master,
                     struct img_error *err) {
    uint8_t digest[LUKS_DIGEST];
    int r = pbkdf2(w->hash, passphrase->bytes, passphrase->length, s->salt, LUKS_SALT, s->iterations, w->key,
                   h->key_bytes, err);
    if (r == 0 && (r = storage_read(place->file, w->split, w->count, place->offset + s->offset)) < 0)
        img_fail_errno(err, r, "Unable to read key material");
    if (r == 0)
        r = crypt_material(w, h, false, err);
    if (r == 0)
        r = af_merge(w->hash, w->split, h->key_bytes, s->stripes, master, err);
    if (r == 0)
        r = master_digest(h, w->hash, master, digest, err);
    return r < 0 ? r : CRYPTO_memcmp(digest, h->digest, sizeof digest) == 0;
}

int luks_try_slot(const struct luks_place *place, const struct luks_header *h, unsigned slot,
                  const struct img_key *passphrase, uint64_t *budget, uint8_t *master, struct img_error *err) {
    const struct luks_slot *s = &h->slots[slot];
    struct work w;
    int r = spend(budget, (uint64_t)s->iterations + h->digest_iterations, err);
    if (r < 0)
        return r;
    r = work_begin(&w, h, s, err);
    if (r == 0)
        r = open_slot(&w, place, h, s, passphrase, master, err);
    work_end(&w);
    if (r <= 0)
        OPENSSL_cleanse(master, h->key_bytes);
    return r;
}

int luks_unlock(const struct luks_place *place, const struct luks_header *h, const struct img_key *passphrase,
                uint64_t budget, uint8_t *master, unsigned *slot, struct img_error *err) {
    if (budget == 0)
        budget = LUKS_ITERATIONS_DEFAULT;
    for (unsigned i = 0; i < LUKS_SLOTS; i++) {
        if (!h->slots[i].active)
            continue;
        int r = luks_try_slot(place, h, i, passphrase, &budget, master, err);
        if (r < 0)
            return r;
        *slot = i;
        if (r > 0)
            return 0;
    }
    return img_fail(err, -EACCES, "Invalid password, cannot unlock any keyslot");
}

/* ---- filling a slot ---- */

/* The slot's fields and its material, encrypted, in w->split. */
static int fill_slot(struct work *w, const struct luks_header *h, struct luks_slot *s, const uint8_t *master,
                     const struct img_key *passphrase, unsigned iter_time, struct img_error *err) {
    int r = random_bytes(s->salt, sizeof s->salt, err);
    if (r == 0)
        r = pbkdf2_measure(w->hash, h->key_bytes, iter_time, &s->iterations, err);
    if (r == 0)
        r = pbkdf2(w->hash, passphrase->bytes, passphrase->length, s->salt, LUKS_SALT, s->iterations, w->key,
                   h->key_bytes, err);
    if (r == 0)
        r = af_split(w->hash, master, h->key_bytes, s->stripes, w->split, err);
    return r < 0 ? r : crypt_material(w, h, true, err);
}

static unsigned time_for(unsigned iter_time) {
    return iter_time ? iter_time : ITER_TIME_DEFAULT;
}

/* ---- a new volume ---- */

static int choose_cipher(const struct img_encryption *o, struct luks_header *h, struct img_error *err) {
    const char *name = o->cipher ? o->cipher : "aes-256", *mode = o->mode ? o->mode : "xts";
    const char *ivgen = o->ivgen ? o->ivgen : "plain64", *hash = o->hash ? o->hash : "sha256";
    const char *ivgen_hash = o->ivgen_hash ? o->ivgen_hash : "sha256";
    const char *dash = strrchr(name, '-');
    char *end = NULL, text[64];
    unsigned long bits = dash ? strtoul(dash + 1, &end, 10) : 0;
    if (!dash || dash == name || *end || (size_t)(dash - name) >= sizeof h->cipher.algorithm || bits % 64 || !bits ||
        bits > 256)
        return img_fail(err, -EINVAL, "Parameter 'cipher-alg' does not accept value '%s'", name);
    if (strlen(hash) >= sizeof h->hash)
        return img_fail(err, -EINVAL, "Parameter 'hash-alg' does not accept value '%s'", hash);
    bool essiv = strcmp(ivgen, "essiv") == 0;
    if (snprintf(text, sizeof text, "%s-%s%s%s", mode, ivgen, essiv ? ":" : "", essiv ? ivgen_hash : "") >= 32)
        return img_fail(err, -EINVAL, "Cipher mode '%s' is too long", text);
    snprintf(h->cipher.algorithm, sizeof h->cipher.algorithm, "%.*s", (int)(dash - name), name);
    snprintf(h->hash, sizeof h->hash, "%s", hash);
    h->key_bytes = (uint32_t)(bits / 8) * (strcmp(mode, "xts") == 0 ? 2 : 1);
    return cipher_parse_mode(text, &h->cipher, err);
}

static int choose_uuid(struct luks_header *h, struct img_error *err) {
    uint8_t b[16];
    int r = random_bytes(b, sizeof b, err);
    if (r < 0)
        return r;
    b[6] = (b[6] & 0x0f) | 0x40; /* version 4: random */
    b[8] = (b[8] & 0x3f) | 0x80;
    snprintf(h->uuid, sizeof h->uuid, "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", b[0],
             b[1], b[2], b[3], b[4], b[5], b[6], b[7], b[8], b[9], b[10], b[11], b[12], b[13], b[14], b[15]);
    return 0;
}

/* The master key and its digest. */
static int make_master(struct luks_header *h, EVP_MD *hash, unsigned iter_time, uint8_t *master,
                       struct img_error *err) {
    int r = random_bytes(master, h->key_bytes, err);
    if (r == 0)
        r = random_bytes(h->digest_salt, sizeof h->digest_salt, err);
    if (r == 0)
        r = pbkdf2_measure(hash, LUKS_DIGEST, (iter_time + DIGEST_SHARE - 1) / DIGEST_SHARE, &h->digest_iterations,
                           err);
    return r < 0 ? r : master_digest(h, hash, master, h->digest, err);
}

int luks_format(const struct img_encryption *o, struct luks_header *h, uint8_t **out, size_t *count,
                struct img_error *err) {
    unsigned iter_time = time_for(o->iter_time);
    struct luks_slot *first = &h->slots[0];
    struct work w = {0};
    *out = NULL;
    memset(h, 0, sizeof *h);
    int r = choose_cipher(o, h, err);
    if (r < 0)
        return r;
    luks_place(h);
    uint8_t *master = secure_alloc(LUKS_KEY_MAX);
    if (master == NULL)
        return img_fail(err, -ENOMEM, "no memory for a key");
    r = work_begin(&w, h, first, err);
    if (r == 0)
        r = choose_uuid(h, err);
    if (r == 0)
        r = make_master(h, w.hash, iter_time, master, err);
    if (r == 0)
        r = fill_slot(&w, h, first, master, &o->key, iter_time, err);
    *count = first->offset + w.count;
    if (r == 0 && (*out = calloc(1, *count)) == NULL)
        r = img_fail(err, -ENOMEM, "no memory for a LUKS header");
    if (r == 0) {
        first->active = true;
        luks_encode(h, *out);
        memcpy(*out + first->offset, w.split, w.count);
    }
    work_end(&w);
    secure_free(master, LUKS_KEY_MAX);
    return r;
}

int luks_measure(const struct img_encryption *o, uint64_t *payload, struct img_error *err) {
    struct luks_header h = {0};
    int r = choose_cipher(o, &h, err);
    luks_place(&h);
    *payload = h.payload;
    return r;
}

/* ---- changes ---- */

static int write_header(const struct luks_place *place, const struct luks_header *h, bool durable,
                        struct img_error *err) {
    uint8_t bytes[HEADER_SECTORS];
    int r = storage_read(place->file, bytes, sizeof bytes, place->offset);
    if (r == 0) {
        luks_encode(h, bytes);
        r = storage_write(place->file, bytes, sizeof bytes, place->offset);
    }
    if (r == 0 && durable)
        r = storage_flush(place->file);
    return r < 0 ? img_fail_errno(err, r, "Unable to write LUKS header") : 0;
}

static int write_material(const struct luks_place *place, const struct luks_slot *s, const uint8_t *bytes, size_t count,
                          struct img_error *err) {
    int r = storage_write(place->file, bytes, count, place->offset + s->offset);
    if (r == 0)
        r = storage_flush(place->file);
    return r < 0 ? img_fail_errno(err, r, "Unable to write key material") : 0;
}

static int check_slot_place(const struct luks_place *place, const struct luks_header *h, unsigned slot,
                            struct img_error *err) {
    const struct luks_slot *s = &h->slots[slot];
    uint64_t end = s->offset + luks_material_bytes(h, s);
    return end <= place->length ? 0
                                : img_fail(err, -EINVAL, "Keyslot %u lies outside of the header's %llu bytes", slot,
                                           (unsigned long long)place->length);
}

int luks_add(const struct luks_place *place, struct luks_header *h, unsigned slot, const uint8_t *master,
             const struct img_key *passphrase, unsigned iter_time, struct img_error *err) {
    struct luks_header changed = *h;
    struct luks_slot *s = &changed.slots[slot];
    struct work w = {0};
    int r = check_slot_place(place, h, slot, err);
    if (r < 0)
        return r;
    r = work_begin(&w, h, s, err);
    if (r == 0)
        r = fill_slot(&w, h, s, master, passphrase, time_for(iter_time), err);
    /* all of the slot but the word that makes it one: a slot may lie across two sectors */
    if (r == 0)
        r = write_header(place, &changed, false, err);
    if (r == 0)
        r = write_material(place, s, w.split, w.count, err);
    work_end(&w);
    s->active = true;
    if (r == 0)
        r = write_header(place, &changed, true, err);
    if (r == 0)
        *h = changed;
    return r;
}

int luks_remove(const struct luks_place *place, struct luks_header *h, unsigned slot, struct img_error *err) {
    struct luks_header changed = *h;
    struct luks_slot *s = &changed.slots[slot];
    size_t count = luks_material_bytes(h, s);
    int r = check_slot_place(place, h, slot, err);
    if (r < 0)
        return r;
    uint8_t *noise = malloc(count);
    r = noise ? random_bytes(noise, count, err) : img_fail(err, -ENOMEM, "no memory to erase a key slot");
    /* the word that makes it a slot first, and alone: a slot may lie across two sectors */
    s->active = false;
    if (r == 0)
        r = write_header(place, &changed, true, err);
    s->iterations = 0;
    memset(s->salt, 0, sizeof s->salt);
    if (r == 0) {
        *h = changed;
        r = write_header(place, &changed, false, err);
    }
    if (r == 0)
        r = write_material(place, s, noise, count, err);
    free(noise);
    return r;
}
