/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* lineage.c - which snapshot the active state descends from.
 *
 * The header has a record of it in an extension of ours, which goes along with every switch, and an autoclear bit of
 * ours that stands as long as nobody else has written to the image: whoever does not know the bit clears it before the
 * first write. So a record with the bit is true, and one without is not looked at.
 *
 * Without it the tables may still tell. What the active state shares with a snapshot it has from there, or the snapshot
 * from it. Every snapshot taken since has the table too, unless it was replaced; so a table that is shared with exactly
 * one snapshot names the nearest. When tables name different ones something else went on: unknown.
 */
#include "qcow2.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { WINDOW = 4096, MOST_ENTRIES = 16 << 20 }; /* L1 entries: read at once, and looked at in all */

struct search {
    struct qcow2 *q;
    be64 *active, *other; /* WINDOW entries each */
    uint32_t *sharer;     /* of the active entries: 0 nobody, number of the snapshot + 1, or MANY */
    const struct qcow2_snapshot *found;
    bool torn; /* two were found */
};
#define MANY UINT32_MAX

static int read_entries(struct qcow2 *q, uint64_t offset, uint32_t size, uint64_t first, be64 *out) {
    uint64_t n = first < size ? size - first : 0;
    memset(out, 0, WINDOW * sizeof *out);
    n = n < WINDOW ? n : WINDOW;
    return n ? storage_read(q->file, out, n * 8, offset + first * 8) : 0;
}

static uint64_t table_of(be64 entry) {
    return get64(entry) & QCOW2_OFFSET_MASK;
}

static int search_window(struct search *s, uint64_t first) {
    const struct qcow2_snapshots *all = &s->q->snapshots;
    int r = read_entries(s->q, s->q->header.l1_offset, s->q->header.l1_size, first, s->active);
    memset(s->sharer, 0, WINDOW * sizeof *s->sharer);
    for (size_t k = 0; r == 0 && k < all->count; k++) {
        r = read_entries(s->q, all->list[k].l1_offset, all->list[k].l1_size, first, s->other);
        for (unsigned i = 0; r == 0 && i < WINDOW; i++)
            if (table_of(s->active[i]) && table_of(s->active[i]) == table_of(s->other[i]))
                s->sharer[i] = s->sharer[i] ? MANY : (uint32_t)k + 1;
    }
    for (unsigned i = 0; r == 0 && i < WINDOW; i++) {
        if (!s->sharer[i] || s->sharer[i] == MANY)
            continue;
        const struct qcow2_snapshot *one = &all->list[s->sharer[i] - 1];
        s->torn |= s->found && s->found != one;
        s->found = one;
    }
    return r;
}

static int search_tables(struct qcow2 *q, struct qcow2_parent *parent, struct img_error *err) {
    struct search s = {.q = q};
    uint64_t entries = q->header.l1_size;
    if ((entries / WINDOW + 1) * WINDOW * (q->snapshots.count + 1) > MOST_ENTRIES)
        return 0; /* too dear: unknown */
    s.active = malloc(WINDOW * sizeof *s.active);
    s.other = malloc(WINDOW * sizeof *s.other);
    s.sharer = malloc(WINDOW * sizeof *s.sharer);
    int r = s.active && s.other && s.sharer ? 0 : -ENOMEM;
    for (uint64_t first = 0; r == 0 && first < entries; first += WINDOW)
        r = search_window(&s, first);
    free(s.active);
    free(s.other);
    free(s.sharer);
    if (r < 0)
        return img_fail_errno(err, r, "could not look for what '%s' descends from", q->image->path);
    if (s.found && !s.torn)
        snapshot_as_parent(s.found, parent);
    return 0;
}

int lineage_active(struct qcow2 *q, struct qcow2_parent *parent, struct img_error *err) {
    const struct qcow2_header *h = &q->header;
    *parent = (struct qcow2_parent){.kind = IMG_PARENT_UNKNOWN};
    if (!q->snapshots.count) {
        parent->kind = IMG_PARENT_NONE;
        return 0;
    }
    if (h->autoclear & QCOW2_AUTOCLEAR_LINEAGE)
        parent_decode(h->lineage, h->lineage_length, parent);
    if (parent->kind == IMG_PARENT_NONE || snapshots_parent(&q->snapshots, parent))
        return 0;
    *parent = (struct qcow2_parent){.kind = IMG_PARENT_UNKNOWN};
    return search_tables(q, parent, err);
}

void lineage_set(struct qcow2 *q, const struct qcow2_parent *parent) {
    struct qcow2_header *h = &q->header;
    struct qcow2_disk_lineage disk;
    _Static_assert(sizeof disk <= sizeof h->lineage, "the record fits the header's field");
    h->lineage_length = 0;
    h->autoclear &= ~QCOW2_AUTOCLEAR_LINEAGE;
    if (!q->v3 || parent->kind == IMG_PARENT_UNKNOWN) /* version 2 cannot tell whether somebody else has written */
        return;
    parent_encode(parent, &disk);
    memcpy(h->lineage, &disk, sizeof disk);
    h->lineage_length = sizeof disk;
    h->autoclear |= QCOW2_AUTOCLEAR_LINEAGE;
}

int qcow2_parent(struct img *image, const char *name, struct img_parent *out, struct img_error *err) {
    struct qcow2 *q = qcow2_of(image);
    struct qcow2_parent parent;
    SCOPED_MUTEX(&q->role);
    if (name) {
        const struct qcow2_snapshot *s = snapshots_find(&q->snapshots, name);
        if (!s)
            return img_fail(err, -ENOENT, "'%s' has no snapshot '%s'", image->path, name);
        parent = s->parent;
    } else {
        int r = lineage_active(q, &parent, err);
        if (r < 0)
            return r;
    }
    const struct qcow2_snapshot *s = snapshots_parent(&q->snapshots, &parent);
    out->kind = s ? IMG_PARENT_SNAPSHOT : parent.kind == IMG_PARENT_NONE ? IMG_PARENT_NONE : IMG_PARENT_UNKNOWN;
    if (s) {
        out->id = s->id;
        out->name = s->name;
    }
    return 0;
}
