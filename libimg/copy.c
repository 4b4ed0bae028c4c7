/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* copy.c - the copy engine: N workers, ordered reservation, bounded memory.
 *
 * The source is cut into units, in the order of its offsets. A worker takes the next unit, reads it, finds the zeroes,
 * compresses, all beside the others. Then it waits for its turn: host clusters are reserved in the order of the units
 * and from one context, so the target's bytes do not depend on the number of threads. The bytes are moved after the
 * turn has been passed on. A unit ends on a cluster border of the target, so no two units meet in a cluster.
 *
 * What must hold: a worker that sleeps has no plan open. io_begin says when it would have to wait; then the plans
 * collected so far are moved and closed first, still in turn.
 */
#include "copy/copy.h"
#include "error.h"
#include "io.h"
#include "move.h"
#include "raw.h"
#include "request.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAX_THREADS 16
#define ALIGN 4096                 /* of buffers, for O_DIRECT */
#define MEMORY_MOST (160ull << 20) /* that all workers take together */

static void stop(struct copy *c, int result, const struct img_error *e) {
    SCOPED_MUTEX(&c->lock);
    if (c->result == 0) {
        c->result = result;
        if (c->err)
            *c->err = *e;
    }
    pthread_cond_broadcast(&c->moved);
}

static bool stopped(struct copy *c) {
    SCOPED_MUTEX(&c->lock);
    return c->result != 0;
}

/* ---- in turn ---- */

static bool wait_turn(struct copy *c, uint64_t number) {
    SCOPED_MUTEX(&c->lock);
    while (c->turn != number && c->result == 0)
        pthread_cond_wait(&c->moved, &c->lock);
    return c->result == 0;
}

static void pass_turn(struct copy *c) {
    SCOPED_MUTEX(&c->lock);
    c->turn++;
    pthread_cond_broadcast(&c->moved);
}

static int end_plan(struct copy *c, struct unit *u, unsigned i, struct img_error *e) {
    struct img_plan *plan = &u->plans[i];
    if (u->from[i])
        return io_end(c->target, plan, u->from[i], e);
    int r = offload_move(c, plan, u->data, e);
    plan_end(c->target, plan, r);
    return r;
}

/* What was written is on its way to the disk, in time. */
static int leave_trail(struct copy *c, const struct unit *u, struct img_error *e) {
    for (unsigned i = 0; i < u->nplans; i++) {
        const struct img_step *step = &u->plans[i].steps[0];
        int r = u->from[i] ? trail_wrote(&c->trail, step->file, step->host, step->length) : 0;
        if (r < 0)
            return img_fail_errno(e, r, "could not write '%s'", c->target->path);
    }
    return 0;
}

/* Moves and closes what was reserved, all of it even after an error. */
static int settle(struct copy *c, struct unit *u, struct img_error *e) {
    int result = 0;
    for (unsigned i = 0; i < u->nplans; i++) {
        int r = end_plan(c, u, i, result ? NULL : e);
        if (result == 0)
            result = r;
    }
    if (result == 0)
        result = leave_trail(c, u, e);
    u->nplans = 0;
    return result;
}

/* Reserves for [offset, offset + length) of the source, whose bytes (or compressed cluster of `stored`) are at `from`;
 * NULL: where they were. */
static int reserve(struct copy *c, struct unit *u, uint64_t offset, uint64_t length, const uint8_t *from,
                   uint32_t stored, struct img_error *e) {
    u->written += length;
    while (length) {
        if (u->nplans == PLANS) {
            int r = settle(c, u, e);
            if (r < 0)
                return r;
        }
        struct img_plan *plan = &u->plans[u->nplans];
        *plan = (struct img_plan){.op = stored ? IMG_OP_COMPRESSED : IMG_OP_WRITE,
                                  .stored = stored,
                                  .offset = c->base + offset,
                                  .length = length};
        int r = io_begin(c->target, c->context, plan, e);
        if (r == IMG_WOULD_BLOCK) {
            struct img_plan waits = *plan;
            r = settle(c, u, e);
            if (r == 0)
                r = io_ready(c->target, c->context, &waits, e);
            if (r == 0)
                continue;
        }
        if (r < 0)
            return r;
        u->from[u->nplans++] = from;
        offset += plan->length;
        length -= plan->length;
        from = from ? from + plan->length : NULL;
    }
    return 0;
}

