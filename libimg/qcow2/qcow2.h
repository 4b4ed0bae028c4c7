/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* qcow2.h - an open qcow2 image: what its files share. Each part is described where its functions are.
 *
 *   l2.c        the slices of L2 tables in memory: hit path, loading, eviction, the dirty list
 *   entry.c     what an L2 entry says, and whether it may say so
 *   resolve.c   plans for reads, overwrites, discards and zeroes
 *   write.c     reservations: plans that allocate, commit and abort
 *   table.c     L1: the birth and the copying of L2 tables
 *   refcount.c  counts in memory; refgrow.c the birth of refcount blocks and growth of the refcount table
 *   alloc.c     runs of free clusters for each context, the free list, the length of the file
 *   flush.c     rounds, limbo
 *   switch.c    changes of header sector 0
 *   fullswitch.c changes of counts and flags of existing clusters; deltas.c, tree.c what it counts with
 *   states.c     internal snapshots: create, apply, delete; diff.c where two states differ;
 *                lineage.c which one descends from which
 *   bitmap.h    persistent bitmaps: what is recorded, and how they change
 *   chain.c     the backing file, an overlay emptied; amend.c, expand.c features turned on and off
 *   resize.c, open.c, info.c, map.c, vmstate.c, check.c ...
 *
 * Locks, in order (take downward only). 1 to 4 may be held across I/O, the others are for a few dozen instructions:
 *   1 role           rounds, growth, switches, limbo. Never asked for with a write plan open. Recursive
 *   2 a write plan   (epoch.h; what the gate waits for)
 *   3 birth[]        one L1 index while its table is born or copied
 *   4 alloc.refill   the search for a run of free clusters; then refcounts.io
 *   5 slice lock     entries, reservations, freed list, dirty state of one slice
 *   6 l1_lock, cache.lock, refcounts.lock, alloc.lock, meta_lock
 */
#ifndef LIBIMG_QCOW2_H
#define LIBIMG_QCOW2_H

#include "../codec/codec.h"
#include "../error.h"
#include "../image.h"
#include "freelist.h"
#include "header.h"
#include "snapshot.h"

/* ---- clusters that lost a reference ---------------------------------------------------------- */

struct freed_run {
    uint64_t cluster, count; /* host clusters; each loses one reference */
};

/* Goes from the plan or slice that let go, through a round, into limbo, and then the counts fall. */
struct freed {
    struct freed *next;
    uint64_t stamp; /* in limbo: the epoch that must have passed */
    bool punch;     /* give the host's space back when the last reference goes */
    uint32_t used, room;
    struct freed_run run[];
};

struct freed *freed_new(uint32_t room);
/* Never fails: the caller made room. Merges with the last run. */
void freed_add(struct freed *f, uint64_t cluster, uint64_t count);
void freed_list_free(struct freed *f);
struct freed **freed_list_end(struct freed **list);

/* ---- L2 slices --------------------------------------------------------------------------------- */

struct slice {
    /* what the hit path reads */
    _Atomic uint32_t seq;    /* odd: being filled or recycled, or a 16-byte entry is changing */
    _Atomic uint64_t tag;    /* guest slice number; SLICE_NONE */
    _Atomic uint8_t used;    /* clock bit */
    _Atomic uint8_t suspect; /* a bad entry was seen at load: validate on every use */

    spin_t lock; /* guards everything below, and changes of entries */
    bool loading, dirty, frozen;
    bool linked;         /* since it was last clean some entry began to show data */
    uint32_t pins;       /* reservations hooked on it and requests about to use it */
    uint32_t waiters;    /* somebody sleeps for one of its reservations */
    uint64_t zero_epoch; /* plans opened up to then may still write clusters that were zeroed in place */
    struct img_reservation *resv;
    struct freed *freed;
    struct slice *next;   /* dirty list, or free list */
    _Atomic uint64_t e[]; /* big endian, as on disk */
};
#define SLICE_NONE UINT64_MAX

