/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* offload.c - data that the host copies, or shares, so that no byte of it passes through this process.
 *
 * Which units are worth it is decided from the source's extents before a byte is read, so the target does not depend on
 * what happens later: it gets clusters for all of such a unit, zeroes in it included. Where the bytes lie is looked up
 * anew when they are moved, with the source's clusters pinned. Whatever the host then refuses is read and written.
 */
#include "copy.h"

#include <errno.h>
#include <stdlib.h>

#include "error.h"
#include "io.h"
#include "move.h"

struct offload {
    struct storage *to;
    bool copies;
    unsigned nlayers;
    uint64_t block[IMG_MAX_DEPTH]; /* of each layer; 0: its bytes are read */
};

/* Where the next byte goes. */
struct place {
    const struct copy *copy;
    struct storage *file;
    uint64_t host;
    uint8_t *buffer; /* UNIT_BYTES */
};

static uint64_t block_of(const struct offload *o, struct img *layer) {
    struct storage *from = layer->crypto ? NULL : layer->driver->data(layer);
    return from ? o->to->ops->clone_block(o->to, from, o->copies) : 0;
}

int offload_begin(struct copy *c, struct img_error *err) {
    const struct img_copy_options *options = c->options;
    struct storage *to = c->target->driver->data(c->target);
    c->offload = NULL;
    /* who wants every byte stored, or compressed, or runs of zeroes of his own length found, wants them read */
    if (options->offload == IMG_OFFLOAD_NONE || options->compress || options->salvage || !c->sparse ||
        !to->ops->clone_block || c->target->crypto)
        return 0;
    struct offload *o = calloc(1, sizeof *o);
    if (!o)
        return img_fail(err, -ENOMEM, "no memory to copy '%s'", c->source->path);
    *o = (struct offload){.to = to, .copies = options->offload == IMG_OFFLOAD_COPY};
    for (struct img *layer = c->source; layer && o->nlayers < IMG_MAX_DEPTH; layer = layer->backing)
        o->block[o->nlayers++] = block_of(o, layer);
    c->offload = o;
    return 0;
}

void offload_end(struct copy *c) {
    free(c->offload);
}

bool offload_takes(const struct copy *c, const struct img_extent *x) {
    const uint32_t needed = IMG_EXTENT_DATA | IMG_EXTENT_OFFSET;
    if (!c->offload || x->depth >= c->offload->nlayers || (x->flags & needed) != needed ||
        x->flags & (IMG_EXTENT_COMPRESSED | IMG_EXTENT_ZERO))
        return false;
    uint64_t block = c->offload->block[x->depth];
    return block && c->grain % block == 0 && (x->host_offset - x->start - c->base) % block == 0;
}

/* ---- moving ---- */

static int write_out(struct place *p, const struct img_step *part, struct img_error *err) {
    int r = storage_write(p->file, p->buffer, part->length, p->host);
    if (r < 0)
        return img_fail_errno(err, r, "could not write %llu bytes at guest offset %llu of '%s'",
                              (unsigned long long)part->length, (unsigned long long)(p->copy->base + part->guest),
                              p->copy->target->path);
    p->host += part->length;
    return 0;
}

/* By reading and writing. */
static int move_bytes(struct place *p, struct img *layer, struct img_step step, struct img_error *err) {
    while (step.length) {
        struct img_step part = step;
        if (part.length > UNIT_BYTES)
            part.length = UNIT_BYTES;
        struct iovec iov = {p->buffer, part.length};
        struct iov_cursor to = iov_begin(&iov, 1);
        int r = move_step(layer, &part, &to, err);
        if (r == 0)
            r = write_out(p, &part, err);
        if (r < 0)
            return r;
        step_skip(&step, part.length);
    }
    return 0;
}

static int move_host(struct place *p, struct img *layer, struct img_step step, uint64_t block, struct img_error *err) {
    uint64_t whole = block ? step.length & ~(block - 1) : 0;
    const struct offload *o = p->copy->offload;
    if (whole && p->host % block == 0 && step.host % block == 0 && p->file == o->to &&
        p->file->ops->clone(p->file, p->host, step.file, step.host, whole, o->copies) == 0) {
        p->host += whole;
        step_skip(&step, whole);
    }
    return move_bytes(p, layer, step, err);
}

static int move_range(struct place *p, struct img *layer, unsigned depth, uint64_t offset, uint64_t length,
                      struct img_error *err);

/* What the layer below has of the step, zeroes behind its end. */
static int move_below(struct place *p, struct img *layer, unsigned depth, struct img_step step, struct img_error *err) {
    uint64_t there = step_bytes_below(layer, &step);
    int r = there ? move_range(p, layer->backing, depth + 1, step.guest, there, err) : 0;
    step.kind = IMG_STEP_ZERO;
    step_skip(&step, there);
    return r < 0 ? r : move_bytes(p, layer, step, err);
}

static int move_plan_steps(struct place *p, struct img *layer, unsigned depth, const struct img_plan *plan,
                           struct img_error *err) {
    const struct offload *o = p->copy->offload;
    int r = 0;
    for (unsigned i = 0; r == 0 && i < plan->nsteps; i++) {
        const struct img_step *step = &plan->steps[i];
        if (step->kind == IMG_STEP_HOST)
            r = move_host(p, layer, *step, depth < o->nlayers ? o->block[depth] : 0, err);
        else if (step->kind == IMG_STEP_BELOW)
            r = move_below(p, layer, depth, *step, err);
        else
            r = move_bytes(p, layer, *step, err);
    }
    return r;
}

static int move_range(struct place *p, struct img *layer, unsigned depth, uint64_t offset, uint64_t length,
                      struct img_error *err) {
    struct img_context *context = context_claim(&layer->epochs);
    int r = 0;
    while (r == 0 && length) {
        struct img_plan plan;
        plan_begin(&plan, IMG_OP_READ, offset, length);
        r = io_open(layer, context, &plan, err);
        if (r < 0)
            break;
        r = move_plan_steps(p, layer, depth, &plan, err);
        plan_close(&layer->epochs, &plan);
        offset += plan.length;
        length -= plan.length;
    }
    context_release(&layer->epochs, context);
    return r;
}

int offload_move(struct copy *c, const struct img_plan *plan, uint8_t *buffer, struct img_error *err) {
    const struct img_step *step = &plan->steps[0];
    struct place p = {.copy = c, .file = step->file, .host = step->host, .buffer = buffer};
    if (plan->head_fill != IMG_FILL_NONE || plan->tail_fill != IMG_FILL_NONE)
        return img_fail(err, -EIO, "whole clusters at guest offset %llu of '%s' have edges to fill",
                        (unsigned long long)plan->offset, c->target->path);
    return move_range(&p, c->source, 0, plan->offset - c->base, plan->length, err);
}