static int make_hole(struct copy *c, struct unit *u, uint64_t offset, uint64_t length, struct img_error *e) {
    if (c->options->target_is_zero)
        return 0;
    int r = settle(c, u, e);
    return r < 0 ? r : io_clear(c->target, c->context, IMG_OP_ZERO, true, c->base + offset, length, e);
}

/* The run of grains of one kind that starts at `at` bytes into the unit. */
static uint64_t run_of(const struct copy *c, const struct unit *u, uint64_t at, bool *zero) {
    uint64_t end = at;
    bool kind = false;
    while (end < u->length) {
        uint64_t next = copy_grain_end(c, u, end);
        bool is_zero = c->sparse && img_is_zero(u->data + end, next - end);
        if (end > at && is_zero != kind)
            break;
        kind = is_zero;
        end = next;
    }
    *zero = kind;
    return end - at;
}

static int reserve_data(struct copy *c, struct unit *u, struct img_error *e) {
    uint64_t at = 0;
    int r = 0;
    while (r == 0 && at < u->length) {
        bool zero;
        uint64_t run = run_of(c, u, at, &zero);
        if (zero && (run >= c->sparse || c->grain > c->sparse))
            r = make_hole(c, u, u->offset + at, run, e);
        else
            r = reserve(c, u, u->offset + at, run, u->data + at, 0, e);
        at += run;
    }
    return r;
}

static int reserve_compressed(struct copy *c, struct unit *u, struct img_error *e) {
    const uint8_t *packed = u->packed;
    const uint32_t *stored = u->stored;
    int r = 0;
    for (uint64_t at = 0, next; r == 0 && at < u->length; at = next, packed += c->grain, stored++) {
        uint64_t n = (next = copy_grain_end(c, u, at)) - at;
        if (*stored == STORED_HOLE)
            r = make_hole(c, u, u->offset + at, n, e);
        else
            r = reserve(c, u, u->offset + at, n, *stored ? packed : u->data + at, *stored, e);
    }
    return r;
}

/* ---- workers ---- */

static bool wants_stop(const struct copy *c) {
    const struct img_copy_options *o = c->options;
    return (o->progress && o->progress(o->opaque, c->done, c->end - c->first)) ||
           (o->moved && o->moved(o->opaque, c->written));
}

static void report(struct copy *c, const struct unit *u) {
    SCOPED_MUTEX(&c->lock);
    c->done += u->length;
    c->written += u->written;
    if (c->result == 0 && wants_stop(c)) {
        c->result = img_fail(c->err, -ECANCELED, "the copy of '%s' was stopped", c->source->path);
        pthread_cond_broadcast(&c->moved);
    }
}

static int reserve_unit(struct copy *c, struct unit *u, struct img_error *e) {
    if (u->kind == UNIT_SKIP)
        return 0;
    if (u->kind == UNIT_HOLE)
        return make_hole(c, u, u->offset, u->length, e);
    if (u->kind == UNIT_OFFLOAD)
        return reserve(c, u, u->offset, u->length, NULL, 0, e);
    return c->options->compress ? reserve_compressed(c, u, e) : reserve_data(c, u, e);
}

static int copy_unit(struct copy *c, struct unit *u, struct img_error *e) {
    int r = 0;
    u->written = 0;
    u->any_lost = false;
    if (u->kind == UNIT_DATA)
        r = copy_read(c, u, e);
    if (r == 0 && u->kind == UNIT_DATA && c->options->compress)
        r = copy_pack(c, u, e);
    if (r < 0 || !wait_turn(c, u->number))
        return r;
    copy_tell_lost(c, u);
    r = reserve_unit(c, u, e);
    if (r == 0)
        pass_turn(c);
    int moved = settle(c, u, r < 0 ? NULL : e);
    if (c->target->driver->relieve)
        c->target->driver->relieve(c->target);
    return r < 0 ? r : moved;
}

