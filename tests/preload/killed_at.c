/* SPDX-License-Identifier: GPL-3.0-or-later */
/* killed_at.c - a program that is killed at a certain one of its writes, for tests that try all of them.
 *
 * Preloaded, this counts the moments at which a program changes a file: before each write, allocation, punch or change
 * of length, and in the middle of each write of more than a sector, when half of it is there. At moment KILLED_AT, from
 * 0 on, the program is killed, as kill -9 would. A program that comes to its end writes the number of its moments into
 * the file KILLED_COUNT. What was written stays: this is the death of a process and not a power cut (tests/crash/).
 *
 * Writes by io_uring are not seen.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

/* NOLINTBEGIN(readability-inconsistent-declaration-parameter-name): the C library's names are its own */

enum { SECTOR = 512, PIECES = 1024 };

static atomic_long moments;
static long killed_at = -1;

__attribute__((constructor)) static void begin(void) {
    const char *at = getenv("KILLED_AT");
    killed_at = at ? atol(at) : -1;
}

__attribute__((destructor)) static void end(void) {
    const char *path = getenv("KILLED_COUNT");
    FILE *file = path ? fopen(path, "w") : NULL;
    if (!file)
        return;
    fprintf(file, "%ld\n", (long)moments);
    fclose(file);
}

static bool is_the_moment(void) {
    return atomic_fetch_add(&moments, 1) == killed_at;
}

static void die(void) {
    kill(getpid(), SIGKILL);
    for (;;)
        pause();
}

static void moment(void) {
    if (is_the_moment())
        die();
}

static ssize_t write_at(int fd, const struct iovec *iov, int n, off_t offset) {
    return syscall(SYS_pwritev, fd, iov, n, (long)offset, 0l);
}

static void write_half(int fd, const struct iovec *iov, int n, off_t offset, size_t half) {
    struct iovec pieces[PIECES];
    int count = 0;
    for (; count < n && half; count++) {
        pieces[count] = iov[count];
        if (pieces[count].iov_len > half)
            pieces[count].iov_len = half;
        half -= pieces[count].iov_len;
    }
    (void)!write_at(fd, pieces, count, offset);
}

static void write_moments(int fd, const struct iovec *iov, int n, off_t offset) {
    size_t total = 0;
    for (int i = 0; i < n; i++)
        total += iov[i].iov_len;
    moment();
    if (total <= SECTOR || n > PIECES || !is_the_moment())
        return;
    write_half(fd, iov, n, offset, total / 2 / SECTOR * SECTOR + (total < 2 * SECTOR ? SECTOR : 0));
    die();
}

/* ---- in the place of the C library's; each under the name that it has with 64-bit offsets too ---- */

ssize_t pwritev(int fd, const struct iovec *iov, int n, off_t offset) {
    write_moments(fd, iov, n, offset);
    return write_at(fd, iov, n, offset);
}
ssize_t pwritev64(int fd, const struct iovec *iov, int n, off_t offset) __attribute__((alias("pwritev")));

ssize_t pwritev2(int fd, const struct iovec *iov, int n, off_t offset, int flags) {
    write_moments(fd, iov, n, offset);
    return syscall(SYS_pwritev2, fd, iov, n, (long)offset, 0l, flags);
}
ssize_t pwritev64v2(int fd, const struct iovec *iov, int n, off_t offset, int flags) __attribute__((alias("pwritev2")));

ssize_t pwrite(int fd, const void *bytes, size_t count, off_t offset) {
    struct iovec iov = {(void *)bytes, count};
    write_moments(fd, &iov, 1, offset);
    return syscall(SYS_pwrite64, fd, bytes, count, offset);
}
ssize_t pwrite64(int fd, const void *bytes, size_t count, off_t offset) __attribute__((alias("pwrite")));

int fallocate(int fd, int mode, off_t offset, off_t length) {
    moment();
    return (int)syscall(SYS_fallocate, fd, mode, offset, length);
}
int fallocate64(int fd, int mode, off_t offset, off_t length) __attribute__((alias("fallocate")));

int ftruncate(int fd, off_t length) {
    moment();
    return (int)syscall(SYS_ftruncate, fd, length);
}
int ftruncate64(int fd, off_t length) __attribute__((alias("ftruncate")));
/* NOLINTEND(readability-inconsistent-declaration-parameter-name) */
