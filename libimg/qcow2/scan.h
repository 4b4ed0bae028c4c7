/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* scan.h - what the parts of the check share: one scan of all tables of an image.
 *
 *   scan.c     a whole scan: which regions there are, in which order they are counted; overlaps
 *   scanio.c   reading: a window over the file, holes, sweeps over overlapping ranges, findings
 *   names.c    the snapshot table and the bitmap directory
 *   walk.c     L1 tables, then each distinct L2 table once
 *   compare.c  refcount table and blocks against the counters
 *   blame.c    which guest ranges are hit, which COPIED flags are wrong
 *   settle.c   repair of entries and flags; recount.c repair of counts; check.c the whole
 *
 * The cost follows the data in the file, never what the tables claim. Ranges that many headers may name (L1 tables of
 * snapshots, bitmap tables) are merged by a sweep and read once with the number of their owners as a weight; an L2
 * table is read once however many L1 entries name it; holes are not read at all.
 *
 * Data is counted before metadata. So when a metadata cluster is about to be counted, a count that is already there
 * says that two different things lie on it: an overlap, found at no cost even where the counts agree.
 */
#ifndef LIBIMG_QCOW2_SCAN_H
#define LIBIMG_QCOW2_SCAN_H

#include <errno.h>
#include <stdlib.h>

#include "../error.h"
#include "count.h"
#include "header.h"
#include "snapshot.h"

enum {
    SCAN_WINDOW = 1 << 20,          /* bytes read at once */
    SCAN_RANGE_CLUSTERS = 16 << 20, /* L1 and bitmap tables may claim so much more than the file holds */
};

/* ---- vectors ----------------------------------------------------------------------------------- */

#define SCAN_VECTOR(type)                                                                                              \
    struct {                                                                                                           \
        type *list;                                                                                                    \
        size_t n, room;                                                                                                \
    }
/* Appends; -ENOMEM. */
#define scan_push(vector, item)                                                                                        \
    ({                                                                                                                 \
        __typeof__(vector) v_ = (vector);                                                                              \
        int code_ = 0;                                                                                                 \
        if (v_->n == v_->room) {                                                                                       \
            size_t room_ = v_->room ? v_->room * 2 : 16;                                                               \
            void *list_ = reallocarray(v_->list, room_, sizeof *v_->list);                                             \
            code_ = list_ ? 0 : -ENOMEM;                                                                               \
            v_->list = list_ ? list_ : v_->list;                                                                       \
            v_->room = list_ ? room_ : v_->room;                                                                       \
        }                                                                                                              \
        if (!code_)                                                                                                    \
            v_->list[v_->n++] = (item);                                                                                \
        code_;                                                                                                         \
    })

/* ---- what is named ------------------------------------------------------------------------------- */

/* Kinds of metadata in the order in which they are counted. */
enum scan_kind {
    KIND_L2,
    KIND_SNAPSHOT_L1,
    KIND_BITMAP_TABLE,
    KIND_BITMAP_DIRECTORY,
    KIND_CRYPTO,
    KIND_SNAPSHOT_TABLE,
    KIND_L1,
    KIND_HEADER,
    KIND_REFCOUNT_TABLE,
    KIND_REFCOUNT_BLOCK,
};

/* One distinct L2 table. */
struct scan_table {
    uint64_t offset;           /* 0: none */
    uint64_t refs;             /* L1 entries that name it, over all L1 tables */
    uint32_t active, first_l1; /* how many of the active L1 (saturating), and the lowest of them */
    uint32_t entries, faulty;  /* entries in use; those of them that cannot be right */
    uint32_t flags;
};
enum {
    TABLE_COPIED = 1 << 0, /* an active L1 entry with the flag names it */
    TABLE_PLAIN = 1 << 1,  /* one without it */
    TABLE_LOST = 1 << 2,   /* is no L2 table: the entries that name it must go */
};

struct scan_snapshot {
    uint64_t entry; /* host offset of its entry in the snapshot table */
    uint64_t l1_offset;
    uint32_t l1_size, extra_size, entry_size; /* entries; bytes; bytes with padding */
    uint16_t id_size, name_size;
    bool bad;  /* its L1 cannot be: not counted, dropped by a repair */
    bool drop; /* its L1 lies on something else */
};

struct scan_range {
    uint64_t start, end; /* host bytes */
    uint64_t weight;     /* owners */
    uint64_t active;     /* 1: the active L1 is one of them */
};
typedef SCAN_VECTOR(struct scan_range) scan_ranges;

struct scan_overlap {
    uint64_t cluster;
    enum scan_kind kind;
    bool on_metadata; /* else on data */
};

/* ---- a scan ---------------------------------------------------------------------------------------- */

struct scan {
    struct storage *file, *data_file;
    struct qcow2_header *header;
    const struct img_check_options *options;
    bool quiet; /* findings are counted, not reported (repairs are) */

    /* A repair counts as it will be, not as it is. */
    bool without_refcounts;        /* a new refcount structure replaces the old one */
    bool without_snapshots;        /* a new snapshot table replaces the old one; bad snapshots are gone */
    SCAN_VECTOR(uint64_t) dropped; /* entries of snapshots that a repair drops; kept over scans */

