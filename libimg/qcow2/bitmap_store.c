/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* bitmap_store.c - a change of persistent bitmaps as a whole: all or nothing, whatever happens in between.
 *
 * Tables, bits and a whole new directory are written where nothing was; a barrier; header sector 0, which names the new
 * directory and may carry a new size of the disk; a barrier; and what the old directory named and the new one does not
 * goes to limbo. A power cut before leaves the old bitmaps and one behind it the new ones; what is left over leaks.
 *
 * The directory is written through a window. Extra data of entries, which nobody here understands, is copied.
 *
 * Specification: "Bitmaps extension", "Bitmap directory".
 */
#include "bitmap.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#define WINDOW (64u << 10)
#define FREED_ROOM 256

/* ---- clusters ---- */

/* Adds to the first of the lists, or to a new one in front of it. */
static int note(struct freed **list, uint64_t cluster, uint64_t count) {
    if (!*list || (*list)->used == (*list)->room) {
        struct freed *f = freed_new(FREED_ROOM);
        if (!f)
            return -ENOMEM;
        f->next = *list;
        *list = f;
    }
    freed_add(*list, cluster, count);
    return 0;
}

int bitmap_change_take(struct bitmap_change *c, uint64_t clusters, uint64_t *first, struct img_error *err) {
    int r = alloc_anywhere(c->q, clusters, first, err);
    if (r == 0 && (r = note(&c->taken, *first, clusters)) < 0)
        img_fail(err, r, "no memory to change bitmaps"); /* and the clusters leak */
    return r;
}

int bitmap_change_let_go(struct bitmap_change *c, uint64_t cluster, uint64_t count) {
    int r = 0;
    for (uint64_t i = 0; r == 0 && i < count; i++)
        if (!metadata_has(c->q, cluster + i))
            r = note(&c->old, cluster + i, 1);
    return r;
}

/* ---- the directory ---- */

struct directory_writer {
    struct qcow2 *q;
    uint8_t *window;
    size_t used;
    uint64_t at; /* host offset of the window */
};

static int write_window(struct directory_writer *w) {
    int r = w->used ? storage_write(w->q->file, w->window, w->used, w->at) : 0;
    w->at += w->used;
    w->used = 0;
    return r;
}

static int put(struct directory_writer *w, const void *bytes, size_t count) {
    while (count) {
        size_t n = WINDOW - w->used < count ? WINDOW - w->used : count;
        memcpy(w->window + w->used, bytes, n);
        w->used += n;
        bytes = (const uint8_t *)bytes + n;
        count -= n;
        int r = w->used == WINDOW ? write_window(w) : 0;
        if (r < 0)
            return r;
    }
    return 0;
}

static uint64_t entry_bytes(const struct qcow2_bitmap *b) {
    return (sizeof(struct qcow2_disk_bitmap) + b->extra_size + strlen(b->name) + 7) & ~7ull;
}

static int copy_extra(struct directory_writer *w, const struct qcow2_bitmap *b) {
    uint64_t from = b->flags_offset - offsetof(struct qcow2_disk_bitmap, flags) + sizeof(struct qcow2_disk_bitmap);
    uint8_t piece[512];
    int r = 0;
    for (uint64_t done = 0; r == 0 && done < b->extra_size; done += sizeof piece) {
        size_t n = b->extra_size - done < sizeof piece ? b->extra_size - done : sizeof piece;
        r = storage_read(w->q->file, piece, n, from + done);
        if (r == 0)
            r = put(w, piece, n);
    }
    return r;
}

