/* SPDX-License-Identifier: GPL-3.0-or-later */
/* changes.c - see changes.h. Names are in a tree while they change, and in an array afterwards; maps in a tree. */
#include "changes.h"

#include <errno.h>
#include <inttypes.h>
#include <search.h>
#include <stdlib.h>
#include <string.h>

#define RUNS_MAX 32768u /* pieces of a file whose map is kept in memory */

struct changes {
    void *names, *maps; /* of tsearch */
    struct change **sorted;
    size_t count;
    uint64_t *inodes;
    size_t ninodes, room;
};

/* The key of a search; an element has the same in front of its name. */
struct key {
    uint64_t dir;
    const char *name;
    size_t length;
};

/* ---- order ---- */

static int compare(uint64_t dir, const char *name, size_t length, const struct change *other) {
    if (dir != other->dir)
        return dir < other->dir ? -1 : 1;
    int order = memcmp(name, other->name, length < other->length ? length : other->length);
    return order ? order : (length > other->length) - (length < other->length);
}

static int by_name(const void *a, const void *b) {
    const struct change *left = a;
    return compare(left->dir, left->name, left->length, b);
}

static int find_name(const void *key, const void *element) {
    const struct key *wanted = key;
    return compare(wanted->dir, wanted->name, wanted->length, *(struct change *const *)element);
}

static int by_ino(const void *a, const void *b) {
    const struct remap *left = a, *right = b;
    return (left->ino > right->ino) - (left->ino < right->ino);
}

static int get_changes(struct ext *ext, struct img_error *err) {
    if (!ext->changes && !(ext->changes = calloc(1, sizeof(*ext->changes))))
        return fail_no_memory(err);
    return 0;
}

/* ---- inodes ---- */

int change_inode(struct ext *ext, uint64_t ino, struct img_error *err) {
    int ret = get_changes(ext, err);
    struct changes *changes = ext->changes;
    if (ret < 0 || (changes->ninodes > 0 && changes->inodes[changes->ninodes - 1] == ino))
        return ret;
    if (changes->ninodes == changes->room) {
        size_t room = changes->room ? 2 * changes->room : 64;
        uint64_t *more = realloc(changes->inodes, room * sizeof(*more));
        if (!more)
            return fail_no_memory(err);
        changes->inodes = more;
        changes->room = room;
    }
    changes->inodes[changes->ninodes++] = ino;
    return 0;
}

const uint64_t *changes_inodes(const struct changes *changes, size_t *count) {
    *count = changes->ninodes;
    return changes->inodes;
}

/* ---- names ---- */

static struct change *new_change(uint64_t dir, const char *name, size_t length) {
    struct change *change = malloc(sizeof(*change) + length + 1);
    if (!change)
        return NULL;
    *change = (struct change){.dir = dir, .length = length};
    memcpy(change->name, name, length);
    change->name[length] = '\0';
    return change;
}

int change_entry(struct ext *ext, uint64_t dir, const char *name, size_t length, uint64_t ino, struct img_error *err) {
    if (memchr(name, '\0', length) || memchr(name, '/', length))
        return fail(err, -EUCLEAN, "A fast commit has a name that cannot be one, in directory %" PRIu64, dir);
    int ret = get_changes(ext, err);
    struct change *change = ret == 0 ? new_change(dir, name, length) : NULL, **place;
    if (!change)
        return fail_no_memory(err);
    if (!(place = tsearch(change, &ext->changes->names, by_name))) {
        free(change);
        return fail_no_memory(err);
    }
    if (*place != change)
        free(change);
    else
        ext->changes->count++;
    (*place)->ino = ino;
    return 0;
}

int change_emptied(struct ext *ext, uint64_t dir, struct img_error *err) {
    return change_entry(ext, dir, "", 0, 0, err);
}

static void append(const void *node, VISIT visit, void *closure) {
    struct changes *changes = closure;
    if (visit == postorder || visit == leaf)
        changes->sorted[changes->count++] = *(struct change *const *)node;
}

int changes_settle(struct ext *ext, struct img_error *err) {
    struct changes *changes = ext->changes;
    if (!changes || changes->count == 0)
        return 0;
    if (!(changes->sorted = malloc(changes->count * sizeof(struct change *))))
        return fail_no_memory(err);
    changes->count = 0;
    twalk_r(changes->names, append, changes);
    return 0;
}

const struct change *changed_entry(const struct ext *ext, uint64_t dir, const char *name, size_t length) {
    const struct changes *changes = ext->changes;
    if (!changes)
        return NULL;
    if (changes->sorted) {
        struct change *const *found = bsearch(&(struct key){dir, name, length}, changes->sorted, changes->count,
                                              sizeof(changes->sorted[0]), find_name);
        return found ? *found : NULL;
    }
    struct change *wanted = new_change(dir, name, length); /* without memory: as on the disk */
    struct change *const *found = wanted ? tfind(wanted, &changes->names, by_name) : NULL;
    free(wanted);
    return found ? *found : NULL;
}

struct change *const *changes_names(const struct changes *changes, size_t *count) {
    *count = changes->sorted ? changes->count : 0;
    return changes->sorted;
}

struct change *const *changes_of(const struct ext *ext, uint64_t dir, size_t *count) {
    const struct changes *changes = ext->changes;
    size_t low = 0, high = changes && changes->sorted ? changes->count : 0, end = high;
    *count = 0;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (changes->sorted[middle]->dir < dir)
            low = middle + 1;
        else
            high = middle;
    }
    while (low + *count < end && changes->sorted[low + *count]->dir == dir)
        ++*count;
    return *count ? changes->sorted + low : NULL;
}

