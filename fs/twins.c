/* SPDX-License-Identifier: GPL-3.0-or-later */
/* twins.c - see twins.h.
 *
 * A byte of a filesystem is followed down to its disk on both sides (device_on_disk). If it is in the same place of two
 * disks that belong together, outside of the ranges in which these differ, it is the same and is not read. All other
 * bytes are compared.
 *
 * The ranges are kept sorted. There may be very many, and they are only a hint: above a limit they are rounded to
 * larger units until they are few enough.
 */
#include "twins.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "error.h"

#define RANGES_MAX (1u << 20) /* 16 MiB of them */
#define UNIT 4096u            /* what ranges are rounded to at first */
#define PIECES_MAX 4096       /* of a device, when it is looked at as a whole */
#define PLACES_MAX 256        /* pieces of a directory that are compared one by one */
#define WINDOW (64u << 10)    /* bytes that are read at a time where they must be compared */
#define WINDOWS 16u           /* that are kept: records lie side by side */

struct range {
    uint64_t start, end;
};

/* Two disks that belong together, and where they differ. */
struct pair {
    struct device *a, *b;
    struct range *ranges;
    size_t count, room;
    uint64_t unit; /* a power of two: ranges are whole units */
};

/* What is known of two filesystems. */
struct kin {
    struct fs *a, *b;
    bool alike;
};

/* The same range of two devices, as it was read. */
struct window {
    struct device *a, *b; /* NULL: nothing */
    uint64_t start;
    size_t length;
    unsigned char bytes[2][WINDOW];
};

struct twins {
    struct pair *pairs;
    size_t npairs;
    struct kin *kin;
    size_t nkin;
    struct window windows[WINDOWS];
};

/* ---- where two disks differ ---- */

static int by_start(const void *a, const void *b) {
    const struct range *x = a, *y = b;
    return (x->start > y->start) - (x->start < y->start);
}

static void settle(struct pair *pair) {
    size_t kept = 0;
    if (pair->count > 1)
        qsort(pair->ranges, pair->count, sizeof(pair->ranges[0]), by_start);
    for (size_t i = 0; i < pair->count; i++) {
        struct range range = {pair->ranges[i].start & ~(pair->unit - 1), pair->ranges[i].end};
        uint64_t over = range.end & (pair->unit - 1);
        if (over && __builtin_add_overflow(range.end, pair->unit - over, &range.end))
            range.end = UINT64_MAX;
        if (kept > 0 && range.start <= pair->ranges[kept - 1].end) {
            if (range.end > pair->ranges[kept - 1].end)
                pair->ranges[kept - 1].end = range.end;
        } else
            pair->ranges[kept++] = range;
    }
    pair->count = kept;
}

static int take_range(void *opaque, uint64_t start, uint64_t length) {
    struct pair *pair = opaque;
    while (pair->count == RANGES_MAX) {
        settle(pair);
        if (pair->count > RANGES_MAX / 2)
            pair->unit *= 2;
    }
    if (pair->count == pair->room) {
        size_t room = pair->room ? 2 * pair->room : 64;
        struct range *ranges = realloc(pair->ranges, room * sizeof(ranges[0]));
        if (!ranges)
            return -ENOMEM;
        pair->ranges = ranges;
        pair->room = room;
    }
    pair->ranges[pair->count++] = (struct range){start, start + length};
    return 0;
}

/* Whether the byte at `at` is in a range; *run, which has the most that is asked for, is cut to how far that goes. */
static bool differs(const struct pair *pair, uint64_t at, uint64_t *run) {
    size_t low = 0, high = pair->count; /* the first range that ends behind `at` */
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (pair->ranges[middle].end <= at)
            low = middle + 1;
        else
            high = middle;
    }
    bool inside = low < pair->count && pair->ranges[low].start <= at;
    uint64_t end = low == pair->count ? UINT64_MAX : inside ? pair->ranges[low].end : pair->ranges[low].start;
    if (*run > end - at)
        *run = end - at;
    return inside;
}

