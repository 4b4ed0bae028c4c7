/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* open.c - opening and closing a qcow2 image, what a plan needs (ready), and the driver's table.
 *
 * Opening reads the header, L1 and the refcount table, and nothing in proportion to the guest's size. A read-only image
 * needs no counts at all. Opening writes nothing, but for the repair that the dirty bit asks for.
 */
#include "bitmap.h"
#include "invariants.h"

#include "../crypto.h"
#include "check.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define L2_CACHE_DEFAULT (32ull << 20)
#define REFCOUNT_CACHE_DEFAULT (8ull << 20)

/* ---- L1 and the set of metadata clusters ---- */

static int fill_l1(struct qcow2 *q, uint64_t offset, uint32_t entries, struct img_error *err) {
    uint64_t bytes = (uint64_t)entries * 8;
    for (uint64_t at = 0; at < bytes;) {
        struct storage_extent e = {.length = bytes - at};
        int r = q->file->ops->extent(q->file, offset + at, bytes - at, &e);
        if (r == 0 && !e.zero) /* holes stay untouched memory */
            r = storage_read(q->file, (uint8_t *)q->l1 + at, e.length, offset + at);
        if (r < 0)
            return img_fail_errno(err, r, "Could not read L1 table of '%s'", q->image->path);
        at += e.length;
    }
    atomic_store(&q->l1_size, entries);
    return 0;
}

