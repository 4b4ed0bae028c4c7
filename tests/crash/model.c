/* SPDX-License-Identifier: GPL-3.0-or-later */
/* model.c - the values that each sector may hold after a power cut (model.h). */
#include "model.h"

#include <inttypes.h>

#include "util.h"

enum event_kind { EVENT_DATA, EVENT_FLUSH, EVENT_RESIZE };

struct model_event {
    enum event_kind kind;
    unsigned id;
    uint64_t asked, acked; /* acked: RECORD_NEVER while it runs */
    uint64_t durable;      /* set by model_seal */
    bool failed;
    unsigned size_index; /* EVENT_RESIZE: which size it sets */
    uint8_t *data;       /* whole sectors, owned; NULL: zeroes */
};

struct value {
    struct model_event *event;
    const uint8_t *data; /* one sector; NULL: zeroes */
};

struct history {
    struct value *values; /* by the order of asking; the first is the original */
    unsigned count;
};

struct window {
    uint64_t offset, length;
    size_t at; /* of its first byte among all windows */
    uint8_t *original;
    struct history *sectors;
};

struct size_value {
    uint64_t size;
    struct model_event *event;
};

struct model {
    struct log *clock;
    pthread_mutex_t lock;
    struct model_event origin;
    struct model_event **events;
    unsigned nevents;
    struct window *windows;
    unsigned nwindows;
    size_t bytes;
    struct size_value *sizes;
    unsigned nsizes;
    bool write_through;
    uint64_t *marks;
    unsigned nmarks;
};

struct model *model_new(struct log *clock, uint64_t size) {
    struct model *m = xcalloc(1, sizeof(*m));
    pthread_mutex_init(&m->lock, NULL);
    m->clock = clock;
    m->sizes = xcalloc(1, sizeof(*m->sizes));
    m->sizes[0] = (struct size_value){size, &m->origin};
    m->nsizes = 1;
    return m;
}

void model_write_through(struct model *m) {
    m->write_through = true;
}

void model_free(struct model *m) {
    if (!m)
        return;
    for (unsigned i = 0; i < m->nevents; i++) {
        free(m->events[i]->data);
        free(m->events[i]);
    }
    for (unsigned w = 0; w < m->nwindows; w++) {
        for (uint64_t s = 0; s < m->windows[w].length / MODEL_SECTOR; s++)
            free(m->windows[w].sectors[s].values);
        free(m->windows[w].sectors);
        free(m->windows[w].original);
    }
    free(m->events);
    free(m->windows);
    free(m->sizes);
    free(m->marks);
    pthread_mutex_destroy(&m->lock);
    free(m);
}

static void history_add(struct history *h, struct model_event *event, const uint8_t *data) {
    h->values = xrealloc(h->values, (h->count + 1) * sizeof(*h->values));
    h->values[h->count++] = (struct value){event, data};
}

void model_watch(struct model *m, uint64_t offset, uint64_t length, const void *original) {
    m->windows = xrealloc(m->windows, (m->nwindows + 1) * sizeof(*m->windows));
    struct window *w = &m->windows[m->nwindows++];
    *w = (struct window){.offset = offset, .length = length, .at = m->bytes};
    m->bytes += length;
    w->sectors = xcalloc(length / MODEL_SECTOR, sizeof(*w->sectors));
    if (original) {
        w->original = xcalloc(1, length);
        memcpy(w->original, original, length);
    }
    for (uint64_t s = 0; s < length / MODEL_SECTOR; s++)
        history_add(&w->sectors[s], &m->origin, original ? w->original + s * MODEL_SECTOR : NULL);
}

size_t model_bytes(const struct model *m) {
    return m->bytes;
}
unsigned model_nwindows(const struct model *m) {
    return m->nwindows;
}

void model_window(const struct model *m, unsigned index, uint64_t *offset, uint64_t *length) {
    *offset = m->windows[index].offset;
    *length = m->windows[index].length;
}

/* ---- events ------------------------------------------------------------------------------------- */

static struct model_event *event_new(struct model *m, enum event_kind kind) {
    struct model_event *event = xcalloc(1, sizeof(*event));
    event->kind = kind;
    event->asked = log_tick(m->clock);
    event->acked = event->durable = RECORD_NEVER;
    event->id = m->nevents;
    m->events = xrealloc(m->events, (m->nevents + 1) * sizeof(*m->events));
    return m->events[m->nevents++] = event;
}

static void newest_of(const struct history *h, uint8_t *sector) {
    const uint8_t *data = h->values[h->count - 1].data;
    if (data)
        memcpy(sector, data, MODEL_SECTOR);
    else
        memset(sector, 0, MODEL_SECTOR);
}

