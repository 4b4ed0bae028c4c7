/* SPDX-License-Identifier: GPL-3.0-or-later */
/* short_size.c - see short_size.h. */
#include "short_size.h"

#include <inttypes.h>
#include <stdio.h>

const char *short_size(uint64_t bytes, char text[SHORT_SIZE_MAX]) {
    static const char letters[] = "KMGTPE";
    if (bytes < 1024) {
        snprintf(text, SHORT_SIZE_MAX, "%" PRIu64, bytes);
        return text;
    }
    unsigned power = 0;
    while (power + 1 < sizeof(letters) - 1 && bytes >> (10 * (power + 1)) >= 1024)
        power++;
    unsigned shift = 10 * (power + 1);
    uint64_t whole = bytes >> shift, rest = bytes & ((UINT64_C(1) << shift) - 1);
    uint64_t tenths = ((rest >> (shift - 10)) * 10 + 512) >> 10; /* of the rest */
    if (whole < 9 || (whole == 9 && tenths < 10)) {
        snprintf(text, SHORT_SIZE_MAX, "%" PRIu64 ".%" PRIu64 "%c", whole + tenths / 10, tenths % 10, letters[power]);
        return text;
    }
    whole += rest >> (shift - 1);
    if (whole == 1024 && power + 1 < sizeof(letters) - 1)
        snprintf(text, SHORT_SIZE_MAX, "1.0%c", letters[power + 1]);
    else
        snprintf(text, SHORT_SIZE_MAX, "%" PRIu64 "%c", whole, letters[power]);
    return text;
}
