/* SPDX-License-Identifier: GPL-3.0-or-later */
/* unpack.c - see unpack.h. The archive may be a stranger's: it is read in the sandbox, and a name in it can lead
 * nowhere but into the guest, whose paths end at its own root.
 *
 * A directory gets its attributes at the end: putting a file into it changes its times, and it may be one that must not
 * be written.
 */
#include "unpack.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "acl.h"
#include "fs/vfs_write.h"
#include "libarchive.h"
#include "report.h"

#define XATTR_MAX 65536
#define PIECE (1u << 20)

struct late_directory {
    struct guest_node node;
    struct fs_attributes attributes;
};

struct unpacking {
    struct guest *guest;
    struct archive *archive;
    bool show;
    const char *dir; /* the directory of the guest, without '/' at its end */
    struct late_directory *late;
    size_t nlate, room;
    size_t done, durable; /* entries: put; and on the disk already, since a filesystem had to commit */
    uint64_t commits;     /* of all filesystems, so far */
    struct img_error err;
};

static int wrong(struct unpacking *u, int code, const char *path, const char *why) {
    snprintf(u->err.text, sizeof(u->err.text), "%s: %s", path, why);
    return u->err.code = code;
}

static struct fs_time time_of(time_t seconds, long nanoseconds) {
    return (struct fs_time){.seconds = seconds, .nanoseconds = (uint32_t)nanoseconds};
}

static const struct fs_write_ops *write_ops(const struct guest_node *node) {
    return node->fs->write_ops;
}

/* "DIR/NAME" of the guest for a name in the archive; NULL: the name has a ".." in it. The caller frees. */
static char *place_of(const struct unpacking *u, const char *name) {
    char *path = text_format("%s/%s", u->dir, name);
    for (const char *part = path; *part;) {
        part += strspn(part, "/");
        size_t length = strcspn(part, "/");
        if (length == 2 && part[0] == '.' && part[1] == '.') {
            free(path);
            return NULL;
        }
        part += length;
    }
    /* "./", "a/": what is meant is what is in front */
    size_t length = strlen(path);
    while (length > 1 && (path[length - 1] == '/' || (path[length - 1] == '.' && path[length - 2] == '/')))
        path[--length] = '\0';
    return path;
}

static int make_directory(struct unpacking *u, const char *path, struct guest_node *node);

/* The directory that a path ends in, made if it is not there, and the last part of the path. */
static int parent_of(struct unpacking *u, char *path, struct guest_node *parent, const char **name) {
    char *slash = strrchr(path, '/');
    *name = slash + 1;
    *slash = '\0';
    int ret = guest_resolve(u->guest, *path ? path : "/", true, parent, &u->err);
    if (ret == -ENOENT && *path)
        ret = make_directory(u, path, parent);
    *slash = '/';
    if (ret == 0 && !write_ops(parent))
        ret = wrong(u, -EROFS, path, "the filesystem cannot be written");
    if (ret == 0)
        warn_if_not_whole(parent->fs);
    return ret;
}

/* One that the archive does not name before what lies in it. */
static int make_directory(struct unpacking *u, const char *path, struct guest_node *node) {
    struct timespec now;
    struct guest_node parent;
    const char *name;
    char *copy = text_copy(path);
    clock_gettime(CLOCK_REALTIME, &now);
    int ret = parent_of(u, copy, &parent, &name);
    if (ret == 0) {
        struct fs_new directory = {.mode = S_IFDIR | 0755,
                                   .atime = time_of(now.tv_sec, now.tv_nsec),
                                   .mtime = time_of(now.tv_sec, now.tv_nsec)};
        *node = parent;
        ret = write_ops(&parent)->create(parent.fs, parent.ino, name, strlen(name), &directory, &node->ino, &u->err);
    }
    free(copy);
    return ret;
}

static int put_acl(struct unpacking *u, const struct guest_node *node, struct archive_entry *entry, int type,
                   const char *name) {
    size_t length;
    unsigned char *acl = acl_of_entry(entry, type, &length);
    int ret = acl ? write_ops(node)->set_xattr(node->fs, node->ino, name, acl, length, &u->err) : 0;
    free(acl);
    return ret == -ENOTSUP ? 0 : ret;
}