/* ---- maps ---- */

static int insert_run(struct remap *remap, size_t at, const struct run *run, struct img_error *err) {
    if (remap->count == remap->room) {
        size_t room = remap->room ? 2 * remap->room : 16;
        struct run *more = room <= RUNS_MAX ? realloc(remap->runs, room * sizeof(*more)) : NULL;
        if (room > RUNS_MAX)
            return fail(err, -EFBIG, "A fast commit changes inode %" PRIu64 ", which lies in too many pieces",
                        remap->ino);
        if (!more)
            return fail_no_memory(err);
        remap->runs = more;
        remap->room = room;
    }
    memmove(remap->runs + at + 1, remap->runs + at, (remap->count - at) * sizeof(*run));
    remap->runs[at] = *run;
    remap->count++;
    return 0;
}

/* The first run that ends behind the block. */
static size_t position(const struct remap *remap, uint64_t block) {
    size_t low = 0, high = remap->count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (remap->runs[middle].logical + remap->runs[middle].length <= block)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Cuts the run that the block lies inside of in two. */
static int split_at(struct remap *remap, uint64_t block, struct img_error *err) {
    size_t at = position(remap, block);
    struct run *run = &remap->runs[at];
    if (at == remap->count || run->logical >= block)
        return 0;
    uint64_t before = block - run->logical;
    struct run rest = {.logical = block, .length = run->length - before, .physical = run->physical + before};
    run->length = before;
    return insert_run(remap, at + 1, &rest, err);
}

static int put_run(struct remap *remap, const struct run *run, struct img_error *err) {
    int ret = split_at(remap, run->logical, err);
    if (ret == 0)
        ret = split_at(remap, run->logical + run->length, err);
    if (ret < 0)
        return ret;
    size_t first = position(remap, run->logical), last = first;
    while (last < remap->count && remap->runs[last].logical < run->logical + run->length)
        last++;
    if (last < remap->count)
        memmove(remap->runs + first, remap->runs + last, (remap->count - last) * sizeof(*run));
    remap->count -= last - first;
    return run->physical ? insert_run(remap, first, run, err) : 0;
}

/* The map as it lies on the disk. */
static int load_map(struct ext *ext, struct node *node, struct remap *remap, struct img_error *err) {
    struct run run;
    int ret = 0;
    for (uint64_t block = 0; block < MAP_END && ret == 0; block += run.length) {
        ret = map_find(ext, node, block, &run, err);
        if (ret == 0 && run.physical)
            ret = insert_run(remap, remap->count, &run, err);
    }
    return ret;
}

static void free_remap(void *remap) {
    free(((struct remap *)remap)->runs);
    free(remap);
}

static struct remap *find_remap(const struct ext *ext, uint64_t ino) {
    struct remap *const *found = ext->changes ? tfind(&(struct remap){.ino = ino}, &ext->changes->maps, by_ino) : NULL;
    return found ? *found : NULL;
}

/* Without a map yet. */
static int new_remap(struct ext *ext, uint64_t ino, struct remap **remap, struct img_error *err) {
    int ret = get_changes(ext, err);
    struct remap *new = ret == 0 ? calloc(1, sizeof(*new)) : NULL;
    if (!new)
        return fail_no_memory(err);
    new->ino = ino;
    if (!tsearch(new, &ext->changes->maps, by_ino)) {
        free_remap(new);
        return fail_no_memory(err);
    }
    *remap = new;
    return 0;
}

static int get_remap(struct ext *ext, struct node *node, struct remap **remap, struct img_error *err) {
    struct remap loaded = {.ino = node->ino};
    if ((*remap = find_remap(ext, node->ino)))
        return 0;
    int ret = load_map(ext, node, &loaded, err);
    if (ret == 0)
        ret = new_remap(ext, node->ino, remap, err);
    if (ret < 0)
        free(loaded.runs);
    else
        **remap = loaded;
    return ret;
}

int change_range(struct ext *ext, struct node *node, const struct run *run, struct img_error *err) {
    struct remap *remap = NULL;
    if (node_has(node, EXT4_INLINE_DATA_FL) || run->length == 0)
        return 0;
    int ret = get_remap(ext, node, &remap, err);
    return ret < 0 ? ret : put_run(remap, run, err);
}

int change_unmapped(struct ext *ext, uint64_t ino, struct img_error *err) {
    struct remap *remap = find_remap(ext, ino);
    int ret = remap ? 0 : new_remap(ext, ino, &remap, err);
    if (ret == 0)
        remap->count = 0;
    return ret;
}

const struct remap *remap_of(const struct ext *ext, uint64_t ino) {
    return find_remap(ext, ino);
}

struct each_map {
    void (*call)(void *opaque, const struct remap *map);
    void *opaque;
};

static void call_for_map(const void *node, VISIT visit, void *closure) {
    const struct each_map *each = closure;
    if (visit == postorder || visit == leaf)
        each->call(each->opaque, *(struct remap *const *)node);
}

void changes_each_map(const struct changes *changes, void (*call)(void *opaque, const struct remap *map),
                      void *opaque) {
    twalk_r(changes->maps, call_for_map, &(struct each_map){call, opaque});
}

void changes_free(struct changes *changes) {
    if (!changes)
        return;
    tdestroy(changes->names, free);
    tdestroy(changes->maps, free_remap);
    free(changes->sorted);
    free(changes->inodes);
    free(changes);
}
