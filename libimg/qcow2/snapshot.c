/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* snapshot.c - reading the table of internal snapshots.
 *
 * The header gives the number of entries and where they begin, but not where they end: each entry says how long it is.
 * So the table is walked entry by entry, never past the end of the file and never further than the format's limit, and
 * the list grows with what has been read: a number in the header costs nothing by itself.
 *
 * Always holds after snapshots_read: every L1 table is aligned, inside the file, apart from the header's own tables,
 * and large enough for the recorded size of the disk; the table itself is apart from them too.
 *
 * Specification: "Snapshots", "Snapshot table entry".
 */
#include "snapshot.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "directory.h"
#include "error.h"

/* A version 3 entry has at least these of the extra data. Shorter ones exist; check reports them. */
struct entry {
    struct qcow2_disk_snapshot disk;
    struct qcow2_disk_snapshot_extra extra;
    struct qcow2_parent parent;
    uint32_t parent_at;
};

static int read_failed(int code, size_t index, const struct qcow2_header *h, struct img_error *err) {
    if (code == -ENODATA)
        return img_fail(err, -EUCLEAN,
                        "Snapshot table ends in entry %zu of %" PRIu32 " (snapshots_offset = %" PRIu64
                        "): the file or the largest table supported (%d bytes) is shorter",
                        index, h->nb_snapshots, h->snapshots_offset, QCOW2_MAX_SNAPSHOT_TABLE_BYTES);
    return img_fail_errno(err, code, "Could not read snapshot table entry %zu", index);
}

/* A record of ours behind what the format knows; where others put something in front of it, it is still found. */
static void find_parent(struct entry *e, const uint8_t *extra, uint32_t count) {
    for (uint32_t at = sizeof e->extra;
         count >= sizeof(struct qcow2_disk_lineage) && at <= count - sizeof(struct qcow2_disk_lineage); at += 8) {
        parent_decode(extra + at, count - at, &e->parent);
        if (e->parent.kind == IMG_PARENT_UNKNOWN)
            continue;
        e->parent_at = (uint32_t)sizeof e->disk + at;
        return;
    }
}

/* The fixed part and the extra data, of which not all is known. */
static int read_entry(struct directory *d, const struct qcow2_header *h, size_t index, struct entry *e,
                      struct img_error *err) {
    memset(e, 0, sizeof *e);
    int r = directory_take(d, &e->disk, sizeof e->disk);
    if (r < 0)
        return read_failed(r, index, h, err);
    uint32_t extra = get32(e->disk.extra_data_size);
    if (extra > QCOW2_MAX_SNAPSHOT_EXTRA)
        return img_fail(err, -EINVAL,
                        "Too much extra metadata in snapshot table entry %zu (extra_data_size = %" PRIu32
                        ", at most %d)",
                        index, extra, QCOW2_MAX_SNAPSHOT_EXTRA);
    uint8_t all[QCOW2_MAX_SNAPSHOT_EXTRA];
    r = directory_take(d, all, extra);
    if (r == 0) {
        memcpy(&e->extra, all, extra < sizeof e->extra ? extra : sizeof e->extra);
        find_parent(e, all, extra);
    }
    return r < 0 ? read_failed(r, index, h, err) : 0;
}

static void decode(const struct entry *e, struct qcow2_snapshot *s) {
    s->l1_offset = get64(e->disk.l1_table_offset);
    s->l1_size = get32(e->disk.l1_size);
    s->extra_size = get32(e->disk.extra_data_size);
    s->vm_state_size = get32(e->disk.vm_state_size);
    s->date_ns = (uint64_t)get32(e->disk.date_sec) * 1000000000 + get32(e->disk.date_nsec);
    s->vm_clock_ns = get64(e->disk.vm_clock_nsec);
    s->parent = e->parent;
    s->parent_at = e->parent_at;
    s->disk_size = s->icount = UINT64_MAX;
    if (s->extra_size >= offsetof(struct qcow2_disk_snapshot_extra, disk_size))
        s->vm_state_size = get64(e->extra.vm_state_size_large);
    if (s->extra_size >= offsetof(struct qcow2_disk_snapshot_extra, icount))
        s->disk_size = get64(e->extra.disk_size);
    if (s->extra_size >= sizeof e->extra)
        s->icount = get64(e->extra.icount);
}

