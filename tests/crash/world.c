/* SPDX-License-Identifier: GPL-3.0-or-later */
/* world.c - the guest's operations, told to the model (world.h). */
#include "world.h"

#include <errno.h>
#include <inttypes.h>

#include "scenario.h"
#include "who.h"

static void must(struct world *w, int rc, const char *what, uint64_t offset, const struct img_error *err) {
    if (rc)
        DIE("%s: %s at %#" PRIx64 " fails: %s", w->scenario->name, what, offset, err->text);
}

void world_open(struct world *w) {
    const struct scenario *s = w->scenario;
    struct img_open_options options = {
        .flags = IMG_OPEN_WRITE,
        .cache = s->cache,
        .format = w->judge.format,
        .key = key_of(keys_now(&w->judge.keys)),
        .l2_cache = s->l2_cache ? s->l2_cache : JUDGE_CACHE,
        .refcount_cache = s->refcount_cache ? s->refcount_cache : JUDGE_CACHE,
    };
    struct img_error err = {0};
    log_publish(w->log);
    must(w, image_open_storage(log_open(w->log, 0, true), &options, &w->image, &err), "opening", 0, &err);
}

void world_close(struct world *w) {
    struct img_error err = {0};
    struct bytes devices[LOG_DEVICES] = {{0}};
    guest_leave(w);
    must(w, img_close(w->image, &err), "closing", 0, &err);
    w->image = NULL;
    for (unsigned d = 0; d < w->log->ndevices; d++)
        bytes_clone(&devices[d], &w->log->devices[d].now);
    if (!judge_clean(&w->judge, devices, 0))
        DIE("%s: %s", w->scenario->name, w->judge.last);
    for (unsigned d = 0; d < w->log->ndevices; d++)
        bytes_free(&devices[d]);
    log_publish(w->log);
}

static int fault(void *opaque, const struct record *record) {
    struct world *w = opaque;
    if (!w->fault.error || record->kind != w->fault.kind || w->fault.by_flush != who.flushing || w->fault.after-- > 0)
        return 0;
    int error = w->fault.error;
    w->fault.error = 0;
    return error;
}

void world_fail(struct world *w, enum record_kind kind, bool by_flush, unsigned after, int error) {
    w->log->opaque = w;
    w->log->fault = fault;
    w->fault.kind = kind;
    w->fault.by_flush = by_flush;
    w->fault.after = after;
    w->fault.error = error;
}

/* ---- one request, by calls or through a queue --------------------------------------------------------- */

static _Thread_local struct img_queue *mine; /* this thread's */

struct img_queue *guest_queue(struct world *w, unsigned depth) {
    struct img_error err = {0};
    struct img_queue *queue;
    struct img_queue_options options = {.depth = depth, .flags = w->executor == VIA_THREADS ? IMG_QUEUE_THREADS : 0};
    must(w, img_queue_create(w->image, &options, &queue, &err), "a queue", 0, &err);
    if (img_queue_has_ring(queue) != (w->executor == VIA_RING))
        DIE("%s: there is no io_uring", w->scenario->name);
    return queue;
}

void guest_leave(struct world *w) {
    (void)w;
    img_queue_destroy(mine);
    mine = NULL;
}

static int perform_queued(struct world *w, const struct img_io *io, struct img_error *err) {
    struct img_completion c;
    if (!mine)
        mine = guest_queue(w, 2);
    if (img_queue_submit(mine, io, 1) != 1)
        DIE("%s: an idle queue takes no request", w->scenario->name);
    while (img_queue_reap(mine, &c, 1) == 0)
        if (img_queue_wait(mine, -1))
            DIE("%s: waiting fails", w->scenario->name);
    if (c.cookie != io->cookie)
        DIE("%s: somebody else's request is complete", w->scenario->name);
    if (c.result < 0)
        *err = *img_queue_error(mine);
    return c.result;
}

static int perform(struct world *w, const struct img_io *io, struct img_error *err) {
    if (w->executor != VIA_CALLS)
        return perform_queued(w, io, err);
    switch (io->op) {
    case IMG_IO_READ:
        return img_preadv(w->image, io->iov, io->niov, io->offset, err);
    case IMG_IO_WRITE:
        return img_pwritev(w->image, io->iov, io->niov, io->offset, err);
    case IMG_IO_ZERO:
        return img_write_zeroes(w->image, io->offset, io->length, io->flags, err);
    case IMG_IO_DISCARD:
        return img_discard(w->image, io->offset, io->length, err);
    case IMG_IO_FLUSH:
        return img_flush(w->image, err);
    }
    return -EINVAL;
}

/* ---- operations ----------------------------------------------------------------------------------- */

uint8_t *guest_fresh_bytes(struct world *w, uint64_t length) {
    uint64_t stamp = ++w->stamp;
    uint8_t *data = xcalloc(1, length);
    for (uint64_t i = 0; i < length; i++)
        data[i] = (uint8_t)(mix64(stamp << 32 | i / 8) >> i % 8 * 8) | 1;
    return data;
}

static int write_bytes(struct world *w, uint8_t *data, uint64_t offset, uint64_t length, struct img_error *err) {
    struct iovec iov = {data, length};
    if (offset >= MODEL_STATE)
        return img_vmstate_write(w->image, data, length, offset - MODEL_STATE, err);
    return perform(w, &(struct img_io){.op = IMG_IO_WRITE, .iov = &iov, .niov = 1, .offset = offset}, err);
}

static int write_fresh(struct world *w, uint64_t offset, uint64_t length, struct img_error *err) {
    uint8_t *data = guest_fresh_bytes(w, length);
    struct model_event *event = model_write(w->model, offset, length, data);
    int rc = write_bytes(w, data, offset, length, err);
    model_done(w->model, event, rc == 0);
    free(data);
    return rc;
}