static int put_xattrs(struct unpacking *u, const struct guest_node *node, struct archive_entry *entry) {
    const char *name;
    const void *value;
    size_t length;
    la.archive_entry_xattr_reset(entry);
    while (la.archive_entry_xattr_next(entry, &name, &value, &length) == ARCHIVE_OK) {
        int ret = length > XATTR_MAX ? wrong(u, -E2BIG, name, "the attribute is too long")
                                     : write_ops(node)->set_xattr(node->fs, node->ino, name, value, length, &u->err);
        if (ret < 0 && ret != -ENOTSUP)
            return ret;
    }
    int ret = put_acl(u, node, entry, ARCHIVE_ENTRY_ACL_TYPE_ACCESS, "system.posix_acl_access");
    return ret < 0 ? ret : put_acl(u, node, entry, ARCHIVE_ENTRY_ACL_TYPE_DEFAULT, "system.posix_acl_default");
}

/* Data on their way into a file, gathered into large pieces. */
struct piece {
    uint64_t offset;
    size_t count;
    unsigned char bytes[PIECE];
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

static int put_data(struct unpacking *u, const struct guest_node *node, const char *path, uint64_t size) {
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
            return wrong(u, -EINVAL, path, "its parts in the archive are out of order");
        ret = gather(u, node, &piece, bytes, count, (uint64_t)offset);
        if (ret < 0)
            return ret;
    }
    if (ret != ARCHIVE_EOF)
        return wrong(u, -EIO, path, la.archive_error_string(u->archive));
    ret = put_piece(u, node, &piece);
    return ret == 0 && piece.offset < size ? write_ops(node)->set_size(node->fs, node->ino, size, &u->err) : ret;
}

/* The name goes if something else has it, but no directory; 1: it is the target's name already. */
static int clear_name(struct unpacking *u, const struct guest_node *parent, const char *name,
                      const struct guest_node *target) {
    struct guest_node there;
    struct fs_stat stat;
    int ret = guest_step(u->guest, parent, name, strlen(name), &there, &u->err);
    if (ret == -ENOENT)
        return 0;
    if (ret == 0 && there.fs == target->fs && there.ino == target->ino)
        return 1;
    if (ret == 0)
        ret = guest_stat(&there, &stat, &u->err);
    if (ret == 0 && S_ISDIR(stat.mode))
        return wrong(u, -EISDIR, name, "is there and is a directory");
    return ret < 0 ? ret : write_ops(parent)->unlink(parent->fs, parent->ino, name, strlen(name), &u->err);
}

static int put_link(struct unpacking *u, struct archive_entry *entry, const struct guest_node *parent,
                    const char *name) {
    struct guest_node target;
    char *path = place_of(u, la.archive_entry_hardlink(entry));
    if (!path)
        return wrong(u, -EINVAL, la.archive_entry_hardlink(entry), "a link leads out of the archive");
    int ret = guest_resolve(u->guest, path, false, &target, &u->err);
    if (ret == 0 && target.fs != parent->fs)
        ret = wrong(u, -EXDEV, path, "a hard link cannot lead to another filesystem");
    if (ret == 0)
        ret = clear_name(u, parent, name, &target);
    if (ret == 0)
        ret = write_ops(parent)->link(parent->fs, parent->ino, name, strlen(name), target.ino, &u->err);
    free(path);
    return ret < 0 ? ret : 0;
}

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
    int ret = guest_resolve(u->guest, path, true, node, &u->err);
    if (ret == 0)
        ret = guest_stat(node, &stat, &u->err);
    if (ret == 0 && !S_ISDIR(stat.mode))
        ret = wrong(u, -ENOTDIR, path, "is there and is no directory");
    if (ret == -ENOENT) {
        *node = *parent;
        ret = write_ops(parent)->create(parent->fs, parent->ino, name, strlen(name), directory, &node->ino, &u->err);
    }
    if (ret == 0)
        keep_for_the_end(u, node, directory);
    return ret;
}

static struct fs_new new_file(struct archive_entry *entry) {
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
    size_t length;
    unsigned char *acl = acl_of_entry(entry, ARCHIVE_ENTRY_ACL_TYPE_ACCESS, &length);
    if (acl)
        file.mode = acl_mode(file.mode, acl, length);
    free(acl);
    return file;
}

