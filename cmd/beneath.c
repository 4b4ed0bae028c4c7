/* SPDX-License-Identifier: GPL-3.0-or-later */
/* beneath.c - see beneath.h. One name at a time with O_NOFOLLOW would do; openat2 makes the kernel see to it as well,
 * where there is one that has it. */
#include "beneath.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "report.h"

bool beneath_is_name(const char *name, size_t length) {
    return length > 0 && strnlen(name, length) == length && !memchr(name, '/', length) && strcmp(name, ".") != 0 &&
           strcmp(name, "..") != 0;
}

int beneath_open(int dir, const char *name, int flags, mode_t mode) {
    flags |= O_CLOEXEC | O_NOFOLLOW;
    struct open_how how = {
        .flags = (unsigned)flags, .mode = flags & O_CREAT ? mode : 0, .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS};
    int fd = (int)syscall(SYS_openat2, dir, name, &how, sizeof(how));
    /* EPERM: what filters of containers say of a call that they do not know */
    return fd >= 0 || (errno != ENOSYS && errno != EPERM) ? fd : openat(dir, name, flags, mode);
}

int beneath_new_file(int dir, const char *name) {
    const int flags = O_WRONLY | O_CREAT | O_EXCL;
    int fd = beneath_open(dir, name, flags, 0600);
    if (fd < 0 && errno == EEXIST && unlinkat(dir, name, 0) == 0)
        fd = beneath_open(dir, name, flags, 0600);
    return fd;
}

int beneath_directory(int dir, const char *name) {
    bool there = mkdirat(dir, name, 0700) < 0;
    if (there && errno != EEXIST)
        return -1;
    int fd = beneath_open(dir, name, O_RDONLY | O_DIRECTORY, 0);
    if (fd >= 0 && there)
        fremovexattr(fd, "system.posix_acl_default"); /* what is made in it would inherit from it */
    if (fd >= 0 || !there || (errno != ENOTDIR && errno != ELOOP))
        return fd;
    if (unlinkat(dir, name, 0) < 0 || mkdirat(dir, name, 0700) < 0)
        return -1;
    return beneath_open(dir, name, O_RDONLY | O_DIRECTORY, 0);
}

int beneath_parent(int dir, const char *path, const char **last) {
    char *copy = text_copy(path), *name = copy, *slash;
    int at = fcntl(dir, F_DUPFD_CLOEXEC, 0);
    while (at >= 0 && (slash = strchr(name, '/'))) {
        *slash = '\0';
        int next = beneath_open(at, name, O_PATH | O_DIRECTORY, 0);
        int error = errno;
        close(at);
        errno = error;
        at = next;
        name = slash + 1;
    }
    *last = path + (name - copy);
    free(copy);
    return at;
}
