/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* bitmap.h - the bits of persistent bitmaps: how they are read, recorded and stored anew.
 *
 *   bitmap.c       the directory, read once (snapshot.h)
 *   bitmap_data.c  tables and data: runs of dirty bits, and a new table made out of an old one
 *   bitmap_store.c a change as a whole: new tables, new directory, one header sector that selects them
 *   bitmap_edit.c  what users do with bitmaps
 *   record.c       what the guest changes while the image is open
 *
 * A bitmap has one bit for each granule of the disk. Its table names clusters of bits; an entry of 0 stands for clean
 * bits, one of 1 for dirty ones. Memory is a window of the table and a cluster of bits at a time.
 */
#ifndef LIBIMG_QCOW2_BITMAP_H
#define LIBIMG_QCOW2_BITMAP_H

#include "qcow2.h"

#define BITMAP_MIN_GRANULARITY_BITS 9
#define BITMAP_MAX_GRANULARITY_BITS 31
#define BITMAP_MAX_NAME 1023
#define BITMAP_MAX_DATA_BYTES (512ull << 20) /* of clusters that one table may name */
#define BITMAP_TABLE_WINDOW 8192u            /* entries */
#define BITMAP_ENTRY_ONES 1ull

static inline uint64_t bitmap_bits(const struct qcow2_bitmap *b, uint64_t size) {
    uint64_t mask = (1ull << b->granularity_bits) - 1;
    return (size >> b->granularity_bits) + ((size & mask) != 0);
}
static inline uint64_t bitmap_bits_per_entry(const struct qcow2 *q) {
    return q->cluster_size * 8;
}
/* Table entries for so many bits. */
static inline uint64_t bitmap_entries(const struct qcow2 *q, uint64_t bits) {
    return (bits + bitmap_bits_per_entry(q) - 1) / bitmap_bits_per_entry(q);
}
static inline uint64_t bitmap_table_clusters(const struct qcow2 *q, uint64_t entries) {
    return (entries * 8 + q->cluster_size - 1) >> q->cluster_bits;
}

/* Can the bits be believed, and are they all there? -ESTALE: in use, so they are not complete. */
int bitmap_usable(const struct qcow2 *q, const struct qcow2_bitmap *b, struct img_error *err);
/* May a bitmap of this granularity and name be stored for a disk of `size` bytes? The limits are QEMU's. */
int bitmap_storable(const struct qcow2 *q, const char *name, unsigned granularity_bits, uint64_t size,
                    struct img_error *err);

/* ---- bitmap_data.c ---- */

struct bitmap_reader {
    struct qcow2 *q;
    const struct qcow2_bitmap *bitmap;
    uint64_t bits;
    uint64_t *window; /* entries of the table from `window_first` on */
    uint64_t window_first, window_count;
    uint8_t *data;   /* one cluster of bits */
    uint64_t loaded; /* the entry that `data` belongs to; UINT64_MAX: none */
};

/* The bitmap has `bits` bits, and its table an entry for each cluster of them. Close it whatever is returned. */
int bitmap_reader_open(struct bitmap_reader *r, struct qcow2 *q, const struct qcow2_bitmap *bitmap, uint64_t bits);
void bitmap_reader_close(struct bitmap_reader *r);
/* The first run of dirty bits at or behind `from`, as far as one table entry has it. 1: there is one; 0: none. */
int bitmap_reader_next(struct bitmap_reader *r, uint64_t from, uint64_t *first, uint64_t *count, struct img_error *err);

/* Does every entry of the table say what it may? */
bool bitmap_table_is_sound(struct qcow2 *q, const struct qcow2_bitmap *b);

/* Bits that a new table takes up beside the old ones. */
struct bitmap_addition {
    /* Is one of [first, first + count) dirty? 1, 0 or -errno. Asked from front to back. */
    int (*any)(void *opaque, uint64_t first, uint64_t count, struct img_error *err);
    /* Adds them to `data`, whose first bit is `first`. */
    int (*add)(void *opaque, uint64_t first, uint64_t count, uint8_t *data, struct img_error *err);
    void *opaque;
};

/* Sets [from, from + count) in `data`. */
void bits_set(uint8_t *data, uint64_t from, uint64_t count);

struct bitmap_change;
/* Writes a table for `to` aside, made of the bits of `from` (NULL: none is dirty), cut off or filled up with clean bits
 * to those of the disk's new size, and of the addition (NULL: none). Data clusters that stay as they are belong to both
 * tables. `to` may be `from`. */
int bitmap_write_table(struct bitmap_change *c, const struct qcow2_bitmap *from, struct qcow2_bitmap *to,
                       const struct bitmap_addition *addition, struct img_error *err);
/* Everything that the bitmap's table names, and the table, is let go. What cannot be is left, and leaks. */
int bitmap_let_go(struct bitmap_change *c, const struct qcow2_bitmap *b, struct img_error *err);

/* ---- bitmap_store.c ---- */

/* A change of bitmaps, by one light switch. Role is held and no write plan is open from its begin to its end. Between
 * the two tables are written aside and `next` is changed at will; names belong to whoever put them there. */
struct bitmap_change {
    struct qcow2 *q;
    struct qcow2_bitmaps next;
    size_t room;               /* entries of next.list */
    uint64_t size;             /* the disk's size afterwards */
    struct freed *taken, *old; /* clusters that are new, and that the switch makes free */
};

/* Room for one more bitmap than there are. */
int bitmap_change_begin(struct bitmap_change *c, struct qcow2 *q, struct img_error *err);
int bitmap_change_take(struct bitmap_change *c, uint64_t clusters, uint64_t *first, struct img_error *err);
/* What the image may have named by mistake, its other metadata, is left alone. 0 or -ENOMEM. */
int bitmap_change_let_go(struct bitmap_change *c, uint64_t cluster, uint64_t count);
/* Writes the directory and switches, or undoes what was written aside; the change ends in either case. */
int bitmap_change_end(struct bitmap_change *c, int result, struct img_error *err);

/* For a change of the disk's size: new tables where they must differ, and the header with all. Role held, gate closed,
 * nothing is recorded. */
int bitmaps_resize(struct qcow2 *q, uint64_t size, struct img_error *err);
/* Would that be possible? */
int bitmaps_resizable(const struct qcow2 *q, uint64_t size, struct img_error *err);

/* ---- bitmap_edit.c ---- */

struct img_bitmap_edit;
int qcow2_bitmap_edit(struct img *image, const struct img_bitmap_edit *edit, struct img_error *err);
int qcow2_bitmap_next(struct img *image, const char *name, uint64_t offset, uint64_t *start, uint64_t *length,
                      struct img_error *err);

/* ---- record.c ---- */

/* Marks the enabled bitmaps as in use on the disk, and begins to record. Role held. */
int record_begin(struct qcow2 *q, struct img_error *err);
/* Notes a change of guest bytes: a few atomic instructions. */
void record_change(struct recorder *recorder, uint64_t offset, uint64_t length);
/* What was recorded goes to the disk, and the bitmaps are valid there. No write plan is open, and the next change
 * begins anew. Role held. After an error they stay in use, and go on recording. */
int record_store(struct qcow2 *q, struct img_error *err);
void record_end(struct qcow2 *q);

#endif