struct l2_cache {
    pthread_mutex_t lock; /* free list, clock, loading */
    pthread_cond_t loaded;
    struct slice **all;
    struct slice *free;
    uint32_t capacity, count, hand;
    spin_t dirty_lock;
    struct slice *dirty;
    atomic_uint ndirty;
    uint32_t budget; /* dirty slices at which new changes wait for a round */
    /* directory: slice number -> slice, pages of DIRECTORY_PAGE pointers */
    _Atomic(_Atomic(struct slice *) *) *top;
    uint64_t top_count;
};
#define DIRECTORY_BITS 9
#define DIRECTORY_PAGE (1u << DIRECTORY_BITS)

/* ---- counts ------------------------------------------------------------------------------------ */

struct rc_piece {
    uint64_t number; /* group * pieces per block + index; PIECE_NONE */
    struct rc_piece *chain;
    bool dirty, used;
    uint8_t data[];
};

struct refcounts {
    pthread_mutex_t io;   /* loading and writing pieces */
    pthread_mutex_t lock; /* counts, the hash, the table */
    struct rc_piece **hash, **all;
    uint32_t capacity, count, hand, buckets;
    uint32_t ndirty;
    uint64_t *table; /* host byte order: offset of each refcount block; 0: none */
    uint64_t table_entries;
    uint64_t *table_dirty; /* one bit for each 512-byte sector of the table */
    bool any_table_dirty;
    uint64_t per_block; /* clusters that one block covers */
    uint64_t max;       /* highest count */
    uint32_t piece_bytes, pieces_per_block, per_piece;
};

/* ---- allocation -------------------------------------------------------------------------------- */

/* Clusters with a count of one that a context holds for its own use. */
struct run {
    spin_t lock;        /* a queue takes while its helper thread fills up */
    uint64_t next, end; /* host clusters */
    bool zero;          /* they read as zeroes */
    uint32_t want;      /* clusters to ask for at the next refill; the refiller's */
};

/* A context's part of the driver. */
struct q2_context {
    struct run data, meta;
    uint64_t byte_next, byte_end; /* compressed data goes here: host bytes of one cluster sequence; next == end: none */
};

struct allocator {
    pthread_mutex_t refill; /* one search at a time */
    spin_t lock;            /* the free list and `returned` */
    struct freed *returned; /* reservations that came to nothing; counts fall as in limbo */
    struct free_list free;
    uint64_t scan;   /* host clusters below it were looked at for holes */
    uint64_t fresh;  /* host clusters from here on were never handed out */
    uint64_t limit;  /* host clusters that the storage can hold; UINT64_MAX: it grows */
    uint64_t keep;   /* host clusters that closing does not cut off: the file's length at open */
    uint64_t length; /* bytes: of the file as far as we made it */
    bool fresh_is_zero;
};

/* ---- the image ----------------------------------------------------------------------------------- */

#define BIRTH_LOCKS 64
#define WAIT_QUEUES 64

/* Who waits for a reservation sleeps here until the sequence number moves. */
struct wait_queue {
    pthread_mutex_t lock;
    pthread_cond_t moved;
    atomic_uint sequence;
    struct img_waiter *parked;
};

/* Host clusters that hold metadata (entry.c). */
struct cluster_set;
/* What bitmaps are to take up (record.c). */
struct recorder;

struct qcow2 {
    struct img *image;
    struct storage *file; /* the image's */
    struct storage *data; /* guest data: `file`, or the external data file (owned) */
    char *data_path;
    struct qcow2_header header; /* changed under role only */
    struct qcow2_snapshots snapshots;
    struct qcow2_bitmaps bitmaps;
    const struct codec *codec;

    unsigned cluster_bits;
    uint64_t cluster_size;
    unsigned words;      /* of 8 bytes in an L2 entry: 1, or 2 when extended */
    unsigned l2_bits;    /* log2 of the entries of an L2 table */
    unsigned slice_bits; /* log2 of the entries of a slice */
    unsigned subcluster_bits;
    bool extended, v3, external, raw_external;
    bool writable;
    bool unreadable;    /* opened for a check: no guest data */
    bool below_changes; /* something else is about to lie below: zeroes need entries of their own (under role) */

    _Atomic uint64_t *l1;     /* big endian; room for the largest table */
    _Atomic uint32_t l1_size; /* entries */
    spin_t l1_lock;
    uint64_t *l1_dirty; /* one bit for each 512-byte sector */
    bool l1_any_dirty;
    struct freed *l1_freed;

