/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* map.c - one extent of this layer, merged over neighbouring clusters; and the check, whose work is check.h's.
 *
 * Stored data that lies in a hole of the host file (an image made with preallocated metadata) reads as zeroes without
 * any entry saying so. Asking the host for every extent is dear for images without holes, so it is asked once whether
 * the file has notably less space than length.
 */
#include "qcow2.h"

#include "check.h"

#include <errno.h>

#define MAP_CLUSTERS (1u << 20) /* the most that one call looks at */

struct piece {
    enum entry_kind kind;
    bool has_host, copied_host;
    uint64_t host, length;
};

/* What starts at `offset`; to the end of its cluster, subcluster range or absent table at most. A plan is open.
 * IMG_WOULD_BLOCK: its slice is not resident. */
static int look(struct qcow2 *q, uint64_t offset, uint64_t end, struct piece *p, struct img_error *err) {
    uint64_t cluster = cluster_index(q, offset), from = in_cluster(q, offset), to = q->cluster_size;
    struct l2_entry e;
    bool suspect;
    *p = (struct piece){.kind = ENTRY_UNALLOCATED};
    if (!(l1_entry(q, l1_index(q, cluster)) & QCOW2_OFFSET_MASK)) {
        uint64_t table_end = (l1_index(q, cluster) + 1) << (q->l2_bits + q->cluster_bits);
        p->length = (table_end < end ? table_end : end) - offset;
        return 0;
    }
    if (!l2_peek(q, cluster, &e, &suspect))
        return IMG_WOULD_BLOCK;
    const char *fault = suspect ? entry_fault(q, e, cluster) : NULL;
    if (fault)
        return img_fail(err, -EIO, "the L2 entry of guest offset 0x%llx of '%s' (0x%llx) %s",
                        (unsigned long long)offset, q->image->path, (unsigned long long)e.word, fault);
    if (end - offset < to - from)
        to = from + (end - offset);
    p->kind = entry_kind_at(q, e, from, &to);
    p->has_host = entry_has_host(q, e); /* a subcluster may have its place and nothing in it */
    p->host = entry_host(e) + from;
    p->length = to - from;
    return 0;
}

static bool continues(const struct piece *a, const struct piece *b) {
    if (a->kind != b->kind || a->has_host != b->has_host)
        return false;
    return !a->has_host || a->host + a->length == b->host;
}

static bool asks_host(struct qcow2 *q) {
    int state = atomic_load(&q->sparse_data);
    if (!state) {
        uint64_t length = storage_size(q->data), allocated = q->data->ops->allocated(q->data);
        state = allocated < length - length / 8 ? 2 : 1;
        atomic_store(&q->sparse_data, state);
    }
    return state == 2;
}

/* With a plan open: lengthens the piece, which begins at `offset` and may be empty still, as far as it goes on.
 * IMG_WOULD_BLOCK: the slice behind it is not resident. */
static int lengthen(struct qcow2 *q, uint64_t offset, uint64_t end, struct piece *p, unsigned *looks,
                    struct img_error *err) {
    while (offset + p->length < end && (*looks)++ < MAP_CLUSTERS) {
        struct piece next;
        int r = look(q, offset + p->length, end, &next, p->length ? NULL : err);
        if (r < 0)
            return p->length ? 0 : r; /* behind the first piece an error is the next call's */
        if (r || (p->length && !continues(p, &next)))
            return r;
        if (!p->length)
            *p = next;
        else
            p->length += next.length;
    }
    return 0;
}

static int merged_piece(struct qcow2 *q, struct img_context *c, uint64_t offset, uint64_t length, struct piece *p,
                        struct img_error *err) {
    struct img_epochs *epochs = &q->image->epochs;
    unsigned looks = 0;
    *p = (struct piece){0};
    for (;;) {
        struct img_plan plan = {.op = IMG_OP_READ};
        while (!plan_open(epochs, c, &plan))
            gate_wait(epochs, false);
        int r = lengthen(q, offset, offset + length, p, &looks, err);
        plan_close(epochs, &plan);
        if (r <= 0)
            return r;
        struct img_need need = {.kind = NEED_SLICE, .index = slice_number(q, cluster_index(q, offset + p->length))};
        if ((r = qcow2_ready(q->image, c, &need, p->length ? NULL : err)) < 0)
            return p->length ? 0 : r;
    }
}

int qcow2_map(struct img *image, uint64_t offset, uint64_t length, struct img_extent *extent, struct img_error *err) {
    struct qcow2 *q = qcow2_of(image);
    struct piece p;
    if (q->unreadable || !q->data || image->flags & IMG_OPEN_INFO)
        return img_fail(err, -ENOTSUP, "'%s' was opened for its metadata only", image->path);
    struct img_context *c = context_claim(&image->epochs);
    int r = merged_piece(q, c, offset, length, &p, err);
    context_release(&image->epochs, c);
    if (r < 0)
        return r;

    extent->start = offset;
    extent->length = p.length;
    extent->flags = p.kind == ENTRY_UNALLOCATED ? 0 : IMG_EXTENT_PRESENT;
    if (p.kind == ENTRY_ZERO)
        extent->flags |= IMG_EXTENT_ZERO;
    if (p.kind == ENTRY_STANDARD || p.kind == ENTRY_COMPRESSED)
        extent->flags |= IMG_EXTENT_DATA;
    if (p.kind == ENTRY_COMPRESSED)
        extent->flags |= IMG_EXTENT_COMPRESSED;
    if (p.has_host && !image->crypto) {
        extent->flags |= IMG_EXTENT_OFFSET;
        extent->host_offset = p.host;
        extent->file = q->data->name;
    }
    struct storage_extent below;
    if (p.kind == ENTRY_STANDARD && !image->crypto && asks_host(q) && p.host < storage_size(q->data) &&
        q->data->ops->extent(q->data, p.host, p.length, &below) == 0) {
        if (below.length < p.length)
            extent->length = below.length;
        if (below.zero)
            extent->flags |= IMG_EXTENT_ZERO;
    }
    return 0;
}

int qcow2_check(struct img *image, const struct img_check_options *options, struct img_check_result *result,
                struct img_error *err) {
    struct qcow2 *q = qcow2_of(image);
    bool repaired = false;
    if (options->flags && !q->writable)
        return img_fail(err, -EBADF, "'%s' is open for reading only and cannot be repaired", image->path);
    pthread_mutex_lock(&q->role);
    gate_close(&image->epochs, options->flags != 0);
    int r = 0;
    if (q->writable && !q->unreadable && atomic_load(&q->touched))
        r = qcow2_rest(q, err); /* file = memory, nothing reserved */
    if (r == 0)
        r = qcow2_check_file(q->file, q->data == q->file ? NULL : q->data, &q->header, options, result, &repaired, err);
    if (repaired) {
        int again = qcow2_reload(q, r < 0 ? NULL : err);
        r = r < 0 ? r : again;
    }
    gate_open(&image->epochs, options->flags != 0);
    pthread_mutex_unlock(&q->role);
    return r;
}
