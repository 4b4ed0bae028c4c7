/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* resolve.c - plans that change no allocation: reads, overwrites in place, discards and zeroes.
 *
 * A read becomes a list of steps, an overwrite of contiguous COPIED clusters one step; both need only l2_peek, so they
 * take no lock. Discards and zeroes change entries at once, under the slice lock: what they let go hangs on the slice
 * until a round has made the change durable (flush.c). All that needs I/O or waiting is answered with a need.
 */
#include "bitmap.h"
#include "qcow2.h"

#include <errno.h>
#include <stdlib.h>

bool reads_zero_below(const struct qcow2 *q, uint64_t offset) {
    struct img *below = q->image->backing;
    return !below || offset >= img_size(below);
}

/* Whether a layer below could show through an unallocated cluster, opened or not. */
static bool shows_below(const struct qcow2 *q, uint64_t offset) {
    return q->below_changes || (q->header.backing_file && (!q->image->backing || !reads_zero_below(q, offset)));
}

static int fault_error(struct qcow2 *q, struct img_plan *plan, uint64_t cluster, struct l2_entry e, const char *fault,
                       struct img_error *err) {
    uint64_t offset = cluster << q->cluster_bits;
    corrupt_found(q, "the L2 entry of guest offset 0x%llx (0x%llx) %s", (unsigned long long)offset,
                  (unsigned long long)e.word, fault);
    if (q->writable && atomic_load(&q->corrupt) == CORRUPT_FOUND)
        return would_block(plan, NEED_CORRUPT, 0, 0);
    return img_fail(err, -EIO, "the L2 entry of guest offset 0x%llx of '%s' (0x%llx) %s", (unsigned long long)offset,
                    q->image->path, (unsigned long long)e.word, fault);
}

/* ---- reads ---- */

static int read_step(struct qcow2 *q, struct img_plan *plan, uint64_t offset, uint64_t end, struct img_step *step,
                     struct img_error *err) {
    uint64_t cluster = cluster_index(q, offset), from = in_cluster(q, offset);
    struct l2_entry e;
    bool suspect;

    *step = (struct img_step){.guest = offset};
    if (!l2_peek(q, cluster, &e, &suspect)) { /* first: a slice in memory has a table, and needs no look at L1 */
        if (l1_entry(q, l1_index(q, cluster)) & QCOW2_OFFSET_MASK)
            return would_block(plan, NEED_SLICE, slice_number(q, cluster), 0);
        uint64_t table_end = (l1_index(q, cluster) + 1) << (q->l2_bits + q->cluster_bits);
        step->kind = reads_zero_below(q, offset) ? IMG_STEP_ZERO : IMG_STEP_BELOW;
        step->length = (table_end < end ? table_end : end) - offset;
        return 0;
    }
    const char *fault = suspect ? entry_fault(q, e, cluster) : NULL;
    if (fault)
        return fault_error(q, plan, cluster, e, fault, err);

    uint64_t to = q->cluster_size;
    if (end - offset < to - from)
        to = from + (end - offset);
    enum entry_kind kind = entry_kind_at(q, e, from, &to);
    step->length = to - from;
    switch (kind) {
    case ENTRY_UNALLOCATED:
        step->kind = reads_zero_below(q, offset) ? IMG_STEP_ZERO : IMG_STEP_BELOW;
        break;
    case ENTRY_ZERO:
        step->kind = IMG_STEP_ZERO;
        break;
    case ENTRY_STANDARD:
        step->kind = IMG_STEP_HOST;
        step->file = q->data;
        step->host = entry_host(e) + from;
        break;
    case ENTRY_COMPRESSED:
        step->kind = IMG_STEP_COMPRESSED;
        step->file = q->file;
        step->host = qcow2_compressed_offset(e.word, q->cluster_bits);
        step->stored = qcow2_compressed_bytes(e.word, q->cluster_bits);
        break;
    }
    return 0;
}

static bool merges(const struct img_step *last, const struct img_step *step) {
    if (last->kind != step->kind || step->kind == IMG_STEP_COMPRESSED)
        return false;
    return step->kind != IMG_STEP_HOST || (last->file == step->file && last->host + last->length == step->host);
}

static int resolve_read(struct qcow2 *q, struct img_plan *plan, struct img_error *err) {
    uint64_t offset = plan->offset, end = plan->offset + plan->length;
    plan->action = IMG_MOVE_STEPS;
    plan->nsteps = 0;
    while (offset < end) {
        struct img_step spare, *step = plan->nsteps < IMG_PLAN_STEPS ? &plan->steps[plan->nsteps] : &spare;
        int r = read_step(q, plan, offset, end, step, err);
        if (r && offset > plan->offset)
            break; /* the front is good; the rest comes with the next plan */
        if (r)
            return r;
        struct img_step *last = plan->nsteps ? &plan->steps[plan->nsteps - 1] : NULL;
        bool merged = last && merges(last, step);
        if (!merged && step == &spare)
            break;
        offset += step->length;
        if (merged)
            last->length += step->length;
        else
            plan->nsteps++;
    }
    plan->length = offset - plan->offset;
    return 0;
}

