/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* crypto.c - opening the encryption of an image, and its key slots (crypto.h). What moves data is crypto_move.c. */
#include "crypto.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "crypto/secure.h"
#include "error.h"

static bool metadata_only(const struct img *image) {
    return image->flags & (IMG_OPEN_INFO | IMG_OPEN_CHECK);
}

static int begin(struct img *image, struct img_error *err) {
    struct img_crypto *c = calloc(1, sizeof *c);
    if (c == NULL || (c->sectors = rangelock_new()) == NULL) {
        free(c);
        return img_fail(err, -ENOMEM, "no memory to open '%s'", image->path);
    }
    image->crypto = c;
    return 0;
}

static int find_key(const struct img *image, const struct img_driver_options *o, const char *parameter,
                    struct img_key *key, struct img_error *err) {
    *key = o->key;
    int r = key->bytes == NULL && o->ask_key ? o->ask_key(o->opaque, image->path, key) : 0;
    if (r < 0 && r != -ENOKEY)
        return img_fail_errno(err, r, "The key of '%s' cannot be had", image->path);
    return key->bytes ? 0 : img_fail(err, -ENOKEY, "Parameter '%s' is required for cipher", parameter);
}

/* ---- LUKS ---- */

static int unlock(struct img *image, const struct img_driver_options *o, const char *parameter, struct img_error *err) {
    struct img_crypto *c = image->crypto;
    struct img_key key;
    unsigned slot;
    int r = find_key(image, o, parameter, &key, err);
    if (r < 0)
        return r;
    c->master = secure_alloc(LUKS_KEY_MAX);
    if (c->master == NULL)
        return img_fail(err, -ENOMEM, "no memory to open '%s'", image->path);
    r = luks_unlock(&c->place, &c->header, &key, o->key_iterations, c->master, &slot, err);
    return r < 0 ? r : cipher_new(&c->header.cipher, c->master, c->header.key_bytes, &c->cipher, err);
}

int crypto_open_luks(struct img *image, const struct luks_place *place, bool by_host,
                     const struct img_driver_options *o, const char *parameter, struct img_error *err) {
    int r = begin(image, err);
    if (r < 0)
        return r;
    struct img_crypto *c = image->crypto;
    c->luks = true;
    c->by_host = by_host;
    c->place = *place;
    r = luks_read(place, &c->header, err);
    if (r == 0 && !metadata_only(image))
        r = unlock(image, o, parameter, err);
    if (r < 0)
        crypto_close(image);
    return r;
}

/* ---- the old AES of qcow2 ---- */

int crypto_open_aes(struct img *image, const struct img_driver_options *o, const char *parameter,
                    struct img_error *err) {
    static const struct cipher_spec spec = {.algorithm = "aes", .mode = "cbc", .ivgen = IVGEN_PLAIN64};
    struct img_key key;
    int r = begin(image, err);
    if (r < 0 || metadata_only(image))
        return r;
    r = find_key(image, o, parameter, &key, err);
    uint8_t *bytes = r == 0 ? secure_alloc(CRYPTO_AES_KEY) : NULL;
    if (r == 0 && bytes == NULL)
        r = img_fail(err, -ENOMEM, "no memory to open '%s'", image->path);
    if (r == 0) {
        memcpy(bytes, key.bytes, key.length < CRYPTO_AES_KEY ? key.length : CRYPTO_AES_KEY);
        r = cipher_new(&spec, bytes, CRYPTO_AES_KEY, &image->crypto->cipher, err);
    }
    secure_free(bytes, CRYPTO_AES_KEY);
    if (r < 0)
        crypto_close(image);
    return r;
}

void crypto_close(struct img *image) {
    struct img_crypto *c = image->crypto;
    if (c == NULL)
        return;
    cipher_free(c->cipher);
    secure_free(c->master, LUKS_KEY_MAX);
    rangelock_free(c->sectors);
    free(c);
    image->crypto = NULL;
}

/* ---- img_info ---- */

void crypto_info(struct img *image, struct img_info *info) {
    struct img_crypto *c = image->crypto;
    info->encrypted = true;
    if (c == NULL || !c->luks)
        return;
    const struct luks_header *h = &c->header;
    SCOPED_MUTEX(&image->whole);
    luks_cipher_name(h, c->cipher_name);
    c->info = (struct img_luks_info){
        .cipher = c->cipher_name,
        .mode = h->cipher.mode,
        .ivgen = ivgen_name(h->cipher.ivgen),
        .ivgen_hash = h->cipher.ivgen == IVGEN_ESSIV ? h->cipher.ivgen_hash : NULL,
        .hash = h->hash,
        .uuid = h->uuid,
        .payload_offset = h->payload,
        .master_key_iterations = h->digest_iterations,
    };
    for (unsigned i = 0; i < LUKS_SLOTS; i++)
        c->info.slots[i] = (struct img_key_slot){
            .active = h->slots[i].active,
            .iterations = h->slots[i].iterations,
            .stripes = h->slots[i].stripes,
            .key_offset = h->slots[i].offset,
        };
    info->luks = &c->info;
}

/* ---- key slots ---- */

