/* SPDX-License-Identifier: GPL-3.0-or-later */
/* ondisk.c - see ondisk.h. */
#include "ondisk.h"

#include <stdbool.h>
#include <stdio.h>
#include <zlib.h>

uint32_t crc32_of(uint32_t crc, const void *bytes, size_t count) {
    return (uint32_t)crc32_z(crc, bytes, count);
}

/* The bytes of a character as UTF-8. */
static size_t encode(uint32_t c, char out[4]) {
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    size_t length = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (size_t i = length - 1; i > 0; i--, c >>= 6)
        out[i] = (char)(0x80 | (c & 0x3f));
    out[0] = (char)((0xf00 >> length) | c);
    return length;
}

static void utf8_of_utf16(const uint8_t *text, size_t units, bool big, char *out, size_t size) {
    size_t n = 0;
    for (size_t i = 0; i < units; i++) {
        const uint8_t *p = text + 2 * i;
        uint32_t c = big ? get_be16(p) : get_le16(p), low = 0;
        char bytes[4];
        if (c == 0)
            break;
        if (c >= 0xd800 && c < 0xe000) {
            if (c < 0xdc00 && i + 1 < units)
                low = big ? get_be16(p + 2) : get_le16(p + 2);
            bool pair = low >= 0xdc00 && low < 0xe000;
            c = pair ? 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00) : 0xfffd;
            i += pair;
        }
        size_t length = encode(c, bytes);
        if (length >= size - n)
            break;
        memcpy(out + n, bytes, length);
        n += length;
    }
    out[n] = '\0';
}

void utf8_of_utf16le(const uint8_t *text, size_t units, char *out, size_t size) {
    utf8_of_utf16(text, units, false, out, size);
}

void utf8_of_utf16be(const uint8_t *text, size_t units, char *out, size_t size) {
    utf8_of_utf16(text, units, true, out, size);
}

void uuid_text(const uint8_t b[16], char out[37]) {
    snprintf(out, 37, "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", b[0], b[1], b[2], b[3],
             b[4], b[5], b[6], b[7], b[8], b[9], b[10], b[11], b[12], b[13], b[14], b[15]);
}
