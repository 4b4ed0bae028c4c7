/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* chain.c - what binds an overlay to the layers below it: another backing file's name, and an overlay emptied.
 *
 * To rebase, each range that the image does not hold is compared in both chains. Where they differ the old content is
 * written into the image, in grains (clusters, or subclusters), as a guest would write it. Then a round, and only then
 * the header with the new name: a header that came first would show the new chain where the copies are not durable yet.
 *
 * To empty is to drop every entry; the layer below is durable and shows the same, so the order does not matter.
 * Clusters are given back as after a discard.
 *
 * The gate is closed to everybody else who writes; this thread's own context passes it.
 */
#include "qcow2.h"

#include "../io.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define CHUNK (2ull << 20) /* bytes of each chain that are compared at once; a multiple of every grain */

struct rebase {
    struct qcow2 *q;
    struct img_context *c;
    struct img *from, *to; /* the chains; NULL: none */
    const struct img_rebase_options *options;
    uint64_t grain, size;
    uint8_t *was, *will; /* CHUNK bytes each */
};

/* ---- what the two chains show ---- */

/* A chain's extent at `at`; what is behind its end, and a chain that is not there, is zero. */
static int look(struct img *chain, uint64_t at, uint64_t length, struct img_extent *x, struct img_error *err) {
    uint64_t size = chain ? img_size(chain) : 0;
    if (at < size)
        return img_map(chain, at, length < size - at ? length : size - at, false, x, err);
    *x = (struct img_extent){.start = at, .length = length, .flags = IMG_EXTENT_ZERO};
    return 0;
}

/* The same bytes of the same file, or zeroes on both sides. */
static bool certainly_same(const struct img_extent *a, const struct img_extent *b) {
    const uint32_t place = IMG_EXTENT_DATA | IMG_EXTENT_OFFSET;
    if (a->flags & b->flags & IMG_EXTENT_ZERO)
        return true;
    return (a->flags & b->flags & place) == place && !((a->flags | b->flags) & IMG_EXTENT_COMPRESSED) &&
           a->host_offset == b->host_offset && strcmp(a->file, b->file) == 0;
}

/* How many bytes from `at` on are the same without being read, in whole grains. */
static int same_without_reading(struct rebase *b, uint64_t at, uint64_t length, uint64_t *same, struct img_error *err) {
    uint64_t done = 0;
    while (done < length) {
        struct img_extent was = {0}, will = {0};
        int r = look(b->from, at + done, length - done, &was, err);
        if (r == 0)
            r = look(b->to, at + done, length - done, &will, err);
        if (r < 0)
            return r;
        if (!certainly_same(&was, &will))
            break;
        done += was.length < will.length ? was.length : will.length;
    }
    *same = done < length ? done & ~(b->grain - 1) : done;
    return 0;
}

static int read_chain(struct img *chain, uint8_t *buffer, uint64_t at, uint64_t length, struct img_error *err) {
    uint64_t size = chain ? img_size(chain) : 0, there = at < size ? size - at : 0;
    if (there > length)
        there = length;
    memset(buffer + there, 0, length - there);
    return there ? img_pread(chain, buffer, there, at, err) : 0;
}

/* ---- copying ---- */

static int keep(struct rebase *b, const uint8_t *bytes, bool zero, uint64_t at, uint64_t length,
                struct img_error *err) {
    struct iovec iov = {(void *)bytes, length};
    struct iov_cursor data = iov_begin(&iov, 1);
    if (zero && b->q->v3 && !b->q->external)
        return io_clear(b->q->image, b->c, IMG_OP_ZERO, false, at, length, err);
    return io_write(b->q->image, b->c, &data, length, at, err);
}

static uint64_t grain_at(const struct rebase *b, uint64_t at, uint64_t length) {
    return length - at < b->grain ? length - at : b->grain;
}

static bool grain_differs(const struct rebase *b, uint64_t at, uint64_t length) {
    return memcmp(b->was + at, b->will + at, grain_at(b, at, length)) != 0;
}

/* Writes the runs of grains that differ, zeroes apart from data. */
static int keep_what_differs(struct rebase *b, uint64_t offset, uint64_t length, struct img_error *err) {
    int r = 0;
    for (uint64_t at = 0, end; r == 0 && at < length; at = end) {
        end = at + grain_at(b, at, length);
        if (!grain_differs(b, at, length))
            continue;
        bool zero = img_is_zero(b->was + at, end - at);
        while (end < length && grain_differs(b, end, length) &&
               img_is_zero(b->was + end, grain_at(b, end, length)) == zero)
            end += grain_at(b, end, length);
        r = keep(b, b->was + at, zero, offset + at, end - at, err);
    }
    return r;
}

static int compare_range(struct rebase *b, uint64_t at, uint64_t length, struct img_error *err) {
    while (length) {
        uint64_t step;
        int r = same_without_reading(b, at, length, &step, err);
        if (r == 0 && !step) {
            step = length < CHUNK ? length : CHUNK;
            r = read_chain(b->from, b->was, at, step, err);
            if (r == 0)
                r = read_chain(b->to, b->will, at, step, err);
            if (r == 0)
                r = keep_what_differs(b, at, step, err);
        }
        if (r < 0)
            return r;
        at += step;
        length -= step;
        if (b->options->progress && b->options->progress(b->options->opaque, at, b->size))
            return img_fail(err, -ECANCELED, "the comparison of '%s' was stopped", b->q->image->path);
    }
    return 0;
}