static int try_pair(struct twins *twins, struct device *a, struct device *b, bool *found, struct img_error *err) {
    struct pair pair = {.a = a, .b = b, .unit = UNIT};
    struct img *left = device_image(a), *right = device_image(b);
    int ret = left && right ? img_diff(left, right, take_range, &pair, NULL) : -ENOTSUP;
    *found = ret == 0;
    if (ret < 0) { /* what cannot be told is not known; only memory was wanted by take_range too */
        free(pair.ranges);
        return ret == -ENOMEM || ret == -ECANCELED ? fail_no_memory(err) : 0;
    }
    settle(&pair);
    struct pair *pairs = realloc(twins->pairs, (twins->npairs + 1) * sizeof(pairs[0]));
    if (!pairs) {
        free(pair.ranges);
        return fail_no_memory(err);
    }
    twins->pairs = pairs;
    pairs[twins->npairs++] = pair;
    return 0;
}

int twins_create(struct device *const *a, size_t na, struct device *const *b, size_t nb, struct twins **twins,
                 struct img_error *err) {
    struct twins *new = calloc(1, sizeof(*new));
    int ret = new ? 0 : fail_no_memory(err);
    *twins = NULL;
    for (size_t i = 0; i < na && ret == 0; i++) {
        bool found = false;
        for (size_t j = 0; j < nb && ret == 0 && !found; j++)
            ret = try_pair(new, a[i], b[(i + j) % nb], &found, err);
    }
    if (ret < 0 || new->npairs == 0)
        twins_free(new);
    else
        *twins = new;
    return ret;
}

void twins_free(struct twins *twins) {
    if (!twins)
        return;
    for (size_t i = 0; i < twins->npairs; i++)
        free(twins->pairs[i].ranges);
    free(twins->pairs);
    free(twins->kin);
    free(twins);
}

/* ---- are these bytes the same? ---- */

struct sides {
    struct twins *twins;
    struct device *a, *b;
};

/* Is the byte at `offset` known to be the same, without reading? *run as in `differs`. */
static bool known(const struct sides *sides, uint64_t offset, uint64_t *run) {
    struct device *disk_a, *disk_b;
    uint64_t at_a, at_b, run_a, run_b;
    if (!device_on_disk(sides->a, offset, *run, &disk_a, &at_a, &run_a) ||
        !device_on_disk(sides->b, offset, *run, &disk_b, &at_b, &run_b))
        return false;
    *run = run_a < run_b ? run_a : run_b;
    for (size_t i = 0; i < sides->twins->npairs && at_a == at_b; i++) {
        const struct pair *pair = &sides->twins->pairs[i];
        if (pair->a == disk_a && pair->b == disk_b)
            return !differs(pair, at_a, run);
    }
    return false;
}

/* NULL: not all of it can be read. */
static const struct window *get_window(const struct sides *sides, uint64_t start) {
    struct window *window = &sides->twins->windows[start / WINDOW % WINDOWS];
    struct device *a = sides->a, *b = sides->b;
    uint64_t left = (a->size < b->size ? a->size : b->size) - start;
    if (window->a == a && window->b == b && window->start == start)
        return window;
    window->a = NULL;
    window->length = left < WINDOW ? (size_t)left : WINDOW;
    if (device_read(a, window->bytes[0], window->length, start, NULL) < 0 ||
        device_read(b, window->bytes[1], window->length, start, NULL) < 0)
        return NULL;
    window->a = a;
    window->b = b;
    window->start = start;
    return window;
}

/* The bytes from `offset` on, as many as lie in one window. */
static bool equal(const struct sides *sides, uint64_t offset, size_t count) {
    size_t inside = offset % WINDOW;
    const struct window *window = get_window(sides, offset - inside);
    return window && memcmp(window->bytes[0] + inside, window->bytes[1] + inside, count) == 0;
}

