/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What a taken-over reader of a guest could still ask the kernel for: a child enters the sandbox, tries, and the number
 * of what it could not do (or could) is its exit status. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "cmd/sandbox.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define NO_SANDBOX true
#else
#define NO_SANDBOX false
#endif

static int ends[2];

/* The status of a child that is in the sandbox. */
static int status_of(int (*tries)(void)) {
    int status;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    pid_t child = fork();
    if (child == 0)
        _exit(sandbox_enter() ? tries() : 99);
    assert_int_equal(waitpid(child, &status, 0), child);
    close(ends[0]);
    close(ends[1]);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 98;
}

static int no_signals(void) {
    if (fcntl(ends[0], F_SETOWN, getpid()) == 0)
        return 1;
    if (fcntl(ends[0], F_SETSIG, SIGKILL) == 0)
        return 2;
    if (syscall(SYS_kill, getpid(), SIGTERM) == 0)
        return 3;
    /* what is left of it does nothing: nobody owns the socket */
    if (fcntl(ends[0], F_SETFL, O_ASYNC) == 0 && write(ends[1], "x", 1) != 1)
        return 4;
    return 0;
}

static int no_paths(void) {
    struct stat stat_of;
    if (open("/etc/passwd", O_RDONLY) >= 0)
        return 1;
    if (open("/etc/passwd", O_PATH) >= 0)
        return 2;
    if (stat("/etc/passwd", &stat_of) == 0 || lstat("/etc/passwd", &stat_of) == 0)
        return 3;
    if (fstatat(AT_FDCWD, "/etc/passwd", &stat_of, AT_EMPTY_PATH) == 0)
        return 4;
    struct statx wide;
    if (statx(AT_FDCWD, "/etc/passwd", 0, STATX_SIZE, &wide) == 0)
        return 5;
    if (open("/proc/self/fd/", O_RDONLY) >= 0 || open("/proc/self/fd/0/../../../etc/passwd", O_RDONLY) >= 0)
        return 6;
    return open("/proc/self/fd/99999999999999999999", O_RDONLY) >= 0 ? 7 : 0;
}

static int what_is_open_is_usable(void) {
    struct stat stat_of;
    char path[32], byte;
    int fd = memfd_create("x", MFD_CLOEXEC);
    if (fd < 0 || pwrite(fd, "abc", 3, 0) != 3)
        return 1;
    if (fstat(fd, &stat_of) < 0 || stat_of.st_size != 3)
        return 2;
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    if (stat(path, &stat_of) < 0 || stat_of.st_size != 3)
        return 3;
    int again = open(path, O_RDONLY);
    if (again < 0 || again == fd || pread(again, &byte, 1, 2) != 1 || byte != 'c')
        return 4;
    if (fstat(1000, &stat_of) == 0 || errno != EBADF)
        return 5;
    struct flock lock = {.l_type = F_RDLCK, .l_whence = SEEK_SET, .l_len = 1};
    return fcntl(fd, F_OFD_SETLK, &lock) < 0 || fcntl(fd, F_GETFL) < 0 || fcntl(fd, F_DUPFD_CLOEXEC, 0) < 0 ? 6 : 0;
}

static void test_no_signals(void **state) {
    (void)state;
    if (NO_SANDBOX)
        skip();
    assert_int_equal(status_of(no_signals), 0);
}

static void test_no_paths(void **state) {
    (void)state;
    if (NO_SANDBOX)
        skip();
    assert_int_equal(status_of(no_paths), 0);
}

static void test_what_is_open_is_usable(void **state) {
    (void)state;
    if (NO_SANDBOX)
        skip();
    assert_int_equal(status_of(what_is_open_is_usable), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_signals),
        cmocka_unit_test(test_no_paths),
        cmocka_unit_test(test_what_is_open_is_usable),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
