/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* salvage.c - reading a unit's data, past what cannot be read if that is wanted.
 *
 * A unit is read as a whole. Only when that fails, and the copy is to save what can be saved, is it read again in
 * smaller and smaller pieces down to the sector, so that the many good sectors around a bad one cost few reads. A
 * sector that still fails is zero and has its bit set; the caller hears of it when the unit has its turn, so that the
 * order of what is told does not depend on the workers.
 */
#include "copy.h"

#include <string.h>

static void note_lost(struct unit *u, uint64_t at, uint64_t length, int code) {
    memset(u->data + at, 0, length);
    u->lost[at / SALVAGE_SECTOR / 8] |= (uint8_t)(1u << (at / SALVAGE_SECTOR % 8));
    u->any_lost = true;
    u->lost_code = code;
}

/* Reads [at, at + length) of the unit: as a whole, or its halves. The depth is that of a unit's size in sectors. */
static void read_pieces(const struct copy *c, struct unit *u, uint64_t at, uint64_t length) {
    int r = img_pread(c->source, u->data + at, length, u->offset + at, NULL);
    if (r == 0)
        return;
    if (length <= SALVAGE_SECTOR) {
        note_lost(u, at, length, r);
        return;
    }
    uint64_t half = (length / 2 + SALVAGE_SECTOR - 1) / SALVAGE_SECTOR * SALVAGE_SECTOR;
    read_pieces(c, u, at, half);
    read_pieces(c, u, at + half, length - half);
}

int copy_read(const struct copy *c, struct unit *u, struct img_error *err) {
    int r = img_pread(c->source, u->data, u->length, u->offset, c->options->salvage ? NULL : err);
    if (r == 0 || !c->options->salvage)
        return r;
    memset(u->lost, 0, LOST_BYTES(u->length));
    read_pieces(c, u, 0, u->length);
    return 0;
}

static bool is_lost(const struct unit *u, uint64_t sector) {
    return u->lost[sector / 8] >> (sector % 8) & 1;
}

void copy_tell_lost(const struct copy *c, const struct unit *u) {
    if (!u->any_lost || !c->options->lost)
        return;
    uint64_t sectors = (u->length + SALVAGE_SECTOR - 1) / SALVAGE_SECTOR, from = 0;
    for (uint64_t i = 0; i <= sectors; i++) {
        if (i < sectors && is_lost(u, i))
            continue;
        uint64_t start = from * SALVAGE_SECTOR, end = i * SALVAGE_SECTOR < u->length ? i * SALVAGE_SECTOR : u->length;
        if (i > from)
            c->options->lost(c->options->opaque, u->offset + start, end - start, u->lost_code);
        from = i + 1;
    }
}