static bool next_unit(struct copy *c, struct unit *u, struct img_error *e) {
    int r = stopped(c) ? 0 : copy_next_unit(c, u, e);
    if (r < 0)
        stop(c, r, e);
    return r > 0;
}

/* A last grain may be filled up. */
static uint64_t buffer_bytes(const struct copy *c) {
    return ((UNIT_BYTES > c->grain ? UNIT_BYTES : c->grain) + c->grain + ALIGN - 1) & ~(uint64_t)(ALIGN - 1);
}

static void *worker(void *opaque) {
    struct copy *c = opaque;
    struct img_error e = {0};
    uint64_t bytes = buffer_bytes(c);
    struct unit *u = calloc(1, sizeof *u);
    if (u) {
        u->data = aligned_alloc(ALIGN, bytes);
        u->packed = malloc(c->options->compress ? bytes : 1);
        u->stored = malloc(c->options->compress ? bytes / c->grain * sizeof *u->stored : sizeof *u->stored);
        u->lost = malloc(LOST_BYTES(bytes));
    }
    if (!u || !u->data || !u->packed || !u->stored || !u->lost)
        stop(c, img_fail(&e, -ENOMEM, "no memory to copy '%s'", c->source->path), &e);
    else
        while (next_unit(c, u, &e)) {
            int r = copy_unit(c, u, &e);
            if (r < 0)
                stop(c, r, &e);
            else
                report(c, u);
        }
    if (u) {
        free(u->data);
        free(u->packed);
        free(u->stored);
        free(u->lost);
    }
    free(u);
    return NULL;
}

/* As many as wished, but for what they would take together: a worker with large clusters at a high level of compression
 * needs tens of MiB. */
static unsigned thread_count(const struct copy *c) {
    const struct img_copy_options *o = c->options;
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    uint64_t n = o->threads ? o->threads : cores > 0 ? (uint64_t)cores : 1, each = buffer_bytes(c);
    if (o->compress)
        each += buffer_bytes(c) + c->target->driver->compress_memory(c->target, o->compression_level);
    if (n > MEMORY_MOST / each)
        n = MEMORY_MOST / each;
    return n > MAX_THREADS ? MAX_THREADS : n ? (unsigned)n : 1;
}

static int run_workers(struct copy *c) {
    pthread_t threads[MAX_THREADS];
    unsigned n = thread_count(c), started = 0;
    while (started + 1 < n && pthread_create(&threads[started], NULL, worker, c) == 0)
        started++;
    worker(c); /* the caller works too: with no thread to be had it works alone */
    for (unsigned i = 0; i < started; i++)
        pthread_join(threads[i], NULL);
    return c->result;
}

static int check_request(const struct copy *c, struct img_error *err) {
    uint64_t size = img_size(c->target), start = c->options->target_offset, total = c->end - c->first;
    if (!c->target->writable)
        return img_fail(err, -EBADF, "'%s' is open for reading only", c->target->path);
    if (c->first > img_size(c->source) || total > img_size(c->source) - c->first)
        return img_fail(err, -EINVAL, "%llu bytes at %llu are not inside '%s', which has %llu bytes",
                        (unsigned long long)total, (unsigned long long)c->first, c->source->path,
                        (unsigned long long)img_size(c->source));
    if (start > size || total > size - start)
        return img_fail(err, -EINVAL, "%llu bytes of '%s' do not fit into '%s' at %llu of %llu",
                        (unsigned long long)total, c->source->path, c->target->path, (unsigned long long)start,
                        (unsigned long long)size);
    if (c->options->compress && !c->target->driver->compress)
        return img_fail(err, -ENOTSUP, "Compression not supported for the file format of '%s' (%s)", c->target->path,
                        c->target->driver->name);
    return c->options->compress ? c->target->driver->check_level(c->target, c->options->compression_level, err) : 0;
}

