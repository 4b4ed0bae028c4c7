/* SPDX-License-Identifier: GPL-3.0-or-later */
/* unpack.c - see unpack.h. The archive may be a stranger's: it is read in the sandbox, and a name in it can lead
 * nowhere but into the guest, whose paths end at its own root.
 *
 * A directory gets its attributes at the end: putting a file into it changes its times, and it may be one that must not
 * be written. Links that could lead later entries elsewhere come last too (unpack_links.c).
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "acl.h"
#include "paths.h"
#include "report.h"
#include "unpack_parts.h"

#define XATTR_MAX 65536

static struct fs_time time_of(time_t seconds, long nanoseconds) {
    return (struct fs_time){.seconds = seconds, .nanoseconds = (uint32_t)nanoseconds};
}

/* ---- places ---- */

bool unpack_climbs(const char *path) {
    for (const char *part = path; *part;) {
        part += strspn(part, "/");
        size_t length = strcspn(part, "/");
        if (length == 2 && part[0] == '.' && part[1] == '.')
            return true;
        part += length;
    }
    return false;
}

char *unpack_place(const struct unpacking *u, const char *name) {
    char *path = text_format("%s/%s", u->dir, name);
    if (unpack_climbs(path)) {
        free(path);
        return NULL;
    }
    /* "./", "a/": what is meant is what is in front */
    size_t length = strlen(path);
    while (length > 1 && (path[length - 1] == '/' || (path[length - 1] == '.' && path[length - 2] == '/')))
        path[--length] = '\0';
    return path;
}

static int make_directory(struct unpacking *u, const struct guest_node *parent, const char *name,
                          struct guest_node *node) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    struct fs_new directory = {
        .mode = S_IFDIR | 0755, .atime = time_of(now.tv_sec, now.tv_nsec), .mtime = time_of(now.tv_sec, now.tv_nsec)};
    if (*name == '\0' || strcmp(name, ".") == 0)
        return 0;
    if (!write_ops(parent))
        return 0; /* the caller looks */
    return write_ops(parent)->create(parent->fs, parent->ino, name, strlen(name), &directory, &node->ino, &u->err);
}

/* A directory that may not be there, since the archive does not name it before what lies in it. */
static int reach_directory(struct unpacking *u, char *path, struct guest_node *node) {
    char *end = path + strlen(path), *at = end;
    int ret;
    while ((ret = guest_resolve_directory(u->guest, *path ? path : "/", node, &u->err)) == -ENOENT && at > path)
        *(at = strrchr(path, '/')) = '\0';
    for (; at < end; at += strlen(at)) { /* what was cut off */
        *at = '/';
        if (ret == 0)
            ret = make_directory(u, node, at + 1, node);
    }
    return ret;
}

/* The directory that a path ends in, and the last part of the path. Files that lie together come together. */
static int parent_of(struct unpacking *u, char *path, struct guest_node *parent, const char **name) {
    char *slash = strrchr(path, '/');
    int ret = 0;
    *name = slash + 1;
    *slash = '\0';
    if (!u->parent_path || strcmp(path, u->parent_path) != 0) {
        free(u->parent_path);
        u->parent_path = NULL;
        ret = reach_directory(u, path, &u->parent);
        if (ret == 0)
            u->parent_path = text_copy(path);
    }
    *slash = '/';
    *parent = u->parent;
    if (ret == 0 && !write_ops(parent))
        ret = set_error(&u->err, -EROFS, "the filesystem cannot be written");
    if (ret == 0)
        warn_if_not_whole(parent->fs);
    return ret;
}

/* ---- attributes ---- */

int unpack_xattr(struct unpacking *u, const struct guest_node *node, const char *path, const char *name,
                 const void *value, size_t length) {
    int ret = length > XATTR_MAX ? set_error(&u->err, -E2BIG, "the attribute %s is too long", name)
                                 : write_ops(node)->set_xattr(node->fs, node->ino, name, value, length, &u->err);
    if (ret == -E2BIG)
        report("%s: %s", path, u->err.text);
    return ret == -E2BIG || ret == -ENOTSUP ? 0 : ret;
}

int unpack_xattrs(struct unpacking *u, const struct guest_node *node, const char *path, struct archive_entry *entry) {
    const char *name;
    const void *value;
    size_t length;
    int ret = 0;
    la.archive_entry_xattr_reset(entry);
    while (ret == 0 && la.archive_entry_xattr_next(entry, &name, &value, &length) == ARCHIVE_OK)
        ret = unpack_xattr(u, node, path, name, value, length);
    unsigned char *acl = ret == 0 ? acl_of_entry(entry, ARCHIVE_ENTRY_ACL_TYPE_DEFAULT, &length) : NULL;
    if (acl)
        ret = unpack_xattr(u, node, path, "system.posix_acl_default", acl, length);
    free(acl);
    return ret;
}

/* ---- data ---- */

/* Data on their way into a file, gathered into large pieces. */
struct piece {
    uint64_t offset;
    size_t count;
    unsigned char bytes[UNPACK_PIECE];
};

