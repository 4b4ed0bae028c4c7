/* SPDX-License-Identifier: GPL-3.0-or-later */
/* deep.c - several requests under way in one queue (deep.h). */
#include "deep.h"

#include <errno.h>

#include "scenario.h"

enum { PATIENCE_MS = 20000 };

struct asked {
    bool busy;
    unsigned number;
    uint64_t offset, length;
    struct model_event *event; /* NULL: a discard without effect */
    uint8_t *data;
    struct iovec iov;
};

struct deep {
    struct world *world;
    struct img_queue *queue;
    struct asked slots[DEEP_MOST];
    struct img_io staged[DEEP_MOST];
    unsigned nstaged, under_way, numbers, failures;
    int expected;
};

struct deep *deep_open(struct world *w) {
    struct deep *d = xcalloc(1, sizeof(*d));
    d->world = w;
    d->queue = guest_queue(w, DEEP_MOST);
    return d;
}

void deep_close(struct deep *d) {
    deep_collect(d, 0);
    img_queue_destroy(d->queue);
    free(d);
}

void deep_expect(struct deep *d, int expected) {
    d->expected = expected;
}
unsigned deep_under_way(const struct deep *d) {
    return d->under_way;
}
unsigned deep_failures(const struct deep *d) {
    return d->failures;
}

unsigned deep_ask(struct deep *d, char kind, uint64_t offset, uint64_t length) {
    struct world *w = d->world;
    struct img_io *io = &d->staged[d->nstaged++];
    unsigned slot = 0;
    if (d->under_way == DEEP_MOST)
        DIE("%s: more requests than the queue is deep", w->scenario->name);
    while (d->slots[slot].busy)
        slot++;
    struct asked *a = &d->slots[slot];
    *a = (struct asked){.busy = true, .number = ++d->numbers, .offset = offset, .length = length};
    *io = (struct img_io){.offset = offset, .length = length, .cookie = a->number};
    d->under_way++;
    if (kind == 'f') {
        io->op = IMG_IO_FLUSH;
        a->event = model_flush(w->model);
    } else if (kind == 'w') {
        a->data = guest_fresh_bytes(w, length);
        a->iov = (struct iovec){a->data, length};
        a->event = model_write(w->model, offset, length, a->data);
        io->op = IMG_IO_WRITE;
        io->iov = &a->iov;
        io->niov = 1;
    } else if (kind == 'd') {
        uint64_t from, to;
        guest_discarded(w, offset, length, &from, &to);
        if (from < to)
            a->event = model_write(w->model, from, to - from, NULL);
        io->op = IMG_IO_DISCARD;
    } else {
        a->event = model_write(w->model, offset, length, NULL);
        io->op = IMG_IO_ZERO;
        io->flags = kind == 'u' ? IMG_ZERO_MAY_UNMAP : 0;
    }
    return a->number;
}

void deep_submit(struct deep *d) {
    if (d->nstaged && img_queue_submit(d->queue, d->staged, d->nstaged) != d->nstaged)
        DIE("%s: the queue does not take all requests", d->world->scenario->name);
    d->nstaged = 0;
}

static void end(struct deep *d, const struct img_completion *c) {
    struct world *w = d->world;
    unsigned slot = 0;
    while (slot < DEEP_MOST && (!d->slots[slot].busy || d->slots[slot].number != c->cookie))
        slot++;
    if (slot == DEEP_MOST)
        DIE("%s: request %u is complete, and is not under way", w->scenario->name, (unsigned)c->cookie);
    struct asked *a = &d->slots[slot];
    if (a->event)
        model_done(w->model, a->event, c->result == 0);
    if (c->result && c->result != d->expected)
        DIE("%s: request %u at %#llx ends with %d: %s", w->scenario->name, a->number, (unsigned long long)a->offset,
            c->result, img_queue_error(d->queue)->text);
    d->failures += c->result != 0;
    free(a->data);
    a->busy = false;
    d->under_way--;
}

void deep_collect(struct deep *d, unsigned left) {
    struct img_completion done[DEEP_MOST];
    deep_submit(d);
    while (d->under_way > left) {
        int rc = img_queue_wait(d->queue, PATIENCE_MS);
        if (rc)
            DIE("%s: %u requests are under way and none ends (%d)", d->world->scenario->name, d->under_way, rc);
        unsigned n = img_queue_reap(d->queue, done, DEEP_MOST);
        for (unsigned i = 0; i < n; i++)
            end(d, &done[i]);
    }
}

int deep_cancel(struct deep *d, unsigned number) {
    return img_queue_cancel(d->queue, number);
}

static bool overlaps(const struct deep *d, uint64_t offset, uint64_t length) {
    for (unsigned i = 0; i < DEEP_MOST; i++) {
        const struct asked *a = &d->slots[i];
        if (a->busy && a->length && offset < a->offset + a->length && a->offset < offset + length)
            return true;
    }
    return false;
}

void deep_mix(struct deep *d, struct rng *rng, const char *kinds, unsigned count, unsigned flush_every, bool apart,
              uint64_t from, uint64_t to) {
    uint64_t cluster = img_cluster_size(d->world->image);
    for (unsigned i = 1; i <= count; i++) {
        char kind = kinds[rng_below(rng, strlen(kinds))];
        uint64_t unit = kind == 'd' ? cluster : MODEL_SECTOR;
        uint64_t first = rng_below(rng, (to - from) / unit);
        uint64_t most = min_u64((to - from) / unit - first, (kind == 'd' ? 8 : 3) * cluster / unit);
        uint64_t offset = from + first * unit, length = (1 + rng_below(rng, most)) * unit;
        while (apart && overlaps(d, offset, length))
            deep_collect(d, d->under_way - 1);
        deep_ask(d, kind, offset, length);
        if (flush_every && i % flush_every == 0)
            deep_ask(d, 'f', 0, 0);
        if (rng_below(rng, 2))
            deep_submit(d);
        if (d->under_way + 2 > DEEP_MOST)
            deep_collect(d, (unsigned)rng_below(rng, DEEP_MOST - 2));
        else if (rng_below(rng, 4) == 0)
            deep_collect(d, d->under_way - 1);
    }
}