/* What the entry says about the tree that it names. */
static int check_entry(const struct qcow2_header *h, const struct qcow2_snapshot *s, size_t index, uint64_t file_size,
                       struct img_error *err) {
    if ((uint64_t)s->l1_size * 8 > QCOW2_MAX_L1_BYTES)
        return img_fail(err, -EINVAL, "Snapshot L1 table too large (entry %zu, l1_size = %" PRIu32 ")", index,
                        s->l1_size);
    struct qcow2_table l1 = {"Snapshot L1 table", "l1_table_offset", s->l1_offset, (uint64_t)s->l1_size * 8};
    int r = header_check_table(h, &l1, file_size, err);
    if (r < 0)
        return img_prefix(err, r, "Snapshot table entry %zu: ", index);
    if (s->disk_size != UINT64_MAX &&
        header_l1_entries(s->disk_size, h->cluster_bits, header_extended_l2(h)) > s->l1_size)
        return img_fail(err, -EINVAL,
                        "Snapshot table entry %zu: L1 table is too small (l1_size = %" PRIu32 ", disk_size = %" PRIu64
                        ")",
                        index, s->l1_size, s->disk_size);
    return 0;
}

static int read_one(struct directory *d, const struct qcow2_header *h, size_t index, struct qcow2_snapshot *s,
                    struct img_error *err) {
    struct entry e;
    int r = read_entry(d, h, index, &e, err);
    if (r < 0)
        return r;
    decode(&e, s);
    r = check_entry(h, s, index, storage_size(d->file), err);
    if (r < 0)
        return r;
    r = directory_take_name(d, get16(e.disk.id_size), &s->id);
    if (r == 0)
        r = directory_take_name(d, get16(e.disk.name_size), &s->name);
    return r < 0 ? read_failed(r, index, h, err) : 0;
}

/* Makes room for one more, all zero. */
static int grow(struct qcow2_snapshots *s, size_t *room) {
    if (s->count == *room) {
        size_t wanted = *room > 0 ? *room * 2 : 8;
        struct qcow2_snapshot *list = realloc(s->list, wanted * sizeof *list);
        if (list == NULL)
            return -ENOMEM;
        s->list = list;
        *room = wanted;
    }
    memset(&s->list[s->count], 0, sizeof *s->list);
    return 0;
}

static int read_all(struct directory *d, const struct qcow2_header *h, struct qcow2_snapshots *out,
                    struct img_error *err) {
    size_t room = 0;
    uint64_t names = 0;
    while (out->count < h->nb_snapshots) {
        size_t index = out->count;
        int r = grow(out, &room);
        if (r < 0)
            return read_failed(r, index, h, err);
        out->count++; /* from here on snapshots_free frees what it owns */
        directory_align(d);
        out->list[index].at = (uint32_t)(d->position - d->start);
        r = read_one(d, h, index, &out->list[index], err);
        if (r < 0)
            return r;
        out->list[index].length = (uint32_t)(d->position - d->start) - out->list[index].at;
        names += strlen(out->list[index].id) + strlen(out->list[index].name);
        if (names > QCOW2_MAX_NAME_BYTES)
            return img_fail(err, -EINVAL,
                            "Snapshot table entry %zu: the ids and names up to here take %" PRIu64
                            " bytes, more than %d",
                            index, names, QCOW2_MAX_NAME_BYTES);
    }
    out->bytes = d->position - d->start;
    struct qcow2_table whole = {"Snapshot table", "snapshots_offset", h->snapshots_offset, out->bytes};
    return header_check_table(h, &whole, storage_size(d->file), err);
}

