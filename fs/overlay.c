/* SPDX-License-Identifier: GPL-3.0-or-later */
/* overlay.c - see overlay.h.
 *
 * A table finds what became of a unit: open addressing, at most half full, spread by a factor that the maker of a disk
 * does not know. An entry leads to a place below or to a slot of the store, which is in pieces that never move.
 */
#include "overlay.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "error.h"

#define PIECE (1u << 20) /* bytes of the store that are allocated at once */
#define PIECES (OVERLAY_MOST / PIECE)

struct entry {
    uint64_t unit; /* its number, plus one; 0: the entry is free */
    uint64_t place;
    bool stored; /* `place` is a slot; else an offset below */
};

struct overlay {
    struct device device;
    struct device *below;
    unsigned unit;
    uint64_t factor;
    struct entry *entries;
    size_t room, count; /* room: a power of two */
    uint64_t slots;     /* in use */
    unsigned char *pieces[PIECES];
};

/* ---- the table ---- */

static struct entry *find(const struct overlay *overlay, uint64_t unit) {
    uint64_t hash = unit * overlay->factor;
    hash = (hash ^ hash >> 32) * overlay->factor;
    size_t at = (hash >> 32) & (overlay->room - 1);
    while (overlay->entries[at].unit && overlay->entries[at].unit != unit + 1)
        at = (at + 1) & (overlay->room - 1);
    return &overlay->entries[at];
}

static const struct entry *lookup(const struct overlay *overlay, uint64_t unit) {
    const struct entry *entry = overlay->count ? find(overlay, unit) : NULL;
    return entry && entry->unit ? entry : NULL;
}

static int grow(struct overlay *overlay, struct img_error *err) {
    struct entry *old = overlay->entries;
    size_t room = overlay->room;
    struct entry *entries = calloc(room ? 2 * room : 64, sizeof(*entries));
    if (!entries)
        return fail_no_memory(err);
    overlay->entries = entries;
    overlay->room = room ? 2 * room : 64;
    for (size_t i = 0; i < room; i++)
        if (old[i].unit)
            *find(overlay, old[i].unit - 1) = old[i];
    free(old);
    return 0;
}

/* The unit's entry, new if it had none. */
static int claim(struct overlay *overlay, uint64_t unit, struct entry **entry, struct img_error *err) {
    int ret = 2 * (overlay->count + 1) > overlay->room ? grow(overlay, err) : 0;
    if (ret < 0)
        return ret;
    *entry = find(overlay, unit);
    if (!(*entry)->unit) {
        **entry = (struct entry){.unit = unit + 1, .place = unit * overlay->unit};
        overlay->count++;
    }
    return 0;
}

/* ---- the store ---- */

static unsigned char *slot(const struct overlay *overlay, uint64_t number) {
    uint64_t at = number * overlay->unit;
    return overlay->pieces[at / PIECE] + at % PIECE;
}

static int new_slot(struct overlay *overlay, uint64_t *number, struct img_error *err) {
    uint64_t at = overlay->slots * overlay->unit;
    if (at >= OVERLAY_MOST)
        return fail(err, -EFBIG, "What the journal holds changes more than %llu bytes", OVERLAY_MOST);
    if (!overlay->pieces[at / PIECE] && !(overlay->pieces[at / PIECE] = malloc(PIECE)))
        return fail_no_memory(err);
    *number = overlay->slots++;
    return 0;
}

/* ---- reading and writing ---- */

/* What a unit holds now. */
static int read_unit(struct overlay *overlay, const struct entry *entry, unsigned char *bytes, struct img_error *err) {
    if (!entry->stored)
        return device_read(overlay->below, bytes, overlay->unit, entry->place, err);
    memcpy(bytes, slot(overlay, entry->place), overlay->unit);
    return 0;
}

static int read_part(struct overlay *overlay, const struct entry *entry, unsigned char *buffer, size_t count,
                     size_t inside, struct img_error *err) {
    if (!entry->stored)
        return device_read(overlay->below, buffer, count, entry->place + inside, err);
    memcpy(buffer, slot(overlay, entry->place) + inside, count);
    return 0;
}

/* The units from `unit` on that nothing changed, at most as many as `count` bytes reach into. */
static size_t unchanged(const struct overlay *overlay, uint64_t offset, size_t count) {
    uint64_t unit = offset / overlay->unit + 1;
    size_t length = overlay->unit - offset % overlay->unit;
    while (length < count && !lookup(overlay, unit++))
        length += overlay->unit;
    return length < count ? length : count;
}

static int overlay_read(struct device *device, void *buffer, size_t count, uint64_t offset, struct img_error *err) {
    struct overlay *overlay = (struct overlay *)device;
    unsigned char *to = buffer;
    while (count > 0) {
        const struct entry *entry = lookup(overlay, offset / overlay->unit);
        size_t inside = offset % overlay->unit, piece = overlay->unit - inside < count ? overlay->unit - inside : count;
        if (!entry)
            piece = unchanged(overlay, offset, count);
        int ret = entry ? read_part(overlay, entry, to, piece, inside, err)
                        : device_read(overlay->below, to, piece, offset, err);
        if (ret < 0)
            return ret;
        to += piece;
        offset += piece;
        count -= piece;
    }
    return 0;
}