    pthread_mutex_t role;
    pthread_mutex_t birth[BIRTH_LOCKS];
    struct wait_queue wait[WAIT_QUEUES];
    struct l2_cache cache;
    struct refcounts refcounts;
    struct allocator alloc;
    pthread_mutex_t meta_lock;
    _Atomic(struct cluster_set *) meta;

    /* rounds (flush.c) */
    _Atomic uint64_t started, ended;
    uint64_t synced;     /* under role */
    struct freed *limbo; /* under role; oldest last */
    _Atomic int failed;  /* sticky -errno: nothing but reads reaches the file */
    char failed_text[256];

    atomic_bool changed; /* first_change has run, and what it prepared still stands */
    atomic_bool touched; /* it has ever run: there is something to be put to rest */
    _Atomic(struct recorder *)
        recorder;       /* record.c; NULL: no bitmap records. Set and taken away with no write plan open */
    atomic_int corrupt; /* CORRUPT_* */
    char corrupt_text[256];

    struct img_snapshot_info *info_snapshots; /* img_info's arrays */
    struct img_bitmap_info *info_bitmaps;
    _Atomic int sparse_data; /* map: is data in holes worth asking the host for? 0 unknown, 1 no, 2 yes */
};

enum { CORRUPT_NO = 0, CORRUPT_FOUND = 1, CORRUPT_MARKED = 2 };

enum need_kind {
    NEED_NOTHING,
    NEED_SLICE,   /* index: guest slice */
    NEED_TABLE,   /* index: L1 entry whose L2 table is missing or shared */
    NEED_RUN,     /* count: clusters wanted, 0: a few for compressed data; the context's data run is empty */
    NEED_COUNT,   /* index: host cluster whose count must be resident */
    NEED_RESV,    /* index: guest slice, ticket: sequence number of its wait queue */
    NEED_ROUND,   /* too much is dirty */
    NEED_CHANGE,  /* the first change of this image */
    NEED_CORRUPT, /* the corrupt bit must be written */
};

static inline struct qcow2 *qcow2_of(const struct img *image) {
    return image->state;
}
static inline int would_block(struct img_plan *plan, enum need_kind kind, uint64_t index, uint64_t count) {
    plan->need = (struct img_need){.kind = kind, .index = index, .count = count, .context = plan->context};
    return IMG_WOULD_BLOCK;
}
static inline uint64_t cluster_index(const struct qcow2 *q, uint64_t offset) {
    return offset >> q->cluster_bits;
}
static inline uint64_t in_cluster(const struct qcow2 *q, uint64_t offset) {
    return offset & (q->cluster_size - 1);
}
static inline uint64_t slice_number(const struct qcow2 *q, uint64_t cluster) {
    return cluster >> q->slice_bits;
}
static inline uint32_t slice_entries(const struct qcow2 *q) {
    return 1u << q->slice_bits;
}
static inline uint32_t slice_bytes(const struct qcow2 *q) {
    return (8u * q->words) << q->slice_bits;
}
static inline uint32_t slice_index(const struct qcow2 *q, uint64_t cluster) {
    return cluster & (slice_entries(q) - 1);
}
static inline uint64_t l1_index(const struct qcow2 *q, uint64_t cluster) {
    return cluster >> q->l2_bits;
}
static inline uint64_t l1_entry(const struct qcow2 *q, uint64_t index) {
    if (index >= atomic_load_explicit(&q->l1_size, memory_order_acquire))
        return 0;
    return be64toh(atomic_load_explicit(&q->l1[index], memory_order_acquire));
}

/* ---- entry.c ---- */

struct l2_entry {
    uint64_t word;   /* the descriptor */
    uint64_t bitmap; /* extended: allocated bits 0-31, zero bits 32-63; else 0 */
};

enum entry_kind { ENTRY_UNALLOCATED, ENTRY_ZERO, ENTRY_STANDARD, ENTRY_COMPRESSED };

/* What [from, to) bytes inside a cluster read as, from `from` as far as it is uniform: *to is lowered. */
enum entry_kind entry_kind_at(const struct qcow2 *q, struct l2_entry e, uint64_t from, uint64_t *to);
/* The host cluster of an entry that has one (standard, or zero with a cluster); 0: none (external data: offset 0
 * counts). */
