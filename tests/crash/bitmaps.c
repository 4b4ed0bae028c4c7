/* SPDX-License-Identifier: GPL-3.0-or-later */
/* bitmaps.c - bitmaps that come and go: told to the judge, and judged (bitmaps.h). */
#include "bitmaps.h"

#include <inttypes.h>
#include <stdarg.h>

#include "judge.h"
#include "scenario.h"
#include "world.h"

/* ---- what is known ---------------------------------------------------------------------------------- */

static struct bitmap_known *know(struct bitmaps_known *b, const char *name) {
    if (b->count == BITMAPS_MAX)
        DIE("too many bitmaps");
    struct bitmap_known *k = &b->list[b->count++];
    *k = (struct bitmap_known){.name = name, .asked_away = RECORD_NEVER, .gone = RECORD_NEVER};
    return k;
}

static struct bitmap_known *find(struct bitmaps_known *b, const char *name) {
    for (unsigned i = 0; i < b->count; i++)
        if (b->list[i].gone == RECORD_NEVER && strcmp(b->list[i].name, name) == 0)
            return &b->list[i];
    DIE("there is no bitmap %s", name);
}

static void span_add(struct bitmap_known *k, struct bitmap_span span) {
    if (k->nspans == BITMAP_SPANS)
        DIE("bitmap %s: too many changes", k->name);
    k->spans[k->nspans++] = span;
}

static void records_from(struct bitmap_known *k, uint64_t tick) {
    span_add(k, (struct bitmap_span){.from = tick, .to = RECORD_NEVER, .until = RECORD_NEVER});
}

/* Is it recording now? */
static struct bitmap_span *open_span(struct bitmap_known *k) {
    for (unsigned i = 0; i < k->nspans; i++)
        if (k->spans[i].to == RECORD_NEVER)
            return &k->spans[i];
    return NULL;
}

void bitmaps_meet(struct bitmaps_known *b, struct img *image) {
    struct img_info info = {0};
    struct img_error err = {0};
    if (img_info(image, &info, &err))
        DIE("the prepared image tells nothing: %s", err.text);
    for (size_t i = 0; i < info.nbitmaps; i++) {
        char *name = strdup(info.bitmaps[i].name);
        struct bitmap_known *k = know(b, name);
        k->owned = name;
        if (info.bitmaps[i].enabled)
            records_from(k, 0);
    }
}

void bitmaps_forget(struct bitmaps_known *b) {
    for (unsigned i = 0; i < b->count; i++)
        free(b->list[i].owned);
}

/* ---- changes ---------------------------------------------------------------------------------------- */

static void must(struct world *w, int rc, const char *what, const struct img_error *err) {
    if (rc)
        DIE("%s: a bitmap cannot be %s: %s", w->scenario->name, what, err->text);
}

void guest_bitmap_add(struct world *w, const char *name, uint64_t granularity, bool enabled) {
    struct bitmap_known *k = know(&w->judge.bitmaps, name);
    struct img_error err = {0};
    k->asked = log_tick(w->log);
    must(w, img_bitmap_add(w->image, name, granularity, enabled, &err), "made", &err);
    k->born = log_tick(w->log);
    if (enabled)
        records_from(k, k->born);
}

void guest_bitmap_remove(struct world *w, const char *name) {
    struct bitmap_known *k = find(&w->judge.bitmaps, name);
    struct bitmap_span *open = open_span(k);
    struct img_error err = {0};
    k->asked_away = log_tick(w->log);
    if (open)
        open->to = k->asked_away;
    must(w, img_bitmap_remove(w->image, name, &err), "removed", &err);
    k->gone = log_tick(w->log);
}

void guest_bitmap_clear(struct world *w, const char *name) {
    struct bitmap_known *k = find(&w->judge.bitmaps, name);
    struct bitmap_span *open = open_span(k);
    struct img_error err = {0};
    uint64_t asked = log_tick(w->log);
    for (unsigned i = 0; i < k->nspans; i++)
        k->spans[i].until = min_u64(k->spans[i].until, asked);
    if (open)
        open->to = asked;
    must(w, img_bitmap_clear(w->image, name, &err), "cleared", &err);
    if (open)
        records_from(k, log_tick(w->log));
}

void guest_bitmap_enable(struct world *w, const char *name, bool enabled) {
    struct bitmap_known *k = find(&w->judge.bitmaps, name);
    struct bitmap_span *open = open_span(k);
    struct img_error err = {0};
    uint64_t asked = log_tick(w->log);
    if (open && !enabled)
        open->to = asked;
    must(w, img_bitmap_set_enabled(w->image, name, enabled, &err), enabled ? "enabled" : "disabled", &err);
    if (!open && enabled)
        records_from(k, log_tick(w->log));
}

