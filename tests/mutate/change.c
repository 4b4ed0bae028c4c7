// SPDX-License-Identifier: GPL-3.0-or-later
/* change.c - changes in places that matter: bits, bytes, numbers at the edges of what they can be, pieces of other
 * places, digits of texts; seldom a disk that ends too early. Half of all mutations change one thing, so that what lies
 * behind it still holds. */
#include "mutate.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define PIECE_MOST 1024u

uint64_t random_next(struct random *random) {
    uint64_t z = random->state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

uint64_t random_below(struct random *random, uint64_t limit) {
    return random_next(random) % limit;
}

/* A byte of a place: most often one that is not zero, since that says something. */
static uint64_t choose_byte(const struct base *base, const struct place *place, struct random *random) {
    const uint8_t *bytes = base->disks[place->disk].base + place->at;
    uint64_t at = random_below(random, place->length);
    if (random_below(random, 8) > 0)
        for (uint32_t i = 0; i < place->length && bytes[at] == 0; i++)
            at = (at + 1) % place->length;
    return place->at + at;
}

static void put_number(struct disk *disk, uint64_t at, uint64_t value, unsigned width, bool big) {
    uint8_t bytes[8];
    for (unsigned i = 0; i < width; i++)
        bytes[big ? width - 1 - i : i] = (uint8_t)(value >> 8 * i);
    disk_put(disk, at, bytes, width);
}

static uint64_t get_number(const struct disk *disk, uint64_t at, unsigned width, bool big) {
    uint64_t value = 0;
    for (unsigned i = 0; i < width; i++)
        value = value << 8 | disk->bytes[at + (big ? i : width - 1 - i)];
    return value;
}

/* A number in its field, as fields lie: at multiples of their own width, most often. */
static void change_number(struct disk *disk, uint64_t at, struct random *random, bool show) {
    unsigned width = 1u << random_below(random, 4);
    bool big = random_below(random, 2);
    if (random_below(random, 8) > 0)
        at -= at % width;
    if (at + width > disk->size)
        return;
    uint64_t most = UINT64_MAX >> (64 - 8 * width), old = get_number(disk, at, width, big), value = 0;
    switch (random_below(random, 8)) {
    case 0:
        value = 0;
        break;
    case 1:
        value = most;
        break;
    case 2:
        value = most / 2 + random_below(random, 2);
        break;
    case 3:
        value = UINT64_C(1) << random_below(random, 8 * (uint64_t)width);
        break;
    case 4:
        value = disk->size >> 9 * random_below(random, 2);
        break;
    case 5:
        value = old * (2 + random_below(random, 300));
        break;
    case 6:
        value = random_next(random);
        break;
    default:
        value = old + random_below(random, 17) - 8;
    }
    if (show)
        printf("# %" PRIu64 ": %u bytes, %s endian, 0x%" PRIx64 " for 0x%" PRIx64 "\n", at, width,
               big ? "big" : "little", value & most, old);
    put_number(disk, at, value & most, width, big);
}

static void change_byte(struct disk *disk, uint64_t at, struct random *random, bool show) {
    uint8_t byte = disk->bytes[at];
    byte = random_below(random, 2) ? (uint8_t)(byte ^ 1u << random_below(random, 8)) : (uint8_t)random_next(random);
    if (show)
        printf("# %" PRIu64 ": byte 0x%02x for 0x%02x\n", at, byte, disk->bytes[at]);
    disk_put(disk, at, &byte, 1);
}

/* Other digits for a number in a text; else a byte. */
static void change_digits(struct disk *disk, uint64_t at, struct random *random, bool show) {
    if (!isdigit(disk->bytes[at])) {
        change_byte(disk, at, random, show);
        return;
    }
    uint64_t count = 1 + random_below(random, random_below(random, 4) ? 2 : 25);
    for (uint64_t i = 0; i < count && at + i < disk->size; i++) {
        uint8_t digit = (uint8_t)('0' + random_below(random, 10));
        if (i > 0 && !isdigit(disk->bytes[at + i]) && count < 4)
            break;
        disk_put(disk, at + i, &digit, 1);
    }
    if (show)
        printf("# %" PRIu64 ": up to %" PRIu64 " digits\n", at, count);
}

/* A piece of one place over another; now and then both change places. */
static void change_piece(struct base *base, const struct place *to, struct random *random, bool show) {
    const struct place *from = &base->places[random_below(random, base->nplaces)];
    uint8_t piece[PIECE_MOST], other[PIECE_MOST];
    uint32_t length = to->length < from->length ? to->length : from->length, at = 0, source = 0;
    length = length < PIECE_MOST ? length : PIECE_MOST;
    if (random_below(random, 3)) { /* not all of it */
        at = (uint32_t)random_below(random, to->length) / 8 * 8;
        source = (uint32_t)random_below(random, from->length) / 8 * 8;
        uint32_t room = to->length - at < from->length - source ? to->length - at : from->length - source;
        length = 1 + (uint32_t)random_below(random, room < 64 ? room : 64);
    }
    memcpy(piece, base->disks[from->disk].bytes + from->at + source, length);
    memcpy(other, base->disks[to->disk].bytes + to->at + at, length);
    disk_put(&base->disks[to->disk], to->at + at, piece, length);
    bool swap = random_below(random, 4) == 0;
    if (swap)
        disk_put(&base->disks[from->disk], from->at + source, other, length);
    if (show)
        printf("# %" PRIu64 ": %u bytes %s %" PRIu64 "\n", to->at + at, length, swap ? "exchanged with" : "from",
               from->at + source);
}

static void cut(struct disk *disk, struct random *random, bool show) {
    disk->device.size = random_below(random, disk->size / 512) * 512;
    if (show)
        printf("# the disk ends at %" PRIu64 "\n", disk->device.size);
}

void change_some(struct base *base, struct random *random, bool show) {
    uint64_t count = random_below(random, 2) ? 1 : 2 + random_below(random, 5);
    if (random_below(random, 100) == 0)
        cut(&base->disks[random_below(random, base->ndisks)], random, show);
    for (uint64_t i = 0; i < count; i++) {
        const struct place *place = &base->places[random_below(random, base->nplaces)];
        struct disk *disk = &base->disks[place->disk];
        uint64_t at = choose_byte(base, place, random);
        switch (random_below(random, 8)) {
        case 0:
            change_piece(base, place, random, show);
            break;
        case 1:
        case 2:
            change_byte(disk, at, random, show);
            break;
        case 3:
            change_digits(disk, at, random, show);
            break;
        default:
            change_number(disk, at, random, show);
        }
    }
}