/* ---- overwrites ---- */

/* How far from the plan's offset contiguous clusters may be written in place. 0: not even the first byte. */
static uint64_t overwritable(struct qcow2 *q, const struct img_plan *plan, uint64_t *host) {
    uint64_t offset = plan->offset, end = plan->offset + plan->length;
    while (offset < end) {
        uint64_t cluster = cluster_index(q, offset), from = in_cluster(q, offset), to = q->cluster_size;
        struct l2_entry e;
        bool suspect;
        if (end - offset < to - from)
            to = from + (end - offset);
        if (!l2_peek(q, cluster, &e, &suspect) || !entry_overwritable(q, e, from, to) ||
            (suspect && entry_fault(q, e, cluster)))
            break;
        if (offset == plan->offset)
            *host = entry_host(e) + from;
        else if (entry_host(e) != *host + (offset - plan->offset))
            break;
        offset += to - from;
    }
    return offset - plan->offset;
}

static int resolve_write(struct qcow2 *q, struct img_plan *plan, struct img_error *err) {
    uint64_t host = 0, length = overwritable(q, plan, &host);
    if (!length)
        return resolve_allocating(q, plan, err);
    plan->action = IMG_MOVE_STEPS;
    plan->length = length;
    plan->head = plan->tail = 0;
    plan->nsteps = 1;
    plan->steps[0] = (struct img_step){
        .kind = IMG_STEP_HOST, .guest = plan->offset, .length = length, .file = q->data, .host = host};
    return 0;
}

/* ---- discards and zeroes ---- */

/* What one cleared entry becomes; *lets_go tells whether its host clusters lose a reference. */
static struct l2_entry cleared(const struct qcow2 *q, const struct img_plan *plan, struct l2_entry e, uint64_t offset,
                               bool *lets_go) {
    bool compressed = e.word & QCOW2_COMPRESSED;
    bool keep = q->v3 && entry_has_host(q, e) && (e.word & QCOW2_COPIED) &&
                (q->external || (plan->op == IMG_OP_ZERO && !plan->may_unmap));
    bool flag = q->v3 && (keep || shows_below(q, offset));
    if (plan->op == IMG_OP_DROP)
        keep = flag = false;
    struct l2_entry to = {.word = keep ? e.word & (QCOW2_OFFSET_MASK | QCOW2_COPIED) : 0};
    if (flag && q->extended)
        to.bitmap = 0xffffffff00000000ull;
    else if (flag)
        to.word |= QCOW2_ZERO;
    *lets_go = !keep && !q->external && (compressed || entry_has_host(q, e));
    return to;
}

static void let_go(const struct qcow2 *q, struct l2_entry e, struct freed *freed) {
    uint64_t first = cluster_index(q, entry_host(e)), count = 1;
    if (e.word & QCOW2_COMPRESSED)
        compressed_clusters(q, e.word, &first, &count);
    freed_add(freed, first, count);
}

/* Whole clusters [cluster, cluster + count) of one slice whose table is private. */
static int clear_clusters(struct qcow2 *q, struct img_plan *plan, uint64_t cluster, uint32_t count) {
    struct freed *freed = freed_new(count);
    if (!freed)
        return -ENOMEM;
    struct slice *s = l2_lock(q, slice_number(q, cluster));
    if (!s) {
        free(freed);
        return would_block(plan, NEED_SLICE, slice_number(q, cluster), 0);
    }
    uint32_t index = slice_index(q, cluster), done = 0;
    bool kept = false;
    for (; done < count && !resv_find(s, index + done); done++) {
        struct l2_entry e = slice_get(q, s, index + done), to;
        bool lets_go;
        if (atomic_load(&s->suspect) && entry_fault(q, e, cluster + done))
            break;
        to = cleared(q, plan, e, (cluster + done) << q->cluster_bits, &lets_go);
        if (to.word == e.word && to.bitmap == e.bitmap)
            continue;
        if (!s->dirty && l2_over_budget(q))
            break;
        if (lets_go)
            let_go(q, e, freed);
        kept |= entry_has_host(q, to);
        slice_set(q, s, index + done, to);
        slice_mark_dirty(q, s);
    }
    int r = 0;
    if (!done) {
        struct l2_entry e = slice_get(q, s, index);
        const char *fault = atomic_load(&s->suspect) ? entry_fault(q, e, cluster) : NULL;
        if (fault) {
            corrupt_found(q, "the L2 entry of guest offset 0x%llx %s", (unsigned long long)cluster << q->cluster_bits,
                          fault);
            r = would_block(plan, NEED_CORRUPT, 0, 0);
        } else {
            r = resv_find(s, index) ? resv_wait(q, plan, s) : would_block(plan, NEED_ROUND, 0, 0);
        }
    }
    if (kept)
        s->zero_epoch = epoch_advance(&q->image->epochs);
    if (freed->used) {
        freed->punch = plan->may_unmap || plan->op != IMG_OP_ZERO;
        freed->next = s->freed;
        s->freed = freed;
        freed = NULL;
    }
    l2_unlock(s);
    free(freed);
    plan->action = IMG_MOVE_NOTHING;
    plan->length = ((cluster + done) << q->cluster_bits) - plan->offset;
    return r;
}