int snapshots_read(struct storage *file, const struct qcow2_header *h, struct qcow2_snapshots *out,
                   struct img_error *err) {
    *out = (struct qcow2_snapshots){0};
    if (h->nb_snapshots == 0)
        return 0;
    uint64_t file_size = storage_size(file), start = h->snapshots_offset;
    if (start > file_size)
        return img_fail(err, -EUCLEAN,
                        "Snapshot table lies outside the file (snapshots_offset = %" PRIu64 "; the file has %" PRIu64
                        " bytes)",
                        start, file_size);
    uint64_t bytes = file_size - start;
    if (bytes > QCOW2_MAX_SNAPSHOT_TABLE_BYTES)
        bytes = QCOW2_MAX_SNAPSHOT_TABLE_BYTES;
    struct directory d;
    int r = directory_open(&d, file, start, start + bytes);
    if (r < 0)
        return img_fail_errno(err, r, "Could not read the snapshot table");
    r = read_all(&d, h, out, err);
    directory_close(&d);
    if (r < 0)
        snapshots_free(out);
    return r;
}

void snapshots_free(struct qcow2_snapshots *s) {
    for (size_t i = 0; i < s->count; i++) {
        free(s->list[i].id);
        free(s->list[i].name);
    }
    free(s->list);
    *s = (struct qcow2_snapshots){0};
}

const struct qcow2_snapshot *snapshots_find(const struct qcow2_snapshots *s, const char *id_or_name) {
    for (size_t i = 0; i < s->count; i++)
        if (strcmp(s->list[i].id, id_or_name) == 0)
            return &s->list[i];
    for (size_t i = 0; i < s->count; i++)
        if (strcmp(s->list[i].name, id_or_name) == 0)
            return &s->list[i];
    return NULL;
}

/* ---- parents ---- */

void parent_decode(const void *bytes, size_t count, struct qcow2_parent *parent) {
    struct qcow2_disk_lineage disk;
    *parent = (struct qcow2_parent){.kind = IMG_PARENT_UNKNOWN};
    if (count < sizeof disk)
        return;
    memcpy(&disk, bytes, sizeof disk);
    uint16_t length = get16(disk.id_size);
    if (memcmp(disk.magic, QCOW2_LINEAGE_MAGIC, sizeof disk.magic) != 0 || length > sizeof disk.id)
        return;
    parent->kind = length ? IMG_PARENT_SNAPSHOT : IMG_PARENT_NONE;
    parent->date_ns = (uint64_t)get32(disk.date_sec) * 1000000000 + get32(disk.date_nsec);
    memcpy(parent->id, disk.id, length);
}

void parent_encode(const struct qcow2_parent *parent, struct qcow2_disk_lineage *disk) {
    *disk = (struct qcow2_disk_lineage){0};
    if (parent->kind == IMG_PARENT_UNKNOWN)
        return;
    memcpy(disk->magic, QCOW2_LINEAGE_MAGIC, sizeof disk->magic);
    if (parent->kind == IMG_PARENT_NONE)
        return;
    disk->date_sec = put32((uint32_t)(parent->date_ns / 1000000000));
    disk->date_nsec = put32((uint32_t)(parent->date_ns % 1000000000));
    disk->id_size = put16((uint16_t)strlen(parent->id));
    memcpy(disk->id, parent->id, strlen(parent->id));
}

void snapshot_as_parent(const struct qcow2_snapshot *s, struct qcow2_parent *parent) {
    size_t length = strlen(s->id);
    *parent = (struct qcow2_parent){.kind = IMG_PARENT_UNKNOWN, .date_ns = s->date_ns};
    if (length == 0 || length > QCOW2_MAX_PARENT_ID)
        return;
    parent->kind = IMG_PARENT_SNAPSHOT;
    memcpy(parent->id, s->id, length);
}

const struct qcow2_snapshot *snapshots_parent(const struct qcow2_snapshots *s, const struct qcow2_parent *parent) {
    if (parent->kind != IMG_PARENT_SNAPSHOT)
        return NULL;
    for (size_t i = 0; i < s->count; i++)
        if (s->list[i].date_ns == parent->date_ns && strcmp(s->list[i].id, parent->id) == 0)
            return &s->list[i];
    return NULL;
}
