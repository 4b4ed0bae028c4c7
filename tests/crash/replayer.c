/* SPDX-License-Identifier: GPL-3.0-or-later */
/* replayer.c - states that a power cut could leave (replayer.h).
 *
 * Two passes when a sample is wanted: the first only counts the choices, the second judges every n-th. A choice is a
 * byte per unit of the operations in flight. What is durable and arrived before the first operation in flight is
 * applied once per cut (`base`); the rest is merged anew for each state.
 */
#include "replayer.h"

#include <inttypes.h>
#include <stdarg.h>

#include "util.h"

enum {
    SECTOR = 512,
    UNITS_MAX = 64, /* of one operation: longer ones are torn at multiples of more sectors */
    EXHAUSTIVE = 8,
    RANDOM_ROUNDS = 4,
};

/* ---- a set of keys ----------------------------------------------------------------------------- */

struct keys {
    uint64_t *slots; /* 0: empty */
    size_t size, used;
};

/* True when the key is new. */
static bool keys_add(struct keys *set, uint64_t key) {
    key = key ? key : 1;
    if (set->used * 2 >= set->size) {
        struct keys old = *set;
        *set = (struct keys){xcalloc(old.size * 2 + 1024, sizeof(uint64_t)), old.size * 2 + 1024, 0};
        for (size_t i = 0; i < old.size; i++)
            if (old.slots[i])
                keys_add(set, old.slots[i]);
        free(old.slots);
    }
    size_t at = key % set->size;
    while (set->slots[at] && set->slots[at] != key)
        at = (at + 1) % set->size;
    if (set->slots[at])
        return false;
    set->slots[at] = key;
    set->used++;
    return true;
}

/* ---- operations in flight ------------------------------------------------------------------------ */

struct flight {
    const struct record *record;
    unsigned first, units; /* in `chosen` */
    uint64_t step;         /* bytes of the disk per unit */
};

struct replayer {
    const struct log *log;
    const struct replay_options *options;
    replay_judge judge;
    void *opaque;
    struct replay_result *result;

    const struct record **arrived; /* all changing operations by arrival */
    unsigned narrived;
    struct keys choices, contents;
    bool counting;
    unsigned number, total;

    /* the cut */
    uint64_t cut, promises, ndurable;
    struct flight *flights;
    unsigned nflights, nunits;
    uint8_t *chosen;
    struct bytes base[LOG_DEVICES];
    unsigned nbase; /* arrived[0..nbase) are in the base */
    struct rng rng;
};

static void cut_units(struct flight *f) {
    const struct record *r = f->record;
    f->step = SECTOR;
    f->units = 1;
    if (r->kind != RECORD_WRITE && r->kind != RECORD_ZERO && r->kind != RECORD_PUNCH)
        return;
    uint64_t first = r->offset / SECTOR, last = (r->offset + r->length - 1) / SECTOR;
    uint64_t sectors = last - first + 1;
    f->step = (sectors + UNITS_MAX - 1) / UNITS_MAX * SECTOR;
    f->units = (unsigned)((sectors * SECTOR + f->step - 1) / f->step);
}

static void apply_range(struct bytes *b, const struct record *r, uint64_t from, uint64_t to) {
    if (r->kind == RECORD_WRITE)
        bytes_write(b, r->data + (from - r->offset), to - from, from);
    else
        bytes_zero(b, from, to - from);
}

/* Applies the units that `chosen` names (NULL: all). */
static void apply(struct bytes *devices, const struct record *r, const struct flight *f, const uint8_t *chosen) {
    struct bytes *b = &devices[r->device];
    uint64_t end = r->offset + r->length;
    if (r->kind == RECORD_TRUNCATE || r->kind == RECORD_RESERVE) {
        if (chosen && !chosen[0])
            return;
        if (r->kind == RECORD_TRUNCATE || end > b->length)
            bytes_truncate(b, r->kind == RECORD_TRUNCATE ? r->length : end);
        return;
    }
    if (!chosen) {
        apply_range(b, r, r->offset, end);
        return;
    }
    uint64_t origin = r->offset / SECTOR * SECTOR;
    for (unsigned u = 0; u < f->units; u++) {
        uint64_t from = max_u64(origin + u * f->step, r->offset), to = min_u64(origin + (u + 1) * f->step, end);
        if (chosen[u])
            apply_range(b, r, from, to);
    }
}

/* ---- one choice ---------------------------------------------------------------------------------- */

static uint64_t choice_key(const struct replayer *p) {
    uint64_t key = mix64(p->ndurable) ^ mix64(p->promises << 32);
    for (unsigned i = 0; i < p->nflights; i++)
        for (unsigned u = 0; u < p->flights[i].units; u++)
            if (p->chosen[p->flights[i].first + u])
                key += mix64(((uint64_t)p->flights[i].record->id << 16 | u) + (1ull << 48));
    return mix64(key);
}

