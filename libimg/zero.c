/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* zero.c - is this buffer all zeroes?
 *
 * Asked for every byte that is copied into a sparse image, so it must cost no more than the memory does. Data mostly
 * shows itself at once: a look at a few words spread over the buffer ends most of those calls. Then whole lines are
 * OR-ed in vectors that the compiler maps onto what the processor has, with one branch for each 256 bytes.
 */
#include <string.h>

#include "img.h"

typedef uint64_t vector __attribute__((vector_size(16), aligned(1), may_alias));

#define STRIDE 256
#define VECTORS (STRIDE / sizeof(vector))

static inline uint64_t load64(const uint8_t *p) {
    uint64_t word;
    memcpy(&word, p, sizeof word);
    return word;
}

static bool stride_is_zero(const uint8_t *p) {
    const vector *v = (const vector *)p;
    vector a = v[0], b = v[1], c = v[2], d = v[3];
    for (size_t i = 4; i < VECTORS; i += 4) {
        a |= v[i];
        b |= v[i + 1];
        c |= v[i + 2];
        d |= v[i + 3];
    }
    a |= b | c | d;
    return (a[0] | a[1]) == 0;
}

static bool short_is_zero(const uint8_t *p, size_t count) {
    uint64_t any = 0;
    size_t i = 0;
    for (; i + 8 <= count; i += 8)
        any |= load64(p + i);
    for (; i < count; i++)
        any |= p[i];
    return any == 0;
}

bool img_is_zero(const void *buffer, size_t count) {
    const uint8_t *p = buffer;
    if (count < STRIDE)
        return short_is_zero(p, count);
    if ((load64(p) | load64(p + count / 2) | load64(p + count - 8)) != 0)
        return false;
    const uint8_t *last = p + count - STRIDE;
    for (; p < last; p += STRIDE)
        if (!stride_is_zero(p))
            return false;
    return stride_is_zero(last); /* overlaps what was seen when the size is no multiple */
}
