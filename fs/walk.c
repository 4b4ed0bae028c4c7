/* SPDX-License-Identifier: GPL-3.0-or-later */
/* walk.c - the names of a directory in order, and walks over all that is below one (guest.h).
 *
 * A damaged filesystem may have a directory in two places, or inside itself; a walk that followed this would never end.
 * So it remembers the directories where it was, and a second visit is an error.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>

#include "error.h"
#include "guest.h"

/* ---- names ---- */

struct listing {
    struct guest_names *names;
    guest_wants wants;
    void *opaque;
};

static int take_name(void *opaque, const struct fs_entry *entry) {
    const struct listing *listing = opaque;
    struct guest_names *names = listing->names;
    if (listing->wants && !listing->wants(listing->opaque, entry))
        return 0;
    if (names->count == names->room) {
        size_t room = names->room ? 2 * names->room : 32;
        struct guest_name *list = realloc(names->list, room * sizeof(list[0]));
        if (!list)
            return -ENOMEM;
        names->list = list;
        names->room = room;
    }
    char *name = malloc(entry->length + 1);
    if (!name)
        return -ENOMEM;
    memcpy(name, entry->name, entry->length);
    name[entry->length] = '\0';
    names->list[names->count++] = (struct guest_name){.name = name, .ino = entry->ino, .type = entry->type};
    return 0;
}

static int by_bytes(const void *a, const void *b) {
    return strcmp(((const struct guest_name *)a)->name, ((const struct guest_name *)b)->name);
}

int guest_list_some(const struct guest_node *dir, guest_wants wants, void *opaque, struct guest_names *names,
                    struct img_error *err) {
    *names = (struct guest_names){0};
    struct listing listing = {names, wants, opaque};
    struct img_error inner = {0};
    int ret = dir->fs->ops->list(dir->fs, dir->ino, take_name, &listing, &inner);
    if (ret == -ENOMEM)
        return fail_no_memory(err);
    if (ret < 0) {
        if (err)
            *err = inner;
        return ret;
    }
    if (names->count > 0)
        qsort(names->list, names->count, sizeof(names->list[0]), by_bytes);
    return 0;
}

int guest_list(const struct guest_node *dir, struct guest_names *names, struct img_error *err) {
    return guest_list_some(dir, NULL, NULL, names, err);
}

void guest_names_free(struct guest_names *names) {
    for (size_t i = 0; i < names->count; i++)
        free(names->list[i].name);
    free(names->list);
    *names = (struct guest_names){0};
}

/* ---- where a walk was: a set of directories, hashed with a secret since the disk chooses the numbers ---- */

struct been {
    struct place {
        uint64_t ino;
        size_t mount_and_one; /* 0: free */
    } * table;
    size_t room, count; /* `room` is a power of two */
    uint64_t secret;
};

static size_t slot_of(const struct been *been, uint64_t ino, size_t mount) {
    uint64_t h = (ino ^ been->secret) + mount * 0x9e3779b97f4a7c15u;
    h = (h ^ (h >> 32)) * (been->secret | 1);
    h = (h ^ (h >> 29)) * 0xbf58476d1ce4e5b9u;
    return (size_t)(h ^ (h >> 32)) & (been->room - 1);
}

static struct place *find_place(const struct been *been, uint64_t ino, size_t mount) {
    size_t i = slot_of(been, ino, mount);
    while (been->table[i].mount_and_one && (been->table[i].ino != ino || been->table[i].mount_and_one != mount + 1))
        i = (i + 1) & (been->room - 1);
    return &been->table[i];
}

static bool make_room(struct been *been) {
    struct been larger = {.room = been->room ? 2 * been->room : 256, .count = been->count, .secret = been->secret};
    larger.table = calloc(larger.room, sizeof(larger.table[0]));
    if (!larger.table)
        return false;
    for (size_t i = 0; i < been->room; i++)
        if (been->table[i].mount_and_one)
            *find_place(&larger, been->table[i].ino, been->table[i].mount_and_one - 1) = been->table[i];
    free(been->table);
    *been = larger;
    return true;
}