static void build(const struct replayer *p, struct replay_state *state) {
    for (unsigned d = 0; d < p->log->ndevices; d++)
        bytes_clone(&state->devices[d], &p->base[d]);
    for (unsigned i = p->nbase; i < p->narrived; i++) {
        const struct record *r = p->arrived[i];
        if (r->durable <= p->cut) {
            apply(state->devices, r, NULL, NULL);
            continue;
        }
        for (unsigned k = 0; k < p->nflights; k++)
            if (p->flights[k].record == r)
                apply(state->devices, r, &p->flights[k], p->chosen + p->flights[k].first);
    }
}

static void print(char *text, size_t size, const char *format, ...) __attribute__((format(printf, 3, 4)));
static void print(char *text, size_t size, const char *format, ...) {
    size_t used = strlen(text);
    va_list args;
    va_start(args, format);
    vsnprintf(text + used, size - used, format, args);
    va_end(args);
}

/* "cut at 99; #12 dev 0 write 0x3000+1024: all; #13 ...: units 0 2 of 4; #14 ...: lost". */
static void describe(const struct replayer *p, char *text, size_t size) {
    text[0] = 0;
    print(text, size, "cut at tick %" PRIu64, p->cut);
    for (unsigned i = 0; i < p->nflights; i++) {
        const struct flight *f = &p->flights[i];
        const uint8_t *chosen = p->chosen + f->first;
        unsigned there = 0;
        for (unsigned u = 0; u < f->units; u++)
            there += chosen[u];
        print(text, size, "; #%u %s %u:%#" PRIx64 "+%" PRIu64, f->record->id, record_kind_name(f->record->kind),
              f->record->device, f->record->offset, f->record->length);
        if (there == 0 || there == f->units) {
            print(text, size, there ? " there" : " LOST");
            continue;
        }
        print(text, size, " TORN");
        for (unsigned u = 0; u < f->units; u++)
            print(text, size, "%c", chosen[u] ? '1' : '0');
    }
}

static bool wanted(const struct replayer *p, unsigned number) {
    const struct replay_options *o = p->options;
    if (o->only >= 0)
        return number == (unsigned long)o->only;
    if (!o->sample || p->total <= o->sample)
        return true;
    /* the n-th of `sample` even steps through `total` */
    return (uint64_t)(number + 1) * o->sample / p->total > (uint64_t)number * o->sample / p->total;
}

static bool stopped(const struct replayer *p) {
    return p->options->stop_after && p->result->failing >= p->options->stop_after;
}

static void offer(struct replayer *p) {
    if (stopped(p) || !keys_add(&p->choices, choice_key(p)))
        return;
    unsigned number = p->number++;
    if (p->counting || !wanted(p, number))
        return;
    struct replay_state state = {.number = number, .cut = p->cut};
    build(p, &state);
    uint64_t content = mix64(p->promises);
    for (unsigned d = 0; d < p->log->ndevices; d++)
        content = mix64(content ^ bytes_hash(&state.devices[d]));
    if (keys_add(&p->contents, content) || p->options->only >= 0) {
        p->result->states++;
        if (!p->judge(p->opaque, &state) && p->result->failing++ == 0) {
            p->result->first_failing = number;
            describe(p, p->result->first_choice, sizeof(p->result->first_choice));
        }
    }
    for (unsigned d = 0; d < p->log->ndevices; d++)
        bytes_free(&state.devices[d]);
}

/* ---- the choices at one cut ------------------------------------------------------------------------ */

static void choose(struct replayer *p, const struct flight *f, uint8_t there) {
    memset(p->chosen + f->first, there, f->units);
}

static void choose_all(struct replayer *p, uint8_t there) {
    memset(p->chosen, there, p->nunits);
}

static void offer_singles(struct replayer *p) {
    choose_all(p, 1);
    offer(p);
    choose_all(p, 0);
    offer(p);
    for (unsigned alone = 0; alone < 2; alone++) {
        choose_all(p, !alone);
        for (unsigned i = 0; i < p->nflights; i++) {
            choose(p, &p->flights[i], alone);
            offer(p);
            choose(p, &p->flights[i], !alone);
        }
    }
}

static void offer_subsets(struct replayer *p) {
    if (p->nunits <= EXHAUSTIVE) {
        for (unsigned set = 0; set < 1u << p->nunits; set++) {
            for (unsigned u = 0; u < p->nunits; u++)
                p->chosen[u] = set >> u & 1;
            offer(p);
        }
    } else if (p->nflights <= EXHAUSTIVE) {
        for (unsigned set = 0; set < 1u << p->nflights; set++) {
            for (unsigned i = 0; i < p->nflights; i++)
                choose(p, &p->flights[i], set >> i & 1);
            offer(p);
        }
    }
}

