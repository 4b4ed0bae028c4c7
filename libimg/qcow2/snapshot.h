/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* snapshot.h - the snapshot table and the bitmap directory in memory. */
#ifndef LIBIMG_QCOW2_SNAPSHOT_H
#define LIBIMG_QCOW2_SNAPSHOT_H

#include "header.h"

/* What a state descends from. */
struct qcow2_parent {
    enum img_parent_kind kind;
    uint64_t date_ns;
    char id[QCOW2_MAX_PARENT_ID + 1];
};

/* IMG_PARENT_UNKNOWN when it is not a record of ours. */
void parent_decode(const void *bytes, size_t count, struct qcow2_parent *parent);
/* All zero for IMG_PARENT_UNKNOWN. */
void parent_encode(const struct qcow2_parent *parent, struct qcow2_disk_lineage *disk);

struct qcow2_snapshot {
    uint64_t l1_offset;
    uint32_t l1_size;    /* entries */
    uint32_t extra_size; /* bytes on disk */
    uint32_t at, length; /* bytes: where it lies in the table */
    char *id, *name;     /* owned */
    struct qcow2_parent parent;
    uint32_t parent_at; /* where the record lies in the entry; 0: there is none */
    uint64_t vm_state_size, disk_size, date_ns, vm_clock_ns, icount; /* disk_size UINT64_MAX: not recorded */
};

struct qcow2_snapshots {
    struct qcow2_snapshot *list; /* owned */
    size_t count;
    uint64_t bytes; /* size of the table on disk */
};

/* Reads and checks the table (limits of format.h; the table inside the file; L1 sizes and offsets in bounds and
 * aligned). */
int snapshots_read(struct storage *file, const struct qcow2_header *header, struct qcow2_snapshots *out,
                   struct img_error *err);
void snapshots_free(struct qcow2_snapshots *s);
/* A parent's snapshot, or NULL: it is not known, there is none, or it is gone. */
const struct qcow2_snapshot *snapshots_parent(const struct qcow2_snapshots *s, const struct qcow2_parent *parent);
/* As a parent; unknown where its id is too long for a record. */
void snapshot_as_parent(const struct qcow2_snapshot *s, struct qcow2_parent *parent);
/* By id first, then by name; NULL: none. */
const struct qcow2_snapshot *snapshots_find(const struct qcow2_snapshots *s, const char *id_or_name);

struct qcow2_bitmap {
    uint64_t table_offset;
    uint32_t table_size, flags; /* entries, QCOW2_BITMAP_* */
    uint8_t type, granularity_bits;
    char *name;                   /* owned */
    uint64_t flags_offset;        /* host offset of the flags field in the directory */
    uint32_t extra_size;          /* bytes of extra data in the directory, which nobody here understands */
    struct bitmap_record *record; /* what the guest changes is recorded here (record.c); NULL: nowhere */
};

struct qcow2_bitmaps {
    struct qcow2_bitmap *list; /* owned */
    size_t count;
};

/* Reads and checks the directory (empty when the header has none or autoclear bit 0 is clear). */
int bitmaps_read(struct storage *file, const struct qcow2_header *header, struct qcow2_bitmaps *out,
                 struct img_error *err);
void bitmaps_free(struct qcow2_bitmaps *b);
/* Before the first change of guest data that nobody records: sets in_use, in place, on every bitmap that is not
 * disabled, and flushes. */
int bitmaps_mark_in_use(struct storage *file, struct qcow2_bitmaps *b, struct img_error *err);

#endif