static int remember(struct been *been, const struct guest_node *dir, struct img_error *err) {
    if (2 * (been->count + 1) > been->room && !make_room(been))
        return fail_no_memory(err);
    struct place *place = find_place(been, dir->ino, dir->mount);
    if (place->mount_and_one)
        return fail(err, -ELOOP, "The directory with inode %llu is in more than one place",
                    (unsigned long long)dir->ino);
    *place = (struct place){.ino = dir->ino, .mount_and_one = dir->mount + 1};
    been->count++;
    return 0;
}

/* ---- walks ---- */

struct level {
    struct guest_node dir;
    struct guest_names names;
    size_t next;        /* of names */
    size_t path_length; /* of this directory's path */
};

struct walk {
    struct guest *guest;
    guest_visit_call call;
    void *opaque;
    struct been been;
    struct level *levels;
    size_t depth, room; /* levels in use */
    char path[GUEST_PATH_MAX + FS_NAME_MAX + 2];
};

static int open_level(struct walk *walk, const struct guest_node *dir, size_t path_length, struct img_error *err) {
    if (walk->depth == walk->room) {
        size_t room = walk->room ? 2 * walk->room : 16;
        struct level *levels = realloc(walk->levels, room * sizeof(levels[0]));
        if (!levels)
            return fail_no_memory(err);
        walk->levels = levels;
        walk->room = room;
    }
    int ret = remember(&walk->been, dir, err);
    if (ret < 0)
        return ret;
    struct level *level = &walk->levels[walk->depth++];
    *level = (struct level){.dir = *dir, .path_length = path_length};
    return guest_list(dir, &level->names, err);
}

static void close_level(struct walk *walk) {
    guest_names_free(&walk->levels[--walk->depth].names);
}

/* Tells of one file and, if it is a directory, opens it. `name_at`: where its last part begins in the path. */
static int visit(struct walk *walk, const struct guest_node *node, size_t name_at, struct img_error *err) {
    struct guest_visit visit = {
        .path = walk->path, .name = walk->path + name_at, .node = *node, .depth = (unsigned)walk->depth};
    int ret = guest_stat(node, &visit.stat, err);
    if (ret == 0)
        ret = walk->call(walk->opaque, &visit);
    if (ret != GUEST_GO_ON || !S_ISDIR(visit.stat.mode))
        return ret < 0 ? ret : 0;
    return open_level(walk, node, strlen(walk->path), err);
}

static int next_name(struct walk *walk, struct img_error *err) {
    struct level *level = &walk->levels[walk->depth - 1];
    const struct guest_name *entry = &level->names.list[level->next++];
    size_t length = strlen(entry->name), at = level->path_length;
    struct guest_node node;
    if (at + length + 2 > GUEST_PATH_MAX)
        return fail(err, -ENAMETOOLONG, "A path is longer than %d bytes", GUEST_PATH_MAX);
    if (at > 0)
        walk->path[at++] = '/';
    memcpy(walk->path + at, entry->name, length + 1);
    int ret = guest_step(walk->guest, &level->dir, entry->name, length, &node, err);
    return ret < 0 ? ret : visit(walk, &node, at, err);
}

int guest_walk(struct guest *guest, const struct guest_node *from, guest_visit_call call, void *opaque,
               struct img_error *err) {
    struct walk *walk = calloc(1, sizeof(*walk));
    if (!walk)
        return fail_no_memory(err);
    walk->guest = guest;
    walk->call = call;
    walk->opaque = opaque;
    if (getrandom(&walk->been.secret, sizeof(walk->been.secret), 0) < 0)
        walk->been.secret = (uintptr_t)walk;
    int ret = visit(walk, from, 0, err);
    while (ret == 0 && walk->depth > 0) {
        struct level *level = &walk->levels[walk->depth - 1];
        if (level->next == level->names.count)
            close_level(walk);
        else
            ret = next_name(walk, err);
    }
    while (walk->depth > 0)
        close_level(walk);
    free(walk->levels);
    free(walk->been.table);
    free(walk);
    return ret;
}