bool entry_has_host(const struct qcow2 *q, struct l2_entry e);
static inline uint64_t entry_host(struct l2_entry e) {
    return e.word & QCOW2_OFFSET_MASK;
}
/* NULL: fine; else what is wrong with it, a static sentence part. `cluster`: guest cluster. */
const char *entry_fault(struct qcow2 *q, struct l2_entry e, uint64_t cluster);
/* A write of [from, to) inside the cluster may go straight to the host cluster. */
bool entry_overwritable(const struct qcow2 *q, struct l2_entry e, uint64_t from, uint64_t to);
/* Extended: bits of the subclusters that [from, to) touches. */
uint32_t subcluster_mask(const struct qcow2 *q, uint64_t from, uint64_t to);
/* Host clusters that a compressed entry touches. */
void compressed_clusters(const struct qcow2 *q, uint64_t word, uint64_t *first, uint64_t *count);

/* The set of host clusters that hold metadata. Looking is lock-free; false from metadata_add: it was there. */
int metadata_init(struct qcow2 *q);
void metadata_destroy(struct qcow2 *q);
bool metadata_add(struct qcow2 *q, uint64_t cluster);
void metadata_remove(struct qcow2 *q, uint64_t cluster);
bool metadata_has(struct qcow2 *q, uint64_t cluster);

/* ---- l2.c ---- */

int l2_init(struct qcow2 *q, uint64_t bytes);
void l2_destroy(struct qcow2 *q);
/* The hit path: the entry of a guest cluster, without a lock. False: not resident (or ask with the lock). */
bool l2_peek(struct qcow2 *q, uint64_t cluster, struct l2_entry *entry, bool *suspect);
/* The resident slice with its lock held, or NULL. */
struct slice *l2_lock(struct qcow2 *q, uint64_t number);
static inline void l2_unlock(struct slice *s) {
    spin_unlock(&s->lock);
}
struct l2_entry slice_get(const struct qcow2 *q, const struct slice *s, uint32_t index);
/* Slice lock held. */
void slice_set(const struct qcow2 *q, struct slice *s, uint32_t index, struct l2_entry e);
void slice_mark_dirty(struct qcow2 *q, struct slice *s);
/* Makes the slice resident; blocks. 0 also when its table does not exist. IMG_WOULD_BLOCK: no buffer, run a round. */
int l2_load(struct qcow2 *q, struct img_context *c, uint64_t number, struct img_error *err);
/* Drops all clean slices (nothing else may run). */
void l2_forget(struct qcow2 *q);
static inline bool l2_over_budget(struct qcow2 *q) {
    return atomic_load_explicit(&q->cache.ndirty, memory_order_relaxed) >= q->cache.budget;
}

/* ---- resolve.c, write.c ---- */

int qcow2_resolve(struct img *image, struct img_plan *plan, struct img_error *err);
int resolve_allocating(struct qcow2 *q, struct img_plan *plan, struct img_error *err);
int resolve_compressed(struct qcow2 *q, struct img_plan *plan, struct img_error *err);
int resolve_clearing(struct qcow2 *q, struct img_plan *plan, struct img_error *err);
void qcow2_commit(struct img *image, struct img_plan *plan);
void qcow2_abort(struct img *image, struct img_plan *plan, bool touched);
/* True when [offset, ...) of an unallocated cluster reads as zeroes because nothing lies below. */
bool reads_zero_below(const struct qcow2 *q, uint64_t offset);
/* The reservation on an entry of the slice, or NULL. Slice lock held. */
struct img_reservation *resv_find(struct slice *s, uint32_t index);
/* Makes the plan wait for the slice's reservations. Slice lock held. */
int resv_wait(struct qcow2 *q, struct img_plan *plan, struct slice *s);
void resv_sleep(struct qcow2 *q, uint64_t number, uint32_t ticket);
/* The same without sleeping: the waiter is woken instead. False: it moved already. */
bool resv_park(struct qcow2 *q, uint64_t number, uint32_t ticket, struct img_waiter *waiter);

/* ---- table.c ---- */

/* Gives the L1 index a table of its own: born empty, or copied when it is shared. Blocks. */
int table_make_private(struct qcow2 *q, struct img_context *c, uint64_t index, struct img_error *err);

/* ---- refcount.c, refgrow.c ---- */