static int put_piece(struct unpacking *u, const struct guest_node *node, struct piece *piece) {
    if (piece->count == 0)
        return 0;
    int ret = write_ops(node)->append(node->fs, node->ino, piece->bytes, piece->count, piece->offset, &u->err);
    piece->offset += piece->count;
    piece->count = 0;
    return ret;
}

static int gather(struct unpacking *u, const struct guest_node *node, struct piece *piece, const unsigned char *bytes,
                  size_t count, uint64_t offset) {
    int ret = 0;
    if (offset != piece->offset + piece->count) {
        ret = put_piece(u, node, piece);
        piece->offset = offset;
    }
    while (count > 0 && ret == 0) {
        size_t room = sizeof(piece->bytes) - piece->count, part = count < room ? count : room;
        memcpy(piece->bytes + piece->count, bytes, part);
        piece->count += part;
        bytes += part;
        count -= part;
        if (part == room)
            ret = put_piece(u, node, piece);
    }
    return ret;
}

static int put_data(struct unpacking *u, const struct guest_node *node, uint64_t size) {
    static struct piece piece;
    const void *bytes;
    size_t count;
    la_int64_t offset;
    int ret;
    piece.offset = piece.count = 0;
    while ((ret = la.archive_read_data_block(u->archive, &bytes, &count, &offset)) == ARCHIVE_OK) {
        if (count == 0)
            continue;
        if (offset < 0 || (uint64_t)offset < piece.offset + piece.count)
            return set_error(&u->err, -EINVAL, "its parts in the archive are out of order");
        ret = gather(u, node, &piece, bytes, count, (uint64_t)offset);
        if (ret < 0)
            return ret;
    }
    if (ret != ARCHIVE_EOF)
        return set_error(&u->err, -EIO, "%s", la.archive_error_string(u->archive));
    ret = put_piece(u, node, &piece);
    return ret == 0 && piece.offset < size ? write_ops(node)->set_size(node->fs, node->ino, size, &u->err) : ret;
}

/* ---- entries ---- */

static void keep_for_the_end(struct unpacking *u, const struct guest_node *node, const struct fs_new *file) {
    if (u->nlate == u->room) {
        u->room = u->room ? 2 * u->room : 64;
        u->late = realloc(u->late, u->room * sizeof(u->late[0]));
        if (!u->late)
            out_of_memory();
    }
    u->late[u->nlate++] = (struct late_directory){.node = *node,
                                                  .attributes = {.set = FS_SET_ALL,
                                                                 .mode = file->mode,
                                                                 .uid = file->uid,
                                                                 .gid = file->gid,
                                                                 .atime = file->atime,
                                                                 .mtime = file->mtime}};
}

static int put_directory(struct unpacking *u, const char *path, const struct guest_node *parent, const char *name,
                         const struct fs_new *directory, struct guest_node *node) {
    struct fs_stat stat;
    int ret = *name ? guest_step(u->guest, parent, name, strlen(name), node, &u->err)
                    : guest_resolve(u->guest, path, true, node, &u->err);
    if (ret == 0)
        ret = guest_stat(node, &stat, &u->err);
    if (ret == 0 && S_ISLNK(stat.mode) && (ret = guest_resolve(u->guest, path, true, node, &u->err)) == 0)
        ret = guest_stat(node, &stat, &u->err);
    if (ret == 0 && !S_ISDIR(stat.mode))
        ret = set_error(&u->err, -ENOTDIR, "is there and is no directory");
    if (ret == -ENOENT) {
        *node = *parent;
        ret = write_ops(parent)->create(parent->fs, parent->ino, name, strlen(name), directory, &node->ino, &u->err);
    }
    if (ret == 0)
        keep_for_the_end(u, node, directory);
    return ret;
}

static struct fs_new new_file(struct archive_entry *entry, const unsigned char *acl, size_t acl_length) {
    time_t mtime = la.archive_entry_mtime(entry);
    long nanoseconds = la.archive_entry_mtime_nsec(entry);
    struct fs_new file = {.mode = la.archive_entry_mode(entry),
                          .uid = (uint32_t)la.archive_entry_uid(entry),
                          .gid = (uint32_t)la.archive_entry_gid(entry),
                          .rdev_major = (uint32_t)la.archive_entry_rdevmajor(entry),
                          .rdev_minor = (uint32_t)la.archive_entry_rdevminor(entry),
                          .target = la.archive_entry_symlink(entry),
                          .size = la.archive_entry_size(entry) > 0 ? (uint64_t)la.archive_entry_size(entry) : 0,
                          .replace = true,
                          .atime = time_of(mtime, nanoseconds),
                          .mtime = time_of(mtime, nanoseconds)};
    if (la.archive_entry_atime_is_set(entry))
        file.atime = time_of(la.archive_entry_atime(entry), la.archive_entry_atime_nsec(entry));
    if (acl)
        file.mode = acl_mode(file.mode, acl, acl_length);
    return file;
}