/* Subclusters [from, to) of one cluster, aligned to subclusters: only the bitmap changes. */
static int clear_subclusters(struct qcow2 *q, struct img_plan *plan, uint64_t from, uint64_t to) {
    uint64_t cluster = cluster_index(q, plan->offset);
    struct slice *s = l2_lock(q, slice_number(q, cluster));
    if (!s)
        return would_block(plan, NEED_SLICE, slice_number(q, cluster), 0);
    uint32_t index = slice_index(q, cluster);
    struct l2_entry e = slice_get(q, s, index);
    uint64_t mask = subcluster_mask(q, from, to);
    int r = 0;

    plan->action = IMG_MOVE_NOTHING;
    plan->length = to - from;
    if (resv_find(s, index)) {
        r = resv_wait(q, plan, s);
    } else if (e.word & QCOW2_COMPRESSED || (atomic_load(&s->suspect) && entry_fault(q, e, cluster))) {
        plan->action = IMG_MOVE_AS_WRITE;
    } else if (!s->dirty && l2_over_budget(q)) {
        r = would_block(plan, NEED_ROUND, 0, 0);
    } else {
        if (entry_has_host(q, e))
            s->zero_epoch = epoch_advance(&q->image->epochs);
        e.bitmap = (e.bitmap & ~mask) | mask << 32;
        slice_set(q, s, index, e);
        slice_mark_dirty(q, s);
    }
    l2_unlock(s);
    return r;
}

/* The part of the request in front of the first whole cluster, or all of it when there is none. */
static int clear_partial(struct qcow2 *q, struct img_plan *plan) {
    uint64_t from = in_cluster(q, plan->offset), to = q->cluster_size, cluster = cluster_index(q, plan->offset);
    uint64_t sub = 1ull << q->subcluster_bits;
    struct l2_entry e;
    bool suspect;

    if (plan->length < to - from)
        to = from + plan->length;
    if (plan->op == IMG_OP_DISCARD) {
        plan->action = IMG_MOVE_NOTHING;
        plan->length = to - from;
        return 0;
    }
    if (!l2_peek(q, cluster, &e, &suspect))
        return would_block(plan, NEED_SLICE, slice_number(q, cluster), 0);
    uint64_t same = to;
    enum entry_kind kind = entry_kind_at(q, e, from, &same);
    plan->action = IMG_MOVE_AS_WRITE;
    if (kind == ENTRY_ZERO || (kind == ENTRY_UNALLOCATED && reads_zero_below(q, plan->offset) && !q->below_changes)) {
        plan->action = IMG_MOVE_NOTHING;
        to = same;
    } else if (q->extended && !(from & (sub - 1)) && to - from >= sub) {
        return clear_subclusters(q, plan, from, to & ~(sub - 1));
    } else if (q->extended && (from & (sub - 1)) && (from | (sub - 1)) + 1 < to) {
        to = (from | (sub - 1)) + 1;
    }
    plan->length = to - from;
    return 0;
}

/* External data: the place in the data file is the guest's for good, so what is stored there is zeroed in place (unless
 * it is encrypted: zeroes of the data file are not the guest's then, and the entry says it). A
 * discard acts on whole clusters even where their subclusters are of different kinds. */
static int clear_external(struct qcow2 *q, struct img_plan *plan, uint64_t length) {
    struct img_plan read = {.op = IMG_OP_READ, .offset = plan->offset, .length = length};
    int r = resolve_read(q, &read, NULL);
    if (r) {
        plan->need = read.need;
        return r;
    }
    struct img_step step = read.steps[0];
    if (plan->op == IMG_OP_DISCARD && step.length < length) {
        step.length &= ~(q->cluster_size - 1);
        if (!step.length)
            step = (struct img_step){.kind = shows_below(q, plan->offset) ? IMG_STEP_BELOW : IMG_STEP_HOST,
                                     .guest = plan->offset,
                                     .length = length < q->cluster_size ? length : q->cluster_size,
                                     .file = q->data,
                                     .host = plan->offset};
    }
    plan->length = step.length;
    plan->action = step.kind == IMG_STEP_HOST ? IMG_MOVE_ZERO_HOST : IMG_MOVE_NOTHING;
    plan->nsteps = 1;
    plan->steps[0] = step;
    return 0;
}