    unsigned cluster_bits, words, l2_bits; /* words of 8 bytes in an L2 entry; log2 of entries in a table */
    uint64_t cluster_size, file_size, clusters, data_size;
    bool v3, extended, external;
    uint64_t l2_slow; /* entries with any of these bits need a closer look */

    struct counts counts;
    scan_ranges l1s, bitmap_tables;
    struct scan_table *tables; /* a hash while L1 tables are read, then sorted by offset */
    size_t ntables, tables_mask;
    SCAN_VECTOR(struct scan_snapshot) snapshots;
    SCAN_VECTOR(struct scan_overlap) overlaps; /* sorted by cluster at the end of the scan */
    SCAN_VECTOR(uint64_t) bad_l1;              /* host offsets of wrong entries in snapshots' L1 tables; sorted */
    uint64_t *reftable;                        /* offsets of usable refcount blocks; 0: none */
    size_t nreftable;

    /* findings that steer a repair */
    bool entries_wrong;          /* step 1 has something to do */
    bool snapshots_wrong;        /* the snapshot table must be rewritten */
    bool bitmaps_wrong;          /* the bitmap directory must be disowned */
    bool refcounts_broken;       /* the refcount structure must be rebuilt */
    bool uncovered;              /* a referenced cluster has no refcount block */
    bool counts_wrong;           /* counts differ from references */
    bool flags_clear, flags_set; /* COPIED must be cleared, set, by the references */
    bool flags_differ;           /* COPIED contradicts the counts on disk */
    bool hidden;                 /* damaged tables may hide references */
    bool hopeless;               /* nothing can be repaired */
    bool l1_outside;             /* the active L1 cannot be read */
    uint64_t cut_end;            /* tables begin inside the file and end here, behind its end; 0: none */
    uint64_t named_end;          /* host offset behind everything that anything names */
    uint64_t max_count;          /* highest count of references */
    uint64_t done, total;        /* progress */

    struct img_check_result result;

    /* scanio.c */
    uint8_t *window;
    uint64_t window_start, window_length, window_ahead;
    uint64_t extent_start, extent_end;
    bool extent_zero;
    /* compare.c: pieces of refcount blocks for single lookups */
    struct rc_cache *rc_cache;
};

/* ---- scan.c ---- */

void scan_setup(struct scan *s, struct storage *file, struct storage *data_file, struct qcow2_header *header,
                const struct img_check_options *options);
/* Forgets an earlier scan and does it again, but for the comparison with the refcounts. */
int scan_run(struct scan *s);
void scan_free(struct scan *s);
/* Adds one kind of metadata: counts it and notes overlaps, which scan_report tells. */
int scan_meta(struct scan *s, enum scan_kind kind, uint64_t offset, uint64_t length, uint64_t weight, unsigned marks);
/* Counts data. */
int scan_data(struct scan *s, uint64_t first, uint64_t n, uint64_t weight, unsigned marks);
/* The first overlap of a cluster, or NULL. */
const struct scan_overlap *scan_overlap(const struct scan *s, uint64_t cluster);
const char *scan_kind_name(enum scan_kind kind);

/* ---- scanio.c ---- */

/* `length` (at most SCAN_WINDOW) bytes at `offset`; they stand until the next call. -errno; the finding is reported. */
int scan_read(struct scan *s, uint64_t offset, size_t length, const void **out);
/* The next piece of [*position, end) that is not a hole; its length is 0 when there is none. At most SCAN_WINDOW. */
void scan_next_data(struct scan *s, uint64_t *position, uint64_t end, size_t *length);
/* Cuts overlapping ranges into disjoint ones, sorted, with the sum of their weights. */
int scan_sweep(scan_ranges *ranges);
/* Counts the finding and reports it. `guest` UINT64_MAX: no guest range. */
void scan_found(struct scan *s, enum img_finding_kind kind, uint64_t guest, uint64_t length, const char *format, ...)
    __attribute__((format(printf, 5, 6)));
#define SCAN_NO_GUEST UINT64_MAX
#define SCAN_PAST_END                                                                                                  \
    "ERROR: counting reference for region exceeding the end of the file by one cluster or more: "                      \
    "offset 0x%llx size 0x%llx"
/* Reports without counting. */
void scan_tell(struct scan *s, enum img_finding_kind kind, uint64_t guest, uint64_t length, const char *format, ...)
    __attribute__((format(printf, 5, 6)));
void scan_progress(struct scan *s, uint64_t more);

/* ---- names.c ---- */

int scan_snapshots(struct scan *s);
int scan_bitmaps(struct scan *s);
/* Data clusters that the bitmap tables name. */
int scan_bitmap_data(struct scan *s);
/* What is wrong with a bitmap table entry; NULL: nothing. */
const char *scan_bitmap_fault(const struct scan *s, uint64_t entry);

/* ---- walk.c ---- */