static int put_file(struct unpacking *u, struct archive_entry *entry, const char *path, const struct guest_node *parent,
                    const char *name) {
    size_t acl_length = 0;
    unsigned char *acl = acl_of_entry(entry, ARCHIVE_ENTRY_ACL_TYPE_ACCESS, &acl_length);
    struct fs_new file = new_file(entry, acl, acl_length);
    struct guest_node node = *parent;
    int ret;
    if (S_ISLNK(file.mode) && unpack_is_late(u, file.target))
        return unpack_late_symlink(u, entry, &file, parent, path, name);
    if (S_ISDIR(file.mode))
        ret = put_directory(u, path, parent, name, &file, &node);
    else
        ret = write_ops(parent)->create(parent->fs, parent->ino, name, strlen(name), &file, &node.ino, &u->err);
    if (ret == 0 && S_ISREG(file.mode))
        ret = put_data(u, &node, file.size);
    if (ret == 0)
        ret = unpack_xattrs(u, &node, path, entry);
    if (ret == 0 && acl)
        ret = unpack_xattr(u, &node, path, "system.posix_acl_access", acl, acl_length);
    free(acl);
    return ret;
}

/* A commit that a filesystem had to make holds all that was put before this entry. */
static void count_commits(struct unpacking *u) {
    const struct guest_mount *mounts;
    uint64_t commits = 0;
    for (size_t i = guest_mounts(u->guest, &mounts); i-- > 0;)
        commits += mounts[i].fs->commits;
    if (commits != u->commits)
        u->durable = u->done;
    u->commits = commits;
}

/* "PATH: what is wrong", if the sentence is not one about the path already. */
static void name_the_path(struct unpacking *u, const char *path) {
    size_t length = strlen(path);
    if (strncmp(u->err.text, path, length) == 0 && u->err.text[length] == ':')
        return;
    char *sentence = text_format("%s: %s", path, u->err.text);
    set_error(&u->err, u->err.code, "%s", sentence);
    free(sentence);
}

static int put_entry(struct unpacking *u, struct archive_entry *entry) {
    struct guest_node parent;
    const char *last, *name = la.archive_entry_pathname(entry);
    if (!name)
        return set_error(&u->err, -EILSEQ, "archive: a name in it cannot be read");
    char *path = unpack_place(u, name);
    if (!path)
        return set_error(&u->err, -EINVAL, "%s: leads out of the directory", name);
    if (u->show) {
        struct guest_node there;
        printf("%c ", guest_resolve(u->guest, path, false, &there, NULL) == 0 ? '=' : '+');
        print_text(stdout, path);
        putchar('\n');
    }
    int ret = parent_of(u, path, &parent, &last);
    if (ret == 0)
        ret = la.archive_entry_hardlink(entry) ? unpack_hardlink(u, entry, &parent, path, last)
                                               : put_file(u, entry, path, &parent, last);
    if (ret < 0)
        name_the_path(u, path);
    free(path);
    count_commits(u);
    u->done++;
    return ret;
}

static int finish(struct unpacking *u) {
    int ret = unpack_finish_links(u);
    while (u->nlate > 0 && ret == 0) {
        struct late_directory *late = &u->late[--u->nlate];
        if (write_ops(&late->node))
            ret = write_ops(&late->node)->set_attributes(late->node.fs, late->node.ino, &late->attributes, &u->err);
    }
    return ret;
}

static int put_all(struct unpacking *u, int fd) {
    struct archive_entry *entry;
    la.archive_read_support_format_tar(u->archive);
    la.archive_read_support_format_empty(u->archive);
    la.archive_read_support_filter_gzip(u->archive);
    la.archive_read_support_filter_bzip2(u->archive);
    la.archive_read_support_filter_xz(u->archive);
    la.archive_read_support_filter_zstd(u->archive);
    if (la.archive_read_open_fd(u->archive, fd, 1 << 20) != ARCHIVE_OK)
        return set_error(&u->err, -EINVAL, "archive: %s", la.archive_error_string(u->archive));
    for (;;) {
        int ret = la.archive_read_next_header(u->archive, &entry);
        if (ret == ARCHIVE_EOF)
            return finish(u);
        if (ret < ARCHIVE_WARN)
            return set_error(&u->err, -EINVAL, "archive: %s", la.archive_error_string(u->archive));
        ret = put_entry(u, entry);
        if (ret < 0)
            return ret;
    }
}

bool unpack(struct guest *guest, int fd, const char *dir, bool show) {
    char *trimmed = path_trimmed(dir);
    struct unpacking u = {.guest = guest, .show = show, .dir = trimmed, .archive = la.archive_read_new()};
    if (!u.archive)
        out_of_memory();
    count_commits(&u);
    struct guest_node top;
    int ret = guest_resolve_directory(guest, dir, &top, &u.err);
    if (ret == 0)
        ret = put_all(&u, fd);
    if (ret < 0)
        report_guest_error(&u.err);
    if (ret < 0 && u.durable > 0)
        report("What came before is in the guest already: %zu files and directories", u.durable);
    la.archive_read_free(u.archive);
    free(u.late);
    free(u.parent_path);
    unpack_free_links(&u.links);
    free(trimmed);
    return ret == 0;
}
