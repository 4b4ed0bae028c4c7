/* SPDX-License-Identifier: GPL-3.0-or-later */
/* diff_tree.c - see diff_tree.h. Both trees are walked side by side, so that memory follows the differences and the
 * largest directories, not the number of files.
 *
 * Of twins (fs/twins.h), what is the same on both sides is passed over. A directory whose names are the same is listed
 * once, and of its files those are left out whose records are the same, without reading these: so what is left of the
 * work are the lists of all directories, and what changed. */
#include "diff_tree.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "checksum.h"
#include "report.h"
#include "seen.h"

/* Directories that are in both guests. */
struct level {
    struct guest_node dir[2];
    struct guest_names names[2]; /* shared: [1] is empty */
    bool shared;                 /* both have the same names, of which those that need no look are left out */
    size_t next[2];
    size_t path_length;
};

struct walk {
    struct guest *const *guests;
    const struct diff_options *options;
    struct twins *twins; /* NULL: nothing is known */
    struct changes *changes;
    struct level *levels;
    size_t depth, room;
    struct seen been[2];
    int alone; /* which guest a tree is in that the other has not */
    char path[GUEST_PATH_MAX + FS_NAME_MAX + 2];
    struct img_error *err;
};

/* ---- attributes ---- */

static int take_attribute(void *opaque, const char *name, const void *value, size_t length) {
    struct attributes *a = opaque;
    if (a->count == a->room) {
        a->room = a->room ? 2 * a->room : 8;
        a->list = realloc(a->list, a->room * sizeof(a->list[0]));
        if (!a->list)
            out_of_memory();
    }
    struct attribute *attribute = &a->list[a->count++];
    *attribute = (struct attribute){.name = text_copy(name), .value = memory(1, length + 1), .length = length};
    if (length > 0)
        memcpy(attribute->value, value, length);
    return 0;
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const struct attribute *)a)->name, ((const struct attribute *)b)->name);
}

int read_attributes(const struct guest_node *node, struct attributes *attributes, struct img_error *err) {
    *attributes = (struct attributes){0};
    int ret = node->fs->ops->xattrs ? node->fs->ops->xattrs(node->fs, node->ino, take_attribute, attributes, err) : 0;
    if (ret == 0 && attributes->count > 0)
        qsort(attributes->list, attributes->count, sizeof(attributes->list[0]), by_name);
    return ret;
}

void free_attributes(struct attributes *attributes) {
    for (size_t i = 0; i < attributes->count; i++) {
        free(attributes->list[i].name);
        free(attributes->list[i].value);
    }
    free(attributes->list);
}

static bool same_attributes(const struct attributes *a, const struct attributes *b) {
    bool same = a->count == b->count;
    for (size_t i = 0; same && i < a->count; i++)
        same = strcmp(a->list[i].name, b->list[i].name) == 0 && a->list[i].length == b->list[i].length &&
               memcmp(a->list[i].value, b->list[i].value, a->list[i].length) == 0;
    return same;
}

/* ---- two files ---- */

static int compare_attributes(struct change *change, struct img_error *err) {
    struct attributes a = {0}, b = {0};
    int ret = read_attributes(&change->file[0].node, &a, err);
    if (ret == 0)
        ret = read_attributes(&change->file[1].node, &b, err);
    change->xattrs = ret == 0 && !same_attributes(&a, &b);
    free_attributes(&a);
    free_attributes(&b);
    return ret;
}

static int compare_checksums(struct change *change, const char *checksum, struct img_error *err) {
    char a[CHECKSUM_TEXT_MAX], b[CHECKSUM_TEXT_MAX];
    int ret = checksum_file(checksum, &change->file[0].node, a, err);
    if (ret == 0)
        ret = checksum_file(checksum, &change->file[1].node, b, err);
    change->checksum = ret == 0 && strcmp(a, b) != 0;
    return ret;
}

static bool same_time(const struct fs_time *a, const struct fs_time *b) {
    return a->seconds == b->seconds && a->nanoseconds == b->nanoseconds;
}

static bool same_stat(const struct fs_stat *a, const struct fs_stat *b) {
    return a->ino == b->ino && a->mode == b->mode && a->nlink == b->nlink && a->uid == b->uid && a->gid == b->gid &&
           a->rdev_major == b->rdev_major && a->rdev_minor == b->rdev_minor && a->size == b->size &&
           a->blocks == b->blocks && same_time(&a->atime, &b->atime) && same_time(&a->mtime, &b->mtime) &&
           same_time(&a->ctime, &b->ctime);
}

static int stat_file(const struct walk *walk, struct changed_file *file) {
    int ret = guest_stat(&file->node, &file->stat, walk->err);
    const struct fs_time none = {0};
    struct fs_stat *s = &file->stat;
    if (!walk->options->atime)
        s->atime = none;
    if (S_ISDIR(s->mode) && !walk->options->dir_times)
        s->atime = s->mtime = s->ctime = none;
    if (S_ISDIR(s->mode) && !walk->options->dir_links)
        s->nlink = 0;
    file->there = true;
    return ret;
}