enum {
    FAULT_RESERVED = 1 << 0,          /* L1, L2: the bits are cleared */
    FAULT_MISALIGNED = 1 << 1,        /* lost */
    FAULT_PAST_END = 1 << 2,          /* lost */
    FAULT_ZERO_FLAG = 1 << 3,         /* where it is reserved: cleared */
    FAULT_COPIED = 1 << 4,            /* compressed: cleared */
    FAULT_EXTERNAL = 1 << 5,          /* compressed with a data file: lost */
    FAULT_COMPRESSED_BITMAP = 1 << 6, /* the bitmap is cleared */
    FAULT_LONG = 1 << 7,              /* compressed, ends past the end: cut */
    FAULT_BOTH = 1 << 8,              /* subclusters allocated and zero: allocated */
    FAULT_NO_HOST = 1 << 9,           /* subclusters allocated without a cluster: lost */
    FAULT_DISPLACED = 1 << 10,        /* data file: not at the guest's offset; moved there */
    FAULT_OVERLAP = 1 << 11,          /* data on metadata: lost */
    FAULT_LOST = FAULT_MISALIGNED | FAULT_PAST_END | FAULT_EXTERNAL | FAULT_NO_HOST | FAULT_OVERLAP,
};

struct scan_entry {
    uint64_t word, bitmap; /* bitmap: extended L2 only */
};

/* Reads all L1 tables: fills s->tables. */
int scan_l1_tables(struct scan *s);
/* Counts what the L2 tables name, and the statistics. */
int scan_l2_tables(struct scan *s);
struct scan_table *scan_find_table(const struct scan *s, uint64_t offset);
/* `entry` is not 0. */
unsigned scan_l1_faults(const struct scan *s, uint64_t entry);
/* `guest`: the cluster's offset on the disk, SCAN_NO_GUEST when it is not known. */
unsigned scan_l2_faults(const struct scan *s, struct scan_entry e, uint64_t guest);
/* The guest range of an entry of an active table; SCAN_NO_GUEST behind the disk's end. */
uint64_t scan_guest(const struct scan *s, const struct scan_table *t, uint64_t index, uint64_t *length);
/* The host clusters that an entry names in the image file; n is 0 when there are none. */
void scan_host(const struct scan *s, struct scan_entry e, uint64_t *first, uint64_t *n);
static inline bool scan_is_standard(const struct scan *s, struct scan_entry e) {
    return !(e.word & QCOW2_COMPRESSED) && ((e.word & QCOW2_OFFSET_MASK) || (s->external && (e.word & QCOW2_COPIED)));
}

/* ---- compare.c ---- */

int scan_refcount_table(struct scan *s);
/* Marks the blocks as metadata; those that lie on other metadata are not used. */
int scan_refcount_blocks(struct scan *s);
/* Called for each cluster whose count on disk differs from its references, in rising order. */
typedef int (*scan_differs)(struct scan *s, void *opaque, uint64_t cluster, uint64_t on_disk, uint64_t references);
/* Walks counts on disk and references side by side; sets uncovered, counts_wrong, flags_*, image_end_offset. */
int scan_compare(struct scan *s, scan_differs differs, void *opaque);
/* The count on disk; 0 where no usable block covers the cluster. */
int scan_refcount(struct scan *s, uint64_t cluster, uint64_t *count);
uint64_t blockcount_get(const uint8_t *block, unsigned order, uint64_t index);
void blockcount_set(uint8_t *block, unsigned order, uint64_t index, uint64_t count);
static inline uint64_t blockcount_max(unsigned order) {
    return order == 6 ? UINT64_MAX : (1ull << (1u << order)) - 1;
}
static inline uint64_t scan_block_clusters(const struct scan *s) {
    return s->cluster_size * 8 >> s->header->refcount_order;
}
void scan_refcounts_forget(struct scan *s);

/* ---- blame.c ---- */

/* The comparison of a reporting scan: counts, flags and overlaps with the guest ranges that they hit. */
int scan_report(struct scan *s);

/* ---- settle.c, recount.c: steps of a repair (check.h). *wrote is set before the first write. ---- */

/* Step 1, once. *again: something changed, scan again. */
int repair_entries(struct scan *s, bool *again, bool *wrote, struct img_error *err);
/* Steps 2 and 4, with the barrier behind. */
int repair_flags(struct scan *s, bool set, bool *wrote, struct img_error *err);
enum recount_what {
    RECOUNT_ALL,
    RECOUNT_LOWER,
    RECOUNT_LOWER_UNSEEN, /* where no entry's COPIED flag becomes wrong */
};
/* Step 3 in place, with the barrier behind. */
int repair_counts(struct scan *s, enum recount_what what, bool *wrote, struct img_error *err);
/* Step 3 with a new structure. The scan was made without_refcounts. */
int repair_rebuild(struct scan *s, bool *wrote, struct img_error *err);
/* Header sector 0 with a barrier before and after. */
int repair_header(struct scan *s, bool *wrote, struct img_error *err);
int repair_barrier(struct scan *s, struct img_error *err);

#endif