static int read_l1(struct qcow2 *q, uint64_t offset, uint32_t entries, struct img_error *err) {
    void *l1 =
        mmap(NULL, QCOW2_MAX_L1_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (l1 == MAP_FAILED)
        return img_fail(err, -ENOMEM, "no memory for the L1 table of '%s'", q->image->path);
    q->l1 = l1;
    q->l1_dirty = calloc(QCOW2_MAX_L1_BYTES / 512 / 64, 8);
    if (!q->l1_dirty)
        return img_fail(err, -ENOMEM, "no memory for the L1 table of '%s'", q->image->path);
    return fill_l1(q, offset, entries, err);
}

static void note_table(struct qcow2 *q, const char *what, uint64_t offset, uint64_t bytes) {
    for (uint64_t at = 0; at < bytes; at += q->cluster_size)
        if (!metadata_add(q, cluster_index(q, offset + at)))
            corrupt_found(q, "the %s at 0x%llx lies on other metadata", what, (unsigned long long)offset);
}

static void note_metadata(struct qcow2 *q) {
    const struct qcow2_header *h = &q->header;
    note_table(q, "header", 0, q->cluster_size);
    note_table(q, "refcount table", h->refcount_table_offset, (uint64_t)h->refcount_table_clusters << q->cluster_bits);
    note_table(q, "L1 table", h->l1_offset, (uint64_t)h->l1_size * 8);
    if (h->nb_snapshots)
        note_table(q, "snapshot table", h->snapshots_offset, q->snapshots.bytes);
    for (size_t i = 0; i < q->snapshots.count; i++) /* may be shared by several snapshots */
        for (uint64_t at = 0; at < (uint64_t)q->snapshots.list[i].l1_size * 8; at += q->cluster_size)
            metadata_add(q, cluster_index(q, q->snapshots.list[i].l1_offset + at));
    if (h->has_crypto)
        note_table(q, "encryption header", h->crypto_offset, h->crypto_length);
    if (q->bitmaps.count)
        note_table(q, "bitmap directory", h->bitmap_directory_offset, h->bitmap_directory_size);
    for (uint32_t i = 0; i < h->l1_size; i++) {
        uint64_t table = l1_entry(q, i) & QCOW2_OFFSET_MASK;
        if (table && !metadata_add(q, cluster_index(q, table)))
            corrupt_found(q, "L1 entry %u names an L2 table at 0x%llx that is other metadata too", i,
                          (unsigned long long)table);
    }
}

/* ---- loading ---- */

static int repair_dirty(struct qcow2 *q, struct img_error *err) {
    struct img_check_options options = {.flags = IMG_CHECK_REPAIR_ALL};
    struct img_check_result result;
    bool repaired;
    int r = qcow2_check_file(q->file, NULL, &q->header, &options, &result, &repaired, err);
    if (r < 0)
        return img_prefix(err, r, "Could not repair dirty image '%s'", q->image->path);
    header_free(&q->header);
    r = header_read(q->file, &q->header, false, err);
    if (r == 0 && q->header.incompatible & QCOW2_INCOMPAT_DIRTY)
        r = img_fail(err, -EIO, "Could not repair dirty image '%s': %llu corruptions are left", q->image->path,
                     (unsigned long long)result.corruptions);
    return r;
}

static int read_header(struct qcow2 *q, struct img_error *err) {
    bool checking = q->image->flags & IMG_OPEN_CHECK;
    int r = header_read(q->file, &q->header, checking, err);
    if (r < 0 || !q->writable || checking)
        return r;
    if (q->header.incompatible & QCOW2_INCOMPAT_CORRUPT)
        return img_fail(err, -EACCES, "qcow2: Image is corrupt; cannot be opened read/write");
    return q->header.incompatible & QCOW2_INCOMPAT_DIRTY ? repair_dirty(q, err) : 0;
}

static void set_geometry(struct qcow2 *q) {
    const struct qcow2_header *h = &q->header;
    q->cluster_bits = h->cluster_bits;
    q->cluster_size = 1ull << h->cluster_bits;
    q->v3 = h->version >= 3;
    q->extended = header_extended_l2(h);
    q->words = q->extended ? 2 : 1;
    q->subcluster_bits = q->extended ? h->cluster_bits - 5 : h->cluster_bits;
    q->l2_bits = h->cluster_bits - (q->extended ? 4 : 3);
    q->slice_bits = q->extended ? 8 : 9;
    if (q->slice_bits > q->l2_bits)
        q->slice_bits = q->l2_bits;
    q->external = h->incompatible & QCOW2_INCOMPAT_DATA_FILE;
    q->raw_external = q->external && h->autoclear & QCOW2_AUTOCLEAR_DATA_FILE_RAW;
    q->codec = h->compression_type == QCOW2_COMPRESSION_ZSTD ? &codec_zstd : &codec_deflate;
}

/* Beside the image, as a backing file is; QEMU looks in the working directory, which is tried next. */
static int find_data_file(struct qcow2 *q, struct img_error *err) {
    const char *name = q->header.data_file;
    int r = name_beside(q->image->path, name, &q->data_path, err);
    if (r < 0 || access(q->data_path, F_OK) == 0 || access(name, F_OK) < 0)
        return r;
    free(q->data_path);
    q->data_path = strdup(name);
    return q->data_path ? 0 : img_fail(err, -ENOMEM, "no memory for the name '%s'", name);
}

static int refuse_itself(struct qcow2 *q, struct img_error *err) {
    bool same = q->data->device_id == q->file->device_id && q->data->inode == q->file->inode && q->file->inode;
    return same ? img_fail(err, -ELOOP, "the data file '%s' of '%s' is the image itself", q->data->name, q->image->path)
                : 0;
}

static int open_data_file(struct qcow2 *q, struct img_error *err) {
    bool given = q->data != q->file; /* its user said which it is */
    if (!q->external)
        return given ? img_fail(err, -EINVAL, "'data-file' can only be set for images with an external data file") : 0;
    if (given)
        return refuse_itself(q, err);
    q->data = NULL;
    if (q->image->flags & (IMG_OPEN_INFO | IMG_OPEN_CHECK))
        return 0;
    if (q->image->flags & IMG_OPEN_NO_BACKING)
        return img_fail(err, -EPERM, "'%s' keeps its data in '%s', and names in it are not to be followed",
                        q->image->path, q->header.data_file ? q->header.data_file : "");
    if (!q->header.data_file)
        return img_fail(err, -EINVAL, "'data-file' is required for '%s': its header names none", q->image->path);
    int r = find_data_file(q, err);
    if (r == 0)
        r = file_open(q->data_path, q->image->flags, q->image->cache, &q->data, err);
    return r < 0 ? r : refuse_itself(q, err);
}

/* Not needed for a check, which reads no guest data and repairs whatever has a header. */
static int open_crypto(struct qcow2 *q, const struct img_driver_options *options, struct img_error *err) {
    const struct qcow2_header *h = &q->header;
    struct luks_place place = {.file = q->file, .offset = h->crypto_offset, .length = h->crypto_length};
    if (h->crypt_method == QCOW2_CRYPT_NONE || q->image->flags & IMG_OPEN_CHECK)
        return 0;
    if (h->crypt_method == QCOW2_CRYPT_AES)
        return crypto_open_aes(q->image, options, "encrypt.key-secret", err);
    return crypto_open_luks(q->image, &place, true, options, "encrypt.key-secret", err);
}

/* What reads and writes of guest data need. */
static int load_tables(struct qcow2 *q, const struct img_driver_options *options, struct img_error *err) {
    uint64_t l1_offset = q->header.l1_offset, size = q->header.size;
    uint32_t l1_size = q->header.l1_size;
    int r = snapshots_read(q->file, &q->header, &q->snapshots, err);
    if (r == 0)
        r = bitmaps_read(q->file, &q->header, &q->bitmaps, err);
    if (r < 0)
        return r;
    if (options->snapshot) {
        const struct qcow2_snapshot *s = snapshots_find(&q->snapshots, options->snapshot);
        if (!s)
            return img_fail(err, -ENOENT, "'%s' has no snapshot '%s'", q->image->path, options->snapshot);
        l1_offset = s->l1_offset;
        l1_size = s->l1_size;
        size = s->disk_size == UINT64_MAX ? size : s->disk_size;
    }
    atomic_store(&q->image->size, size);
    if (q->image->flags & IMG_OPEN_INFO)
        return 0;
    if ((r = read_l1(q, l1_offset, l1_size, err)) < 0)
        return r;
    if ((r = l2_init(q, options->l2_cache ? options->l2_cache : L2_CACHE_DEFAULT)) < 0)
        return img_fail(err, r, "no memory for the L2 cache of '%s'", q->image->path);
    if (!q->writable)
        return 0;
    note_metadata(q);
    r = refcounts_init(q, options->refcount_cache ? options->refcount_cache : REFCOUNT_CACHE_DEFAULT, err);
    return r < 0 ? r : alloc_init(q, err);
}

static void unload(struct qcow2 *q) {
    l2_destroy(q);
    refcounts_destroy(q);
    alloc_destroy(q);
    freed_list_free(q->limbo);
    freed_list_free(q->l1_freed);
    q->limbo = q->l1_freed = NULL;
    if (q->l1)
        munmap((void *)q->l1, QCOW2_MAX_L1_BYTES);
    q->l1 = NULL;
    free(q->l1_dirty);
    q->l1_dirty = NULL;
    q->l1_any_dirty = false;
    snapshots_free(&q->snapshots);
    record_end(q);
    bitmaps_free(&q->bitmaps);
    header_free(&q->header);
    free(q->info_snapshots);
    free(q->info_bitmaps);
    q->info_snapshots = NULL;
    q->info_bitmaps = NULL;
    metadata_destroy(q);
}

int qcow2_load(struct qcow2 *q, const struct img_driver_options *options, struct img_error *err) {
    bool checking = q->image->flags & IMG_OPEN_CHECK;
    if (metadata_init(q) < 0)
        return img_fail(err, -ENOMEM, "no memory to open '%s'", q->image->path);
    int r = read_header(q, err);
    if (r < 0)
        return r;
    set_geometry(q);
    atomic_store(&q->image->size, q->header.size);
    atomic_store(&q->corrupt, CORRUPT_NO);
    r = load_tables(q, options, err);
    /* a check opens whatever has a header; guest data is out of reach then, as nobody vouches for the tables */
    q->unreadable = checking;
    return checking ? 0 : r;
}

int qcow2_reload(struct qcow2 *q, struct img_error *err) {
    struct img_driver_options options = {
        .l2_cache = (uint64_t)q->cache.capacity * slice_bytes(q),
        .refcount_cache = (uint64_t)q->refcounts.capacity * q->refcounts.piece_bytes,
    };
    unload(q);
    atomic_store(&q->l1_size, 0); /* the table is gone, and nothing stands for it if it cannot be read again */
    atomic_store(&q->changed, false);
    atomic_store(&q->touched, false);
    int r = qcow2_load(q, &options, err);
    if (r < 0) {
        q->unreadable = true;
        fail_for_good(q, r, "the repaired image could not be loaded");
    }
    return r;
}

/* The caches are emptied while memory still says what the disk was: nothing in them is dirty. */
static int read_anew(struct qcow2 *q, uint64_t fresh, struct img_error *err) {
    uint64_t counts = (uint64_t)q->refcounts.capacity * q->refcounts.piece_bytes;
    l2_forget(q);
    memset((void *)q->l1, 0, (uint64_t)atomic_load(&q->l1_size) * 8);
    refcounts_forget(q);
    metadata_destroy(q);
    snapshots_free(&q->snapshots);
    free(q->info_snapshots);
    q->info_snapshots = NULL;
    q->alloc.fresh = fresh;
    q->alloc.scan = 1; /* holes may be anywhere */
    if (metadata_init(q) < 0)
        return img_fail(err, -ENOMEM, "no memory for the tables of '%s'", q->image->path);
    int r = snapshots_read(q->file, &q->header, &q->snapshots, err);
    if (r == 0)
        r = fill_l1(q, q->header.l1_offset, q->header.l1_size, err);
    if (r < 0)
        return r;
    note_metadata(q);
    atomic_store(&q->image->size, q->header.size);
    return refcounts_init(q, counts, err);
}

int qcow2_adopt(struct qcow2 *q, uint64_t fresh, struct img_error *err) {
    int r = read_anew(q, fresh, err);
    if (r < 0) {
        q->unreadable = true;
        fail_for_good(q, r, "the changed image could not be loaded");
    }
    return r;
}

static void init_locks(struct qcow2 *q) {
    pthread_mutexattr_t recursive;
    pthread_mutexattr_init(&recursive);
    pthread_mutexattr_settype(&recursive, PTHREAD_MUTEX_RECURSIVE);
    pthread_mutex_init(&q->role, &recursive);
    pthread_mutexattr_destroy(&recursive);
    for (unsigned i = 0; i < BIRTH_LOCKS; i++)
        pthread_mutex_init(&q->birth[i], NULL);
    for (unsigned i = 0; i < WAIT_QUEUES; i++) {
        pthread_mutex_init(&q->wait[i].lock, NULL);
        pthread_cond_init(&q->wait[i].moved, NULL);
    }
    pthread_mutex_init(&q->meta_lock, NULL);
    pthread_mutex_init(&q->refcounts.io, NULL);
    pthread_mutex_init(&q->refcounts.lock, NULL);
    pthread_mutex_init(&q->alloc.refill, NULL);
}

static void destroy_locks(struct qcow2 *q) {
    pthread_mutex_destroy(&q->role);
    for (unsigned i = 0; i < BIRTH_LOCKS; i++)
        pthread_mutex_destroy(&q->birth[i]);
    for (unsigned i = 0; i < WAIT_QUEUES; i++) {
        pthread_mutex_destroy(&q->wait[i].lock);
        pthread_cond_destroy(&q->wait[i].moved);
    }
    pthread_mutex_destroy(&q->meta_lock);
    pthread_mutex_destroy(&q->refcounts.io);
    pthread_mutex_destroy(&q->refcounts.lock);
    pthread_mutex_destroy(&q->alloc.refill);
}

static void qcow2_close(struct img *image) {
    struct qcow2 *q = qcow2_of(image);
    unload(q);
    if (q->data && q->data != q->file)
        storage_close(q->data);
    free(q->data_path);
    crypto_close(image);
    destroy_locks(q);
    free(q);
    image->state = NULL;
}

static int qcow2_open(struct img *image, const struct img_driver_options *options, char **backing,
                      char **backing_format, struct img_error *err) {
    struct qcow2 *q = calloc(1, sizeof *q);
    if (!q) {
        storage_close(options->data_file);
        return img_fail(err, -ENOMEM, "no memory to open '%s'", image->path);
    }
    image->state = q;
    q->image = image;
    q->file = image->file;
    q->data = options->data_file ? options->data_file : q->file;
    q->writable = image->writable;
    init_locks(q);
    int r = 0;
    if (options->snapshot && image->writable)
        r = img_fail(err, -EINVAL, "snapshot '%s' of '%s' can only be opened for reading", options->snapshot,
                     image->path);
    if (r == 0)
        r = qcow2_load(q, options, err);
    if (r == 0)
        r = open_data_file(q, err);
    if (r == 0)
        r = open_crypto(q, options, err);
    if (r == 0 && q->header.backing_file) {
        *backing = strdup(q->header.backing_file);
        *backing_format = q->header.backing_format ? strdup(q->header.backing_format) : NULL;
        if (!*backing)
            r = img_fail(err, -ENOMEM, "no memory to open '%s'", image->path);
    }
    if (r < 0)
        qcow2_close(image);
    return r;
}

/* ---- closing ---- */

int qcow2_rest(struct qcow2 *q, struct img_error *err) {
    struct img *image = q->image;
    if (!atomic_load(&q->touched) || image->flags & IMG_OPEN_INFO)
        return 0;
    SCOPED_MUTEX(&q->role);
    int r = round_run(q, err), bitmaps = 0;
    if (r == 0) { /* those that cannot be stored stay in use, and the rest goes on */
        bitmaps = record_store(q, err);
        r = atomic_load(&q->failed) ? bitmaps : limbo_release(q, err);
    }
    if (r == 0)
        r = alloc_return_runs(q, err);
    if (r == 0 && (r = refcounts_write(q)) < 0)
        img_fail_errno(err, r, "could not write the refcounts of '%s'", image->path);
    if (r == 0 && (r = barrier(q, true)) < 0)
        img_fail_errno(err, r, "could not make '%s' durable", image->path);
    if (r == 0 && (r = alloc_trim(q)) < 0)
        img_fail_errno(err, r, "could not cut the free tail off '%s'", image->path);
    return r < 0 ? r : bitmaps;
}

static int qcow2_finish(struct img *image, struct img_error *err) {
    struct qcow2 *q = qcow2_of(image);
    int r = qcow2_rest(q, err); /* no plan is open: limbo empties */
    if (r == 0)
        invariant_closed(q);
    return r;
}

/* ---- what a plan needs ---- */

static int load_count(struct qcow2 *q, struct img_context *c, uint64_t cluster, struct img_error *err) {
    struct img_plan plan = {.op = IMG_OP_WRITE, .writes = true};
    if (!plan_open(&q->image->epochs, c, &plan))
        return 0;
    int r = refcount_load(q, cluster, err);
    plan_close(&q->image->epochs, &plan);
    return r;
}

int qcow2_ready(struct img *image, struct img_context *c, const struct img_need *need, struct img_error *err) {
    struct qcow2 *q = qcow2_of(image);
    int r;
    switch ((enum need_kind)need->kind) {
    case NEED_NOTHING:
        sched_yield();
        return 0;
    case NEED_SLICE:
        r = l2_load(q, c, need->index, err);
        if (r != IMG_WOULD_BLOCK)
            return r;
        sched_yield(); /* all slices are in use: some become clean by a round, some by waiting */
        if (!q->writable)
            return 0;
        /* fall through */
    case NEED_ROUND: {
        SCOPED_MUTEX(&q->role);
        return need->kind == NEED_SLICE || l2_over_budget(q) ? round_run(q, err) : 0;
    }
    case NEED_TABLE:
        return table_make_private(q, c, need->index, err);
    case NEED_RUN:
        return alloc_refill(q, c, &q2_context(need->context)->data, RUN_DATA, need->count, err);
    case NEED_COUNT:
        return load_count(q, c, need->index, err);
    case NEED_RESV:
        resv_sleep(q, need->index, need->ticket);
        return 0;
    case NEED_CHANGE:
        return first_change(q, err);
    case NEED_CORRUPT:
        return mark_corrupt(q, err);
    }
    return 0;
}

enum img_park qcow2_park(struct img *image, const struct img_need *need, struct img_waiter *waiter) {
    if (need->kind == NEED_NOTHING)
        return IMG_PARK_RETRY;
    if (need->kind != NEED_RESV)
        return IMG_PARK_WORK;
    return resv_park(qcow2_of(image), need->index, need->ticket, waiter) ? IMG_PARK_PARKED : IMG_PARK_RETRY;
}

static bool qcow2_probe(const uint8_t *head, size_t count) {
    return count >= 4 && memcmp(head, "QFI\xfb", 4) == 0;
}

static uint64_t qcow2_cluster_size(const struct img *image) {
    return qcow2_of(image)->cluster_size;
}

static bool qcow2_has_bitmaps(const struct img *image) {
    return qcow2_of(image)->v3;
}

static struct storage *qcow2_data(const struct img *image) {
    return qcow2_of(image)->data;
}

static int qcow2_check_level(struct img *image, int level, struct img_error *err) {
    const struct codec *codec = qcow2_of(image)->codec;
    if (level < 0 || level > codec->levels)
        return img_fail(err, -EINVAL, "compression level %d is out of range: %s has levels 1 to %d", level, codec->name,
                        codec->levels);
    return 0;
}

static size_t qcow2_compress_memory(struct img *image, int level) {
    struct qcow2 *q = qcow2_of(image);
    return q->codec->memory(level, q->cluster_size);
}

static int64_t qcow2_compress(struct img *image, int level, const void *in, size_t count, void *out, size_t cap) {
    if (qcow2_of(image)->external || image->crypto)
        return -ENOTSUP; /* at once, not only when a cluster shrinks */
    return qcow2_of(image)->codec->compress(level, in, count, out, cap);
}

static int qcow2_decompress(struct img *image, const void *in, size_t stored, void *out, size_t count) {
    return qcow2_of(image)->codec->decompress(in, stored, out, count);
}

const struct img_driver qcow2_driver = {
    .name = "qcow2",
    .probe = qcow2_probe,
    .open = qcow2_open,
    .finish = qcow2_finish,
    .close = qcow2_close,
    .resolve = qcow2_resolve,
    .commit = qcow2_commit,
    .abort = qcow2_abort,
    .ready = qcow2_ready,
    .park = qcow2_park,
    .flush = qcow2_flush,
    .strained = qcow2_strained,
    .relieve = qcow2_relieve,
    .map = qcow2_map,
    .info = qcow2_info,
    .resize = qcow2_resize,
    .snapshot = qcow2_snapshot,
    .parent = qcow2_parent,
    .diff = qcow2_diff,
    .state_at = qcow2_state_at,
    .empty = qcow2_empty,
    .rebase = qcow2_rebase,
    .amend = qcow2_amend,
    .check = qcow2_check,
    .bitmap_edit = qcow2_bitmap_edit,
    .bitmap_next = qcow2_bitmap_next,
    .has_bitmaps = qcow2_has_bitmaps,
    .cluster_size = qcow2_cluster_size,
    .data = qcow2_data,
    .check_level = qcow2_check_level,
    .compress_memory = qcow2_compress_memory,
    .compress = qcow2_compress,
    .decompress = qcow2_decompress,
};