static int begin_change(struct img *image, struct img_error *err) {
    struct img_crypto *c = image->crypto;
    if (c == NULL || !c->luks)
        return img_fail(err, -ENOTSUP, "'%s' has no key slots: it is not encrypted with LUKS", image->path);
    if (!image->writable)
        return img_fail(err, -EBADF, "'%s' is open for reading only", image->path);
    return c->cipher ? 0 : img_fail(err, -EBADF, "'%s' was opened for its metadata only", image->path);
}

static int check_slot(int slot, struct img_error *err) {
    return slot < LUKS_SLOTS
               ? 0
               : img_fail(err, -EINVAL, "Invalid keyslot %d specified, must be between 0 and %d", slot, LUKS_SLOTS - 1);
}

static unsigned active_slots(const struct luks_header *h) {
    unsigned n = 0;
    for (unsigned i = 0; i < LUKS_SLOTS; i++)
        n += h->slots[i].active;
    return n;
}

static int choose_slot(const struct luks_header *h, int slot, struct img_error *err) {
    if (slot >= 0)
        return !h->slots[slot].active
                   ? slot
                   : img_fail(err, -EEXIST, "Refusing to overwrite active keyslot %d - please erase it first", slot);
    for (int i = 0; i < LUKS_SLOTS; i++)
        if (!h->slots[i].active)
            return i;
    return img_fail(err, -ENOSPC, "Can't add a keyslot - all keyslots are in use");
}

static int add_key(struct img *image, const struct img_key *key, int slot, unsigned iter_time, struct img_error *err) {
    struct img_crypto *c = image->crypto;
    int chosen = choose_slot(&c->header, slot, err);
    if (chosen < 0)
        return chosen;
    int r = luks_add(&c->place, &c->header, (unsigned)chosen, c->master, key, iter_time, err);
    return r < 0 ? r : chosen;
}

int img_key_add(struct img *image, const struct img_key *key, int slot, unsigned iter_time, struct img_error *err) {
    int r = check_slot(slot, err);
    if (r < 0)
        return r;
    SCOPED_MUTEX(&image->whole);
    r = begin_change(image, err);
    return r < 0 ? r : add_key(image, key, slot, iter_time, err);
}

/* The bits of the slots (of `one` alone, if it is not -1) that open with the key. */
static int matching_slots(struct img *image, const struct img_key *key, int one, unsigned *slots,
                          struct img_error *err) {
    struct img_crypto *c = image->crypto;
    uint64_t budget = LUKS_ITERATIONS_DEFAULT;
    uint8_t *master = secure_alloc(LUKS_KEY_MAX);
    int r = master ? 0 : img_fail(err, -ENOMEM, "no memory for a key");
    *slots = 0;
    for (unsigned i = 0; r >= 0 && i < LUKS_SLOTS; i++) {
        bool asked = c->header.slots[i].active && (one < 0 || (int)i == one);
        r = asked ? luks_try_slot(&c->place, &c->header, i, key, &budget, master, err) : 0;
        *slots |= r > 0 ? 1u << i : 0;
    }
    secure_free(master, LUKS_KEY_MAX);
    if (r < 0)
        return r;
    return *slots ? 0 : img_fail(err, -EACCES, "No keyslots match given (old) password for erase operation");
}

static int remove_slots(struct img *image, unsigned slots, struct img_error *err) {
    struct img_crypto *c = image->crypto;
    int r = 0;
    for (unsigned i = 0; r == 0 && i < LUKS_SLOTS; i++)
        if (slots & 1u << i)
            r = luks_remove(&c->place, &c->header, i, err);
    return r;
}

int img_key_remove(struct img *image, const struct img_key *key, int slot, bool force, struct img_error *err) {
    unsigned slots = slot >= 0 && slot < LUKS_SLOTS ? 1u << slot : 0;
    int r = check_slot(slot, err);
    if (r < 0)
        return r;
    SCOPED_MUTEX(&image->whole);
    r = begin_change(image, err);
    if (r < 0)
        return r;
    const struct luks_header *h = &image->crypto->header;
    if (slot >= 0 && !h->slots[slot].active)
        return force ? 0 : img_fail(err, -ENOENT, "Given keyslot %d is already erased (inactive) ", slot);
    if (key)
        r = matching_slots(image, key, slot, &slots, err);
    if (r < 0)
        return r;
    if (!force && slot < 0 && (unsigned)__builtin_popcount(slots) >= active_slots(h))
        return img_fail(err, -EPERM,
                        "All the active keyslots match the (old) password that was given and erasing them will erase "
                        "all the data in the image irreversibly - refusing operation");
    if (!force && (unsigned)__builtin_popcount(slots) >= active_slots(h))
        return img_fail(err, -EPERM,
                        "Attempt to erase the only active keyslot %d which will erase all the data in the "
                        "image irreversibly - refusing operation",
                        __builtin_ctz(slots));
    return remove_slots(image, slots, err);
}

int img_key_change(struct img *image, const struct img_key *from, const struct img_key *to, unsigned iter_time,
                   struct img_error *err) {
    unsigned slots = 0;
    SCOPED_MUTEX(&image->whole);
    int r = begin_change(image, err);
    if (r == 0)
        r = matching_slots(image, from, -1, &slots, err);
    if (r < 0)
        return r;
    r = add_key(image, to, -1, iter_time, err);
    if (r < 0)
        return r;
    int removed = remove_slots(image, slots, err);
    return removed < 0 ? removed : r;
}