static int keep_content(struct rebase *b, struct img_error *err) {
    int r = 0;
    for (uint64_t at = 0; r == 0 && at < b->size;) {
        struct img_extent own;
        r = img_map(b->q->image, at, b->size - at, true, &own, err);
        if (r == 0 && !(own.flags & IMG_EXTENT_PRESENT))
            r = compare_range(b, at, own.length, err);
        at += own.length;
    }
    return r;
}

static int make_independent(struct rebase *b, struct img_error *err) {
    struct qcow2 *q = b->q;
    b->grain = q->extended ? 1ull << q->subcluster_bits : q->cluster_size;
    b->size = atomic_load(&q->image->size);
    b->was = aligned_alloc(4096, CHUNK);
    b->will = aligned_alloc(4096, CHUNK);
    int r = b->was && b->will ? 0 : img_fail(err, -ENOMEM, "no memory to compare backing files");
    q->below_changes = true;
    if (r == 0)
        r = keep_content(b, err);
    q->below_changes = false;
    if (r == 0)
        r = round_run(q, err);
    free(b->was);
    free(b->will);
    return r;
}

/* ---- the name ---- */

static int copy_name(const char *name, char **out, struct img_error *err) {
    *out = name && *name ? strdup(name) : NULL;
    return name && *name && !*out ? img_fail(err, -ENOMEM, "no memory for a name") : 0;
}

/* Takes the new names over; those that are not in the header afterwards are freed. */
static int switch_names(struct qcow2 *q, char *file, char *format, struct img_error *err) {
    struct qcow2_header *h = &q->header;
    char *old_file = h->backing_file, *old_format = h->backing_format;
    uint64_t autoclear = h->autoclear;
    h->backing_file = file;
    h->backing_format = format;
    h->autoclear &= QCOW2_AUTOCLEAR_KNOWN;
    int r = header_switch(q, err);
    if (r < 0) {
        h->backing_file = old_file;
        h->backing_format = old_format;
        h->autoclear = autoclear;
        old_file = file;
        old_format = format;
    }
    free(old_file);
    free(old_format);
    return r;
}

static int set_names(struct qcow2 *q, const char *file, const char *format, struct img_error *err) {
    char *new_file = NULL, *new_format = NULL;
    int r = copy_name(file, &new_file, err);
    if (r == 0)
        r = copy_name(new_file ? format : NULL, &new_format, err);
    if (r == 0)
        return switch_names(q, new_file, new_format, err);
    free(new_file);
    free(new_format);
    return r;
}

int qcow2_rebase(struct img *image, struct img *chain, const struct img_rebase_options *options,
                 struct img_error *err) {
    struct qcow2 *q = qcow2_of(image);
    struct rebase b = {.q = q, .from = image->backing, .to = chain, .options = options};
    int r = writes_allowed(q, err);
    if (r == 0 && q->raw_external && options->backing_file && *options->backing_file)
        r = img_fail(err, -EINVAL, "'%s' has a raw data file, which must be readable without a backing file",
                     image->path);
    if (r < 0)
        return r;
    b.c = context_claim(&image->epochs);
    pthread_mutex_lock(&q->role);
    if (!options->unsafe)
        r = first_change(q, err);
    gate_close(&image->epochs, false); /* img_map reads */
    b.c->passes_gate = true;
    if (r == 0 && !options->unsafe)
        r = make_independent(&b, err);
    if (r == 0)
        r = set_names(q, options->backing_file, options->backing_format, err);
    gate_open(&image->epochs, false);
    pthread_mutex_unlock(&q->role);
    context_release(&image->epochs, b.c);
    return r;
}

/* ---- an overlay emptied ---- */

/* What it let go is given back, and the file may become shorter than it was at open. */
static int give_back(struct qcow2 *q, struct img_error *err) {
    int r = round_run(q, err);
    if (r == 0)
        r = limbo_release(q, err);
    q->alloc.keep = 1;
    return r;
}

int qcow2_empty(struct img *image, struct img_error *err) {
    struct qcow2 *q = qcow2_of(image);
    struct img_context *c = context_claim(&image->epochs);
    pthread_mutex_lock(&q->role);
    int r = writes_allowed(q, err);
    if (r == 0)
        r = first_change(q, err);
    if (r == 0) {
        uint64_t end = (atomic_load(&image->size) + q->cluster_size - 1) & ~(q->cluster_size - 1);
        gate_close(&image->epochs, true);
        c->passes_gate = true;
        r = entries_drop(q, c, 0, end, err);
        if (r == 0)
            r = give_back(q, err);
        gate_open(&image->epochs, true);
    }
    pthread_mutex_unlock(&q->role);
    context_release(&image->epochs, c);
    return r;
}
