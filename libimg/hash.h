/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* hash.h - hashing of numbers that an image chooses: by a random odd factor, so that its maker cannot choose what
 * collides.
 */
#ifndef LIBIMG_HASH_H
#define LIBIMG_HASH_H

#include <stdint.h>
#include <sys/random.h>

/* `fallback` is mixed in where the kernel has no random numbers yet. */
static inline uint64_t hash_factor(const void *fallback) {
    uint64_t factor = 0;
    if (getrandom(&factor, sizeof factor, GRND_NONBLOCK) != (ssize_t)sizeof factor)
        factor = (uintptr_t)fallback * 0x9e3779b97f4a7c15ull;
    return factor | 1;
}

static inline uint64_t hash_number(uint64_t factor, uint64_t number) {
    number *= factor;
    number ^= number >> 32;
    return number * factor >> 32;
}

#endif