/* Each operation cut in two or at random, first among all others, then alone. */
static void offer_torn(struct replayer *p) {
    for (unsigned company = 0; company < 2; company++) {
        choose_all(p, !company);
        for (unsigned i = 0; i < p->nflights; i++) {
            const struct flight *f = &p->flights[i];
            uint8_t *units = p->chosen + f->first;
            unsigned middle = f->units > 1 ? 1 + (unsigned)rng_below(&p->rng, f->units - 1) : 0;
            uint64_t way = rng_below(&p->rng, 3);
            for (unsigned u = 0; u < f->units; u++)
                units[u] = way == 2 ? rng_next(&p->rng) & 1 : (u < middle) == (way == 0);
            if (f->units > 1)
                offer(p);
            choose(p, f, !company);
        }
    }
}

static void offer_random(struct replayer *p) {
    for (unsigned round = 0; round < RANDOM_ROUNDS; round++) {
        uint64_t chance = 5 + rng_below(&p->rng, 91); /* in a hundred */
        for (unsigned i = 0; i < p->nflights; i++)
            choose(p, &p->flights[i], rng_below(&p->rng, 100) < chance);
        offer(p);
        for (unsigned u = 0; u < p->nunits; u++)
            p->chosen[u] = rng_below(&p->rng, 100) < chance;
        offer(p);
    }
}

/* ---- cuts ------------------------------------------------------------------------------------------ */

static void set_cut(struct replayer *p, uint64_t cut) {
    p->cut = cut;
    p->nflights = p->nunits = 0;
    p->ndurable = p->promises = 0;
    while (p->promises < p->options->nmarks && p->options->marks[p->promises] <= cut)
        p->promises++;
    bool prefix = true;
    p->nbase = 0;
    for (unsigned i = 0; i < p->narrived; i++) {
        const struct record *r = p->arrived[i];
        if (r->durable <= cut) {
            p->ndurable++;
            p->nbase += prefix;
        } else {
            prefix = false;
        }
        if (r->durable <= cut || r->started > cut)
            continue;
        struct flight *f = &p->flights[p->nflights++];
        *f = (struct flight){.record = r, .first = p->nunits};
        cut_units(f);
        p->nunits += f->units;
    }
    for (unsigned d = 0; d < p->log->ndevices; d++) {
        bytes_free(&p->base[d]);
        bytes_clone(&p->base[d], &p->log->devices[d].start);
    }
    for (unsigned i = 0; i < p->nbase; i++)
        apply(p->base, p->arrived[i], NULL, NULL);
    p->rng.state = mix64(p->options->seed ^ mix64(cut));
}

static int by_arrival(const void *a, const void *b) {
    const struct record *x = *(const struct record *const *)a, *y = *(const struct record *const *)b;
    if (x->applied != y->applied)
        return x->applied < y->applied ? -1 : 1;
    return x->id < y->id ? -1 : x->id > y->id;
}

static int by_tick(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static unsigned collect_cuts(const struct replayer *p, uint64_t *cuts) {
    unsigned n = 0;
    for (unsigned i = 0; i < p->log->nrecords; i++) {
        const struct record *r = p->log->records[i];
        if (r->kind != RECORD_FLUSH)
            cuts[n++] = r->started;
        else if (r->ended != RECORD_NEVER)
            cuts[n++] = r->ended;
    }
    for (unsigned i = 0; i < p->options->nmarks; i++)
        cuts[n++] = p->options->marks[i];
    qsort(cuts, n, sizeof(*cuts), by_tick);
    return n;
}

static void pass(struct replayer *p, const uint64_t *cuts, unsigned ncuts, bool counting) {
    free(p->choices.slots);
    p->choices = (struct keys){0};
    p->counting = counting;
    p->number = 0;
    for (unsigned i = 0; i < ncuts && !stopped(p); i++) {
        set_cut(p, cuts[i]);
        offer_singles(p);
        offer_subsets(p);
        offer_torn(p);
        offer_random(p);
    }
    p->total = p->number;
}

void replay(const struct log *log, const struct replay_options *options, replay_judge judge, void *opaque,
            struct replay_result *result) {
    struct replayer p = {.log = log, .options = options, .judge = judge, .opaque = opaque, .result = result};
    *result = (struct replay_result){0};
    p.arrived = xcalloc(log->nrecords, sizeof(*p.arrived));
    p.flights = xcalloc(log->nrecords, sizeof(*p.flights));
    p.chosen = xcalloc(log->nrecords, UNITS_MAX);
    for (unsigned i = 0; i < log->nrecords; i++)
        if (log->records[i]->kind != RECORD_FLUSH)
            p.arrived[p.narrived++] = log->records[i];
    qsort(p.arrived, p.narrived, sizeof(*p.arrived), by_arrival);
    uint64_t *cuts = xcalloc(log->nrecords + options->nmarks, sizeof(*cuts));
    result->cuts = collect_cuts(&p, cuts);

    if (options->sample && options->only < 0)
        pass(&p, cuts, result->cuts, true);
    pass(&p, cuts, result->cuts, false);
    result->choices = p.total;

    for (unsigned d = 0; d < log->ndevices; d++)
        bytes_free(&p.base[d]);
    free(p.choices.slots);
    free(p.contents.slots);
    free(cuts);
    free(p.chosen);
    free(p.flights);
    free(p.arrived);
}
