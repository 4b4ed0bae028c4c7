/* SPDX-License-Identifier: GPL-3.0-or-later */
/* copy_reader.c - see copy_reader.h. A file that cannot be read is reported and left out; what is wrong with a
 * directory ends the walk. */
#include "copy_reader.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "copy_records.h"
#include "paths.h"
#include "report.h"
#include "seen.h"

struct reader {
    struct guest *guest;
    struct chute *chute;
    const char *top;          /* the argument, without '/' at its end: "" is the root */
    const char *name;         /* what its copy is called */
    struct guest_node *above; /* the directories that are open */
    size_t depth, room;
    struct seen links;
    bool failed;
    struct img_error err;
};

/* What ends the walk when the writer is gone; it has said why. */
#define WRITER_IS_GONE (-EPIPE)

static struct copy_record *reserve(struct reader *r, enum copy_kind kind, size_t length) {
    struct copy_record *record = chute_reserve(r->chute, sizeof(*record) + length);
    if (record) {
        memset(record, 0, sizeof(*record));
        record->kind = kind;
        record->length = (uint32_t)length;
    }
    return record;
}

static int commit(struct reader *r, const struct copy_record *record) {
    chute_commit(r->chute, sizeof(*record) + record->length);
    return 0;
}

/* A record with up to two texts; between them goes a NUL. */
static int send(struct reader *r, enum copy_kind kind, const struct copy_record *what, const char *name,
                const char *more, size_t more_length) {
    size_t length = strlen(name), all = length + (more ? 1 + more_length : 0);
    struct copy_record *record = reserve(r, kind, all);
    if (!record)
        return WRITER_IS_GONE;
    if (what) {
        *record = *what;
        record->kind = kind;
        record->length = (uint32_t)all;
    }
    char *payload = (char *)(record + 1);
    memcpy(payload, name, length);
    if (more) {
        payload[length] = '\0';
        memcpy(payload + length + 1, more, more_length);
    }
    return commit(r, record);
}

static int send_xattr(void *opaque, const char *name, const void *value, size_t length) {
    if (strlen(name) > COPY_XATTR_NAME_MAX || length > COPY_XATTR_MAX)
        return 0; /* Linux has no such attributes */
    return send(opaque, COPY_XATTR, NULL, name, value, length);
}

/* The rest of each file: OWNER XATTR* END. */
static int send_attributes(struct reader *r, const struct guest_node *node, const struct fs_stat *stat) {
    struct copy_record record = {.number = S_ISREG(stat->mode) ? stat->size : 0,
                                 .mode = stat->mode,
                                 .uid = stat->uid,
                                 .gid = stat->gid,
                                 .atime = stat->atime,
                                 .mtime = stat->mtime};
    int ret = send(r, COPY_OWNER, &record, "", NULL, 0);
    if (ret == 0 && node->fs->ops->xattrs) {
        struct img_error err = {0};
        ret = node->fs->ops->xattrs(node->fs, node->ino, send_xattr, r, &err);
        if (ret < 0 && ret != WRITER_IS_GONE) {
            report("%s", err.text);
            r->failed = true;
            ret = 0;
        }
    }
    return ret < 0 ? ret : send(r, COPY_END, &record, "", NULL, 0);
}

/* ---- data ---- */

/* One range of a file, straight into the shared memory. */
static int send_range(struct reader *r, const struct guest_node *node, uint64_t at, uint64_t length,
                      struct img_error *err) {
    while (length > 0) {
        size_t count = length < COPY_DATA_MAX ? (size_t)length : COPY_DATA_MAX, got = 0;
        struct copy_record *record = reserve(r, COPY_DATA, count);
        if (!record)
            return WRITER_IS_GONE;
        int ret = node->fs->ops->read(node->fs, node->ino, record + 1, count, at, &got, err);
        if (ret < 0)
            return ret;
        if (got == 0)
            return 0;
        record->number = at;
        record->length = (uint32_t)got;
        commit(r, record);
        at += got;
        length -= got;
    }
    return 0;
}

static int send_data(struct reader *r, const struct guest_node *node, uint64_t size, struct img_error *err) {
    uint64_t at = 0, start = 0, length = size;
    while (at < size) {
        if (node->fs->ops->next_data) {
            int ret = node->fs->ops->next_data(node->fs, node->ino, at, &start, &length, err);
            if (ret == -ENXIO)
                return 0;
            if (ret < 0)
                return ret;
        }
        if (start >= size)
            return 0;
        if (length > size - start)
            length = size - start;
        int ret = send_range(r, node, start, length, err);
        if (ret < 0 || start + length <= at)
            return ret;
        at = start + length;
    }
    return 0;
}