int refcounts_init(struct qcow2 *q, uint64_t bytes, struct img_error *err);
void refcounts_destroy(struct qcow2 *q);
/* Makes the count of a cluster resident; blocks. Without a block there is nothing to load and the count is 0. */
int refcount_load(struct qcow2 *q, uint64_t cluster, struct img_error *err);
/* refcounts.lock held. False: not resident. */
bool refcount_peek(struct qcow2 *q, uint64_t cluster, uint64_t *count);
/* refcounts.lock held, resident, no overflow (the caller looked). */
void refcount_set(struct qcow2 *q, uint64_t cluster, uint64_t count);
static inline bool refcount_has_block(struct qcow2 *q, uint64_t cluster) {
    uint64_t group = cluster / q->refcounts.per_block;
    return group < q->refcounts.table_entries && q->refcounts.table[group];
}
/* Writes what is dirty: pieces, then table sectors. No barrier. A failure is noted (failure.c). */
int refcounts_write(struct qcow2 *q);
void refcounts_forget(struct qcow2 *q);
/* Each cluster of the run loses a reference. What has lost it is taken off the run, so that after an error the rest can
 * be tried again. Role held; blocks. */
int refcount_release(struct qcow2 *q, struct freed_run *run, bool punch, struct img_error *err);
/* Makes a refcount block (and room in the table) for `cluster` of the fresh area. Role held, no write plan open. */
int refcounts_grow(struct qcow2 *q, uint64_t cluster, struct img_error *err);
/* Makes the blocks that count the fresh area and `count` clusters that follow there. Role held, no write plan open. */
int refcounts_cover(struct qcow2 *q, uint64_t count, struct img_error *err);
uint64_t refcount_get_raw(const void *block, unsigned order, uint64_t index);
void refcount_put_raw(void *block, unsigned order, uint64_t index, uint64_t count);

/* ---- alloc.c ---- */

int alloc_init(struct qcow2 *q, struct img_error *err);
void alloc_destroy(struct qcow2 *q);
struct q2_context *q2_context(struct img_context *c);
/* Takes up to `count` clusters from a run, memory only. Returns how many; 0: refill. */
uint64_t run_take(struct run *run, uint64_t count, uint64_t *first, bool *zero);
/* Gives the cluster taken last back to its run. */
void run_untake(struct run *run, uint64_t cluster);
enum run_kind { RUN_DATA, RUN_META };
/* Refills the run (of `c`, or of a context for which `c` works) when it is empty. Blocks; the caller has no plan
 * open. */
int alloc_refill(struct qcow2 *q, struct img_context *c, struct run *run, enum run_kind kind, uint64_t least,
                 struct img_error *err);
/* `count` contiguous fresh clusters with a count of one, for a table. Role held. */
int alloc_contiguous(struct qcow2 *q, uint64_t count, uint64_t *first, struct img_error *err);
/* The same, where there is a hole that is long enough. Not for what the image depends on: a file whose counts are wrong
 * has holes that are none. */
int alloc_anywhere(struct qcow2 *q, uint64_t count, uint64_t *first, struct img_error *err);
/* Makes the file long enough to hold clusters below `end`. */
int alloc_lengthen(struct qcow2 *q, uint64_t end, struct img_error *err);
/* Clusters whose count is 0 now. */
void alloc_free(struct qcow2 *q, uint64_t cluster, uint64_t count, bool zero);
/* Gives back what all contexts hold. Nothing else may run; role held. */
int alloc_return_runs(struct qcow2 *q, struct img_error *err);
/* Cuts the free tail off the file. Counts are durable, nothing runs, role held. */
int alloc_trim(struct qcow2 *q);

/* ---- flush.c ---- */

int qcow2_flush(struct img *image, struct img_error *err);
bool qcow2_strained(struct img *image);
void qcow2_relieve(struct img *image);
/* One round; role held. */
int round_run(struct qcow2 *q, struct img_error *err);
/* Releases what has left limbo. Role held. */
int limbo_release(struct qcow2 *q, struct img_error *err);
/* Into limbo, already durable. Role held. Takes the list over. */
void limbo_add(struct qcow2 *q, struct freed *list);

/* ---- failure.c ---- */

