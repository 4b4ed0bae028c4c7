/* SPDX-License-Identifier: GPL-3.0-or-later */
/* states.c - snapshots that the run itself makes, goes back to and deletes; each is kept as a byte array.
 *
 * Where a discard leaves it open what a sector reads as, everything is read first: a snapshot has one content.
 */
#include "model.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool states_possible(const struct config *c) {
    return !c->layer[0].raw && !c->layer[0].data_file;
}

static void name_of(const struct own_state *s, char name[24]) {
    snprintf(name, 24, "own%u", s->number);
}

/* Counts of few bits may be full: then nothing has changed. */
static bool went_well(const struct config *c, int rc, const char *what, const struct img_error *err) {
    if (rc == -EOVERFLOW && c->layer[0].refcount_bits < 8)
        return false;
    if (rc)
        model_fail("%s: %s", what, err->text);
    return true;
}

static void create(struct run *run, struct own_state *s) {
    struct img_error err = {0};
    char name[24];
    s->number = ++run->own_made;
    name_of(s, name);
    check_whole(run);
    model_note("%llu: snapshot %s", (unsigned long long)run->operations, name);
    if (!went_well(&run->config, img_snapshot_create(run->image, name, NULL, &err), "img_snapshot_create", &err))
        return;
    s->size = run->shadow.size;
    s->bytes = must_allocate(s->size);
    memcpy(s->bytes, run->shadow.bytes, s->size);
}

static void apply(struct run *run, const struct own_state *s) {
    struct img_error err = {0};
    char name[24];
    name_of(s, name);
    model_note("%llu: back to snapshot %s", (unsigned long long)run->operations, name);
    int rc = img_snapshot_apply(run->image, name, &err);
    if (rc == -EBUSY && bitmaps_are_there(run))
        return;
    if (rc == -ENOTSUP && run->config.layer[0].version == 2 && s->size != run->shadow.size)
        return;
    if (!went_well(&run->config, rc, "img_snapshot_apply", &err))
        return;
    shadow_resize(&run->shadow, s->size);
    shadow_write(&run->shadow, s->bytes, 0, s->size);
    if (img_size(run->image) != s->size)
        model_fail("img_size is %llu after going back to a disk of %llu", (unsigned long long)img_size(run->image),
                   (unsigned long long)s->size);
}

static void drop(struct run *run, struct own_state *s) {
    struct img_error err = {0};
    char name[24];
    name_of(s, name);
    model_note("%llu: delete snapshot %s", (unsigned long long)run->operations, name);
    if (img_snapshot_delete(run->image, name, &err))
        model_fail("img_snapshot_delete: %s", err.text);
    free(s->bytes);
    s->bytes = NULL;
}

static int see(void *opaque, uint64_t start, uint64_t length) {
    memset((uint8_t *)opaque + start, 1, length);
    return 0;
}

/* What differs is told. */
static void compare_states(struct run *run, const struct own_state *s) {
    struct img_error err = {0};
    char name[24];
    uint64_t common = s->size < run->shadow.size ? s->size : run->shadow.size;
    uint8_t *told = must_allocate(s->size > run->shadow.size ? s->size : run->shadow.size);
    name_of(s, name);
    check_whole(run);
    memset(told, 0, common);
    if (img_snapshot_diff(run->image, name, NULL, see, told, &err))
        model_fail("img_snapshot_diff: %s", err.text);
    for (uint64_t i = 0; i < common; i++)
        if (s->bytes[i] != run->shadow.bytes[i] && !told[i])
            model_fail("offset %llu differs from %s, and img_snapshot_diff does not say so", (unsigned long long)i,
                       name);
    free(told);
}

void op_states(struct run *run) {
    if (!states_possible(&run->config))
        return;
    flow_collect(run);
    struct own_state *s = &run->own[rng_below(&run->rng, OWN_STATES)];
    switch (rng_below(&run->rng, 3)) {
    case 0:
        s->bytes ? drop(run, s) : create(run, s);
        break;
    case 1:
        s->bytes ? apply(run, s) : create(run, s);
        break;
    default:
        s->bytes ? compare_states(run, s) : create(run, s);
    }
}

void states_beside(struct run *run, unsigned number) {
    struct img_error err = {0};
    char name[24];
    if (!states_possible(&run->config))
        return;
    snprintf(name, sizeof(name), "beside%u", number);
    if (went_well(&run->config, img_snapshot_create(run->image, name, NULL, &err), "a snapshot beside writers", &err) &&
        img_snapshot_delete(run->image, name, &err))
        model_fail("a deletion beside writers: %s", err.text);
}

static void compare_state(struct run *run, const struct own_state *s) {
    char name[24];
    uint64_t size;
    struct img_error err = {0};
    struct img *image;
    name_of(s, name);
    uint8_t *theirs = qemu_content(run, name, &size); /* in the size of the active state */
    if (memcmp(s->bytes, theirs, s->size < size ? s->size : size))
        model_fail("QEMU reads snapshot %s differently", name);
    free(theirs);
    struct img_open_options options = {.snapshot = name, .key = layer_key(&run->config.layer[0])};
    if (img_open(run->config.layer[0].name, &options, &image, &err))
        model_fail("img_open of snapshot %s: %s", name, err.text);
    uint8_t *ours = must_allocate(s->size);
    if (img_size(image) != s->size || img_pread(image, ours, s->size, 0, &err) || memcmp(s->bytes, ours, s->size))
        model_fail("we read snapshot %s differently: %s", name, err.text);
    img_close(image, NULL);
    free(ours);
}

void compare_own_states(struct run *run) {
    for (unsigned i = 0; i < OWN_STATES; i++) {
        if (run->own[i].bytes)
            compare_state(run, &run->own[i]);
        free(run->own[i].bytes);
        run->own[i].bytes = NULL;
    }
}
