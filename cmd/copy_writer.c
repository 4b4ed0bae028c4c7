/* SPDX-License-Identifier: GPL-3.0-or-later */
/* copy_writer.c - see copy_writer.h.
 *
 * Nothing that arrives is trusted: a record is copied before it is looked at, a name is checked to be one name, and all
 * is made relative to open directories, through no symbolic link. So the worst that a taken-over reader can do is what
 * a hostile guest could do anyway: put strange files below the directory that the user named.
 *
 * A directory stays private (0700) and its owner ours until it is complete. The way back up is "..", checked to be the
 * directory that we came from; so two descriptors do, however deep the tree is.
 *
 * What cannot be made is reported and left out, with all that is below it; a write that fails ends the copy.
 */
#include "copy_writer.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "beneath.h"
#include "copy_records.h"
#include "report.h"

#define DEPTH_MAX 65536

struct place {
    dev_t dev;
    ino_t ino;
    size_t path_length;
};

/* A directory that its user could not enter any more; it gets its mode at the end, since links may lead there. */
struct late_mode {
    char *path;
    mode_t mode;
};

struct list {
    void *items;
    size_t count, room;
};

struct writer {
    struct chute *chute;
    int top, dir;   /* where the copy goes; where we are now */
    bool root;      /* owners are kept */
    mode_t cleared; /* of every mode */
    bool failed;    /* something was left out */
    bool stopped;   /* no more can be made */
    char *path;     /* of `dir` below `top`: for messages, and for links */
    size_t path_length, path_room;
    struct list places; /* struct place, the directories above and `dir` */
    size_t skipped;     /* directories deep below one that could not be made */
    struct list links;  /* char *: paths of files that may be linked, NULL: not made */
    struct list late;   /* struct late_mode */

    /* what the records are about */
    enum copy_kind kind; /* DIRECTORY, FILE, SYMLINK, NODE; 0: nothing, or something that could not be made */
    int fd;              /* of FILE and DIRECTORY */
    uint64_t written;    /* FILE: where the data ends so far */
    char name[FS_NAME_MAX + 1];
    struct copy_record record;
    char *payload; /* a copy, but of DATA where it lies in shared memory */
};

static void *list_add(struct list *list, size_t size) {
    if (list->count == list->room) {
        list->room = list->room ? 2 * list->room : 16;
        list->items = realloc(list->items, list->room * size);
        if (!list->items)
            out_of_memory();
    }
    return (char *)list->items + size * list->count++;
}

/* Of an errno; those of the host's disk would come again with every file. */
static void complain(struct writer *w, const char *name, const char *what) {
    int error = errno;
    report("%s%s%s: %s%s", w->path, w->path_length && *name ? "/" : "", name, what, strerror(error));
    w->failed = true;
    w->stopped |= error == ENOSPC || error == EDQUOT || error == EIO || error == EROFS;
}

static void nonsense(struct writer *w, const char *what) {
    report("The process that reads the disk sent %s", what);
    w->failed = w->stopped = true;
}

/* ---- directories ---- */

static void extend_path(struct writer *w, const char *name) {
    size_t length = strlen(name), wanted = w->path_length + length + 2;
    if (wanted > w->path_room) {
        w->path_room = 2 * wanted;
        w->path = realloc(w->path, w->path_room);
        if (!w->path)
            out_of_memory();
    }
    if (w->path_length > 0)
        w->path[w->path_length++] = '/';
    memcpy(w->path + w->path_length, name, length + 1);
    w->path_length += length;
}

static bool remember_place(struct writer *w, int fd) {
    struct stat stat;
    if (w->places.count > DEPTH_MAX || fstat(fd, &stat) < 0)
        return false;
    *(struct place *)list_add(&w->places, sizeof(struct place)) =
        (struct place){.dev = stat.st_dev, .ino = stat.st_ino, .path_length = w->path_length};
    return true;
}

static void enter_directory(struct writer *w) {
    w->kind = 0;
    if (w->skipped > 0) {
        w->skipped++;
        return;
    }
    int fd = beneath_directory(w->dir, w->name);
    if (fd < 0) {
        complain(w, w->name, "");
        w->skipped = 1;
        return;
    }
    extend_path(w, w->name);
    if (!remember_place(w, fd))
        nonsense(w, "a tree that is too deep");
    if (w->dir != w->top)
        close(w->dir);
    w->dir = fd;
}

/* The directory that is complete is what the next records are about. */
static void turn_back(struct writer *w) {
    if (w->kind)
        nonsense(w, "a directory's end inside a file");
    else if (w->skipped > 0)
        w->skipped--;
    else if (w->places.count <= 1)
        nonsense(w, "a way up that leads out of the tree");
    else {
        w->kind = COPY_DIRECTORY;
        w->fd = w->dir;
        w->name[0] = '\0';
    }
}