/* Adds the event's value to the sectors of [offset, end) in one window. */
static void window_write(struct window *w, struct model_event *event, uint64_t offset, uint64_t end,
                         const uint8_t *data) {
    uint64_t first = offset / MODEL_SECTOR, last = (end - 1) / MODEL_SECTOR;
    bool ragged = offset % MODEL_SECTOR || end % MODEL_SECTOR;
    uint8_t *sectors = NULL;
    if (data || ragged) {
        sectors = xcalloc(last - first + 1, MODEL_SECTOR);
        newest_of(&w->sectors[first - w->offset / MODEL_SECTOR], sectors);
        newest_of(&w->sectors[last - w->offset / MODEL_SECTOR], sectors + (last - first) * MODEL_SECTOR);
        if (data)
            memcpy(sectors + offset % MODEL_SECTOR, data, end - offset);
        else
            memset(sectors + offset % MODEL_SECTOR, 0, end - offset);
    }
    for (uint64_t s = first; s <= last; s++)
        history_add(&w->sectors[s - w->offset / MODEL_SECTOR], event,
                    sectors ? sectors + (s - first) * MODEL_SECTOR : NULL);
    if (event->data)
        DIE("an event may change one window only");
    event->data = sectors;
}

static void all_windows_write(struct model *m, struct model_event *event, uint64_t offset, uint64_t length,
                              const uint8_t *data) {
    for (unsigned i = 0; i < m->nwindows; i++) {
        struct window *w = &m->windows[i];
        uint64_t from = max_u64(offset, w->offset), to = min_u64(offset + length, w->offset + w->length);
        if (from < to)
            window_write(w, event, from, to, data ? data + (from - offset) : NULL);
    }
}

struct model_event *model_write(struct model *m, uint64_t offset, uint64_t length, const void *data) {
    pthread_mutex_lock(&m->lock);
    struct model_event *event = event_new(m, EVENT_DATA);
    all_windows_write(m, event, offset, length, data);
    pthread_mutex_unlock(&m->lock);
    return event;
}

struct model_event *model_resize(struct model *m, uint64_t size) {
    pthread_mutex_lock(&m->lock);
    struct model_event *event = event_new(m, EVENT_RESIZE);
    event->size_index = m->nsizes;
    uint64_t old = m->sizes[m->nsizes - 1].size;
    m->sizes = xrealloc(m->sizes, (m->nsizes + 1) * sizeof(*m->sizes));
    m->sizes[m->nsizes++] = (struct size_value){size, event};
    if (size < old)
        all_windows_write(m, event, size, old - size, NULL);
    pthread_mutex_unlock(&m->lock);
    return event;
}

struct model_event *model_flush(struct model *m) {
    pthread_mutex_lock(&m->lock);
    struct model_event *event = event_new(m, EVENT_FLUSH);
    pthread_mutex_unlock(&m->lock);
    return event;
}

void model_done(struct model *m, struct model_event *event, bool success) {
    pthread_mutex_lock(&m->lock);
    event->acked = log_tick(m->clock);
    event->failed = !success;
    if (success && (event->kind != EVENT_DATA || m->write_through)) {
        m->marks = xrealloc(m->marks, (m->nmarks + 1) * sizeof(*m->marks));
        m->marks[m->nmarks++] = event->acked;
    }
    pthread_mutex_unlock(&m->lock);
}

void model_newest(const struct model *m, uint8_t *all) {
    for (unsigned i = 0; i < m->nwindows; i++)
        for (uint64_t s = 0; s < m->windows[i].length / MODEL_SECTOR; s++)
            newest_of(&m->windows[i].sectors[s], all + m->windows[i].at + s * MODEL_SECTOR);
}

uint64_t model_newest_size(const struct model *m) {
    return m->sizes[m->nsizes - 1].size;
}

void model_seal(struct model *m) {
    for (unsigned i = 0; i < m->nevents; i++) {
        struct model_event *e = m->events[i];
        if (e->failed || e->acked == RECORD_NEVER)
            continue;
        if (e->kind == EVENT_RESIZE || m->write_through)
            e->durable = e->acked;
        for (unsigned k = 0; k < m->nevents; k++) {
            const struct model_event *f = m->events[k];
            if (f->kind == EVENT_FLUSH && !f->failed && f->acked != RECORD_NEVER && e->acked < f->asked)
                e->durable = min_u64(e->durable, f->acked);
        }
    }
}

unsigned model_marks(const struct model *m, const uint64_t **marks) {
    *marks = m->marks;
    return m->nmarks;
}

/* ---- the verdict ------------------------------------------------------------------------------------ */

/* Is `v` wholly before `w`? */
static bool before(const struct model_event *v, const struct model_event *w) {
    return v != w && v->acked < w->asked;
}

/* The event holds for good at this cut, when the disk shows size number `shown`. */
static bool settled(const struct model_event *e, uint64_t cut, unsigned shown) {
    if (e->kind == EVENT_RESIZE)
        return e->size_index <= shown;
    return e->durable <= cut;
}

