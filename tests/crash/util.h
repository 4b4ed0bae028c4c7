/* SPDX-License-Identifier: GPL-3.0-or-later */
/* util.h - small things that every part of the crash test uses. A test that cannot go on dies loudly. */
#ifndef CRASH_UTIL_H
#define CRASH_UTIL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DIE(...)                                                                                                       \
    do {                                                                                                               \
        printf("# %s:%d: ", __FILE__, __LINE__);                                                                       \
        printf(__VA_ARGS__);                                                                                           \
        printf("\n");                                                                                                  \
        fflush(stdout);                                                                                                \
        _Exit(2);                                                                                                      \
    } while (0)

static inline void *xcalloc(size_t count, size_t size) {
    void *p = calloc(count ? count : 1, size ? size : 1);
    if (!p)
        DIE("out of memory");
    return p;
}

static inline void *xrealloc(void *old, size_t size) {
    void *p = realloc(old, size ? size : 1);
    if (!p)
        DIE("out of memory");
    return p;
}

/* A good mixing of 64 bits (the finalizer of splitmix64). */
static inline uint64_t mix64(uint64_t x) {
    x += 0x9e3779b97f4a7c15ull;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
    return x ^ (x >> 31);
}

/* The same seed gives the same numbers on every machine. */
struct rng {
    uint64_t state;
};

static inline uint64_t rng_next(struct rng *r) {
    return mix64(r->state++);
}
/* A number in [0, below). */
static inline uint64_t rng_below(struct rng *r, uint64_t below) {
    return below ? rng_next(r) % below : 0;
}

static inline bool all_zero(const void *buffer, size_t count) {
    const uint8_t *p = buffer;
    return count == 0 || (p[0] == 0 && memcmp(p, p + 1, count - 1) == 0);
}

static inline uint64_t min_u64(uint64_t a, uint64_t b) {
    return a < b ? a : b;
}
static inline uint64_t max_u64(uint64_t a, uint64_t b) {
    return a > b ? a : b;
}

#endif