static void add(struct walk *walk, const struct change *change) {
    struct changes *all = walk->changes;
    if (all->count == all->room) {
        all->room = all->room ? 2 * all->room : 64;
        all->list = realloc(all->list, all->room * sizeof(all->list[0]));
        if (!all->list)
            out_of_memory();
    }
    all->list[all->count] = *change;
    all->list[all->count++].path = text_format("/%s", walk->path);
}

/* ---- a tree in one of the guests ---- */

static int add_alone(void *opaque, const struct guest_visit *visit) {
    struct walk *walk = opaque;
    struct change change = {0};
    struct changed_file *file = &change.file[walk->alone];
    size_t length = strlen(walk->path);
    file->node = visit->node;
    int ret = stat_file(walk, file);
    if (visit->depth > 0 && length + strlen(visit->path) + 2 > sizeof(walk->path)) {
        snprintf(walk->err->text, sizeof(walk->err->text), "A path is longer than %d bytes", GUEST_PATH_MAX);
        ret = -1;
    }
    if (ret < 0)
        return ret;
    if (visit->depth > 0)
        strcpy(stpcpy(walk->path + length, "/"), visit->path);
    add(walk, &change);
    walk->path[length] = '\0';
    return GUEST_GO_ON;
}

/* ---- what needs no look ---- */

static bool same_part(const struct walk *walk, const struct guest_node *a, const struct guest_node *b,
                      enum fs_part part) {
    return walk->twins && a->ino == b->ino && twins_same_part(walk->twins, a->fs, b->fs, a->ino, part);
}

/* Is it known, without a look at either, that nothing differs that counts? `type`: S_IFMT bits. */
static bool same_file(const struct walk *walk, const struct guest_node *a, const struct guest_node *b, uint32_t type) {
    return same_part(walk, a, b, FS_RECORD) && (!walk->options->xattrs || same_part(walk, a, b, FS_XATTRS)) &&
           (!walk->options->checksum || !S_ISREG(type) || same_part(walk, a, b, FS_CONTENT));
}

/* An entry of a directory that both have. What is mounted is mounted on directories. */
static bool needs_look(void *opaque, const struct fs_entry *entry) {
    const struct walk *walk = opaque;
    const struct guest_node *dir = walk->levels[walk->depth - 1].dir;
    struct guest_node a = guest_entry(walk->guests[0], &dir[0], entry->ino),
                      b = guest_entry(walk->guests[1], &dir[1], entry->ino);
    return entry->type == 0 || S_ISDIR(entry->type) || !same_file(walk, &a, &b, entry->type);
}

/* Nothing changed at all. */
static bool same_guests(const struct walk *walk) {
    const struct guest_mount *a, *b;
    size_t count = guest_mounts(walk->guests[0], &a);
    if (!walk->twins || guest_mounts(walk->guests[1], &b) != count)
        return false;
    for (size_t i = 0; i < count; i++)
        if (strcmp(a[i].path, b[i].path) != 0 || !twins_same_device(walk->twins, a[i].fs->device, b[i].fs->device))
            return false;
    return true;
}

/* ---- side by side ---- */

static int list_level(struct walk *walk, struct level *level) {
    const struct guest_node *dir = level->dir;
    level->shared =
        walk->twins && dir[0].ino == dir[1].ino && twins_same_names(walk->twins, dir[0].fs, dir[1].fs, dir[0].ino);
    if (level->shared)
        return guest_list_some(&dir[0], needs_look, walk, &level->names[0], walk->err);
    int ret = guest_list(&dir[0], &level->names[0], walk->err);
    return ret < 0 ? ret : guest_list(&dir[1], &level->names[1], walk->err);
}

static int open_level(struct walk *walk, const struct guest_node dirs[2]) {
    if (walk->depth == walk->room) {
        walk->room = walk->room ? 2 * walk->room : 16;
        walk->levels = realloc(walk->levels, walk->room * sizeof(walk->levels[0]));
        if (!walk->levels)
            out_of_memory();
    }
    struct level *level = &walk->levels[walk->depth++];
    *level = (struct level){.dir = {dirs[0], dirs[1]}, .path_length = strlen(walk->path)};
    for (int i = 0; i < 2; i++) {
        bool is_new;
        seen_file(&walk->been[i], &dirs[i], &is_new);
        if (!is_new) {
            snprintf(walk->err->text, sizeof(walk->err->text), "/%.900s: the directory is in more than one place",
                     walk->path);
            return -1;
        }
    }
    return list_level(walk, level);
}