/* Fails when the image may not be changed any more. */
int writes_allowed(struct qcow2 *q, struct img_error *err);
void fail_for_good(struct qcow2 *q, int code, const char *what);
/* Lack of space is no failure for good. */
void metadata_write_failed(struct qcow2 *q, int code, const char *what);
int barrier(struct qcow2 *q, bool data);
int failed_error(struct qcow2 *q, struct img_error *err);
/* Notes the corruption (first text wins); writes and the entry's reads fail with it. */
void corrupt_found(struct qcow2 *q, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* ---- switch.c ---- */

/* Header sector 0 with a barrier before and after. Role held; the header struct has been changed by the caller: fixed
 * fields, names, extensions. -ENOSPC or -EINVAL: new names do not fit, nothing was written and the image goes on; the
 * caller takes its changes of the fields back. */
int header_switch(struct qcow2 *q, struct img_error *err);
int first_change(struct qcow2 *q, struct img_error *err);
/* The same for a change that no guest can see: bitmaps need not record it and stay valid. Role held, gate closed. */
int first_hidden_change(struct qcow2 *q, struct img_error *err);
int mark_corrupt(struct qcow2 *q, struct img_error *err);
/* Makes room for `entries` L1 entries by a light switch. Role held, gate closed to writes. */
int l1_grow(struct qcow2 *q, uint64_t entries, struct img_error *err);

/* ---- lineage.c ---- */

/* What the active state descends from, from the record or from the tables. Role held. */
int lineage_active(struct qcow2 *q, struct qcow2_parent *parent, struct img_error *err);
/* Puts it into the header in memory, for the next switch. */
void lineage_set(struct qcow2 *q, const struct qcow2_parent *parent);

/* ---- driver functions in files of their own ---- */

int qcow2_ready(struct img *image, struct img_context *c, const struct img_need *need, struct img_error *err);
enum img_park qcow2_park(struct img *image, const struct img_need *need, struct img_waiter *waiter);
int qcow2_info(struct img *image, struct img_info *info, struct img_error *err);
int qcow2_map(struct img *image, uint64_t offset, uint64_t length, struct img_extent *extent, struct img_error *err);
int qcow2_resize(struct img *image, uint64_t size, enum img_preallocation preallocation, uint32_t flags,
                 struct img_error *err);
int qcow2_parent(struct img *image, const char *name, struct img_parent *out, struct img_error *err);
int qcow2_diff(struct img *image, const char *a, const char *b, img_snapshot_differs differs, void *opaque,
               struct img_error *err);
int qcow2_snapshot(struct img *image, const struct img_snapshot_change *change, struct img_error *err);
int qcow2_state_at(struct img *image, uint64_t offset, uint64_t length, bool writes, uint64_t *at,
                   struct img_error *err);
/* Entries of whole clusters in [from, to) become unallocated: they lie behind the end, or show nothing that the layer
 * below does not. The gate is closed to all but the context. */
int entries_drop(struct qcow2 *q, struct img_context *c, uint64_t from, uint64_t to, struct img_error *err);
int qcow2_amend(struct img *image, const struct img_amend_options *options, bool only_check, struct img_error *err);
/* Entries of snapshots that say "zeroes" say so in another way, which version 2 has too. Role held, nothing runs, the
 * file is what memory says and the active state has none. After an error some are changed; the disk is the same. */
int expand_snapshots(struct qcow2 *q, struct img_error *err);
int qcow2_empty(struct img *image, struct img_error *err);
int qcow2_rebase(struct img *image, struct img *chain, const struct img_rebase_options *options, struct img_error *err);
int qcow2_check(struct img *image, const struct img_check_options *options, struct img_check_result *result,
                struct img_error *err);
/* Loads or reloads everything that is read from the file: header, L1, counts, snapshots. */
int qcow2_load(struct qcow2 *q, const struct img_driver_options *options, struct img_error *err);
int qcow2_reload(struct qcow2 *q, struct img_error *err);
/* After a full switch: memory follows the header in memory and the file, in which host clusters from `fresh` on were
 * never handed out. Nothing runs; role held. After an error the image takes no more requests. */
int qcow2_adopt(struct qcow2 *q, uint64_t fresh, struct img_error *err);
/* Everything durable, then everything that was reserved given back, then the free tail cut off. No plan that writes is
 * open; what open reads pin stays in limbo. */
int qcow2_rest(struct qcow2 *q, struct img_error *err);

#endif
