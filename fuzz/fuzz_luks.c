// SPDX-License-Identifier: GPL-3.0-or-later
/* fuzz_luks.c - bytes as a LUKS volume: described, tried with a passphrase within a small budget, and, where the header
 * is good, given a key slot as the header places it, opened, written, read and changed.
 *
 * Held: an error says what it is; what was written is read; a header that was written back is read again; a slot that
 * was added opens and one that was removed does not.
 */
#include "fuzz.h"

#include <stdlib.h>
#include <string.h>

#include "crypto/keyslot.h"
#include "crypto/library.h"
#include "image.h"

#define BUDGET 3000 /* iterations: what one try may take */
#define MATERIAL_MOST (256u << 10)

static const struct img_key passphrase = {"fuzz", 4}, another = {"fuzzy", 5};

static void check_error(int rc, const struct img_error *err, const char *what) {
    if (rc > 0 || (rc < 0 && (err->code != rc || !err->text[0])))
        fuzz_fail("%s gives %d and says %d '%s'", what, rc, err->code, err->text);
}

static struct img *open_volume(struct mem *mem, uint32_t flags, const struct img_key *key, uint64_t budget) {
    struct img_open_options options = {.flags = flags, .format = "luks", .key = *key, .key_iterations = budget};
    struct img_error err = {0};
    struct img *image = NULL;
    struct storage *file = mem_storage(mem, flags & IMG_OPEN_WRITE);
    if (!file)
        return NULL;
    int rc = image_open_storage(file, &options, &image, &err);
    check_error(rc, &err, "an open");
    return rc ? NULL : image;
}

/* False: it is no volume, or a part of one. */
static bool describe(struct mem *mem) {
    struct img *image = open_volume(mem, IMG_OPEN_INFO, &passphrase, 1);
    struct img_info info;
    if (!image)
        return false;
    if (img_info(image, &info, NULL) || !info.luks || info.luks->payload_offset > mem->size)
        fuzz_fail("a volume that opens is not described");
    img_close(image, NULL);
    return true;
}

/* A volume whose master key is known, with the geometry of the header that was given. */
static bool make_volume(struct mem *mem, struct luks_header *h, struct storage *file) {
    static const uint8_t master[LUKS_KEY_MAX] = "a key that everybody may know, as long as a key can become....";
    struct luks_place place = {.file = file, .length = mem->size};
    EVP_MD *hash;
    if (luks_material_bytes(h, &h->slots[0]) > MATERIAL_MOST || digest_fetch(h->hash, &hash, NULL) < 0)
        return false;
    h->digest_iterations = 1;
    for (unsigned i = 0; i < LUKS_SLOTS; i++)
        h->slots[i].active = false;
    int rc = pbkdf2(hash, master, h->key_bytes, h->digest_salt, LUKS_SALT, 1, h->digest, LUKS_DIGEST, NULL);
    EVP_MD_free(hash);
    struct img_error err = {0};
    if (rc == 0) {
        rc = luks_add(&place, h, 0, master, &passphrase, 1, &err);
        check_error(rc, &err, "luks_add");
    }
    return rc == 0;
}

static void use_volume(struct mem *mem) {
    struct img *image = open_volume(mem, IMG_OPEN_WRITE, &passphrase, 0);
    uint8_t out[1000], in[1000];
    if (!image)
        fuzz_fail("a slot that was added does not open");
    memset(out, 'w', sizeof(out));
    uint64_t size = img_size(image), offset = size > 2000 ? size - 1003 : 0;
    size_t count = size - offset < sizeof(out) ? size - offset : sizeof(out);
    if (img_pwrite(image, out, count, offset, NULL) == 0 &&
        (img_pread(image, in, count, offset, NULL) || memcmp(in, out, count)))
        fuzz_fail("what was written is not read");
    struct img_error err = {0};
    int slot = img_key_add(image, &another, -1, 1, &err);
    if (slot >= 0 && img_key_remove(image, &passphrase, -1, false, &err))
        fuzz_fail("a slot cannot be removed: %s", err.text);
    img_close(image, NULL);
    if (slot < 0)
        return;
    if (open_volume(mem, 0, &passphrase, 0))
        fuzz_fail("a slot that was removed opens");
    if (!(image = open_volume(mem, 0, &another, 0)))
        fuzz_fail("the other slot does not open");
    img_close(image, NULL);
}

static bool small(const struct luks_header *h) {
    for (unsigned i = 0; i < LUKS_SLOTS; i++)
        if (luks_material_bytes(h, &h->slots[i]) > MATERIAL_MOST)
            return false;
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct mem *mem = mem_load(data, size);
    if (!describe(mem))
        return 0;
    struct luks_header header;
    struct storage *file = mem_storage(mem, true);
    struct luks_place place = {.file = file, .length = mem->size};
    struct img_error err = {0};
    if (!file)
        return 0;
    int rc = luks_read(&place, &header, &err);
    check_error(rc, &err, "luks_read");
    if (rc == 0 && small(&header)) {
        struct img *image = open_volume(mem, 0, &passphrase, BUDGET);
        img_close(image, NULL);
        /* adding takes milliseconds: for some inputs only */
        if (data[LUKS_HEADER_BYTES - 1] % 4 == 0 && make_volume(mem, &header, file))
            use_volume(mem);
    }
    storage_close(file);
    return 0;
}
