/* SPDX-License-Identifier: GPL-3.0-or-later */
/* checksum.c - see checksum.h. OpenSSL has all of them but POSIX's own. */
#include "checksum.h"

#include <errno.h>
#include <inttypes.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PIECE (1 << 20)

bool checksum_is_known(const char *name) {
    static const char *const names[] = {"crc", "md5", "sha1", "sha224", "sha256", "sha384", "sha512"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (strcmp(names[i], name) == 0)
            return true;
    return false;
}

/* ---- POSIX cksum: a CRC from the top bit down, of the bytes and then of their number ---- */

static uint32_t crc_byte(uint32_t crc, unsigned char byte) {
    static uint32_t table[256];
    if (!table[1])
        for (uint32_t i = 0; i < 256; i++) {
            uint32_t c = i << 24;
            for (int bit = 0; bit < 8; bit++)
                c = c << 1 ^ (c >> 31 ? 0x04c11db7 : 0);
            table[i] = c;
        }
    return crc << 8 ^ table[(crc >> 24 ^ byte) & 0xff];
}

static uint32_t crc_end(uint32_t crc, uint64_t length) {
    for (; length; length >>= 8)
        crc = crc_byte(crc, (unsigned char)length);
    return ~crc;
}

/* ---- */

struct sum {
    EVP_MD_CTX *digest; /* NULL: crc */
    uint32_t crc;
};

static void add(struct sum *sum, const unsigned char *bytes, size_t count) {
    if (sum->digest)
        EVP_DigestUpdate(sum->digest, bytes, count);
    else
        for (size_t i = 0; i < count; i++)
            sum->crc = crc_byte(sum->crc, bytes[i]);
}

static void finish(struct sum *sum, uint64_t length, char text[CHECKSUM_TEXT_MAX]) {
    unsigned char value[EVP_MAX_MD_SIZE];
    unsigned count = 0;
    if (!sum->digest) {
        snprintf(text, CHECKSUM_TEXT_MAX, "%" PRIu32, crc_end(sum->crc, length));
        return;
    }
    EVP_DigestFinal_ex(sum->digest, value, &count);
    for (unsigned i = 0; i < count; i++)
        snprintf(text + (size_t)2 * i, 3, "%02x", value[i]);
}

int checksum_file(const char *name, const struct guest_node *file, char text[CHECKSUM_TEXT_MAX],
                  struct img_error *err) {
    static unsigned char buffer[PIECE];
    struct sum sum = {0};
    uint64_t at = 0;
    size_t got;
    int ret;
    if (strcmp(name, "crc") != 0) {
        sum.digest = EVP_MD_CTX_new();
        if (!sum.digest || !EVP_DigestInit_ex(sum.digest, EVP_get_digestbyname(name), NULL)) {
            EVP_MD_CTX_free(sum.digest);
            snprintf(err->text, sizeof(err->text), "The checksum %s cannot be made", name);
            return err->code = -ENOTSUP;
        }
    }
    do {
        ret = file->fs->ops->read(file->fs, file->ino, buffer, sizeof(buffer), at, &got, err);
        if (ret < 0)
            break;
        add(&sum, buffer, got);
        at += got;
    } while (got == sizeof(buffer));
    if (ret == 0)
        finish(&sum, at, text);
    EVP_MD_CTX_free(sum.digest);
    return ret;
}
