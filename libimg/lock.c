/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* lock.c - the image locks that QEMU and its tools take.
 *
 * A permission has two bytes of the image file: byte 100 + P is locked by who uses P, byte 200 + P by who does not let
 * others use it. The bytes' content is not touched and need not exist. Every lock that is held is a shared one, so a
 * read-only descriptor can hold it and any number of openers may use the same permission. A conflict shows when one
 * asks whether the opposite byte could be locked exclusively: who wants to write looks at 201, who forbids writing
 * looks at 101. One locks first and looks second, so of two racing openers each sees the other: both may fail, never do
 * both succeed.
 *
 * They are open-file-description locks: they belong to the description and not to the process, so closing another
 * descriptor of the same file in this process does not drop them, as it would drop POSIX locks.
 */
#include "lock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <unistd.h>

#include "error.h"

#define USED_BASE 100
#define UNSHARED_BASE 200

enum permission {
    CONSISTENT_READ, /* reads must make sense */
    WRITE,           /* changes what the image shows */
    WRITE_UNCHANGED, /* writes what the image shows already */
    RESIZE,          /* changes the file's length */
    PERMISSIONS,
};

#define BIT(permission) (1u << (permission))

struct lock_set {
    unsigned used, unshared; /* bits by enum permission */
};

static const struct lock_set lock_sets[] = {
    [LOCK_MODE_NONE] = {0, 0},
    [LOCK_MODE_SHARE] = {BIT(CONSISTENT_READ), 0},
    [LOCK_MODE_READ] = {BIT(CONSISTENT_READ), BIT(WRITE) | BIT(RESIZE)},
    [LOCK_MODE_WRITE] = {BIT(CONSISTENT_READ) | BIT(WRITE) | BIT(RESIZE), BIT(WRITE) | BIT(RESIZE)},
    [LOCK_MODE_CREATE] = {BIT(WRITE) | BIT(RESIZE), BIT(RESIZE)},
};

static const char *const permission_names[PERMISSIONS] = {
    [CONSISTENT_READ] = "consistent read",
    [WRITE] = "write",
    [WRITE_UNCHANGED] = "write unchanged",
    [RESIZE] = "resize",
};

static int set_byte(int fd, int byte, short type) {
    struct flock lock = {.l_type = type, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1};
    int r;
    do
        r = fcntl(fd, F_OFD_SETLK, &lock);
    while (r < 0 && errno == EINTR);
    return r < 0 ? -errno : 0;
}

/* 1: another description holds the byte; 0: none does. */
static int byte_is_held(int fd, int byte) {
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1};
    if (fcntl(fd, F_OFD_GETLK, &lock) < 0)
        return -errno;
    return lock.l_type != F_UNLCK;
}

static bool means_no_locks_here(int code) {
    return code == -ENOLCK || code == -EINVAL || code == -ENOTSUP || code == -ENOSYS;
}

static int lock_all(int fd, int base, unsigned permissions) {
    for (int p = 0; p < PERMISSIONS; p++) {
        if (!(permissions & BIT(p)))
            continue;
        int r = set_byte(fd, base + p, F_RDLCK);
        if (r < 0)
            return r;
    }
    return 0;
}

/* The first of `permissions` whose byte another description holds, PERMISSIONS for none, or -errno. */
static int first_conflict(int fd, int base, unsigned permissions) {
    for (int p = 0; p < PERMISSIONS; p++) {
        if (!(permissions & BIT(p)))
            continue;
        int r = byte_is_held(fd, base + p);
        if (r != 0)
            return r < 0 ? r : p;
    }
    return PERMISSIONS;
}

/* `byte` is locked by somebody else. */
static int in_use(int fd, int byte, struct img_error *err, const char *name, const char *what, int permission) {
    char holder[64] = "";
    int pid;
    if (err == NULL)
        return -EAGAIN;
    img_fail(err, -EAGAIN, "Failed to get %s\"%s\" lock", what, permission_names[permission]);
    if (!lock_find_holder(fd, (uint64_t)byte, holder, sizeof holder, &pid))
        return img_hint(err, -EAGAIN, "Is another process using the image [%s]?", name);
    return img_hint(err, -EAGAIN, "Is another process using the image [%s]? (%s, pid = %d)", name, holder, pid);
}

static int take(int fd, struct lock_set set, const char *name, struct img_error *err) {
    int r = lock_all(fd, USED_BASE, set.used);
    if (r == 0)
        r = lock_all(fd, UNSHARED_BASE, set.unshared);
    if (r == -EAGAIN || r == -EACCES) {
        img_fail(err, -EAGAIN, "Failed to lock the image: another process has locked it exclusively");
        return img_hint(err, -EAGAIN, "Is another process using the image [%s]?", name);
    }
    if (r < 0)
        return r;

    int conflict = first_conflict(fd, UNSHARED_BASE, set.used);
    if (conflict >= 0 && conflict < PERMISSIONS)
        return in_use(fd, UNSHARED_BASE + conflict, err, name, "", conflict);
    if (conflict == PERMISSIONS)
        conflict = first_conflict(fd, USED_BASE, set.unshared);
    if (conflict >= 0 && conflict < PERMISSIONS)
        return in_use(fd, USED_BASE + conflict, err, name, "shared ", conflict);
    return conflict < 0 ? conflict : 0;
}

int lock_take(int fd, enum lock_mode mode, const char *name, struct img_error *err) {
    if (mode == LOCK_MODE_NONE)
        return 0;
    int r = take(fd, lock_sets[mode], name, err);
    if (r == 0)
        return 0;
    lock_drop(fd, mode);
    if (means_no_locks_here(r))
        return 0;
    return r == -EAGAIN ? r : img_fail_errno(err, r, "Failed to lock the image");
}

/* An unlock that fails (a server that went away) has nobody to tell: the close of the description drops the lock. */
void lock_drop(int fd, enum lock_mode mode) {
    struct lock_set set = lock_sets[mode];
    for (int p = 0; p < PERMISSIONS; p++) {
        if (set.used & BIT(p))
            set_byte(fd, USED_BASE + p, F_UNLCK);
        if (set.unshared & BIT(p))
            set_byte(fd, UNSHARED_BASE + p, F_UNLCK);
    }
}
