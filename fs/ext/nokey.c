/* SPDX-License-Identifier: GPL-3.0-or-later */
/* nokey.c - names and targets in encrypted directories, as the kernel shows them to somebody without the key.
 *
 * What lies on the disk may hold any byte. It is shown as base64 (in its alphabet for URLs, without padding) of two
 * hashes, by which the kernel finds the name again, and of the name, whose end is a digest if it is long.
 */
#include <errno.h>
#include <openssl/evp.h>
#include <string.h>

#include "ext.h"

enum { PLAIN = 149, DIGEST = 32, NAME_MIN = 16 };

static size_t encode(const unsigned char *bytes, size_t count, char *text) {
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    size_t length = 0;
    uint32_t pool = 0;
    unsigned bits = 0;
    for (size_t i = 0; i < count; i++) {
        pool = pool << 8 | bytes[i];
        for (bits += 8; bits >= 6; bits -= 6)
            text[length++] = letters[pool >> (bits - 6) & 63];
    }
    if (bits > 0)
        text[length++] = letters[pool << (6 - bits) & 63];
    text[length] = '\0';
    return length;
}

size_t nokey_name(const uint32_t hashes[2], const char *name, size_t length, char text[NOKEY_MAX]) {
    unsigned char bytes[8 + PLAIN + DIGEST];
    uint32_t disk[2] = {htole32(hashes[0]), htole32(hashes[1])};
    size_t plain = length < PLAIN ? length : PLAIN, count = sizeof(disk) + plain;
    if (length < NAME_MIN)
        return 0;
    memcpy(bytes, disk, sizeof(disk));
    memcpy(bytes + sizeof(disk), name, plain);
    if (length > PLAIN) {
        if (!EVP_Digest(name + PLAIN, length - PLAIN, bytes + count, NULL, EVP_sha256(), NULL))
            return 0;
        count += DIGEST;
    }
    return encode(bytes, count, text);
}

size_t nokey_entry(struct ext *ext, struct node *dir, const char *name, size_t length, char text[NOKEY_MAX]) {
    struct ext2_super_block *super = super_of(ext);
    uint32_t hashes[2] = {0, 0};
    int version = super->s_def_hash_version;
    bool indexed = node_has(dir, EXT2_INDEX_FL) || dir->size == ext->block_size || node_has(dir, EXT4_INLINE_DATA_FL);
    if (version <= EXT2_HASH_TEA && super->s_flags & EXT2_FLAGS_UNSIGNED_HASH)
        version += EXT2_HASH_LEGACY_UNSIGNED;
    /* The kernel hashes only where it reads through an index, which it also does where one block needs none. */
    if (ext2fs_has_feature_dir_index(super) && indexed &&
        ext2fs_dirhash2(version, name, (int)length, NULL, 0, super->s_hash_seed, &hashes[0], &hashes[1]))
        return 0;
    return nokey_name(hashes, name, length, text);
}

size_t nokey_target(const unsigned char *bytes, size_t size, char text[NOKEY_MAX]) {
    static const uint32_t none[2];
    size_t length = size < 2 ? 0 : bytes[0] | (size_t)bytes[1] << 8;
    return length == 0 || length > size - 2 ? 0 : nokey_name(none, (const char *)bytes + 2, length, text);
}