/* fs_range_call: -ECANCELED at the first difference. */
static int compare_range(void *opaque, uint64_t offset, uint64_t length) {
    const struct sides *sides = opaque;
    uint64_t size = sides->a->size < sides->b->size ? sides->a->size : sides->b->size;
    if (offset > size || length > size - offset)
        return -ECANCELED;
    while (length > 0) {
        uint64_t run = length;
        if (!known(sides, offset, &run)) {
            uint64_t left = WINDOW - offset % WINDOW;
            run = run < left ? run : left;
            if (!equal(sides, offset, (size_t)run))
                return -ECANCELED;
        }
        offset += run;
        length -= run;
    }
    return 0;
}

bool twins_same_device(struct twins *twins, struct device *a, struct device *b) {
    const struct sides sides = {twins, a, b};
    uint64_t at = 0, run;
    for (unsigned pieces = 0; at < a->size && pieces < PIECES_MAX; pieces++, at += run) {
        run = a->size - at;
        if (b->size != a->size || !known(&sides, at, &run))
            return false;
    }
    return at == a->size && b->size == at;
}

/* ---- files ---- */

static bool find_out(struct twins *twins, struct fs *a, struct fs *b) {
    bool alike = a->ops == b->ops && a->ops->trace && a->ops->alike(a, b);
    struct kin *kin = realloc(twins->kin, (twins->nkin + 1) * sizeof(kin[0]));
    if (kin) {
        twins->kin = kin;
        kin[twins->nkin++] = (struct kin){a, b, alike};
    }
    return alike;
}

static bool are_alike(struct twins *twins, struct fs *a, struct fs *b) {
    for (size_t i = 0; i < twins->nkin; i++)
        if (twins->kin[i].a == a && twins->kin[i].b == b)
            return twins->kin[i].alike;
    return find_out(twins, a, b);
}

static bool same_bytes(struct sides *sides, struct fs *a, uint64_t ino, enum fs_part part) {
    return a->ops->trace(a, ino, part, compare_range, sides, NULL) == 0;
}

bool twins_same_part(struct twins *twins, struct fs *a, struct fs *b, uint64_t ino, enum fs_part part) {
    struct sides sides = {twins, a->shown, b->shown};
    return are_alike(twins, a, b) && same_bytes(&sides, a, ino, FS_RECORD) &&
           (part == FS_RECORD || same_bytes(&sides, a, ino, part));
}

/* The ranges of one side, and how many of them the other side has told. */
struct places {
    struct sides *sides;
    struct {
        uint64_t offset, length;
    } list[PLACES_MAX];
    size_t count, met;
};

static int take_place(void *opaque, uint64_t offset, uint64_t length) {
    struct places *places = opaque;
    if (places->count == PLACES_MAX)
        return -ECANCELED;
    places->list[places->count].offset = offset;
    places->list[places->count++].length = length;
    return 0;
}

static int compare_place(void *opaque, uint64_t offset, uint64_t length) {
    struct places *places = opaque;
    if (places->met == places->count || places->list[places->met].offset != offset ||
        places->list[places->met].length != length)
        return -ECANCELED;
    places->met++;
    return compare_range(places->sides, offset, length);
}

bool twins_same_names(struct twins *twins, struct fs *a, struct fs *b, uint64_t ino) {
    struct sides sides = {twins, a->shown, b->shown};
    struct places places = {.sides = &sides};
    struct fs_stat x, y;
    if (!are_alike(twins, a, b))
        return false;
    if (same_bytes(&sides, a, ino, FS_RECORD))
        return same_bytes(&sides, a, ino, FS_CONTENT);
    return a->ops->stat(a, ino, &x, NULL) == 0 && b->ops->stat(b, ino, &y, NULL) == 0 && x.mode == y.mode &&
           x.size == y.size && b->ops->trace(b, ino, FS_CONTENT, take_place, &places, NULL) == 0 &&
           a->ops->trace(a, ino, FS_CONTENT, compare_place, &places, NULL) == 0 && places.met == places.count;
}
