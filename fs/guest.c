/* SPDX-License-Identifier: GPL-3.0-or-later */
/* guest.c - the mount table of a guest, and the way from a path to a file (guest.h).
 *
 * A path is resolved by walking down from the root with a stack of the directories on the way: ".." takes one off,
 * which is right across mount points and needs no ".." entry of any disk. A symbolic link's target is put in front of
 * what is left of the path.
 */
#include "guest.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "barred.h"
#include "error.h"

#define MAX_MOUNTS 256

struct mount {
    struct guest_mount shown;
    char *path;
    bool borrowed;           /* another mount of the same volume owns the filesystem */
    struct guest_node place; /* the directory under it; of "/" nothing */
};

struct guest {
    struct volumes *volumes;
    struct mount mounts[MAX_MOUNTS];
    struct guest_mount shown[MAX_MOUNTS]; /* what guest_mounts gives out */
    size_t nmounts;
};

int guest_create(struct volumes *volumes, struct guest **guest, struct img_error *err) {
    *guest = calloc(1, sizeof(**guest));
    if (!*guest)
        return fail_no_memory(err);
    (*guest)->volumes = volumes;
    return 0;
}

void guest_close(struct guest *guest) {
    if (!guest)
        return;
    while (guest->nmounts > 0) {
        struct mount *mount = &guest->mounts[--guest->nmounts];
        if (!mount->borrowed)
            fs_close(mount->shown.fs);
        free(mount->path);
    }
    free(guest);
}

size_t guest_mounts(const struct guest *guest, const struct guest_mount **mounts) {
    *mounts = guest->shown;
    return guest->nmounts;
}

static struct guest_node root_of(const struct guest *guest, size_t index) {
    struct fs *fs = guest->mounts[index].shown.fs;
    return (struct guest_node){.fs = fs, .ino = fs->root, .mount = index};
}

/* What is seen where `node` lies: the root of the last filesystem that was mounted there, or the node itself. */
static struct guest_node seen_at(const struct guest *guest, struct guest_node node) {
    for (size_t i = guest->nmounts; i-- > 0;) {
        const struct guest_node *place = &guest->mounts[i].place;
        if (place->fs == node.fs && place->ino == node.ino && place->mount == node.mount)
            return root_of(guest, i);
    }
    return node;
}

static int open_filesystem(struct guest *guest, struct volume *volume, const struct fs_open_options *options,
                           struct mount *mount, struct img_error *err) {
    for (size_t i = 0; i < guest->nmounts; i++)
        if (guest->mounts[i].shown.volume == volume) {
            mount->shown.fs = guest->mounts[i].shown.fs;
            mount->borrowed = true;
            return 0;
        }
    if (!volume->device)
        return fail(err, -ENOTSUP, "%s: %s", volume->name, volume->trouble ? volume->trouble : "not a filesystem");
    return fs_open(volume->device, options, &mount->shown.fs, err);
}

/* A filesystem with this volume, `options` or, if it is barred, the reason why. */
static int mount_at(struct guest *guest, struct volume *volume, const char *path, const struct fs_open_options *options,
                    const char *why, struct img_error *err) {
    if (guest->nmounts == MAX_MOUNTS)
        return fail(err, -E2BIG, "More than %d filesystems are mounted", MAX_MOUNTS);
    struct mount *mount = &guest->mounts[guest->nmounts];
    *mount = (struct mount){.shown.volume = volume, .path = strdup(path)};
    int ret = mount->path ? 0 : fail_no_memory(err);
    if (ret == 0 && guest->nmounts > 0)
        ret = guest_resolve_directory(guest, path, &mount->place, err);
    else if (ret == 0 && strcmp(path, "/") != 0)
        ret = fail(err, -ENOENT, "%s: nothing is mounted on / yet", path);
    if (ret == 0)
        ret = why ? barred_open(volume->device, why, &mount->shown.fs, err)
                  : open_filesystem(guest, volume, options, mount, err);
    if (ret < 0) {
        free(mount->path);
        return ret;
    }
    mount->shown.path = mount->path;
    guest->shown[guest->nmounts++] = mount->shown;
    return 0;
}