static void leave_directory(struct writer *w) {
    const struct place *above = (struct place *)w->places.items + --w->places.count - 1;
    struct stat stat;
    int up = w->places.count == 1 ? w->top : openat(w->dir, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (up < 0 || fstat(up, &stat) < 0 || stat.st_dev != above->dev || stat.st_ino != above->ino) {
        report("%s: the directory was moved during the copy", w->path);
        w->failed = w->stopped = true;
    }
    if (up < 0)
        return;
    close(w->dir);
    w->dir = up;
    w->path_length = above->path_length;
    w->path[w->path_length] = '\0';
}

/* ---- what is in them ---- */

static void make_file(struct writer *w) {
    w->fd = beneath_new_file(w->dir, w->name);
    if (w->fd < 0) {
        complain(w, w->name, "");
        w->kind = 0;
    }
    w->written = 0;
    if (!w->record.number)
        return;
    char **path = list_add(&w->links, sizeof(*path));
    *path = w->kind ? text_format("%s%s%s", w->path, w->path_length ? "/" : "", w->name) : NULL;
}

static int make_node(struct writer *w, const char *target) {
    const struct copy_record *r = &w->record;
    if (target)
        return symlinkat(target, w->dir, w->name);
    return mknodat(w->dir, w->name, r->mode & (S_IFMT | (07777 & ~w->cleared)), makedev(r->major, r->minor));
}

static void make_symlink_or_node(struct writer *w, const char *target) {
    mode_t type = w->record.mode & S_IFMT;
    if (!target && type != S_IFCHR && type != S_IFBLK && type != S_IFIFO && type != S_IFSOCK) {
        nonsense(w, "a file of no type");
        return;
    }
    if (make_node(w, target) == 0 ||
        (errno == EEXIST && unlinkat(w->dir, w->name, 0) == 0 && make_node(w, target) == 0))
        return;
    complain(w, w->name, "");
    w->kind = 0;
}

static bool same_file(int dir, const char *name, int other_dir, const char *other) {
    struct stat one, two;
    return fstatat(dir, name, &one, AT_SYMLINK_NOFOLLOW) == 0 &&
           fstatat(other_dir, other, &two, AT_SYMLINK_NOFOLLOW) == 0 && one.st_dev == two.st_dev &&
           one.st_ino == two.st_ino;
}

/* What has the name goes only when the link is there: it may be what is linked. */
static bool link_over(struct writer *w, int dir, const char *last) {
    bool good = false;
    for (unsigned i = 0; !good && i < 100; i++) {
        char *aside = text_format(".img-link-%u", i);
        good = linkat(dir, last, w->dir, aside, 0) == 0;
        if (good && renameat(w->dir, aside, w->dir, w->name) < 0) {
            int error = errno;
            unlinkat(w->dir, aside, 0);
            free(aside);
            errno = error;
            return false;
        }
        free(aside);
        if (!good && errno != EEXIST)
            return false;
    }
    return good;
}

static void make_hardlink(struct writer *w) {
    const char *last, *path = NULL;
    w->kind = 0;
    if (w->record.number < w->links.count)
        path = ((char **)w->links.items)[w->record.number];
    else
        nonsense(w, "a link to no file");
    if (!path) {
        w->failed = true; /* that it could not be made was said */
        return;
    }
    int dir = beneath_parent(w->top, path, &last);
    if (dir < 0 || (linkat(dir, last, w->dir, w->name, 0) < 0 &&
                    (errno != EEXIST || (!same_file(dir, last, w->dir, w->name) && !link_over(w, dir, last)))))
        complain(w, w->name, "the link cannot be made: ");
    if (dir >= 0)
        close(dir);
}

static void write_data(struct writer *w, const char *bytes) {
    uint64_t at = w->record.number;
    size_t left = w->record.length;
    if (w->kind != COPY_FILE)
        return;
    if (at > INT64_MAX - left) {
        nonsense(w, "data behind the end of all files");
        return;
    }
    while (left > 0) {
        ssize_t wrote = pwrite(w->fd, bytes, left, (off_t)at);
        if (wrote < 0 && errno == EINTR)
            continue;
        if (wrote < 0) {
            complain(w, w->name, "");
            w->stopped = true;
            return;
        }
        bytes += wrote;
        at += (uint64_t)wrote;
        left -= (size_t)wrote;
    }
    if (w->written < at)
        w->written = at;
}

/* ---- attributes ---- */

static void set_mode(struct writer *w) {
    mode_t mode = w->record.mode & 07777 & ~w->cleared;
    if (w->kind == COPY_DIRECTORY && !w->root && (mode & 0700) != 0700) {
        *(struct late_mode *)list_add(&w->late, sizeof(struct late_mode)) =
            (struct late_mode){.path = text_copy(w->path), .mode = mode};
        mode |= 0700;
    }
    if (fchmod(w->fd, mode) < 0)
        complain(w, w->name, "the mode cannot be set: ");
}

static void set_owner_and_size(struct writer *w) {
    const struct copy_record *r = &w->record;
    bool by_name = w->kind == COPY_SYMLINK || w->kind == COPY_NODE;
    int ret = 0;
    if (w->kind == COPY_FILE && r->number != w->written && ftruncate(w->fd, (off_t)r->number) < 0)
        complain(w, w->name, "");
    if (w->root)
        ret = by_name ? fchownat(w->dir, w->name, r->uid, r->gid, AT_SYMLINK_NOFOLLOW) : fchown(w->fd, r->uid, r->gid);
    if (ret < 0)
        complain(w, w->name, "the owner cannot be set: ");
    if (!by_name)
        set_mode(w);
}

/* What says who may do what with the file, as its mode does, and what users noted. Other names are a guest's orders to
 * the kernel and its security modules, and this kernel is not the guest's: labels, signatures, what overlays take for
 * deleted (trusted.overlay). */
static bool is_kept(const char *name) {
    return strncmp(name, "user.", 5) == 0 || strcmp(name, "security.capability") == 0 ||
           strcmp(name, "system.posix_acl_access") == 0 || strcmp(name, "system.posix_acl_default") == 0;
}

/* Filesystems without attributes, and attributes that a user may not set, are no errors, as they are none for tar. */
static void set_attribute(struct writer *w) {
    size_t name_length = strnlen(w->payload, w->record.length);
    const char *name = w->payload, *value = name + name_length + 1;
    if (name_length == w->record.length || name_length > COPY_XATTR_NAME_MAX) {
        nonsense(w, "an attribute without a name");
        return;
    }
    size_t length = w->record.length - name_length - 1;
    if (w->kind == 0 || !is_kept(name))
        return;
    int ret;
    if (w->kind == COPY_FILE || w->kind == COPY_DIRECTORY)
        ret = fsetxattr(w->fd, name, value, length, 0);
    else {
        char *path = text_format("/proc/self/fd/%d/%s", w->dir, w->name);
        ret = lsetxattr(path, name, value, length, 0);
        free(path);
    }
    if (ret < 0 && errno != ENOTSUP && errno != EPERM && errno != EACCES) {
        char *what = text_format("the attribute %s cannot be set: ", name);
        complain(w, w->name, what);
        free(what);
    }
}

static struct timespec time_of(const struct fs_time *time) {
    return (struct timespec){.tv_sec = time->seconds,
                             .tv_nsec = time->nanoseconds < 1000000000 ? time->nanoseconds : 0};
}

static void finish(struct writer *w) {
    const struct timespec times[2] = {time_of(&w->record.atime), time_of(&w->record.mtime)};
    int ret = 0;
    if (w->kind == COPY_FILE || w->kind == COPY_DIRECTORY)
        ret = futimens(w->fd, times);
    else if (w->kind)
        ret = utimensat(w->dir, w->name, times, AT_SYMLINK_NOFOLLOW);
    if (ret < 0)
        complain(w, w->name, "the times cannot be set: ");
    if (w->kind == COPY_FILE && close(w->fd) < 0) /* some filesystems tell only now */
        complain(w, w->name, "");
    if (w->kind == COPY_DIRECTORY)
        leave_directory(w);
    w->kind = 0;
}

static void drop(struct writer *w) {
    if (w->kind == COPY_FILE) {
        close(w->fd);
        unlinkat(w->dir, w->name, 0);
        if (w->record.number && w->links.count > 0) {
            char **path = (char **)w->links.items + w->links.count - 1;
            free(*path);
            *path = NULL;
        }
    }
    w->failed = true;
    w->kind = 0;
}

/* ---- records ---- */

/* Takes the name out of the payload; *target: what stands behind it. False: nothing is to be made. */
static bool take_name(struct writer *w, const char **target) {
    size_t all = w->record.length, length = strnlen(w->payload, all);
    *target = w->record.kind == COPY_SYMLINK && length < all ? w->payload + length + 1 : NULL;
    if ((w->record.kind == COPY_SYMLINK) != (length < all) || length > FS_NAME_MAX) {
        nonsense(w, "a record without a name");
        return false;
    }
    memcpy(w->name, w->payload, length);
    w->name[length] = '\0';
    if (w->skipped > 0 || beneath_is_name(w->name, length))
        return true;
    report("%s: it has a file with the name '%s', which is not made", *w->path ? w->path : ".", w->name);
    w->failed = true;
    return false;
}

static void begin(struct writer *w) {
    const char *target;
    bool good = take_name(w, &target);
    enum copy_kind kind = w->record.kind;
    if (kind == COPY_DIRECTORY && good) {
        enter_directory(w);
        return;
    }
    w->kind = 0;
    if (kind == COPY_DIRECTORY) /* all below it is left out with it */
        w->skipped++;
    if (kind == COPY_FILE && w->record.number && (!good || w->skipped > 0))
        *(char **)list_add(&w->links, sizeof(char *)) = NULL;
    if (!good || w->skipped > 0)
        return;
    w->kind = kind;
    if (kind == COPY_FILE)
        make_file(w);
    else if (kind == COPY_HARDLINK)
        make_hardlink(w);
    else
        make_symlink_or_node(w, target);
}

static void obey(struct writer *w, const char *bytes) {
    switch ((enum copy_kind)w->record.kind) {
    case COPY_DIRECTORY:
    case COPY_FILE:
    case COPY_SYMLINK:
    case COPY_NODE:
    case COPY_HARDLINK:
        if (w->kind)
            nonsense(w, "a file inside another one");
        else
            begin(w);
        break;
    case COPY_UP:
        turn_back(w);
        break;
    case COPY_DATA:
        write_data(w, bytes);
        break;
    case COPY_OWNER:
        if (w->kind)
            set_owner_and_size(w);
        break;
    case COPY_XATTR:
        set_attribute(w);
        break;
    case COPY_END:
        finish(w);
        break;
    case COPY_DROP:
        drop(w);
        break;
    case COPY_DONE:
        break;
    default:
        nonsense(w, "an unknown record");
    }
}

/* The next record, and its payload where only this process can change it. False: there is none. */
static bool next_record(struct writer *w, const char **bytes) {
    const void *chunk;
    size_t size;
    enum chute_state state = chute_next(w->chute, &chunk, &size);
    if (state == CHUTE_END) /* its own words, or the way it ended, say why */
        return false;
    if (state == CHUTE_NONSENSE || size < sizeof(w->record)) {
        nonsense(w, "a broken record");
        return false;
    }
    memcpy(&w->record, chunk, sizeof(w->record));
    *bytes = (const char *)chunk + sizeof(w->record);
    if (w->record.length != size - sizeof(w->record) || w->record.length > COPY_PAYLOAD_MAX) {
        nonsense(w, "a record of a wrong length");
        return false;
    }
    if (w->record.kind != COPY_DATA) {
        memcpy(w->payload, *bytes, w->record.length);
        w->payload[w->record.length] = '\0';
    }
    return true;
}

static void set_late_modes(struct writer *w) {
    struct late_mode *late = w->late.items;
    const char *last;
    /* an inner directory is told of before the one around it */
    for (size_t i = 0; i < w->late.count; i++) {
        int dir = beneath_parent(w->top, late[i].path, &last);
        int fd = dir < 0 ? -1 : beneath_open(dir, last, O_RDONLY | O_DIRECTORY, 0);
        if (fd < 0 || fchmod(fd, late[i].mode) < 0) {
            report("%s: the mode cannot be set: %s", late[i].path, strerror(errno));
            w->failed = true;
        }
        if (fd >= 0)
            close(fd);
        if (dir >= 0)
            close(dir);
        free(late[i].path);
    }
    free(w->late.items);
}

bool make_host_files(struct chute *chute, int top) {
    struct writer w = {.chute = chute, .top = top, .dir = top, .root = geteuid() == 0};
    const char *bytes;
    bool done = false;
    mode_t mask = umask(0);
    w.cleared = w.root ? 0 : mask | S_ISUID | S_ISGID | S_ISVTX;
    w.payload = memory(1, COPY_PAYLOAD_MAX + 1);
    extend_path(&w, "");
    if (!remember_place(&w, top))
        complain(&w, "", "");
    while (!w.stopped && !done && next_record(&w, &bytes)) {
        obey(&w, bytes);
        done = w.record.kind == COPY_DONE;
    }
    if (w.kind == COPY_FILE)
        close(w.fd);
    if (w.dir != top)
        close(w.dir);
    set_late_modes(&w);
    for (size_t i = 0; i < w.links.count; i++)
        free(((char **)w.links.items)[i]);
    free(w.links.items);
    free(w.places.items);
    free(w.payload);
    free(w.path);
    umask(mask);
    return done && !w.failed;
}
