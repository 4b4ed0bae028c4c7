/* SPDX-License-Identifier: GPL-3.0-or-later */
/* encryption.c - what the -o list says about encryption, in img.h's terms (create_options.h).
 *
 * A qcow2 image's options begin with "encrypt.", those of a LUKS image are the same without it. Which go together, and
 * the words when they do not, are qemu-img's.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "create_options.h"
#include "report.h"
#include "secret.h"

static const char *const luks_names[] = {"cipher-alg",     "cipher-mode", "ivgen-alg",
                                         "ivgen-hash-alg", "hash-alg",    "iter-time"};
#define LUKS_NAMES (sizeof(luks_names) / sizeof(luks_names[0]))

static const char *get(const struct options *options, const char *prefix, const char *name) {
    char whole[64];
    snprintf(whole, sizeof(whole), "%s%s", prefix, name);
    return options_get(options, whole);
}

/* Only what LUKS has. */
static int apply_luks(const struct options *options, const char *prefix, struct img_encryption *e,
                      struct img_error *err) {
    static const char *const ciphers[] = {"aes", "camellia", "cast5", "serpent", "twofish"};
    static const char *const modes[] = {"ecb", "cbc", "xts", "ctr"}, *const ivgens[] = {"plain", "plain64", "essiv"};
    static const char *const hashes[] = {"md5", "sha1", "sha224", "sha256", "sha384", "sha512", "ripemd160"};
    const struct {
        const char *name, **value;
        const char *const *known;
        size_t count;
        bool prefix_only;
    } fields[] = {
        {"cipher-alg", &e->cipher, ciphers, 5, true}, {"cipher-mode", &e->mode, modes, 4, false},
        {"ivgen-alg", &e->ivgen, ivgens, 3, false},   {"ivgen-hash-alg", &e->ivgen_hash, hashes, 7, false},
        {"hash-alg", &e->hash, hashes, 7, false},
    };
    char whole[64];
    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
        const char *text = *fields[i].value = get(options, prefix, fields[i].name);
        bool known = !text;
        for (size_t j = 0; text && j < fields[i].count; j++) {
            size_t n = fields[i].prefix_only ? strcspn(text, "-") : strlen(text);
            known |= strlen(fields[i].known[j]) == n && memcmp(text, fields[i].known[j], n) == 0;
        }
        if (!known)
            return set_error(err, -EINVAL, "Parameter '%s' does not accept value '%s'", fields[i].name, text);
    }
    snprintf(whole, sizeof(whole), "%siter-time", prefix);
    uint64_t time = options_get_size(options, whole);
    if (time != UINT64_MAX && time > UINT_MAX)
        return set_error(err, -EINVAL, "Parameter 'iter-time' expects at most %u milliseconds", UINT_MAX);
    e->iter_time = time == UINT64_MAX ? 0 : time == 0 ? 1 : (unsigned)time;
    return 0;
}

static int refuse_luks(const struct options *options, const char *prefix, struct img_error *err) {
    for (size_t i = 0; i < LUKS_NAMES; i++)
        if (get(options, prefix, luks_names[i]))
            return set_error(err, -EINVAL, "Parameter '%s%s' is unexpected", prefix, luks_names[i]);
    return 0;
}

static int apply_key(const struct options *options, const char *prefix, const char *path, struct img_key *key,
                     struct img_error *err) {
    const char *id = get(options, prefix, "key-secret");
    if (id) {
        const struct img_key *found = secret_find(id);
        if (!found)
            return set_error(err, -ENOENT, "No secret with id '%s'", id);
        *key = *found;
        return 0;
    }
    int ret = secret_ask_new(path, key);
    if (ret == -EINVAL)
        return set_error(err, ret, "The two passphrases are not the same");
    return ret < 0 ? set_error(err, -EINVAL, "Parameter '%skey-secret' is required for cipher", prefix) : 0;
}

int create_options_encryption(const struct options *options, const char *path, struct img_create_options *create,
                              struct img_error *err) {
    struct img_encryption *e = &create->encryption;
    if (strcmp(create->format, "luks") == 0) {
        int ret = apply_luks(options, "", e, err);
        return ret < 0 ? ret : apply_key(options, "", path, &e->key, err);
    }
    if (strcmp(create->format, "qcow2") != 0)
        return 0;
    const char *format = options_get(options, "encrypt.format");
    bool old = options_get_size(options, "encryption") == 1;
    if (options_get(options, "encryption") && format)
        return set_error(err, -EINVAL, "Options encryption and encrypt.format are mutually exclusive");
    if (old)
        format = "aes";
    if (!format) {
        if (get(options, "encrypt.", "key-secret"))
            return set_error(err, -EINVAL, "Parameter 'encrypt.format' is missing");
        for (size_t i = 0; i < LUKS_NAMES; i++)
            if (get(options, "encrypt.", luks_names[i]))
                return set_error(err, -EINVAL, "Parameter 'encrypt.format' is missing");
        return 0;
    }
    if (strcmp(format, "aes") != 0 && strcmp(format, "luks") != 0)
        return set_error(err, -EINVAL, "Parameter 'format' does not accept value '%s'", format);
    e->format = format;
    int ret =
        strcmp(format, "aes") == 0 ? refuse_luks(options, "encrypt.", err) : apply_luks(options, "encrypt.", e, err);
    return ret < 0 ? ret : apply_key(options, "encrypt.", path, &e->key, err);
}