void guest_bitmap_merge(struct world *w, const char *name, const char *source) {
    struct bitmap_known *k = find(&w->judge.bitmaps, name), *from = find(&w->judge.bitmaps, source);
    struct img_error err = {0};
    uint64_t asked = log_tick(w->log);
    must(w, img_bitmap_merge(w->image, name, w->image, source, &err), "merged", &err);
    uint64_t done = log_tick(w->log);
    for (unsigned i = 0, n = from->nspans; i < n; i++) {
        struct bitmap_span s = from->spans[i];
        if (s.until == RECORD_NEVER)
            span_add(k, (struct bitmap_span){s.from, min_u64(s.to, asked), max_u64(s.since, done), RECORD_NEVER});
    }
}

/* ---- the verdict ------------------------------------------------------------------------------------ */

struct look {
    const struct judge *judge;
    struct img *image;
    uint64_t cut, size;
    const uint8_t *all;
    char *why;
    size_t why_size;
};

static bool wrong(const struct look *l, const char *format, ...) __attribute__((format(printf, 2, 3)));
static bool wrong(const struct look *l, const char *format, ...) {
    va_list args;
    va_start(args, format);
    vsnprintf(l->why, l->why_size, format, args);
    va_end(args);
    return false;
}

static bool readable(const struct look *l, const char *name) {
    struct img_error err = {0};
    uint64_t start, count = 1;
    for (uint64_t at = 0; count; at = start + count)
        if (img_bitmap_next(l->image, name, at, &start, &count, &err))
            return wrong(l, "bitmap %s cannot be read: %s", name, err.text);
    return true;
}

/* Must the bitmap know of the value that was asked for in this time? */
static bool in_a_span(const struct bitmap_known *k, uint64_t cut, uint64_t first, uint64_t last) {
    for (unsigned i = 0; i < k->nspans; i++) {
        const struct bitmap_span *s = &k->spans[i];
        if (cut >= s->since && cut < s->until && first >= s->from && last < s->to)
            return true;
    }
    return false;
}

/* What nobody asked for is the judge's own writing, after the cut. */
static bool must_be_dirty(const struct look *l, const struct bitmap_known *k, bool enabled, uint64_t offset,
                          const uint8_t *sector) {
    uint64_t first, last;
    switch (model_asked(l->judge->model, offset, sector, l->cut, &first, &last)) {
    case 0:
        return enabled;
    case 1:
        return in_a_span(k, l->cut, first, last);
    default:
        return false;
    }
}

/* Every change that the bitmap must know is dirty in it. */
static bool covers(const struct look *l, const struct bitmap_known *k, bool enabled) {
    const struct model *m = l->judge->model;
    struct img_error err = {0};
    const uint8_t *sector = l->all;
    for (unsigned i = 0; i < model_nwindows(m); i++) {
        uint64_t offset, length, start = 0, count = 0;
        model_window(m, i, &offset, &length);
        for (uint64_t end = offset + length; offset < end; offset += MODEL_SECTOR, sector += MODEL_SECTOR) {
            if (offset >= l->size || !must_be_dirty(l, k, enabled, offset, sector))
                continue;
            if (offset >= start + count && img_bitmap_next(l->image, k->name, offset, &start, &count, &err))
                return wrong(l, "bitmap %s cannot be read: %s", k->name, err.text);
            if (offset < start || count == 0)
                return wrong(l, "guest data have changed at %#" PRIx64 ", but bitmap %s is valid and does not say so",
                             offset, k->name);
        }
    }
    return true;
}

static const struct bitmap_known *known_at(const struct look *l, const char *name) {
    const struct bitmaps_known *b = &l->judge->bitmaps;
    for (unsigned i = 0; i < b->count; i++)
        if (l->cut >= b->list[i].asked && l->cut < b->list[i].gone && strcmp(b->list[i].name, name) == 0)
            return &b->list[i];
    return NULL;
}

static bool is_listed(const struct img_info *info, const char *name) {
    for (size_t i = 0; i < info->nbitmaps; i++)
        if (strcmp(info->bitmaps[i].name, name) == 0)
            return true;
    return false;
}

bool bitmaps_hold(const struct judge *j, struct img *image, uint64_t cut, const uint8_t *all, uint64_t size, char *why,
                  size_t why_size) {
    struct look l = {j, image, cut, size, all, why, why_size};
    struct img_error err = {0};
    struct img_info info = {0};
    if (img_info(image, &info, &err))
        return wrong(&l, "tells nothing: %s", err.text);
    for (unsigned i = 0; i < j->bitmaps.count; i++) {
        const struct bitmap_known *k = &j->bitmaps.list[i];
        if (cut >= k->born && cut < k->asked_away && !is_listed(&info, k->name))
            return wrong(&l, "there is no bitmap %s", k->name);
    }
    for (size_t i = 0; i < info.nbitmaps; i++) {
        const struct img_bitmap_info *b = &info.bitmaps[i];
        const struct bitmap_known *k = known_at(&l, b->name);
        if (!k)
            return wrong(&l, "there is a bitmap %s", b->name);
        if (!b->in_use && !(readable(&l, b->name) && covers(&l, k, b->enabled)))
            return false;
    }
    return true;
}