int guest_write_may_fail(struct world *w, uint64_t offset, uint64_t length) {
    struct img_error err = {0};
    return write_fresh(w, offset, length, &err);
}

void guest_write(struct world *w, uint64_t offset, uint64_t length) {
    struct img_error err = {0};
    must(w, write_fresh(w, offset, length, &err), "a write", offset, &err);
}

void guest_write_compressed(struct world *w, uint64_t offset, uint64_t length) {
    struct img_error err = {0};
    uint8_t *data = xcalloc(1, length);
    uint64_t stamp = ++w->stamp;
    for (uint64_t i = 0; i < length; i += 32)
        memcpy(data + i, &stamp, sizeof(stamp));
    /* some clusters hardly shrink, so that a host cluster holds now one, now several */
    for (uint64_t i = 0; i < length; i++)
        if (mix64(stamp ^ i / 4096) % 3 == 0 && i % 4096 < 2600)
            data[i] = (uint8_t)mix64(stamp << 32 | i);
    struct model_event *event = model_write(w->model, offset, length, data);
    must(w, img_pwrite_compressed(w->image, data, length, offset, &err), "a compressed write", offset, &err);
    model_done(w->model, event, true);
    free(data);
}

void guest_zero(struct world *w, uint64_t offset, uint64_t length, bool unmap) {
    struct img_error err = {0};
    struct img_io io = {.op = IMG_IO_ZERO, .offset = offset, .length = length, .flags = unmap ? IMG_ZERO_MAY_UNMAP : 0};
    struct model_event *event = model_write(w->model, offset, length, NULL);
    must(w, perform(w, &io, &err), "zeroing", offset, &err);
    model_done(w->model, event, true);
}

void guest_discarded(struct world *w, uint64_t offset, uint64_t length, uint64_t *from, uint64_t *to) {
    uint64_t cluster = img_cluster_size(w->image);
    *from = (offset + cluster - 1) / cluster * cluster;
    *to = offset + length;
    if (*to != img_size(w->image)) /* the image's last cluster may be short */
        *to = *to / cluster * cluster;
    if (!judge_discards(w->image) || *to < *from)
        *to = *from;
}

void guest_discard(struct world *w, uint64_t offset, uint64_t length) {
    struct img_error err = {0};
    uint64_t from, to;
    struct model_event *event = NULL;
    guest_discarded(w, offset, length, &from, &to);
    if (from < to)
        event = model_write(w->model, from, to - from, NULL);
    must(w, perform(w, &(struct img_io){.op = IMG_IO_DISCARD, .offset = offset, .length = length}, &err), "a discard",
         offset, &err);
    if (event)
        model_done(w->model, event, true);
}

static int flush(struct world *w, struct img_error *err) {
    struct model_event *event = model_flush(w->model);
    int rc = perform(w, &(struct img_io){.op = IMG_IO_FLUSH}, err);
    model_done(w->model, event, rc == 0);
    return rc;
}

int guest_flush_may_fail(struct world *w) {
    struct img_error err = {0};
    return flush(w, &err);
}

void guest_flush(struct world *w) {
    struct img_error err = {0};
    must(w, flush(w, &err), "a flush", 0, &err);
}

int guest_read(struct world *w, void *buffer, uint64_t length, uint64_t offset, struct img_error *err) {
    struct iovec iov = {buffer, length};
    return perform(w, &(struct img_io){.op = IMG_IO_READ, .iov = &iov, .niov = 1, .offset = offset}, err);
}

void guest_resize(struct world *w, uint64_t size) {
    struct img_error err = {0};
    struct model_event *event = model_resize(w->model, size);
    uint32_t flags = size < img_size(w->image) ? IMG_RESIZE_SHRINK : 0;
    must(w, img_resize(w->image, size, IMG_PREALLOCATION_OFF, flags, &err), "resizing", size, &err);
    model_done(w->model, event, true);
}

void guest_verify(struct world *w) {
    struct img_error err = {0};
    size_t bytes = model_bytes(w->model);
    uint8_t *expected = xcalloc(2, bytes), *found = expected + bytes;
    model_newest(w->model, expected);
    must(w, judge_read(w->model, w->image, found, &err), "reading", 0, &err);
    for (size_t i = 0; i < bytes; i++)
        if (found[i] != expected[i])
            DIE("%s: byte %#zx of the windows reads as %02x, expected %02x", w->scenario->name, i, found[i],
                expected[i]);
    free(expected);
}

void guest_mix(struct world *w, struct rng *rng, const char *kinds, unsigned count, unsigned flush_every, uint64_t from,
               uint64_t to) {
    uint64_t cluster = img_cluster_size(w->image);
    for (unsigned i = 1; i <= count; i++) {
        char kind = kinds[rng_below(rng, strlen(kinds))];
        uint64_t unit = kind == 'c' || kind == 'd' ? cluster : MODEL_SECTOR;
        uint64_t first = rng_below(rng, (to - from) / unit);
        uint64_t most = min_u64((to - from) / unit - first, (kind == 'd' ? 8 : 3) * cluster / unit);
        uint64_t offset = from + first * unit, length = (1 + rng_below(rng, most)) * unit;
        switch (kind) {
        case 'w':
            guest_write(w, offset, length);
            break;
        case 'c':
            guest_write_compressed(w, offset, length);
            break;
        case 'd':
            guest_discard(w, offset, length);
            break;
        default:
            guest_zero(w, offset, length, kind == 'u');
        }
        if (flush_every && i % flush_every == 0)
            guest_flush(w);
    }
}