static int put_file(struct unpacking *u, struct archive_entry *entry, char *path) {
    struct fs_new file = new_file(entry);
    struct guest_node parent, node;
    const char *name;
    int ret = parent_of(u, path, &parent, &name);
    if (ret < 0)
        return ret;
    if (la.archive_entry_hardlink(entry))
        return put_link(u, entry, &parent, name);
    if (S_ISDIR(file.mode))
        ret = put_directory(u, path, &parent, name, &file, &node);
    else {
        node = parent;
        ret = write_ops(&parent)->create(parent.fs, parent.ino, name, strlen(name), &file, &node.ino, &u->err);
    }
    if (ret == 0 && S_ISREG(file.mode))
        ret = put_data(u, &node, path, file.size);
    return ret == 0 ? put_xattrs(u, &node, entry) : ret;
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

static int put_entry(struct unpacking *u, struct archive_entry *entry) {
    const char *name = la.archive_entry_pathname(entry);
    if (!name)
        return wrong(u, -EILSEQ, "archive", "a name in it cannot be read");
    char *path = place_of(u, name);
    if (!path)
        return wrong(u, -EINVAL, name, "leads out of the directory");
    if (u->show) {
        struct guest_node there;
        printf("%c ", guest_resolve(u->guest, path, false, &there, NULL) == 0 ? '=' : '+');
        print_text(stdout, path);
        putchar('\n');
    }
    int ret = put_file(u, entry, path);
    free(path);
    count_commits(u);
    u->done++;
    return ret;
}

static int finish_directories(struct unpacking *u) {
    int ret = 0;
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
        return wrong(u, -EINVAL, "archive", la.archive_error_string(u->archive));
    for (;;) {
        int ret = la.archive_read_next_header(u->archive, &entry);
        if (ret == ARCHIVE_EOF)
            return finish_directories(u);
        if (ret < ARCHIVE_WARN)
            return wrong(u, -EINVAL, "archive", la.archive_error_string(u->archive));
        ret = put_entry(u, entry);
        if (ret < 0)
            return ret;
    }
}

static int check_directory(struct unpacking *u, const char *dir) {
    struct guest_node node;
    struct fs_stat stat;
    int ret = guest_resolve(u->guest, dir, true, &node, &u->err);
    if (ret == 0)
        ret = guest_stat(&node, &stat, &u->err);
    if (ret == 0 && !S_ISDIR(stat.mode))
        ret = wrong(u, -ENOTDIR, dir, "Not a directory");
    return ret;
}

bool unpack(struct guest *guest, int fd, const char *dir, bool show) {
    char *trimmed = text_copy(dir);
    size_t length = strlen(trimmed);
    while (length > 0 && trimmed[length - 1] == '/')
        trimmed[--length] = '\0';
    struct unpacking u = {.guest = guest, .show = show, .dir = trimmed, .archive = la.archive_read_new()};
    if (!u.archive)
        out_of_memory();
    count_commits(&u);
    int ret = check_directory(&u, dir);
    if (ret == 0)
        ret = put_all(&u, fd);
    if (ret < 0)
        report_guest_error(&u.err);
    if (ret < 0 && u.durable > 0)
        report("What came before is in the guest already: %zu files and directories", u.durable);
    la.archive_read_free(u.archive);
    free(u.late);
    free(trimmed);
    return ret == 0;
}

void warn_if_not_whole(const struct fs *fs) {
    static bool told;
    if (fs->write_ops->whole || told)
        return;
    told = true;
    report("The filesystem (%s) has no journal: a power cut now could leave it in need of a check", fs->type);
}

bool commit_guest(struct guest *guest) {
    const struct guest_mount *mounts;
    struct img_error err = {0};
    size_t count = guest_mounts(guest, &mounts);
    for (size_t i = 0; i < count; i++) {
        struct fs *fs = mounts[i].fs;
        if (fs->write_ops && fs->write_ops->commit(fs, &err) < 0) {
            report_guest_error(&err);
            return false;
        }
    }
    return true;
}