static int put_entry(struct directory_writer *w, const struct qcow2_bitmap *b) {
    static const uint8_t padding[8];
    size_t name = strlen(b->name);
    struct qcow2_disk_bitmap disk = {
        .table_offset = put64(b->table_offset),
        .table_size = put32(b->table_size),
        .flags = put32(b->flags),
        .type = b->type,
        .granularity_bits = b->granularity_bits,
        .name_size = put16((uint16_t)name),
        .extra_data_size = put32(b->extra_size),
    };
    int r = put(w, &disk, sizeof disk);
    if (r == 0)
        r = copy_extra(w, b);
    if (r == 0)
        r = put(w, b->name, name);
    return r == 0 ? put(w, padding, -(sizeof disk + b->extra_size + name) & 7) : r;
}

static int write_directory(struct bitmap_change *c, uint64_t host, struct img_error *err) {
    struct directory_writer w = {.q = c->q, .window = malloc(WINDOW), .at = host};
    if (!w.window)
        return img_fail(err, -ENOMEM, "no memory for the bitmap directory of '%s'", c->q->image->path);
    int r = 0;
    for (size_t i = 0; r == 0 && i < c->next.count; i++)
        r = put_entry(&w, &c->next.list[i]);
    if (r == 0)
        r = write_window(&w);
    free(w.window);
    if (r == 0)
        return 0;
    metadata_write_failed(c->q, r, "the host could not write a bitmap directory");
    return img_fail_errno(err, r, "could not write the bitmap directory of '%s'", c->q->image->path);
}

/* The limits are those of reading: what is written can be read again. */
static int measure_directory(const struct bitmap_change *c, uint64_t *bytes, struct img_error *err) {
    uint64_t names = 0;
    *bytes = 0;
    for (size_t i = 0; i < c->next.count; i++) {
        *bytes += entry_bytes(&c->next.list[i]);
        names += strlen(c->next.list[i].name);
    }
    if (c->next.count > QCOW2_MAX_BITMAPS)
        return img_fail(err, -EFBIG, "Maximum number of persistent bitmaps is already reached");
    if (*bytes > QCOW2_MAX_BITMAP_DIRECTORY_BYTES || names > QCOW2_MAX_NAME_BYTES)
        return img_fail(err, -EFBIG, "Not enough space in the bitmap directory");
    return 0;
}

/* ---- begin and end ---- */

int bitmap_change_begin(struct bitmap_change *c, struct qcow2 *q, struct img_error *err) {
    *c = (struct bitmap_change){.q = q, .size = q->header.size, .room = q->bitmaps.count + 1};
    c->next.list = calloc(c->room, sizeof *c->next.list);
    if (!c->next.list)
        return img_fail(err, -ENOMEM, "no memory to change the bitmaps of '%s'", q->image->path);
    c->next.count = q->bitmaps.count;
    if (c->next.count)
        memcpy(c->next.list, q->bitmaps.list, c->next.count * sizeof *c->next.list);
    return 0;
}

static void undo(struct bitmap_change *c) {
    for (struct freed *f = c->taken; f; f = f->next)
        for (uint32_t i = 0; i < f->used && !atomic_load(&c->q->failed); i++)
            (void)refcount_release(c->q, &f->run[i], false, NULL); /* else a leak */
    freed_list_free(c->taken);
    freed_list_free(c->old);
    free(c->next.list);
}

struct header_fields {
    bool has_bitmaps;
    uint32_t nb_bitmaps;
    uint64_t offset, size, autoclear, disk_size;
};

static struct header_fields get_fields(const struct qcow2_header *h) {
    return (struct header_fields){h->has_bitmaps,           h->nb_bitmaps, h->bitmap_directory_offset,
                                  h->bitmap_directory_size, h->autoclear,  h->size};
}

static void set_fields(struct qcow2_header *h, struct header_fields f) {
    h->has_bitmaps = f.has_bitmaps;
    h->nb_bitmaps = f.nb_bitmaps;
    h->bitmap_directory_offset = f.offset;
    h->bitmap_directory_size = f.size;
    h->autoclear = f.autoclear;
    h->size = f.disk_size;
}

