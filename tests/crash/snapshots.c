/* SPDX-License-Identifier: GPL-3.0-or-later */
/* snapshots.c - the guest's image gets, goes back to and loses internal snapshots (world.h), told to model and judge.
 */
#include <inttypes.h>

#include "scenario.h"
#include "world.h"

static uint8_t *newest(struct world *w) {
    uint8_t *all = xcalloc(1, model_bytes(w->model));
    model_newest(w->model, all);
    return all;
}

/* What is behind the disk's end reads as nothing. */
static uint8_t *copy_up_to(struct world *w, const uint8_t *content, uint64_t size) {
    uint8_t *all = xcalloc(1, model_bytes(w->model)), *at = all;
    memcpy(all, content, model_bytes(w->model));
    for (unsigned i = 0; i < model_nwindows(w->model); i++) {
        uint64_t offset, length, kept;
        model_window(w->model, i, &offset, &length);
        if (offset >= MODEL_STATE)
            kept = length;
        else
            kept = offset >= size ? 0 : min_u64(length, size - offset);
        memset(at + kept, 0, length - kept);
        at += length;
    }
    return all;
}

static unsigned find(struct world *w, const char *name) {
    for (unsigned i = 0; i < w->judge.nsnapshots; i++)
        if (strcmp(w->judge.snapshots[i].name, name) == 0 && w->judge.snapshots[i].gone == UINT64_MAX)
            return i;
    DIE("%s: there is no snapshot %s", w->scenario->name, name);
}

/* Begins a change, in which the content stays unless `after` is set. NULL: it is not exact. */
static struct judge_switch *begin(struct world *w, bool exact) {
    if (!exact)
        return NULL;
    world_close(w);
    world_open(w);
    if (w->judge.nswitches == JUDGE_SWITCHES)
        DIE("%s: too many changes", w->scenario->name);
    struct judge_switch *s = &w->judge.switches[w->judge.nswitches++];
    s->size_before = s->size_after = img_size(w->image);
    s->before = newest(w);
    s->after = newest(w);
    s->begin = log_tick(w->log);
    return s;
}

static void end(struct world *w, struct judge_switch *s, int rc, const char *what, const struct img_error *err) {
    if (rc)
        DIE("%s: to %s a snapshot fails: %s", w->scenario->name, what, err->text);
    if (s)
        s->end = log_tick(w->log);
    /* all that was acknowledged before is durable now */
    model_done(w->model, model_flush(w->model), true);
}

void guest_snapshot_create(struct world *w, const char *name, bool exact) {
    struct img_error err = {0};
    struct judge_switch *s = begin(w, exact);
    if (w->judge.nsnapshots == JUDGE_SNAPSHOTS)
        DIE("%s: too many snapshots", w->scenario->name);
    unsigned i = w->judge.nsnapshots++;
    w->judge.snapshots[i].name = name;
    w->judge.snapshots[i].content = newest(w);
    w->judge.snapshots[i].asked = log_tick(w->log);
    w->judge.snapshots[i].asked_away = w->judge.snapshots[i].gone = UINT64_MAX;
    int rc = img_snapshot_create(w->image, name, NULL, &err);
    end(w, s, rc, "make", &err);
    w->judge.snapshots[i].born = log_tick(w->log);
}

void guest_snapshot_delete(struct world *w, const char *name, bool exact) {
    struct img_error err = {0};
    struct judge_switch *s = begin(w, exact);
    unsigned i = find(w, name);
    w->judge.snapshots[i].asked_away = log_tick(w->log);
    int rc = img_snapshot_delete(w->image, name, &err);
    end(w, s, rc, "delete", &err);
    w->judge.snapshots[i].gone = log_tick(w->log);
}

/* The snapshot's bytes are written over everything, all at once; and the size is a value of its own. */
void guest_snapshot_apply(struct world *w, const char *name, bool exact) {
    struct img_error err = {0};
    struct judge_switch *s = begin(w, exact);
    unsigned n = model_nwindows(w->model);
    const uint8_t *content = w->judge.snapshots[find(w, name)].content;
    struct model_event *events[8];
    struct img *snapshot;
    if (n > 8)
        DIE("%s: too many windows", w->scenario->name);
    struct img_open_options options = {.format = "qcow2", .snapshot = name, .flags = IMG_OPEN_INFO};
    if (image_open_storage(log_open(w->log, 0, false), &options, &snapshot, &err))
        DIE("%s: snapshot %s does not open: %s", w->scenario->name, name, err.text);
    uint64_t size = img_size(snapshot);
    img_close(snapshot, NULL);
    struct model_event *resize = size != img_size(w->image) ? model_resize(w->model, size) : NULL;
    if (s) {
        s->size_after = size;
        free(s->after);
        s->after = copy_up_to(w, content, size);
    }
    for (unsigned i = 0; i < n; i++) {
        uint64_t offset, length;
        model_window(w->model, i, &offset, &length);
        events[i] = model_write(w->model, offset, length, content);
        content += length;
    }
    int rc = img_snapshot_apply(w->image, name, &err);
    for (unsigned i = 0; i < n; i++)
        model_done(w->model, events[i], rc == 0);
    if (resize)
        model_done(w->model, resize, rc == 0);
    end(w, s, rc, "apply", &err);
}
