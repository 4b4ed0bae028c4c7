/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* holder.c - who holds an image lock, for the message about it.
 *
 * The kernel does not tell whose lock of an open file description it is, but shows the locks of each descriptor in
 * /proc/PID/fdinfo. So all processes whose descriptors may be seen are asked for one of the same file with a lock on
 * that byte. What cannot be seen (another user's process, another machine's) stays unnamed. Nothing depends on it: the
 * process may be gone when its name is read.
 */
#include "lock.h"

#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FDINFO_MOST 16384

/* The file's beginning, as text; false: it cannot be read. */
static bool read_text(int folder, const char *name, char *text, size_t size) {
    int fd = openat(folder, name, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, size - 1);
    if (fd >= 0)
        close(fd);
    text[n > 0 ? n : 0] = '\0';
    return n > 0;
}

/* A line is "lock: 1: OFDLCK ADVISORY READ -1 08:01:4711 201 201". */
static bool has_lock(const char *fdinfo, uint64_t byte) {
    for (const char *line = strstr(fdinfo, "lock:"); line; line = strstr(line + 5, "lock:")) {
        uint64_t first, last = UINT64_MAX;
        char end[32];
        if (sscanf(line, "lock: %*s %*s %*s %*s %*s %*s %" SCNu64 " %31s", &first, end) != 2)
            continue;
        if (isdigit((unsigned char)end[0]))
            last = strtoull(end, NULL, 10);
        if (first <= byte && byte <= last)
            return true;
    }
    return false;
}

/* Has the process (`folder` is its own in /proc) such a descriptor, other than `not_this` (-1: any)? */
static bool holds(int folder, const struct stat *file, uint64_t byte, int not_this) {
    int fd = openat(folder, "fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *list = fd < 0 ? NULL : fdopendir(fd);
    bool found = false;
    if (!list && fd >= 0)
        close(fd);
    for (struct dirent *e; !found && list && (e = readdir(list));) {
        char path[sizeof "fdinfo/" + sizeof e->d_name], text[FDINFO_MOST];
        struct stat st;
        if (!isdigit((unsigned char)e->d_name[0]) || atoi(e->d_name) == not_this ||
            fstatat(dirfd(list), e->d_name, &st, 0) < 0 || st.st_ino != file->st_ino || st.st_dev != file->st_dev)
            continue;
        snprintf(path, sizeof path, "fdinfo/%s", e->d_name);
        found = read_text(folder, path, text, sizeof text) && has_lock(text, byte);
    }
    if (list)
        closedir(list);
    return found;
}

bool lock_find_holder(int fd, uint64_t byte, char *name, size_t size, int *pid) {
    struct stat file;
    DIR *processes = fstat(fd, &file) < 0 ? NULL : opendir("/proc");
    bool found = false;
    for (struct dirent *e; !found && processes && (e = readdir(processes));) {
        if (!isdigit((unsigned char)e->d_name[0]))
            continue;
        int folder = openat(dirfd(processes), e->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (folder < 0)
            continue;
        *pid = atoi(e->d_name);
        found = holds(folder, &file, byte, *pid == getpid() ? fd : -1);
        if (found && !read_text(folder, "comm", name, size))
            snprintf(name, size, "a process");
        close(folder);
    }
    if (processes)
        closedir(processes);
    name[strcspn(name, "\n")] = '\0';
    return found;
}