static int write_part(struct overlay *overlay, uint64_t unit, const unsigned char *from, size_t count, size_t inside,
                      struct img_error *err) {
    struct entry *entry;
    int ret = claim(overlay, unit, &entry, err);
    if (ret == 0 && !entry->stored) {
        uint64_t number = 0;
        ret = new_slot(overlay, &number, err);
        if (ret == 0 && count < overlay->unit)
            ret = read_unit(overlay, entry, slot(overlay, number), err);
        if (ret == 0)
            *entry = (struct entry){.unit = unit + 1, .place = number, .stored = true};
    }
    if (ret == 0)
        memcpy(slot(overlay, entry->place) + inside, from, count);
    return ret;
}

static int overlay_write(struct device *device, const void *buffer, size_t count, uint64_t offset,
                         struct img_error *err) {
    struct overlay *overlay = (struct overlay *)device;
    const unsigned char *from = buffer;
    while (count > 0) {
        size_t inside = offset % overlay->unit, piece = overlay->unit - inside < count ? overlay->unit - inside : count;
        int ret = write_part(overlay, offset / overlay->unit, from, piece, inside, err);
        if (ret < 0)
            return ret;
        from += piece;
        offset += piece;
        count -= piece;
    }
    return 0;
}

static int overlay_locate(struct device *device, uint64_t offset, uint64_t length, struct device **below, uint64_t *at,
                          uint64_t *run) {
    struct overlay *overlay = (struct overlay *)device;
    const struct entry *entry = lookup(overlay, offset / overlay->unit);
    uint64_t inside = offset % overlay->unit, left = overlay->unit - inside;
    if (entry && entry->stored)
        return -ENOTSUP;
    *below = overlay->below;
    *at = entry ? entry->place + inside : offset;
    *run = entry ? (left < length ? left : length) : unchanged(overlay, offset, length);
    return 0;
}

static void overlay_close(struct device *device) {
    struct overlay *overlay = (struct overlay *)device;
    for (size_t i = 0; i < PIECES; i++)
        free(overlay->pieces[i]);
    free(overlay->entries);
    free(overlay);
}

static const struct device_ops ops = {
    .read = overlay_read, .write = overlay_write, .locate = overlay_locate, .close = overlay_close};

int device_of_overlay(struct device *below, unsigned unit, struct device **overlay, struct img_error *err) {
    if (unit < 512 || unit > 65536 || unit & (unit - 1))
        return fail(err, -EINVAL, "An overlay cannot have units of %u bytes", unit);
    struct overlay *new = calloc(1, sizeof(*new));
    if (!new)
        return fail_no_memory(err);
    /* Whole units alone: what is left over at the end cannot change. */
    new->device = (struct device){
        .ops = &ops, .size = below->size / unit * unit, .sector_size = below->sector_size, .writable = true};
    new->below = below;
    new->unit = unit;
    if (getrandom(&new->factor, sizeof(new->factor), GRND_NONBLOCK) != (ssize_t)sizeof(new->factor))
        new->factor = (uintptr_t) new * 0x9e3779b97f4a7c15;
    new->factor |= 1;
    *overlay = &new->device;
    return 0;
}

int overlay_redirect(struct device *overlay, uint64_t offset, uint64_t from, struct img_error *err) {
    struct overlay *over = (struct overlay *)overlay;
    struct entry *entry;
    if (offset % over->unit || from % over->unit || offset >= overlay->size || from >= overlay->size)
        return fail(err, -EINVAL, "%" PRIu64 " cannot stand for %" PRIu64 " in a device of %" PRIu64 " bytes", from,
                    offset, overlay->size);
    int ret = claim(over, offset / over->unit, &entry, err);
    /* A slot that had been written stays behind unused; its bytes are bounded by the limit like all. */
    if (ret == 0)
        *entry = (struct entry){.unit = entry->unit, .place = from};
    return ret;
}

size_t overlay_count(const struct device *overlay) {
    return ((const struct overlay *)overlay)->count;
}

int overlay_settle(struct device *device, struct img_error *err) {
    struct overlay *overlay = (struct overlay *)device;
    unsigned char *bytes = malloc(overlay->unit);
    int ret = bytes ? 0 : fail_no_memory(err);
    for (size_t i = 0; i < overlay->room && ret == 0; i++) {
        const struct entry *entry = &overlay->entries[i];
        if (!entry->unit)
            continue;
        uint64_t at = (entry->unit - 1) * overlay->unit, there = device->size - at;
        ret = read_unit(overlay, entry, bytes, err);
        if (ret == 0)
            ret = device_write(overlay->below, bytes, there < overlay->unit ? there : overlay->unit, at, err);
    }
    free(bytes);
    return ret;
}