/* `type`: S_IFMT bits that both have; 0: not known. */
static int compare_both(struct walk *walk, struct change *change, uint32_t type) {
    struct changed_file *a = &change->file[0], *b = &change->file[1];
    if (type && same_file(walk, &a->node, &b->node, type))
        return S_ISDIR(type) ? open_level(walk, (const struct guest_node[2]){a->node, b->node}) : 0;
    int ret = stat_file(walk, a);
    if (ret == 0)
        ret = stat_file(walk, b);
    if (ret < 0)
        return ret;
    bool differ = !same_stat(&a->stat, &b->stat);
    /* a change of attributes is one of ctime too, so without it they are read only where that is wanted */
    if (differ || walk->options->xattrs)
        ret = compare_attributes(change, walk->err);
    if (ret == 0 && walk->options->checksum && S_ISREG(a->stat.mode) && S_ISREG(b->stat.mode))
        ret = compare_checksums(change, walk->options->checksum, walk->err);
    if (ret < 0)
        return ret;
    if (differ || change->xattrs || change->checksum)
        add(walk, change);
    bool is_dir[2] = {S_ISDIR(a->stat.mode), S_ISDIR(b->stat.mode)};
    if (is_dir[0] && is_dir[1])
        return open_level(walk, (const struct guest_node[2]){a->node, b->node});
    /* a directory that is something else on the other side: the files below it are on one side */
    for (int i = 0; i < 2 && ret == 0; i++)
        if (is_dir[i]) {
            struct changes *all = walk->changes;
            size_t at = all->count;
            walk->alone = i;
            ret = guest_walk(walk->guests[i], &change->file[i].node, add_alone, walk, walk->err);
            if (all->count > at) { /* it itself was told already */
                free(all->list[at].path);
                memmove(&all->list[at], &all->list[at + 1], (all->count - at - 1) * sizeof(all->list[0]));
                all->count--;
            }
        }
    return ret;
}

/* The names that are next; *order: < 0 the first guest alone has it, > 0 the second, 0 both. */
static void next_entries(struct level *level, const struct guest_name *entry[2], int *order) {
    for (int i = 0; i < 2; i++)
        entry[i] = level->next[i] < level->names[i].count ? &level->names[i].list[level->next[i]] : NULL;
    if (level->shared)
        entry[1] = entry[0];
    *order = !entry[0] ? 1 : !entry[1] ? -1 : strcmp(entry[0]->name, entry[1]->name);
    level->next[0] += *order <= 0;
    level->next[1] += *order >= 0 && !level->shared;
}

/* The next name of the top directories: compares the file where both have it. */
static int next_name(struct walk *walk) {
    struct level *level = &walk->levels[walk->depth - 1];
    const struct guest_name *entry[2];
    struct change change = {0};
    int order;
    next_entries(level, entry, &order);
    const char *name = entry[order > 0]->name;
    size_t length = strlen(name), at = level->path_length;
    if (at + length + 2 > GUEST_PATH_MAX) {
        snprintf(walk->err->text, sizeof(walk->err->text), "A path is longer than %d bytes", GUEST_PATH_MAX);
        return -1;
    }
    if (at > 0)
        walk->path[at++] = '/';
    memcpy(walk->path + at, name, length + 1);
    for (int i = 0; i < 2; i++)
        if (i == 0 ? order <= 0 : order >= 0)
            change.file[i].node = guest_entry(walk->guests[i], &level->dir[i], entry[i]->ino);
    if (order == 0)
        return compare_both(walk, &change, entry[0]->type == entry[1]->type ? entry[0]->type : 0);
    walk->alone = order > 0;
    return guest_walk(walk->guests[walk->alone], &change.file[walk->alone].node, add_alone, walk, walk->err);
}

static void close_level(struct walk *walk) {
    struct level *level = &walk->levels[--walk->depth];
    guest_names_free(&level->names[0]);
    guest_names_free(&level->names[1]);
    walk->path[level->path_length] = '\0';
}

static int by_path(const void *a, const void *b) {
    return strcmp(((const struct change *)a)->path, ((const struct change *)b)->path);
}

int diff_trees(struct guest *const guests[2], struct twins *twins, const struct diff_options *options,
               struct changes *changes, struct img_error *err) {
    struct walk *walk = memory(1, sizeof(*walk));
    struct change root = {0};
    *walk = (struct walk){.guests = guests, .options = options, .twins = twins, .changes = changes, .err = err};
    *changes = (struct changes){0};
    int ret = guest_resolve(guests[0], "/", true, &root.file[0].node, err);
    if (ret == 0)
        ret = guest_resolve(guests[1], "/", true, &root.file[1].node, err);
    if (ret == 0 && !same_guests(walk))
        ret = compare_both(walk, &root, S_IFDIR);
    while (ret == 0 && walk->depth > 0) {
        struct level *level = &walk->levels[walk->depth - 1];
        walk->path[level->path_length] = '\0';
        if (level->next[0] == level->names[0].count && level->next[1] == level->names[1].count)
            close_level(walk);
        else
            ret = next_name(walk);
    }
    while (walk->depth > 0)
        close_level(walk);
    if (changes->count > 0)
        qsort(changes->list, changes->count, sizeof(changes->list[0]), by_path);
    seen_free(&walk->been[0]);
    seen_free(&walk->been[1]);
    free(walk->levels);
    free(walk);
    return ret;
}

void diff_free(struct changes *changes) {
    for (size_t i = 0; i < changes->count; i++)
        free(changes->list[i].path);
    free(changes->list);
}