int guest_mount(struct guest *guest, struct volume *volume, const char *path, const struct fs_open_options *options,
                struct img_error *err) {
    return mount_at(guest, volume, path, options, NULL, err);
}

int guest_bar(struct guest *guest, struct volume *volume, const char *path, const char *why, struct img_error *err) {
    return mount_at(guest, volume, path, NULL, why, err);
}

int guest_stat(const struct guest_node *node, struct fs_stat *stat, struct img_error *err) {
    return node->fs->ops->stat(node->fs, node->ino, stat, err);
}

int guest_readlink(const struct guest_node *node, char **target, struct img_error *err) {
    size_t length;
    char *text = malloc(GUEST_PATH_MAX);
    if (!text)
        return fail_no_memory(err);
    int ret = node->fs->ops->readlink(node->fs, node->ino, text, GUEST_PATH_MAX - 1, &length, err);
    if (ret == 0 && length > GUEST_PATH_MAX - 1)
        ret = fail(err, -E2BIG, "A symbolic link of %zu bytes is too long", length);
    if (ret < 0) {
        free(text);
        return ret;
    }
    text[length] = '\0';
    char *fitting = realloc(text, length + 1);
    *target = fitting ? fitting : text;
    return 0;
}

struct guest_node guest_entry(const struct guest *guest, const struct guest_node *dir, uint64_t ino) {
    return seen_at(guest, (struct guest_node){.fs = dir->fs, .ino = ino, .mount = dir->mount});
}

int guest_step(struct guest *guest, const struct guest_node *dir, const char *name, size_t length,
               struct guest_node *node, struct img_error *err) {
    uint64_t ino;
    int ret = dir->fs->ops->lookup(dir->fs, dir->ino, name, length, &ino, err);
    if (ret == 0)
        *node = guest_entry(guest, dir, ino);
    return ret;
}

/* ---- resolution ---- */

struct way {
    struct guest *guest;
    struct guest_node *dirs; /* the root, and each directory down to where we are */
    size_t depth, room;      /* dirs[depth] is where we are */
    char *left;              /* a path; owned */
    const char *at;          /* what of it is still to be walked */
    unsigned links;
};

static int go_down(struct way *way, struct guest_node node, struct img_error *err) {
    if (way->depth + 1 == way->room) {
        size_t room = 2 * way->room;
        struct guest_node *dirs = realloc(way->dirs, room * sizeof(dirs[0]));
        if (!dirs)
            return fail_no_memory(err);
        way->dirs = dirs;
        way->room = room;
    }
    way->dirs[++way->depth] = node;
    return 0;
}

/* Puts the link's target in front of what is still to be walked. */
static int follow_link(struct way *way, const struct guest_node *link, struct img_error *err) {
    const char *rest = way->at;
    char *target;
    if (++way->links > GUEST_LINKS_MAX)
        return fail(err, -ELOOP, "Too many levels of symbolic links");
    int ret = guest_readlink(link, &target, err);
    if (ret != 0)
        return ret;
    size_t target_length = strlen(target), rest_length = strlen(rest);
    char *left = NULL;
    if (target_length == 0)
        ret = fail(err, -ENOENT, "No such file or directory");
    else if (target_length + rest_length + 2 > GUEST_PATH_MAX)
        ret = fail(err, -ENAMETOOLONG, "File name too long");
    else if (!(left = malloc(target_length + rest_length + 2)))
        ret = fail_no_memory(err);
    if (ret == 0) {
        memcpy(left, target, target_length);
        left[target_length] = '/';
        memcpy(left + target_length + 1, rest, rest_length + 1);
        if (rest_length == 0)
            left[target_length] = '\0';
        if (target[0] == '/')
            way->depth = 0;
        free(way->left);
        way->left = left;
        way->at = left;
    }
    free(target);
    return ret;
}