static bool value_allowed(const struct history *h, const struct model_event *v, uint64_t cut, unsigned shown) {
    if (v->asked > cut || (v->kind == EVENT_RESIZE && v->size_index > shown))
        return false;
    for (unsigned i = 0; i < h->count; i++)
        if (settled(h->values[i].event, cut, shown) && before(v, h->values[i].event))
            return false;
    return true;
}

static bool size_allowed(const struct model *m, unsigned index, uint64_t cut) {
    const struct model_event *v = m->sizes[index].event;
    if (v->asked > cut)
        return false;
    for (unsigned i = 0; i < m->nsizes; i++)
        if (m->sizes[i].event->durable <= cut && before(v, m->sizes[i].event))
            return false;
    return true;
}

static bool holds(const struct value *v, const uint8_t *sector) {
    return v->data ? memcmp(v->data, sector, MODEL_SECTOR) == 0 : all_zero(sector, MODEL_SECTOR);
}

static bool sector_allowed(const struct history *h, const uint8_t *sector, uint64_t cut, unsigned shown) {
    for (unsigned i = h->count; i-- > 0;)
        if (holds(&h->values[i], sector) && value_allowed(h, h->values[i].event, cut, shown))
            return true;
    return false;
}

static void explain(const struct history *h, const uint8_t *sector, uint64_t cut, unsigned shown, uint64_t offset,
                    char *why, size_t why_size) {
    int used = snprintf(why, why_size, "guest sector at %#" PRIx64 " holds ", offset);
    bool known = false;
    for (unsigned i = 0; i < h->count && !known; i++) {
        const struct model_event *e = h->values[i].event;
        if (!holds(&h->values[i], sector))
            continue;
        known = true;
        used += snprintf(why + used, why_size - used,
                         "value %u of %u (asked at tick %" PRIu64 ", acknowledged %" PRId64 ")", i, h->count, e->asked,
                         (int64_t)e->acked);
    }
    if (!known)
        used += snprintf(why + used, why_size - used, "%02x %02x %02x %02x..., which nobody wrote there", sector[0],
                         sector[1], sector[2], sector[3]);
    used += snprintf(why + used, why_size - used, "; allowed:");
    for (unsigned i = 0; i < h->count && used < (int)why_size - 16; i++)
        if (value_allowed(h, h->values[i].event, cut, shown))
            used += snprintf(why + used, why_size - used, " %u%s", i, h->values[i].data ? "" : " (zeroes)");
}

static bool contents_allowed(const struct model *m, uint64_t cut, unsigned shown, const uint8_t *all, char *why,
                             size_t why_size) {
    for (unsigned i = 0; i < m->nwindows; i++) {
        const struct window *w = &m->windows[i];
        for (uint64_t s = 0; s < w->length / MODEL_SECTOR; s++) {
            uint64_t offset = w->offset + s * MODEL_SECTOR;
            const uint8_t *sector = all + w->at + s * MODEL_SECTOR;
            bool cut_off = offset < MODEL_STATE && offset >= m->sizes[shown].size;
            if (cut_off || sector_allowed(&w->sectors[s], sector, cut, shown))
                continue;
            explain(&w->sectors[s], sector, cut, shown, offset, why, why_size);
            return false;
        }
    }
    return true;
}

bool model_allows(const struct model *m, uint64_t cut, uint64_t size, const uint8_t *all, char *why, size_t why_size) {
    snprintf(why, why_size, "the size is %" PRIu64, size);
    for (unsigned k = 0; k < m->nsizes; k++)
        if (m->sizes[k].size == size && size_allowed(m, k, cut) && contents_allowed(m, cut, k, all, why, why_size))
            return true;
    return false;
}

static const struct history *history_at(const struct model *m, uint64_t offset) {
    for (unsigned i = 0; i < m->nwindows; i++) {
        const struct window *w = &m->windows[i];
        if (offset >= w->offset && offset < w->offset + w->length)
            return &w->sectors[(offset - w->offset) / MODEL_SECTOR];
    }
    DIE("offset %#" PRIx64 " is not watched", offset);
}

int model_asked(const struct model *m, uint64_t offset, const uint8_t *sector, uint64_t cut, uint64_t *first,
                uint64_t *last) {
    const struct history *h = history_at(m, offset);
    *first = RECORD_NEVER;
    *last = 0;
    for (unsigned i = 0; i < h->count; i++) {
        const struct model_event *e = h->values[i].event;
        if (e->asked > cut || !holds(&h->values[i], sector))
            continue;
        if (e == &m->origin || e->kind == EVENT_RESIZE)
            return -1;
        *first = min_u64(*first, e->asked);
        *last = max_u64(*last, e->asked);
    }
    return *first != RECORD_NEVER;
}
