// SPDX-License-Identifier: GPL-3.0-or-later
/* mutate.c - changes of an image that blind mutation would find late: a header field, or an entry of the table that the
 * header points at, becomes a number at the edge of what the format allows, the offset of another table, or a
 * neighbour's value. */
#include "fuzz.h"

#include <string.h>

#include "qcow2/format.h"

struct field {
    uint8_t offset, bytes;
};

/* every field of the header, as specified */
static const struct field fields[] = {
    {4, 4},  {8, 8},  {16, 4}, {20, 4}, {24, 8}, {32, 4}, {36, 4}, {40, 8},  {48, 8},
    {56, 4}, {60, 4}, {64, 8}, {72, 8}, {80, 8}, {88, 8}, {96, 4}, {100, 4}, {104, 1},
};

static uint64_t next(uint64_t *state) {
    uint64_t v = *state += 0x9e3779b97f4a7c15ull;
    v = (v ^ (v >> 30)) * 0xbf58476d1ce4e5b9ull;
    v = (v ^ (v >> 27)) * 0x94d049bb133111ebull;
    return v ^ (v >> 31);
}

static uint64_t load(const uint8_t *p, unsigned bytes) {
    uint64_t v = 0;
    for (unsigned i = 0; i < bytes; i++)
        v = v << 8 | p[i];
    return v;
}

static void store(uint8_t *p, unsigned bytes, uint64_t v) {
    for (unsigned i = bytes; i-- > 0; v >>= 8)
        p[i] = (uint8_t)v;
}

static uint64_t interesting(uint64_t *state, uint64_t old, const uint8_t *image, size_t size) {
    static const unsigned places[] = {8, 40, 48, 64}; /* header fields that are offsets */
    switch (next(state) % 12) {
    case 0:
        return 0;
    case 1:
        return old + 1;
    case 2:
        return old - 1;
    case 3:
        return old ^ 1ull << next(state) % 64;
    case 4:
        return size;
    case 5:
        return (size - 1) & ~511ull;
    case 6:
        return 1ull << next(state) % 64;
    case 7:
        return (1ull << next(state) % 64) - 1;
    case 8:
        return load(image + places[next(state) % 4], 8) | (next(state) % 2 ? QCOW2_COPIED : 0);
    case 9:
        return next(state) % (size / 512 + 1) * 512 | (next(state) % 2 ? QCOW2_COPIED : 0);
    case 10: /* a compressed entry somewhere in the file */
        return QCOW2_COMPRESSED | next(state) % size | next(state) % 4 << 61;
    default:
        return next(state);
    }
}

/* Where the 8-byte entries of a random table begin; 0: none. */
static uint64_t pick_table(uint64_t *state, const uint8_t *image, size_t size, unsigned cluster_bits) {
    uint64_t l1 = load(image + 40, 8), reftable = load(image + 48, 8), snapshots = load(image + 64, 8);
    uint64_t cluster = 1ull << cluster_bits, table = 0;
    switch (next(state) % 5) {
    case 0:
        table = l1;
        break;
    case 1:
        table = reftable;
        break;
    case 2:
        table = snapshots;
        break;
    default: /* what the first entries of L1 or of the refcount table point at */
        table = next(state) % 3 ? l1 : reftable;
        if (table < size && size - table >= 64)
            table = load(image + table + next(state) % 8 * 8, 8) & QCOW2_OFFSET_MASK;
    }
    return table >= 104 && table < size && size - table >= 8 && table % cluster == 0 ? table : 0;
}

void mutate_image(uint8_t *image, size_t size, unsigned seed) {
    uint64_t state = seed;
    if (size < 112)
        return;
    unsigned cluster_bits = (unsigned)load(image + 20, 4) % 22;
    uint64_t table = next(&state) % 3 ? pick_table(&state, image, size, cluster_bits) : 0;
    if (table) {
        uint64_t most = size - table < 512 ? size - table : 512;
        uint8_t *entry = image + table + next(&state) % (most / 8) * 8;
        store(entry, 8, interesting(&state, load(entry, 8), image, size));
        return;
    }
    const struct field *f = &fields[next(&state) % (sizeof(fields) / sizeof(*fields))];
    store(image + f->offset, f->bytes, interesting(&state, load(image + f->offset, f->bytes), image, size));
}