static int send_file(struct reader *r, const char *name, const char *path, const struct guest_node *node,
                     const struct fs_stat *stat) {
    struct img_error err = {0};
    struct copy_record record = {.number = stat->nlink > 1};
    int ret = send(r, COPY_FILE, &record, name, NULL, 0);
    if (ret < 0)
        return ret;
    ret = send_data(r, node, stat->size, &err);
    if (ret == 0)
        return send_attributes(r, node, stat);
    if (ret == WRITER_IS_GONE)
        return ret;
    report("%s%s%s: %s", r->top, *path ? "/" : "", path, err.text);
    r->failed = true;
    return send(r, COPY_DROP, &record, "", NULL, 0);
}

/* ---- files ---- */

static int send_symlink(struct reader *r, const char *name, const struct guest_node *node, const struct fs_stat *stat) {
    char *target;
    int ret = guest_readlink(node, &target, &r->err);
    if (ret < 0)
        return ret;
    if (strlen(target) > COPY_TARGET_MAX) {
        report("%s: the target of the link is longer than %u bytes", name, COPY_TARGET_MAX);
        r->failed = true;
    } else {
        ret = send(r, COPY_SYMLINK, NULL, name, target, strlen(target));
        if (ret == 0)
            ret = send_attributes(r, node, stat);
    }
    free(target);
    return ret;
}

static int send_node(struct reader *r, const char *name, const struct guest_node *node, const struct fs_stat *stat) {
    struct copy_record record = {.mode = stat->mode, .major = stat->rdev_major, .minor = stat->rdev_minor};
    int ret = send(r, COPY_NODE, &record, name, NULL, 0);
    return ret < 0 ? ret : send_attributes(r, node, stat);
}

static int enter(struct reader *r, const char *name, const struct guest_node *node) {
    if (r->depth == r->room) {
        r->room = r->room ? 2 * r->room : 32;
        r->above = realloc(r->above, r->room * sizeof(r->above[0]));
        if (!r->above)
            out_of_memory();
    }
    r->above[r->depth++] = *node;
    return send(r, COPY_DIRECTORY, NULL, name, NULL, 0);
}

/* Completes the directories that are open until `depth` are left. */
static int leave(struct reader *r, size_t depth) {
    int ret = 0;
    while (ret == 0 && r->depth > depth) {
        struct fs_stat stat;
        const struct guest_node *node = &r->above[--r->depth];
        ret = guest_stat(node, &stat, &r->err);
        if (ret == 0)
            ret = send(r, COPY_UP, NULL, "", NULL, 0);
        if (ret == 0)
            ret = send_attributes(r, node, &stat);
    }
    return ret;
}

static int send_visit(void *opaque, const struct guest_visit *visit) {
    struct reader *r = opaque;
    bool at_root = !*r->name; /* the copy of the root is the directory itself, which is there */
    const char *name = visit->depth == 0 ? r->name : visit->name;
    const struct fs_stat *stat = &visit->stat;
    if (at_root && visit->depth == 0)
        return GUEST_GO_ON;
    int ret = leave(r, visit->depth - (at_root ? 1 : 0));
    if (ret < 0)
        return ret;
    if (S_ISDIR(stat->mode))
        return enter(r, name, &visit->node);
    if (S_ISREG(stat->mode)) {
        bool is_new = true;
        struct seen_file *file = stat->nlink > 1 ? seen_file(&r->links, &visit->node, &is_new) : NULL;
        if (is_new && file)
            file->number = r->links.count - 1;
        if (is_new)
            return send_file(r, name, visit->path, &visit->node, stat);
        struct copy_record record = {.number = file->number};
        return send(r, COPY_HARDLINK, &record, name, NULL, 0);
    }
    return S_ISLNK(stat->mode) ? send_symlink(r, name, &visit->node, stat) : send_node(r, name, &visit->node, stat);
}

static bool send_tree(struct reader *r, const char *path) {
    char *top = path_trimmed(path);
    struct guest_node node;
    const char *slash = strrchr(top, '/');
    r->top = top;
    r->name = slash ? slash + 1 : top;
    r->err = (struct img_error){0};
    int ret = -1;
    if (strcmp(r->name, ".") == 0 || strcmp(r->name, "..") == 0)
        snprintf(r->err.text, sizeof(r->err.text), "%s: it does not end in a name", path);
    else
        ret = guest_resolve(r->guest, path, path_follows(path), &node, &r->err);
    if (ret == 0)
        ret = guest_walk(r->guest, &node, send_visit, r, &r->err);
    if (ret == 0)
        ret = leave(r, 0);
    if (ret < 0 && ret != WRITER_IS_GONE)
        report_guest_error(&r->err);
    free(top);
    return ret == 0;
}

bool send_guest_files(struct guest *guest, char *const *paths, size_t count, struct chute *chute) {
    struct reader r = {.guest = guest, .chute = chute};
    bool good = true;
    for (size_t i = 0; i < count && good; i++)
        good = send_tree(&r, paths[i]);
    if (good)
        good = send(&r, COPY_DONE, NULL, "", NULL, 0) == 0;
    chute_flush(chute);
    seen_free(&r.links);
    free(r.above);
    return good && !r.failed;
}