/* Walks the name that way->at points to, and goes on behind it. */
static int walk_name(struct way *way, bool follow, struct img_error *err) {
    const char *name = way->at;
    size_t length = strcspn(name, "/");
    struct guest_node node;
    struct fs_stat stat;
    const struct guest_node *here = &way->dirs[way->depth];
    way->at = name + length;
    int ret = guest_stat(here, &stat, err);
    if (ret == 0 && !S_ISDIR(stat.mode))
        ret = fail(err, -ENOTDIR, "Not a directory");
    if (ret < 0 || (length == 1 && name[0] == '.'))
        return ret;
    if (length == 2 && name[0] == '.' && name[1] == '.') {
        way->depth -= way->depth > 0;
        return 0;
    }
    if (length > FS_NAME_MAX)
        return fail(err, -ENAMETOOLONG, "File name too long");
    ret = guest_step(way->guest, here, name, length, &node, err);
    if (ret == 0)
        ret = guest_stat(&node, &stat, err);
    if (ret < 0)
        return ret;
    if (S_ISLNK(stat.mode) && (follow || *way->at))
        return follow_link(way, &node, err);
    return go_down(way, node, err);
}

static int walk_path(struct way *way, bool follow, struct img_error *err) {
    int ret = 0;
    for (way->at = way->left; ret == 0; ret = walk_name(way, follow, err)) {
        way->at += strspn(way->at, "/");
        if (*way->at == '\0')
            return 0;
    }
    return ret;
}

/* "PATH: Not a directory" and the like, whatever the driver's sentence was for these. */
static int name_the_path(struct img_error *err, int code, const char *path) {
    struct img_error inner;
    if (!err)
        return code;
    inner = *err;
    if (code == -ENOENT || code == -ENOTDIR || code == -ELOOP)
        return fail(err, code, "%s: %s", path, strerror(-code));
    return fail(err, code, "%s: %.900s", path, inner.text);
}

int guest_resolve(struct guest *guest, const char *path, bool follow, struct guest_node *node, struct img_error *err) {
    if (path[0] != '/')
        return fail(err, -EINVAL, "%s: path must start with a / character", path);
    if (guest->nmounts == 0)
        return fail(err, -ENOENT, "%s: nothing is mounted", path);
    if (strlen(path) >= GUEST_PATH_MAX)
        return fail(err, -ENAMETOOLONG, "A path of %zu bytes is too long", strlen(path));
    struct way way = {.guest = guest, .room = 64, .left = strdup(path)};
    way.dirs = malloc(way.room * sizeof(way.dirs[0]));
    int ret;
    if (!way.left || !way.dirs)
        ret = fail_no_memory(err);
    else {
        size_t top = 0; /* the last that was mounted on "/" */
        for (size_t i = 0; i < guest->nmounts; i++)
            if (strcmp(guest->mounts[i].path, "/") == 0)
                top = i;
        way.dirs[0] = root_of(guest, top);
        ret = walk_path(&way, follow, err);
        if (ret == 0)
            *node = way.dirs[way.depth];
        else
            ret = name_the_path(err, ret, path);
    }
    free(way.left);
    free(way.dirs);
    return ret;
}

int guest_resolve_directory(struct guest *guest, const char *path, struct guest_node *dir, struct img_error *err) {
    struct fs_stat stat;
    int ret = guest_resolve(guest, path, true, dir, err);
    if (ret == 0)
        ret = guest_stat(dir, &stat, err);
    if (ret == 0 && !S_ISDIR(stat.mode))
        ret = fail(err, -ENOTDIR, "%s: Not a directory", path);
    return ret;
}

int guest_read_small(struct guest *guest, const char *path, size_t max, char **content, size_t *length,
                     struct img_error *err) {
    struct guest_node node;
    struct fs_stat stat = {0};
    int ret = guest_resolve(guest, path, true, &node, err);
    if (ret == 0)
        ret = guest_stat(&node, &stat, err);
    if (ret < 0)
        return ret;
    if (!S_ISREG(stat.mode))
        return fail(err, -EINVAL, "%s: not a regular file", path);
    if (stat.size > max)
        return fail(err, -EFBIG, "%s: longer than %zu bytes", path, max);
    *content = malloc(stat.size + 1);
    if (!*content)
        return fail_no_memory(err);
    size_t got = 0;
    ret = node.fs->ops->read(node.fs, node.ino, *content, stat.size, 0, &got, err);
    if (ret < 0) {
        free(*content);
        return ret;
    }
    (*content)[got] = '\0';
    *length = got; /* not before: of what could not be read in full the caller has nothing */
    return 0;
}
