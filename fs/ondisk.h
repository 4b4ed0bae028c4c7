/* SPDX-License-Identifier: GPL-3.0-or-later */
/* ondisk.h - numbers and text as disks have them: either byte order, at any address; UTF-16; the usual checksum. */
#ifndef FS_ONDISK_H
#define FS_ONDISK_H

#include <endian.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define FS_ONDISK_GET(name, type, convert)                                                                             \
    static inline type name(const void *p) {                                                                           \
        type v;                                                                                                        \
        memcpy(&v, p, sizeof(v));                                                                                      \
        return convert(v);                                                                                             \
    }
FS_ONDISK_GET(get_le16, uint16_t, le16toh)
FS_ONDISK_GET(get_le32, uint32_t, le32toh)
FS_ONDISK_GET(get_le64, uint64_t, le64toh)
FS_ONDISK_GET(get_be16, uint16_t, be16toh)
FS_ONDISK_GET(get_be32, uint32_t, be32toh)
FS_ONDISK_GET(get_be64, uint64_t, be64toh)
#undef FS_ONDISK_GET

/* CRC-32 as Ethernet and zlib have it, of `count` bytes behind those whose sum is `crc` (0: none). */
uint32_t crc32_of(uint32_t crc, const void *bytes, size_t count);

/* Up to `units` of UTF-16, to the first zero, as UTF-8 in at most `size` bytes with the zero at the end. Half a pair of
 * surrogates becomes U+FFFD. Both orders of bytes. */
void utf8_of_utf16le(const uint8_t *text, size_t units, char *out, size_t size);
void utf8_of_utf16be(const uint8_t *text, size_t units, char *out, size_t size);
/* "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee" of 16 bytes as they stand */
void uuid_text(const uint8_t bytes[16], char out[37]);

#endif