/* Sector 0 names the new directory. The fields are as they were when that was not even tried. */
static int switch_directory(struct bitmap_change *c, uint64_t host, uint64_t bytes, struct img_error *err) {
    struct qcow2 *q = c->q;
    struct header_fields before = get_fields(&q->header);
    bool any = c->next.count > 0;
    set_fields(&q->header, (struct header_fields){any, (uint32_t)c->next.count, host, bytes,
                                                  (before.autoclear & ~QCOW2_AUTOCLEAR_BITMAPS) |
                                                      (any ? QCOW2_AUTOCLEAR_BITMAPS : 0),
                                                  c->size});
    int r = header_switch(q, err);
    if (r < 0)
        set_fields(&q->header, before);
    return r;
}

static void adopt(struct bitmap_change *c, uint64_t host, uint64_t bytes) {
    struct qcow2 *q = c->q;
    uint64_t at = host + offsetof(struct qcow2_disk_bitmap, flags);
    for (uint64_t i = 0; i < bytes; i += q->cluster_size)
        metadata_add(q, cluster_index(q, host + i));
    for (size_t i = 0; i < c->next.count; i++) {
        c->next.list[i].flags_offset = at;
        at += entry_bytes(&c->next.list[i]);
    }
    free(q->bitmaps.list);
    q->bitmaps = c->next;
    free(q->info_bitmaps);
    q->info_bitmaps = NULL;
    freed_list_free(c->taken);
    limbo_add(q, c->old);
}

static int finish(struct bitmap_change *c, struct img_error *err) {
    struct qcow2 *q = c->q;
    uint64_t bytes, first = 0, clusters;
    int r = measure_directory(c, &bytes, err);
    clusters = (bytes + q->cluster_size - 1) >> q->cluster_bits;
    if (r == 0 && clusters)
        r = bitmap_change_take(c, clusters, &first, err);
    if (r == 0)
        r = write_directory(c, first << q->cluster_bits, err);
    if (r == 0 && q->header.has_bitmaps)
        r = note(&c->old, cluster_index(q, q->header.bitmap_directory_offset),
                 (q->header.bitmap_directory_size + q->cluster_size - 1) >> q->cluster_bits);
    if (r == 0 && (r = refcounts_write(q)) < 0)
        img_fail_errno(err, r, "could not write the refcounts of '%s'", q->image->path);
    if (r == 0)
        r = switch_directory(c, first << q->cluster_bits, bytes, err);
    if (r == 0)
        adopt(c, first << q->cluster_bits, bytes);
    return r;
}

int bitmap_change_end(struct bitmap_change *c, int result, struct img_error *err) {
    if (result == 0)
        result = finish(c, err);
    if (result != 0)
        undo(c);
    return result;
}

/* ---- another size of the disk ---- */

int bitmaps_resizable(const struct qcow2 *q, uint64_t size, struct img_error *err) {
    for (size_t i = 0; i < q->bitmaps.count; i++) {
        const struct qcow2_bitmap *b = &q->bitmaps.list[i];
        int r = bitmap_usable(q, b, err);
        if (r == 0)
            r = bitmap_storable(q, b->name, b->granularity_bits, size, err);
        if (r < 0)
            return r;
    }
    return 0;
}

static int resize_all(struct bitmap_change *c, struct img_error *err) {
    const struct qcow2_bitmaps *now = &c->q->bitmaps;
    int r = 0;
    for (size_t i = 0; r == 0 && i < now->count; i++)
        if (bitmap_bits(&now->list[i], c->size) != bitmap_bits(&now->list[i], c->q->header.size))
            r = bitmap_write_table(c, &now->list[i], &c->next.list[i], NULL, err);
    return r;
}

int bitmaps_resize(struct qcow2 *q, uint64_t size, struct img_error *err) {
    struct bitmap_change c;
    int r = bitmap_change_begin(&c, q, err);
    if (r != 0)
        return r;
    c.size = size;
    return bitmap_change_end(&c, resize_all(&c, err), err);
}
