/* SPDX-License-Identifier: GPL-3.0-or-later */
/* scheme.c - encrypted volumes in the set: where the user has a key that fits, what it opens is a volume too. Without
 * one the volume stays what it is, something of type crypto_LUKS. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "../../error.h"
#include "crypt.h"
#include "library.h"

#define KEYS_MOST 64 /* that are tried on one volume */

static int try_key(struct volumes *volumes, struct volume *volume, struct crypt_header *h,
                   const struct img_key *passphrase, char *key) {
    int ret = -EPERM;
    for (unsigned i = 0; i < h->nslots && ret != 0; i++) {
        if (!volumes_spend(volumes, h->slots[i].work)) {
            volumes_note(volumes, "Key slot %d of %s would take too long, or too much memory, to try",
                         h->slots[i].number, volume->name);
            continue;
        }
        ret = crypt_header_try(h, &h->slots[i], passphrase, key);
    }
    return ret;
}

/* Whether one of the user's keys fits. *asked: how many there are. */
static bool find_key(struct volumes *volumes, struct volume *volume, struct crypt_header *h, char *key, size_t *asked) {
    const struct volume_keys *keys = volumes_keys(volumes);
    struct img_key passphrase;
    for (*asked = 0; *asked < KEYS_MOST; ++*asked) {
        if (keys->find(keys->opaque, volume->name, h->uuid, *asked, &passphrase) < 0)
            return false;
        if (try_key(volumes, volume, h, &passphrase, key) == 0)
            return true;
    }
    return false;
}

static int add_opened(struct volumes *volumes, struct volume *volume, const struct crypt_header *h, const char *key,
                      struct img_error *err) {
    struct img_key volume_key = {key, h->key_bytes};
    struct img_error why = {0};
    struct device *device;
    struct volume *opened;
    char name[sizeof("/dev/mapper/luks-") + sizeof(h->uuid)];
    int ret = crypt_device_new(volume->device, &h->payload, &volume_key, &device, &why);
    if (ret == -ENOMEM)
        return fail_no_memory(err);
    if (ret < 0) {
        volume_trouble(volume, "%s", why.text);
        return 0;
    }
    snprintf(name, sizeof(name), "/dev/mapper/luks-%s", h->uuid);
    ret = volumes_add(volumes, VOLUME_CRYPT, name, device, volume, &opened, err);
    if (ret == 0)
        snprintf(opened->uuid, sizeof(opened->uuid), "%s", h->uuid);
    return ret;
}

static int open_volume(struct volumes *volumes, struct volume *volume, struct crypt_header *h, struct img_error *err) {
    char *key = lc.crypt_safe_alloc(CRYPT_KEY_MOST);
    size_t asked;
    int ret = 0;
    if (!key)
        return fail_no_memory(err);
    if (find_key(volumes, volume, h, key, &asked))
        ret = add_opened(volumes, volume, h, key, err);
    else if (asked > 0)
        volumes_note(volumes, "No key that was given opens %s", volume->name);
    lc.crypt_safe_free(key);
    return ret;
}

static int look(struct volumes *volumes, struct volume *volume, struct img_error *err) {
    const struct volume_keys *keys = volumes_keys(volumes);
    struct crypt_header header;
    struct img_error why = {0};
    struct img_key first;
    if (!keys || !volume_holds(volume, "crypto_LUKS") ||
        keys->find(keys->opaque, volume->name, volume->content.uuid, 0, &first) < 0)
        return 0;
    int ret = crypt_header_open(volume->device, &header, &why);
    if (ret == -ENOMEM)
        return fail_no_memory(err);
    if (ret < 0) {
        volume_trouble(volume, "%s", why.text);
        return 0;
    }
    ret = open_volume(volumes, volume, &header, err);
    crypt_header_close(&header);
    return ret;
}

const struct volume_scheme crypt_scheme = {.name = "LUKS", .prepare = crypt_prepare, .look = look};