/* What the copy makes of the first sector of a target that is raw by probing only. */
static int guard_target(const struct copy *c, struct img_error *err) {
    uint8_t head[RAW_GUARDED];
    uint64_t total = c->end - c->first, count = total < RAW_GUARDED ? total : RAW_GUARDED;
    if (!count)
        return 0;
    int r = img_pread(c->source, head, count, c->first, err);
    if (r < 0 && c->options->salvage) {
        memset(head, 0, sizeof head);
        r = 0;
    }
    struct iovec iov = {head, count};
    return r < 0 ? r : request_guard(c->target, c->context, &iov, 1, count, c->options->target_offset, err);
}

static uint64_t size_below(struct img *layer, unsigned layers) {
    while (layers-- && layer)
        layer = layer->backing;
    return layer ? img_size(layer) : 0;
}

/* Hints for what the copy reads; who reads the source beside it loses nothing. */
static void read_once(struct img *layer, bool once) {
    for (; layer; layer = layer->backing) {
        struct storage *file = layer->driver->data(layer);
        if (file && file->ops->read_once)
            file->ops->read_once(file, once);
    }
}

/* How much room would have been enough. */
static void explain_no_space(const struct copy *c) {
    uint64_t bytes;
    if (!c->err || copy_count_data(c, &bytes) < 0)
        return;
    struct img_error e = *c->err;
    img_fail(c->err, e.code, "%s (%s%llu bytes of data were to be copied, %llu have been)", e.text,
             c->options->compress ? "before compression " : "", (unsigned long long)bytes,
             (unsigned long long)c->written);
}

/* All that the workers need is there but their buffers. */
static int run(struct copy *c) {
    bool guarded = request_is_guarded(c->target, c->options->target_offset);
    int r = 0;
    if (guarded) {
        pthread_mutex_lock(&c->target->first_sector);
        r = guard_target(c, c->err);
    }
    c->context->shared = true;
    if (r == 0)
        r = run_workers(c);
    if (guarded)
        pthread_mutex_unlock(&c->target->first_sector);
    return r;
}

int img_copy(struct img *source, struct img *target, const struct img_copy_options *options, struct img_error *err) {
    static const struct img_copy_options defaults = {.sparse_size = IMG_SPARSE_SIZE_DEFAULT};
    struct copy c = {.source = source, .target = target, .options = options ? options : &defaults, .err = err};
    c.first = c.next = c.options->source_offset;
    c.end = c.options->source_length ? c.first + c.options->source_length : img_size(source);
    c.base = c.options->target_offset - c.first;
    c.sparse = c.options->sparse_size;
    c.below_size = size_below(source, c.options->layers);
    if (target->driver == &luks_driver)
        c.sparse = 0; /* it has no holes: zeroes are data, which all workers encrypt */
    c.grain = img_cluster_size(target) > 4096 || c.options->compress ? img_cluster_size(target) : 4096;
    int r = check_request(&c, err);
    if (r == 0)
        r = offload_begin(&c, err);
    if (r < 0)
        return r;
    pthread_mutex_init(&c.claim, NULL);
    pthread_mutex_init(&c.lock, NULL);
    pthread_cond_init(&c.moved, NULL);
    trail_begin(&c.trail, target->driver->data(target));
    read_once(source, true);
    c.context = context_claim(&target->epochs);
    r = run(&c);
    context_release(&target->epochs, c.context);
    read_once(source, false);
    if (r == -ENOSPC)
        explain_no_space(&c);
    trail_end(&c.trail);
    offload_end(&c);
    pthread_mutex_destroy(&c.claim);
    pthread_mutex_destroy(&c.lock);
    pthread_cond_destroy(&c.moved);
    return r;
}