/* The image's last cluster is whole although the image may end inside it. */
static uint64_t whole_end_of(const struct qcow2 *q, uint64_t end) {
    return end == atomic_load(&q->image->size) ? (end + q->cluster_size - 1) & ~(q->cluster_size - 1) : end;
}

static bool is_partial(const struct qcow2 *q, uint64_t offset, uint64_t whole_end) {
    return in_cluster(q, offset) || whole_end - offset < q->cluster_size;
}

int resolve_clearing(struct qcow2 *q, struct img_plan *plan, struct img_error *err) {
    uint64_t end = plan->offset + plan->length;
    uint64_t cluster = cluster_index(q, plan->offset), index = l1_index(q, cluster), entry = l1_entry(q, index);
    uint64_t table_end = (index + 1) << (q->l2_bits + q->cluster_bits);
    bool below = plan->op != IMG_OP_DROP && shows_below(q, plan->offset);

    plan->action = IMG_MOVE_NOTHING;
    if (plan->op == IMG_OP_DISCARD && !q->v3 && q->header.backing_file)
        return 0; /* version 2 cannot say "zeroes" over a backing file */
    if (!(entry & QCOW2_OFFSET_MASK) && !below) {
        plan->length = (table_end < end ? table_end : end) - plan->offset;
        return 0;
    }
    uint64_t whole_end = whole_end_of(q, end);
    if (plan->op == IMG_OP_DISCARD && is_partial(q, plan->offset, whole_end))
        return clear_partial(q, plan);
    if (!(entry & QCOW2_OFFSET_MASK && entry & QCOW2_COPIED))
        return would_block(plan, NEED_TABLE, index, 0);
    if (q->external && !q->image->crypto && plan->op != IMG_OP_DROP) {
        if (plan->op == IMG_OP_DISCARD && end > (whole_end & ~(q->cluster_size - 1)))
            end = whole_end & ~(q->cluster_size - 1);
        int r = clear_external(q, plan, (table_end < end ? table_end : end) - plan->offset);
        if (r || plan->action == IMG_MOVE_ZERO_HOST || plan->steps[0].kind == IMG_STEP_ZERO)
            return r;
        end = plan->offset + plan->length;
        whole_end = whole_end_of(q, end);
    }
    if (is_partial(q, plan->offset, whole_end))
        return clear_partial(q, plan);
    if (!q->v3 && below) {
        plan->action = IMG_MOVE_AS_WRITE;
        plan->length = q->cluster_size < plan->length ? q->cluster_size : plan->length;
        return 0;
    }
    uint64_t count = cluster_index(q, whole_end) - cluster;
    uint32_t rest = slice_entries(q) - slice_index(q, cluster);
    int r = clear_clusters(q, plan, cluster, count < rest ? count : rest);
    if (r == -ENOMEM)
        return img_fail(err, r, "no memory to clear %llu clusters", (unsigned long long)count);
    if (plan->length > end - plan->offset)
        plan->length = end - plan->offset;
    return r;
}

/* ---- all ---- */

int qcow2_resolve(struct img *image, struct img_plan *plan, struct img_error *err) {
    struct qcow2 *q = qcow2_of(image);
    if (q->unreadable)
        return img_fail(err, -EBADF, "'%s' was opened for a check and has no readable data", image->path);
    if (plan->op == IMG_OP_READ)
        return resolve_read(q, plan, err);

    if (atomic_load(&q->corrupt) == CORRUPT_FOUND)
        return would_block(plan, NEED_CORRUPT, 0, 0);
    int r = writes_allowed(q, err);
    if (r < 0)
        return r;
    if (q->header.backing_file && !image->backing)
        return img_fail(err, -EPERM, "'%s' was opened without its backing file '%s' and cannot be written", image->path,
                        q->header.backing_file);
    if (!atomic_load_explicit(&q->changed, memory_order_acquire))
        return would_block(plan, NEED_CHANGE, 0, 0);
    switch (plan->op) {
    case IMG_OP_WRITE:
        r = resolve_write(q, plan, err);
        break;
    case IMG_OP_COMPRESSED:
        r = resolve_compressed(q, plan, err);
        break;
    default:
        r = resolve_clearing(q, plan, err);
    }
    /* before it is moved, and with the plan open: whoever closes the gate finds all that was written recorded */
    struct recorder *recorder = atomic_load_explicit(&q->recorder, memory_order_acquire);
    if (__builtin_expect(recorder != NULL, 0) && r == 0 && !plan->context->behind_end)
        record_change(recorder, plan->offset, plan->length);
    return r;
}
